"""Small DICOM files made to order, written by pydicom."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

CR = "1.2.840.10008.5.1.4.1.1.1"


def dicom_dataset(stored: np.ndarray, **tags: Any) -> Dataset:
    """A computed radiograph of these stored values; `tags` replace or (None) remove elements."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CR, "1.2.3.4"
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def written(dataset: Dataset, *, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CR, "1.2.3.4"
    dataset.file_meta = meta
    if "PixelData" not in dataset:
        pass
    elif syntax not in {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset["PixelData"].VR = "OW"
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture
def dicom_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a computed radiograph and gives its path: dicom_file(stored, syntax=..., Tag=value...)."""

    def write(stored: np.ndarray, *, syntax: str = uid.ExplicitVRLittleEndian, **tags: Any) -> Path:
        path = tmp_path / "film.dcm"
        path.write_bytes(written(dicom_dataset(stored, **tags), syntax=syntax))
        return path

    return write


@pytest.fixture
def ramp() -> np.ndarray:
    """Stored values 0 ... 4095, once each (12 bits in 16)."""
    return np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.fixture(scope="session")
def cases(real_data: Path) -> Path:
    """The folder of published kinds of fault, beside the real data; skips when it is absent."""
    folder = real_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("published cases absent: they lie in cases/, beside the folder of real radiographs")
    return folder
