"""Reports say what the facts say, in a closed vocabulary that survives the way to tokens and back."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyxai.errors import UnknownNameError
from storyxai.modalities.chest_radiograph import grammar
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR, Fact

fact = st.builds(
    Fact, st.sampled_from(NAMES), st.booleans(), st.sampled_from(grammar.SIDE_WORDS),
    st.sampled_from(grammar.ZONE_WORDS), st.sampled_from(grammar.SEVERITY_WORDS),
)
fact_lists = st.lists(fact, max_size=14, unique_by=lambda one: one.finding)
devices = st.lists(st.sampled_from(grammar.DEVICES), unique=True)


@settings(max_examples=300, deadline=None)
@given(fact_lists, st.integers(0, 2**32), st.sampled_from(["PA", "AP"]), devices)
def test_every_report_is_short_closed_and_round_trips(
    facts: list[Fact], seed: int, view: str, shown: list[str],
) -> None:
    report = grammar.write_report(facts, np.random.default_rng(seed), view=view, devices=shown)
    tokens = GRAMMAR.tokenize(report)
    assert GRAMMAR.detokenize(tokens) == list(report)
    assert GRAMMAR.tokenize(" ".join(report).upper()) == tokens
    assert set(tokens) <= set(GRAMMAR.vocabulary())
    assert len(tokens) <= grammar.MAX_TOKENS
    assert report == grammar.write_report(facts, np.random.default_rng(seed), view=view, devices=shown)


@settings(max_examples=300, deadline=None)
@given(fact_lists, st.integers(0, 2**32))
def test_a_report_states_each_present_fact_and_nothing_that_is_not_a_fact(facts: list[Fact], seed: int) -> None:
    truth = {one.finding: float(one.present) for one in facts}
    stated: dict[str, float] = {}
    for sentence in grammar.compose_report(facts, np.random.default_rng(seed)):
        stated.update(sentence.states)
    assert {name for name, value in truth.items() if value} <= stated.keys()
    assert all(truth[name] == value for name, value in stated.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("present", [True, False])
def test_each_fact_has_three_phrasings(name: str, present: bool) -> None:
    told = set()
    for seed in range(200):
        for sentence in grammar.compose_report([Fact(name, present)], np.random.default_rng(seed)):
            if name in sentence.states:
                told.add(sentence.text)
    assert len(told) >= 3


@pytest.mark.parametrize("device", grammar.DEVICES)
def test_devices_are_told_in_three_ways(device: str) -> None:
    told = {grammar.write_report([], np.random.default_rng(seed), devices=[device]) for seed in range(40)}
    assert len(told) >= 3


@pytest.mark.parametrize("side", ["right", "left"])
def test_side_and_zone_are_told_where_the_fact_has_them(side: str) -> None:
    other = "left" if side == "right" else "right"
    for seed in range(30):
        rng = np.random.default_rng(seed)
        text = " ".join(grammar.write_report([Fact("Mass", True, side, "upper", "")], rng)).casefold()
        assert f"{side} upper zone" in text
        assert other not in text


def test_negatives_are_grouped() -> None:
    facts = [Fact("Effusion", False), Fact("Pneumothorax", False)]
    text = [" ".join(grammar.write_report(facts, np.random.default_rng(seed))) for seed in range(30)]
    assert all("pleural effusion or pneumothorax" in one for one in text)


def test_lungs_that_are_not_called_clear_have_one_to_three_findings_negated() -> None:
    absent = [Fact(name, False) for name in grammar.LUNG_FINDINGS]
    told = [grammar._lungs(absent, np.random.default_rng(seed)) for seed in range(400)]
    assert all(told), "of seven absent findings nothing is said"
    negated = [len(one.states) for (one,) in told if "clear" not in one.text.casefold()]
    assert set(negated) == {1, 2, 3}


def test_order_is_heart_lungs_pleura_devices_conclusion() -> None:
    facts = [Fact("Effusion", True, "left"), Fact("Nodule", True, "right"), Fact("Cardiomegaly", True)]
    for seed in range(20):
        text = " ".join(grammar.write_report(facts, np.random.default_rng(seed), devices=["pacemaker"])).casefold()
        places = [re.search(word, text) for word in ("cardi|heart", "nodule", "effusion|fluid", "pacemaker")]
        starts = [place.start() for place in places if place]
        assert len(starts) == 4
        assert starts == sorted(starts)


def test_the_vocabulary_is_small_sorted_and_all_of_it_is_used() -> None:
    words = GRAMMAR.vocabulary()
    assert len(words) < 400
    assert list(words) == sorted(set(words))
    seen: set[str] = set()
    rng = np.random.default_rng(5)
    for _ in range(4000):
        facts = [
            Fact(name, bool(rng.random() < 0.3), str(rng.choice(grammar.SIDE_WORDS)),
                 str(rng.choice(grammar.ZONE_WORDS)), str(rng.choice(grammar.SEVERITY_WORDS)))
            for name in NAMES if rng.random() < 0.5
        ]
        seen.update(GRAMMAR.tokenize(grammar.write_report(facts, rng, view="AP", devices=grammar.DEVICES)))
        if len(seen) == len(words):
            break
    assert seen == set(words)


def test_facts_from_labels_leaves_out_what_nobody_stated() -> None:
    facts = grammar.facts_from_labels({"Effusion": 1.0, "Mass": 0.0, "Edema": math.nan})
    assert set(facts) == {Fact("Effusion", True), Fact("Mass", False)}


def test_detokenize_keeps_an_unfinished_sentence() -> None:
    tokens = ["clear", "lungs", ".", "no", "mass", ",", "nodule"]
    assert GRAMMAR.detokenize(tokens) == ["Clear lungs.", "No mass, nodule"]
    assert GRAMMAR.detokenize([".", "."]) == []


def test_an_unknown_finding_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'Effusion'"):
        grammar.write_report([Fact("Efusion", True)], np.random.default_rng(0))
