"""The content of the structured report by TID 1500: a group for each finding, and one for each box.

A finding's group says how likely it is (its tier), how probable and within which interval, from which threshold on it is
reviewed, on which side and in which zones its map lies, and refers to the maps that explain it (130401, DCM, "Visual
explanation"). Source: PS3.16 TID 1500, 1410, 1501, 4019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from storyxai.export import hospital
from storyxai.export.hospital import Export, Named
from storyxai.modalities.contract import Code
from storyxai.types import RESEARCH_USE, Array, Box, Finding

_SIX_DIGITS = "{:.6g}"
NO_UNITS = Named(Code("1", "UCUM"), "no units")


def report_content(export: Export, reference: Any, maps: Sequence[Any]) -> Any:
    """The report's root. `reference` is the picture that boxes lie on, `maps` are the Secondary Captures of `export.shown`."""
    import highdicom as hd

    by_number = dict(enumerate(maps, start=1))
    groups = [_finding_group(export, finding, reference, by_number) for finding in export.evidence.prediction.findings]
    boxes = export.boxes
    groups += [_box_group(export, number, box, reference, by_number) for number, box in enumerate(boxes, start=1)]
    report = hd.sr.MeasurementReport(
        observation_context=_observer(export), procedure_reported=coded(hospital.IMAGING), imaging_measurements=groups,
        referenced_images=None,
    )
    report[0].ContentSequence.extend(_comment(text) for text in _whole_words(export))
    return report


def box_line(box: Box) -> Array:
    """The closed line around a box. Shapes: float32 [5, 2], column and row, from the picture's top left corner."""
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], dtype=np.float32)


@lru_cache(maxsize=512)
def coded(named: Named) -> Any:
    """The concept as highdicom writes it: made once, for nothing changes it and a report holds the same ones many times."""
    import highdicom as hd

    return hd.sr.CodedConcept(named.code.value, named.code.scheme, named.meaning)


def _finding_group(export: Export, finding: Finding, reference: Any, maps: dict[int, Any]) -> Any:
    """TID 1501 of one finding."""
    import highdicom as hd

    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(export, "finding", finding.name), finding_type=coded(export.codes(finding.name)[0]),
        algorithm_id=_algorithm(export), measurements=[_measured(name, value) for name, value in figures(export, finding)],
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(coded(a), coded(b)) for a, b in evaluations(export, finding)],
        source_images=[hd.sr.SourceImageForMeasurementGroup(str(reference.SOPClassUID), str(reference.SOPInstanceUID))],
    )
    added = [*_explained(export, finding.name, maps), *map(_comment, export.map_warnings(finding))]
    group[0].ContentSequence.extend(added)
    return group


def _box_group(export: Export, number: int, box: Box, reference: Any, maps: dict[int, Any]) -> Any:
    """TID 1410 of one box."""
    import highdicom as hd

    source = hd.sr.SourceImageForRegion(str(reference.SOPClassUID), str(reference.SOPInstanceUID))
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(export, "box", f"{number} {box.finding}"),
        referenced_region=hd.sr.ImageRegion("POLYLINE", box_line(box), source),
        finding_type=coded(export.codes(box.finding)[0]), algorithm_id=_algorithm(export),
        measurements=[_measured(hospital.BOX_SCORE, box.score)],
    )
    group[0].ContentSequence.extend(_explained(export, box.finding, maps))
    return group


def figures(export: Export, finding: Finding) -> Iterator[tuple[Named, float]]:
    """What was computed of the finding: its probability, the ends of its interval, its threshold; or the score alone."""
    yield hospital.PROBABILITY if export.calibrated else hospital.UNCALIBRATED, finding.probability
    if export.calibrated:
        yield hospital.LOW, finding.interval[0]
        yield hospital.HIGH, finding.interval[1]
    yield hospital.THRESHOLD, finding.threshold


def evaluations(export: Export, finding: Finding) -> Iterator[tuple[Named, Named]]:
    """How likely the finding is; and, where its map was measured, on which side and in which zones it lies."""
    yield export.codes(finding.name)[0], export.tier(finding.name)
    side = export.concept(finding.name, "side")
    if side in hospital.SIDES:
        yield hospital.LATERALITY, hospital.SIDES[side]
    for zone in filter(None, export.concept(finding.name, "zones").split(", ")):
        yield hospital.ZONE, hospital.own_code(zone, zone)


def _whole_words(export: Export) -> Iterator[str]:
    yield RESEARCH_USE
    yield f"Told from evidence with SHA-256 {export.sha256}, {export.standing}"
    if not export.calibrated:
        yield "The model is not calibrated: its scores are no probabilities"
    if export.source is None:
        yield "The film was not given: patient and study are pseudonyms, and dates of 1970-01-01 stand for dates not known"


def _explained(export: Export, finding: str, maps: dict[int, Any]) -> Iterator[Any]:
    import highdicom as hd

    for number, _ in export.maps_of(finding):
        referred = str(maps[number].SOPClassUID), str(maps[number].SOPInstanceUID)
        yield hd.sr.ImageContentItem(coded(hospital.VISUAL_EXPLANATION), *referred, relationship_type="CONTAINS")


def _comment(text: str) -> Any:
    import highdicom as hd

    return hd.sr.TextContentItem(coded(hospital.COMMENT), text, relationship_type="CONTAINS")


def _measured(name: Named, value: float) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(coded(name), float(_SIX_DIGITS.format(value)), coded(NO_UNITS))


def _tracking(export: Export, kind: str, name: str) -> Any:
    import highdicom as hd

    return hd.sr.TrackingIdentifier(export.uid("tracking", kind, name), f"{kind} {name}"[:64])


def _algorithm(export: Export) -> Any:
    import highdicom as hd

    return hd.sr.AlgorithmIdentification(
        export.model_name, export.model_version, family=coded(hospital.ARTIFICIAL), manufacturer=export.software
    )


def _observer(export: Export) -> Any:
    import highdicom as hd

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        hospital.derive_uid("device", export.model_name, export.weights), name=export.model_name, manufacturer_name="storyxai",
        model_name=export.model_version, serial_number=export.weights,
    )
    context = hd.sr.ObserverContext(hd.sr.CodedConcept("121007", "DCM", "Device"), device)
    return hd.sr.ObservationContext(observer_device_context=context)
