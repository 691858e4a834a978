"""Whether a printed text is a printing of a recorded value: judged backwards, from the text, by closeness and by words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from storyxai.proof.lexicon import Lexicon, Number, words_of
from storyxai.proof.remarks import is_remark, is_remarks, says_remarks
from storyxai.types import Remark

_EPSILON: Final = 1e-9
_WORDED: Final = frozenset({"text", "short", "data", "zones", "list", "either", "table"})


def prints(text: str, value: Any, how: str, lexicon: Lexicon, path: str = "") -> bool:
    """Whether `text` prints `value` as the format `how` of a template asks.

    A format that is not known is judged by the value.
    """
    kind, _, table = how.partition(":")
    if is_remark(value) or is_remarks(value):
        return _says(text, value, lexicon)
    if isinstance(value, bool):
        return kind != "text" or _same(text, str(value))
    if kind == "len":
        return _prints_all(text, [len(value)], lexicon)
    if kind in ("in_10", "in_100"):
        return is_frequency(text, float(value), int(kind.removeprefix("in_")), lexicon)
    if kind in ("percent", "of_100"):
        return _prints_percent(text, float(value), lexicon)
    if kind not in _WORDED and _numeric(value):
        values = value if isinstance(value, list) else [value]
        if kind.startswith("interval") and len(lexicon.numbers(text)) == 1:  # both ends lie there: "above 0.99"
            return all(_prints_all(text, [end], lexicon) for end in values)
        return _prints_all(text, values, lexicon)
    if kind == "zones":
        return _prints_zones(text, str(value), lexicon)
    if isinstance(value, list):
        items = [str(item) for item in value if str(item).strip()]
        return _prints_list(text, _worded(items, lexicon), lexicon) or _prints_list(text, items, lexicon)
    return any(_same(text, said) for said in _said_of(str(value), kind, table, lexicon, path))


def prints_cell(text: str, value: Any, lexicon: Lexicon, path: str = "") -> bool:
    """Whether a table's cell prints `value`: yes or no, numbers, a text or its beginning, a list, or how many entries."""
    labels = lexicon.labels
    if path.startswith("terms."):
        finding, _, leaf = path.removeprefix("terms.").rpartition(".")
        value = lexicon.term(finding, leaf)
    if is_remark(value) or is_remarks(value):
        return _says(text, value, lexicon)
    if isinstance(value, bool):
        return _same(text, labels.answer(yes=value))
    if _numeric(value):
        return _plain_all(text, value if isinstance(value, list) else [value], lexicon)
    if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(item, Mapping) for item in value)):
        return _same(text, labels.counted(len(value)))
    if isinstance(value, list):
        items = [str(item) for item in value]
        told = (_worded(items, lexicon), items)
        return any(_prints_list(text, one, lexicon) or _squeezed(text) == _squeezed(", ".join(one)) for one in told)
    tiers = {table.get(value, "") for table in (labels.tiers, labels.scored)} if path.endswith(".tier") else set()
    said = {str(value), str(value)[:12], str(value).replace("_", " "), *lexicon.tables_of(str(value)), *tiers}
    said |= lexicon.said_of(str(value))
    return any(_same(text, one) for one in said)


def _worded(items: Sequence[str], lexicon: Lexicon) -> list[str]:
    """The items as the language says codes. A finding may bear the name of one ("mean"): then it prints as it is."""
    return [next(iter(lexicon.said_of(item)), item) for item in items]


def _says(text: str, value: Any, lexicon: Lexicon) -> bool:
    remarks = msgspec.convert([value] if isinstance(value, Mapping) else value, list[Remark])
    return says_remarks(text, remarks, lexicon, lambda said, one, how: prints(said, one, how, lexicon))


def prints_number(number: Number, value: float, *, scale: float = 1.0) -> bool:
    """Whether the number is `value` times `scale`, rounded to as many decimals as it has."""
    scaled = value * scale
    # A probability is not "1" by rounding to whole numbers.
    if number.decimals == 0 and scale == 1.0 and scaled != int(scaled) and abs(scaled) < 10:
        return False
    return abs(number.value - scaled) <= 0.5 * 10.0**-number.decimals + _EPSILON * max(1.0, abs(scaled))


def is_frequency(text: str, share: float, base: int, lexicon: Lexicon) -> bool:
    """Whether `text` says `share` as "about k in base", "more than ..." or "fewer than ..." in the language's words."""
    joins = lexicon.file.joins
    for word, form in (("about", joins.about), ("more_than", joins.more_than), ("fewer_than", joins.fewer_than)):
        pattern = re.escape(form).replace(r"\{\}", r"(\d+)")
        found = re.fullmatch(pattern, text.strip(), re.IGNORECASE)
        if found and len(found.groups()) == 2:
            k, whole = sorted(map(int, found.groups()))
            holds = {
                "about": abs(k - share * base) <= 0.5 + _EPSILON,
                "more_than": k == base - 1 and share > k / base,
                "fewer_than": k == 1 and share < 1 / base,
            }
            return whole == base and holds[word]
    return False


def _prints_percent(text: str, value: float, lexicon: Lexicon) -> bool:
    numbers = lexicon.numbers(text)
    return len(numbers) == 1 and prints_number(numbers[0], value, scale=100) and not _left_over(text, numbers, lexicon)


def _prints_all(text: str, values: Sequence[float], lexicon: Lexicon) -> bool:
    """Whether the numbers of `text` are the values in their order, with nothing but joining words around them."""
    numbers = lexicon.numbers(text)
    if len(numbers) != len(values) or _left_over(text, numbers, lexicon):
        return False
    return all(prints_bounded(text, number, float(value), lexicon) for number, value in zip(numbers, values, strict=True))


def _plain_all(text: str, values: Sequence[float], lexicon: Lexicon) -> bool:
    """As `_prints_all`, by the marks that computers write or those of the language."""
    return any(
        len(numbers) == len(values) and not _left_over(text, numbers, lexicon)
        and all(prints_bounded(text, number, float(value), lexicon) for number, value in zip(numbers, values, strict=True))
        for numbers in (lexicon.plain_numbers(text), lexicon.numbers(text))
    )  # fmt: skip


def prints_bounded(text: str, number: Number, value: float, lexicon: Lexicon) -> bool:
    """Whether the number prints the value, or is the end that it lies "below" or "above" in the language's words."""
    before, step = text[: number.start].rstrip().casefold(), 10.0**-number.decimals
    joins = lexicon.file.joins
    ends = ((joins.below, step, 0 < value < step / 2), (joins.above, 1 - step, 1 - step / 2 <= value < 1))
    for form, end, holds in ends:
        said = form.partition("{}")[0].strip().casefold()
        if said and before.endswith(said):
            return holds and abs(number.value - end) < _EPSILON
    return prints_number(number, value)


def _left_over(text: str, numbers: Iterable[Number], lexicon: Lexicon) -> list[str]:
    """The words beside the numbers that are not of those that join."""
    bare = text
    for number in sorted(numbers, key=lambda one: -one.start):
        bare = f"{bare[: number.start]} {bare[number.end :]}"
    to = words_of(lexicon.labels.to)
    return [word for word in words_of(bare) if word not in lexicon.joins and word not in to]


def _prints_zones(text: str, value: str, lexicon: Lexicon) -> bool:
    """Whether the zones named are those recorded, and no other."""
    meant = {zone.strip() for zone in value.split(",")}
    told, left = lexicon.zones_in(text, meant)
    return told == meant and all(word in lexicon.joins for word in words_of(left))


def _prints_list(text: str, items: Sequence[str], lexicon: Lexicon) -> bool:
    """Whether the items stand in `text`, all of them and in their order, with nothing but joining words between."""
    place = 0
    left = text
    for item in items:
        found = left.casefold().find(item.casefold(), place)
        if found < 0:
            return False
        left = f"{left[:found]}{' ' * len(item)}{left[found + len(item) :]}"
        place = found
    return all(word in lexicon.joins for word in words_of(left)) and not re.search(r"\d", left)


def _said_of(value: str, kind: str, table: str, lexicon: Lexicon, path: str) -> set[str]:
    """All that a recorded text may read as."""
    if table in lexicon.file.tables:
        return {lexicon.table(table, value)}
    if kind == "short":
        return {value[:12]}
    told = lexicon.said_of(value)
    said = {value, value.rstrip("."), *lexicon.tables_of(value), *told, *(one.rstrip(".") for one in told)}
    if kind == "data":
        parts = re.fullmatch(r"(\w+) \(([\w ]+)\)", value)
        sets, kinds = lexicon.file.tables["data_set"], lexicon.file.tables["data_part"]
        if parts and parts[1] in sets and parts[2] in kinds:
            return {f"{sets[parts[1]]}, {kinds[parts[2]]}"}
    return said


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_numeric(item) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(text: str, meant: str) -> bool:
    return _squeezed(text) == _squeezed(meant)


def _squeezed(text: str) -> str:
    """`text` without case and white space of its own, as it stands in a page."""
    return " ".join(text.split()).casefold()
