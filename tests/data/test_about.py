"""A card's limits come from what its student learned from."""

from __future__ import annotations

from storyxai.data.about import about_set
from storyxai.programs.pipeline import LIMITS, limits_of
from storyxai.types import DataSet


def learnt_from(*domains: str) -> tuple[DataSet, ...]:
    sets = (about_set(domain) for domain in domains)
    return tuple(DataSet(one.name, 3, 2, one.licence, one.synthetic, one.limits) for one in sets)


def test_a_student_of_phantoms_does_not_claim_the_limits_of_nih() -> None:
    phantoms = " ".join(limits_of(learnt_from("phantom")))
    assert "drawn, not taken" in phantoms
    assert not any(word in phantoms for word in ("NIH", "children", "Kermany", "publications", "heart"))
    assert "NIH labels" in " ".join(limits_of(learnt_from("nih", "phantom")))


def test_an_own_set_brings_no_limits_and_no_licence_that_nobody_stated() -> None:
    assert limits_of(learnt_from("our hospital")) == LIMITS
    (own,) = learnt_from("our hospital")
    assert (own.name, own.licence, own.synthetic) == ("our hospital", "", False)
