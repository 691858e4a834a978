"""A told study as DICOM objects: segmentation, structured report, maps, presentation state, the clinician's page as PDF.

The objects belong to the film's own study where the film is given and was not turned on reading; the picture that they lie on
is then the film, otherwise a Secondary Capture of the picture that was told from. UIDs follow from the evidence, and dates
are the film's, so that the same evidence gives the same bytes. Source: PS3.3 A.8, A.20, A.33, A.35, A.45, A.51.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from itertools import islice
from typing import Any, Final

import numpy as np

from storyxai.errors import InputError
from storyxai.export.dicom_report import box_line, coded, report_content
from storyxai.export.hospital import (
    ARTIFICIAL,
    OWN_SCHEME,
    Export,
    Source,
    derive_uid,
    require_package,
)
from storyxai.imaging.dicom_file import is_dicom, parse
from storyxai.pages.figures import Pairs, map_limit
from storyxai.provenance import sha256_bytes
from storyxai.types import METHOD_NAMES, RESEARCH_USE, Array, Mask

NO_DATE, NO_TIME = "19700101", "000000"
"""Stands for a date that no source states; the description of the series says so."""
_RANDOM_UIDS = "1.2.826.0.1.3680043.10.511.3."
"""The root under which highdicom draws UIDs at random: these are derived anew."""
_MAKER = "storyxai"
_DATES = ("ContentDate", "SeriesDate", "PresentationCreationDate", "DateOfSecondaryCapture")
_TIMES = ("ContentTime", "SeriesTime", "PresentationCreationTime", "TimeOfSecondaryCapture")
_CLOCK = ("InstanceCreationDate", "InstanceCreationTime", "ContributionDateTime")
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TURNED = "patient orientation"
_SYNTAX = "1.2.840.10008.1.2.1"
MAP_SIDE_PX: Final = 512
"""The longer side of a map and of the picture beside it. A map is drawn on a grid of some dozen cells or less, and the picture
as it is lies in the same study: more pixels would make a study's answer three times as heavy and show nothing more."""
_PDF_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"
SERIES: Final[Mapping[str, int]] = {
    "image": 9100, "segmentation": 9101, "maps": 9102, "report": 9103, "marks": 9104, "page": 9105,
}  # fmt: skip
"""Numbers of our series within the film's study: above those that devices give."""
# What other objects need of the film: who, which study, and how the picture is laid out. All else stays behind.
_KEPT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyID", "StudyDate",
    "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "Modality", "BodyPartExamined", "Laterality",
    "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing", "PatientOrientation", "SamplesPerPixel", "FrameOfReferenceUID",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ContentDate", "ContentTime",
    "AcquisitionDate", "AcquisitionTime", *_UIDS,
)  # fmt: skip
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip


def read_source(data: bytes, name: str) -> Source:
    """The film's header, parsed as carefully as `read_image` does. Raises: ReadError; InputError for what is no DICOM film."""
    from pydicom.uid import UID

    mend = "give the DICOM file that the study was told from, or leave --source out"
    if not is_dicom(data):
        raise InputError(name, "is no DICOM file", mend=mend)
    try:
        header = parse(data, name).header
        header.decode()
        kept = {keyword: header.get(keyword) for keyword in _KEPT}
        kept["SOPClassUID"] = kept["SOPClassUID"] or header.get("MediaStorageSOPClassUID")
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as damage:
        raise InputError(name, f"has a damaged header ({type(damage).__name__})", mend=mend) from damage
    if lacking := [keyword for keyword in _UIDS if not UID(str(kept[keyword] or "")).is_valid]:
        raise InputError(name, f"states no sound {lacking[0]}, which objects that refer to it need", mend=mend)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if not _is_spacing(kept[keyword]):
            kept[keyword] = None
    return Source(_dataset({keyword: value for keyword, value in kept.items() if value is not None}), sha256_bytes(data))


def _is_spacing(value: Any) -> bool:
    """Whether it is two lengths: old films state zero for what they do not know, which no object may hold."""
    return not isinstance(value, str | float | int | None) and len(value) == 2 and min(float(side) for side in value) > 0


def dicom_files(export: Export, *, page_pdf: Callable[[], bytes] | None = None) -> dict[str, bytes]:
    """The objects of one study by file name. `page_pdf` gives the clinician's page; None where it cannot be printed.

    It is asked last, so that a browser may print while the other objects are made.

    Raises: InputError where highdicom is not installed, or where the film states what no object may hold.
    """
    require_package("highdicom", "highdicom")
    try:
        return {name: _bytes(dataset) for name, dataset in _objects(export, page_pdf)}
    except (ValueError, TypeError, AttributeError) as error:
        if export.source is None:
            raise
        mend = "put it right in the film, or leave --source out"
        raise InputError("source", f"states what DICOM objects may not hold ({error})", mend=mend) from error


def _objects(export: Export, page_pdf: Callable[[], bytes] | None) -> Iterator[tuple[str, Any]]:
    desk = _Desk(export, _reference(export))
    if not lies_on_film(export):
        yield "image.dcm", desk.settled(_picture(desk))
    if masks := {name: mask for name, mask in export.evidence.prediction.masks.items() if mask.any()}:
        yield "segmentation.dcm", desk.settled(_segmentation(desk, masks))
    maps = [desk.settled(_map(desk, number)) for number, _ in export.shown]
    yield from ((f"map-{number}.dcm", dataset) for number, dataset in enumerate(maps, start=1))
    yield "report.dcm", desk.settled(_report(desk, maps))
    if export.boxes or masks:
        yield "marks.dcm", desk.settled(_marks(desk, masks))
    if page_pdf is not None:
        yield "clinician.dcm", desk.settled(_encapsulated(desk, page_pdf()))


@dataclass(frozen=True, eq=False)
class _Desk:
    """What every object is made with: the study, and the picture that it lies on."""

    export: Export
    reference: Any
    blanks: dict[tuple[str, str, tuple[int, ...]], Any] = field(default_factory=dict)
    """The Secondary Captures made so far without their pixels, by series, colours and shape."""

    @cached_property
    def pairs(self) -> Pairs:
        """What draws the maps, each beside the picture."""
        return Pairs(self.export.evidence.image, self.export.evidence.prediction.masks, long_side=MAP_SIDE_PX)

    def series(self, kind: str, number: int = 1) -> dict[str, object]:
        """Series and instance of an object."""
        return {
            "series_instance_uid": self.export.uid("series", kind), "series_number": SERIES[kind],
            "sop_instance_uid": self.export.uid("instance", kind, str(number)), "instance_number": number,
        }  # fmt: skip

    def device(self) -> dict[str, str]:
        return {
            "manufacturer": _MAKER, "manufacturer_model_name": self.export.model_name,
            "software_versions": self.export.software, "device_serial_number": self.export.weights,
        }  # fmt: skip

    def algorithm(self) -> Any:
        import highdicom as hd

        return hd.AlgorithmIdentificationSequence(
            self.export.model_name, coded(ARTIFICIAL), self.export.model_version,
            source=self.export.software,
        )

    def settled(self, dataset: Any) -> Any:
        """The object without the clock's and chance's doing, and with what holds for all of ours."""
        settle_chance(dataset, lambda old: self.export.uid("inner", str(dataset.SOPInstanceUID), old))
        date, time = _moment(self.reference)
        stated = {**dict.fromkeys(_tags(*_DATES), date), **dict.fromkeys(_tags(*_TIMES), time)}
        stated |= dict.fromkeys(_tags("AcquisitionDateTime"), date + time)
        for part in _parts(dataset):
            for tag in stated.keys() & part.keys():
                part[tag].value = stated[tag]
            for tag in _tags(*_CLOCK) & part.keys():
                del part[tag]
        dataset.SeriesDescription = RESEARCH_USE + ("; no dates known" if date == NO_DATE else "")
        dataset.SpecificCharacterSet = "ISO_IR 192"
        scheme = {"CodingSchemeName": _MAKER, "CodingSchemeResponsibleOrganization": _MAKER}
        dataset.CodingSchemeIdentificationSequence = [_dataset({"CodingSchemeDesignator": OWN_SCHEME, **scheme})]
        if dataset.Modality not in ("SR", "DOC", "SEG"):  # as little as the film says
            dataset.Laterality = str(self.reference.get("Laterality") or "")
        return dataset


def lies_on_film(export: Export) -> bool:
    """Whether the film's stored pixels are in the frame of the evidence: of its size, and not turned on reading."""
    if export.source is None or any(_TURNED in note for note in export.evidence.image.notes):
        return False
    header = export.source.header
    return (header.get("Rows"), header.get("Columns")) == export.evidence.image.pixels.shape[:2]


def _reference(export: Export) -> Any:
    """The data set that the objects refer to and take patient and study from."""
    header = _dataset(_identity(export))
    if lies_on_film(export) and export.source is not None:
        header.update(export.source.header)
    else:
        rows, columns = export.evidence.image.pixels.shape[:2]
        samples, photometric, bits = (3, "RGB", 8) if export.evidence.image.pixels.ndim == 3 else (1, "MONOCHROME2", 16)
        header.update(_dataset({
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SOPInstanceUID": export.uid("instance", "image", "1"),
            "SeriesInstanceUID": export.uid("series", "image"), "Modality": "OT", "Rows": rows, "Columns": columns,
            "SamplesPerPixel": samples, "PhotometricInterpretation": photometric, "BitsAllocated": bits, "BitsStored": bits,
            "HighBit": bits - 1, "PixelRepresentation": 0, "PatientOrientation": ["L", "F"],
        }))  # fmt: skip
    header.file_meta = _meta(header)
    return header


def _identity(export: Export) -> dict[str, object]:
    """Patient and study: the film's, or pseudonyms that follow from the image."""
    if export.source is not None:
        header = export.source.header
        named = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "ContentDate", "ContentTime", "AcquisitionDate",
                 "AcquisitionTime", "StudyInstanceUID")  # fmt: skip
        return dict.fromkeys(_MAY_BE_EMPTY, "") | {
            name: header.get(name) for name in (*_MAY_BE_EMPTY, *named) if header.get(name) is not None
        }
    image = export.evidence.image
    age = {} if image.age_years is None else {"PatientAge": f"{min(89, int(image.age_years)):03d}Y"}
    known = {"PatientName": "Pseudonym^Storyxai", "PatientID": export.patient_id, "PatientSex": image.sex, **age}
    return {**dict.fromkeys(_MAY_BE_EMPTY, ""), **known, "StudyInstanceUID": export.study_uid, "StudyID": "STORYXAI"}


def _picture(desk: _Desk) -> Any:
    """The picture that was told from, as it is: 16 bits (8 in colour), nothing drawn on it."""
    given = np.clip(desk.export.evidence.image.pixels, 0, 1)
    if given.ndim == 3:
        made = _captured(desk, np.rint(given * 255).astype(np.uint8), "RGB", "image")
    else:
        made = _captured(desk, np.rint(given * 65535).astype(np.uint16), "MONOCHROME2", "image")
    made.ImageComments = f"The picture that was told from, upright and bright = dense. {RESEARCH_USE}"
    return made


def _map(desk: _Desk, number: int) -> Any:
    """One shown map over the image beside the untouched image, with its scale, its checks and the notice in the pixels."""
    heatmap = dict(desk.export.shown)[number]
    same = [one for _, one in desk.export.shown if one.method == heatmap.method]
    made = _captured(desk, desk.pairs.drawn(heatmap, limit=map_limit(same)), "RGB", "maps", number)
    method = METHOD_NAMES.get(heatmap.method, heatmap.method)
    made.ImageComments = f"Visual explanation: {method} of {heatmap.finding.replace('_', ' ')}. {RESEARCH_USE}"
    return made


def _captured(desk: _Desk, pixels: Any, photometric: str, kind: str, number: int = 1) -> Any:
    """A Secondary Capture of the pixels: a copy of the first of its size, which highdicom takes four times as long to make."""
    series, form = desk.series(kind, number), (kind, photometric, pixels.shape)
    if form not in desk.blanks:
        desk.blanks[form] = _blank_capture(desk, pixels, photometric, series)
    made, data = copy.deepcopy(desk.blanks[form]), pixels.tobytes()
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = series["sop_instance_uid"]
    made.InstanceNumber, made.PixelData = number, data + b"\0" * (len(data) % 2)
    return made


def _blank_capture(desk: _Desk, pixels: Any, photometric: str, series: Mapping[str, object]) -> Any:
    """A Secondary Capture as the pixels would have it, without them."""
    import highdicom as hd

    made = hd.sc.SCImage.from_ref_dataset(
        desk.reference, pixels, photometric_interpretation=photometric, bits_allocated=8 * pixels.dtype.itemsize,
        coordinate_system="PATIENT", patient_orientation=("L", "F"), manufacturer=_MAKER, transfer_syntax_uid=_SYNTAX,
        **series,
    )
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.ManufacturerModelName, made.SoftwareVersions = desk.export.model_name, desk.export.software
    del made.PixelData
    return made


def _segmentation(desk: _Desk, masks: Mapping[str, Mask]) -> Any:
    """The drawn structures, one segment each."""
    import highdicom as hd

    described = [
        hd.seg.SegmentDescription(
            number, name.replace("_", " ")[:64], *map(coded, desk.export.structure(name)), "AUTOMATIC", desk.algorithm(),
            tracking_uid=desk.export.uid("tracking", "structure", name), tracking_id=f"structure {name}"[:64],
        )
        for number, name in enumerate(masks, start=1)
    ]  # fmt: skip
    made = hd.seg.Segmentation(
        [desk.reference], np.stack(list(masks.values()), axis=-1)[None].astype(np.uint8), "BINARY", described,
        content_label="STORYXAI", content_description=RESEARCH_USE, content_creator_name="Storyxai^Program",
        **desk.series("segmentation"), **desk.device(),
    )  # fmt: skip
    made.PatientOrientation = desk.reference.get("PatientOrientation") or ""
    return made


def _report(desk: _Desk, maps: list[Any]) -> Any:
    """The structured report by TID 1500: unverified and preliminary until somebody released the study."""
    import highdicom as hd

    release = desk.export.release
    root = report_content(desk.export, desk.reference, maps)[0]
    # highdicom copies the content and walks it four times; of a root without its groups it makes the same document.
    content, root.ContentSequence = root.ContentSequence, root.ContentSequence[:1]
    by = {} if release is None else {
        "is_final": True, "is_verified": True, "verifying_observer_name": _person(release.by),
        "verifying_organization": "not stated",
    }  # fmt: skip
    report = hd.sr.ComprehensiveSR(
        [desk.reference, *maps], root,
        **{**desk.series("report"), "sop_instance_uid": desk.export.settled_uid("instance", "report", "1")},
        manufacturer=_MAKER, is_complete=True, **by,
    )
    report.ContentSequence = content
    if release is not None:
        report.VerifyingObserverSequence[0].VerificationDateTime = re.sub(r"\D", "", release.time)[:14] + "+0000"
    return report


def _person(name: str) -> str:
    """The name as DICOM writes one: who gave it in DICOM's form keeps that, else it stands whole before the first caret."""
    return name if "^" in name else f"{name}^"


def _marks(desk: _Desk, masks: Mapping[str, Mask]) -> Any:
    """Boxes and outlines, to be laid over the picture by the viewer."""
    import highdicom as hd

    layers: list[Any] = []
    notes: list[Any] = []
    boxes = desk.export.boxes
    named = (f"{box.finding.replace('_', ' ')} {box.score:.2f}. {RESEARCH_USE}" for box in boxes)
    drawn: list[tuple[str, list[tuple[str, Array]]]] = [("BOXES", list(zip(named, map(box_line, boxes), strict=True)))]
    outlines = [(name.replace("_", " "), outline(mask)) for name, mask in masks.items()]
    drawn.append(("OUTLINES", [(name, line) for name, line in outlines if len(line) > 3]))
    for name, lines in drawn:
        if not lines:
            continue
        layers.append(hd.pr.GraphicLayer(name, order=len(layers) + 1, description=f"{name.lower()}; {RESEARCH_USE}"[:64]))
        for words, line in lines:
            shape = hd.pr.GraphicObject("POLYLINE", line, units="PIXEL")
            text = hd.pr.TextObject(words, units="PIXEL", anchor_point=(float(line[0, 0]), float(line[0, 1])))
            notes.append(hd.pr.GraphicAnnotation([desk.reference], layers[-1], graphic_objects=[shape], text_objects=[text]))
    colour = desk.reference.SamplesPerPixel == 3  # a state for grey pictures may not refer to one in colour (PS3.3 A.33.1)
    kind = hd.pr.ColorSoftcopyPresentationState if colour else hd.pr.GrayscaleSoftcopyPresentationState
    return kind(
        [desk.reference], content_label="STORYXAI", content_description=RESEARCH_USE, content_creator_name="Storyxai^Program",
        graphic_layers=layers, graphic_annotations=notes, **desk.series("marks"), **desk.device(),
        **({"icc_profile": _srgb()} if colour else {}),
    )  # fmt: skip


def _srgb() -> bytes:
    """The ICC profile of sRGB that comes with highdicom."""
    return resources.files("highdicom").joinpath("_icc_profiles", "sRGB_v4_ICC_preference.icc").read_bytes()


def outline(mask: Mask, *, tolerance: float = 0.75) -> Array:
    """The longest outline of a mask as a closed line, by column and row, within `tolerance` pixels. Shapes: float32 [P, 2]."""
    from skimage.measure import approximate_polygon, find_contours

    lines = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    if not lines:
        return np.empty((0, 2), dtype=np.float32)
    line = approximate_polygon(max(lines, key=len), tolerance)
    # A pixel's middle is at +0.5, and the frame of padding at 1.
    height, width = mask.shape
    return np.asarray(np.clip(line[:, ::-1] - 0.5, 0, (width, height)), dtype=np.float32)


def _encapsulated(desk: _Desk, pdf: bytes) -> Any:
    """The clinician's page as Encapsulated PDF. Source: PS3.3 A.45.1, C.24.2."""
    series, export = desk.series("page"), desk.export
    told = {name: desk.reference.get(name) for name in (*_MAY_BE_EMPTY, "PatientAge", "StudyInstanceUID", "StudyDescription")}
    burnt = any(note.startswith("burnt-in text") for note in export.evidence.image.notes)
    made = _dataset({
        **{name: value for name, value in told.items() if value is not None}, "SOPClassUID": _PDF_CLASS,
        # Another browser prints another PDF, and another PDF is another object.
        "SOPInstanceUID": export.uid("instance", "page", sha256_bytes(pdf)), "SeriesInstanceUID": series["series_instance_uid"],
        "SeriesNumber": series["series_number"], "InstanceNumber": 1, "Modality": "DOC", "Manufacturer": _MAKER,
        "ManufacturerModelName": export.model_name, "SoftwareVersions": export.software, "ConversionType": "WSD",
        "ContentDate": NO_DATE, "ContentTime": NO_TIME, "AcquisitionDateTime": "",
        "BurnedInAnnotation": "YES" if burnt else "NO",
        "DocumentTitle": f"Clinician's page. {RESEARCH_USE}", "ConceptNameCodeSequence": [],
        "MIMETypeOfEncapsulatedDocument": "application/pdf", "EncapsulatedDocumentLength": len(pdf),
        "EncapsulatedDocument": pdf + b"\0" * (len(pdf) % 2),
    })  # fmt: skip
    made.file_meta = _meta(made)
    return made


def settle_chance(dataset: Any, derive: Callable[[str], str]) -> None:
    """Give each UID that was drawn at random one that `derive` makes of the order in which it is met."""
    met: dict[str, str] = {}
    for part in _parts(dataset):
        for element in part:
            if element.VR == "UI" and str(element.value).startswith(_RANDOM_UIDS):
                element.value = met.setdefault(str(element.value), derive(str(len(met))))


def _parts(dataset: Any) -> Iterator[Any]:
    """The data set and every item within it."""
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _parts(item)


@lru_cache(maxsize=8)
def _tags(*keywords: str) -> frozenset[int]:
    """The tags of elements."""
    from pydicom.datadict import tag_for_keyword

    return frozenset(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


def _moment(reference: Any) -> tuple[str, str]:
    """The date and time of the film, the first that it states."""
    for kind in ("Content", "Acquisition", "Study"):
        if date := str(reference.get(f"{kind}Date") or ""):
            return date, str(reference.get(f"{kind}Time") or NO_TIME)
    return NO_DATE, NO_TIME


def _dataset(values: Mapping[str, object]) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def _meta(dataset: Any) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(_SYNTAX)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(dataset.SOPClassUID), UID(dataset.SOPInstanceUID)
    return meta


def _bytes(dataset: Any) -> bytes:
    from pydicom.charset import default_encoding
    from pydicom.filewriter import dcmwrite

    target = io.BytesIO()
    for item in islice(_parts(dataset), 1, None):
        # Else pydicom looks for elements of two meanings below each item anew; it has done so below the data set itself.
        item.set_original_encoding(False, True, default_encoding)
    dataset.file_meta.ImplementationClassUID = derive_uid("implementation")
    dataset.file_meta.ImplementationVersionName = "STORYXAI"
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()
