"""Every error storyxai raises on purpose, and the exit status each one becomes.

    StoryxaiError                    1  our own fault, or a promise that we could not keep
    ├── EvidenceError                1  the evidence contradicts itself or a citation does not resolve
    │   └── CitationError            1  a sentence cites evidence that is not there
    ├── InputError                   2  the call or its input is at fault; `mend` says how to put it right
    │   ├── ReadError                2  a file that cannot be read as an image
    │   ├── UnknownNameError         2  a name that is not in a list; names the nearest one
    │   ├── UnsupportedMethodError   2  a method of explanation that this model cannot serve
    │   ├── RecipeError              2  a recipe that cannot work
    │   ├── TableError               2  a study table or a data set that does not hold together
    │   ├── WeightsError             2  model weights that are missing, altered or do not fit
    │   ├── ArchiveError             2  an evidence folder that is incomplete, altered or of another version
    │   └── OutputError              2  a place that cannot be written
    └── GateRefusal                  3  the image is not something that this model may speak about
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArchiveError", "CitationError", "EvidenceError", "GateRefusal", "InputError", "OutputError", "ReadError", "RecipeError",
    "StoryxaiError", "TableError", "UnknownNameError", "UnsupportedMethodError", "WeightsError", "nearest_name", "printable",
]


class StoryxaiError(Exception):
    """Root of the tree. `exit_status` is what the command line returns."""

    exit_status = 1


class EvidenceError(StoryxaiError):
    """Evidence that contradicts itself."""


class CitationError(EvidenceError):
    """A sentence cites evidence that does not exist or does not say what the sentence states."""


class InputError(StoryxaiError):
    """The call or its input is at fault.

    `what` names the thing at fault (a file name, an option); `why` says what is wrong with it; `mend` says what to do.
    """

    exit_status = 2

    def __init__(self, what: str, why: str, *, mend: str = "") -> None:
        self.what, self.why, self.mend = what, why, mend
        sentence = f"{what}: {why}"
        super().__init__(printable(f"{sentence} — {mend}" if mend else sentence))


class ReadError(InputError):
    """A file that cannot be read as an image."""


class RecipeError(InputError):
    """A recipe that cannot work."""


class TableError(InputError):
    """A study table or a data set that does not hold together."""


class WeightsError(InputError):
    """Model weights that are missing, altered or do not fit."""


class ArchiveError(InputError):
    """An evidence folder that is incomplete, altered or of another format version."""


class OutputError(InputError):
    """A place that cannot be written."""


class UnknownNameError(InputError):
    """A name that is not in the list of known names."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = nearest_name(given, names)
        mend = f"did you mean '{nearest}'? " if nearest else ""
        super().__init__(f"{kind} '{given}'", "is not known", mend=f"{mend}known: {', '.join(names)}")
        self.nearest = nearest


class UnsupportedMethodError(InputError):
    """A method of explanation that the model cannot serve: it cannot be looked into, or gives no gradients."""


class GateRefusal(StoryxaiError):
    """The image is not something that this model may speak about; `seen` says what was seen, `mend` what to do."""

    exit_status = 3

    def __init__(self, what: str, seen: str, *, mend: str) -> None:
        self.what, self.seen, self.mend = what, seen, mend
        super().__init__(printable(f"{what}: {seen} — {mend}"))


def printable(text: str) -> str:
    """`text` on one line, every sign that cannot be printed as "?": a file's name may hold whatever its maker liked."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def nearest_name(given: str, known: Iterable[str]) -> str | None:
    """The known name closest to `given` in spelling (case ignored), or None when nothing is close."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(given.casefold(), list(by_folded), n=1, cutoff=0.5)
    return by_folded[close[0]] if close else None
