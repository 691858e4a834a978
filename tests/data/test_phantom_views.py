"""Other views of the synthetic chest: the solids by closed form, and what each view must show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from view_phantoms import VIEWS, draw_chest, hounsfield, render_view


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_a_picture_and_the_same_draw_gives_the_same_bytes(view: str) -> None:
    first, again = (render_view(view, np.random.default_rng(4), size=40) for _ in range(2))
    assert first.dtype == np.float32 and max(first.shape) == 40
    assert first.min() >= 0 and first.max() <= 1 and np.ptp(first) > 0.3
    assert first.tobytes() == again.tobytes()


def test_tissues_lie_where_they_should() -> None:
    chest = replace(draw_chest(np.random.default_rng(0)), width=140.0, height=230.0, depth=85.0, bulge=15.0, slope=0.4,
                    wall=20.0, heart=50.0, heart_left=0.2, lung=-850.0, dome=(230.0, 230.0), drop=55.0)  # fmt: skip

    def at(x: float, y: float, z: float) -> float:
        return float(hounsfield(chest, np.array(x), np.array(y), np.array(z)))

    assert at(75, 115, 0) == at(-75, 115, 0) == -850  # both lungs
    assert at(0, 115, -0.72 * 85 - 15) > 200  # a vertebra, or the gap's soft tissue beside it would be 40
    assert at(400, 115, 0) == -1000  # outside
    assert at(10, 0.8 * 230 - 17, 40) == 40  # the heart, in front
    assert at(0, 300, 0) == 40  # below the dome
    mirrored = [at(-x, 150, 30) for x in (60.0, 90.0, 120.0)]
    assert [at(x, 150, 30) for x in (90.0, 120.0)] == mirrored[1:]  # sideways of the heart the body is symmetric


def test_a_lateral_shows_one_pair_of_lungs_over_another_and_a_frontal_view_a_bright_middle() -> None:
    """At the level of the aortic arch a frontal view is brighter in the middle than beside it, a lateral view is not."""
    def middle_over_sides(view: str, seed: int) -> float:
        pixels = render_view(view, np.random.default_rng([8, seed]), size=48)
        rows, width = pixels[len(pixels) * 2 // 5 : len(pixels) // 2], pixels.shape[1]
        sides = np.r_[rows[:, width // 4 : width * 3 // 8].ravel(), rows[:, width * 5 // 8 : width * 3 // 4].ravel()]
        return float(np.median(rows[:, width * 15 // 32 : width * 17 // 32]) - np.median(sides))

    frontal, lateral = ([middle_over_sides(view, seed) for seed in range(6)] for view in ("frontal", "lateral"))
    assert min(frontal) > 0.1
    assert np.mean(lateral) < np.mean(frontal) / 2
