"""A told study as one FHIR bundle, R5 or R4: report, observations, references to maps, pages, device, provenance.

The bundle is preliminary and says on every resource that a machine asserted it (AIAST). It refers to the DICOM objects that
`export.dicom` makes of the same study by their UIDs, after the profile ImagingSelectionVisualExplanation of HL7's guide that
maps DICOM SR to FHIR. No clock: what has no date in the source has none here. The same evidence gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, Final

from storyxai.errors import StoryxaiError
from storyxai.export.dicom import lies_on_film
from storyxai.export.dicom_report import box_line, evaluations, figures
from storyxai.export.fhir_r4 import as_r4
from storyxai.export.hospital import (
    OWN_SCHEME,
    VISUAL_EXPLANATION,
    Export,
    Named,
    derive_uid,
    require_package,
)
from storyxai.provenance import canonical_json
from storyxai.types import METHOD_NAMES, RESEARCH_USE, Box, Finding, Heatmap

SYSTEMS: Final = {
    "SCT": "http://snomed.info/sct", "RADLEX": "http://www.radlex.org", "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    OWN_SCHEME: "urn:storyxai:codes", "LN": "http://loinc.org",
}  # fmt: skip
"""FHIR's name of each coding scheme."""
_PSEUDONYM, _SHA256, _STUDY = "urn:storyxai:pseudonym", "urn:storyxai:sha256", "urn:dicom:uid"
_CAPTURE, _SEX = "1.2.840.10008.5.1.4.1.1.7", {"M": "male", "F": "female", "O": "other"}
_MADE_BY_AI = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}  # fmt: skip
_PEOPLE_AND_DEVICE = frozenset({"patient", "device", "clinician"})
_Resource = dict[str, object]


def fhir_bundle(export: Export, *, version: str = "R5") -> bytes:
    """The bundle as canonical JSON, every resource checked by fhir.resources; `version` is "R5" or "R4".

    Raises: InputError where fhir.resources is not installed; StoryxaiError where the bundle does not fit its own schema.
    """
    require_package("fhir", "fhir.resources")
    from pydantic import ValidationError

    names = _Names(export)
    resources = list(_resources(export, names))
    if version == "R4":
        resources = as_r4(resources, study_uid=export.study_uid, reference=names.to)
        # The package has no models of R4 itself; R4B changed none of these resources.
        models = import_module("fhir.resources.R4B.bundle")
    else:
        models = import_module("fhir.resources.bundle")
    named = [(role, {**one, "id": names.url(role).rpartition(":")[2], "meta": _meta()}) for role, one in resources]
    entries = [{"fullUrl": names.url(role), "resource": resource} for role, resource in named]
    told = {"system": _SHA256, "value": export.sha256}
    bundle = {"resourceType": "Bundle", "type": "collection", "identifier": told, "meta": _meta(), "entry": entries}
    try:
        models.Bundle.model_validate(bundle)
    except ValidationError as error:
        raise StoryxaiError(f"the FHIR bundle does not fit its schema ({error})") from error
    return canonical_json(bundle)


class _Names:
    """Addresses of the resources within the bundle, from their roles."""

    def __init__(self, export: Export) -> None:
        self.export = export

    def url(self, role: str) -> str:
        seed = hashlib.sha256(self.export.uid("fhir", role).encode()).digest()[:16]
        return f"urn:uuid:{uuid.UUID(bytes=seed, version=5)}"

    @property
    def status(self) -> str:
        return "preliminary" if self.export.release is None else "final"

    def to(self, role: str) -> _Resource:
        return {"reference": self.url(role)}


def _resources(export: Export, names: _Names) -> Iterator[tuple[str, _Resource]]:
    """Every resource with its role."""
    prediction = export.evidence.prediction
    made: list[tuple[str, _Resource]] = [("patient", _patient(export)), ("device", _device(export))]
    if export.release is not None:
        made.append(("clinician", {"resourceType": "Practitioner", "name": [{"text": export.release.by}]}))
    made += [(f"map {number}", _map(export, names, number, one)) for number, one in export.shown]
    made += [(f"box {number}", _box(export, names, box)) for number, box in enumerate(export.boxes, start=1)]
    made += [(f"finding {one.name}", _observation(export, names, one)) for one in prediction.findings]
    made += [(f"page {audience}", _page(names, audience, page)) for audience, page in sorted(export.pages.items())]
    made.append(("report", _report(export, names)))
    made.append(("provenance", _provenance(export, names, [role for role, _ in made if role not in _PEOPLE_AND_DEVICE])))
    yield from made


def _meta() -> _Resource:
    notice = {"system": "urn:storyxai:notice", "code": "research-use", "display": RESEARCH_USE}
    return {"security": [_MADE_BY_AI], "tag": [notice]}


def _patient(export: Export) -> _Resource:
    """The film's patient, or a pseudonym."""
    image, header = export.evidence.image, export.source.header if export.source else None
    sex = str(header.get("PatientSex") or "") if header is not None else image.sex
    pseudonym = {"system": _PSEUDONYM} if header is None else {}
    made: _Resource = {
        "resourceType": "Patient", "identifier": [{"value": export.patient_id or "not stated", **pseudonym}],
    }
    if sex in _SEX:
        made["gender"] = _SEX[sex]
    if header is None:
        return made
    if name := header.get("PatientName"):
        made["name"] = [{"text": str(name).replace("^", " ").strip()}]
    if birth := _date(header.get("PatientBirthDate")):
        made["birthDate"] = birth
    return made


def _device(export: Export) -> _Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"system": _STUDY, "value": "urn:oid:" + derive_uid("device", export.model_name, export.weights)}],
        "manufacturer": "storyxai", "displayName": export.model_name, "modelNumber": export.model_name,
        "serialNumber": export.weights, "version": [{"value": export.model_version}, {"value": export.software}],
    }  # fmt: skip


def _observation(export: Export, names: _Names, finding: Finding) -> _Resource:
    """One finding: how likely it is; its figures and places are components."""
    places = [(name, value) for name, value in evaluations(export, finding)][1:]
    components = [{"code": _concept([name]), "valueQuantity": _quantity(value)} for name, value in figures(export, finding)]
    components += [{"code": _concept([name]), "valueCodeableConcept": _concept([value])} for name, value in places]
    maps = [names.to(f"map {number}") for number, _ in export.maps_of(finding.name)]
    boxes = enumerate(export.boxes, start=1)
    marked = [names.to(f"box {number}") for number, box in boxes if box.finding == finding.name]
    return _filled({
        "resourceType": "Observation", "status": names.status, "code": _concept(export.codes(finding.name)),
        "category": [_coding("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
        "subject": names.to("patient"), "device": names.to("device"), "effectiveDateTime": _taken(export),
        "valueCodeableConcept": _concept([export.tier(finding.name)]), "component": components, "derivedFrom": maps + marked,
        "note": _notes(RESEARCH_USE, *export.map_warnings(finding)),
    })  # fmt: skip


def _map(export: Export, names: _Names, number: int, heatmap: Heatmap) -> _Resource:
    """A shown map as ImagingSelection: the Secondary Capture that explains its finding."""
    instance = {"uid": export.uid("instance", "maps", str(number)), "sopClass": _sop_class(_CAPTURE), "number": number}
    return {
        **_selection(export, names, export.uid("series", "maps")), "instance": [instance],
        "focus": [names.to(f"finding {heatmap.finding}")], "code": _concept([VISUAL_EXPLANATION]),
        "category": [{"text": METHOD_NAMES.get(heatmap.method, heatmap.method)}],
    }  # fmt: skip


def _box(export: Export, names: _Names, box: Box) -> _Resource:
    """A box as ImagingSelection: a closed line on the picture."""
    header = export.source.header if export.source and lies_on_film(export) else None
    image = {
        "uid": str(header.SOPInstanceUID) if header is not None else export.uid("instance", "image", "1"),
        "sopClass": _sop_class(str(header.SOPClassUID) if header is not None else _CAPTURE),
        "imageRegion2D": [{"regionType": "polyline", "coordinate": [float(value) for value in box_line(box).ravel()]}],
    }
    series = str(header.SeriesInstanceUID) if header is not None else export.uid("series", "image")
    return {
        **_selection(export, names, series), "instance": [image], "focus": [names.to(f"finding {box.finding}")],
        "code": _concept(export.codes(box.finding)),
    }  # fmt: skip


def _selection(export: Export, names: _Names, series: str) -> _Resource:
    return {
        "resourceType": "ImagingSelection", "status": "available", "subject": names.to("patient"),
        "performer": [{"actor": names.to("device")}], "studyUid": export.study_uid, "seriesUid": series,
    }  # fmt: skip


def _page(names: _Names, audience: str, page: bytes) -> _Resource:
    """A page for one reader, whole, as a preliminary document."""
    digest = hashlib.sha1(page, usedforsecurity=False).digest()  # FHIR asks for SHA-1 here
    attached = {
        "contentType": "text/html", "title": f"Page for the {audience}. {RESEARCH_USE}", "size": len(page),
        "data": base64.b64encode(page).decode(), "hash": base64.b64encode(digest).decode(),
    }  # fmt: skip
    return {
        "resourceType": "DocumentReference", "status": "current", "docStatus": names.status, "subject": names.to("patient"),
        "author": [names.to("device")], "type": {"text": f"Explanation for the {audience}"},
        "content": [{"attachment": attached}],
    }  # fmt: skip


def _report(export: Export, names: _Names) -> _Resource:
    findings = export.evidence.prediction.findings
    pages = [{"comment": RESEARCH_USE, "link": names.to(f"page {audience}")} for audience in sorted(export.pages)]
    return _filled({
        "resourceType": "DiagnosticReport", "status": names.status, "subject": names.to("patient"),
        "identifier": [{"system": _STUDY, "value": "urn:oid:" + export.settled_uid("instance", "report", "1")}],
        "category": [_coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": _coding(SYSTEMS["LN"], "18748-4", "Diagnostic imaging study"), "effectiveDateTime": _taken(export),
        "result": [names.to(f"finding {one.name}") for one in findings], "media": pages,
        "supportingInfo": [
            {"type": _concept([VISUAL_EXPLANATION]), "reference": names.to(f"map {number}")} for number, _ in export.shown
        ],
        "conclusion": f"{RESEARCH_USE}. {export.standing.capitalize() if export.release is None else export.standing}.",
        "resultsInterpreter": [names.to("clinician")] if export.release else [], "note": _notes(*_whole_notes(export)),
    })  # fmt: skip


def _whole_notes(export: Export) -> Iterator[str]:
    yield RESEARCH_USE
    yield f"Told from evidence with SHA-256 {export.sha256}"
    if export.source is None:
        yield "The film was not given: patient and study are pseudonyms, and no date is known"


def _provenance(export: Export, names: _Names, roles: Sequence[str]) -> _Resource:
    image = {"identifier": {"system": _SHA256, "value": export.evidence.image.sha256}, "display": "the film's file"}
    agents = [_agent("assembler", "Assembler", names.to("device"))]
    if export.release is not None:
        agents.append(_agent("verifier", "Verifier", names.to("clinician")))
    return _filled({
        "resourceType": "Provenance", "target": [names.to(role) for role in roles], "agent": agents,
        "recorded": export.release.time if export.release else "", "entity": [{"role": "source", "what": image}],
    })  # fmt: skip


def _agent(code: str, display: str, who: _Resource) -> _Resource:
    return {"type": _coding("http://terminology.hl7.org/CodeSystem/provenance-participant-type", code, display), "who": who}


def _concept(named: Iterable[Named]) -> _Resource:
    return {"coding": [_code(one) for one in named]}


def _code(named: Named) -> _Resource:
    scheme = named.code.scheme
    return {"system": SYSTEMS.get(scheme, f"urn:storyxai:scheme:{scheme}"), "code": named.code.value, "display": named.meaning}


def _coding(system: str, code: str, display: str) -> _Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _quantity(value: float) -> _Resource:
    return {"value": value, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}


def _sop_class(uid: str) -> _Resource:
    return {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{uid}"}


def _notes(*texts: str) -> list[_Resource]:
    return [{"text": text} for text in texts]


def _taken(export: Export) -> str:
    return _date(export.source.header.get("StudyDate")) if export.source else ""


def _date(stated: Any) -> str:
    """DICOM's date as FHIR writes it, "" where there is none."""
    text = str(stated or "")
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdecimal() else ""


def _filled(resource: _Resource) -> _Resource:
    """The resource without its empty elements, which FHIR does not allow."""
    return {name: value for name, value in resource.items() if value not in ("", [], None)}
