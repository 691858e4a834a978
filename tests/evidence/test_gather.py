"""Which findings a story dwells on, and what LIME puts in place of what it hides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from storyxai.evidence.gather import MOST_TOLD, ExplainSettings, explain_finding, gather, lung_fill, told_findings
from storyxai.evidence.predict import Seen, predict
from storyxai.explain.perturbation import hidden_image
from storyxai.models.runtime import Student, load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.story.words import load_words
from storyxai.types import Finding, Study


def finding(name: str, state: str, probability: float = 0.5) -> Finding:
    interval = {"present": (0.4, 0.9), "indeterminate": (0.1, 0.9), "absent": (0.0, 0.2)}[state]
    return Finding(name, probability, interval, 0.3)


def test_no_present_finding_is_left_without_its_second_witness() -> None:
    """A present finding beyond the most told would be shown a map that only one method vouches for."""
    many = tuple(finding(f"F{i}", "present") for i in range(MOST_TOLD + 3))
    assert set(told_findings(many)) == {f.name for f in many}


def test_indeterminate_findings_fill_up_and_absent_ones_are_not_told() -> None:
    few = (finding("P", "present"), *(finding(f"U{i}", "indeterminate", 0.2 + 0.01 * i) for i in range(8)))
    told = told_findings((*few, finding("A", "absent", 0.1)))
    assert len(told) == MOST_TOLD and told[0] == "P" and told[1] == "U7"


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student()


@pytest.fixture(scope="module")
def seen(student: Student) -> Seen:
    return predict(student, Study("phantom", (generate_phantom(9_300_001, size=256).image,)))


def test_what_is_hidden_in_the_lungs_becomes_the_grey_of_the_darker_lung(seen: Seen) -> None:
    """Lungs of 0.3 with an opacity of 0.8 in a third of them, in a body of 0.9: neither opacity nor body moves the grey."""
    left, right = seen.prediction.masks["left_lung"], seen.prediction.masks["right_lung"]
    film = np.full(left.shape, 0.9, np.float32)
    film[left | right] = 0.3
    film[(left | right) & (np.arange(len(film))[:, None] < np.quantile(np.nonzero(left | right)[0], 0.33))] = 0.8
    planted = seen._replace(pixels=seen.frame.to_model(film))
    filled = lung_fill(planted)
    assert filled is not None
    image, grey = filled
    assert grey == pytest.approx(0.3, abs=0.02)
    lungs = seen.frame.mask_to_model(left | right) >= 0.5
    assert (image[lungs] == np.float32(grey)).all()
    assert (image[~lungs] == hidden_image(planted.pixels, fill="blur")[~lungs]).all()


def test_without_lungs_the_hidden_is_blurred_and_said_so(student: Student, seen: Seen) -> None:
    settings = ExplainSettings(samples=80)
    heatmap, _ = explain_finding(student, seen, finding="Effusion", method="lime", settings=settings)
    filled = lung_fill(seen)
    assert filled is not None
    assert heatmap.details["fill"] == f"the darker lung's grey ({filled[1]:g}) in the lungs and by a blur elsewhere"
    none = {name: np.zeros_like(mask) for name, mask in seen.prediction.masks.items()}
    bare = seen._replace(prediction=dataclasses.replace(seen.prediction, masks=none))
    assert lung_fill(bare) is None
    heatmap, _ = explain_finding(student, bare, finding="Effusion", method="lime", settings=settings)
    assert heatmap.details["fill"] == "blur"


def test_lime_finds_the_opacity_that_a_blur_would_keep(student: Student, seen: Seen) -> None:
    """A model that reads the mean grey of the left lung, all of it white: what is hidden by its own blur stays white."""
    left = seen.prediction.masks["left_lung"]
    pixels = seen.frame.to_model(np.where(left, 0.95, 0.3).astype(np.float32))
    place = seen.frame.mask_to_model(left) >= 0.5

    class Reader:
        findings = student.findings
        head = student.head

        def answer(self, image: np.ndarray) -> object:
            return seen.look

        def logits(self, images: np.ndarray) -> np.ndarray:
            grey = images[:, 0][:, place].mean(axis=1)
            return np.repeat(grey[:, None], len(student.findings), axis=1).astype(np.float32)

    found = {}
    for fill in ("lung", "blur"):
        settings = ExplainSettings(samples=300, fill=fill)
        heatmap, _ = explain_finding(
            Reader(), seen._replace(pixels=pixels), finding="Effusion", method="lime", settings=settings  # type: ignore[arg-type]
        )
        found[fill] = float(heatmap.values[left].mean())
    assert found["lung"] > 2 * found["blur"] > 0


def test_a_what_if_says_how_it_hid_and_hides_so(student: Student) -> None:
    """A large effusion: without its lung it is far less likely, and every way of hiding has its words."""
    phantoms = (generate_phantom(seed, size=256) for seed in range(9_310_000, 9_310_100))
    phantom = next(p for p in phantoms if p.severity.get("Effusion", 0) > 0.7)
    found = gather(student, Study("phantom", (phantom.image,)), settings=ExplainSettings(samples=80)).counterfactuals
    mine = {item.region: item for item in found if item.finding == "Effusion"}
    fills = {region: item.fill for region, item in mine.items()}
    assert fills == {"the right lung": "lung", "the left lung": "lung", "the heart": "blur", "the boxed area": "lung_blur"}
    assert set(fills.values()) <= set(load_words("en").data["tables"]["fill"])
    assert min(mine["the right lung"].change, mine["the left lung"].change) < -0.2
