"""DICOM objects beside projections: which are taken, and their colours, against pydicom and on paper."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array

from storyxai.errors import ReadError
from storyxai.imaging.read import read_image
from storyxai.modalities.contract import Acquisition

Write = Callable[..., Path]
US = Acquisition(modalities=("US",), sop_classes=("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"))
IN_COLOUR = Acquisition(channels=3, modalities=("US",))
GREY = np.random.default_rng(0).integers(0, 256, (64, 80)).astype(np.uint8)
COLOURED = np.random.default_rng(1).integers(0, 256, (64, 80, 3)).astype(np.uint8)


def ybr(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Picture.fromarray(rgb).convert("YCbCr"))


@pytest.fixture
def ultrasound(dicom_file: Write) -> Write:
    """Writes an ultrasound object of 8 bits: grey values [H, W], or bytes that its tags describe."""

    def write(pixels: np.ndarray, **tags: object) -> Path:
        plain = {"Modality": "US", "SOPClassUID": US.sop_classes[0], "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
        colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        given = {**plain, **(colour if pixels.ndim == 3 else {}), "PixelData": pixels.tobytes(), **tags}
        return dicom_file(GREY, **given)

    return write


def test_an_ultrasound_object_is_read_by_who_takes_it(ultrasound: Write) -> None:
    path = ultrasound(GREY, WindowCenter=128, WindowWidth=256)
    image = read_image(path, acquisition=US)
    assert image.pixels == pytest.approx(GREY / 255, abs=1e-3) and image.notes == ()
    of_one_frame = ultrasound(GREY, SOPClassUID=US.sop_classes[1], NumberOfFrames=1)
    assert read_image(of_one_frame, acquisition=US).pixels.shape == (64, 80)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("planes", [0, 1])
def test_three_equal_channels_are_one_grey(ultrasound: Write, photometric: str, planes: int) -> None:
    rgb = np.repeat(GREY[..., None], 3, axis=2)
    stored = rgb if photometric == "RGB" else np.dstack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)])
    stored = np.moveaxis(stored, 2, 0) if planes else stored
    path = ultrasound(np.ascontiguousarray(stored), PhotometricInterpretation=photometric, PlanarConfiguration=planes)
    image = read_image(path, acquisition=US)
    assert np.array_equal(image.pixels, (GREY / np.float32(255)).astype(np.float32))


def palette(table: np.ndarray, bits: int, first: int = 0) -> dict[str, object]:
    """The tags of a palette. Shapes: entries [N, 3]."""
    tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [len(table) % 65536, first, bits]
        tags[f"{name}PaletteColorLookupTableData"] = table[:, channel].astype("u1" if bits == 8 else "<u2").tobytes()
    return tags


@pytest.mark.parametrize("factor", [1, 256, 257])
@pytest.mark.parametrize("modality", ["CR", "OT"])
def test_a_palette_of_greys_is_read_as_grey(ultrasound: Write, modality: str, factor: int) -> None:
    """Scanners and captures write grey films so, in tables of 16 bits: "has colour pixels, no grey ones" was untrue of them."""
    greys = 255 - np.arange(256)
    tags = palette(np.stack([greys * factor] * 3, axis=1), 16)
    image = read_image(ultrasound(GREY, Modality=modality, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", **tags))
    assert np.array_equal(image.pixels, (greys[GREY] / np.float32(255)).astype(np.float32))


def test_a_palette_of_colours_is_refused_or_read_in_colour(ultrasound: Write) -> None:
    table = np.random.default_rng(2).integers(0, 65536, (200, 3))
    path = ultrasound(GREY, **palette(table, 16, first=20))
    with pytest.raises(ReadError, match="has colour in"):
        read_image(path, acquisition=US)
    meant = table[np.clip(GREY.astype(int) - 20, 0, 199)] >> 8
    image = read_image(path, acquisition=IN_COLOUR)
    assert np.array_equal(image.pixels, (meant / np.float32(255)).astype(np.float32))
    with pytest.raises(ReadError, match="damaged"):
        read_image(ultrasound(GREY, **{**palette(table, 16), "GreenPaletteColorLookupTableData": b"12"}), acquisition=US)


@pytest.mark.parametrize("modality", ["CR", "DX", "OT", "SC", ""])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_captured_film_in_three_equal_channels_is_one_grey(ultrasound: Write, modality: str, photometric: str) -> None:
    """Secondary captures store grey films so: "has colour pixels, no grey ones" was untrue of them."""
    grey = np.full_like(GREY, 128)
    stored = np.repeat(GREY[..., None], 3, axis=2) if photometric == "RGB" else np.dstack([GREY, grey, grey])
    captured = {"Modality": modality, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "PhotometricInterpretation": photometric}
    image = read_image(ultrasound(stored, **captured))
    assert np.array_equal(image.pixels, (GREY / np.float32(255)).astype(np.float32))


def test_colours_are_those_of_pydicom(ultrasound: Write) -> None:
    """As stored; from luminance; from luminance with half of the colours; planes apart; and JPEG."""
    y = ybr(COLOURED)
    halved = np.stack([y[:, 0::2, 0], y[:, 1::2, 0], y[:, 0::2, 1], y[:, 0::2, 2]], axis=2)
    buffer = io.BytesIO()
    smooth = np.asarray(Picture.fromarray(COLOURED).resize((6, 4)).resize((80, 64), Picture.Resampling.BICUBIC))
    Picture.fromarray(smooth).save(buffer, "JPEG", quality=95)
    for pixels, tags in (
        (COLOURED, {}), (y, {"PhotometricInterpretation": "YBR_FULL"}),
        (halved, {"PhotometricInterpretation": "YBR_FULL_422"}),
        (np.ascontiguousarray(np.moveaxis(COLOURED, 2, 0)), {"PlanarConfiguration": 1}),
        (smooth, {"PhotometricInterpretation": "YBR_FULL_422", "syntax": uid.JPEGBaseline8Bit,
                  "PixelData": encapsulate([buffer.getvalue()])}),
    ):  # fmt: skip
        path = ultrasound(pixels, **tags)
        wanted = pixel_array(dcmread(path), decoding_plugin="pylibjpeg" if "syntax" in tags else "")
        got = read_image(path, acquisition=IN_COLOUR).pixels
        assert got.shape == (64, 80, 3) and np.abs(got * 255 - wanted).max() <= 1.01, tags


def test_colours_that_are_said_to_be_halved_and_are_whole_are_read_whole(ultrasound: Write) -> None:
    """As pydicom does, by the length of the pixel data: the picture came out stretched, in false colours."""
    y = ybr(COLOURED)
    whole, said = (read_image(ultrasound(y, PhotometricInterpretation=kind), acquisition=IN_COLOUR).pixels
                   for kind in ("YBR_FULL", "YBR_FULL_422"))  # fmt: skip
    assert np.array_equal(said, whole)


def test_a_grey_jpeg_in_three_channels_is_grey(ultrasound: Write) -> None:
    buffer = io.BytesIO()
    smooth = np.asarray(Picture.fromarray(GREY).resize((8, 6)).resize((80, 64), Picture.Resampling.BICUBIC))
    Picture.fromarray(smooth).convert("RGB").save(buffer, "JPEG", quality=90)
    path = ultrasound(np.repeat(smooth[..., None], 3, axis=2), PhotometricInterpretation="YBR_FULL_422",
                      syntax=uid.JPEGBaseline8Bit, PixelData=encapsulate([buffer.getvalue()]))  # fmt: skip
    assert np.abs(read_image(path, acquisition=US).pixels * 255 - smooth).max() < 12


@pytest.mark.parametrize(("acquisition", "tags", "why"), [
    (None, {}, r"is an ultrasound image \(modality US\), not a projection — give a single projection \(CR or DX\)"),
    (US, {"Modality": "CR"}, r"is a projection \(modality CR\), not an ultrasound image — give a .* image \(US\)"),
    (US, {"NumberOfFrames": 30}, "holds 30 frames, not a single ultrasound image"),
    (US, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.2"}, "of the SOP class 1.2.840.10008.5.1.4.1.1.6.2, which this model"),
    (Acquisition(modalities=("DMS", "XC")), {}, r"not a dermoscopic picture or photograph — .* \(DMS or XC\)"),
])  # fmt: skip
def test_what_a_model_does_not_take_is_refused_in_its_own_words(
    ultrasound: Write, acquisition: Acquisition | None, tags: dict[str, object], why: str
) -> None:
    with pytest.raises(ReadError, match=why):
        read_image(ultrasound(GREY, **tags), acquisition=acquisition)


def test_colour_where_grey_is_read_says_how_much_of_it_there_is(ultrasound: Write) -> None:
    marked = np.repeat(GREY[..., None], 3, axis=2)
    marked[:16, :20] = (250, 200, 0)
    with pytest.raises(ReadError, match=r"has colour in 6.2% of its pixels, and this model reads grey ones"):
        read_image(ultrasound(marked), acquisition=US)
    with pytest.raises(ReadError, match=r"has colour in 6.2% of its pixels, and this model reads grey ones"):
        read_image(ultrasound(marked, Modality="CR", SOPClassUID="1.2.840.10008.5.1.4.1.1.1"))
    with pytest.raises(ReadError, match="cut short"):
        read_image(ultrasound(marked, PixelData=marked.tobytes()[:5000]), acquisition=US)
