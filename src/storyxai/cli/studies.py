"""The verbs of studies: told, listed, compared, shown, released, verified, exported; and of the log of these."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from storyxai.cli.options import (
    Images,
    Json,
    Log,
    LogKey,
    ModelWords,
    Out,
    SealKey,
    Seed,
    app,
    listed,
    log_app,
    method_key,
    opened_log,
)
from storyxai.cli.programs import (
    comparing,
    exporting,
    indexing,
    logging_to,
    opening,
    opening_budget,
    releasing,
    removing,
    rewriting,
    showing,
    telling,
    verifying,
)
from storyxai.console import answer, say, shown_progress, taking_options


@dataclass(frozen=True)
class _TellWords(ModelWords):
    audience: Annotated[
        str, typer.Option(help="Who reads: clinician, practitioner, patient, auditor, emergency, student, or a TOML file.")
    ] = "clinician,practitioner,patient,auditor"
    language: Annotated[str, typer.Option(help="Language of the stories; yours from the folder STORYXAI_LANGUAGES.")] = "en"
    model: Annotated[
        Path | None,
        typer.Option(help="A student's folder, an ONNX file, or 'auto' (whose gate accepts). [default: the shipped student]"),
    ] = None
    models: Annotated[str, typer.Option(help="For --model auto: folders of further students, with commas.")] = ""
    method: Annotated[
        str,
        typer.Option(help="Methods that draw maps, with commas; fine_occlusion draws small findings alone."),
    ] = "grad_cam,lime,fine_occlusion"
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

    Example:  storyxai tell film.dcm --out stories --model net.onnx --findings A,B

    Example:  storyxai tell FOLDER --out stories --model auto --models students/a,students/b
    """
    options = telling.TellOptions(
        audiences=listed(words.audience), language=words.language,
        model=opening.ModelChoice(
            words.model, listed(words.findings), opening.read_prevalence(words.prevalence),
            tuple(map(Path, listed(words.models))), graph=words.graph(),
        ),
        methods=tuple(method_key(name) for name in listed(words.method)), samples=opening_budget.read_samples(words.samples),
        seconds=words.seconds, memory_mb=words.memory, seed=words.seed,
        indication=words.indication, force=words.force, seal_key=words.seal_key,
        rewriter=rewriting.LanguageModel(words.rewrite_with, words.rewrite_model) if words.rewrite_with else None,
        concepts=words.concepts, neighbours=words.neighbours, teacher=words.teacher, twin=words.twin,
    )
    log = opened_log(words.log, words.log_key)
    with shown_progress() as progress:
        answers = telling.tell(images, out, options, progress=progress, passes=progress if sys.stderr.isatty() else None)
    if log:
        logging_to.log_told(log, answers)
    told = [item for item in answers if isinstance(item, telling.Told)]
    left_out = [item for item in answers if isinstance(item, telling.NotTold)]
    for item in left_out:
        sys.stderr.write(f"storyxai: {item.not_told}\n")
    for doubt in sorted({item.doubt for item in told} - {""}):
        say(f"storyxai: {doubt}")
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
    book = opened_log(log, log_key)
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
    book = opened_log(log, log_key)
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
    book = opened_log(log, log_key)
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


def _told_lines(item: telling.Told, *, named: bool = False) -> list[str]:
    """What was told of an image, and with `named` by which model."""
    by = f" (by {item.model})" if named else ""
    reworded = [f"  {audience}: {said}" for audience, said in item.rewording.items()]
    return [f"{item.source}: {item.summary}{by}", *(f"  {item.folder}/{page}" for page in item.pages), *reworded]


def _verified_lines(found: verifying.Verified) -> list[str]:
    if found.problems:
        return [f"{found.folder}: {problem}" for problem in found.problems]
    return [f"{found.folder}: {len(found.pages)} stories, {found.sentences} sentences, every citation resolves"]
