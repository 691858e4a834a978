"""From image files to studies on disk: evidence, arrays and one page per reader, each study whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from storyxai.errors import ArchiveError, GateRefusal, InputError, OutputError, StoryxaiError
from storyxai.evidence.archive import archive_files
from storyxai.evidence.consistency import COMPANIONS
from storyxai.evidence.gather import METHODS, GatherSettings, doubt_of_modality, gather, modality_for, study_name
from storyxai.evidence.learned import CONCEPTS_NAME, LearnedConcepts, read_concepts
from storyxai.evidence.neighbours import NeighbourIndex, read_index
from storyxai.evidence.record import as_archived, as_record, record_sha256
from storyxai.evidence.seal import SEAL_NAME, read_key, seal_of
from storyxai.explain.contract import ExplainedModel
from storyxai.explain.registry import known_methods, method_named
from storyxai.files import replace_files, require_writable
from storyxai.imaging.read import find_images, read_image
from storyxai.pages.story import render_html
from storyxai.programs.auto import known_students, student_for
from storyxai.programs.budget import Allowance
from storyxai.programs.index import INDEX_NAME, index, is_ours
from storyxai.programs.models import AUTO, SHIPPED_MODEL, ModelChoice, open_model
from storyxai.programs.places import output_folder
from storyxai.programs.rewrite import LanguageModel, reword
from storyxai.progress import Progress
from storyxai.proof.rewording import REWORDING_NAME, Rewording, read_rewording
from storyxai.provenance import sha256_bytes
from storyxai.story.audiences.registry import find_audience, known_audiences
from storyxai.story.citations import contradictions, story_of_page
from storyxai.story.tell import AUDIENCES
from storyxai.story.tell import tell as tell_story
from storyxai.story.words import load_words
from storyxai.types import Evidence, Story

__all__ = ["NotTold", "TellOptions", "Told", "tell", "tell_held", "tell_one"]

@dataclass(frozen=True)
class TellOptions:
    """How studies are told.

    `audiences` name the readers; `model` says which model speaks; `methods` draw its maps, the first one every finding's;
    `samples` are the perturbed images of a method that perturbs (None: until stable),
    within `seconds` and `memory_mb`; `force` tells even what the gate refuses, with its warning
    on every page; `seal_key` is a file whose bytes seal each study (`evidence.seal`); `rewriter` rewords the pages. `concepts`
    is a file of `storyxai concepts` (None: the one beside the model, where there is one), `neighbours` an index of
    `storyxai neighbours build`. `teacher` and `twin` are a student's folder or an ONNX file each: the model that taught it, and
    one trained with another seed, whose maps its own are held against.
    """

    audiences: Sequence[str] = AUDIENCES
    language: str = "en"
    model: ModelChoice = SHIPPED_MODEL
    methods: Sequence[str] = METHODS
    samples: int | None = None
    seed: int = 0
    indication: str = ""
    force: bool = False
    seal_key: Path | None = None
    rewriter: LanguageModel | None = None
    concepts: Path | None = None
    neighbours: Path | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    teacher: Path | None = None
    twin: Path | None = None

    @cached_property
    def companions(self) -> Mapping[str, ExplainedModel]:
        """The models that maps are held against, opened once, by the names of `consistency.COMPANIONS`."""
        named = zip(COMPANIONS, (self.teacher, self.twin), strict=True)
        of_file = replace(self.model, known=(), prevalence={})
        choices = {
            key: ModelChoice(path) if path.is_dir() else replace(of_file, path=path) for key, path in named if path
        }
        return {key: open_model(choice) for key, choice in choices.items()}

    @cached_property
    def index(self) -> NeighbourIndex | None:
        """The index of neighbours, read once; None where none is named."""
        return None if self.neighbours is None else read_index(self.neighbours)

    def check(self) -> None:
        """Raise UnknownNameError or InputError if an option cannot be used: before any image is read."""
        for audience in self.audiences:
            find_audience(audience)
        if not self.audiences:
            raise InputError("audience", "is empty", mend=f"name one or more of {', '.join(AUDIENCES)}")
        load_words(self.language)
        if self.rewriter is not None:
            self.rewriter.check()
        if self.seal_key is not None:
            read_key(self.seal_key)
        Allowance(self.samples, self.seconds, self.memory_mb).check()
        if self.concepts is not None:
            read_concepts(self.concepts)
        # Read and opened, so that what is wrong with them is said first.
        assert (self.neighbours is None or self.index is not None) and self.companions is not None
        if not self.methods:
            raise InputError("method", "is empty", mend=f"name one or more of {', '.join(known_methods())}")
        for method in self.methods:
            method_named(method)


@dataclass(frozen=True)
class Told:
    """One told study: where it lies, its pages, its findings, a line of summary, which model spoke, what was reworded, the
    SHA-256 of each file that was written, and what is in doubt of the kind of image."""

    source: str
    folder: Path
    pages: tuple[str, ...]
    summary: str
    findings: Mapping[str, Mapping[str, str | float]]
    maps_withheld: tuple[str, ...] = ()
    model: str = ""
    rewording: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""


@dataclass(frozen=True)
class NotTold:
    """An image among several that could not be told: why, and the exit status that it stands for."""

    source: str
    not_told: str
    exit_status: int


def tell(
    images: Sequence[Path], out: Path, options: TellOptions | None = None, *, progress: Progress | None = None,
    passes: Progress | None = None,
) -> list[Told | NotTold]:
    """What was told of each image, in folders under `out`; `progress` hears of images, `passes` of the model's within one.

    A study's folder appears whole or not at all. Told again, its evidence and the pages that were asked for are
    replaced; pages of other readers are told again where the evidence changed, and every other file stays. One image
    that cannot be told raises InputError or GateRefusal; among several it is left out and the others are told. Of several
    studies `out` gets an index too, unless an index.html that is not ours stands there.
    """
    options = options or TellOptions()
    options.check()
    paths = find_images(images)
    told: list[Told | NotTold] = []
    with output_folder(out):
        open_for = _opened(options)
        for done, path in enumerate(paths, start=1):
            try:
                told.append(tell_one(open_for(path), path, out, options, progress=passes))
            except (InputError, GateRefusal) as error:
                if len(paths) == 1 or isinstance(error, OutputError):
                    raise
                told.append(NotTold(str(path), str(error), error.exit_status))
            if progress:
                progress("telling", done, len(paths))
        _index(out, sum(isinstance(one, Told) for one in told), options.language)
    return told


def _opened(options: TellOptions) -> Callable[[Path], ExplainedModel]:
    """Which model speaks about the image at a path: always the one that was chosen, or the one whose gate accepts it."""
    if options.model.path != AUTO:
        model = open_model(options.model)
        return lambda path: model
    if options.model.findings or options.model.prevalence or options.force:
        why = "goes with no --findings, --prevalence or --force: they speak of one model"
        raise InputError("model 'auto'", why, mend="leave them out, or name the model")
    students = known_students(options.model.known)
    return partial(student_for, students=students, settings=GatherSettings(options.samples, options.seed))


def _index(out: Path, told: int, language: str) -> None:
    """Write the index of `out` where several studies were told, or where one of ours stands and one was."""
    page = out / INDEX_NAME
    ours = is_ours(page)
    if told and (ours or (told > 1 and not page.exists())):
        index([out], language=language)


def tell_one(
    model: ExplainedModel, path: Path, out: Path, options: TellOptions, *, progress: Progress | None = None
) -> Told:
    """What a model that is open tells of one image, in a folder under `out`; `progress` hears of the model's passes.

    Raises: InputError, GateRefusal, OutputError.
    """
    return tell_held(model, path, out, options, progress=progress)[0]


def tell_held(
    model: ExplainedModel, path: Path, out: Path, options: TellOptions, *, progress: Progress | None = None
) -> tuple[Told, Evidence]:
    """As `tell_one`, with the evidence as the files keep it: who goes on with it need not read it again."""
    settings = GatherSettings(options.samples, options.seed, force=options.force, indication=options.indication)
    settings = replace(settings, concepts=_concepts_of(options), index=options.index)
    settings = replace(settings, seconds=options.seconds, memory_mb=options.memory_mb, progress=progress)
    settings = replace(settings, companions=options.companions)
    image = read_image(path, acquisition=modality_for(model).acquisition)
    folder = out / study_name(image)
    if folder.is_dir():
        require_writable(folder)
    evidence = gather(model, image, methods=options.methods, settings=settings)
    kept = as_archived(evidence)  # so that every story can be told and drawn again from the files, byte by byte
    files = _study_files(evidence, kept, folder, options)
    try:
        replace_files(folder, files)
    except OutputError as error:
        raise OutputError(str(out), error.why, mend=error.mend) from error
    told = _told(evidence, folder, [f"{find_audience(audience).key}.html" for audience in options.audiences])
    written = {name: sha256_bytes(data) for name, data in files.items()}
    return replace(told, written=written, doubt=doubt_of_modality(model)), kept


def _concepts_of(options: TellOptions) -> LearnedConcepts | None:
    """The concepts that the model was tested for: the file that was named, or the one beside the model."""
    model = options.model.path
    beside = None if model is None else (model if model.is_dir() else model.parent) / CONCEPTS_NAME
    path = options.concepts or (beside if beside is not None and beside.is_file() else None)
    return None if path is None else read_concepts(path)


def _study_files(evidence: Evidence, kept: Evidence, folder: Path, options: TellOptions) -> dict[str, bytes]:
    """Everything that telling writes into the study's folder, by name; the stories are told of what its files keep."""
    asked = [tell_story(kept, audience, options.language) for audience in options.audiences]
    asked, rewording = _reworded(asked, kept, folder, options.rewriter)
    stories = {story.audience: story for story in asked}
    for audience, language in _outdated_pages(kept, folder, list(stories)):
        stories[audience] = tell_story(kept, audience, language)
    if clash := contradictions(list(stories.values())):
        raise StoryxaiError(f"the stories contradict one another: {'; '.join(clash)}")
    pages = {f"{audience}.html": render_html(story, kept) for audience, story in stories.items()}
    files = {**archive_files(evidence), **pages, **rewording}
    return files if options.seal_key is None else {**files, SEAL_NAME: _sealed(folder, files, read_key(options.seal_key))}


def _reworded(
    stories: list[Story], evidence: Evidence, folder: Path, rewriter: LanguageModel | None
) -> tuple[list[Story], dict[str, bytes]]:
    """The stories as they stand on their pages, and the file that says what was reworded where anything was or is."""
    mark = record_sha256(as_record(evidence))
    try:
        before = read_rewording(folder)
    except ArchiveError:  # what cannot be read is written anew
        before = Rewording(mark, {})
    if rewriter is None and before is None:
        return stories, {}
    kept = (before or Rewording(mark, {})).without([story.audience for story in stories], mark)
    told = [] if rewriter is None else [reword(story, evidence, rewriter) for story in stories]
    pages = {story.audience: page for story, page in told}
    return [story for story, _ in told] or stories, {REWORDING_NAME: Rewording(mark, {**kept.pages, **pages}).to_bytes()}


def _sealed(folder: Path, files: Mapping[str, bytes], key: bytes) -> bytes:
    """The seal over the files and the pages of other readers that stay in the folder."""
    known = {f"{audience}.html" for audience in known_audiences()}
    staying = {path.name: path.read_bytes() for path in folder.glob("*.html") if path.name in known}
    return seal_of({**staying, **files}, key)


def _outdated_pages(evidence: Evidence, folder: Path, asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Audience and language of each page from an earlier telling that other evidence than this was told in."""
    mark = record_sha256(as_record(evidence))
    for audience in known_audiences():
        page = folder / f"{audience}.html"
        if audience in asked or not page.is_file():
            continue
        try:
            story: Story = story_of_page(page.read_bytes())
        except StoryxaiError:  # somebody's own file of that name
            continue
        if story.provenance.get("evidence_sha256") != mark:
            yield audience, story.language


def _told(evidence: Evidence, folder: Path, pages: Sequence[str]) -> Told:
    rewording = read_rewording(folder)
    record, findings = as_record(evidence), evidence.prediction.findings
    words, tiers = load_words("en", record), {name: item["tier"] for name, item in record["findings"].items()}
    known = {finding.name: finding.probability for finding in findings}
    named = [f"{name.replace('_', ' ')} {tiers[name].replace('_', ' ')} ({known[name]:.2f})" for name in record["named"]]
    summary = ", ".join(named) or "no finding reached its threshold"
    if doubts := [words.say(check.about) for check in evidence.gate if check.name in record["doubts"]]:
        summary = " ".join(("the model cannot tell.", *doubts))  # numbers beside that would be believed all the same
    return Told(
        evidence.image.source, folder, tuple(pages), summary,
        {f.name: {"tier": tiers[f.name], "probability": round(f.probability, 4)} for f in findings},
        tuple(f"{h.finding} {h.method}: {words.say(*h.withheld_because)}" for h in evidence.heatmaps if not h.shown),
        evidence.prediction.model_id,
        {} if rewording is None else {audience: page.summary for audience, page in rewording.pages.items()},
    )
