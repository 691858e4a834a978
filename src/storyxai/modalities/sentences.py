"""What the grammars of all modalities share: words of reports, sentences of words, and templates drawn from phrases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Grammar:
    """A closed grammar as the contract asks for it: `texts` hold every word that `compose`, which writes a report, can use."""

    max_tokens: int
    texts: Callable[[], Iterable[str]]
    compose: Callable[[Mapping[str, float], np.random.Generator, str], tuple[str, ...]]

    def vocabulary(self) -> tuple[str, ...]:
        plain = (re.sub(r"\{[a-z]+\}", " ", text) for text in self.texts())
        return tuple(sorted({token for text in plain for token in tokenize(text)}))

    def tokenize(self, text: str | Sequence[str]) -> list[str]:
        return tokenize(text)

    def detokenize(self, tokens: Iterable[str]) -> list[str]:
        """Sentences from tokens: each ends at a full stop and starts with a capital; an unfinished last one is kept."""
        sentences: list[str] = []
        words: list[str] = []
        for token in tokens:
            if token == "." and words:
                sentences.append(sentence_of(words) + ".")
                words = []
            elif token != ".":
                words.append(token)
        return [*sentences, sentence_of(words)] if words else sentences

    def write(self, labels: Mapping[str, float], rng: np.random.Generator, *, view: str) -> tuple[str, ...]:
        return self.compose(labels, rng, view)


def tokenize(text: str | Sequence[str]) -> list[str]:
    """Lower-case words, full stops and commas of a report (one text, or its sentences)."""
    joined = text if isinstance(text, str) else " ".join(text)
    return re.findall(r"[a-z]+(?:-[a-z]+)*|[.,]", joined.casefold())


def plain(text: str) -> str:
    """The text as its tokens without full stops, a space between any two."""
    return " ".join(token for token in tokenize(text) if token != ".")


def sentence_of(words: Sequence[str]) -> str:
    """The words in a row, the first with a capital."""
    text = " ".join(words).replace(" ,", ",")
    return text[:1].upper() + text[1:]


def either(nouns: Sequence[str]) -> str:
    """The nouns as a list of what is not there: "a", "a or b", "a, b or c"."""
    return nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} or {nouns[-1]}"


def pick(phrases: Sequence[str], rng: np.random.Generator) -> str:
    """One of the phrases, each as likely."""
    return phrases[int(rng.integers(len(phrases)))]
