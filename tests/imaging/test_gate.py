"""The gate: simple faults on made pictures, words for each, and real films let through."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from evidence_example import in_english
from storyxai.errors import GateRefusal
from storyxai.imaging.distance import Nearness
from storyxai.imaging.gate import judge, refuse
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.gate import RULES, thumbnail
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.runtime import load_student
from storyxai.phantoms.generate import generate_phantom
from storyxai.types import Image, Remark, doubts_of


def film(pixels: np.ndarray, **about: object) -> Image:
    return replace(Image(pixels.astype(np.float32), "0" * 64, "film.png"), **about)  # type: ignore[arg-type]


def sketch(height: int = 400, width: int = 400) -> np.ndarray:
    """Two dark lungs, a bright middle and a heart on the picture's right, as a frontal film has them."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    body = 0.65 * np.exp(-(((x - 0.5) / 0.5) ** 8)) + 0.15 * y
    for centre in (0.29, 0.71):
        body -= 0.45 * np.exp(-((((x - centre) / 0.16) ** 4) + ((y - 0.45) / 0.33) ** 4))
    body += 0.3 * np.exp(-((((x - 0.57) / 0.14) ** 2) + ((y - 0.62) / 0.16) ** 2))
    ripples = 0.02 * np.sin(60 * y + 3 * np.cos(9 * x))
    return np.clip(body + ripples, 0, 1)


def failed(image: Image, **given: object) -> set[str]:
    return {check.name for check in judge(image, CHEST, **given) if check.passed is False}  # type: ignore[arg-type]


def test_every_rule_gives_one_check_in_words() -> None:
    checks = judge(film(sketch()), CHEST)
    assert [check.name for check in checks] == [rule.name for rule in RULES]
    told = [in_english(check.about) for check in checks]
    assert all(text.endswith(".") and text[0].isupper() for text in told)
    asked_of_model = {"gate.lung_area", "gate.lung_sides", "gate.lung_edges", "gate.distance", "gate.taught", "gate.age"}
    assert {check.name for check in checks if check.passed is None} == asked_of_model
    refuse(film(sketch()), checks, CHEST)


@pytest.mark.parametrize(
    ("turn", "rule", "seen"),
    [
        (lambda p: 1 - p, "gate.inverted", "inverted"),
        (lambda p: p[::-1], "gate.upside_down", "upside down"),
        (lambda p: np.rot90(p), "gate.rotated", "90 degrees"),
        (lambda p: np.rot90(p, -1), "gate.rotated", "90 degrees"),
        (lambda p: np.full_like(p, 0.5), "gate.contrast", "blank"),
        (lambda p: p[:100, :100], "gate.size", "too small"),
        (lambda p: p[:120], "gate.aspect", "narrow strip"),
        (lambda p: (p > 0.5) * 1.0, "gate.flat", "flat"),
    ],
)
def test_a_fault_is_refused_with_what_was_seen(turn: object, rule: str, seen: str) -> None:
    spoiled = film(np.ascontiguousarray(turn(sketch(430, 430))))  # type: ignore[operator]
    checks = judge(spoiled, CHEST)
    assert rule in {check.name for check in checks if check.passed is False}
    with pytest.raises(GateRefusal, match=seen) as refused:
        refuse(spoiled, checks, CHEST)
    assert refused.value.exit_status == 3 and refused.value.mend


@pytest.mark.parametrize(("turn", "seen", "mend"), [
    (lambda p: 1 - p, "the grey values look inverted (bright lungs)", "invert the picture, or give the original DICOM file"),
    (lambda p: p[::-1, ::-1], "the picture looks upside down", "turn it so that the head is up"),
    (lambda p: p[::-1], "the picture looks upside down", "turn it so that the head is up"),
    (lambda p: np.rot90(p), "the picture looks turned by 90 degrees", "turn it so that the head is up"),
    (lambda p: np.rot90(p, -1), "the picture looks turned by 90 degrees", "turn it so that the head is up"),
    (lambda p: np.random.default_rng(5).random(p.shape), "the picture does not resemble a frontal chest film",
     "give a frontal chest radiograph"),
])
def test_a_refusal_names_the_one_fault_whose_mend_would_make_a_chest_film(turn: object, seen: str, mend: str) -> None:
    """An inverted film was called inverted, upside down, turned by 90 degrees and no chest in one breath."""
    spoiled = film(np.ascontiguousarray(turn(sketch(430, 430))))  # type: ignore[operator]
    with pytest.raises(GateRefusal) as refused:
        refuse(spoiled, judge(spoiled, CHEST), CHEST)
    assert (refused.value.seen, refused.value.mend) == (seen, mend)


def test_what_the_file_says_is_heard() -> None:
    fine = sketch()
    assert "gate.body_part" in failed(film(fine, notes=("body part: HIP",)))
    assert "gate.body_part" not in failed(film(fine, notes=("body part: CHEST",)))
    assert "gate.body_part" not in failed(film(fine, notes=("body part: CHEST_ABDOMEN",)))
    for part in ("SHOULDER", "LUMBAR SPINE", "NECK", "L-SPINE", "HEAD"):
        assert "gate.body_part" in failed(film(fine, notes=(f"body part: {part}",))), part
    for part in ("HÜFTE", "GENOU", "RODILLA", "CRÁNEO", "FUß", "UPPER_EXM", "ABD", "KUB", "HWS", "SCHÄDEL"):
        assert "gate.body_part" in failed(film(fine, notes=(f"body part: {part}",))), part
    for part in ("TÓRAX", "POUMON", "CHEST-ABD", "BRUSTKORB", "CHST", "PIECE", "REMAIN"):
        assert "gate.body_part" not in failed(film(fine, notes=(f"body part: {part}",))), part
    for part in ("THORAX", "TORAX", "CHEST PA", "RIBS", "RIBCAGE", "LUNG", "UNKNOWN", "T-SPINE"):
        assert "gate.body_part" not in failed(film(fine, notes=(f"body part: {part}",))), part
    assert {view for view in ("PA", "AP", "LATERAL", "OTHER", "unknown") if "gate.view" in failed(film(fine, view=view))} == {
        "LATERAL", "OTHER",
    }  # fmt: skip
    assert "gate.colour" in failed(film(fine, notes=("colour: 61.0% of the pixels are coloured",)))
    assert "gate.colour" not in failed(film(fine, notes=("colour: 0.7% of the pixels are coloured",)))


def test_a_mirrored_film_warns_and_is_not_refused() -> None:
    """The rule is antisymmetric by construction, so of a film and its mirror image exactly one is in doubt."""
    pair = [judge(film(np.ascontiguousarray(p)), CHEST) for p in (sketch(), sketch()[:, ::-1])]
    values = [next(check.value for check in checks if check.name == "gate.mirrored") for checks in pair]
    assert values[0] is not None and values[1] is not None
    assert values[0] < 0.5 < values[1]
    assert values[0] + values[1] == pytest.approx(1, abs=0.02)
    refuse(film(sketch()), pair[1], CHEST)


def test_a_blurred_or_faint_film_warns_and_is_not_refused() -> None:
    """A blurred film had no warning at all. Blur leaves contrast, and less contrast leaves sharpness as they are."""
    clear = generate_phantom(3, size=256).image.pixels
    faint, blurred = 0.5 + 0.12 * (clear - 0.5), gaussian_filter(clear, 4).astype(np.float32)
    about = {"gate.blurred", "gate.faint"}
    assert [failed(film(pixels)) & about for pixels in (clear, faint, blurred)] == [set(), {"gate.faint"}, {"gate.blurred"}]
    for pixels in (faint, blurred):
        refuse(film(pixels), judge(film(pixels), CHEST), CHEST)
    values = {name: [next(c.value for c in judge(film(p), CHEST) if c.name == name) for p in (clear, faint)] for name in about}
    assert values["gate.blurred"][0] == pytest.approx(values["gate.blurred"][1], rel=0.02)
    assert values["gate.faint"][1] == pytest.approx(0.12 * values["gate.faint"][0], rel=0.02)
    assert "gate.blurred" not in failed(film(np.full((200, 200), 0.5)))


def test_what_the_student_found_is_judged() -> None:
    left, right = np.zeros((400, 400), np.bool_), np.zeros((400, 400), np.bool_)
    left[80:320, 230:350], right[80:320, 60:180] = True, True
    image = film(sketch())
    names = {"gate.lung_area", "gate.lung_sides", "gate.lung_edges"}
    assert not failed(image, masks={"left_lung": left, "right_lung": right}) & names
    assert "gate.lung_sides" in failed(image, masks={"left_lung": right, "right_lung": left})
    wide = left.copy()
    wide[:, 150:] = True
    assert "gate.lung_edges" in failed(image, masks={"left_lung": wide, "right_lung": right})
    assert "gate.lung_area" in failed(image, masks={})
    assert "gate.distance" in failed(image, near=Nearness(5.0, 4.0))
    assert "gate.distance" not in failed(image, near=Nearness(3.0, 4.0))


def test_a_film_like_those_that_taught_no_findings_and_one_of_a_young_child_leave_nothing_to_tell() -> None:
    """What the model never learned findings from it warned of nothing about, and told as it tells adults' films."""
    image = film(sketch())
    about = {"gate.taught", "gate.age"}
    for years, near, expected in (
        (None, None, set()), (40.0, Nearness(3.0, 4.0, -1.0, 11.0), set()),
        (None, Nearness(3.0, 4.0, 0.5, 11.0), {"gate.taught"}),
        (11.0, Nearness(3.0, 4.0, None, 11.0), set()), (2.0, Nearness(3.0, 4.0, -1.0, 11.0), {"gate.age"}),
        (2.0, Nearness(3.0, 4.0), set()), (2.0, Nearness(3.0, 4.0, 0.5, 11.0), about),
    ):
        checks = judge(replace(image, age_years=years), CHEST, near=near)
        refuse(image, checks, CHEST)
        found = {check.name for check in checks if check.passed is False} & about
        assert found == expected == set(doubts_of(checks)) & about
    unstated = next(one for one in judge(image, CHEST, near=Nearness(3.0, 4.0, None, 11.0)) if one.name == "gate.age")
    assert unstated.passed is None and unstated.about == Remark("gate_unstated")


def test_the_thumbnail_knows_order_not_exposure() -> None:
    pixels = np.random.default_rng(0).random((16, 16)).repeat(20, axis=0).repeat(16, axis=1).astype(np.float32)
    ranks = thumbnail(pixels)
    assert ranks.shape == (256,)
    assert ranks.mean() == pytest.approx(0, abs=1e-9)
    assert thumbnail(1 - pixels) == pytest.approx(-ranks, abs=0.02)
    assert thumbnail(np.float32(0.2) + np.float32(0.6) * pixels) == pytest.approx(ranks, abs=0.02)
    assert (thumbnail(np.zeros((128, 128), np.float32)) == 0).all()


@pytest.mark.real
def test_real_films_pass_and_spoiled_ones_do_not(real_data: Path) -> None:
    """Films of patients who had no part in the calibration; benchmarks/gate_score.py gives the whole table."""
    score = importlib.import_module("gate_score")
    rng = np.random.default_rng(5)
    everything = [entry for entry in score.films(real_data) if not entry.calibrates]
    images = [read_image(everything[i].path) for i in rng.permutation(len(everything))[:60]]
    refused = sum(score.outcome(image, image.pixels)[0] for image in images)
    assert refused <= 3
    for fault in ("inverted", "down", "left", "right", "blank", "noise", "page"):
        caught = sum(any(score.outcome(image, score.spoiled(image.pixels, fault, rng))[:2]) for image in images[:40])
        assert caught >= 37, fault


@pytest.mark.real
def test_films_of_children_are_known_by_the_shipped_student_and_those_of_adults_are_not_taken_for_them(real_data: Path) -> None:
    student = load_student()
    known = student.distance
    assert known is not None

    def nearer(path: Path) -> bool:
        pixels = read_image(path).pixels
        view = model_frame(*pixels.shape, size=student.size).to_model(pixels)
        untaught = known.of(student.answer(view[None]).features).untaught
        assert untaught is not None
        return untaught > 0

    children = sorted((real_data / "kermany" / "images" / "NORMAL").glob("*.jpg"))[::10]
    adults = sorted((real_data / "nih" / "images").glob("*.jpg"))[::40]
    assert min(len(children), len(adults)) > 20
    assert np.mean([nearer(path) for path in children]) > 0.9
    assert np.mean([nearer(path) for path in adults]) < 0.1


@pytest.mark.real
def test_other_body_parts_are_refused_and_the_chest_is_not(real_data: Path) -> None:
    chest = read_image(real_data / "dicom" / "RG1_J2KI.dcm")
    refuse(chest, judge(chest, CHEST), CHEST)
    for name in ("RG2_J2KI", "RG3_J2KI"):
        other = read_image(real_data / "dicom" / "odd" / f"{name}.dcm")
        with pytest.raises(GateRefusal, match="another body part"):
            refuse(other, judge(other, CHEST), CHEST)


@pytest.mark.parametrize("tilt", [0.0, 0.02, -0.03])
@pytest.mark.parametrize("turns", [0, 1])
def test_a_photograph_of_a_light_box_is_warned_of(tilt: float, turns: int) -> None:
    """Told as if it were a film; dark surroundings are a film's own, and one bright side is a marker's or a lead apron's."""
    y, x = np.mgrid[0:500, 0:500] / 500.0
    inside = (abs(x - 0.5 + tilt * (y - 0.5)) < 0.4) & (abs(y - 0.5 - tilt * (x - 0.5)) < 0.42)
    placed = np.zeros((500, 500))
    placed[50:450, 50:450] = sketch()
    photograph = np.rot90(np.where(inside, 0.1 + 0.8 * placed, 0.93), turns)
    assert "gate.framed" in failed(film(photograph))
    collimated = np.rot90(np.where(inside, 0.1 + 0.8 * placed, 0.0), turns)
    assert "gate.framed" not in failed(film(collimated))
    one_side = np.where((x < 0.1)[..., None].squeeze(), 0.93, 0.1 + 0.8 * placed)
    assert "gate.framed" not in failed(film(one_side))


@pytest.mark.parametrize("greys", [2, 4, 15])
def test_a_picture_of_a_few_greys_is_refused(greys: int) -> None:
    """A film copied in one bit, dithered, looks like one from afar, and was told as one."""
    noise = np.random.default_rng(3).uniform(0, 1, (400, 400)) if greys == 2 else 0.5
    few = np.clip(np.floor(sketch() * (greys - 1) + noise), 0, greys - 1) / (greys - 1)
    assert "gate.greys" in failed(film(few)) and "gate.greys" not in failed(film(sketch()))
    with pytest.raises(GateRefusal, match="only a few grey values"):
        refuse(film(few), judge(film(few), CHEST), CHEST)
