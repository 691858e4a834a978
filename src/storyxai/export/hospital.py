"""What the DICOM objects and the FHIR resources of one study have in common: codes, identifiers, the patient, the device.

Nothing here knows a clock or chance: the same evidence and source give the same identifiers. Codes of findings are those of
the evidence (SNOMED CT, RadLex); what no vocabulary names has a code of our own scheme.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Final

from storyxai.errors import InputError
from storyxai.evidence.record import as_record, record_sha256
from storyxai.modalities.contract import Code, Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_keys, modality_named
from storyxai.provenance import read_provenance, sha256_bytes
from storyxai.story.words import Words, load_words
from storyxai.types import METHOD_NAMES, Box, Evidence, Finding, Heatmap, Release, boxed_findings, of_unknown_kind

FORMAT = "storyxai-hospital/4"
"""Part of every identifier: objects of another form are other objects."""
OWN_SCHEME = "99STORYXAI"
LONGEST_CODE, LONGEST_MEANING = 16, 64
"""Signs that DICOM's Code Value (SH) and Code Meaning (LO) hold."""


@dataclass(frozen=True)
class Named:
    """A coded concept and its meaning in words."""

    code: Code
    meaning: str


def _sct(value: str, meaning: str) -> Named:
    return Named(Code(value, "SCT"), meaning)


STATES: Final[Mapping[str, Named]] = {
    "likely": _sct("2931005", "Probable diagnosis"),
    "possible": _sct("60022001", "Possible diagnosis"),
    "unlikely": _sct("385434005", "Improbable diagnosis"),
    "cannot_tell": _sct("82334004", "Indeterminate"),
}
"""What each tier is in SNOMED CT. A machine's tier is a degree of certainty: it is never exported as "present"."""
SIDES: Final[Mapping[str, Named]] = {
    "right": _sct("24028007", "Right"),
    "left": _sct("7771000", "Left"),
    "bilateral": _sct("51440002", "Right and left"),
}
ANATOMY, ABNORMAL = _sct("91723000", "Anatomical Structure"), _sct("49755003", "Morphologically Abnormal Structure")
LATERALITY, IMAGING = _sct("272741003", "Laterality"), _sct("363679005", "Imaging procedure")
ARTIFICIAL = Named(Code("123110", "DCM"), "Artificial Intelligence")
COMMENT = Named(Code("121106", "DCM"), "Comment")
PROBABILITY, THRESHOLD = Named(Code("122157", "DCM"), "Probability"), Named(Code("122411", "DCM"), "Threshold Value")
VISUAL_EXPLANATION = Named(Code("130401", "DCM"), "Visual explanation")


def own_code(name: str, meaning: str) -> Named:
    """A concept of our own scheme; a name that is too long for a code is shortened to a hash of it."""
    value = name if len(name) <= LONGEST_CODE else "H" + hashlib.sha256(name.encode()).hexdigest()[: LONGEST_CODE - 1]
    return Named(Code(value, OWN_SCHEME), meaning[:LONGEST_MEANING])


ZONE = own_code("zone", "Zone where the map is strong")
BOX_SCORE = own_code("box_score", "Score of the box")
UNCALIBRATED = own_code("score", "Score of the model, not calibrated")
LOW = own_code("interval_low", "Lower end of the 90 % interval")
HIGH = own_code("interval_high", "Upper end of the 90 % interval")


def derive_uid(*parts: str) -> str:
    """A UID under 2.25 from a hash of the parts (PS3.5 B.2: 2.25 and a 128-bit number)."""
    digest = hashlib.sha256("\0".join((FORMAT, *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def require_package(module: str, package: str) -> None:
    """Raise InputError, with the mend, where a package of the extra `hospital` is not installed."""
    if find_spec(module) is None:
        mend = 'install it with: pip install "storyxai[hospital]"'
        raise InputError("export", f"needs {package}, which is not installed", mend=mend)


@dataclass(frozen=True)
class Source:
    """The DICOM film that a study was told from: its header (no pixels), and the SHA-256 of its bytes."""

    header: Any
    sha256: str


@dataclass(frozen=True, eq=False)
class Export:
    """One study on its way out: its evidence, its pages (HTML by audience), the film, and the release in force.

    The film is None where it was not given, the release where nobody released the study: what leaves is then preliminary.
    """

    evidence: Evidence
    pages: Mapping[str, bytes]
    source: Source | None = None
    release: Release | None = None

    @cached_property
    def record(self) -> dict[str, Any]:
        """The evidence record, made once."""
        return as_record(self.evidence)

    @cached_property
    def words(self) -> Words:
        """What an export says is English, as DICOM's own code meanings are."""
        return load_words("en", self.record)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the evidence record: what pages and objects say that they were told from."""
        return record_sha256(self.record)

    def uid(self, *role: str) -> str:
        """The UID of what has this role in the export: with the film given there are other objects than without."""
        return derive_uid(self.sha256, self.source.sha256 if self.source else "", *role)

    def settled_uid(self, *role: str) -> str:
        """As `uid`, for what a release changes: the verified object is another than the preliminary one."""
        return self.uid(*role, "released", self.release.by, self.release.time) if self.release else self.uid(*role)

    @property
    def standing(self) -> str:
        """Whether somebody answers for the study, in words."""
        if self.release is None:
            return "preliminary, not verified by a clinician"
        return f"released by {self.release.by} at {self.release.time}"

    @property
    def study_uid(self) -> str:
        """The film's study, else one that stands for it."""
        return str(self.source.header.StudyInstanceUID) if self.source else derive_uid("study", self.evidence.image.sha256)

    @property
    def patient_id(self) -> str:
        """The film's patient, else a pseudonym that follows from the image alone."""
        pseudonym = f"STORYXAI-{sha256_bytes(self.evidence.image.sha256.encode())[:16].upper()}"
        return str(self.source.header.get("PatientID") or "") if self.source else pseudonym

    @property
    def of_known_kind(self) -> bool:
        """Whether findings of such an image can be told at all; else none of their places leaves, for it would be believed."""
        return not of_unknown_kind(self.record["doubts"])

    @property
    def shown(self) -> tuple[tuple[int, Heatmap], ...]:
        """The shown maps of the findings that stories name, numbered from 1. A withheld map leaves in no form.

        A coloured spot for each finding that is unlikely would be taken for the finding where nobody reads the story beside it.
        """
        named = self.record["named"] if self.of_known_kind else ()
        return tuple(enumerate((one for one in self.evidence.heatmaps if one.shown and one.finding in named), start=1))

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes that stories draw: of named findings."""
        drawn = {one.finding for _, one in self.shown} & boxed_findings(self.evidence)
        return tuple(one for one in self.evidence.prediction.boxes if one.finding in drawn)

    @property
    def model_name(self) -> str:
        """What the device is called: the model, in as many signs as DICOM allows."""
        return (self.evidence.prediction.model_id or self.evidence.model.name or "unnamed model")[:LONGEST_MEANING]

    @property
    def model_version(self) -> str:
        return (self.evidence.model.version or "not stated")[:LONGEST_MEANING]

    @property
    def software(self) -> str:
        return f"storyxai {self.evidence.provenance.get('version', 'unknown')}"

    @property
    def weights(self) -> str:
        """The first signs of the weights' SHA-256: DICOM's serial number of the device."""
        return self.evidence.model.weights_sha256[:LONGEST_MEANING] or "not stated"

    @property
    def calibrated(self) -> bool:
        return "calibration" not in self.evidence.gaps

    @cached_property
    def modality(self) -> Modality | None:
        """The kind of image by name, None where it is not installed here."""
        key = read_provenance(self.evidence.provenance).settings.modality or DEFAULT_MODALITY
        return modality_named(key) if key in modality_keys() else None

    def structure(self, name: str) -> tuple[Named, Named]:
        """What kind of thing a drawn structure is, and its own concept: an organ by its code, else something that was seen."""
        named = {one.name: one.codes for one in self.modality.structures} if self.modality else {}
        if codes := named.get(name):
            return ANATOMY, Named(codes[0], codes[0].meaning or name.replace("_", " "))
        return ABNORMAL, own_code(name, name.replace("_", " "))

    def codes(self, finding: str) -> tuple[Named, ...]:
        """The codes of a finding, the best known scheme first; one of our own where no vocabulary names it."""
        term = self.record["terms"][finding]
        described = self.modality.describe(finding).codes if self.modality else ()
        meant = {code.value: code.meaning for code in described if code.meaning}
        meaning = meant.get(term.get("snomed") or "", finding.replace("_", " "))[:LONGEST_MEANING]
        known = [Code(value, scheme) for scheme, key in (("SCT", "snomed"), ("RADLEX", "radlex")) if (value := term.get(key))]
        return tuple(Named(code, meaning) for code in known) or (own_code(finding, meaning),)

    def tier(self, finding: str) -> Named:
        """How likely the record says that the finding is; what holds for the whole record (a doubtful image) counts too."""
        return STATES[str(self.record["findings"][finding]["tier"])]

    def concept(self, finding: str, name: str) -> str:
        """A concept in words that was measured of a finding's map, "" where it was not measured."""
        value = self.record["concepts"].get(finding, {}).get(name, {}).get("value")
        return str(value) if value is not None else ""

    def maps_of(self, finding: str) -> tuple[tuple[int, Heatmap], ...]:
        return tuple((number, one) for number, one in self.shown if one.finding == finding)

    def map_warnings(self, finding: Finding) -> tuple[str, ...]:
        """One sentence for each map of the finding that is withheld, or held with doubt."""
        held = {one.method for _, one in self.maps_of(finding.name)}
        maps = [one for one in self.evidence.heatmaps
                if one.finding == finding.name and (not one.shown or (one.doubtful and one.method in held))]  # fmt: skip
        return tuple(f"{METHOD_NAMES.get(one.method, one.method)} map {self._warning(one)}" for one in maps)

    def _warning(self, heatmap: Heatmap) -> str:
        if not heatmap.shown:
            return f"withheld: {self.words.say(*heatmap.withheld_because)}"
        if heatmap.hit_probability is not None:
            return f"doubtful: maps like it point at a reader's box at a rate of {heatmap.hit_probability:.2f}"
        failed = [one.name for one in self.evidence.checks
                  if (one.finding, one.method, one.passed) == (heatmap.finding, heatmap.method, False)]  # fmt: skip
        return f"doubtful, failed: {', '.join(self.words.word('check', name) for name in failed)}"
