"""Evidence of any model: which findings a story dwells on, what witnesses draw, and what a model lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from evidence_example import in_english
from evidence_models import CalibratedReader, OpenReader, Reader, image_of
from storyxai.errors import GateRefusal, InputError, UnknownNameError, UnsupportedMethodError
from storyxai.evidence.filling import neutral_filling
from storyxai.evidence.gather import (
    MOST_TOLD,
    GatherSettings,
    doubt_of_modality,
    explain_finding,
    gather,
    modality_for,
    told_findings,
)
from storyxai.evidence.predict import Seen, predict
from storyxai.evidence.record import arrays_of, as_record
from storyxai.explain.contract import BLANK_SCENE, DEFAULT_BUDGET, Budget, ExplainedModel, Explanation, Scene
from storyxai.explain.perturbation import hidden_image
from storyxai.explain.registry import METHODS
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.models.runtime import Student, load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.provenance import canonical_json
from storyxai.story.words import words_of
from storyxai.types import Array, Evidence, Finding

SPOTS = Modality("spots", (FindingTerm("Upper_spot"), FindingTerm("Lower_spot")))
UPPER, LOWER = np.zeros((32, 32), np.bool_), np.zeros((32, 32), np.bool_)
UPPER[4:12, 4:12], LOWER[20:28, 16:28] = True, True
REGIONS = {"Upper_spot": UPPER, "Lower_spot": LOWER}


def finding(name: str, probability: float) -> Finding:
    return Finding(name, probability, (probability, probability), 0.3)


def picture() -> np.ndarray:
    """Noise, with a bright upper spot."""
    pixels = 0.3 + 0.1 * np.random.default_rng(3).random((32, 32))
    pixels[UPPER] += 0.5
    return pixels


def spots(model: ExplainedModel, pixels: np.ndarray | None = None, **asked: object) -> Evidence:
    settings = GatherSettings(samples=400, modality=SPOTS)
    image = image_of(picture() if pixels is None else pixels)
    return gather(model, image, settings=settings, **asked)  # type: ignore[arg-type]


def test_what_is_named_is_told_and_nothing_else() -> None:
    """Each named finding gets its second witness; where nothing is calibrated the likeliest others fill up."""
    many = tuple(finding(f"F{i}", 0.4 + 0.01 * i) for i in range(MOST_TOLD + 3))
    assert told_findings(many) == ("F7", "F6", "F5", "F4", "F3")
    few = (finding("P", 0.6), *(finding(f"U{i}", 0.1 + 0.01 * i) for i in range(8)))
    assert told_findings(few) == ("P",)
    assert told_findings(few, calibrated=False) == ("P", "U7", "U6", "U5", "U4")


def test_a_model_that_is_only_a_function_is_told_by_what_it_has() -> None:
    evidence = spots(Reader(REGIONS))
    assert evidence.gaps == ("calibration", "card", "report", "gradients", "distance")
    (told,) = [f for f in evidence.prediction.findings if f.tier == "likely"]
    logit = evidence.prediction.logits["Upper_spot"]
    assert told.name == "Upper_spot" and logit == pytest.approx(8 * picture()[UPPER].mean() - 4, abs=1e-5)
    assert (told.probability, told.threshold) == (pytest.approx(1 / (1 + np.exp(-logit))), 0.5)
    assert told.interval == (told.probability, told.probability)
    assert [(h.finding, h.method) for h in evidence.heatmaps] == [("Upper_spot", "lime"), ("Lower_spot", "lime")]
    assert evidence.heatmaps[0].shown and evidence.heatmaps[0].values[UPPER].mean() > 5 * evidence.heatmaps[0].values.mean()
    assert dict(evidence.provenance["methods_left_out"]) == {"grad_cam": ["features", "gradients"]}
    assert not evidence.prediction.masks and not evidence.prediction.report and not evidence.counterfactuals
    assert as_record(evidence)["gaps"] == sorted(evidence.gaps)


def test_a_model_of_structures_that_it_does_not_draw_says_so() -> None:
    film = image_of(generate_phantom(9_300_001, size=128).image.pixels)
    evidence = gather(Reader({"Effusion": UPPER}), film, methods=["lime"], settings=GatherSettings(samples=200))
    assert "masks" in evidence.gaps and not evidence.concepts
    assert {c.name for c in evidence.checks} == {"not_empty", "stable_over_seeds", "methods_agree"}
    assert {c.name: c.passed for c in evidence.gate}["gate.lung_area"] is None


def test_two_open_methods_are_each_other_s_witness_and_one_look_serves_both() -> None:
    looks: list[int] = []
    evidence = spots(CalibratedReader(REGIONS, looks=lambda: looks.append(1)), methods=["hires_cam", "layer_cam"])
    agreed = {c.method: c for c in evidence.checks if c.name == "methods_agree" and c.finding == "Upper_spot"}
    assert set(agreed) == {"hires_cam", "layer_cam"} and all(c.passed for c in agreed.values())
    # One look for the prediction and both methods, a fresh one for each method's check of repeatability, and one each of
    # the mirrored and the turned image.
    assert len(looks) == 5
    unasked = [in_english(c.about) for c in evidence.checks if c.name == "methods_agree" and c.finding == "Lower_spot"]
    assert len(unasked) == 1 and unasked[0].startswith("not asked")


def test_without_a_calibration_nothing_is_absent_and_every_map_has_its_witness() -> None:
    evidence = spots(OpenReader(REGIONS), methods=["hires_cam", "layer_cam"])
    assert {f.name: f.tier for f in evidence.prediction.findings} == {"Upper_spot": "likely", "Lower_spot": "unlikely"}
    agreed = [c for c in evidence.checks if c.name == "methods_agree" and c.finding == "Lower_spot"]
    assert sorted(c.method for c in agreed if c.limit is not None) == ["hires_cam", "layer_cam"]


def test_a_map_alone_has_no_witness_and_says_so() -> None:
    checks = {(c.finding, c.name): c for c in spots(Reader(REGIONS), methods=["lime"]).checks}
    check = checks["Upper_spot", "methods_agree"]
    assert check.passed is None and in_english(check.about) == "not asked: no other method drew this finding"


@dataclass(frozen=True)
class Told:
    """A method that draws what it is told to."""

    values: np.ndarray
    key: str = "told"
    name: str = "Told"
    needs: frozenset[str] = frozenset({"nothing"})
    checks: tuple[str, ...] = ("methods_agree",)

    def explain(
        self, model: ExplainedModel, image: Array, findings: Sequence[str], budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        return tuple(Explanation(name, self.key, self.values, "logit") for name in findings)


def test_a_method_of_ones_own_enters_as_a_value_and_meets_its_checks() -> None:
    right, wrong = (Told(place.astype(np.float32), key=key) for place, key in ((UPPER, "right"), (LOWER, "wrong")))
    evidence = spots(Reader(REGIONS), methods=["lime", right, wrong])
    passed = {c.method: c.passed for c in evidence.checks if c.name == "methods_agree" and c.finding == "Upper_spot"}
    assert passed == {"lime": True, "right": True, "wrong": False}
    assert [h.method for h in evidence.heatmaps if h.finding == "Upper_spot" and h.doubtful] == ["wrong"]
    with pytest.raises(UnknownNameError, match="check 'method_agrees': is not known — did you mean 'methods_agree'"):
        spots(Reader(REGIONS), methods=[replace(right, checks=("method_agrees",))])


def test_what_cannot_be_asked_is_one_sentence() -> None:
    with pytest.raises(UnsupportedMethodError, match="grad_cam"):
        spots(Reader(REGIONS), methods=["grad_cam"])
    with pytest.raises(UnknownNameError, match="did you mean 'lime'"):
        spots(Reader(REGIONS), methods=["limes"])
    with pytest.raises(InputError, match="methods: is empty"):
        spots(Reader(REGIONS), methods=[])
    with pytest.raises(GateRefusal, match="blank"):
        spots(Reader(REGIONS), np.full((32, 32), 0.5))


def test_a_colour_image_and_a_model_of_three_channels() -> None:
    pixels = np.stack([picture(), picture() * 0.9, picture() * 0.8], axis=2)
    evidence = spots(Reader(REGIONS, channels=3), pixels, methods=["lime"])
    assert evidence.prediction.logits["Upper_spot"] == pytest.approx(8 * (0.9 * picture()[UPPER]).mean() - 4, abs=1e-4)
    grey = spots(Reader(REGIONS), pixels, methods=["lime"])  # the mean of the channels
    assert grey.prediction.logits == pytest.approx(evidence.prediction.logits, abs=1e-4)
    assert all(h.values.shape == (32, 32) for h in (*evidence.heatmaps, *grey.heatmaps))


def test_an_image_is_padded_to_a_square_and_maps_come_back() -> None:
    wide = np.pad(picture(), ((0, 0), (0, 16)))
    evidence = spots(Reader(REGIONS), wide, methods=["lime"])
    assert {h.values.shape for h in evidence.heatmaps} == {(32, 48)}
    with pytest.raises(InputError, match="takes images of 32 x 16"):
        spots(type("Wide", (Reader,), {"input_size": (32, 16)})(REGIONS))


def test_the_same_image_gives_the_same_bytes_twice() -> None:
    def told() -> tuple[bytes, bytes]:
        evidence = spots(OpenReader(REGIONS))
        return canonical_json(as_record(evidence)), b"".join(a.tobytes() for a in arrays_of(evidence).values())

    assert told() == told()


def test_the_modality_is_the_models_or_follows_from_its_findings() -> None:
    assert modality_for(Reader({"pleural effusion": UPPER})) is CHEST
    assert modality_for(Reader(REGIONS)).names == ("Upper_spot", "Lower_spot") and not modality_for(Reader(REGIONS)).structures
    named = type("Named", (Reader,), {"modality": SPOTS})
    assert modality_for(named({"Effusion": UPPER})) is SPOTS


@pytest.mark.parametrize(("names", "chest"), [
    (("Effusion", "Edema"), True),
    (("Pneumonia",), True),
    (("Normal", "Pneumonia"), True),  # "Normal" says nothing
    (("Lung mass",), True),
    (("Mass",), False),  # of a breast, a skin, a liver
    (("Mass", "Nodule"), False),
    (("Mass", "Benign", "Malignant"), False),
    (("Effusion", "Meniscal tear", "Bone marrow edema"), False),  # of a knee
    (("Effusion", "Fracture"), False),
    (("Mass", "Pneumothorax", "Rib fracture"), True),
    (("Atelectasis", "Pneumonia", "Effusion", *(f"sign {one}" for one in range(170))), True),  # PadChest's long list
])
def test_a_chest_model_is_one_most_of_whose_findings_are_of_the_chest_alone(names: tuple[str, ...], chest: bool) -> None:
    model = Reader(dict.fromkeys(names, UPPER))
    assert (modality_for(model) is CHEST) == chest
    doubt = doubt_of_modality(model)
    assert not doubt if chest else "--modality chest_radiograph" in doubt


def test_a_doubt_of_the_kind_of_image_is_said_once_and_not_where_it_is_named() -> None:
    assert not doubt_of_modality(Reader(REGIONS))
    model, image = Reader({"Mass": UPPER}), image_of(picture())
    with pytest.warns(UserWarning, match="'Mass' says too little .*modality=\"chest_radiograph\""):
        evidence = gather(model, image, methods=["lime"], settings=GatherSettings(100))
    assert evidence.provenance["settings"]["modality"] == "image"
    gather(model, image, methods=["lime"], settings=GatherSettings(100, modality=SPOTS))


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student()


@pytest.fixture(scope="module")
def seen(student: Student) -> Seen:
    return predict(student, generate_phantom(9_300_001, size=256).image, CHEST)


def test_what_is_hidden_in_the_lungs_becomes_the_grey_of_the_darker_lung(seen: Seen) -> None:
    """Lungs of 0.3 with an opacity of 0.8 in a third of them, in a body of 0.9: neither opacity nor body moves the grey."""
    left, right = seen.prediction.masks["left_lung"], seen.prediction.masks["right_lung"]
    film = np.full(left.shape, 0.9, np.float32)
    film[left | right] = 0.3
    film[(left | right) & (np.arange(len(film))[:, None] < np.quantile(np.nonzero(left | right)[0], 0.33))] = 0.8
    planted = seen._replace(pixels=seen.frame.to_model(film)[None])
    filled = neutral_filling(planted, CHEST)
    assert filled is not None
    assert filled.tone[0] == pytest.approx(0.3, abs=0.02)
    lungs = seen.frame.mask_to_model(left | right) >= 0.5
    assert (filled.image[0][lungs] == np.float32(filled.tone[0])).all()
    assert (filled.image[0][~lungs] == hidden_image(planted.pixels, fill="blur")[0][~lungs]).all()


def test_without_structures_or_a_filling_the_hidden_is_blurred(seen: Seen) -> None:
    none = {name: np.zeros_like(mask) for name, mask in seen.prediction.masks.items()}
    bare = seen._replace(prediction=replace(seen.prediction, masks=none))
    assert neutral_filling(bare, CHEST) is None and neutral_filling(seen, SPOTS) is None


def test_lime_finds_the_opacity_that_a_blur_would_keep(student: Student, seen: Seen) -> None:
    """A model that reads the mean grey of the left lung, all of it white: what is hidden by its own blur stays white."""
    left = seen.prediction.masks["left_lung"]
    pixels = np.where(left, 0.95, 0.3).astype(np.float32)
    place = seen.frame.mask_to_model(left) >= 0.5
    drawn = {name: seen.frame.to_model(mask.astype(np.float32)) for name, mask in seen.prediction.masks.items()}

    class Drawing(Reader):
        def structures(self, image: Array) -> dict[str, Array]:
            return drawn

    model = Drawing({"Effusion": place}, size=len(place))
    found = {}
    for fill in (None, "blur"):
        lime = replace(METHODS["lime"], fill=fill)  # type: ignore[type-var]
        settings = GatherSettings(samples=300, force=True)
        heatmap, _ = explain_finding(
            model, image_of(pixels), finding="Effusion", method="lime", methods=[lime], settings=settings
        )
        found[fill] = float(heatmap.values[left].mean())
    assert found[None] > 2 * found["blur"] > 0


def test_the_smallest_change_turns_the_finding_and_says_what_hiding_it_gives() -> None:
    """Independent of the search: the stated probability is the model's with so large a part hidden, on the other side."""
    evidence = spots(CalibratedReader(REGIONS), picture() - 0.15 * UPPER)
    (change,) = evidence.smallest_changes
    assert (change.finding, change.limit, change.fill, change.passes <= 200) == ("Upper_spot", 0.5, "blur", True)
    assert change.superpixels is not None and change.share is not None and change.probability is not None
    assert evidence.prediction.findings[0].probability > 0.5 > change.probability
    # The spot, whose mean alone decides, is a sixteenth of the image.
    assert 0.25 / 16 < change.share < 2 / 16
    assert as_record(evidence)["smallest_changes"]["Upper_spot"]["superpixels"] == change.superpixels


def test_no_smallest_change_is_told_where_not_every_part_could_be_tried() -> None:
    settings = GatherSettings(samples=400, modality=SPOTS, passes=10)
    assert gather(CalibratedReader(REGIONS), image_of(picture()), settings=settings).smallest_changes == ()


def test_a_what_if_says_how_it_hid_and_hides_so(student: Student) -> None:
    """A large effusion: without its lung it is far less likely, and every way of hiding has its words."""
    phantoms = (generate_phantom(seed, size=256) for seed in range(9_310_000, 9_310_100))
    phantom = next(p for p in phantoms if p.severity.get("Effusion", 0) > 0.7)
    evidence = gather(student, phantom.image, settings=GatherSettings(samples=80))
    mine = {item.region: item for item in evidence.counterfactuals if item.finding == "Effusion"}
    fills = {region: item.fill for region, item in mine.items()}
    assert fills == {"right_lung": "lung", "left_lung": "lung", "heart": "blur", "box": "lung_blur"}
    assert set(fills.values()) <= set(words_of(CHEST).file.tables["fill"])
    assert min(mine["right_lung"].change, mine["left_lung"].change) < -0.2
    grey = next(h.details["fill"] for h in evidence.heatmaps if h.method == "lime")
    assert re.fullmatch(r"lung: 0\.\d+", str(grey))
    assert evidence.gaps == ()
