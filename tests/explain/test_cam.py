"""Grad-CAM and the grid head's closed-form gradients: on paper, by finite differences, against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from storyxai.errors import InputError
from storyxai.explain.cam import OUTSIDE, cell_shares, fine_map, grad_cam, grid_head_gradients, resize_maps

K, J, F, H, W = 5, 7, 3, 4, 6


def head(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = ((K, H, W), (J, K), (J,), (F, J), (F,))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


SHARPNESS = np.array([0.7, 3.0, 12.0], dtype=np.float32)


def test_cam_on_paper() -> None:
    features = np.array([[[1, 2], [3, 4]], [[1, 0], [0, 0]]], dtype=np.float32)
    gradients = np.zeros((2, 2, 2, 2), dtype=np.float32)
    gradients[0, 0] = [[4, 0], [0, 0]]  # mean 1
    gradients[0, 1] = -2  # mean -2
    gradients[1, 0] = -1
    expected = np.array([[[-1, 2], [3, 4]], [[-1, -2], [-3, -4]]], dtype=np.float32)
    np.testing.assert_array_equal(grad_cam(features, gradients, signed=True), expected)
    np.testing.assert_array_equal(grad_cam(features, gradients), np.maximum(expected, 0))


def test_maps_stay_comparable() -> None:
    features, *weights = head()
    _, gradients = grid_head_gradients(features, *weights, SHARPNESS)
    maps = grad_cam(features, gradients)
    stronger = grad_cam(features, gradients * np.array([1, 2, 5], dtype=np.float32)[:, None, None, None])
    np.testing.assert_allclose(stronger, maps * np.array([1, 2, 5])[:, None, None], rtol=1e-6)


def test_head_on_paper() -> None:
    # One channel, identity head, two cells 0 and ln 3 with r = 1: z = ln((1 + 3) / 2) = ln 2, softmax 1/4 and 3/4.
    features = np.array([[[0.0, np.log(3)]]], dtype=np.float32) + 1
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    logits, gradients = grid_head_gradients(features, one, zero, one, zero, 1.0)
    assert logits[0] == pytest.approx(1 + np.log(2), abs=1e-6)
    np.testing.assert_allclose(gradients[0, 0, 0], [0.25, 0.75], atol=1e-6)


def test_head_agrees_with_finite_differences() -> None:
    features, *weights = head(1)
    exact = [array.astype(np.float64) for array in (features, *weights)]
    _, gradients = grid_head_gradients(*exact, SHARPNESS)

    def logits(moved: np.ndarray) -> np.ndarray:
        v, c, w, b = exact[1:]
        grid = w @ np.maximum(v @ moved.reshape(K, -1) + c[:, None], 0) + b[:, None]
        r = SHARPNESS.astype(np.float64)[:, None]
        return np.log(np.exp(r * grid).mean(axis=1)) / r[:, 0]

    np.testing.assert_allclose(grid_head_gradients(*exact, SHARPNESS)[0], logits(exact[0]), rtol=1e-5)
    for place in ((0, 0, 0), (2, 3, 1), (4, 1, 5), (1, 2, 2)):
        step = np.zeros((K, H, W))
        step[place] = 1e-5
        slope = (logits(exact[0] + step) - logits(exact[0] - step)) / 2e-5
        np.testing.assert_allclose(gradients[(slice(None), *place)], slope, atol=1e-6)


def test_head_agrees_with_autograd() -> None:
    torch = pytest.importorskip("torch")
    features, v, c, w, b = head(2)
    leaf = torch.tensor(features, dtype=torch.float64, requires_grad=True)
    hidden = torch.relu(torch.einsum("jk,khw->jhw", torch.tensor(v).double(), leaf) + torch.tensor(c)[:, None, None])
    grid = torch.einsum("fj,jhw->fhw", torch.tensor(w).double(), hidden).flatten(1) + torch.tensor(b)[:, None]
    r = torch.tensor(SHARPNESS, dtype=torch.float64)
    expected = (torch.logsumexp(r[:, None] * grid, dim=1) - np.log(H * W)) / r
    logits, gradients = grid_head_gradients(features, v, c, w, b, SHARPNESS)
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=1e-5)
    for f in range(F):
        (oracle,) = torch.autograd.grad(expected[f], leaf, retain_graph=True)
        np.testing.assert_allclose(gradients[f], oracle.numpy(), atol=1e-6)


def test_shares_on_paper() -> None:
    # Cells 0 and ln 3 that count 1 and 3, r = 1: z = ln((1 + 3 * 3) / (1 + 3)), softmax 1/10 and 9/10.
    features = np.array([[[0.0, np.log(3)]]], dtype=np.float32) + 1
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    shares = np.array([[0.25, 0.75]], np.float32)
    logits, gradients = grid_head_gradients(features, one, zero, one, zero, 1.0, shares)
    assert logits[0] == pytest.approx(1 + np.log(2.5), abs=1e-6)
    np.testing.assert_allclose(gradients[0, 0, 0], [0.1, 0.9], atol=1e-6)


@pytest.mark.parametrize("even", [1.0, OUTSIDE])
def test_a_structure_that_is_everywhere_or_nowhere_leaves_the_plain_head(even: float) -> None:
    features, *weights = head(3)
    plain = grid_head_gradients(features, *weights, SHARPNESS)
    shared = grid_head_gradients(features, *weights, SHARPNESS, np.full((H, W), even, np.float32))
    for ours, theirs in zip(shared, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_pooling_within_a_structure_is_pooling_of_its_cells() -> None:
    features, *weights = head(4)
    inside = np.zeros((H, W), np.float32)
    inside[1:3, 2:4] = 1
    shares = np.maximum(inside, 1e-12)
    within, gradients = grid_head_gradients(features, *weights, 0.7, shares)
    alone, theirs = grid_head_gradients(features[:, 1:3, 2:4], *weights, 0.7)
    np.testing.assert_allclose(within, alone, rtol=1e-5)
    np.testing.assert_allclose(gradients[:, :, 1:3, 2:4], theirs, rtol=1e-5, atol=1e-7)
    assert np.abs(gradients * (1 - inside)).max() < 1e-6 * np.abs(gradients).max()


def test_shares_of_cells_by_hand() -> None:
    inside = np.kron(np.array([[1.0, 0.0], [0.5, 0.25]]), np.ones((4, 4))).astype(np.float32)
    wanted = [[1, OUTSIDE], [0.5 + 0.5 * OUTSIDE, 0.25 + 0.75 * OUTSIDE]]
    np.testing.assert_allclose(cell_shares(inside, height=2, width=2), wanted, rtol=1e-6)
    half = np.zeros((8, 8), np.float32)
    half[:, :2] = 1
    np.testing.assert_allclose(cell_shares(half, height=1, width=1), [[0.25 + 0.75 * OUTSIDE]], rtol=1e-6)


def test_sharp_and_large_logits_do_not_overflow() -> None:
    features, *weights = head()
    logits, gradients = grid_head_gradients(features * 1000, *weights, 50.0)
    assert np.isfinite(logits).all()
    assert np.isfinite(gradients).all()


def test_resize_keeps_the_place() -> None:
    maps = np.zeros((1, 7, 7), dtype=np.float32)
    maps[0, 1, 5] = 1
    large = resize_maps(maps, height=224, width=224)[0]
    rows, columns = np.indices(large.shape)
    # Half-pixel centres: cell (1, 5) has its centre at (1.5, 5.5) cells of 32 pixels.
    assert (rows * large).sum() / large.sum() + 0.5 == pytest.approx(1.5 * 32, abs=0.01)
    assert (columns * large).sum() / large.sum() + 0.5 == pytest.approx(5.5 * 32, abs=0.01)
    assert resize_maps(maps, height=100, width=37).shape == (1, 100, 37)


def test_resize_bounds() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    large = resize_maps(maps, height=60, width=45)
    assert large.max() <= maps.max() + 1e-6
    assert large.min() >= maps.min() - 1e-6


@pytest.mark.parametrize(("row", "column"), [(2.5, 5.5), (2.8, 5.1), (4.2, 1.9), (3.0, 3.0)])
def test_the_strongest_point_of_a_map_lies_between_its_cells(row: float, column: float) -> None:
    # Drawn by straight lines it lay on a cell's centre: up to half a cell beside what the map shows, 5 cm of a chest.
    at = np.arange(8) + 0.5
    cells = np.exp(-((at[:, None] - row) ** 2 + (at[None, :] - column) ** 2) / 2).astype(np.float32)
    fine = fine_map(cells, height=128, width=128)
    found = np.unravel_index(fine.argmax(), fine.shape)
    assert (np.array(found) + 0.5) / 16 == pytest.approx((row, column), abs=0.1)
    assert fine.dtype == np.float32 and fine.min() >= cells.min()


def test_a_fine_map_is_torchs_but_for_what_swings_below_the_lowest_cell() -> None:
    cells = np.maximum(np.random.default_rng(3).normal(size=(7, 9)), 0).astype(np.float32)
    # torch's pieces are steeper (-0.75 for -0.5), which is left out by antialias=True.
    other = functional.interpolate(torch.tensor(cells[None, None]), (28, 54), mode="bicubic", antialias=True)[0, 0].numpy()
    assert other.min() < 0
    np.testing.assert_allclose(fine_map(cells, height=28, width=54), np.maximum(other, 0), atol=1e-6)
    assert fine_map(cells, height=7, width=9) is cells
    flat = fine_map(np.full((7, 9), 0.3, dtype=np.float32), height=28, width=54)
    assert flat == pytest.approx(0.3, abs=1e-6)


def test_a_cell_reaches_two_cells_far_and_no_map_is_made_of_nothing() -> None:
    cells = np.zeros((8, 8), dtype=np.float32)
    assert not fine_map(cells, height=128, width=128).any()
    cells[3, 4] = 1
    fine = fine_map(cells, height=128, width=128)
    rows, columns = np.nonzero(fine)
    assert (rows.min() // 16, rows.max() // 16, columns.min() // 16, columns.max() // 16) == (1, 5, 2, 6)
    assert fine.max() > 0.9


def test_refusals() -> None:
    features, *weights = head()
    _, gradients = grid_head_gradients(features, *weights, 1.0)
    with pytest.raises(InputError, match="shape"):
        grad_cam(features[:, :2], gradients)
    with pytest.raises(InputError, match="finite"):
        grad_cam(features * np.nan, gradients)
    with pytest.raises(InputError, match="do not fit"):
        grid_head_gradients(features, weights[0][:, :3], *weights[1:], 1.0)
    with pytest.raises(InputError, match="sharpness"):
        grid_head_gradients(features, *weights, 0.0)
