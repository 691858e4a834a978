"""The model card: what a student is, on what it learnt, how it did, where it ends, and the hashes of its files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from storyxai.errors import InputError, UnknownNameError, WeightsError
from storyxai.files import write_whole
from storyxai.modalities.registry import DEFAULT_MODALITY, with_outlines
from storyxai.model_facts import DataSet, FindingFigures, MeasuredFigures, ModelFacts
from storyxai.provenance import canonical_json, sha256_file

FORMAT = "storyxai-model/1"
"""Keys of a card that this storyxai does not know are passed over, so that a later one may add some."""
CARD_NAME = "card.json"


@dataclass(frozen=True)
class Calibration:
    """Platt scaling of one finding: probability = sigmoid(scale * logit + bias).

    `replicates` are (scale, bias) pairs of a patient-level bootstrap, from which the interval comes. `threshold` is on
    the calibrated probability. `n` and `positives` say on how many validation images it rests; `data` on which.
    `conformal` is (largest 1 - p accepted for "present", largest p accepted for "absent", promised level), chosen on the
    same images, patient by patient; None: nothing is promised. `thresholds` are the threshold as each replicate would have
    chosen it, in the order of `replicates` (() on older cards): their spread is the threshold's own uncertainty.
    `prevalence` is the share of patients with the finding that all of this was moved to (`at_prevalence`), which no card on
    disk states; None: it is that of the images, positives / n.
    """

    scale: float
    bias: float
    threshold: float
    replicates: tuple[tuple[float, float], ...]
    n: int
    positives: int
    data: str
    conformal: tuple[float, float, float] | None = None
    thresholds: tuple[float, ...] = ()
    prevalence: float | None = None


@dataclass(frozen=True)
class CardFigures(MeasuredFigures):
    """What was measured of a model. `phantom_per_finding` is on synthetic images, and no story cites it."""

    phantom_per_finding: Mapping[str, FindingFigures] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """A model's card. `figures` holds what stories cite (see `model_record`); `files` maps file name to SHA-256.

    `training` says how it was trained: free JSON that nothing reads but people, and `patients` (see scorecard.judge).
    `modality` names the kind of image that it reads (`storyxai.modalities`).
    """

    name: str
    version: str
    spec: Mapping[str, object]
    files: Mapping[str, str]
    calibration: Mapping[str, Calibration]
    trained_on: tuple[DataSet, ...]
    limits: tuple[str, ...]
    cannot_see: tuple[str, ...]
    figures: CardFigures = field(default_factory=CardFigures)
    training: Mapping[str, object] = field(default_factory=dict)
    licence: str = ""
    modality: str = DEFAULT_MODALITY

    @property
    def model_id(self) -> str:
        """Name, version and the first 12 digits of the weights' hash."""
        return f"{self.name}-{self.version}-{self.files.get('student.safetensors', '')[:12]}"

    def model_record(self) -> ModelFacts:
        """The part of the card that stories may cite."""
        facts = ModelFacts(
            self.name, self.version, self.files.get("student.safetensors", ""), self.trained_on, self.limits, self.cannot_see
        )
        return replace(facts, **{one.name: getattr(self.figures, one.name) for one in fields(MeasuredFigures)})


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `card` as card.json into `folder`."""
    record = {
        "format": FORMAT,
        "name": card.name,
        "version": card.version,
        "spec": dict(card.spec),
        "files": dict(card.files),
        "calibration": {name: _without_prevalence(one) for name, one in card.calibration.items()},
        "trained_on": [_stated(item) for item in msgspec.to_builtins(card.trained_on)],
        "limits": list(card.limits),
        "cannot_see": list(card.cannot_see),
        "figures": _stated(msgspec.to_builtins(card.figures)),
        "training": card.training,
        "licence": card.licence,
        "modality": card.modality,
        "research_use_only": True,
    }
    write_whole(canonical_json(record), folder / CARD_NAME)


def read_card(folder: Path, *, check_files: bool = True) -> ModelCard:
    """The card of the model in `folder`, its files' hashes checked.

    Raises: WeightsError when the card or a file is missing, does not parse, or a file's hash is not the card's.
    """
    path = folder / CARD_NAME
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise WeightsError(str(folder), f"has no {CARD_NAME}", mend="name the folder that `distil` wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(str(path), "cannot be read as a model card", mend="copy the model folder again") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise WeightsError(str(path), f"is not of format {FORMAT}", mend="write it again with this storyxai")
    try:
        card = msgspec.convert({**record, "figures": with_outlines(record.get("figures"))}, ModelCard)
        _check_fields(record, msgspec.convert(record.get("calibration"), dict[str, dict[str, object]]))
    except msgspec.ValidationError as error:
        raise WeightsError(str(path), f"lacks or garbles a field ({error})", mend="copy the model folder again") from error
    if check_files:
        for name, expected in card.files.items():
            _check_file(folder / Path(name).name, expected)
    return card


def at_prevalence(card: ModelCard, prevalence: Mapping[str, float]) -> ModelCard:
    """The card for patients of whom these shares have each finding, in place of those that calibrated it.

    By Bayes' rule every log-odds moves by logit(p) - logit(positives / n): probabilities, their intervals, thresholds and
    conformal limits alike, so that the same images stay above a threshold, with the sensitivity and specificity that they had.
    It holds as far as images of patients with (and without) the finding look alike in both places.
    Raises: UnknownNameError for a finding; InputError for a share that is none, or a finding whose prevalence is not known.
    """
    moved = dict(card.calibration)
    for finding, share in prevalence.items():
        if finding not in moved:
            raise UnknownNameError("finding with a prevalence", finding, tuple(moved))
        one = moved[finding]
        if not 0 < share < 1:
            raise InputError("prevalence", f"of {finding} is {share:g}", mend="give a share above 0 and under 1, such as 0.2")
        if not 0 < one.positives < one.n:
            why = f"of {finding} is not known: {one.positives} of the {one.n} images that calibrated it have it"
            raise InputError("prevalence", why, mend="leave this finding out")
        moved[finding] = _moved_to(one, share)
    return replace(card, calibration=moved)


def _moved_to(one: Calibration, share: float) -> Calibration:
    step = _log_odds(share) - _log_odds(one.positives / one.n)

    def move(probability: float) -> float:
        return probability if probability in (0.0, 1.0) else 1 / (1 + math.exp(-(_log_odds(probability) + step)))

    limits = one.conformal and (1 - move(1 - one.conformal[0]), move(one.conformal[1]), one.conformal[2])
    return replace(
        one, bias=one.bias + step, threshold=move(one.threshold), conformal=limits, prevalence=share,
        replicates=tuple((scale, bias + step) for scale, bias in one.replicates), thresholds=tuple(map(move, one.thresholds)),
    )


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _without_prevalence(one: Calibration) -> dict[str, object]:
    record: dict[str, object] = msgspec.to_builtins(one)
    return {name: value for name, value in record.items() if name != "prevalence"}


def card_figures(figures: Mapping[str, object]) -> CardFigures:
    """Figures from plain JSON values. Raises: WeightsError naming one that is of another kind."""
    try:
        return msgspec.convert(with_outlines(figures), CardFigures)
    except msgspec.ValidationError as error:
        raise WeightsError("figures of a card", str(error), mend="write the scorecard again") from error


def _check_fields(record: Mapping[str, object], calibration: Mapping[str, Mapping[str, object]]) -> None:
    """Nothing, where a card has what it must have, and each calibration its own fields alone: a misspelt one was never read."""
    if lacking := [name for name in ("figures", "training", "licence") if name not in record]:
        raise msgspec.ValidationError(f"Object missing required field `{lacking[0]}`")
    known = {field.name for field in fields(Calibration)}
    for name, item in calibration.items():
        if odd := sorted(set(item) - known):
            raise msgspec.ValidationError(f"Object contains unknown field `{odd[0]}` - at `$.calibration.{name}`")


def _stated(value: Any) -> Any:
    """The value without the entries of dicts that are empty or None: a card names what is known."""
    if isinstance(value, Mapping):
        kept = {key: _stated(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None and item != {} and item != []}
    return value


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise WeightsError(str(path), "is missing", mend="copy the model folder again, whole")
    if sha256_file(path) != expected:
        raise WeightsError(
            str(path), "is not the file that the card vouches for (its SHA-256 differs)",
            mend="copy the model folder again, or train anew; altered weights are not used",
        )
