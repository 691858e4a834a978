"""The smallest set of superpixels whose hiding turns a decision of a model: a counterfactual of what is in the image.

Source: Vermeire, Brughmans, Goethals, de Oliveira & Martens, Explainable image classification with evidence
counterfactual, Pattern Analysis and Applications 2022. Where we deviate: a step tries only the superpixels that promised
most, what was found is pruned, and whether a smaller set can exist is proved as far as the budget reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import comb
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError

Logits: TypeAlias = NDArray[np.float64]
Margin: TypeAlias = Callable[[Logits], NDArray[np.float64]]
"""How far a decision stands: logits [N, F] -> [N], above zero or zero where it stands, below zero where it is turned."""
Shown: TypeAlias = Callable[[NDArray[np.uint8]], Logits]
"""The model's logits [N, F] for vectors [N, S] that say which superpixels are shown (1) and which hidden (0)."""
Hidden: TypeAlias = frozenset[int]


@dataclass(frozen=True)
class TurnSearch:
    """How long is searched: `passes` of the model for all decisions together, `candidates` tried at a step."""

    passes: int = 500
    candidates: int = 6


@dataclass(frozen=True)
class Turn:
    """What turned one decision: the superpixels to hide, () where none was found; `passes` of the model that it took.

    `smallest`: that no smaller set turns it is proved. `logits` are the model's with these hidden.
    """

    hidden: tuple[int, ...]
    passes: int
    smallest: bool
    logits: tuple[float, ...] = ()


def turn_decisions(
    shown: Shown, count: int, margins: Sequence[Margin], search: TurnSearch | None = None
) -> tuple[Turn, ...]:
    """For each decision the smallest set of the `count` superpixels that was found to turn it when it is hidden.

    First every superpixel alone, for all decisions at once; then, for each decision with an equal share of what is left,
    one more at a time, what turns out to be needless taken out again; then all smaller sets, as far as passes are left.
    Raises: InputError for a budget that does not try every superpixel once.
    """
    search = search or TurnSearch()
    if search.passes <= count or search.candidates < 1:
        why = f"{search.passes} passes for {count} superpixels"
        raise InputError("counterfactual", why, mend=f"allow more than {count}, best {8 * count}")
    asked = _Asked(shown, count)
    asked.ask([frozenset(), *(frozenset({one}) for one in range(count))])
    turns: list[Turn] = []
    for number, margin in enumerate(margins):
        before = len(asked.known)
        share = (search.passes - before) // (len(margins) - number)
        found = _Decision(asked, margin, before + share, search.candidates).turn()
        turns.append(replace(found, passes=count + 1 + len(asked.known) - before))
    return tuple(turns)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the model answered when superpixels were hidden; each set costs one pass, once."""

    shown: Shown
    count: int
    known: dict[Hidden, Logits] = field(default_factory=dict)

    def ask(self, sets: Iterable[Hidden], most: int | None = None) -> list[Hidden]:
        """The sets that are answered now: all, or those up to the first that would be the `most` + 1st ever asked."""
        given = list(dict.fromkeys(sets))
        new = [one for one in given if one not in self.known]
        new = new if most is None else new[: max(0, most - len(self.known))]
        if new:
            vectors = np.ones((len(new), self.count), dtype=np.uint8)
            for row, one in zip(vectors, new, strict=True):
                row[list(one)] = 0
            self.known.update(zip(new, self.shown(vectors), strict=True))
        return [one for one in given if one in self.known]


@dataclass(frozen=True, eq=False)
class _Decision:
    """The search for one decision, until `most` sets were asked in all."""

    asked: _Asked
    margin: Margin
    most: int
    candidates: int

    def turn(self) -> Turn:
        singles = [frozenset({one}) for one in range(self.asked.count)]
        if found := self._turned(singles):
            return self._as_turn(found, smallest=True)
        grown = self._grown()
        pruned = None if grown is None else self._pruned(grown)
        smaller, proved = self._smaller(self.asked.count + 1 if pruned is None else len(pruned))
        if smaller is not None:
            return self._as_turn(smaller, smallest=True)
        return Turn((), 0, proved) if pruned is None else self._as_turn(pruned, smallest=proved)

    def _as_turn(self, found: Hidden, *, smallest: bool) -> Turn:
        return Turn(tuple(sorted(found)), 0, smallest, tuple(map(float, self.asked.known[found])))

    def _margins(self, sets: Sequence[Hidden]) -> NDArray[np.float64]:
        return self.margin(np.stack([self.asked.known[one] for one in sets]))

    def _best(self, sets: Sequence[Hidden]) -> tuple[Hidden, float]:
        """The set that leaves the smallest margin; of equal ones the first."""
        margins = self._margins(sets)
        best = int(margins.argmin())
        return sets[best], float(margins[best])

    def _turned(self, sets: Sequence[Hidden]) -> Hidden | None:
        if not sets:
            return None
        best, margin = self._best(sets)
        return best if margin < 0 else None

    def _grown(self) -> Hidden | None:
        """One superpixel more at a time, of those that last promised most; None where passes or superpixels end first."""
        singles = [frozenset({one}) for one in range(self.asked.count)]
        promise, (grown, margin) = self._margins(singles), self._best(singles)
        (whole,) = self._margins([frozenset()])
        while len(grown) < self.asked.count:
            rest = sorted(set(range(self.asked.count)) - grown, key=lambda one: (promise[one], one))[: self.candidates]
            sets = self.asked.ask((grown | {one} for one in rest), self.most)
            if not sets:
                return None
            # A superpixel promises what hiding it took off the margin when it was last tried.
            for one, after in zip(sets, self._margins(sets), strict=True):
                (added,) = one - grown
                promise[added] = after - margin + whole
            grown, margin = self._best(sets)
            if margin < 0:
                return grown
        return None

    def _pruned(self, found: Hidden) -> Hidden:
        """The set without what it does not need, one superpixel at a time."""
        while len(found) > 1:
            fewer = self._turned(self.asked.ask((found - {one} for one in sorted(found)), self.most))
            if fewer is None:
                break
            found = fewer
        return found

    def _smaller(self, than: int) -> tuple[Hidden | None, bool]:
        """A set of fewer superpixels that turns the decision, None where there is none; and whether all were tried."""
        for size in range(2, than):
            if comb(self.asked.count, size) > self.most:
                return None, False
            every = [frozenset(some) for some in combinations(range(self.asked.count), size)]
            sets = self.asked.ask(every, self.most)
            if len(sets) < len(every):
                return None, False
            if found := self._turned(sets):
                return found, True
        return None, True
