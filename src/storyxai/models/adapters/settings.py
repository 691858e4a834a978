"""What people give beside their model: names of its logits, numbers for channels, a size; checked before it is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from storyxai.errors import InputError
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import modality_keys, modality_of

__all__ = ["channel_numbers", "checked_findings", "checked_modality", "checked_size"]


def checked_findings(findings: Sequence[str]) -> tuple[str, ...]:
    """The names of the logits as a tuple, without white space around them.

    Raises: InputError unless they are one or more names that stories can tell apart: each of letters, on one line, and none
    another's but for capitals and underscores.
    """
    given: object = findings
    if isinstance(given, str) or not isinstance(given, Iterable):
        why = f"is the text '{given}'" if isinstance(given, str) else f"is a {type(given).__name__}"
        raise InputError("findings", why, mend="give a list of names, one for each logit in order")
    for one in given:
        if not isinstance(one, str):
            raise InputError("findings", f"holds {one!r}, which is no text", mend=f"name it in words, such as 'class {one}'")
    names = tuple(name.strip() for name in findings)
    if not names or not all(names):
        raise InputError("findings", "has no names, or an empty one", mend="name every logit of the model in order")
    if twice := _twice(name.replace("_", " ").casefold() for name in names):
        said = next(name for name in names if name.replace("_", " ").casefold() == twice)
        why = f"holds '{said}' twice, or two names that differ in nothing but capitals and underscores"
        raise InputError("findings", why, mend="give every logit a name of its own")
    for name in names:
        _refuse_untold(name)
    return names


def _refuse_untold(name: str) -> None:
    if not name.isprintable():
        why = f"holds {name!r}, which cannot be printed on one line"
        raise InputError("findings", why, mend="name it in plain letters")
    if not any(map(str.isalpha, name)):
        why = f"holds '{name}', which has no letter and would be taken for a number or a mark"
        raise InputError("findings", why, mend=f"name it in words, such as 'class {name}'")


def _twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def channel_numbers(what: str, given: object, channels: int) -> tuple[float, ...] | None:
    """The numbers called `what` (mean, std), one or one a channel; None where none are given.

    Raises: InputError for another count, for what is no finite number, and for a std that is not above zero.
    """
    if given is None:
        return None
    try:
        parts = [given] if isinstance(given, int | float) else list(given)  # type: ignore[call-overload]
        numbers = tuple(map(float, parts))
    except (TypeError, ValueError):
        raise InputError(what, f"is {given!r}, no numbers", mend=f"give one number, or {channels}") from None
    if len(numbers) not in (1, channels):
        raise InputError(what, f"has {len(numbers)} numbers", mend=f"give one, or {channels}")
    if not all(map(math.isfinite, numbers)) or (what == "std" and min(numbers) <= 0):
        raise InputError(what, f"holds {min(numbers):g}", mend="give finite numbers, and a std above zero")
    return numbers


def checked_modality(given: object) -> Modality | None:
    """The modality that was given, or that its key or its TOML file names; None for none. Raises: InputError for another."""
    if given is None or isinstance(given, Modality):
        return given
    if not isinstance(given, str) or not given:
        why = f"is {given!r}"
        raise InputError("modality", why, mend=f"give a Modality, a TOML file, or a key: {', '.join(modality_keys())}")
    return modality_of(given)


def checked_size(size: object) -> tuple[int, int] | None:
    """Height and width; None where no size is given. Raises: InputError for what is no size."""
    if size is None:
        return None
    sides: list[object] = list(size) if isinstance(size, list | tuple) else [size, size]
    whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool) and side > 0]
    if len(sides) != 2 or len(whole) != 2:
        raise InputError("size", f"is {size!r}", mend="give one whole number of pixels, or (height, width)")
    return whole[0], whole[1]
