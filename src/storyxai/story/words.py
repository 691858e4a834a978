"""A language's words: how it prints a value, and its templates, checked when they are loaded.

`{quantity}` is what the model's numbers are: probabilities, or scores where no calibration came with it. Another language is
another file (`storyxai.catalogue.files`); one with a template that names a path which no record has is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec

from storyxai.catalogue.files import Source, load_catalogue
from storyxai.catalogue.language import MARK, Language, Template, format_kind
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.schema import TermRecord, unknown_part
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import words_on_record
from storyxai.modalities.words import (
    LIST_MARK,
    WORD_ROOMS,
    english_words,
    is_own_sentence,
    with_own_tables,
    words_in,
)
from storyxai.story.readability import MEASURES
from storyxai.types import Remark

_SLOT = re.compile(r"\{\w*\}")
DRAFTED_IN = "en"
"""The language in which models write drafts."""
REMARKS_MARK = "; "
"""Between remarks that are told as one text."""


@dataclass(frozen=True, eq=False)
class Words:
    """All wording of one language. `file` is what the language's file says.

    `own` are the words of the modality that is told of, by the keys of `storyxai.modalities.words`: the names of its findings,
    and texts that stand in for those of templates ("patient.looked", which still cites what it cited; "" is not said).
    """

    language: str
    file: Language
    own: Mapping[str, str] = field(default_factory=dict)

    def template(self, key: str) -> Template:
        """The template called `key` ("clinician.present"), with the modality's own text where it has one."""
        if is_own_sentence(key):
            return Template(self.own.get(key, ""))
        room, name = key.split(".", 1)
        ours = self.file.templates[room][name]
        return msgspec.structs.replace(ours, text=self.own[key]) if key in self.own else ours

    def own_sentences(self, start: str) -> list[str]:
        """The keys of the modality's own sentences that begin with `start`, sorted."""
        return sorted(key for key in self.own if key.startswith(start) and is_own_sentence(key))

    def heading(self, key: str) -> str:
        """The plain text called `key`."""
        return self.template(key).text

    def word(self, table: str, value: str) -> str:
        """`value` in this language by a table; with spaces for underscores where the table does not have it."""
        return self.file.word(table, value)

    def term(self, finding: str, leaf: str, value: Any) -> Any:
        """`value` (the "phrase", "lay" or "look_alikes" of a finding on record) in this language, as it is where not known."""
        told = self.own.get(f"findings.{finding}.{leaf}")
        if told is not None:
            return told.split(LIST_MARK) if isinstance(value, list) else told
        return self.file.terms.get(finding, {}).get(leaf, value)

    def finding(self, finding: str, case: str = "name") -> str:
        """The plain name of a finding, or that name in a case of the language; quoted in that case where nobody declined it."""
        if told := self.own.get(f"findings.{finding}.{case}"):
            return told
        if case == "name":
            return self.word("finding", finding)
        return self.file.cases[case].format(self.within(self.finding(finding)))

    def aliases(self, finding: str, term: TermRecord) -> set[str]:
        """Everything that a finding with this term on record is called in this language."""
        start, end = f"findings.{finding}.", ".look_alikes"
        declined = {text for key, text in self.own.items() if key.startswith(start) and not key.endswith(end)}
        called = {self.term(finding, "phrase", term.phrase), self.term(finding, "lay", term.lay)}
        cases = {self.finding(finding, case) for case in ("name", *self.file.cases)}
        return {finding, finding.replace("_", " "), *declined, *called, *cases}

    @cached_property
    def _own_texts(self) -> tuple[str, ...]:
        """What the language's templates say by themselves, without what is filled in."""
        file = self.file
        told = (template.text for room in file.templates.values() for template in room.values())
        texts = (*told, *file.remarks.values(), *file.notices.values(), *file.tables.get("method", {}).values())
        return tuple(_SLOT.sub("…", MARK.sub("…", text)) for text in texts)

    def is_ordinary(self, phrase: str) -> bool:
        """Whether the language's sentences use `phrase` as a word of their own, in any case."""
        whole = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)
        return any(whole.search(text) for text in self._own_texts)

    def spoken(self, path: str, value: Any) -> Any:
        """The value at `path` as this language says it, where it is a word or a remark; any other value as it is."""
        room, _, rest = path.partition(".")
        if room == "terms" and value is not None:
            finding, _, leaf = rest.rpartition(".")
            return self.term(finding, leaf, value)
        if room == "notices" and isinstance(value, str):
            return self.file.notices.get(value, value)
        if room == "learned" and rest.endswith((".verdict", ".name")):
            return self.word("learned_concept" if rest.endswith(".name") else "verdict", str(value))
        if _is_remark(value):
            return self.remark(msgspec.convert(value, Remark))
        if room == "heatmaps" and rest.endswith(".unit"):
            return self.word("unit", str(value))
        if room == "heatmaps" and rest.endswith(".details.fill"):
            return self.filling(str(value))
        if room == "counterfactuals" and rest.endswith(".region"):
            return self.structure(str(value))
        if room in ("counterfactuals", "smallest_changes") and rest.endswith(".fill"):
            return self.word("fill", str(value))
        if isinstance(value, list):
            told = [self.spoken(path, item) for item in value]
            return REMARKS_MARK.join(told) if value and all(map(_is_remark, value)) else told
        return self.quote(value) if room == "model" and isinstance(value, str) else value

    def grade(self, text: str) -> float | None:
        """The school grade that `text` asks for, None where the language names no measure of it."""
        measure = MEASURES.get(self.file.readability.measure or "")
        return None if measure is None else measure(text)

    def quote(self, text: str) -> str:
        """A text of a card in this language, as it is where nobody translated it."""
        return self.own.get(f"quotes.{text}") or self.file.quotes.get(text, text)

    def remark(self, remark: Remark) -> str:
        """What a remark on record says; a sentence begins with a capital. A code that nobody worded stands for itself."""
        code, values = remark.code, remark.values
        text = self.own.get(f"remarks.{code}") or self.file.remarks.get(code)
        if text is None:
            return code.replace("_", " ")
        parts = {name: self.remark(part) for name, part in remark.parts.items()}
        told = MARK.sub(lambda mark: parts.get(mark[3], "") if mark[3] else self._stated(values.get(mark[1]), mark[2]), text)
        return told[:1].upper() + told[1:] if told.endswith(".") else told

    def say(self, *remarks: Remark) -> str:
        """What the remarks say, one after the other."""
        return REMARKS_MARK.join(self.remark(one) for one in remarks if one)

    def _stated(self, value: Any, how: str) -> str:
        """A value of a remark; a finding, a method, a rule or a check by its name."""
        kind, _, leaf = how.partition(":")
        if value is None:
            return ""
        if kind in ("name", "case"):
            return self.finding(str(value), leaf or "name")
        if kind == "gate":
            return self.own.get(f"{value}.{leaf}", str(value).replace("_", " "))
        return self.printed(value, how)

    def structure(self, name: str) -> str:
        """What is called so when it is hidden."""
        return self.own.get(f"structures.{name}") or self.word("structure", name)

    def number(self, value: float, form: str) -> str:
        """`value` printed by Python's format `form` with this language's decimal and grouping marks."""
        marks = self.file.numbers
        return format(value, form).translate({ord("."): marks.decimal, ord(","): marks.group})

    def filling(self, fill: str) -> str:
        """What hides parts of an image: a word of the table "filled_by", or one and the tone that it was."""
        code, _, tone = fill.partition(": ")
        told = self.own.get(f"remarks.filled_by_{code}") or self.file.tables["filled_by"].get(code, fill)
        return told.format(tone=tone.replace(".", self.file.numbers.decimal))

    def listed(self, items: Iterable[str]) -> str:
        """The items as one phrase: "a", "a and b", "a, b and c"."""
        many, joins = list(items), self.file.joins
        if len(many) < 2:
            return "".join(many)
        return f"{joins.comma.join(many[:-1])}{joins.last}{many[-1]}"

    def either(self, items: Iterable[str]) -> str:
        """The items as a choice: "a", "a or b", "a, b or c"."""
        many, joins = list(items), self.file.joins
        return "".join(many) if len(many) < 2 else f"{joins.comma.join(many[:-1])}{joins.either}{many[-1]}"

    def within(self, name: str) -> str:
        """The name of a finding as it stands within a sentence: in small letters where the language writes names so."""
        if self.file.joins.names != "lower":
            return name
        return " ".join(word.lower() if word[:1].isupper() and word[1:].islower() else word for word in name.split(" "))

    def counted(self, count: int) -> str:
        """A count as it is told: one in words."""
        return self.file.joins.one if count == 1 else str(count)

    def tick(self, value: float) -> str:
        """A number at an axis, as short as it is."""
        return f"{value:g}".replace(".", self.file.numbers.decimal)

    def printed(self, value: Any, how: str, *, digits: int = 2) -> str:
        """`value` printed by the format called `how`; "table:NAME" looks a word up; `digits` are those of decimals."""
        kind, _, table = how.partition(":")
        if kind == "table":
            return self.word(table, str(value))
        if kind == "words":
            return ", ".join(self.word(table, one) for one in str(value).split(", "))
        if kind in ("decimal", "interval"):
            return (_bounded if kind == "decimal" else _interval)(self, value, digits)
        return _FORMATS[kind](self, value)


def load_words(language: str, record: Mapping[str, object] | None = None) -> Words:
    """The words of `language`, every template checked; those of the modality that `record` tells of go before them.

    Raises: UnknownNameError naming the nearest language; InputError naming file and line of a template that cannot be
    told: it names a path that no record has, or the file lacks what ours has.
    """
    source = load_catalogue(language).source
    words = _checked_words(source, language)
    if record is None:
        return words
    modality, own = words_on_record(record, language, words.file)
    return _with_own(source, language, modality, tuple(own.items()))


def words_of(modality: Modality, language: str = "en") -> Words:
    """The words of `language` for images of a modality that is at hand. Raises: as `load_words`."""
    words = load_words(language)
    own = words_in(modality.words.get(language, {}), english_words(modality), words.file)
    return _with_own(load_catalogue(language).source, language, modality.key, tuple(own.items()))


@lru_cache(maxsize=8)
def _with_own(source: Source, language: str, modality: str, items: tuple[tuple[str, str], ...]) -> Words:
    """The words of a language with those of a modality before them. Raises: InputError for one that cannot be told."""
    words, own = _checked_words(source, language), dict(items)
    _check_own(words, own, modality)
    return replace(words, own=own, file=with_own_tables(words.file, own))


def _check_own(words: Words, own: Mapping[str, str], modality: str) -> None:
    """Nothing, where every text of a modality's own stands in for one of the language's file. Raises: InputError."""
    source = Source(f"modality '{modality}', words in '{words.language}'", "")
    for key, text in own.items():
        room, _, name = key.partition(".")
        if not name or room in WORD_ROOMS:
            continue
        if not (name in words.file.templates.get(room, ()) or is_own_sentence(key)):
            raise InputError(source.name, f"name the template '{key}', which is not known", mend="our en.json has all of them")
        check_template(key, Template(text), source, words.file.cases)


@lru_cache(maxsize=8)
def _checked_words(source: Source, language: str) -> Words:
    catalogue, ours = load_catalogue(language), load_catalogue("en")
    if (measure := catalogue.told.readability.measure) and measure not in MEASURES:
        raise UnknownNameError(f"{source.at('measure')}: readability", measure, tuple(MEASURES))
    for room, entries in catalogue.told.templates.items():
        for name, template in entries.items():
            key, english = f"{room}.{name}", ours.told.templates.get(room, {}).get(name)
            check_template(key, template, source, catalogue.told.cases)
            if english is not None:
                _check_slots(key, template.text, english.text, source)
    joins, our_joins = (msgspec.structs.asdict(one.told.joins) for one in (catalogue, ours))
    for room, texts, known in (("joins", joins, our_joins), ("remarks", catalogue.told.remarks, ours.told.remarks)):
        for name, english_text in known.items():
            _check_slots(f"{room}.{name}", texts[name], english_text, source)
    return Words(language, catalogue.told)


def _check_slots(name: str, text: str, english: str, source: Source) -> None:
    """Nothing, where a text has no slot but those of the English one. Raises: InputError with file and line."""
    given, known = ({mark[0] for mark in _SLOT.finditer(one)} for one in (text, english))
    if strange := sorted(given - known):
        mend = f"it may hold {', '.join(sorted(known)) or 'none'}"
        raise InputError(source.at(strange[0]), f"'{name}' has the slot {strange[0]}, which nobody fills", mend=mend)


def check_template(name: str, template: Template, source: Source, cases: Iterable[str] = ()) -> None:
    """Nothing, where every path has its place in the record and every format is one. Raises: InputError with file and line."""
    for path in template.paths():
        if part := unknown_part(path):
            why = f"template '{name}' names '{path}', but the record has no '{part}' there"
            raise InputError(source.at(path), why, mend="spell the path as evidence.json does")
    in_case = {f"case:{case}" for case in cases}
    for how in template.formats():
        known = (*_FORMATS, "table", "words", "decimal", "interval", "name", "within")
        if format_kind(how) not in known and how not in in_case:
            why = f"template '{name}' asks for the format '{how}'"
            raise InputError(source.at(f"|{how}"), why, mend="use one that our en.json uses")


def _is_remark(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"code", "values", "parts"}


def _bounded(words: Words, value: float, digits: int) -> str:
    """`value` in `digits` decimals; what would round to 0 or 1 without being it is said to lie below or above."""
    step = 10.0**-digits
    if 0 < value < step / 2:
        return words.file.joins.below.format(words.number(step, f".{digits}f"))
    if 1 - step / 2 <= value < 1:
        return words.file.joins.above.format(words.number(1 - step, f".{digits}f"))
    return words.number(value, f".{digits}f")


def _number(words: Words, value: Any) -> str:
    """A number of any size in about three significant digits; whole ones whole."""
    number = float(value)
    if number == int(number) and abs(number) < 1e9:
        return words.number(int(number), ",")
    decimals = min(4, max(0, 2 - math.floor(math.log10(abs(number)))))
    text = f"{number:.{decimals}f}"
    while decimals > 2 and text.endswith("0"):
        text, decimals = text[:-1], decimals - 1
    return words.number(number, f".{decimals}f")


def _whole(words: Words, value: float) -> str:
    """A whole number, but to a tenth where it would be a 0 that it is not."""
    return words.number(value, ".1f" if 0.05 <= value <= 0.5 else ".0f")


def _length(words: Words, value: Any) -> str:
    """Millimetres or pixels: whole, and to a tenth below ten where the length is no whole one."""
    length = float(value)
    return words.number(length, ".0f" if length >= 10 or length == int(length) else ".1f")


def _interval(words: Words, value: Any, digits: int) -> str:
    low, high = (_bounded(words, end, digits) for end in value)
    if low == high != words.number(value[0], f".{digits}f"):  # "above 0.99 to above 0.99" says nothing twice
        return low
    return f"{low} {words.file.joins.to} {high}"


def _zones(words: Words, value: Any) -> str:
    """ "right lower, left lower" as "both lower zones": zones that a language has one phrase for are told by it."""
    left, told = str(value).split(", "), {}
    for many, said in words.file.tables.get("zones", {}).items():
        if set(together := many.split(", ")) <= set(left):
            told[min(map(str(value).split(", ").index, together))] = said
            left = [zone for zone in left if zone not in together]
    if left:
        form = words.file.joins.the_zone if len(left) == 1 else words.file.joins.the_zones
        told[str(value).split(", ").index(left[0])] = form.format(words.listed(words.word("zone", zone) for zone in left))
    return words.listed(told[place] for place in sorted(told))


def _frequency(words: Words, value: Any, base: int) -> str:
    joins, many = words.file.joins, round(float(value) * base)
    if many >= base and value < 1:
        return joins.more_than.format(base - 1, base)
    if many <= 0 and value > 0:
        return joins.fewer_than.format(1, base)
    return joins.about.format(many, base)


def _data(words: Words, value: Any) -> str:
    """A data set's name as readers know it: "nih (unseen)" in words; any other text as it is."""
    match = re.fullmatch(r"(\w+) \(([\w ]+)\)", str(value))
    sets, parts = words.file.tables["data_set"], words.file.tables["data_part"]
    if match is None or match[1] not in sets or match[2] not in parts:
        return str(value)
    return f"{sets[match[1]]}, {parts[match[2]]}"


_FORMATS: Final[Mapping[str, Callable[[Words, Any], str]]] = {
    "text": lambda words, value: str(value),
    "signed": lambda words, value: words.number(float(value), "+.2f"),
    "number": _number,
    "percent": lambda words, value: words.file.joins.percent.format(_whole(words, 100 * float(value))),
    "interval_3": lambda words, value: _interval(words, value, 3),
    "of_100": lambda words, value: f"{100 * float(value):.0f}",
    "in_10": lambda words, value: _frequency(words, value, 10),
    "in_100": lambda words, value: _frequency(words, value, 100),
    "len": lambda words, value: str(len(value)),
    "either": lambda words, value: words.either(str(item) for item in value if str(item).strip()),
    "list": lambda words, value: words.listed(str(item) for item in value if str(item).strip()),
    "short": lambda words, value: str(value)[:12],
    "data": _data,
    "zones": _zones,
    "mm": _length,
}
