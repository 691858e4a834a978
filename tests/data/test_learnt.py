"""A card's licence and limits come from what its student learned from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storyxai.data.learnt import Origin, learnt_sets, learnt_sources, origins_of, weights_licence
from storyxai.data.sources import OURS, SOURCES, may_be_passed_on, reader_of
from storyxai.data.table import StudyRow, StudyTable
from storyxai.modalities.registry import modality_named
from storyxai.model_facts import DataSet
from storyxai.programs.pipeline import LIMITS, limits_of
from teaching_examples import toy_examples as examples


def learnt_from(*domains: str, **origins: Origin) -> tuple[DataSet, ...]:
    return learnt_sets(replace(examples(len(domains)), domain=domains), origins)


def test_a_student_of_phantoms_does_not_claim_the_limits_of_nih() -> None:
    phantoms = " ".join(limits_of(learnt_from("phantom"), modality_named()))
    assert "drawn, not taken" in phantoms
    assert not any(word in phantoms for word in ("NIH", "children", "Kermany", "publications", "heart"))
    assert "NIH labels" in " ".join(limits_of(learnt_from("nih", "phantom"), modality_named()))


def test_an_own_set_brings_no_limits_and_no_licence_that_nobody_stated() -> None:
    assert limits_of(learnt_from("our hospital", "nihilists"), modality_named()) == (*LIMITS, *modality_named().limits)
    for own in learnt_from("our hospital", "nihilists"):
        assert (own.licence, own.synthetic, own.limits) == ("", False, ())
    assert learnt_from("our hospital")[0].name == "our hospital"
    assert weights_licence(replace(examples(1), domain=("our hospital",)), {}, "Apache-2.0") == "Apache-2.0"


def test_a_part_of_a_set_has_the_licence_of_the_set() -> None:
    (part,) = learnt_from("nih128")
    assert (part.licence, part.limits) == (SOURCES["nih"].licence, SOURCES["nih"].limits)
    assert part.name.endswith(", part nih128")


@pytest.mark.parametrize(("licences", "may"), [
    (("CC BY 3.0", "CC BY 4.0", "CC BY"), True),
    (("CC BY 4.0", "CC BY-NC-SA"), False),
    (("CC BY 4.0", ""), False),  # an image without a licence gives no right
    (("", ""), None),
])
def test_images_of_their_own_licences_decide_together(licences: tuple[str, ...], may: bool | None) -> None:
    assert may_be_passed_on(SOURCES["covid"], licences) is may
    train = replace(examples(1), domain=("covid",))
    given = weights_licence(train, {"covid": Origin(("covid",), licences)}, "Apache-2.0")
    assert given.startswith("not to be passed on: see the terms of COVID-19") == (may is False)
    (found,) = learnt_sets(train, {"covid": Origin(("covid",), licences)})
    assert any("do not let weights" in limit for limit in found.limits) == (may is False)
    assert found.licence == ", ".join(one or "none given" for one in licences) * (may is not None)


@pytest.mark.parametrize("key", ["ph2", "busi", "openi", "chexpert", "rsna"])
def test_weights_that_learned_from_a_bound_set_are_not_passed_on(key: str) -> None:
    train = replace(examples(2), domain=("nih", key))
    assert SOURCES[key].name in weights_licence(train, {}, "Apache-2.0")
    assert "NIH Chest" not in weights_licence(train, {}, "Apache-2.0")


def test_the_origin_of_a_set_is_what_its_tables_name_however_the_file_is_called(tmp_path: object) -> None:
    def table(*rows: tuple[str, str]) -> StudyTable:
        made = [StudyRow(f"s{i}", f"p{i}", f"{i}.png", source, license=licence) for i, (source, licence) in enumerate(rows)]
        return StudyTable.from_rows(made, root=tmp_path)  # type: ignore[arg-type]

    tables = table(("nih", "free"), ("nih", "free")), table(("nih", "free"), ("covid", "CC BY 4.0")), table(("openi", ""))
    assert origins_of(("first", "second", ""), tables) == {
        "first": Origin(("nih",), ("free",)), "second": Origin(("covid", "nih"), ("CC BY 4.0", "free")),
        "openi": Origin(("openi",), ("",)),
    }
    train = replace(examples(3), domain=("first", "phantom", "second"))
    origins = origins_of(("first", "second", ""), tables)
    assert learnt_sources(train, origins) == ("covid", "nih")  # by these `evaluate` finds patients that were learned from
    (found,) = learnt_from("second", second=Origin(("covid", "nih"), ("CC BY 4.0",)))
    assert SOURCES["covid"].name in found.name and SOURCES["nih"].name in found.name and found.name.endswith(", part second")


def test_every_published_set_states_its_licence_its_citation_and_whether_weights_may_be_passed_on() -> None:
    own = {"manifest", "coco", "dicom-folder"}
    by_image = {"covid", "covid-cc-by"}
    for source in OURS:
        assert bool(source.licence) == (source.key not in own | by_image), source.key
        assert bool(source.citation) == (source.key not in own | {"phantom"}), source.key
        assert (source.weights_may_be_shipped is None) == (source.key in own | by_image), source.key
        assert all(limit.endswith(".") for limit in source.limits)
        assert not source.reader or callable(reader_of(source))
    assert {key for key, source in SOURCES.items() if source.weights_may_be_shipped} == {"nih", "kermany", "phantom"}
