"""What the gate takes a picture for: features against a plain reading of their definition, then rendered and real views."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from storyxai.errors import GateRefusal
from storyxai.imaging.gate import judge, refuse
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.gate_view import REFUSE, describe, reduce_picture, view_odds
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.phantoms.generate import generate_phantom
from storyxai.types import Image
from view_phantoms import render_view

ROOT = Path(__file__).resolve().parents[2]


def picture(pixels: np.ndarray) -> Image:
    """A file that says nothing of its view, at a size that the gate accepts."""
    return Image(np.kron(pixels, np.ones((3, 3), np.float32)).astype(np.float32), "0" * 64, "picture.png")


def ranks_by_definition(small: np.ndarray) -> np.ndarray:
    levels = np.rint(small * 255)
    darker = (levels.ravel()[None] < levels.ravel()[:, None]).mean(axis=1)
    equal = (levels.ravel()[None] == levels.ravel()[:, None]).mean(axis=1)
    return (darker + equal / 2).reshape(small.shape)


def gradients_by_definition(values: np.ndarray) -> np.ndarray:
    cells = np.zeros((8, 8, 9))
    for row in range(64):
        for column in range(64):
            down = values[row + 1, column] - values[row - 1, column] if 0 < row < 63 else 0.0
            across = values[row, column + 1] - values[row, column - 1] if 0 < column < 63 else 0.0
            place = np.arctan2(down, across) / np.pi % 1 * 9
            low, strength = int(place) % 9, np.hypot(down, across)
            cells[row // 8, column // 8, low] += strength * (1 - place % 1)
            cells[row // 8, column // 8, (low + 1) % 9] += strength * (place % 1)
    rows = []
    for i in range(7):
        for j in range(7):
            block = np.concatenate([cells[i + a, j + b] for a in (0, 1) for b in (0, 1)])
            rows.append(block / np.sqrt((block**2).sum() + 0.5))
    return np.concatenate(rows)


def test_the_features_are_what_they_are_said_to_be() -> None:
    small = np.random.default_rng(0).random((2, 64, 64)).astype(np.float32) ** 2
    small[1, :, :20] = 0
    found = describe(small)
    assert found.shape == (2, 2164)
    for features, values in zip(found, small, strict=True):
        ranks = ranks_by_definition(values)
        assert features[:1764] == pytest.approx(gradients_by_definition(ranks), abs=2e-5)
        coarse = ranks.reshape(16, 4, 16, 4).mean(axis=(1, 3))
        assert features[1764:2020] == pytest.approx(2 * coarse.ravel(), abs=1e-5)
        assert features[2020:2148] == pytest.approx(2 * np.abs(coarse - coarse[:, ::-1])[:, :8].ravel(), abs=1e-5)
        assert features[2148:2156] == pytest.approx(2 * ranks.std(axis=0)[::8], abs=1e-5)


def test_exposure_and_single_valued_borders_do_not_count() -> None:
    levels = np.random.default_rng(1).integers(0, 100, (64, 64))
    dim, bright = (levels / 255).astype(np.float32), ((2 * levels + 50) / 255).astype(np.float32)
    assert np.array_equal(describe(dim[None]), describe(bright[None]))
    inner = generate_phantom(3, size=128).image.pixels[:, :96]
    framed = np.full((128, 192), np.float32(0.02))
    framed[:, 48:144] = inner
    assert np.abs(reduce_picture(framed) - reduce_picture(inner)).mean() < 0.03


def test_frontal_phantoms_pass_and_rendered_laterals_and_slices_do_not() -> None:
    frontal = [max(view_odds(generate_phantom(70_000 + seed, size=128).image.pixels).values()) for seed in range(12)]
    assert max(frontal) < REFUSE
    for view, kind in (("lateral", "lateral"), ("axial", "slice"), ("sagittal", "slice")):
        told = [view_odds(render_view(view, np.random.default_rng([5, seed]), size=64)) for seed in range(8)]
        assert sum(odds[kind] > REFUSE for odds in told) >= 7, view


@pytest.mark.parametrize(("view", "seen", "mend"), [
    ("lateral", "the picture looks like a lateral view", "give the frontal (PA or AP) film of the study"),
    ("axial", "the picture looks like a slice (as of a CT), not a frontal chest film", "give a frontal chest radiograph"),
])
def test_a_refusal_says_what_the_picture_looks_like_and_nothing_else(view: str, seen: str, mend: str) -> None:
    image = picture(render_view(view, np.random.default_rng(2), size=80))
    with pytest.raises(GateRefusal) as refused:
        refuse(image, judge(image, CHEST), CHEST)
    assert (refused.value.seen, refused.value.mend) == (seen, mend)


def test_a_frontal_film_that_lies_wrongly_is_told_the_mend_not_that_it_is_none() -> None:
    pixels = generate_phantom(12, size=128).image.pixels
    faults = ((np.rot90(pixels), "turned by 90 degrees"), (pixels[::-1, ::-1], "upside down"), (1 - pixels, "inverted"))
    for turned, seen in faults:
        image = Image(np.ascontiguousarray(turned), "0" * 64, "turned.png")
        with pytest.raises(GateRefusal, match=seen) as refused:
            refuse(image, judge(image, CHEST), CHEST)
        assert ";" not in refused.value.seen


@pytest.mark.real
def test_real_laterals_and_slices_without_tags_are_refused_and_the_frontal_films_beside_them_pass() -> None:
    cases = Path(os.environ.get("STORYXAI_CASES") or ROOT.parent / "shared" / "cases")
    if not cases.is_dir():
        pytest.skip("the cases are absent: set STORYXAI_CASES to their folder")

    def odds(pattern: str) -> list[dict[str, float]]:
        return [dict(view_odds(read_image(path).pixels)) for path in sorted(cases.glob(pattern))]

    laterals, slices, frontal = odds("01*/*.png") + odds("07*/L*.png"), odds("02*/*.png"), odds("07*/F*.png")
    assert sum(max(one.values()) > REFUSE for one in laterals) >= 0.95 * len(laterals) > 0
    assert sum(max(one.values()) > REFUSE for one in slices) >= len(slices) - 1 > 0
    assert all(max(one.values()) <= REFUSE for one in frontal)
