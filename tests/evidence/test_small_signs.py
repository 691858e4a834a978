"""A nodule is smaller than a cell of Grad-CAM: a finer method says where it lies, and the others are held against that."""

from __future__ import annotations

import pytest

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.maps import _small_signs
from storyxai.evidence.predict import predict
from storyxai.modalities.chest_radiograph import anatomy
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.runtime import load_student
from storyxai.phantoms.generate import Phantom, generate_phantom
from storyxai.types import Evidence, boxed_findings


@pytest.fixture(scope="module")
def nodule() -> tuple[Phantom, Evidence]:
    phantom = generate_phantom(6_600_132)
    return phantom, gather(load_student(), phantom.image, settings=GatherSettings(samples=100))


def test_the_finest_map_of_a_nodule_points_at_it_and_is_drawn_of_nothing_else(nodule: tuple[Phantom, Evidence]) -> None:
    phantom, evidence = nodule
    assert {"Nodule", "Consolidation"} <= set(evidence.provenance["told"])
    fine = [one for one in evidence.heatmaps if one.method == "fine_occlusion"]
    assert [one.finding for one in fine] == ["Nodule"] and fine[0].shown and not fine[0].doubtful
    (box,) = [box for box in phantom.boxes if box.finding == "Nodule"]
    row, column = divmod(int(fine[0].values.argmax()), fine[0].values.shape[1])
    assert box.x <= column < box.x + box.width and box.y <= row < box.y + box.height


def test_the_other_maps_are_asked_about_its_strongest_point(nodule: tuple[Phantom, Evidence]) -> None:
    _, evidence = nodule
    agree = {one.method: one for one in evidence.checks if (one.name, one.finding) == ("methods_agree", "Nodule")}
    assert {one.about.code for one in agree.values()} == {"same_spot"} and len(agree) == 3
    assert agree["fine_occlusion"].value == agree["grad_cam"].value
    others = {one.about.code for one in evidence.checks if (one.name, one.finding) == ("methods_agree", "Consolidation")}
    assert others == {"rank_correlation"}


def test_it_says_the_zone_and_a_box_on_wider_cells_is_not_drawn(nodule: tuple[Phantom, Evidence]) -> None:
    phantom, evidence = nodule
    told = {one.name: one.value for one in evidence.concepts if one.finding == "Nodule"}
    (fact,) = [fact for fact in phantom.facts if fact.finding == "Nodule"]
    assert (told["side"], told["zones"]) == (fact.side, f"{fact.side} {fact.zone}") == ("left", "left mid")
    assert "Nodule" in {box.finding for box in evidence.prediction.boxes}
    assert "Nodule" not in boxed_findings(evidence) and "Consolidation" in boxed_findings(evidence)


def test_where_nothing_small_is_told_the_method_is_not_asked() -> None:
    evidence = gather(load_student(), generate_phantom(3).image, settings=GatherSettings(samples=100))
    assert "Nodule" not in evidence.provenance["told"]
    assert set(evidence.provenance["methods"]) == {"grad_cam", "lime"}
    alone = gather(
        load_student(), generate_phantom(6_600_132).image, methods=["fine_occlusion"], settings=GatherSettings(samples=100)
    )
    assert {one.finding for one in alone.heatmaps} == set(load_student().findings)


def test_small_findings_of_one_region_share_it_and_so_their_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anatomy, "WIDEST", {"Nodule": 0.1, "Mass": 0.1})
    seen = predict(load_student(), generate_phantom(3).image, CHEST)
    survey = CHEST.survey(seen.prediction.masks, spacing_mm=None, mask_pixel=seen.mask_pixel)  # type: ignore[misc]
    small = _small_signs(seen, survey, ("Nodule", "Effusion", "Mass"), regions := {})
    assert set(small) == {"Nodule", "Mass"} and small["Nodule"].region is small["Mass"].region and len(regions) == 1
