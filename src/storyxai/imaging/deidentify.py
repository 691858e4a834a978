"""De-identification of DICOM radiographs by keep-list: what is not named here does not pass.

Pixels are not cleaned. Unless the file says that nothing is burnt into them, the result says that the identity may
still be there: Patient Identity Removed stays NO.
"""

from __future__ import annotations

import copy
import hashlib
import re
from typing import Any

__all__ = ["KEPT", "burnt_in_doubt", "deidentify"]

# What showing and judging a radiograph needs. No dates, names, free text, identifiers or private elements.
KEPT = frozenset({
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "PresentationIntentType", "BodyPartExamined",
    "ViewPosition", "PatientOrientation", "ImageLaterality", "PatientSex", "PatientAge",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelSpacing", "ImagerPixelSpacing",
    "PixelSpacingCalibrationType", "PixelAspectRatio", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "VOILUTSequence", "LUTDescriptor",
    "ModalityLUTType", "LUTData", "PresentationLUTShape", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "BurnedInAnnotation", "PixelData",
})  # fmt: skip
_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# PS3.16 CID 7050: the basic profile, and the patient's sex and age kept.
_METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113108", "Retain Patient Characteristics Option"),
)


def deidentify(dataset: Any, *, salt: str = "") -> Any:
    """A new dataset with the kept elements only, new UIDs and the codes of what was done; the given one is untouched.

    UIDs become hashes of the old ones and `salt`, so images of one study stay together; give a secret salt, as without
    one anybody who knows a UID can find its image. Ages above 89 become 90. Source: PS3.15 annex E.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    clean = _kept(dataset)
    for name in _UIDS:
        if name in dataset:
            setattr(clean, name, UID(_new_uid(str(dataset.get(name)), salt)))
    if "PatientAge" in clean:
        clean.PatientAge = _capped_age(str(clean.PatientAge))
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber"):
        # Type 2 elements of the radiograph's definition: they must be there and may be empty.
        setattr(clean, name, "")
    doubt = burnt_in_doubt(dataset)
    clean.PatientIdentityRemoved = "NO" if doubt else "YES"
    clean.DeidentificationMethod = "storyxai keep-list; pixels not cleaned"
    clean.DeidentificationMethodCodeSequence = []
    for value, meaning in _METHODS:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        clean.DeidentificationMethodCodeSequence.append(code)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = clean.get("SOPClassUID", UID("1.2.840.10008.5.1.4.1.1.1"))
    meta.MediaStorageSOPInstanceUID = clean.get("SOPInstanceUID", UID(_new_uid("", salt)))
    clean.file_meta = meta
    return clean


def burnt_in_doubt(dataset: Any) -> str:
    """Why identity may still be in the pixels, or "" when the file says that nothing is burnt in."""
    stated = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if stated == "NO":
        return ""
    if stated == "YES":
        return "the file says that annotation is burnt into its pixels"
    return "the file does not say whether annotation is burnt into its pixels"


def _kept(dataset: Any) -> Any:
    from pydicom.dataset import Dataset

    clean = Dataset()
    for element in dataset:
        if element.tag.is_private or element.keyword not in KEPT:
            continue
        kept = copy.deepcopy(element)
        if element.VR == "SQ":
            kept.value = [_kept(item) for item in element.value]
        clean.add(kept)
    return clean


def _new_uid(old: str, salt: str) -> str:
    """A UID under 2.25 from a hash of the old one (PS3.5 B.2: 2.25 and a 128-bit number)."""
    digest = hashlib.sha256(f"{salt}\0{old}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _capped_age(age: str) -> str:
    years = re.fullmatch(r"(\d{3})Y", age)
    if years and int(years[1]) > 89:
        return "090Y"
    return age if re.fullmatch(r"\d{3}[DWMY]", age) else ""
