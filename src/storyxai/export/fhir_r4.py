"""The resources of a FHIR R5 bundle as R4 has them, which most hospitals speak.

R4 knows no ImagingSelection: the maps and the picture become instances of one ImagingStudy that the findings derive from, and
each box an Observation with its corners. A device's name, a report's notes and a provenance's date stand elsewhere or are
asked for. Source: HL7 FHIR 4.0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

_Resource: TypeAlias = dict[str, object]
_Named: TypeAlias = tuple[str, _Resource]
_Reference: TypeAlias = Callable[[str], _Resource]
_UNKNOWN = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
_STUDY = "imaging study"


class _Text(msgspec.Struct, frozen=True):
    text: str


class _Coding(msgspec.Struct, frozen=True):
    display: str


class _Code(msgspec.Struct, frozen=True):
    coding: tuple[_Coding, ...]


class _Performer(msgspec.Struct, frozen=True):
    actor: object


class _Region(msgspec.Struct, frozen=True):
    coordinate: tuple[float, ...]


class _Instance(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    sop_class: object
    regions: tuple[_Region, ...] = msgspec.field(name="imageRegion2D", default=())


class _Selection(msgspec.Struct, frozen=True, rename="camel"):
    """What R4's resources take from an ImagingSelection."""

    series_uid: str
    code: _Code
    instance: tuple[_Instance, ...]
    performer: tuple[_Performer, ...]
    category: tuple[_Text, ...] = ()


class _Report(msgspec.Struct, frozen=True):
    conclusion: str
    note: tuple[_Text, ...] = ()


def as_r4(resources: Sequence[_Named], *, study_uid: str, reference: _Reference) -> list[_Named]:
    """The same facts in resources of R4, each with its role. `reference` makes a reference of a role."""
    selections = [(role, one) for role, one in resources if one["resourceType"] == "ImagingSelection"]
    moved = {str(reference(role)["reference"]): role for role, _ in selections}
    study = [(_STUDY, _study(selections, study_uid, reference))] if selections else []
    made: list[_Named] = []
    for role, one in resources:
        if one["resourceType"] != "ImagingSelection":
            if role == "report":
                made += study
            made.append((role, _CHANGES.get(str(one["resourceType"]), _same)(one, moved, reference)))
        elif role.startswith("box"):
            made.append((role, _box(one, reference, dict(resources)["report"]["status"])))
    return made


def _same(one: _Resource, moved: Mapping[str, str], reference: _Reference) -> _Resource:
    return one


def _device(one: _Resource, moved: Mapping[str, str], reference: _Reference) -> _Resource:
    rest = {name: value for name, value in one.items() if name != "displayName"}
    return {**rest, "deviceName": [{"name": one["displayName"], "type": "model-name"}]}


def _observation(one: _Resource, moved: Mapping[str, str], reference: _Reference) -> _Resource:
    if "derivedFrom" not in one:
        return one
    return {**one, "derivedFrom": _referred(one["derivedFrom"], moved, reference)}


def _report(one: _Resource, moved: Mapping[str, str], reference: _Reference) -> _Resource:
    """R4 has neither notes nor supporting information; pages stay documents of their own, R4's media are pictures."""
    gone = {"note", "supportingInfo", "media"}
    rest = {name: value for name, value in one.items() if name not in gone}
    read = msgspec.convert(one, _Report)
    said = " ".join(note.text.rstrip(".") + "." for note in read.note[1:])
    studies = {"imagingStudy": [reference(_STUDY)]} if moved else {}
    return {**rest, **studies, "conclusion": f"{read.conclusion} {said}".strip()}


def _provenance(one: _Resource, moved: Mapping[str, str], reference: _Reference) -> _Resource:
    date = {} if "recorded" in one else {"_recorded": _UNKNOWN}
    targets = _referred(one["target"], moved, reference)
    return {**one, "target": targets, **date}


_CHANGES: Mapping[str, Callable[[_Resource, Mapping[str, str], _Reference], _Resource]] = {
    "Device": _device, "Observation": _observation, "DiagnosticReport": _report, "Provenance": _provenance,
}  # fmt: skip


def _referred(references: object, moved: Mapping[str, str], reference: _Reference) -> list[Mapping[str, object]]:
    """References to maps become one to the study; those to boxes stay, for a box is still a resource."""
    kept: list[Mapping[str, object]] = []
    for one in msgspec.convert(references, list[dict[str, str]]):
        role = moved.get(one["reference"], "")
        now: Mapping[str, object] = reference(_STUDY) if role.startswith("map") else one
        if now not in kept:
            kept.append(now)
    return kept


def _study(selections: Sequence[_Named], study_uid: str, reference: _Reference) -> _Resource:
    """One ImagingStudy with a series for each that the selections name."""
    series: dict[str, list[_Resource]] = {}
    for one in (msgspec.convert(one, _Selection) for _, one in selections):
        for instance in one.instance:
            told: _Resource = {"uid": instance.uid, "sopClass": instance.sop_class, "title": _title(one)}
            if told["uid"] not in [known["uid"] for known in series.setdefault(one.series_uid, [])]:
                series[one.series_uid].append(told)
    modality = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "OT", "display": "Other"}
    return {
        "resourceType": "ImagingStudy", "status": "available", "subject": selections[0][1]["subject"],
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}],
        "series": [
            {"uid": uid, "modality": modality, "numberOfInstances": len(instances), "instance": instances}
            for uid, instances in series.items()
        ],
    }  # fmt: skip


def _title(one: _Selection) -> str:
    kind = one.category[0].text if one.category else ""
    return f"{kind} ({one.code.coding[0].display})" if kind else "picture that the boxes lie on"


def _box(one: _Resource, reference: _Reference, status: object) -> _Resource:
    read = msgspec.convert(one, _Selection)
    corners = " ".join(f"{value:g}" for value in read.instance[0].regions[0].coordinate)
    words = "Closed line on the picture: column and row of each corner"
    where = {"system": "urn:storyxai:codes", "code": "box", "display": words}
    return {
        "resourceType": "Observation", "status": status, "code": one["code"], "subject": one["subject"],
        "device": read.performer[0].actor, "focus": one["focus"], "derivedFrom": [reference(_STUDY)],
        "component": [{"code": {"coding": [where]}, "valueString": corners}],
    }  # fmt: skip
