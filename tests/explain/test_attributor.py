"""Our own attributors meet the contract that we ask of others, and the contract catches those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from checks.attributor_checks import INSIDE, LEFT, OUTSIDE, RIGHT, SIDE
from storyxai.errors import UnknownNameError
from storyxai.explain.attributor import METHODS, Attributor, GradCam, Lime, Occlusion, Rise, attributor_named

ATTRIBUTORS = {
    "lime": Lime(samples=300, superpixels=36),
    "occlusion": Occlusion(window_share=0.25, stride_share=0.12),
    "rise": Rise(samples=400, cells=6),
}


@pytest.mark.parametrize("check", OUTSIDE, ids=lambda c: c.__name__)
@pytest.mark.parametrize("attributor", ATTRIBUTORS.values(), ids=ATTRIBUTORS.keys())
def test_contract(attributor: Attributor, check) -> None:
    check(attributor)


def look(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two-square model as features (two channels on a 12 x 12 grid: left half, right half) and their gradients."""
    cells = image.reshape(12, SIDE // 12, -1, SIDE // 12).mean(axis=(1, 3))
    features = np.zeros((2, 12, 12), dtype=np.float32)
    features[0, 4:8, 1:5] = cells[4:8, 1:5]
    features[1, 4:8, 7:11] = cells[4:8, 7:11]
    gradients = np.zeros((2, 2, 12, 12), dtype=np.float32)
    gradients[0, 0], gradients[1, 1] = 0.5, -0.5
    return features, gradients


@pytest.mark.parametrize("check", INSIDE, ids=lambda c: c.__name__)
def test_contract_of_one_that_looks_inside(check) -> None:
    check(GradCam(look, signed=True))


def test_contract_catches_faults() -> None:
    lime = ATTRIBUTORS["lime"]

    def normalised(predict, image, findings):
        maps = lime(predict, image, findings)
        return maps / np.maximum(np.abs(maps).max(axis=(1, 2), keepdims=True), 1e-9)

    def inverted(predict, image, findings):
        return -lime(predict, image, findings)

    faults = {"check_scale_is_kept": normalised, "check_place_and_sign": inverted}
    for check in OUTSIDE:
        if check.__name__ in faults:
            with pytest.raises(AssertionError):
                check(faults[check.__name__])


def test_names() -> None:
    kinds = {name: type(attributor_named(name)) for name in METHODS}
    assert kinds == {"lime": Lime, "occlusion": Occlusion, "rise": Rise}
    with pytest.raises(UnknownNameError, match="did you mean 'lime'"):
        attributor_named("lme")


def test_squares_do_not_touch() -> None:
    image = np.zeros((SIDE, SIDE))
    image[LEFT] += 1
    image[RIGHT] += 1
    assert image.max() == 1
