"""Examples and their exact views: references move with the pixels, and the same view is the same to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from storyxai.data.augmentation import ViewSettings
from storyxai.data.batches import UNKNOWN_PIXEL, join_examples, make_batch
from storyxai.errors import TableError
from teaching_examples import SIZE, toy_examples

VIEWS = range(1, 9)
ROWS = np.arange(4)


def test_view_zero_is_the_image_itself() -> None:
    examples = toy_examples(4)
    batch = make_batch(examples, ROWS, 0)
    assert np.array_equal((batch.images[:, 0] * 255).round().numpy().astype(np.uint8), examples.images)
    known = examples.masks != UNKNOWN_PIXEL
    assert np.array_equal(~batch.masks.isnan().numpy(), known)
    assert np.array_equal(batch.masks.numpy()[known], examples.masks[known].astype(np.float32) / 100)
    stated = examples.cells != UNKNOWN_PIXEL
    assert np.allclose(batch.cells.numpy()[stated], examples.cells[stated] / 100)
    assert batch.union.isnan().all() and batch.union.shape == (4, SIZE // 4, SIZE // 4)


@pytest.mark.parametrize("view", [0, 1, 5])
def test_same_view_twice_is_identical(view: int) -> None:
    examples = toy_examples(4)
    for one, other in zip(make_batch(examples, ROWS, view), make_batch(examples, ROWS, view), strict=True):
        assert torch.equal(one.nan_to_num(-9), other.nan_to_num(-9))


def test_a_view_belongs_to_the_image_not_to_its_batch() -> None:
    examples = toy_examples(6)
    together, alone = make_batch(examples, np.array([4, 1, 2]), 3), make_batch(examples, np.array([1]), 3)
    assert torch.allclose(together.images[1], alone.images[0], atol=1e-6)
    assert torch.equal(together.masks[1].nan_to_num(-9), alone.masks[0].nan_to_num(-9))


def test_views_differ_between_numbers_and_images() -> None:
    examples = toy_examples(4)
    same_pixels = dataclasses.replace(examples, images=np.repeat(examples.images[:1], 4, axis=0))
    one, two = make_batch(same_pixels, ROWS, 1).images, make_batch(same_pixels, ROWS, 2).images
    assert (one - two).abs().mean() > 0.01
    assert (one[0] - one[1]).abs().mean() > 0.01


def test_making_a_view_leaves_the_examples_and_the_global_seed_alone() -> None:
    examples = toy_examples(4)
    before, state = examples.images.copy(), torch.random.get_rng_state()
    make_batch(examples, ROWS, 2)
    assert np.array_equal(examples.images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("view", VIEWS)
def test_a_planted_blob_stays_under_its_mask(view: int) -> None:
    images = np.zeros((4, SIZE, SIZE), dtype=np.uint8)
    masks = np.zeros((4, 3, SIZE // 4, SIZE // 4), dtype=np.uint8)
    cells = np.zeros((4, 3, SIZE // 16, SIZE // 16), dtype=np.uint8)
    for row, (top, left) in enumerate([(16, 16), (16, 32), (32, 16), (16, 16)]):
        images[row, top : top + 16, left : left + 16] = 230
        masks[row, 0, top // 4 : top // 4 + 4, left // 4 : left // 4 + 4] = 100
        cells[row, 0, top // 16, left // 16] = 100
    batch = make_batch(dataclasses.replace(toy_examples(4), images=images, masks=masks, cells=cells), ROWS, view)
    for row in range(4):
        seen = batch.images[row, 0].numpy() > 0.3
        for share, reference in ((0.6, batch.masks[row, 0]), (0.35, batch.cells[row, 0])):
            step = SIZE // reference.shape[-1]
            drawn = np.kron(np.nan_to_num(reference.numpy()) > 0.5, np.ones((step, step))) > 0
            assert (seen & drawn).sum() / (seen | drawn).sum() > share
    untouched = batch.masks[:, 1][~batch.masks[:, 1].isnan()]
    assert (untouched == 0).all()


@pytest.mark.parametrize("view", VIEWS)
def test_what_nobody_states_is_never_stated_by_a_view(view: int) -> None:
    examples = toy_examples(4)
    unknown = examples.images < 200  # the square is known, the field around it is not
    masks = np.where(unknown[:, None, ::4, ::4], UNKNOWN_PIXEL, 100).repeat(3, axis=1).astype(np.uint8)
    batch = make_batch(dataclasses.replace(examples, masks=masks), ROWS, view)
    assert batch.union.isnan().all() and batch.cells[:, 2].isnan().all()
    assert np.array_equal(batch.labels.numpy(), examples.labels, equal_nan=True)
    stated = ~batch.masks.isnan()
    assert stated.any() and (batch.masks[stated] == 1).all()
    shown = batch.images[:, :, 2::4, 2::4].expand(-1, 3, -1, -1)[stated]
    assert (shown > 0.5).float().mean() > 0.8  # known pixels are still those of the square


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_invents_no_values(view: int) -> None:
    batch = make_batch(toy_examples(4), ROWS, view)
    assert batch.images.min() >= 0 and batch.images.max() <= 1
    for reference in (batch.masks, batch.cells):
        assert set(reference[~reference.isnan()].unique().tolist()) <= {0.0, 1.0}


def test_take_and_join_undo_each_other() -> None:
    examples = toy_examples(5)
    whole = join_examples([examples.take([0, 1]), examples.take(np.array([2, 3, 4]))])
    for item in dataclasses.fields(examples):
        ours, theirs = getattr(whole, item.name), getattr(examples, item.name)
        same = np.array_equal(ours, theirs, equal_nan=item.name == "labels") if item.name != "ids" else ours == theirs
        assert same, item.name
    assert examples.take([3, 1]).ids == (examples.ids[3], examples.ids[1])


def test_an_id_in_two_sets_is_refused_by_name() -> None:
    examples = toy_examples(3)
    with pytest.raises(TableError, match="toy-0-1"):
        join_examples([examples, examples.take([1])])


STILL = ViewSettings(
    turn=0, zoom=(1, 1), stretch=(1, 1), shift=0, gamma=0, gain=(1, 1), offset=0, grain=0, mirror=1.0
)


def test_a_mirrored_view_swaps_sides_of_structures_and_silences_reports() -> None:
    examples = toy_examples(4)
    plain, mirrored = make_batch(examples, ROWS, 0), make_batch(examples, ROWS, 3, STILL)
    assert torch.allclose(mirrored.images, plain.images.flip(3), atol=1e-5)
    for ours, theirs in ((0, 1), (1, 0), (2, 2)):
        assert torch.equal(mirrored.masks[:, ours].nan_to_num(-9), plain.masks[:, theirs].flip(2).nan_to_num(-9))
    assert torch.equal(mirrored.cells.nan_to_num(-9), plain.cells.flip(3).nan_to_num(-9))
    assert torch.equal(mirrored.labels.nan_to_num(-9), plain.labels.nan_to_num(-9))
    assert (mirrored.tokens == 0).all() and (plain.tokens != 0).any()


def test_mirror_and_blur_are_drawn_for_each_image_and_view_at_their_chance() -> None:
    examples = toy_examples(4)
    settings = dataclasses.replace(STILL, mirror=0.3, blur=0.5)
    batches = [make_batch(examples, ROWS, view, settings) for view in range(1, 101)]
    silent = np.stack([(batch.tokens == 0).all(dim=1).numpy() for batch in batches])[:, :3]  # the fourth has no report
    assert silent.mean() == pytest.approx(0.3, abs=0.08)  # three standard deviations
    sharpness = np.stack([batch.images.diff(dim=3).abs().amax(dim=(1, 2, 3)).numpy() for batch in batches])
    plain = make_batch(examples, ROWS, 0).images.diff(dim=3).abs().amax(dim=(1, 2, 3)).numpy()
    assert (sharpness < 0.99 * plain).mean() == pytest.approx(0.5, abs=0.08)
    again = make_batch(examples, np.array([2]), 7, settings)
    assert torch.allclose(again.images[0], batches[6].images[2], atol=1e-6)


def test_a_blurred_image_keeps_its_mean() -> None:
    settings = dataclasses.replace(STILL, mirror=0.0, blur=1.0, blur_sides=(0.5, 0.5))
    examples = toy_examples(4)
    blurred, plain = make_batch(examples, ROWS, 1, settings).images, make_batch(examples, ROWS, 0).images
    assert blurred.mean(dim=(1, 2, 3)) == pytest.approx(plain.mean(dim=(1, 2, 3)), abs=0.01)
    halves = torch.nn.functional.avg_pool2d(plain, 2)
    again = torch.nn.functional.interpolate(halves, size=plain.shape[-2:], mode="bilinear", align_corners=False)
    assert torch.allclose(blurred, again, atol=1e-5)
