"""Every file that pydicom ships: refused in true words, or read as pydicom reads it; and again as if it were a radiograph."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import ComputedRadiographyImageStorage
from tests.imaging.reference import reference

from storyxai.errors import ReadError
from storyxai.imaging import decode, dicom, values
from storyxai.imaging.read import read_image

ROOT = Path(pydicom.__file__).parent / "data"
HOME = Path.home() / ".pydicom" / "data"


def shipped() -> list[Path]:
    """Files of pydicom's package, and those that it has fetched before; none is fetched here."""
    found = [path for folder in (ROOT, HOME) if folder.is_dir() for path in sorted(folder.rglob("*"))]
    return [path for path in found if path.is_file() and path.suffix not in {".py", ".pyc"}]


def test_every_file_is_read_or_refused_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    files = shipped()
    assert len(files) > 150
    for path in files:
        try:
            image = read_image(path)
        except ReadError as refused:
            assert refused.mend and "\n" not in str(refused), path.name
        else:
            assert image.pixels == pytest.approx(reference(dcmread(path)), abs=5e-3), path.name
    assert capfd.readouterr() == ("", "")


def as_radiograph(path: Path) -> pydicom.Dataset | None:
    """The file as a CR image by modality and SOP class, or None where it is no single grey picture that pydicom can show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(path, force=True)
            dataset.Modality, dataset.SOPClassUID = "CR", ComputedRadiographyImageStorage
            grey = str(dataset.PhotometricInterpretation).startswith("MONO") and int(dataset.get("NumberOfFrames", 1)) == 1
            if not grey or dataset.BitsAllocated not in (8, 16) or dataset.pixel_array.ndim != 2:
                return None
            if dataset.file_meta.TransferSyntaxUID.is_deflated:  # refused, for safety
                return None
            dataset.save_as(io.BytesIO())
        except Exception:  # pydicom's own limits: what it cannot show, it cannot be compared with
            return None
    return dataset


def decoded_here(frame: bytes, *, bits: tuple[int, int], signed: bool, **about: int) -> np.ndarray:
    about |= {"bits_allocated": bits[0], "bits_stored": bits[1], "pixel_representation": int(signed)}
    return decode._decode(frame, **about)


def test_grey_pictures_of_other_modalities_are_read_as_pydicom_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed in every way, signed, big endian, padded, with tables and windows: the files that pydicom is tested on."""
    monkeypatch.setattr(values, "MIN_SIDE_PIXELS", 1)
    monkeypatch.setattr(dicom, "decode_apart", decoded_here)  # a process each would take ten times as long
    read = 0
    for source in shipped():
        dataset = as_radiograph(source)
        if dataset is None:
            continue
        path = tmp_path / source.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.save_as(path)
            wanted = reference(dataset)
        image = read_image(path)
        if any("shows nothing" in note for note in image.notes):  # all white or black under its own window
            assert np.ptp(wanted) < 0.02, source.name
            continue
        away = np.abs(image.pixels - wanted)
        if "PixelPaddingValue" in dataset:
            away = away[dataset.pixel_array != dataset.PixelPaddingValue]
        assert away.max() < 1e-2, source.name
        read += 1
    assert read >= 50
