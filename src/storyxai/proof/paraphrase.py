"""Whether a reworded sentence says the same facts as the one that was told: names, tiers, sides, numbers, doubts, words.

It is judged strictly, word by word: names, sides, numbers, quantities and negations must stand in the same order, words of
doubt must be kept, no word may be new but plain ones and synonyms that the language's list has, and none may be lost. What
cannot be judged is refused: the sentence that was told then stands.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from storyxai.proof.lexicon import Found, Lexicon, find_phrases, words_of

LONGEST: Final = 1.6
"""A reworded sentence is at most so many times as long, and 40 signs more."""
_MARKS: Final = re.compile(r"[<>{}\[\]|\\`*_#]|https?:|www\.|[\x00-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class PlainWords:
    """What a language's words do in a sentence, as far as rewording may touch them."""

    negations: frozenset[str]
    quantities: frozenset[str]
    units: frozenset[str]
    doubts: tuple[frozenset[str], ...]
    plain: frozenset[str]
    synonyms: tuple[frozenset[str], ...]

    def alike(self, word: str) -> frozenset[str]:
        """The words that say the same as `word`, itself among them."""
        groups = [group for group in (*self.synonyms, *self.doubts) if word in group]
        return frozenset({word}).union(*groups)


def plain_words(language: str) -> PlainWords | None:
    """The list of `language`, None where it has none: nothing can be reworded in it then."""
    return _plain_words(language) if re.fullmatch(r"[\w-]+", language) else None


def difference(told: str, reworded: str, lexicon: Lexicon) -> str:
    """Why `reworded` does not say just what `told` says, in words; "" where it does."""
    words = plain_words(lexicon.language)
    if words is None:
        return f"nothing can be reworded in the language '{lexicon.language}'"
    if told == reworded:
        return ""
    if _MARKS.search(reworded) or not reworded.strip():
        return "holds marks, an address or nothing at all"
    if len(reworded) > LONGEST * len(told) + 40:
        return "is much longer"
    before, after = _facts(told, lexicon, words), _facts(reworded, lexicon, words)
    if before != after:
        return f"says {_list(after)} where {_list(before)} was told"
    if (lost := _doubts(told, words)) != (kept := _doubts(reworded, words)):
        return f"has the doubts {_list(kept.elements())} where {_list(lost.elements())} was told"
    return _other_words(told, reworded, lexicon, words)


def _facts(text: str, lexicon: Lexicon, words: PlainWords) -> list[str]:
    """Names, tiers, sides, zones, numbers with their units, quantities and negations, in the order of the text."""
    found = [(hit.start, hit.what) for hit in _named(text, lexicon)]
    for number in lexicon.numbers(text):
        unit = words_of(text[number.end :])[:1]
        said = f"{'%' if number.percent else unit[0] if unit and unit[0] in words.units else ''}"
        found.append((number.start, f"{text[number.start : number.end]}{said}"))
    for match in re.finditer(r"[^\W\d_][\w'’]*", text):
        word = match[0].casefold().replace("’", "'")
        if word in words.negations:
            found.append((match.start(), "not"))
        elif word in words.quantities:
            found.append((match.start(), word))
    return [what for _, what in sorted(found)]


def _named(text: str, lexicon: Lexicon) -> list[Found]:
    """Findings, methods, tiers, sides and zones in `text`, by what they are on record."""
    kinds: dict[str, Mapping[str, Iterable[str]]] = {
        "finding": lexicon.findings, "method": lexicon.methods, "tier": lexicon.tiers, "side": lexicon.file.sides,
        "zone": lexicon.zones,
    }  # fmt: skip
    return find_phrases(text, {f"{kind} {what}": said for kind, known in kinds.items() for what, said in known.items()})


def _doubts(text: str, words: PlainWords) -> Counter[str]:
    said = words_of(text)
    return Counter({min(group): count for group in words.doubts if (count := sum(word in group for word in said))})


def _other_words(told: str, reworded: str, lexicon: Lexicon, words: PlainWords) -> str:
    """What was added or lost beside the facts, in words; "" where nothing was."""
    before, after = _content(told, lexicon), _content(reworded, lexicon)
    known = words.plain | words.negations | words.quantities
    allowed = known.union(*(words.alike(word) for word in before)) if before else known
    if new := sorted(after - allowed):
        return f"brings {_list(new)}"
    lost = sorted(word for word in before - known if not words.alike(word) & after)
    return f"leaves out {_list(lost)}" if lost else ""


def _content(text: str, lexicon: Lexicon) -> set[str]:
    """The words of `text` beside what its findings are called."""
    for hit in reversed(_named(text, lexicon)):
        text = f"{text[: hit.start]} {text[hit.end :]}"
    return set(words_of(text))


def _list(words: Iterable[str]) -> str:
    return ", ".join(f"“{word}”" for word in words) or "nothing"


@lru_cache(maxsize=8)
def _plain_words(language: str) -> PlainWords | None:
    file = resources.files("storyxai.proof") / "languages" / f"{language}.json"
    if not file.is_file():
        return None
    given: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return PlainWords(
        negations=frozenset(given["negations"]), quantities=frozenset(given["quantities"]), units=frozenset(given["units"]),
        doubts=tuple(map(frozenset, given["doubts"])), plain=frozenset(given["plain"]),
        synonyms=tuple(map(frozenset, given["synonyms"])),
    )  # fmt: skip
