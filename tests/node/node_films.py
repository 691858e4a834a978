"""Small DICOM films for the node's tests."""

from __future__ import annotations

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


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
