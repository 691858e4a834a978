"""Pictures: untouched means untouched, one scale for all, even steps of lightness, the same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Picture

from evidence_example import example_evidence
from storyxai.pages import figures as figure
from storyxai.types import Heatmap, Image, Remark

EVIDENCE = example_evidence()
CAM, LIME = EVIDENCE.heatmaps[:2]


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(png)).convert("RGB")).astype(int)


def laid_over(image: Image, layer: bytes) -> np.ndarray:
    """The layer over the image, as a browser lays it."""
    over = Picture.open(io.BytesIO(layer)).convert("RGBA")
    under = Picture.open(io.BytesIO(figure.image_png(image, long_side=max(over.size)))).convert("RGBA")
    return np.asarray(Picture.alpha_composite(under, over).convert("RGB")).astype(int)


def grey_image(level: float, side: int = 64) -> Image:
    return Image(np.full((side, side), level, dtype=np.float32), "0" * 64, "flat.png")


def test_the_untouched_image_is_only_scaled() -> None:
    image = EVIDENCE.image
    height = image.pixels.shape[0]
    same_size = Picture.open(io.BytesIO(figure.image_png(image, long_side=height)))
    assert same_size.mode == "L"
    assert np.array_equal(np.asarray(same_size), np.rint(image.pixels * 255))
    assert figure.display_size(3000, 2500) == (900, 750)
    assert figure.display_size(100, 50) == (200, 100)


def test_same_input_same_bytes_and_no_time_inside() -> None:
    for png in (
        figure.page_image_png(EVIDENCE.image),
        figure.pair_png(EVIDENCE.image, LIME, masks=EVIDENCE.prediction.masks),
        figure.scale_png(signed=True),
    ):
        assert Picture.open(io.BytesIO(png)).info == {}
    for layer in (figure.layer_png(CAM, limit=1.0), figure.outlines_png(EVIDENCE.prediction.masks)):
        assert set(Picture.open(io.BytesIO(layer)).info) == {"transparency"}
    assert figure.layer_png(LIME, limit=1.0) == figure.layer_png(LIME, limit=1.0)
    assert figure.pair_png(EVIDENCE.image, LIME) == figure.pair_png(EVIDENCE.image, LIME)


def test_maps_of_one_image_are_drawn_as_each_alone_would_be() -> None:
    """What is shared between the maps of an image stays as it was: no map is seen through on the next one."""
    masks = EVIDENCE.prediction.masks
    pairs = figure.Pairs(EVIDENCE.image, masks)
    for heatmap in (CAM, LIME, CAM):
        assert np.array_equal(pairs.drawn(heatmap), opened(figure.pair_png(EVIDENCE.image, heatmap, masks=masks)))


def test_a_picture_that_leaves_its_folder_says_that_its_map_failed() -> None:
    reason = "too much of the map lies away from the part of the chest that this finding concerns"
    failed = Heatmap(CAM.finding, CAM.method, CAM.values, CAM.unit, False, Remark.quoted(reason))
    passed, warned = (opened(figure.pair_png(EVIDENCE.image, h, withheld=w)) for h, w in ((CAM, ""), (failed, reason)))
    assert warned.shape[1] == passed.shape[1] and warned.shape[0] > passed.shape[0], "the reason takes lines of its own"
    paper = (250, 250, 248)
    assert (warned[-8:] == paper).all() and (warned[:, -8:] == paper).all(), "no line runs off the sheet"
    assert not (warned[-40:-8] == paper).all()


def test_zero_hides_nothing_and_more_hides_more() -> None:
    image = grey_image(0.5)
    ramp = np.broadcast_to(np.linspace(0, 1, 64, dtype=np.float32), (64, 64))
    drawn = laid_over(image, figure.layer_png(Heatmap("Mass", "cam", ramp.copy(), "u"), limit=1.0, long_side=64))
    plain = opened(figure.image_png(image, long_side=64))
    away = np.abs(drawn - plain).sum(axis=2)[32]
    assert away[0] == 0 and away[1] < 60, "no edge where the map fades out"
    blue_to_yellow = drawn[32, -1] - drawn[32, 8]
    assert blue_to_yellow[0] > 60 and blue_to_yellow[2] < 0, "hot is yellow, cold is blue: never the other way round"


def test_negative_values_of_a_positive_map_cannot_turn_hot() -> None:
    values = np.zeros((64, 64), dtype=np.float32)
    values[:32], values[32:] = 0.5, -0.5
    drawn = laid_over(grey_image(0.5), figure.layer_png(Heatmap("Mass", "lime", values, "u"), limit=0.5, long_side=64))
    top, bottom = drawn[10, 10], drawn[50, 50]
    assert top[0] > top[2], "positive is orange"
    assert bottom[2] > bottom[0], "negative is blue"


def test_maps_share_the_scale_that_they_are_given() -> None:
    weak = Heatmap("Mass", "cam", CAM.values * np.float32(0.25), CAM.unit)
    limit = figure.map_limit([CAM, weak])
    assert limit == pytest.approx(float(CAM.values.max()))
    plain = opened(figure.image_png(EVIDENCE.image, long_side=400))
    strong_cover, weak_cover = (
        np.abs(laid_over(EVIDENCE.image, figure.layer_png(h, limit=limit)) - plain).sum()
        for h in (CAM, weak)
    )
    # On its own scale the weak map would look the same as the strong one.
    assert weak_cover < 0.8 * strong_cover
    assert figure.map_limit([Heatmap("Mass", "cam", np.zeros((4, 4), np.float32), "u")]) == 1.0


def test_the_palette_prints_every_value_with_its_own_colour() -> None:
    """What lies over the image is what mixing each pixel by itself gives, to one grey level."""
    image = grey_image(0.5)
    for low in (0.0, -1.0):
        ramp = np.broadcast_to(np.linspace(low, 1, 64, dtype=np.float32), (64, 64)).copy()
        drawn = laid_over(image, figure.layer_png(Heatmap("Mass", "cam", ramp, "u"), limit=1.0, long_side=64))
        colours = figure.scale_colours(signed=low < 0)[np.rint(255 * (ramp - low) / (1 - low)).astype(int)]
        cover = figure.STRONGEST_COVER * np.sqrt(np.abs(ramp))[..., None]
        assert np.abs(drawn - (128 * (1 - cover) + colours * cover)).max() <= 3


@pytest.mark.parametrize("signed", [False, True])
def test_lightness_runs_in_even_steps(signed: bool) -> None:
    from skimage.color import rgb2lab

    colours = figure.scale_colours(signed=signed)
    lightness = rgb2lab(colours[None].astype(np.float64) / 255)[0, :, 0]
    steps = np.diff(lightness[::16])
    if signed:
        assert (steps[:7] > 0).all() and (steps[-7:] < 0).all()
        assert np.abs(lightness - lightness[::-1]).max() < 6, "both ends weigh the same"
    else:
        assert (steps > 0).all() and steps.max() < 1.8 * steps.min()
        assert lightness[-1] - lightness[0] > 50


def test_outlines_run_along_the_mask_inside_it() -> None:
    image = grey_image(0.0, side=100)
    mask = np.zeros((100, 100), dtype=np.bool_)
    mask[30:60, 20:50] = True
    drawn = laid_over(image, figure.outlines_png({"left_lung": mask}, long_side=100))
    coloured = (drawn == np.array(figure.MAIN_COLOUR)).all(axis=2)
    assert coloured[30, 20:50].all() and coloured[59, 20:50].all() and coloured[30:60, 20].all()
    assert not coloured[~mask].any() and not coloured[40:50, 30:40].any()
