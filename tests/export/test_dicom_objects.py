"""DICOM objects of a told study: read back equal, the same bytes twice, no error by dciodvfy, nothing that was withheld."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom import dcmread
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes
from skimage.draw import polygon

hd = pytest.importorskip("highdicom", reason="highdicom absent: install storyxai[hospital]")

from evidence_example import example_evidence, gate_check, normal_evidence  # noqa: E402
from storyxai.errors import InputError  # noqa: E402
from storyxai.evidence.record import as_record  # noqa: E402
from storyxai.export import hospital  # noqa: E402
from storyxai.export.dicom import MAP_SIDE_PX, dicom_files, outline, read_source  # noqa: E402
from storyxai.export.fhir import fhir_bundle  # noqa: E402
from storyxai.export.hospital import STATES, Export, Source, require_package  # noqa: E402
from storyxai.modalities.chest_radiograph.findings import CHEST, SNOMED  # noqa: E402
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH  # noqa: E402
from storyxai.pages.figures import map_limit, pair_png  # noqa: E402
from storyxai.provenance import sha256_bytes  # noqa: E402
from storyxai.types import RESEARCH_USE, Release  # noqa: E402

EVIDENCE = example_evidence()
PDF = b"%PDF-1.4 made up"


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    return dicom_files(Export(EVIDENCE, {}), page_pdf=lambda: PDF)


STRUCTURES = {one.name: one.codes[0] for one in CHEST_RADIOGRAPH.structures}

def read(data: bytes) -> Any:
    return dcmread(io.BytesIO(data))


def items(node: Any) -> Iterator[Any]:
    """Every content item of a report."""
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def named(node: Any, code: str) -> list[Any]:
    return [item for item in items(node) if item.ConceptNameCodeSequence[0].CodeValue == code]


def groups(report: Any) -> dict[str, Any]:
    """The measurement groups by their tracking identifier."""
    return {named(group, "112039")[0].TextValue: group for group in named(report, "125007")}


def film(**stated: Any) -> bytes:
    """A radiograph as a hospital keeps it, of the example's size."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made = Dataset()
    height, width = EVIDENCE.image.pixels.shape
    told = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2", "PatientName": "Müller^Änne", "PatientID": "P-17", "PatientBirthDate": "19500102",
        "PatientSex": "F", "StudyDate": "20200304", "StudyTime": "050607", "AccessionNumber": "A9", "StudyID": "7",
        "ReferringPhysicianName": "Who^Doctor", "Modality": "CR", "SpecificCharacterSet": "ISO_IR 100", "Rows": height,
        "Columns": width, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8, "BitsStored": 8,
        "HighBit": 7, "PixelRepresentation": 0, "OtherPatientIDs": "SECRET-99",
        "PixelData": np.rint(EVIDENCE.image.pixels * 255).astype(np.uint8).tobytes(), **stated,
    }  # fmt: skip
    for keyword, value in told.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    target = io.BytesIO()
    made.save_as(target, enforce_file_format=True)
    return target.getvalue()


def filmed(*, notes: tuple[str, ...] = (), **stated: Any) -> Export:
    return Export(replace(EVIDENCE, image=replace(EVIDENCE.image, notes=notes)), {}, read_source(film(**stated), "film.dcm"))


def test_the_same_evidence_gives_the_same_bytes(objects: Mapping[str, bytes]) -> None:
    again = dicom_files(Export(example_evidence(), {}), page_pdf=lambda: PDF)
    assert {name: sha256_bytes(data) for name, data in again.items()} == {n: sha256_bytes(d) for n, d in objects.items()}
    today, drawn = date.today().strftime("%Y%m%d").encode(), b"1.2.826.0.1.3680043.10.511.3."
    assert not [name for name, data in objects.items() if today in data or drawn in data]


def test_other_evidence_gives_other_objects(objects: Mapping[str, bytes]) -> None:
    other = dicom_files(Export(normal_evidence(), {}))
    mine, theirs = ({str(read(data).SOPInstanceUID) for data in files.values()} for files in (objects, other))
    assert not mine & theirs and len(mine) == len(objects)
    assert sorted(other) == ["image.dcm", "report.dcm"]


def test_the_segmentation_holds_the_masks(objects: Mapping[str, bytes]) -> None:
    read_back = hd.seg.segread(io.BytesIO(objects["segmentation.dcm"]))
    source = str(read(objects["image.dcm"]).SOPInstanceUID)
    for number, (name, mask) in enumerate(EVIDENCE.prediction.masks.items(), start=1):
        segment = read_back.get_segment_description(number)
        pixels = read_back.get_pixels_by_source_instance([source], segment_numbers=[number])
        assert np.array_equal(pixels[0, :, :, 0].astype(bool), mask)
        assert segment.segmented_property_type.value == STRUCTURES[name].value
        assert segment.algorithm_identification.name == EVIDENCE.prediction.model_id


def test_the_picture_is_that_of_the_evidence(objects: Mapping[str, bytes]) -> None:
    stored = read(objects["image.dcm"]).pixel_array
    assert np.array_equal(stored, np.rint(EVIDENCE.image.pixels * 65535))


def test_shown_maps_alone_are_exported_with_the_notice_in_their_pixels(objects: Mapping[str, bytes]) -> None:
    shown = [one for one in EVIDENCE.heatmaps if one.shown]
    assert sorted(name for name in objects if name.startswith("map")) == [f"map-{n + 1}.dcm" for n in range(len(shown))]
    for number, heatmap in enumerate(shown, start=1):
        limit = map_limit([one for one in shown if one.method == heatmap.method])
        png = pair_png(EVIDENCE.image, heatmap, limit=limit, masks=EVIDENCE.prediction.masks, long_side=MAP_SIDE_PX)
        expected = np.asarray(Picture.open(io.BytesIO(png)).convert("RGB"))
        assert np.array_equal(read(objects[f"map-{number}.dcm"]).pixel_array, expected)


def test_only_what_stories_draw_leaves() -> None:
    """A PACS showed a coloured map of each of fourteen unlikely findings, and boxes that rest on maps which had failed."""
    first = next(one for one in EVIDENCE.heatmaps if one.shown and one.method == "grad_cam")
    unlikely = next(one.name for one in EVIDENCE.prediction.findings if one.name not in as_record(EVIDENCE)["named"])
    more = Export(replace(EVIDENCE, heatmaps=(replace(first, finding=unlikely), *EVIDENCE.heatmaps)), {})
    assert unlikely not in {one.finding for _, one in more.shown} and len(more.shown) == len(Export(EVIDENCE, {}).shown)
    assert first.finding in {one.finding for one in Export(EVIDENCE, {}).boxes}
    others = tuple(replace(one, shown=one.shown and one is not first) for one in EVIDENCE.heatmaps)
    withheld = Export(replace(EVIDENCE, heatmaps=others), {})
    assert first.finding not in {one.finding for one in withheld.boxes}
    assert first.finding in {one.finding for _, one in withheld.shown}, "by LIME"


def test_of_an_image_of_an_unknown_kind_no_map_and_no_box_leaves() -> None:
    """A viewer drew "Pneumothorax" on films of children, of which the pages said that the model cannot tell."""
    far = gate_check("gate.taught", 1.0, 0.0, failed="gate_warned")
    export = Export(replace(EVIDENCE, gate=(*EVIDENCE.gate, far)), {})
    assert EVIDENCE.prediction.boxes and any(one.shown for one in EVIDENCE.heatmaps)
    made = {name: read(data) for name, data in dicom_files(export).items()}
    assert set(made) == {"image.dcm", "segmentation.dcm", "report.dcm", "marks.dcm"}
    assert [layer.GraphicLayer for layer in made["marks.dcm"].GraphicLayerSequence] == ["OUTLINES"]
    states = [item for item in items(made["report.dcm"]) if item.ValueType == "CODE" and "Indeterminate" in str(item)]
    assert len(states) == len(EVIDENCE.prediction.findings) and not named(made["report.dcm"], "130401")
    assert b"ImagingSelection" in fhir_bundle(Export(EVIDENCE, {})) and b"ImagingSelection" not in fhir_bundle(export)


def test_the_report_says_of_each_finding_what_the_evidence_says(objects: Mapping[str, bytes]) -> None:
    report = read(objects["report.dcm"])
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == ("UNVERIFIED", "PRELIMINARY", "COMPLETE")
    of, record = groups(report), as_record(EVIDENCE)["findings"]
    for finding in EVIDENCE.prediction.findings:
        group = of[f"finding {finding.name}"]
        code = named(group, "121071")[0].ConceptCodeSequence[0].CodeValue
        state = next(item for item in named(group, code) if item.ValueType == "CODE").ConceptCodeSequence[0].CodeValue
        assert state == STATES[record[finding.name]["tier"]].code.value
        numbers = [float(named(group, name)[0].MeasuredValueSequence[0].NumericValue)
                   for name in ("122157", "interval_low", "interval_high", "122411")]
        assert numbers == [finding.probability, *finding.interval, finding.threshold]
        assert named(group, "111001")[0].TextValue == EVIDENCE.prediction.model_id
    assert RESEARCH_USE in [item.TextValue for item in named(report, "121106")]


def test_visual_explanations_refer_to_the_shown_maps(objects: Mapping[str, bytes]) -> None:
    of, shown = groups(read(objects["report.dcm"])), [one for one in EVIDENCE.heatmaps if one.shown]
    for finding in EVIDENCE.prediction.findings:
        found = named(of[f"finding {finding.name}"], "130401")
        referred = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in found]
        numbers = [number for number, one in enumerate(shown, start=1) if one.finding == finding.name]
        assert referred == [read(objects[f"map-{number}.dcm"]).SOPInstanceUID for number in numbers]
    withheld = [item.TextValue for item in named(of["finding Cardiomegaly"], "121106")]
    assert len(withheld) == 1 and withheld[0].startswith("Grad-CAM map withheld: too much of the map")


def test_side_and_zones_stand_with_their_finding(objects: Mapping[str, bytes]) -> None:
    group = groups(read(objects["report.dcm"]))["finding Effusion"]
    assert named(group, "272741003")[0].ConceptCodeSequence[0].CodeValue == "24028007"
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in named(group, "zone")] == ["right lower"]


def test_a_model_without_calibration_has_a_score_and_no_probability() -> None:
    bare = dicom_files(Export(replace(normal_evidence(), gaps=("calibration",)), {}))
    report = read(bare["report.dcm"])
    assert named(report, "score") and not named(report, "122157") and not named(report, "interval_low")


def test_boxes_are_closed_lines_on_the_picture(objects: Mapping[str, bytes]) -> None:
    report, picture = read(objects["report.dcm"]), read(objects["image.dcm"])
    found = [item for item in items(report) if item.ValueType == "SCOORD"]
    for item, box in zip(found, EVIDENCE.prediction.boxes, strict=True):
        line = np.reshape(item.GraphicData, (-1, 2))
        assert (line.min(axis=0).tolist(), line.max(axis=0).tolist()) == (
            [box.x, box.y], [box.x + box.width, box.y + box.height])
        assert item.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == picture.SOPInstanceUID
    drawn = [one.GraphicObjectSequence[0] for one in read(objects["marks.dcm"]).GraphicAnnotationSequence
             if one.GraphicLayer == "BOXES"]
    assert [one.GraphicData for one in drawn] == [item.GraphicData for item in found]


def test_an_outline_encloses_its_mask() -> None:
    for mask in EVIDENCE.prediction.masks.values():
        line = outline(mask)
        rows, columns = polygon(line[:, 1] - 0.5, line[:, 0] - 0.5, mask.shape)
        again = np.zeros_like(mask)
        again[rows, columns] = True
        assert 2 * (again & mask).sum() / (again.sum() + mask.sum()) > 0.98


def test_the_page_is_encapsulated_whole(objects: Mapping[str, bytes]) -> None:
    page = read(objects["clinician.dcm"])
    assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength] == PDF
    assert RESEARCH_USE in page.DocumentTitle


@pytest.mark.parametrize("program", ["dciodvfy", "dsrdump", "dcmdump"])
def test_other_programs_read_every_object_without_error(objects: Mapping[str, bytes], program: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} absent: install dicom3tools and dcmtk")
    with_film = dicom_files(filmed(), page_pdf=lambda: PDF)
    for name, data in [*objects.items(), *((f"film-{name}", data) for name, data in with_film.items())]:
        if program == "dsrdump" and not name.endswith("report.dcm"):
            continue
        (tmp_path / name).write_bytes(data)
        options = ["-new"] if program == "dciodvfy" else []
        done = subprocess.run([program, *options, tmp_path / name], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode(errors="replace") if program == "dciodvfy" else done.stderr.decode()
        bad = [line for line in said.splitlines() if line.startswith(("Error", "E:", "F:"))]
        assert (done.returncode, bad) == (0, []), f"{name}: {bad}"


def test_the_film_names_patient_and_study_and_nothing_else_of_it_passes() -> None:
    export = filmed()
    objects = dicom_files(export)
    assert "image.dcm" not in objects, "the film itself is the picture"
    for data in objects.values():
        one = read(data)
        assert (str(one.PatientName), one.PatientID, one.StudyInstanceUID, one.AccessionNumber) == (
            "Müller^Änne", "P-17", "1.2.3.1", "A9")
        assert (one.StudyDate, one.get("ContentDate", "20200304")) == ("20200304", "20200304")
        assert b"SECRET-99" not in data
    assert read(objects["segmentation.dcm"]).ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2"
    without = dicom_files(Export(export.evidence, {}))
    assert not {read(d).SOPInstanceUID for d in objects.values()} & {read(d).SOPInstanceUID for d in without.values()}


def test_on_a_film_that_was_turned_the_objects_lie_on_a_picture_of_their_own() -> None:
    objects = dicom_files(filmed(notes=("mirrored left to right: patient orientation",)))
    picture = read(objects["image.dcm"])
    assert (picture.PatientID, picture.StudyInstanceUID) == ("P-17", "1.2.3.1")
    referred = read(objects["segmentation.dcm"]).ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referred.ReferencedSOPInstanceUID == picture.SOPInstanceUID


def test_a_film_of_zero_spacing_has_none() -> None:
    segmentation = read(dicom_files(filmed(PixelSpacing=[0, 0]))["segmentation.dcm"])
    measures = segmentation.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence", [])
    assert not [one for one in measures if "PixelSpacing" in one and min(one.PixelSpacing) <= 0]


def test_without_the_film_nobody_is_named_and_the_objects_say_so(objects: Mapping[str, bytes]) -> None:
    for data in objects.values():
        one = read(data)
        assert (str(one.PatientName), one.PatientID[:9], one.StudyDate) == ("Pseudonym^Storyxai", "STORYXAI-", "")
        assert one.SeriesDescription == f"{RESEARCH_USE}; no dates known"


@pytest.mark.parametrize(
    ("data", "why"), [(b"\x89PNG....", "is no DICOM file"), (film(StudyInstanceUID=""), "StudyInstanceUID")]
)
def test_a_source_that_cannot_serve_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_source(data, "film.dcm")


def test_a_film_that_states_what_no_object_may_hold_is_named() -> None:
    export = filmed()
    assert export.source is not None
    export.source.header.PatientSex = "MALE"
    with pytest.raises(InputError, match="source"):
        dicom_files(Export(EVIDENCE, {}, Source(export.source.header, "00")))


def test_codes_are_those_of_pydicoms_tables() -> None:
    for term in CHEST:
        known = [word for word, versions in concepts["SCT"].items() if term.snomed in versions]
        assert not known or SNOMED[term.snomed].split()[-1].lower() in " ".join(known).lower(), term.name
    assert next(term for term in CHEST if term.name == "Cardiomegaly").snomed == "8186001" != codes.SCT.Cardiomegaly.value
    assert set(SNOMED) >= {term.snomed for term in CHEST if term.snomed}
    ours = [
        hospital.VISUAL_EXPLANATION, hospital.PROBABILITY, hospital.THRESHOLD, hospital.COMMENT, hospital.ARTIFICIAL,
        hospital.LATERALITY, hospital.IMAGING, hospital.ANATOMY, hospital.ABNORMAL, *STATES.values(),
        *(hospital.Named(code, code.meaning) for code in STRUCTURES.values()),
        *hospital.SIDES.values(),
    ]
    unknown = set()
    for one in ours:
        meanings = [v[one.code.value][0].lower() for v in concepts[one.code.scheme].values() if one.code.value in v]
        assert not meanings or any(one.meaning.lower() in meaning for meaning in meanings), f"{one}: {meanings}"
        unknown |= {one.code.value} if not meanings else set()
    # Degrees of certainty and the two lungs stand in none of DICOM's context groups: these tables say nothing of them.
    assert unknown == {"2931005", "60022001", "385434005", "44029006", "3341006"}


def test_a_missing_package_is_one_sentence_with_its_mend() -> None:
    with pytest.raises(InputError, match=r'needs nothing-there, .* pip install "storyxai\[hospital\]"'):
        require_package("nothing_there", "nothing-there")


def test_the_report_of_a_released_study_is_verified_by_its_observer(objects: dict[str, bytes], tmp_path: Path) -> None:
    release = Release("Dr Ada Released", "2026-11-29T12:00:00Z", False)
    files = dicom_files(Export(EVIDENCE, {}, release=release))
    before, after = read(objects["report.dcm"]), read(files["report.dcm"])
    assert (before.VerificationFlag, before.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert (after.VerificationFlag, after.PreliminaryFlag) == ("VERIFIED", "FINAL")
    observer, = after.VerifyingObserverSequence
    assert (str(observer.VerifyingObserverName), observer.VerificationDateTime) == ("Dr Ada Released^", "20261129120000+0000")
    assert before.SOPInstanceUID != after.SOPInstanceUID and files == dicom_files(Export(EVIDENCE, {}, release=release))
    assert files["map-1.dcm"] == objects["map-1.dcm"]
    if validator := shutil.which("dciodvfy"):
        (tmp_path / "report.dcm").write_bytes(files["report.dcm"])
        said = subprocess.run([validator, str(tmp_path / "report.dcm")], capture_output=True, text=True, check=False)
        assert not [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


def test_marks_on_a_picture_in_colour_are_a_presentation_state_for_colour(tmp_path: Path) -> None:
    image = replace(EVIDENCE.image, pixels=np.repeat(EVIDENCE.image.pixels[..., None], 3, axis=-1))
    export = Export(replace(EVIDENCE, image=image, heatmaps=()), {})
    data = dicom_files(export)
    marks, picture = read(data["marks.dcm"]), read(data["image.dcm"])
    assert (marks.SOPClassUID.name, picture.PhotometricInterpretation) == ("Color Softcopy Presentation State Storage", "RGB")
    referred, = marks.ReferencedSeriesSequence[0].ReferencedImageSequence
    assert referred.ReferencedSOPInstanceUID == picture.SOPInstanceUID and len(marks.ICCProfile) > 128
    assert data == dicom_files(export)
    if validator := shutil.which("dciodvfy"):
        for name, one in data.items():
            (tmp_path / name).write_bytes(one)
            said = subprocess.run([validator, "-new", str(tmp_path / name)], capture_output=True, text=True, check=False)
            assert not [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")], name


def test_a_map_of_a_large_picture_is_drawn_no_larger_than_it_has_to_say_something() -> None:
    larger = np.ones((6, 6), np.float32)
    image = replace(EVIDENCE.image, pixels=np.kron(EVIDENCE.image.pixels, larger))
    maps = tuple(replace(one, values=np.kron(one.values, larger)) for one in EVIDENCE.heatmaps)
    large = replace(EVIDENCE, image=image, heatmaps=maps, prediction=replace(EVIDENCE.prediction, masks={}, boxes=()))
    assert max(image.pixels.shape) > 2 * MAP_SIDE_PX
    drawn = read(dicom_files(Export(large, {}))["map-1.dcm"])
    # Two pictures, and a margin of 16 pixels before, between and behind them.
    assert drawn.Columns == 2 * round(MAP_SIDE_PX * image.pixels.shape[1] / max(image.pixels.shape)) + 48
