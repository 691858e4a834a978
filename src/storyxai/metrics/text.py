"""How near a generated report is to its reference: shared words, and shared findings.

Words are runs of letters and digits in lower case, so that punctuation earns nothing. Shared words reward the usual
phrases: always print `constant_report` and the nearest neighbour's report beside a model's score.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import Floats, Statistic, mean_statistic, ratio
from storyxai.modalities.contract import LabelReport

_ORDERS = 4


def tokens_of(text: str) -> tuple[str, ...]:
    """The words of `text`: runs of letters and digits, lower case."""
    return tuple(re.findall(r"[a-z0-9]+", text.casefold()))


def bleu_statistic(reports: Sequence[str], references: Sequence[str], *, order: int = 4) -> Statistic:
    """Corpus BLEU as a statistic of report weights (the counts are added before they are divided).

    Source: Papineni et al. 2002, geometric mean of clipped n-gram precisions times the brevity penalty. Unsmoothed: it
    is 0 where any order has no match.
    """
    _paired(reports, references)
    if not 1 <= order <= _ORDERS:
        raise InputError("BLEU order", f"{order} is not 1 to 4", mend="use 4")
    matched = np.zeros((len(reports), order))
    written = np.zeros((len(reports), order))
    lengths = np.zeros((len(reports), 2))
    for row, (report, reference) in enumerate(zip(reports, references, strict=True)):
        said, meant = tokens_of(report), tokens_of(reference)
        lengths[row] = len(said), len(meant)
        for size in range(1, order + 1):
            grams, true = _grams(said, size), _grams(meant, size)
            matched[row, size - 1] = (grams & true).total()
            written[row, size - 1] = grams.total()

    def score(weights: Floats) -> Floats:
        precision = ratio(weights @ matched, weights @ written)
        said, meant = weights @ lengths[:, 0], weights @ lengths[:, 1]
        silent = (said == 0) & (meant > 0)
        logs = np.log(precision, out=np.full_like(precision, -np.inf), where=precision > 0).mean(axis=1)
        brevity = np.minimum(1.0, np.exp(1.0 - np.divide(meant, said, out=np.ones_like(said), where=said > 0)))
        return np.where(silent, 0.0, np.where(said > 0, brevity * np.exp(logs), np.nan))

    return score


def rouge_l_rows(reports: Sequence[str], references: Sequence[str]) -> Floats:
    """ROUGE-L of each report: F1 of the longest common subsequence of words. Shapes: float64 [N] in [0, 1].

    Source: Lin 2004, with equal weight of precision and recall. 0 where either text is empty.
    """
    _paired(reports, references)
    rows = np.zeros(len(reports))
    for row, (report, reference) in enumerate(zip(reports, references, strict=True)):
        said, meant = tokens_of(report), tokens_of(reference)
        if said and meant:
            rows[row] = 2.0 * _common_length(said, meant) / (len(said) + len(meant))
    return rows


def cider_rows(reports: Sequence[str], references: Sequence[str]) -> Floats:
    """CIDEr of each report: ten times the mean over n = 1..4 of the cosine of rarity-weighted n-gram counts.

    Shapes: float64 [N] in [0, 10]. Source: Vedantam et al. 2015, equations 1 to 3, one reference each, no stemming. The
    rarity of an n-gram is log(N / number of references that hold it), so one that every reference holds counts nothing,
    and with a single reference everything is 0. This is plain CIDEr, not CIDEr-D.
    """
    _paired(reports, references)
    said = [tokens_of(report) for report in reports]
    meant = [tokens_of(reference) for reference in references]
    rows = np.zeros(len(reports))
    for size in range(1, _ORDERS + 1):
        true = [_grams(words, size) for words in meant]
        holders = Counter(gram for grams in true for gram in grams)
        rarity = {gram: math.log(len(references) / held) for gram, held in holders.items()}
        unseen = math.log(len(references)) if references else 0.0
        for row, (words, grams) in enumerate(zip(said, true, strict=True)):
            rows[row] += _cosine(_grams(words, size), grams, rarity, unseen)
    return 10.0 * rows / _ORDERS


def claims(labels: ArrayLike) -> Floats:
    """Labels read from reports as claims: 1 where a finding is stated, 0 where it is denied or not mentioned.

    A report is judged by what it says is there; silence claims nothing. So an invented finding counts against a report
    even where the reference is silent about it.
    """
    return (np.asarray(labels, dtype=np.float64) >= 0.5).astype(np.float64)


def finding_f1_statistic(
    predicted: ArrayLike, reference: ArrayLike, *, average: Literal["micro", "macro"]
) -> Statistic:
    """F1 of claimed findings as a statistic of report weights. Shapes: both [N, F].

    `predicted` are labels read from reports, `reference` true labels with nan left out. "micro" adds the counts of all
    findings first; "macro" is the mean over the findings that the reference states present at least once.
    """
    true = np.asarray(reference, dtype=np.float64)
    hits, false_claims, missed = _counts(claims(predicted), true)
    if average == "macro":
        held = (true >= 0.5).any(axis=0)
        hits, false_claims, missed = hits[:, held], false_claims[:, held], missed[:, held]

    def f1(weights: Floats) -> Floats:
        right, wrong = weights @ hits, weights @ (false_claims + missed)
        if average == "micro":
            right, wrong = right.sum(axis=1, keepdims=True), wrong.sum(axis=1, keepdims=True)
        if not right.shape[1]:
            return np.full(len(weights), np.nan)
        return np.asarray(ratio(2.0 * right, 2.0 * right + wrong).mean(axis=1))

    return f1


def report_statistics(
    reports: Sequence[str], references: Sequence[str], *, findings: Sequence[str], labels: ArrayLike,
    labeller: LabelReport | None,
) -> dict[str, Statistic]:
    """Every report score by name, as statistics of report weights: bleu_1..4, rouge_l, cider, and three finding F1.

    Shapes: `labels` [N, F] of `findings`, nan = not stated. "finding_f1_micro" and "finding_f1_macro" compare what the
    report states with what the reference report states; "label_f1_micro" with the labels. Findings are read by
    `labeller`, those only that it knows; without one (None) no finding is read.
    """
    label = labeller or _label_nothing
    readable = label("")
    known = [place for place, name in enumerate(findings) if name in readable]

    def read(texts: Sequence[str]) -> Floats:
        said = {text: label(text) for text in set(texts)}
        rows = [[said[text][findings[place]] for place in known] for text in texts]
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(known))

    spoken, meant = read(reports), claims(read(references))
    stated = np.asarray(labels, dtype=np.float64)[:, known]
    return {
        **{f"bleu_{order}": bleu_statistic(reports, references, order=order) for order in range(1, _ORDERS + 1)},
        "rouge_l": mean_statistic(rouge_l_rows(reports, references)),
        "cider": mean_statistic(cider_rows(reports, references)),
        "finding_f1_micro": finding_f1_statistic(spoken, meant, average="micro"),
        "finding_f1_macro": finding_f1_statistic(spoken, meant, average="macro"),
        "label_f1_micro": finding_f1_statistic(spoken, stated, average="micro"),
    }


def _label_nothing(_: str | Sequence[str]) -> dict[str, float]:
    return {}


def constant_report(reports: Sequence[str]) -> str:
    """The report written most often word for word (of equals the first in the alphabet): what knowing nothing earns.

    Take it from training reports. Raises: InputError when there is none.
    """
    if not reports:
        raise InputError("constant report", "there are no reports", mend="give the training reports")
    counts = Counter(reports)
    most = max(counts.values())
    return min(report for report, count in counts.items() if count == most)


def nearest_neighbour_rows(
    features: ArrayLike, known_features: ArrayLike, *, patients: Sequence[str] = (), known_patients: Sequence[str] = ()
) -> tuple[int, ...]:
    """For each row, the row of `known_features` nearest to it (Euclid, first of equals), never of the same patient.

    Shapes: [N, D] and [M, D]. The reports of these rows are the nearest-neighbour baseline. Raises: InputError where a
    row has no neighbour of another patient.
    """
    given, known = np.asarray(features, dtype=np.float64), np.asarray(known_features, dtype=np.float64)
    squares = (given**2).sum(axis=1)[:, None] + (known**2).sum(axis=1)[None] - 2.0 * given @ known.T
    if len(patients) and len(known_patients):
        squares[np.asarray(patients)[:, None] == np.asarray(known_patients)[None]] = np.inf
    if not len(known) or np.isinf(squares.min(axis=1)).any():
        raise InputError("nearest neighbour", "a report has no other patient to borrow from", mend="give more patients")
    return tuple(int(row) for row in np.argmin(squares, axis=1))


def _counts(said: Floats, true: Floats) -> tuple[Floats, Floats, Floats]:
    """Hits, false claims and misses, each [N, F], where the reference states anything."""
    if said.shape != true.shape:
        raise InputError("finding labels", f"shape {said.shape} does not fit {true.shape}", mend="one row a report")
    there, not_there = (true >= 0.5).astype(np.float64), (true < 0.5).astype(np.float64)  # nan is neither
    return said * there, said * not_there, (1.0 - said) * there


def _grams(words: tuple[str, ...], size: int) -> Counter[tuple[str, ...]]:
    return Counter(words[start : start + size] for start in range(len(words) - size + 1))


def _cosine(
    said: Counter[tuple[str, ...]],
    meant: Counter[tuple[str, ...]],
    rarity: Mapping[tuple[str, ...], float],
    unseen: float,
) -> float:
    left = {gram: count * rarity.get(gram, unseen) for gram, count in said.items()}
    right = {gram: count * rarity[gram] for gram, count in meant.items()}
    norms = math.sqrt(math.fsum(v * v for v in left.values()) * math.fsum(v * v for v in right.values()))
    return math.fsum(value * right[gram] for gram, value in left.items() if gram in right) / norms if norms else 0.0


def _common_length(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Length of the longest common subsequence; one column of the table at a time, held in the bits of one integer.

    Bit i of `steps` is 0 where the table grows by one between row i and i + 1. Source: Hyyrö 2004.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    steps = full
    for word in second:
        hit = steps & places.get(word, 0)
        steps = (steps + hit | steps - hit) & full
    return len(first) - steps.bit_count()


def _paired(reports: Sequence[object], references: Sequence[object]) -> None:
    if len(reports) != len(references):
        why = f"{len(reports)} reports do not fit {len(references)} references"
        raise InputError("reports", why, mend="give each report one reference")
