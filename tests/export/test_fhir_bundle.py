"""The FHIR bundle of a told study: valid by fhir.resources, whole in itself, equal to the evidence, the same bytes twice."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydicom import dcmread

pytest.importorskip("fhir.resources", reason="fhir.resources absent: install storyxai[hospital]")
pytest.importorskip("highdicom", reason="highdicom absent: install storyxai[hospital]")

from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as BundleR4
from pydicom.dataset import Dataset

from evidence_example import example_evidence, normal_evidence
from storyxai.export.dicom import dicom_files
from storyxai.export.fhir import fhir_bundle
from storyxai.export.hospital import Export, Source
from storyxai.types import RESEARCH_USE, Release

PAGES = {"clinician": b"<html>page of the clinician</html>"}
EXPORT = Export(example_evidence(), PAGES)


@pytest.fixture(scope="module")
def bundle() -> dict[str, Any]:
    return json.loads(fhir_bundle(EXPORT))


def of_type(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def values_of(node: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(node, list):
        for item in node:
            yield from values_of(item, key)


def test_the_same_evidence_gives_the_same_valid_bytes(bundle: dict[str, Any]) -> None:
    again = fhir_bundle(Export(example_evidence(), PAGES))
    assert again == fhir_bundle(EXPORT)
    parsed = Bundle.model_validate_json(again)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert [entry.resource.get_resource_type() for entry in parsed.entry] == kinds


def test_every_reference_is_to_a_resource_of_the_bundle(bundle: dict[str, Any]) -> None:
    there = [entry["fullUrl"] for entry in bundle["entry"]]
    referred = {one for one in values_of(bundle, "reference") if isinstance(one, str)}
    assert len(set(there)) == len(there) and referred and referred <= set(there)
    assert all(entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}" for entry in bundle["entry"])


def test_every_resource_says_that_a_machine_asserted_it_for_research(bundle: dict[str, Any]) -> None:
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        assert [one["code"] for one in resource["meta"]["security"]] == ["AIAST"]
        assert [one["display"] for one in resource["meta"]["tag"]] == [RESEARCH_USE]
    assert {one["status"] for kind in ("DiagnosticReport", "Observation") for one in of_type(bundle, kind)} == {"preliminary"}


def test_a_doubtful_map_leaves_with_its_doubt() -> None:
    base = example_evidence()
    checks = tuple(replace(one, passed=False) if one.name == "methods_agree" and one.passed else one for one in base.checks)
    for hits, said in ((None, "Grad-CAM map doubtful, failed: agreement of methods"), (0.41, "at a rate of 0.41")):
        maps = tuple(replace(one, doubtful=one.shown, hit_probability=hits) for one in base.heatmaps)
        notes = _notes_of(Export(replace(base, checks=checks, heatmaps=maps), PAGES))
        assert any(said in note for note in notes) and not any("doubtful" in text for text in _notes_of(EXPORT))


def _notes_of(export: Export) -> list[str]:
    made = json.loads(fhir_bundle(export))
    return [note["text"] for one in of_type(made, "Observation") for note in one.get("note", ())]


def test_observations_hold_what_the_evidence_holds(bundle: dict[str, Any]) -> None:
    findings, observations = EXPORT.evidence.prediction.findings, of_type(bundle, "Observation")
    report, = of_type(bundle, "DiagnosticReport")
    assert [one["reference"] for one in report["result"]] == [f"urn:uuid:{one['id']}" for one in observations]
    for finding, one in zip(findings, observations, strict=True):
        assert one["valueCodeableConcept"]["coding"][0]["code"] == EXPORT.tier(finding.name).code.value
        figures = [part["valueQuantity"]["value"] for part in one["component"] if "valueQuantity" in part]
        assert figures == [finding.probability, *finding.interval, finding.threshold]
        assert [code["code"] for code in one["code"]["coding"]] == [named.code.value for named in EXPORT.codes(finding.name)]


def test_visual_explanations_are_the_dicom_objects_of_the_shown_maps(bundle: dict[str, Any]) -> None:
    objects = {name: dcmread(io.BytesIO(data)) for name, data in dicom_files(EXPORT).items()}
    maps = [one for one in of_type(bundle, "ImagingSelection") if one["code"]["coding"][0]["code"] == "130401"]
    stored = [one for name, one in objects.items() if name.startswith("map")]
    assert [(one["studyUid"], one["seriesUid"], one["instance"][0]["uid"]) for one in maps] == [
        (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID) for one in stored]
    boxes = [one["instance"][0] for one in of_type(bundle, "ImagingSelection") if one not in maps]
    assert {one["uid"] for one in boxes} == {objects["image.dcm"].SOPInstanceUID}
    corners = [[box.x, box.y] for box in EXPORT.evidence.prediction.boxes]
    assert [one["imageRegion2D"][0]["coordinate"][:2] for one in boxes] == corners


def test_pages_are_attached_whole_and_a_bare_record_is_valid_too(bundle: dict[str, Any]) -> None:
    page, = of_type(bundle, "DocumentReference")
    assert base64.b64decode(page["content"][0]["attachment"]["data"]) == PAGES["clinician"]
    bare = json.loads(fhir_bundle(Export(replace(normal_evidence(), gaps=("calibration",)), {})))
    assert len(of_type(bare, "Observation")) == len(EXPORT.evidence.prediction.findings)
    assert not of_type(bare, "ImagingSelection") and not of_type(bare, "DocumentReference")


def test_with_the_film_its_patient_and_date_are_told() -> None:
    header = Dataset()
    for name, value in {
        "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "SOPInstanceUID": "1.2.3.4", "Rows": 1, "Columns": 1,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "PatientID": "P-17", "PatientName": "Doe^Jane", "PatientSex": "F",
        "PatientBirthDate": "19500102", "StudyDate": "20200304",
    }.items():
        setattr(header, name, value)
    told = json.loads(fhir_bundle(Export(EXPORT.evidence, PAGES, Source(header, "ab"))))
    patient, = of_type(told, "Patient")
    assert (patient["name"], patient["birthDate"], patient["identifier"]) == (
        [{"text": "Doe Jane"}], "1950-01-02", [{"value": "P-17"}])
    assert {one["effectiveDateTime"] for one in of_type(told, "Observation")} == {"2020-03-04"}


RELEASE = Release("Dr Ada Released", "2026-11-29T12:00:00Z", False)


def test_r4_holds_the_same_facts_and_refers_to_its_own_resources(bundle: dict[str, Any]) -> None:
    told = fhir_bundle(EXPORT, version="R4")
    older = json.loads(told)
    BundleR4.model_validate_json(told)
    there = [entry["fullUrl"] for entry in older["entry"]]
    referred = {one for one in values_of(older, "reference") if isinstance(one, str)}
    assert len(set(there)) == len(there) and referred <= set(there)
    assert not of_type(older, "ImagingSelection")
    now = {one["id"]: one for one in of_type(older, "Observation")}
    for one in of_type(bundle, "Observation"):
        same = now[one["id"]]
        assert (same["code"], same["component"], same["valueCodeableConcept"], same["note"]) == (
            one["code"], one["component"], one["valueCodeableConcept"], one["note"])
    study, = of_type(older, "ImagingStudy")
    instances = {one["uid"] for series in study["series"] for one in series["instance"]}
    assert instances == {one["instance"][0]["uid"] for one in of_type(bundle, "ImagingSelection")}
    assert all(series["numberOfInstances"] == len(series["instance"]) for series in study["series"])
    corners = [part["valueString"] for one in now.values() for part in one["component"] if "valueString" in part]
    boxes = [one["instance"][0]["imageRegion2D"][0]["coordinate"] for one in of_type(bundle, "ImagingSelection")
             if "imageRegion2D" in one["instance"][0]]
    assert [[float(value) for value in one.split()] for one in corners] == boxes and boxes
    bare = Export(replace(normal_evidence(), gaps=("calibration",)), {})
    assert not of_type(json.loads(fhir_bundle(bare, version="R4")), "ImagingStudy")


@pytest.mark.parametrize("version", ["R5", "R4"])
def test_a_released_study_is_final_and_names_who_released_it(version: str) -> None:
    told = json.loads(fhir_bundle(Export(EXPORT.evidence, PAGES, release=RELEASE), version=version))
    statuses = {one["status"] for one in of_type(told, "DiagnosticReport")}
    assert statuses == {one["status"] for one in of_type(told, "Observation")} == {"final"}
    person, = of_type(told, "Practitioner")
    assert person["name"] == [{"text": "Dr Ada Released"}]
    provenance, = of_type(told, "Provenance")
    assert provenance["recorded"] == "2026-11-29T12:00:00Z"
    assert [one["type"]["coding"][0]["code"] for one in provenance["agent"]] == ["assembler", "verifier"]
    before = json.loads(fhir_bundle(EXPORT, version=version))
    report, = of_type(told, "DiagnosticReport")
    assert report["identifier"] != of_type(before, "DiagnosticReport")[0]["identifier"]
    assert RESEARCH_USE in report["conclusion"]
