"""From one image to its evidence: prediction, maps, measured concepts, what-ifs, and the checks of them all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Final

import numpy as np

from storyxai.errors import InputError, UnsupportedMethodError
from storyxai.evidence.consistency import consistency_of
from storyxai.evidence.learned import LearnedConcepts, learned_here
from storyxai.evidence.maps import Drawings, Wanted, draw, maps_of
from storyxai.evidence.neighbours import NeighbourIndex, neighbours_of
from storyxai.evidence.predict import MOST_GRADIENTS, OneLook, Seen, card_of, distance_of, predict, view_of
from storyxai.evidence.smallest_change import smallest_changes
from storyxai.evidence.what_if import hide_regions
from storyxai.explain.contract import Budget, ExplainedModel, Method
from storyxai.explain.registry import method_named
from storyxai.imaging.gate import judge, refuse
from storyxai.modalities.any_image import survey_any_image
from storyxai.modalities.contract import FindingTerm, Modality, Survey
from storyxai.modalities.registry import DEFAULT_MODALITY, is_built_in, modality_named
from storyxai.modalities.words import english_words
from storyxai.model_facts import ModelFacts
from storyxai.progress import Progress
from storyxai.provenance import software_versions
from storyxai.types import (
    GAPS,
    MOST_NAMED,
    Array,
    Check,
    Concept,
    Evidence,
    Finding,
    Heatmap,
    Image,
    Remark,
    Value,
    named_findings,
)

__all__ = [
    "METHODS", "MOST_TOLD", "GatherSettings", "doubt_of_modality", "explain_finding", "gather", "look_at", "modality_for",
    "study_name", "told_findings",
]

METHODS = ("grad_cam", "lime", "fine_occlusion")
MOST_TOLD = MOST_NAMED
USUAL_SAMPLES, USUAL_BATCH = 1000, 16
SAID = 0.5
"""From this value on, what reads a report takes the finding as said to be there."""
MOST_PIXELS_FOR_ALL_MAPS = 2_000_000
UNNAMED = "image"
"""The key of the modality of a model of which nobody said what it reads."""


_KINDS: Final[tuple[tuple[str, tuple[type, ...], str], ...]] = (
    ("samples", (int, NoneType), "a whole number, or None"), ("seed", (int,), "a whole number from 0 on"),
    ("modality", (Modality, NoneType), "a Modality, as modality_named(key) gives it"), ("study_id", (str,), "a name as text"),
    ("indication", (str,), "the question as text"), ("seconds", (int, float, NoneType), "a number of seconds, or None"),
    ("memory_mb", (int, float, NoneType), "a number of megabytes, or None"),
)  # fmt: skip
"""What settings are of, for those that people get wrong."""


@dataclass(frozen=True)
class GatherSettings:
    """How evidence is gathered.

    `samples` a method that perturbs may draw (None: until its result is stable), `seed` of all that is random. `passes` of the
    model the search for the smallest change may take for all findings together (None: half as many as samples). `modality`
    None: the one that the model names, else as `modality_for` says. `force` passes over a refusal by the gate; the failed
    check then stays in the evidence and on every page. `indication` is the question that was asked, `study_id` the study's
    name ("": from the file's hash). `concepts` are those that this model was tested for, `index` that in which its `near` most
    similar images are looked for. `seconds` each method that samples may take, `memory_mb` its perturbed images at once;
    `progress` is told of the model's passes. `companions` are other models whose maps are held against this one's, by the names
    of `consistency.COMPANIONS`.
    """

    samples: int | None = None
    seed: int = 0
    modality: Modality | None = None
    force: bool = False
    indication: str = ""
    study_id: str = ""
    passes: int | None = None
    concepts: LearnedConcepts | None = None
    index: NeighbourIndex | None = None
    near: int = 20
    seconds: float | None = None
    memory_mb: float | None = None
    progress: Progress | None = None
    companions: Mapping[str, ExplainedModel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises: InputError for a value of another kind, which would be met only after the model was asked."""
        for name, kinds, called in _KINDS:
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise InputError(name, f"is {value!r}", mend=f"give {called}")
        if self.seed < 0:
            raise InputError("seed", f"is {self.seed}", mend="give a whole number from 0 on")

    @property
    def most_passes(self) -> int:
        """The passes of the model that the search for the smallest change may take."""
        return (self.samples or USUAL_SAMPLES) // 2 if self.passes is None else self.passes


def gather(
    model: ExplainedModel, image: Image, *, methods: Sequence[str | Method] = METHODS, settings: GatherSettings | None = None
) -> Evidence:
    """All the evidence about one image that this model and these methods can give; `Evidence.gaps` names what they cannot.

    The first method draws every finding, the others those that stories dwell on, as second witnesses. A method that asks for
    what this model lacks is left out, and the provenance says so.
    Raises: GateRefusal when the image is not one that the model may speak about; UnknownNameError for a method;
    UnsupportedMethodError when the model can serve none of the methods.
    """
    settings = _settings(settings)
    _refuse_others(model, image)
    if settings.modality is None and (doubt := doubt_of_modality(model)):
        warnings.warn(doubt, stacklevel=2)
    modality, asked = settings.modality or modality_for(model), _methods(methods)
    once = OneLook(model, view_of(model, image)[0], heard=_listener(settings))
    seen, gate = _look(once, image, modality, settings)
    gaps = _gaps(seen, modality)
    told = told_findings(seen.prediction.findings, calibrated="calibration" not in gaps)
    drawings = _draw(once, seen, image, modality, asked, Wanted(told, _stored(model, image, told)), settings)
    heatmaps: list[Heatmap] = []
    map_checks: list[Check] = []
    concepts = [] if drawings.survey is None else list(drawings.survey.image_concepts())
    if modality.measure is not None:
        concepts += modality.measure(image, seen.prediction.masks, mask_pixel=seen.mask_pixel)
    if seen.unbacked:
        concepts.append(Concept("outline_withheld", "", None, "", None, Remark("outline_unbacked")))
    for finding in model.findings:
        drawn = maps_of(drawings, finding)
        heatmaps += [heatmap for heatmap, _ in drawn]
        map_checks += [check for _, found in drawn for check in found]
        concepts += _map_concepts(drawings, [heatmap for heatmap, _ in drawn])
    return Evidence(
        image=image,
        prediction=seen.prediction,
        heatmaps=tuple(heatmaps),
        concepts=tuple(concepts),
        checks=(*map_checks, *_whole_checks(seen, modality)),
        counterfactuals=hide_regions(model, seen, modality, told),
        gate=gate,
        model=_model_facts(model),
        provenance=_provenance(model, image, modality, settings, drawings),
        indication=settings.indication,
        gaps=gaps,
        smallest_changes=smallest_changes(
            once, seen, modality, told, segments=drawings.segments, passes=settings.most_passes,
            batch=_batch(seen.pixels, settings.memory_mb),
        ),
        neighbours=neighbours_of(settings.index, model, image, seen.look, count=settings.near),
        learned=learned_here(settings.concepts, model, seen.look, told),
        consistency=consistency_of(once, image, drawings, settings.companions),
    )


def look_at(
    model: ExplainedModel, image: Image, *, settings: GatherSettings | None = None
) -> tuple[Seen, tuple[Check, ...]]:
    """What the model sees in the image, and what the gate says of it. Raises: GateRefusal unless `settings.force`."""
    settings = settings or GatherSettings()
    return _look(model, image, settings.modality or modality_for(model), settings)


def explain_finding(
    model: ExplainedModel, image: Image, *, finding: str, method: str, methods: Sequence[str | Method] = METHODS,
    settings: GatherSettings | None = None,
) -> tuple[Heatmap, list[Check]]:
    """The map of one finding by one method, and every check that a story would ask of it, with `methods` as witnesses.

    Raises: as `gather`.
    """
    settings = _settings(settings)
    _refuse_others(model, image)
    modality, asked = settings.modality or modality_for(model), _methods([*methods, method])
    once = OneLook(model, view_of(model, image)[0])
    seen, _ = _look(once, image, modality, settings)
    asked = (next(one for one in asked if one.key == method), *(one for one in asked if one.key != method))
    drawings = _draw(once, seen, image, modality, asked, Wanted((finding,), (finding,)), settings)
    for heatmap, found in maps_of(drawings, finding):
        if heatmap.method == method:
            return heatmap, found
    needs = ", ".join(drawings.left_out.get(method, ()))
    raise UnsupportedMethodError(method, f"this model does not give {needs}", mend="choose another method")


def modality_for(model: ExplainedModel) -> Modality:
    """The modality that the model names; else the default one where the model's findings are of it (`Modality.reads`); else
    one of nothing but these findings.
    """
    named = getattr(model, "modality", None)
    if isinstance(named, Modality):
        return named
    usual = modality_named(DEFAULT_MODALITY)
    if usual.reads(model.findings):
        return usual
    return Modality(UNNAMED, tuple(FindingTerm(finding) for finding in model.findings))


def doubt_of_modality(model: ExplainedModel) -> str:
    """The sentence to say where a model names no modality and only some of its findings are known to the default one."""
    usual = modality_named(DEFAULT_MODALITY)
    known = [f"'{finding}'" for finding in model.findings if usual.match(finding)]
    if not known or modality_for(model).key != UNNAMED:
        return ""
    return (
        f"{', '.join(known)} {'says' if len(known) == 1 else 'say'} too little of what kind of image the model reads, and it is"
        f" told as an image of no kind; name it (modality=\"{usual.key}\", or --modality {usual.key}) if it is a {usual.name}"
    )


def told_findings(findings: tuple[Finding, ...], *, calibrated: bool = True) -> tuple[str, ...]:
    """The findings a story dwells on: those that it names.

    Where nothing is calibrated no score says what is unlikely: then the likeliest others too, `MOST_TOLD` in all.
    """
    named = named_findings(findings)
    others = sorted((one for one in findings if one.name not in named), key=lambda one: (-one.probability, one.name))
    return named if calibrated else (*named, *(one.name for one in others))[:MOST_TOLD]


def _refuse_others(model: object, image: object) -> None:
    """What people give in place of a model and an image: a bare network, a path, an array."""
    if not (hasattr(model, "findings") and hasattr(model, "logits")):
        mend = "wrap it with the names of its logits: TorchModel(net, findings=[...]), OnnxModel or FunctionModel"
        raise InputError("model", f"is a {type(model).__name__}, which does not say what its answers mean", mend=mend)
    if not isinstance(image, Image):
        raise InputError("image", f"is a {type(image).__name__}", mend="give what read(...) makes of a file or an array")


def _settings(given: object) -> GatherSettings:
    """The settings that were given. Raises: InputError for what is none."""
    if given is None:
        return GatherSettings()
    if not isinstance(given, GatherSettings):
        raise InputError("settings", f"is a {type(given).__name__}", mend="give GatherSettings(samples=..., seed=...)")
    return given


def _methods(methods: object) -> tuple[Method, ...]:
    """The methods that were named or given, each once; one name alone will do."""
    found: dict[str, Method] = {}
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        methods = [methods]
    for method in methods:
        one = method_named(method) if isinstance(method, str) else method
        if isinstance(one, type) or not isinstance(one, Method):
            why = f"holds {one!r}, no method"
            raise InputError("methods", why, mend=f"name one or more, such as {', '.join(METHODS)}")
        found.setdefault(one.key, one)
    if not found:
        raise InputError("methods", "is empty", mend=f"name one or more, such as {', '.join(METHODS)}")
    return tuple(found.values())


def study_name(image: Image) -> str:
    """What the study of an image is called where nobody named it."""
    return f"study-{image.sha256[:12]}"


def _look(
    model: ExplainedModel, image: Image, modality: Modality, settings: GatherSettings
) -> tuple[Seen, tuple[Check, ...]]:
    if not settings.force:
        refuse(image, judge(image, modality), modality)
    seen = predict(model, image, modality, study_id=settings.study_id or study_name(image))
    if modality.read_draft is not None:
        stated = modality.read_draft(seen.prediction.report)
        seen = seen._replace(prediction=replace(seen.prediction, stated=stated))
    known = distance_of(model)
    near = None if known is None or seen.look is None else known.of(seen.look.features)
    # What a model does not draw it cannot be judged by: the rules that need it are then not asked.
    masks = None if "masks" in seen.gaps else seen.prediction.masks
    gate = judge(image, modality, masks=masks, near=near)
    if not settings.force:
        refuse(image, gate, modality)
    return seen, gate


def _stored(model: ExplainedModel, image: Image, told: tuple[str, ...]) -> tuple[str, ...]:
    # In a very large image the maps of findings that no story dwells on would fill hundreds of megabytes.
    few = image.pixels.size <= MOST_PIXELS_FOR_ALL_MAPS and len(model.findings) <= MOST_GRADIENTS
    return tuple(model.findings) if few else told


def _draw(
    model: OneLook, seen: Seen, image: Image, modality: Modality, methods: Sequence[Method], wanted: Wanted,
    settings: GatherSettings,
) -> Drawings:
    budget = Budget(settings.samples, settings.seconds, _batch(seen.pixels, settings.memory_mb), settings.seed)
    survey = _survey(seen, image, modality)
    return draw(model, seen, modality, methods, wanted, budget=budget, survey=survey)


def _batch(pixels: Array, memory_mb: float | None) -> int:
    """How many perturbed images are made at once: each takes its pixels and a byte for each that is shown or hidden."""
    if memory_mb is None:
        return USUAL_BATCH
    one = (pixels.nbytes + pixels[0].size) / 1e6
    if memory_mb < one:
        raise InputError("memory", f"{memory_mb:g} MB hold no perturbed image", mend=f"allow {one:.1f} MB or more")
    return min(USUAL_BATCH, int(memory_mb / one))


def _listener(settings: GatherSettings) -> Callable[[int], None] | None:
    """What hears of each batch that the model answers, and says how many of the passes to be expected are over."""
    progress = settings.progress
    if progress is None:
        return None
    total, done = (settings.samples or USUAL_SAMPLES) + settings.most_passes, 0

    def hear(images: int) -> None:
        nonlocal done, total
        done += images
        total = max(total, done)
        progress("asking the model", done, total)

    return hear


def _survey(seen: Seen, image: Image, modality: Modality) -> Survey | None:
    """The regions of the image; None where the modality's cannot be found because the model draws nothing."""
    masks = seen.prediction.masks
    if modality.survey is None:
        return survey_any_image(masks, spacing_mm=image.spacing_mm, mask_pixel=seen.mask_pixel)
    return modality.survey(masks, spacing_mm=image.spacing_mm, mask_pixel=seen.mask_pixel) if masks else None


def _map_concepts(drawings: Drawings, maps: Sequence[Heatmap]) -> tuple[Concept, ...]:
    """What is measured of the leading one of a finding's maps, where the finding is told."""
    lead = drawings.leads(maps)
    if lead is None or lead.finding not in drawings.told or drawings.survey is None:
        return ()
    return drawings.survey.map_concepts(lead.values, lead.finding)


def _gaps(seen: Seen, modality: Modality) -> tuple[str, ...]:
    lacking = seen.gaps | ({"labeler"} if seen.prediction.report and modality.labeller is None else set())
    return tuple(gap for gap in GAPS if gap in lacking)


def _whole_checks(seen: Seen, modality: Modality) -> tuple[Check, ...]:
    """Checks of the record as a whole: does the generated report say what the findings say?"""
    if seen.report_confidence is None:
        return ()
    said = {} if modality.labeller is None else modality.labeller(seen.prediction.report)
    found = [_report_agrees(finding, said.get(finding.name, np.nan)) for finding in seen.prediction.findings if said]
    total = len(seen.prediction.report)
    about = Remark("report_confidence", {"sentences": total})
    return (*found, Check("report_confidence", "", "report", seen.report_confidence, None, None, about))


def _report_agrees(finding: Finding, claim: float) -> Check:
    passed, value = None, None if np.isnan(claim) else float(claim)
    if value is None:
        about = "report_silent"
    elif finding.tier == "cannot_tell" or (finding.tier == "possible" and value < SAID):
        about = "report_open"
    else:
        passed = (value >= SAID) == (finding.tier != "unlikely")
        about = "report_agrees" if passed else "report_contradicts"
    return Check("report_agrees", finding.name, "report", value, None, passed, Remark(about))


def _model_facts(model: ExplainedModel) -> ModelFacts:
    card = card_of(model)
    return ModelFacts(name=model.model_id) if card is None else card.model_record()


def _provenance(
    model: ExplainedModel, image: Image, modality: Modality, settings: GatherSettings, drawings: Drawings
) -> dict[str, object]:
    card = card_of(model)
    view = {} if model.input_size is not None else {"view": drawings.seen.frame.size}
    prevalence = {f.name: f.prevalence for f in drawings.seen.prediction.findings if f.prevalence is not None}
    return {
        **({"prevalence": prevalence} if prevalence else {}),
        "software": "storyxai",
        "version": software_versions("storyxai")["storyxai"],
        "seed": settings.seed,
        "samples": settings.samples,
        "settings": {"most_told": MOST_TOLD, "forced": settings.force, "modality": modality.key, **view},
        "methods": {drawing.method.key: _options(drawing.method) for drawing in drawings.drawn},
        "methods_left_out": {key: list(needs) for key, needs in drawings.left_out.items()},
        "told": list(drawings.told),
        **_vocabulary(model, modality),
        **({} if settings.concepts is None else {"concepts": _concepts_from(settings.concepts)}),
        "inputs": [{"source": image.source, "sha256": image.sha256}],
        "model_files": {} if card is None else dict(card.files),
        **({"companions": {key: one.model_id for key, one in settings.companions.items()}} if settings.companions else {}),
        "packages": software_versions("numpy", "scipy", "scikit-image", "pillow", "onnxruntime", "pydicom"),
    }


def _concepts_from(learned: LearnedConcepts) -> dict[str, object]:
    """Which images the concepts that are told rest on."""
    return {
        "others_sha256": learned.others_sha256, "films_sha256": learned.films_sha256, "seed": learned.seed,
        "images_sha256": {name: concept.images_sha256 for name, concept in learned.concepts.items()},
    }


def _vocabulary(model: ExplainedModel, modality: Modality) -> dict[str, object]:
    """The words of the model's findings and images, for whoever reads the evidence without a modality that is not ours."""
    if modality.key == DEFAULT_MODALITY:
        return {}
    terms = {name: modality.describe(name) for name in model.findings}
    leaves = ("phrase", "lay", "focal", "look_alikes", "snomed", "radlex")
    told = {name: {leaf: getattr(term, leaf) for leaf in leaves} for name, term in terms.items()}
    if is_built_in(modality.key):
        return {"terms": told}
    called = {"image": modality.name, "lay_image": modality.name}
    spoken = {language: {**called, **own} for language, own in {**modality.words, "en": _english(modality)}.items()}
    return {"terms": told, "words": {"modality": modality.key, **spoken}}


def _english(modality: Modality) -> dict[str, str]:
    """The English words of the modality that its terms on record do not hold."""
    return {key: text for key, text in english_words(modality).items() if not key.startswith("findings.")}


def _options(method: Method) -> dict[str, Value]:
    """The method's options that have a plain value."""
    options = sorted(getattr(method, "__dict__", {}).items())
    return {key: value for key, value in options if isinstance(value, int | float | str)}
