"""Report scores by hand, and against sacrebleu and rouge-score with the same words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.by_value import bleu, cider, rouge_l

from storyxai.errors import InputError
from storyxai.metrics.bootstrap import bootstrap_interval, mean_statistic
from storyxai.metrics.text import (
    bleu_statistic,
    cider_rows,
    claims,
    constant_report,
    finding_f1_statistic,
    nearest_neighbour_rows,
    rouge_l_rows,
    tokens_of,
)

WORDS = st.lists(st.sampled_from(["heart", "is", "normal", "no", "effusion", "left"]), max_size=14).map(" ".join)
REPORTS = [
    "The heart is enlarged. There is a small left pleural effusion.",
    "No pneumothorax. The lungs are clear and the heart is normal in size.",
    "Right upper lobe consolidation, concerning for pneumonia.",
]
REFERENCES = [
    "The heart size is enlarged. There is a small right pleural effusion.",
    "The lungs are clear. No pneumothorax. The heart is normal in size.",
    "Consolidation in the right upper lobe.",
]


def test_tokens_are_words_without_marks() -> None:
    assert tokens_of("No T4-level\n effusion, (2.5 cm).") == ("no", "t4", "level", "effusion", "2", "5", "cm")


def test_bleu_by_hand() -> None:
    # Said "the the the": "the" is credited once (clipped); as long as the reference.
    assert bleu(["the the the"], ["the cat sat"], order=1) == pytest.approx(1 / 3)
    # All words right, half the length: brevity exp(1 - 4/2).
    assert bleu(["a b"], ["a b c d"], order=1) == pytest.approx(math.exp(-1))
    assert bleu(["a b c d"], ["a b c d"]) == 1.0
    assert bleu(["a b c d"], ["e f g h"]) == 0.0
    assert bleu([""], ["a b"]) == 0.0
    assert bleu([], []) is None


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_agrees_with_sacrebleu(order: int) -> None:
    from sacrebleu.metrics.bleu import BLEU

    oracle = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    said = [" ".join(tokens_of(text)) for text in REPORTS]
    meant = [" ".join(tokens_of(text)) for text in REFERENCES]
    assert bleu(REPORTS, REFERENCES, order=order) == pytest.approx(oracle.corpus_score(said, [meant]).score / 100)


def test_bleu_adds_counts_before_it_divides() -> None:
    weights = np.array([[2.0, 0.0, 1.0]])
    rows = [0, 0, 2]
    again = bleu([REPORTS[row] for row in rows], [REFERENCES[row] for row in rows], order=2)
    assert bleu_statistic(REPORTS, REFERENCES, order=2)(weights)[0] == pytest.approx(again)
    single = [bleu([a], [b], order=2) for a, b in zip(REPORTS, REFERENCES, strict=True)]
    assert bleu(REPORTS, REFERENCES, order=2) != pytest.approx(np.mean(single), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_rouge_l_agrees_with_rouge_score(said: str, meant: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    oracle = RougeScorer(["rougeL"], use_stemmer=False).score(meant, said)["rougeL"].fmeasure
    assert rouge_l([said], [meant]) == pytest.approx(oracle, abs=1e-12)


def test_rouge_l_by_hand_and_for_long_texts() -> None:
    assert rouge_l(["a b c d"], ["a c e d"]) == pytest.approx(3 / 4)
    assert rouge_l(["a b"], ["b a b c"]) == pytest.approx(2 * 2 / 6)
    long = " ".join(f"w{number}" for number in range(300))
    assert rouge_l([long], [long]) == 1.0
    assert rouge_l([""], ["a"]) == 0.0


def test_cider_of_the_reference_itself_is_ten() -> None:
    texts = ["a b c d e", "f g h i j", "k l m n o"]
    assert cider_rows(texts, texts) == pytest.approx([10.0, 10.0, 10.0])
    assert cider(texts, [*texts[1:], texts[0]]) == 0.0


def test_cider_by_hand() -> None:
    """References "x a" and "x b": "x" is in both and counts nothing; for n = 1 only a and b count, each log 2.

    Said "x a" scores 10 * (cosine 1 for n = 1, cosine 1 for n = 2) / 4 = 5. Said "x a a b" against "x a": words
    a twice, b once: cosine 2 / sqrt(5); pairs "x a" known (log 2), "a a" and "a b" unseen (log 2): 1 / sqrt(3).
    """
    references = ["x a", "x b"]
    assert cider_rows(["x a", "x x"], references) == pytest.approx([5.0, 0.0])
    expected = 10 * (2 / math.sqrt(5) + 1 / math.sqrt(3)) / 4
    assert cider_rows(["x a a b", "x"], references) == pytest.approx([expected, 0.0])


def test_what_every_reference_says_earns_nothing_in_cider() -> None:
    """The constant report: full words, no information."""
    normal = "the lungs are clear"
    references = [f"{normal} {word}" for word in ("alpha", "beta", "gamma")]
    assert cider([normal] * 3, references) == 0.0
    assert rouge_l([normal] * 3, references) == pytest.approx(2 * 4 / 9)


def test_the_f1_of_findings_by_hand() -> None:
    said = np.array([[1.0, math.nan], [1.0, 0.0], [0.0, 1.0]])
    true = np.array([[1.0, 1.0], [0.0, 0.0], [math.nan, 1.0]])
    ones = np.ones((1, 3))
    # The first: one hit, one false claim, one not stated; the second: one hit, and silence is a miss.
    for column in (0, 1):
        alone = finding_f1_statistic(said[:, [column]], true[:, [column]], average="micro")
        assert alone(ones)[0] == pytest.approx(2 / (2 + 1))
        assert alone(np.array([[1.0, 1.0, 0.0]]))[0] == pytest.approx((2 / 3, 0.0)[column])
    assert finding_f1_statistic(said, true, average="micro")(ones)[0] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert finding_f1_statistic(said, true, average="macro")(ones)[0] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert finding_f1_statistic(said, true, average="micro")(np.array([[1.0, 2.0, 0.0]]))[0] == pytest.approx(2 / 5)


def test_silence_claims_nothing_and_inventions_cost() -> None:
    assert claims([1.0, 0.0, np.nan]).tolist() == [1.0, 0.0, 0.0]
    one = np.ones((1, 1))
    assert finding_f1_statistic([[1.0]], claims([[math.nan]]), average="micro")(one)[0] == 0.0
    assert np.isnan(finding_f1_statistic([[math.nan]], [[0.0]], average="micro")(one)[0])


def test_macro_f1_leaves_out_findings_that_never_occur() -> None:
    said, true = [[1.0, 1.0]], [[1.0, 0.0]]
    assert finding_f1_statistic(said, true, average="macro")(np.ones((1, 1)))[0] == 1.0
    assert np.isnan(finding_f1_statistic(said, [[0.0, 0.0]], average="macro")(np.ones((1, 1)))[0])


def test_baselines_know_nothing() -> None:
    assert constant_report(["b", "a", "b", "a", "c"]) == "a"
    features = [[0.0, 0.0], [5.0, 5.0]]
    known = [[0.1, 0.0], [0.2, 0.0], [5.0, 4.0]]
    assert nearest_neighbour_rows(features, known) == (0, 2)
    near = nearest_neighbour_rows(features, known, patients=["p", "q"], known_patients=["p", "r", "s"])
    assert near == (1, 2)  # never the same patient
    with pytest.raises(InputError, match="no other patient"):
        nearest_neighbour_rows(features, known, patients=["p", "q"], known_patients=["p", "p", "p"])
    with pytest.raises(InputError, match="no reports"):
        constant_report([])


def test_report_scores_have_intervals() -> None:
    statistic = mean_statistic(rouge_l_rows(REPORTS, REFERENCES))
    found = bootstrap_interval(statistic, ["a", "b", "c"], count=200, seed=1)
    assert found.low is not None and found.high is not None and found.value is not None
    assert min(rouge_l_rows(REPORTS, REFERENCES)) - 1e-9 <= found.low < found.value < found.high


def test_faults_of_the_call_are_named() -> None:
    for function in (bleu, rouge_l, cider):
        with pytest.raises(InputError, match="do not fit"):
            function(["a"], [])
    with pytest.raises(InputError, match="1 to 4"):
        bleu(["a"], ["a"], order=5)
