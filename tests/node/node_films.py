"""Small DICOM films for the node's tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from storyxai.imaging.read import read_image

CHEST = {
    "PatientBirthDate": "19500102", "PatientSex": "F", "StudyDate": "20260101", "StudyTime": "101500", "AccessionNumber": "A9",
    "StudyID": "7", "ReferringPhysicianName": "Who^Doctor", "SeriesNumber": "1", "InstanceNumber": "1", "ViewPosition": "PA",
}  # fmt: skip
"""What a hospital's film says besides."""


def dataset(study: int, instance: int = 1, **stated: object) -> Dataset:
    """A tiny CR film whose UIDs follow from the numbers."""
    made = Dataset()
    told = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": f"1.2.3.{study}.{instance}",
        "StudyInstanceUID": f"1.2.3.{study}", "SeriesInstanceUID": f"1.2.3.{study}.100", "PatientName": "PLANTED^NAME",
        "PatientID": "PLANTED-ID", "Modality": "CR", "Rows": 8, "Columns": 8, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
        "PixelRepresentation": 0, "PixelData": np.full((8, 8), study % 251, np.uint8).tobytes(), **stated,
    }  # fmt: skip
    for keyword, value in told.items():
        if value is not None:
            setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID", "1.2.3")
    return made


def file_bytes(study: int, instance: int = 1, **stated: object) -> bytes:
    stream = io.BytesIO()
    dataset(study, instance, **stated).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def filmed(picture: Path, study: int, **stated: object) -> bytes:
    """A picture of a chest as a hospital keeps it: a CR film of 8 bits, whose UIDs follow from `study`."""
    pixels = np.rint(read_image(picture).pixels * 255).astype(np.uint8)
    pixels = pixels[:, : pixels.shape[1] // 2 * 2]
    rows, columns = pixels.shape
    return file_bytes(study, Rows=rows, Columns=columns, PixelData=pixels.tobytes(), **{**CHEST, **stated})
