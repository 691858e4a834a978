"""Conformance suite for attributors: run it on your own with `check_attributor(your_attributor)`.

It needs a model whose answer is known on paper. `bright_square_model` has two logits: the mean grey of a square on the
left, and minus the mean grey of a square on the right. So the first map must be positive on the left square and the
second negative on the right one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.explain.attributor import Attributor
from storyxai.types import Array

SIDE = 48
LEFT = np.s_[16:32, 4:20]
RIGHT = np.s_[16:32, 28:44]
FINDINGS = ("left square", "right square")


def bright_square_model(batch: Array) -> Array:
    """Logits [B, 2]: 8 x mean of the left square, -8 x mean of the right one."""
    left = batch[:, 0][(slice(None), *LEFT)].mean(axis=(1, 2))
    right = batch[:, 0][(slice(None), *RIGHT)].mean(axis=(1, 2))
    return np.stack([8 * left, -8 * right], axis=1).astype(np.float32)


def two_squares() -> Array:
    """Both squares bright on a dim gradient, so that hiding them changes something under any fill."""
    image = np.tile(np.linspace(0.05, 0.15, SIDE, dtype=np.float32), (SIDE, 1))
    image[LEFT] = 0.9
    image[RIGHT] = 0.9
    return image


def check_shape_and_kind(attributor: Attributor) -> None:
    maps = attributor(bright_square_model, two_squares(), FINDINGS)
    assert maps.shape == (2, SIDE, SIDE), "one map per finding, in the image's own frame"
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()


def check_oblong_frame(attributor: Attributor) -> None:
    image = two_squares()[8:40]
    assert attributor(lambda batch: batch[:, 0].mean(axis=2)[:, :3], image, ("a", "b", "c")).shape == (3, 32, SIDE)


def check_repeatable(attributor: Attributor) -> None:
    first, again = (attributor(bright_square_model, two_squares(), FINDINGS) for _ in range(2))
    assert first.tobytes() == again.tobytes(), "the same call must give the same bytes"


def check_no_global_state(attributor: Attributor) -> None:
    np.random.seed(5)  # noqa: NPY002 - the check is that the global generator is left alone
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    attributor(bright_square_model, two_squares(), FINDINGS)
    assert (np.random.get_state()[1] == before).all(), "the global random state was used"  # noqa: NPY002


def check_input_unchanged(attributor: Attributor) -> None:
    image = two_squares()
    attributor(bright_square_model, image, FINDINGS)
    assert (image == two_squares()).all(), "the image was changed"


def check_place_and_sign(attributor: Attributor) -> None:
    first, second = attributor(bright_square_model, two_squares(), FINDINGS)
    assert first[LEFT].mean() > 3 * np.abs(first[RIGHT]).mean(), "evidence for the first logit lies in the left square"
    assert second[RIGHT].mean() < -3 * np.abs(second[LEFT]).mean(), "evidence against the second is negative, right"


def check_scale_is_kept(attributor: Attributor) -> None:
    plain = attributor(bright_square_model, two_squares(), FINDINGS)
    threefold = attributor(lambda batch: 3 * bright_square_model(batch), two_squares(), FINDINGS)
    np.testing.assert_allclose(threefold, 3 * plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


def check_constant_model(attributor: Attributor) -> None:
    maps = attributor(lambda batch: np.full((len(batch), 2), 1.5, dtype=np.float32), two_squares(), FINDINGS)
    assert np.abs(maps).max() < 1e-6, "a model that never changes its mind has no evidence"


def check_sees_real_batches(attributor: Attributor) -> None:
    sizes: list[int] = []

    def counting(batch: Array) -> Array:
        sizes.append(len(batch))
        return bright_square_model(batch)

    attributor(counting, two_squares(), FINDINGS)
    assert not sizes or max(sizes) > 1, "the model was called image by image"


def check_bad_calls(attributor: Attributor) -> None:
    image = two_squares()
    for bad in (image[None], np.full_like(image, np.nan), image + 5):
        with pytest.raises(InputError):
            attributor(bright_square_model, bad, FINDINGS)
    with pytest.raises(InputError):
        attributor(bright_square_model, image, (*FINDINGS, "a third that the model lacks"))


# Checks for attributors that ask `predict`; an attributor that looks inside a model gets those of `INSIDE` only.
OUTSIDE: tuple[Callable[[Attributor], None], ...] = (
    check_shape_and_kind,
    check_oblong_frame,
    check_repeatable,
    check_no_global_state,
    check_input_unchanged,
    check_place_and_sign,
    check_scale_is_kept,
    check_constant_model,
    check_sees_real_batches,
    check_bad_calls,
)
INSIDE = (
    check_shape_and_kind,
    check_repeatable,
    check_no_global_state,
    check_input_unchanged,
    check_place_and_sign,
    check_bad_calls,
)


def check_attributor(attributor: Attributor) -> None:
    """Every check that fits an attributor which asks `predict`; raises AssertionError on the first that fails."""
    for check in OUTSIDE:
        check(attributor)
