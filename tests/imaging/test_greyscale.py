"""The grey scale against pydicom's own functions, and against the standard where files break its rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from tests.imaging.reference import reference

from storyxai.errors import ReadError
from storyxai.imaging.read import read_image

Write = Callable[..., Path]
SYNTAXES = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)


def lut(entries: np.ndarray, *, first: int = 0, bits: int = 16, vr: str = "US", order: str = "<") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [entries.size % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype(f"{order}u2").tobytes())
    return item


def made(rng: np.random.Generator, syntax: str) -> tuple[np.ndarray, dict[str, Any]]:
    """A picture of random words and random, well-formed elements that change how it is seen."""
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    signed, allocated = bool(rng.random() < 0.5), int(rng.choice([8, 16]))
    bits = allocated if allocated == 8 else int(rng.choice([10, 12, 14, 16]))
    stored = rng.integers(0, 1 << allocated, (64, 66)).astype(f"u{allocated // 8}")
    tags: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed)}
    tags["PixelData"] = stored.astype(f"{order}u{allocated // 8}").tobytes()
    tags["PhotometricInterpretation"] = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    low = -(1 << (bits - 1)) if signed else 0
    kind = rng.choice(["rescale", "modality", "none"])
    top = 1 << bits
    if kind == "rescale":
        tags |= {"RescaleSlope": float(rng.choice([1, 2, 4])), "RescaleIntercept": float(rng.integers(-100, 100))}
    elif kind == "modality":
        entries = np.sort(rng.integers(0, 65536, int(rng.choice([200, top]))))
        tags["ModalityLUTSequence"] = [lut(entries, first=low + 3, vr="SS" if signed else "US", order=order)]
        low, top = 0, 65536
    shown = rng.choice(["window", "table", "none"])
    if shown == "window":
        function = str(rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
        tags |= {"VOILUTFunction": function, "WindowCenter": float(low + top // 2), "WindowWidth": float(top // 2)}
    elif shown == "table":
        entries = np.linspace(0, 4095, int(rng.choice([300, min(top, 65536)]))).astype(int) ^ 1
        vr = "SS" if low < 0 else "US"
        tags["VOILUTSequence"] = [lut(entries, first=low, bits=12, vr=vr, order=order)]
    return stored, tags


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT on a float input")
@pytest.mark.parametrize("seed", range(40))
def test_made_files_are_read_as_pydicom_reads_them(dicom_file: Write, seed: int) -> None:
    syntax = SYNTAXES[seed % 3]
    stored, tags = made(np.random.default_rng(seed), syntax)
    path = dicom_file(stored, syntax=syntax, **tags)
    image, dataset = read_image(path), dcmread(path)
    robust = any("robust range" in note for note in image.notes)
    assert robust == ("VOILUTSequence" not in dataset and "WindowWidth" not in dataset)
    # one entry of the widest table used, and of a quantile interpolated or not
    assert image.pixels == pytest.approx(reference(dataset), abs=5e-3 if robust else 1e-6)


@pytest.mark.parametrize(("said", "held"), [(16, 12), (16, 10), (16, 14), (16, 8), (14, 12), (16, 15), (12, 14), (8, 12)])
def test_a_table_of_other_bits_than_it_says_is_scaled_by_what_it_holds(
    dicom_file: Write, ramp: np.ndarray, said: int, held: int
) -> None:
    """Agfa CR writes 12-bit entries under a descriptor of 16: the film was told at a sixteenth of its brightness."""
    curve = ((1 << held) - 1) * (np.arange(4096) / 4095) ** 2
    image = read_image(dicom_file(ramp, BitsStored=12, HighBit=11, VOILUTSequence=[lut(curve.astype(int), bits=said)]))
    assert image.pixels.ravel() == pytest.approx((np.arange(4096) / 4095) ** 2, abs=1.5 / ((1 << held) - 1))
    assert image.notes == (f"VOI LUT of {held} bits where its descriptor says {said}: scaled by what it holds",)


def test_a_table_that_ends_short_of_white_on_purpose_stays_as_it_is(dicom_file: Write, ramp: np.ndarray) -> None:
    image = read_image(dicom_file(ramp, VOILUTSequence=[lut(np.linspace(0, 29000, 4096).astype(int))]))
    assert image.pixels.max() == pytest.approx(29000 / 65535, abs=1e-6)
    assert image.notes == ()


def test_table_and_window_that_disagree_are_noted(dicom_file: Write, ramp: np.ndarray) -> None:
    straight = lut(np.linspace(0, 65535, 4096).astype(int))
    window: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
    assert read_image(dicom_file(ramp, VOILUTSequence=[straight], **window)).notes == ()
    window |= {"WindowCenter": 500, "WindowWidth": 400}
    notes = read_image(dicom_file(ramp, VOILUTSequence=[straight], **window)).notes
    assert notes == ("VOI LUT and window show different pictures: the VOI LUT was used",)
    flat = lut(np.full(4096, 65535))
    image = read_image(dicom_file(ramp, VOILUTSequence=[flat], **window))
    assert np.ptp(image.pixels) == 1 and image.notes == ("the stated window shows nothing and was left aside",)


@pytest.mark.parametrize(("first", "vr", "signed"), [(63488, "US", True), (-2048, "SS", True), (-25536, "SS", False)])
def test_the_first_value_mapped_has_the_sign_of_the_pixels(
    dicom_file: Write, first: int, vr: str, signed: bool
) -> None:
    begins = -2048 if signed else 40000
    stored = (np.arange(4096) + begins).reshape(64, 64).astype(np.int16 if signed else np.uint16)
    table = lut(np.linspace(0, 65535, 4096).astype(int), first=first, vr=vr)
    image = read_image(dicom_file(stored, VOILUTSequence=[table]))
    assert image.pixels.ravel() == pytest.approx(np.linspace(0, 1, 4096), abs=1e-4)


def test_a_descriptor_of_0_entries_means_65536(dicom_file: Write) -> None:
    stored = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    image = read_image(dicom_file(stored, VOILUTSequence=[lut(np.arange(65536)[::-1])]))
    assert image.pixels == pytest.approx(1 - stored / 65535, abs=1e-6)


def test_eight_bit_entries_may_be_packed(dicom_file: Write) -> None:
    stored = np.arange(4096).reshape(64, 64).astype(np.uint8)
    item = lut(np.arange(256), bits=8)
    item.LUTData = bytes(range(255, -1, -1))
    assert read_image(dicom_file(stored, VOILUTSequence=[item])).pixels == pytest.approx(1 - stored / 255.0, abs=1e-6)


@pytest.mark.parametrize(("width", "function", "said"), [
    (0.5, "LINEAR", "narrower than 1"), (0.5, "LINEAR_EXACT", None), (0.5, "SIGMOID", None), (1, "LINEAR", None),
    (300, "CUBIC", "function unknown"),
])  # fmt: skip
def test_narrow_windows_and_unknown_functions(
    dicom_file: Write, ramp: np.ndarray, width: float, function: str, said: str | None
) -> None:
    image = read_image(dicom_file(ramp, WindowCenter=2000, WindowWidth=width, VOILUTFunction=function))
    grey = image.pixels.ravel()
    assert (grey[1500], grey[2500]) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    assert [note for note in image.notes if said is None or said not in note] == []
    assert len(image.notes) == (said is not None)


@pytest.mark.parametrize("width", [0, -300])
def test_a_window_without_width_is_left_aside(dicom_file: Write, ramp: np.ndarray, width: float) -> None:
    image = read_image(dicom_file(ramp, WindowCenter=2000, WindowWidth=width))
    assert image.notes[0] == "the stated window has no width and was left aside" and "robust" in image.notes[1]


@pytest.mark.parametrize(("photometric", "shape", "inverted", "doubt"), [
    ("MONOCHROME2", "IDENTITY", False, False), ("MONOCHROME2", "INVERSE", True, False),
    ("MONOCHROME1", "INVERSE", True, False), ("MONOCHROME1", "IDENTITY", True, True),
])  # fmt: skip
def test_the_presentation_shape_inverts_once(
    dicom_file: Write, ramp: np.ndarray, photometric: str, shape: str, inverted: bool, doubt: bool
) -> None:
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": shape}
    image = read_image(dicom_file(ramp, WindowCenter=2048, WindowWidth=4096, **tags))
    assert (image.pixels[0, 0] > image.pixels[-1, -1]) == inverted
    assert any("inverted" in note for note in image.notes) == inverted
    assert any("contradicts itself" in note for note in image.notes) == doubt


@pytest.mark.parametrize(("stored_as", "bits", "value", "padding", "vr"), [
    ("int16", 16, -2048, 63488, "US"), ("int16", 12, -2048, 63488, "US"), ("int16", 12, -2048, 2048, "US"),
    ("int16", 16, -2048, -2048, "SS"), ("uint16", 16, 63488, -2048, "SS"), ("uint16", 12, 65535, 65535, "US"),
    ("uint16", 12, 65535, -1, "SS"),
])  # fmt: skip
def test_padding_is_read_with_the_sign_of_the_pixels(
    dicom_file: Write, stored_as: str, bits: int, value: int, padding: int, vr: str
) -> None:
    """Written unsigned for signed pixels it was no padding, and a white border under MONOCHROME1."""
    stored = np.linspace(100, 900, 64 * 64).astype(stored_as).reshape(64, 64)
    stored[:8] = value
    path = dicom_file(stored, BitsStored=bits, HighBit=bits - 1, PhotometricInterpretation="MONOCHROME1")
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", vr, padding)
    dataset.save_as(path)
    image = read_image(path)
    assert (image.pixels[:8] == 0).all() and image.pixels[8].min() > 0.9
    assert "padding around the exposed field is shown black" in image.notes


def test_a_range_of_padding(dicom_file: Write) -> None:
    stored = np.linspace(1000, 2000, 64 * 64).astype(np.uint16).reshape(64, 64)
    stored[:8] = np.arange(8)[:, None]
    tags = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 7, "PhotometricInterpretation": "MONOCHROME1"}
    image = read_image(dicom_file(stored, **tags))
    assert (image.pixels[:8] == 0).all() and image.pixels[8].min() > 0.9


def test_overlay_bits_above_the_value_change_nothing(dicom_file: Write, ramp: np.ndarray) -> None:
    tags: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
    plain = read_image(dicom_file(ramp, **tags))
    drawn = ramp | np.where(np.arange(64) % 2, 0x8000, 0).astype(np.uint16)
    path = dicom_file(drawn, **tags)
    dataset = dcmread(path)
    for element, vr, value in ((0x10, "US", 64), (0x11, "US", 64), (0x40, "CS", "G"), (0x50, "SS", [1, 1]), (0x100, "US", 1),
                               (0x102, "US", 15)):  # fmt: skip
        dataset.add_new((0x6000, element), vr, value)
    dataset.save_as(path)
    image = read_image(path)
    assert (image.pixels == plain.pixels).all() and image.notes == ("overlay: 1 in the file, not drawn",)


@pytest.mark.parametrize("bits", [0, 32])
def test_a_table_of_impossible_bits_is_scaled_by_what_it_holds(dicom_file: Write, ramp: np.ndarray, bits: int) -> None:
    image = read_image(dicom_file(ramp, VOILUTSequence=[lut(np.linspace(0, 65535, 4096).astype(int), bits=bits)]))
    assert image.pixels.ravel() == pytest.approx(np.linspace(0, 1, 4096), abs=1e-4)
    assert image.notes == (f"VOI LUT of 16 bits where its descriptor says {bits}: scaled by what it holds",)


def test_words_of_16_bits_are_not_taken_for_packed_bytes(dicom_file: Write, ramp: np.ndarray) -> None:
    """A descriptor of twice as many entries as there are made bytes of the words: stripes, with a note of 8 bits."""
    item = lut(np.linspace(0, 65535, 4096).astype(int))
    item.LUTDescriptor = [8192, 0, 16]
    with pytest.raises(ReadError, match="lookup table is cut short"):
        read_image(dicom_file(ramp, VOILUTSequence=[item]))


def test_the_first_window_that_states_both_counts(dicom_file: Write, ramp: np.ndarray) -> None:
    one = read_image(dicom_file(ramp, WindowCenter=2000, WindowWidth=3000))
    several = read_image(dicom_file(ramp, WindowCenter=["", 2000, 9], WindowWidth=["", 3000, 9]))
    assert (several.pixels == one.pixels).all() and several.notes == ()


def test_a_table_cut_short_is_refused(dicom_file: Write, ramp: np.ndarray) -> None:
    item = lut(np.arange(4096))
    item.LUTData = item.LUTData[:600]
    with pytest.raises(ReadError, match="lookup table is cut short"):
        read_image(dicom_file(ramp, VOILUTSequence=[item]))


@pytest.mark.real
def test_the_published_kinds(cases: Path) -> None:
    folder = cases / "03-voilut-narrower-than-declared"
    right = read_image(folder / "said12_data12.dcm")
    for name in ("said16_data10_window", "said16_data12", "said16_data14"):
        image = read_image(folder / f"{name}.dcm")
        assert np.abs(image.pixels - right.pixels).max() < 2 / 1023, name
        assert "descriptor says 16" in image.notes[0]
    padded = [read_image(cases / "08-padding-written-unsigned" / name).pixels for name in ("ss.dcm", "us.dcm")]
    assert (padded[0] == padded[1]).all()


def with_text(path: Path, **cells: str) -> Path:
    """The file at `path` with these elements in these letters, whatever pydicom thinks of them."""
    dataset = dcmread(path)
    for name, cell in cells.items():
        tag = Tag(tag_for_keyword(name) or 0)
        value = cell.encode() + b" " * (len(cell) % 2)
        dataset[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    dataset.save_as(path)
    return path


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_numbers_with_a_decimal_comma_are_numbers(dicom_file: Write, ramp: np.ndarray) -> None:
    """Some makers print numbers as their country does: window and rescaling were left aside."""
    right = {"WindowCenter": "1500.5", "WindowWidth": "1000.5", "RescaleSlope": "1.5", "RescaleIntercept": "-10.25"}
    pictures = [
        read_image(with_text(dicom_file(ramp), **cells))
        for cells in (right, {name: cell.replace(".", ",") for name, cell in right.items()})
    ]
    assert (pictures[0].pixels == pictures[1].pixels).all() and pictures[1].notes == ()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize("cells", [
    {"RescaleSlope": "two", "RescaleIntercept": "0"}, {"RescaleSlope": "0", "RescaleIntercept": "5"},
    {"RescaleSlope": "2"}, {"RescaleSlope": "1,024", "RescaleIntercept": "0"}, {"RescaleSlope": "2", "RescaleIntercept": ""},
])  # fmt: skip
def test_a_rescaling_that_cannot_be_used_is_noted(dicom_file: Write, ramp: np.ndarray, cells: dict[str, str]) -> None:
    path = with_text(dicom_file(ramp, WindowCenter=2048, WindowWidth=4096), **cells)
    assert read_image(path).notes == ("rescale slope and intercept cannot be used and were left aside",)


def test_rescaling_by_nothing_is_none_to_note(dicom_file: Write, ramp: np.ndarray) -> None:
    assert read_image(dicom_file(ramp, WindowCenter=2048, WindowWidth=4096, RescaleIntercept=0)).notes == ()
    assert read_image(dicom_file(ramp, WindowCenter=2048, WindowWidth=4096, RescaleSlope=1)).notes == ()


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("stated", [256, 2048, 4000])
def test_a_table_of_more_entries_than_it_states_is_used_whole_with_a_note(
    dicom_file: Write, ramp: np.ndarray, name: str, stated: int
) -> None:
    """What lay above the stated entries was white without a word, or taken for a table of fewer bits."""
    whole, short = (lut(np.arange(4096) ** 2 >> 12, bits=12) for _ in range(2))
    short.LUTDescriptor = [stated, 0, 12]
    tags: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}
    if name == "ModalityLUTSequence":
        tags |= {"WindowCenter": 2048, "WindowWidth": 4096}
    right = read_image(dicom_file(ramp, **{name: [whole]}, **tags))
    image = read_image(dicom_file(ramp, **{name: [short]}, **tags))
    assert (image.pixels == right.pixels).all() and right.notes == ()
    assert image.notes == (f"lookup table of 4096 entries where its descriptor says {stated}: all of them are used",)


@pytest.mark.parametrize("beyond", [[0] * 512, [0], [7]])
def test_what_only_fills_a_table_up_is_none_of_its_entries(dicom_file: Write, ramp: np.ndarray, beyond: list[int]) -> None:
    table = lut(np.array([*np.linspace(0, 4095, 1023).astype(int), *beyond]), bits=12)
    table.LUTDescriptor = [1023, 0, 12]
    image = read_image(dicom_file(ramp, BitsStored=12, HighBit=11, VOILUTSequence=[table]))
    assert image.notes == () and image.pixels.ravel()[1023:].min() == 1
