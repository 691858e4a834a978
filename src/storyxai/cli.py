"""The command line: the verbs of `storyxai.programs`, words in, words out.

Each program is loaded when its verb is typed: `--help` needs none of them, and `tell` not what evaluates or trains.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storyxai.console import answer, fail, quiet_others, say, shown_progress, taking_options
from storyxai.errors import GateRefusal, InputError, StoryxaiError

if TYPE_CHECKING:
    from storyxai import logbook
    from storyxai.programs import budget as opening_budget
    from storyxai.programs import compare as comparing
    from storyxai.programs import concepts as conceiving
    from storyxai.programs import data, recipes
    from storyxai.programs import deidentify as removing
    from storyxai.programs import evaluate as judging
    from storyxai.programs import explain as explaining
    from storyxai.programs import export as exporting
    from storyxai.programs import gallery as showing
    from storyxai.programs import index as indexing
    from storyxai.programs import log as logging_to
    from storyxai.programs import models as opening
    from storyxai.programs import neighbours as indexing_neighbours
    from storyxai.programs import release as releasing
    from storyxai.programs import rewrite as rewriting
    from storyxai.programs import tell as telling
    from storyxai.programs import verify as verifying
else:

    class _Later:
        def __init__(self, name: str) -> None:
            self.name = f"storyxai.programs.{name}"

        def __getattr__(self, what: str) -> Any:
            return getattr(import_module(self.name), what)

    data, recipes, judging = _Later("data"), _Later("recipes"), _Later("evaluate")
    explaining, telling, verifying, opening = _Later("explain"), _Later("tell"), _Later("verify"), _Later("models")
    exporting, releasing, removing = _Later("export"), _Later("release"), _Later("deidentify")
    indexing, logging_to = _Later("index"), _Later("log")
    comparing, rewriting = _Later("compare"), _Later("rewrite")
    conceiving, indexing_neighbours, showing = _Later("concepts"), _Later("neighbours"), _Later("gallery")
    opening_budget = _Later("budget")

__all__ = ["app", "main"]

app = typer.Typer(
    name="storyxai",
    help="Turn a medical image into stories for four readers, each sentence backed by checked evidence.\n\n"
    "Research use only - not for diagnostic use.\n\n"
    "Start with:  storyxai data phantom --count 1 --out phantom && storyxai tell phantom/images --out stories",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(name="data", help="Make, import and check images.", no_args_is_help=True)
app.add_typer(data_app)
neighbours_app = typer.Typer(name="neighbours", help="Index images by a model's features.", no_args_is_help=True)
app.add_typer(neighbours_app)
log_app = typer.Typer(name="log", help="Look at the log of what was told, released and exported.", no_args_is_help=True)
app.add_typer(log_app)
dicomweb_app = typer.Typer(name="dicomweb", help="Find, fetch and store at a DICOMweb service.", no_args_is_help=True)
app.add_typer(dicomweb_app)


def _say_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"storyxai {version('storyxai')}\n")
        raise typer.Exit


@app.callback()
def start(
    say_version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What holds for every command."""


Images = Annotated[list[Path], typer.Argument(help="Images (DICOM, PNG, JPEG, TIFF) or folders of them.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; made when absent.")]
Model = Annotated[
    Path | None, typer.Option("--model", help="A student's folder, or an ONNX file. [default: the student that comes along]")
]
Findings = Annotated[str, typer.Option("--findings", help="Names of an ONNX file's outputs, in order, with commas.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random: same input and seed, same bytes.")]
Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable result on standard output.")]
SealKey = Annotated[Path | None, typer.Option(help="A file of 32 secret bytes or more that seals a study, or checks its seal.")]
Log = Annotated[
    Path | None, typer.Option("--log", envvar="STORYXAI_LOG", help="Add what was done to this hash-chained log.")
]
LogKey = Annotated[
    Path | None, typer.Option("--log-key", envvar="STORYXAI_LOG_KEY", help="A file of 32 secret bytes or more: the log's key.")
]
Recipe = Annotated[Path, typer.Argument(help="A recipe in TOML, such as recipes/phantom.toml.")]


@dataclass(frozen=True)
class _TellWords:
    audience: Annotated[
        str, typer.Option(help="Who reads: clinician, practitioner, patient, auditor, emergency, student, or a TOML file.")
    ] = "clinician,practitioner,patient,auditor"
    language: Annotated[str, typer.Option(help="Language of the stories; yours from the folder STORYXAI_LANGUAGES.")] = "en"
    model: Annotated[
        Path | None,
        typer.Option(help="A student's folder, an ONNX file, or 'auto' (whose gate accepts). [default: the shipped student]"),
    ] = None
    models: Annotated[str, typer.Option(help="For --model auto: folders of further students, with commas.")] = ""
    findings: Findings = ""
    method: Annotated[
        str, typer.Option(help="Methods that draw maps, such as grad_cam, lime, occlusion; several with commas.")
    ] = "grad_cam,lime"
    samples: Annotated[
        str, typer.Option(help="LIME's perturbed images; more is slower and steadier. auto: until stable, at most 1024.")
    ] = "auto"
    seconds: Annotated[float | None, typer.Option(help="Time for each method that samples; pages say how far it came.")] = None
    memory: Annotated[float | None, typer.Option(help="Megabytes for perturbed images at once, beside the model's own.")] = None
    seed: Seed = 0
    indication: Annotated[str, typer.Option(help="The question that was asked, if any.")] = ""
    prevalence: Annotated[
        str, typer.Option(help="Share of your patients with a finding: Mass=0.2,Fibrosis=0.1, or a TOML file of such lines.")
    ] = ""
    force: Annotated[bool, typer.Option(help="Tell even if the gate refuses; the warning stands on every page.")] = False
    seal_key: SealKey = None
    rewrite_with: Annotated[
        str,
        typer.Option(help="Let a language model on this machine reword pages: its address, http://127.0.0.1:8080/v1 or so."),
    ] = ""
    rewrite_model: Annotated[str, typer.Option(help="The model's name at that address.")] = "default"
    log: Log = None
    log_key: LogKey = None
    concepts: Annotated[
        Path | None, typer.Option(help="A file of `storyxai concepts`. [default: concepts.json beside the model, if any]")
    ] = None
    neighbours: Annotated[
        Path | None, typer.Option(help="An index of `storyxai neighbours build`: what was known of the most similar images.")
    ] = None
    teacher: Annotated[
        Path | None, typer.Option(help="The model's teacher, a folder or an ONNX file: are the maps alike?")
    ] = None
    twin: Annotated[Path | None, typer.Option(help="A model like it, trained with another seed: are the maps alike?")] = None
    as_json: Json = False


@app.command()
@taking_options(_TellWords)
def tell(images: Images, out: Out, words: _TellWords) -> None:
    """Tell four stories about each image.

    Of several images, those that cannot be read or that the gate refuses are named and left out; the others are told.

    Writes OUT/STUDY/ with evidence.json, arrays.npz and one HTML page per reader that opens from disk; of several
    studies also OUT/index.html.

    Example:  storyxai tell film.dcm --out stories --audience clinician,patient

    Example:  storyxai tell film.dcm --out stories --model net.onnx --findings Mass,Fibrosis

    Example:  storyxai tell FOLDER --out stories --model auto --models students/a,students/b
    """
    options = telling.TellOptions(
        audiences=_listed(words.audience), language=words.language,
        model=opening.ModelChoice(
            words.model, _listed(words.findings), opening.read_prevalence(words.prevalence),
            tuple(map(Path, _listed(words.models))),
        ),
        methods=tuple(_method_key(name) for name in _listed(words.method)), samples=opening_budget.read_samples(words.samples),
        seconds=words.seconds, memory_mb=words.memory, seed=words.seed,
        indication=words.indication, force=words.force, seal_key=words.seal_key,
        rewriter=rewriting.LanguageModel(words.rewrite_with, words.rewrite_model) if words.rewrite_with else None,
        concepts=words.concepts, neighbours=words.neighbours, teacher=words.teacher, twin=words.twin,
    )
    log = _opened_log(words.log, words.log_key)
    with shown_progress() as progress:
        answers = telling.tell(images, out, options, progress=progress, passes=progress if sys.stderr.isatty() else None)
    if log:
        logging_to.log_told(log, answers)
    told = [item for item in answers if isinstance(item, telling.Told)]
    left_out = [item for item in answers if isinstance(item, telling.NotTold)]
    for item in left_out:
        sys.stderr.write(f"storyxai: {item.not_told}\n")
    lines = [line for item in told for line in _told_lines(item, named=words.model == opening.AUTO)]
    if left_out:
        lines.append(f"{len(told)} of {len(answers)} images told, {len(left_out)} left out")
    if told and indexing.is_ours(out / indexing.INDEX_NAME):
        lines.append(f"{out}/{indexing.INDEX_NAME}")
    answer({"told": [asdict(item) for item in answers]}, lines, words.as_json)
    if left_out:
        raise typer.Exit(min(item.exit_status for item in left_out))  # 2 where a file is at fault, 3 where only the gate


@app.command()
def index(
    stories: Annotated[list[Path], typer.Argument(help="Folders that hold studies, as `tell` wrote them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Page to write. [default: STORIES/index.html]")] = None,
    language: Annotated[str, typer.Option(help="Language of the page.")] = "en",
    as_json: Json = False,
) -> None:
    """List many told studies on one page: sort, filter by tier and finding, open with the keyboard.

    Small pictures go into a folder beside the page. A study that cannot be read is named and left out.

    Example:  storyxai index stories --out stories/index.html
    """
    with shown_progress() as progress:
        done = indexing.index(stories, out, language=language, progress=progress)
    for why in done.unread:
        sys.stderr.write(f"storyxai: {why}\n")
    answer(asdict(done), [f"{done.page}: {done.studies} {'study' if done.studies == 1 else 'studies'}"], as_json)
    if done.unread:
        raise typer.Exit(2)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A study's folder; of two dates the earlier.")],
    b: Annotated[Path, typer.Argument(help="Another: the same image by another model, or another image by the same model.")],
    form: Annotated[str, typer.Option("--format", help="text, json or html. [default: as --out ends, else text]")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write. [default: standard output]")] = None,
    language: Annotated[str, typer.Option(help="Language of the words.")] = "en",
) -> None:
    """Compare two models on one image, or two dates of one patient: what differs beyond the intervals, and what does not.

    A difference whose intervals overlap is never called a change.

    Example:  storyxai compare stories/study-1 stories/study-2 --out comparison.html
    """
    made = comparing.compare(a, b, form=form, out=out, language=language)
    sys.stdout.write(f"{out}\n" if out is not None else made.decode())


@app.command()
def gallery(
    stories: Annotated[list[Path], typer.Argument(help="Studies, or folders that hold them, as `tell` wrote them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Slide to write: .html, .png or .pdf.")],
    finding: Annotated[str, typer.Option(help="Show this finding's maps. [default: the first that each story names]")] = "",
    title: Annotated[str, typer.Option(help="Title of the slide.")] = "",
    language: Annotated[str, typer.Option(help="Language of the words.")] = "en",
    as_json: Json = False,
) -> None:
    """Put several films on one slide, each beside the map of its first finding; at most twelve.

    Example:  storyxai gallery stories --out slide.png
    """
    done = showing.gallery(stories, out, showing.GalleryOptions(finding, title, language))
    lines = [f"{done.slide}: {done.films} films", *(f"  {remark}" for remark in done.remarks)]
    answer(asdict(done), lines, as_json)


@app.command()
def release(
    study: Annotated[Path, typer.Argument(help="A study's folder, as `tell` wrote it.")],
    by: Annotated[str, typer.Option(help="Who releases the patient's page.")],
    with_picture: Annotated[bool, typer.Option("--with-picture", help="Show the film, framed where a place is told.")] = False,
    log: Log = None,
    log_key: LogKey = None,
    as_json: Json = False,
) -> None:
    """Release the patient's page for reading: until then it says that it is held back.

    Draws STUDY/patient.html anew and writes who released it and when, with the page's hash, into STUDY/release.json.

    Example:  storyxai release stories/study-1 --by "Dr. A. Example"
    """
    book = _opened_log(log, log_key)
    with logging_to.log_refusal(book, study, "release") if book else nullcontext():
        done = releasing.release(study, by=by, with_picture=with_picture)
    if book:
        logging_to.log_released(book, done)
    line = f"{done.folder}: the patient's page is released by {done.release.by}, {done.release.time}"
    answer(asdict(done), [line], as_json)


@app.command()
def verify(
    folders: Annotated[list[Path], typer.Argument(help="Studies' folders, as `tell` wrote them, or a folder of studies.")],
    seal_key: SealKey = None,
    log: Log = None,
    log_key: LogKey = None,
    as_json: Json = False,
) -> None:
    """Check again, from the files alone, the hashes, citations and contradictions of what `tell` wrote.

    Every page is read back into facts, which are held against the evidence and the other readers' pages. Of several
    studies each is looked at, whatever is wrong with another. With the key that sealed them, evidence that was altered and
    told anew is found too.

    Example:  storyxai verify stories/study-*
    """
    one, *others = studies = verifying.studies_in(folders)
    book = _opened_log(log, log_key)
    found = [verifying.verify_any(folder, seal_key=seal_key) for folder in studies] if others else [
        verifying.verify(one, seal_key=seal_key)
    ]
    if book:
        logging_to.log_verified(book, found)
    lines = [line for one in found for line in _verified_lines(one)]
    problems = [f"{one.folder}: {problem}" for one in found for problem in one.problems]
    if others:
        clean = sum(not one.problems for one in found)
        lines.append(f"{len(found)} studies: {clean} clean, {len(found) - clean} with problems")
    answer({"studies": [asdict(one) for one in found], "problems": problems}, lines, as_json)
    if problems:
        raise typer.Exit(2)


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="A study's folder, as `tell` wrote it.")],
    to: Annotated[str, typer.Option(help="dicom, fhir (R5), fhir-r4, applied-model-card, eu-ai-act, or all of them.")],
    out: Out,
    source: Annotated[
        Path | None, typer.Option(help="The DICOM film that the study was told from: it names the patient and the study.")
    ] = None,
    log: Log = None,
    log_key: LogKey = None,
    as_json: Json = False,
) -> None:
    """Write a told study as DICOM objects (SEG, SR, maps, marks, PDF) or a FHIR bundle, or documents about its model.

    Objects are preliminary until the study is released, research use only. The study is verified first; maps that failed their
    checks stay behind. DICOM and FHIR need storyxai[hospital]. Documents (CHAI's Applied Model Card, the headings of Annex IV
    of the EU AI Act; Markdown and JSON) mark what only people can fill, and claim no conformity.

    Example:  storyxai export stories/study-1 --to dicom --source film.dcm --out objects

    Example:  storyxai export stories/study-1 --to all --out exported    (each form in a folder of its name)
    """
    book = _opened_log(log, log_key)
    with logging_to.log_refusal(book, study, f"export {to}") if book else nullcontext():
        done = exporting.export_study(study, out, to=to, source=source)
    if book:
        logging_to.log_exported(book, study, done, to)
    lines = [*(f"{done.folder}/{name}" for name in done.files), *(f"  {remark}" for remark in done.remarks)]
    answer(asdict(done), lines, as_json)


@app.command()
def deidentify(
    images: Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.")],
    out: Out,
    key: Annotated[Path, typer.Option(help="A file of 32 secret bytes or more that makes the pseudonyms.")],
    blank_text: Annotated[bool, typer.Option("--blank-text", help="Paint over what looks like text in the pixels.")] = False,
    pixels_seen: Annotated[
        bool, typer.Option("--pixels-seen", help="You looked at the pixels: nothing in them names a person.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write DICOM images without the people in them: by keep-list, with pseudonyms, moved dates and a report.

    The same key gives the same pseudonym to a person and moves all of their dates by the same days. Text in the pixels is
    doubted unless the file rules it out, or you say that you looked.

    Example:  head -c 32 /dev/urandom > key && storyxai deidentify films --key key --out shared
    """
    with shown_progress() as progress:
        done = removing.deidentify_files(
            images, out, key_file=key, blank_text=blank_text, seen=pixels_seen, progress=progress
        )
    lines = [f"{done.folder}: {done.written} images of {done.people} people, {done.folder}/{removing.REPORT_NAME}"]
    if done.blanked:
        lines.append(f"  {done.blanked} boxes that looked like text were painted over")
    if done.doubted:
        lines.append(f"  {done.doubted} images may hold a name in their pixels: {removing.STILL_THERE}")
    lines += [f"  left out: file {one.number}, {one.path}: {one.why}" for one in done.left_out]
    answer(asdict(done), lines, as_json)


@dataclass(frozen=True)
class _ExplainWords:
    method: Annotated[str, typer.Option(help="grad_cam (Grad-CAM), lime (LIME), occlusion, ...")] = "grad_cam"
    model: Model = None
    findings: Findings = ""
    samples: Annotated[str, typer.Option(help="LIME's perturbed images; auto: until stable, at most 1024.")] = "auto"
    seconds: Annotated[float | None, typer.Option(help="Time that a method that samples may take.")] = None
    memory: Annotated[float | None, typer.Option(help="Megabytes for perturbed images at once, beside the model's own.")] = None
    seed: Seed = 0
    force: Annotated[bool, typer.Option(help="Explain even if the gate refuses the image.")] = False
    as_json: Json = False


@app.command()
@taking_options(_ExplainWords)
def explain(
    image: Annotated[Path, typer.Argument(help="One image.")],
    finding: Annotated[str, typer.Option(help="Which finding to explain, such as Mass.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write; the raw map goes beside it as .npy.")],
    words: _ExplainWords,
) -> None:
    """Draw one map of one finding beside the untouched image, with its scale and the checks it passed or failed.

    Example:  storyxai explain film.png --method lime --finding Mass --out mass.png
    """
    options = explaining.ExplainOptions(
        finding, _method_key(words.method), _chosen(words.model, words.findings),
        opening_budget.read_samples(words.samples), words.seed, words.force, words.seconds, words.memory,
    )
    result = explaining.explain(image, out, options)
    span = f"{result.minimum:.3g} to {result.maximum:.3g} {result.unit}"
    lines = [f"{out}: {result.method_name} of {result.finding.replace('_', ' ')}, {span}"]
    if not result.shown:
        lines.append(f"  tell would withhold this map: {result.withheld_because}")
    lines += [f"  {name.replace('_', ' ')}: {about}" for name, about in result.checks.items()]
    answer(asdict(result), lines, words.as_json)


@dataclass(frozen=True)
class _ConceptWords:
    model: Annotated[Path | None, typer.Argument(help="A student's folder, or an ONNX file; ours where none is named.")] = None
    folder: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR, or DIR, of images that show a concept; may be repeated.")
    ] = None
    others: Annotated[Path | None, typer.Option(help="Folder of images of the same kind without the concepts.")] = None
    films: Annotated[
        Path | None, typer.Option(help="Folder of images on which findings are judged. [default: the others]")
    ] = None
    findings: Findings = ""
    phantoms: Annotated[int, typer.Option(help="Without folders: phantoms drawn for each of our own concepts.")] = 40
    any_size: Annotated[bool, typer.Option("--any-size", help="Take folders of images of several sizes.")] = False
    controls: Annotated[int, typer.Option(help="Sets of images without the concept, a vector each.")] = 20
    chance: Annotated[int, typer.Option(help="Vectors of random sets that a concept must exceed.")] = 400
    seed: Seed = 0
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. [default: concepts.json beside the model]")
    ] = None
    as_json: Json = False


@app.command()
@taking_options(_ConceptWords)
def concepts(words: _ConceptWords) -> None:
    """Test what a model's findings rest on: concept vectors (TCAV) beside vectors of random image sets.

    Without folders our own concepts are drawn as phantoms: signs and an enlarged organ. `tell` says what
    the file holds.

    Example:  storyxai concepts runs/phantom/model --folder wires=films/wires --others films/plain
    """
    named = [(name, Path(folder)) if name else (Path(folder).name, Path(folder))
             for name, _, folder in (given.rpartition("=") for given in words.folder or ())]
    options = conceiving.ConceptOptions(
        _chosen(words.model, words.findings), dict(named), words.others, words.films, words.phantoms, words.any_size,
        conceiving.TcavSettings(words.controls, words.chance, seed=words.seed),
    )
    with shown_progress() as progress:
        result = conceiving.make_concepts(words.out, options, progress=progress)
    answer(asdict(result), [f"{result.path}", *(f"  {line}" for line in result.lines)], words.as_json)


@neighbours_app.command("build")
def neighbours_build(
    table: Annotated[Path, typer.Option("--table", help="A study table, as `data import` writes it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    model: Model = None,
    findings: Findings = "",
    split: Annotated[str, typer.Option(help="Which part of the table: train, val, test or all.")] = "train",
    as_json: Json = False,
) -> None:
    """Write an index of a model's features: `tell --neighbours` then says what was known of the most similar images.

    It holds features and labels, no picture and nobody's name or number.

    Example:  storyxai neighbours build --table nih.parquet --out nih.index
    """
    with shown_progress() as progress:
        built = indexing_neighbours.build_neighbours(table, out, _chosen(model, findings), split=split, progress=progress)
    lines = [f"{built.path}: {built.images} images, {built.size / 1e6:.1f} MB"]
    answer(asdict(built), [*lines, *(f"  left out: {one}" for one in built.left_out)], as_json)


@dataclass(frozen=True)
class _EvaluateWords:
    model: Model = None
    beside: Annotated[
        list[Path] | None, typer.Option(help="Folder of another student to judge on the same images; may be repeated.")
    ] = None
    split: Annotated[str, typer.Option(help="unseen (patients the student never met), train, val, test or all.")] = "unseen"
    bootstrap: Annotated[int, typer.Option(help="Patient-level bootstrap replicates.")] = 1000
    laterals: Annotated[bool, typer.Option("--laterals", help="Judge the views that are not frontal too.")] = False
    explanations: Annotated[
        bool, typer.Option("--explanations", help="Judge the maps too; of an ONNX file (--findings A,B) the maps alone.")
    ] = False
    findings: Findings = ""
    images: Annotated[int, typer.Option(help="Images of which maps are judged, boxed ones first.")] = 24
    methods: Annotated[str, typer.Option(help="Methods whose maps are judged, with commas.")] = "grad_cam,lime"
    samples: Annotated[int, typer.Option(help="Perturbed images of a method that perturbs, a map.")] = 500
    write_card: Annotated[
        bool, typer.Option("--write-card", help="Put the maps' faithfulness and robustness into the card in --model's folder.")
    ] = False
    seed: Seed = 0
    as_json: Json = False


@app.command()
@taking_options(_EvaluateWords)
def evaluate(
    data_table: Annotated[Path, typer.Option("--data", help="A study table, as `data import` writes it.")],
    out: Out,
    words: _EvaluateWords,
) -> None:
    """Judge a student on a study table: scorecard.json and scorecard.html, every figure with its n and interval.

    With --explanations the maps of any model are judged: where they lie, what the model makes of what they mark, what noise
    and shuffled weights change of them, beside maps that know nothing.

    Example:  storyxai data import nih folder --out nih.parquet && storyxai evaluate --data nih.parquet --out score
    """
    plan = judging.ExplanationPlan(
        tuple(_method_key(one) for one in _listed(words.methods)), words.images, samples=words.samples
    ) if words.explanations else None
    options = judging.EvaluateOptions(
        words.model, words.beside or (), words.split, bootstrap=words.bootstrap, seed=words.seed, laterals=words.laterals,
        findings=_listed(words.findings), explanations=plan, write_card=words.write_card,
    )
    with shown_progress() as progress:
        result = judging.evaluate(data_table, out, options, progress=progress)
    answer(asdict(result), [*result.lines, str(result.page)], words.as_json)


@app.command()
def pipeline(recipe: Recipe, out: Out, as_json: Json = False) -> None:
    """From nothing to stories: phantoms, three teachers, one student, scorecard, stories.

    A run that was cut short goes on from the networks it had finished.

    Example:  storyxai pipeline recipes/phantom.toml --out runs/phantom
    """
    with shown_progress() as progress:
        result = recipes.pipeline(recipe, out, progress=progress)
    answer(asdict(result), [*result.lines, f"{out}/scorecard.html", f"{out}/model", f"{out}/stories"], as_json)


@app.command()
def teach(
    recipe: Recipe,
    out: Out,
    task: Annotated[str, typer.Option(help="Which teacher to train: findings, masks, report, or all three.")] = "all",
    as_json: Json = False,
) -> None:
    """Train the recipe's teachers only: OUT/teacher-TASK.safetensors, and a card each with its hash, data and figures.

    A later `distil RECIPE --out OUT` goes on with them. Teachers from elsewhere need no teaching: name them in the
    recipe under [[foreign_teachers]].

    Example:  storyxai teach recipes/phantom.toml --task findings --out runs/phantom
    """
    with shown_progress() as progress:
        result = recipes.teach(recipe, out, task=task, progress=progress)
    answer(asdict(result), result.lines, as_json)


@app.command()
def distil(recipe: Recipe, out: Out, as_json: Json = False) -> None:
    """Train three teachers and distil the student; writes OUT/model, ready for `tell --model`.

    Example:  storyxai distil recipes/phantom.toml --out runs/phantom
    """
    with shown_progress() as progress:
        model_id = recipes.distil(recipe, out, progress=progress)
    answer({"model": out / "model", "model_id": model_id}, [f"{out}/model: {model_id}"], as_json)


@app.command()
def ablate(
    recipe: Recipe,
    out: Out,
    finished_only: Annotated[bool, typer.Option(help="Train nothing; judge the students that are finished.")] = False,
    as_json: Json = False,
) -> None:
    """Show what distillation, reasons and several tasks each add: students that differ in one thing, compared.

    Writes OUT/ablation.json and OUT/ablation.html. A run that was cut short goes on from the students it had finished.

    Example:  storyxai ablate recipes/ablation-phantom.toml --out runs/ablation
    """
    with shown_progress() as progress:
        result = recipes.ablate(recipe, out, finished_only=finished_only, progress=progress)
    answer(asdict(result), [*result.lines, f"{out}/ablation.html"], as_json)


@app.command()
def crossvalidate(
    recipe: Recipe,
    out: Out,
    folds: Annotated[int, typer.Option(help="Into how many folds patients are dealt.", min=2, max=100)] = 5,
    at_once: Annotated[int, typer.Option("--at-once", help="How many folds are trained side by side.", min=1, max=64)] = 1,
    beside: Annotated[
        Path | None, typer.Option(help="OUT of another recipe's cross-validation of the same tables, to compare with.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a recipe by patients that its students never saw: trained once for each fold, without it.

    Writes OUT/crossvalidation.json and .html, and what each student answered. A run that was cut short goes on from the folds
    that had ended.

    Example:  storyxai crossvalidate recipes/shipped.toml --out runs/folds
    """
    with shown_progress() as progress:
        result = recipes.crossvalidate(recipe, out, folds=folds, at_once=at_once, beside=beside, progress=progress)
    answer(asdict(result), [*result.lines, f"{out}/crossvalidation.html"], as_json)


@data_app.command("weights")
def data_weights(
    given: Annotated[Path, typer.Argument(help="A published file of weights (.pth).")],
    encoder: Annotated[str, typer.Option(help="The timm name of the network that they belong to.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File (safetensors) to write.")],
    as_json: Json = False,
) -> None:
    """Turn published weights into safetensors that a recipe's encoder can start from. Nothing in the file is run.

    Example:  storyxai data weights lite0.pth --encoder tf_efficientnet_lite0 --out lite0.safetensors
    """
    count = recipes.convert_weights(given, encoder, out)
    answer({"out": out, "tensors": count}, [f"{out}: {count} tensors of {encoder}"], as_json)


@data_app.command("phantom")
def data_phantom(
    out: Out,
    count: Annotated[int, typer.Option(help="How many images.", min=1, max=1_000_000)] = 16,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(help="Side of the square image in pixels.", min=64, max=2048)] = 512,
    modality: Annotated[str, typer.Option(help="The key of the modality that they are of; without it the default one.")] = "",
    as_json: Json = False,
) -> None:
    """Make synthetic images with exact references: findings, boxes, masks, reports.

    Example:  storyxai data phantom --count 16 --out phantoms
    """
    with shown_progress() as progress:
        data.make_phantoms(out, count=count, seed=seed, size=size, modality=modality, progress=progress)
    result = {"out": out, "count": count, "seed": seed, "size": size, "synthetic": True}
    answer(result, [f"{out}: {count} phantoms (synthetic, {size} px)"], as_json)


def _list_sources(asked: bool) -> None:
    if asked:
        sys.stdout.write("\n".join(data.list_sources()) + "\n")
        raise typer.Exit


@dataclass(frozen=True)
class _ImportWords:
    seed: Seed = 0
    own_split: Annotated[
        bool, typer.Option("--own-split", help="Split anew, even where the publisher's lists say who is tested on.")
    ] = False
    modality: Annotated[
        str, typer.Option("--modality", help="Kind of image of a manifest: a key, a TOML file or its folder.")
    ] = ""
    as_json: Json = False
    listed: Annotated[
        bool, typer.Option("--list", callback=_list_sources, is_eager=True, help="Name every set with its licence, and stop.")
    ] = False


@data_app.command("import")
@taking_options(_ImportWords)
def data_import(
    source: Annotated[str, typer.Argument(help="Which published set or layout: nih, kermany, covid, openi, phantom, ...")],
    path: Annotated[Path, typer.Argument(help="Its folder, laid out as it was published.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Study table (Parquet) to write.")],
    words: _ImportWords,
) -> None:
    """Read a published data set as it comes into one study table, split by patient.

    The publisher's own train and test lists are kept where they are there; a patient or a picture on both sides of
    them is refused.

    Example:  storyxai data import nih FOLDER --out nih.parquet
    """
    with shown_progress() as progress:
        report = data.import_data(
            source, path, out, seed=words.seed, own_split=words.own_split, modality=words.modality, progress=progress
        )
    answer({**asdict(report), "lines": report.lines()}, report.lines(), words.as_json)


@data_app.command("check")
def data_check(
    table: Annotated[Path, typer.Argument(help="A study table (Parquet).")], out: Out, as_json: Json = False
) -> None:
    """Look a study table over: missing and unreadable files, duplicates, leaks between parts, odd images.

    Example:  storyxai data check nih.parquet --out report
    """
    with shown_progress() as progress:
        lines = data.check_data(table, out, progress=progress)
    answer({"out": out, "lines": lines}, lines, as_json)


@log_app.command("verify")
def log_verify(
    log: Annotated[Path, typer.Argument(help="A log, as --log wrote it.")],
    log_key: LogKey = None,
    expect: Annotated[str, typer.Option(help="The hash of a last line as you noted it: it must be there.")] = "",
    as_json: Json = False,
) -> None:
    """Find any line of a log that was cut, edited, added or put in another order.

    Prints the number of lines and the hash of the last one: note it elsewhere, and a log that is written anew is found too.

    Example:  storyxai log verify storyxai.log --log-key log.key
    """
    found = logging_to.look_at_log(log, key=log_key, expect=expect)
    whole = [f"{log}: {found.lines} lines, each follows from the one before; last hash {found.last}"]
    told = [f"{log}: {problem}" for problem in found.problems] or whole
    answer(asdict(found), [*told, *(f"  {remark}" for remark in found.remarks)], as_json)
    if found.problems:
        raise typer.Exit(2)


@app.command("serve-dicom")
def serve_dicom(
    settings: Annotated[Path, typer.Argument(help="The node's settings, a TOML file (docs/how-to/run-a-node.md).")],
) -> None:
    """Receive studies by DICOM, tell each once, and send the answer where the settings say. Needs storyxai[hospital].

    Runs until SIGTERM or Ctrl-C; killed at any instant it goes on from its queue on disk when it is started again.

    Example:  storyxai serve-dicom node.toml
    """
    _node().serve_dicom(settings, say)


@app.command("watch-folder")
def watch_folder(
    folder: Annotated[Path, typer.Argument(help="The folder that images are put into; they stay there.")],
    settings: Annotated[Path | None, typer.Option(help="The node's settings, a TOML file.")] = None,
    queue: Annotated[Path | None, typer.Option(help="The queue's folder; answers lie there too.")] = None,
) -> None:
    """Tell every image that is put into a folder, once, as `serve-dicom` does with what it receives.

    Example:  storyxai watch-folder inbox --queue queue
    """
    _node().watch_folder(folder, settings, say, queue=queue)


Url = Annotated[str, typer.Argument(help="The service, such as http://127.0.0.1:8042/dicom-web.")]
Allowed = Annotated[list[str] | None, typer.Option("--allow", help="A host beyond this machine that may be spoken to (https).")]


def _web(url: str, allowed: list[str] | None) -> Any:
    return import_module("storyxai.node.dicomweb").DicomWeb(url, allowed_hosts=tuple(allowed or ()))


@dicomweb_app.command("find")
def dicomweb_find(
    url: Url,
    match: Annotated[list[str] | None, typer.Option(help="An attribute and its value; may be repeated.")] = None,
    most: Annotated[int, typer.Option(help="How many studies at most.", min=1)] = 100,
    allow: Allowed = None,
    as_json: Json = False,
) -> None:
    """List the studies that match (QIDO-RS): UID, date and modalities.

    Example:  storyxai dicomweb find http://127.0.0.1:8042/dicom-web --match PatientID=17
    """
    lines = import_module("storyxai.node.dicomweb").find_lines(_web(url, allow), match or [], most=most)
    answer({"studies": [line.split("  ")[0] for line in lines]}, lines, as_json)


@dicomweb_app.command("fetch")
def dicomweb_fetch(
    url: Url, study: Annotated[str, typer.Argument(help="The study's UID.")], out: Out,
    series: Annotated[str, typer.Option(help="The UID of one of its series.")] = "",
    allow: Allowed = None, as_json: Json = False,
) -> None:
    """Fetch a study's or a series' files (WADO-RS).

    Example:  storyxai dicomweb fetch http://127.0.0.1:8042/dicom-web 1.2.3 --out films
    """
    files = import_module("storyxai.node.dicomweb").fetch_into(_web(url, allow), out, study, series)
    answer({"files": files}, [str(path) for path in files], as_json)


@dicomweb_app.command("store")
def dicomweb_store(
    url: Url, files: Annotated[list[Path], typer.Argument(help="DICOM files, such as `export` writes.")],
    allow: Allowed = None, as_json: Json = False,
) -> None:
    """Store files (STOW-RS): all of them in one request.

    Example:  storyxai dicomweb store http://127.0.0.1:8042/dicom-web objects/*.dcm
    """
    _web(url, allow).store(files)
    answer({"stored": len(files)}, [f"{len(files)} files stored"], as_json)


def main() -> None:
    """Run the command line; every error of ours becomes one sentence and its exit status."""
    quiet_others()
    try:
        status = app(standalone_mode=False)
    except GateRefusal as refusal:
        fail(f"refused: {refusal}", refusal.exit_status)
    except InputError as error:
        fail(str(error), error.exit_status)
    except StoryxaiError as error:
        fail(f"our own fault: {error}", error.exit_status)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except typer.Abort:
        fail("stopped", 1)
    except KeyboardInterrupt:
        fail("stopped; nothing half-written was left", 1)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # click's usage errors, whatever package carries click
        if usage is None:
            raise
        fail(f"{usage()} (see --help)", 2)
    else:  # a command that ends in typer.Exit hands its status back here instead of raising
        sys.exit(status if isinstance(status, int) else 0)


def _opened_log(path: Path | None, key: Path | None) -> logbook.Logbook | None:
    """The log that was asked for, looked at before any work is done."""
    return logging_to.open_log(logging_to.LogChoice(path, key)) if path else None


def _node() -> Any:
    """The node, once it is known that what it needs is installed."""
    if find_spec("pynetdicom") is None:
        mend = 'install it with: pip install "storyxai[hospital]"'
        raise InputError("the node", "needs pynetdicom, which is not installed", mend=mend)
    import_module("storyxai.node.workers").import_ahead(["storyxai.node.ahead"])  # beside the node's own imports
    return import_module("storyxai.node.serve")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _method_key(name: str) -> str:
    """The method's key: "Grad-CAM" and "LIME" are taken too, as pictures and pages call them."""
    return name.casefold().replace("-", "_").replace(" ", "_")


def _chosen(path: Path | None, findings: str) -> opening.ModelChoice:
    return opening.ModelChoice(path, _listed(findings))


def _told_lines(item: telling.Told, *, named: bool = False) -> list[str]:
    """What was told of an image, and with `named` by which model."""
    by = f" (by {item.model})" if named else ""
    reworded = [f"  {audience}: {said}" for audience, said in item.rewording.items()]
    return [f"{item.source}: {item.summary}{by}", *(f"  {item.folder}/{page}" for page in item.pages), *reworded]


def _verified_lines(found: verifying.Verified) -> list[str]:
    if found.problems:
        return [f"{found.folder}: {problem}" for problem in found.problems]
    return [f"{found.folder}: {len(found.pages)} stories, {found.sentences} sentences, every citation resolves"]
