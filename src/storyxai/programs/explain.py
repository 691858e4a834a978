"""One map of one finding, as a picture with its raw values beside it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storyxai.errors import InputError, OutputError, UnknownNameError
from storyxai.evidence.gather import GatherSettings, doubt_of_modality, explain_finding, modality_for
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.registry import known_methods
from storyxai.files import replace_files
from storyxai.imaging.read import read_image
from storyxai.pages.figures import pair_png
from storyxai.programs.budget import Allowance
from storyxai.programs.models import SHIPPED_MODEL, ModelChoice, open_model
from storyxai.programs.places import output_folder
from storyxai.story.words import Words, words_of
from storyxai.types import METHOD_NAMES, Check, Heatmap


@dataclass(frozen=True)
class ExplainOptions:
    """How one map is made: the finding, the method, and what `tell` takes too."""

    finding: str
    method: str = "grad_cam"
    model: ModelChoice = SHIPPED_MODEL
    samples: int | None = None
    seed: int = 0
    force: bool = False
    seconds: float | None = None
    memory_mb: float | None = None

    @property
    def method_key(self) -> str:
        """The method's key: "Grad-CAM" and "LIME" are taken too, as pictures and pages call them.

        Raises: UnknownNameError naming the nearest.
        """
        key = self.method.casefold().replace("-", "_").replace(" ", "_")
        if key not in known_methods():
            raise UnknownNameError("method", self.method, known_methods())
        return key


@dataclass(frozen=True)
class Explained:
    """One map: its range in `unit`, whether `tell` would show it, and each check's outcome in words."""

    finding: str
    method: str
    unit: str
    minimum: float
    maximum: float
    shown: bool
    withheld_because: str
    checks: dict[str, str]
    doubt: str = ""

    @property
    def method_name(self) -> str:
        """What the field calls the method."""
        return METHOD_NAMES.get(self.method, self.method)


def explain(path: Path, out: Path, options: ExplainOptions) -> Explained:
    """One map of one finding, drawn beside the untouched image to `out` (PNG), its raw values to `out` with .npy.

    The map is asked every check that `tell` would ask of it; one that `tell` would withhold says so in the picture.
    Raises: GateRefusal unless `force`.
    """
    method = options.method_key
    raw = _raw_beside(out)
    Allowance(options.samples, options.seconds, options.memory_mb).check()
    with output_folder(out.parent, typed=out):
        model = open_model(options.model)
        name = _finding_of(model, options.finding)
        image = read_image(path, acquisition=modality_for(model).acquisition)
        settings = GatherSettings(
            options.samples, options.seed, force=options.force, seconds=options.seconds, memory_mb=options.memory_mb
        )
        heatmap, checks = explain_finding(model, image, finding=name, method=method, settings=settings)
        words = words_of(modality_for(model))
        withheld = words.say(*heatmap.withheld_because)
        _write({raw.name: _npy(heatmap), out.name: pair_png(image, heatmap, withheld=withheld)}, out)
    values = heatmap.values
    return Explained(
        name, method, heatmap.unit, float(values.min()), float(values.max()), heatmap.shown, withheld,
        {check.name: _outcome(check, words) for check in checks}, doubt_of_modality(model),
    )


def _finding_of(model: ExplainedModel, given: str) -> str:
    """The model's own name of a finding, whichever of its synonyms was given. Raises: UnknownNameError naming the nearest."""
    match = modality_for(model).match
    for name in model.findings:
        if name == given or name.casefold() == given.casefold() or (match(given) is not None and match(given) == match(name)):
            return name
    raise UnknownNameError("finding", given, model.findings)


def _raw_beside(out: Path) -> Path:
    """Where the raw map goes. Raises: InputError or OutputError if either file cannot be one."""
    if out.suffix.lower() != ".png":
        raise InputError(str(out), "is no PNG file name", mend="end it in .png")
    raw = out.with_suffix(".npy")
    for place in (out, raw):
        if place.is_dir():
            raise OutputError(str(place), "is a folder", mend="name a file")
    return raw


def _write(files: dict[str, bytes], out: Path) -> None:
    try:
        replace_files(out.parent, files)
    except OutputError as error:
        raise OutputError(str(out), error.why, mend=error.mend) from error


def _npy(heatmap: Heatmap) -> bytes:
    packed = io.BytesIO()
    np.save(packed, heatmap.values, allow_pickle=False)
    return packed.getvalue()


def _outcome(check: Check, words: Words) -> str:
    said = "passed" if check.passed else "failed" if check.passed is False else "not applicable"
    return f"{said} - {words.say(check.about)}"
