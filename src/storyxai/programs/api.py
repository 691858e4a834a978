"""The verbs of storyxai: what the command line says and what a program calls. Every one returns plain values."""

from __future__ import annotations

import errno
import io
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from storyxai.errors import ArchiveError, GateRefusal, InputError, OutputError, StoryxaiError, UnknownNameError
from storyxai.evidence.archive import read_archive, verify_hashes, write_archive
from storyxai.evidence.gather import ExplainSettings, explain_finding, gather, look_at
from storyxai.evidence.record import as_record
from storyxai.files import require_writable, write_whole
from storyxai.imaging.read import find_images, read_image
from storyxai.modalities.chest_radiograph.findings import find_term
from storyxai.models.runtime import Student, load_student
from storyxai.pages.story import render_html
from storyxai.progress import Progress
from storyxai.provenance import software_versions
from storyxai.story.citations import check_page, contradictions, story_of_page
from storyxai.story.tell import AUDIENCES
from storyxai.story.tell import tell as tell_story
from storyxai.story.words import load_words
from storyxai.types import Evidence, Image, Story, Study

__all__ = [
    "AUDIENCES", "ablate", "check_data", "distil", "evaluate", "explain", "gather_evidence", "import_data", "make_phantoms",
    "pipeline", "study_id_of", "teach", "tell", "verify",
]

METHODS = ("grad_cam", "lime")
FEWEST_SAMPLES = 100
SPEED_BATCHES = 10
DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""What an operating system calls a disk that takes no more, whichever file it was met at."""
MORE_ROOM = "free some space or name another place"


def tell(
    images: Sequence[Path], out: Path, *, audiences: Sequence[str] = AUDIENCES, language: str = "en",
    model: Path | None = None, samples: int = 1000, seed: int = 0, indication: str = "", force: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What was told of each image: its folder under `out`, its pages, and one line of summary.

    Everything that can be wrong with the call is found before the first image is read. A study's folder appears whole
    or not at all. One image that cannot be told raises InputError or GateRefusal; among several it is left out, stands
    in the answer as `source`, `not_told` (why) and `exit_status`, and the others are told.
    """
    for audience in audiences:
        if audience not in AUDIENCES:
            raise UnknownNameError("audience", audience, AUDIENCES)
    if not audiences:
        raise InputError("audience", "is empty", mend=f"name one or more of {', '.join(AUDIENCES)}")
    load_words(language)
    if samples < FEWEST_SAMPLES:
        raise InputError("samples", f"{samples} are too few for LIME", mend=f"use {FEWEST_SAMPLES} or more, best 1000")
    paths = find_images(images)
    settings = ExplainSettings(samples=samples, seed=seed)
    told: list[dict[str, Any]] = []
    with _output_folder(out):
        student = load_student(model)
        for done, path in enumerate(paths):
            try:
                evidence = gather_evidence(student, read_image(path), settings=settings, indication=indication, force=force)
            except (InputError, GateRefusal) as error:
                if len(paths) == 1:
                    raise
                told.append({"source": str(path), "not_told": str(error), "exit_status": error.exit_status})
            else:
                told.append(_write_study(evidence, out, audiences, language))
            if progress:
                progress("telling", done + 1, len(paths))
    return told


def gather_evidence(
    student: Student, image: Image, *, settings: ExplainSettings | None = None, indication: str = "", force: bool = False
) -> Evidence:
    """All the evidence about one image. Raises: GateRefusal unless `force`."""
    return gather(student, Study(study_id_of(image), (image,), indication), settings=settings, force=force)


def study_id_of(image: Image) -> str:
    """A name for the study that says nothing about the patient: the start of the file's hash."""
    return f"study-{image.sha256[:12]}"


def verify(folder: Path) -> dict[str, Any]:
    """What a fresh look at the files of one study finds: pages, number of sentences, and problems in words.

    Each page is told and drawn again from the archive and compared byte by byte, so that an edited picture is found too.
    Raises: ArchiveError when there is no evidence in `folder`.
    """
    if not (folder / "evidence.json").is_file():
        raise ArchiveError(str(folder), "holds no evidence.json", mend="name a study's folder that `tell` wrote")
    problems, stories, pages, sentences = verify_hashes(folder), [], [], 0
    evidence: Evidence | None = None
    record: dict[str, Any] | None = None
    if not problems:
        evidence = read_archive(folder)
        record = as_record(evidence)
    for audience in AUDIENCES:
        page = folder / f"{audience}.html"
        if not page.is_file():
            continue
        pages.append(page.name)
        data = page.read_bytes()
        found = [f"{page.name}: {problem}" for problem in check_page(data, record)] if record is not None else []
        problems += found
        try:
            story: Story = story_of_page(data)
        except StoryxaiError as error:
            problems.append(f"{page.name}: {error}")
            continue
        if evidence is not None and not found and (other := _drawn_otherwise(data, story, audience, evidence)):
            problems.append(f"{page.name}: {other}")
        stories.append(story)
        sentences += sum(len(section.sentences) for section in story.sections)
    # A page that nobody told looks as if it had been checked with the others.
    strays = sorted(path.name for path in folder.glob("*.html") if path.name not in pages)
    problems += [f"{name}: was not written by tell; it is not checked" for name in strays]
    if not pages:
        problems.append("no story stands beside the evidence")
    problems += contradictions(stories)
    return {"folder": str(folder), "pages": pages, "sentences": sentences, "problems": problems}


def explain(
    image_path: Path, out: Path, *, finding: str, method: str = "grad_cam", model: Path | None = None,
    samples: int = 1000, seed: int = 0, force: bool = False,
) -> dict[str, Any]:
    """One map of one finding, drawn beside the untouched image to `out` (PNG), its raw values to `out` with .npy.

    The map is asked every check that `tell` would ask of it; one that `tell` would withhold says so in the picture.
    Raises: GateRefusal unless `force`.
    """
    from storyxai.pages.figures import pair_png

    method = method.casefold().replace("-", "_")  # "Grad-CAM" and "LIME" too, as pictures and pages call them
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    name = find_term(finding).name
    if out.suffix.lower() != ".png":
        raise InputError(str(out), "is no PNG file name", mend="end it in .png")
    raw = out.with_suffix(".npy")
    for place in (out, raw):
        if place.is_dir():
            raise OutputError(str(place), "is a folder", mend="name a file")
    if samples < FEWEST_SAMPLES:
        raise InputError("samples", f"{samples} are too few for LIME", mend=f"use {FEWEST_SAMPLES} or more, best 1000")
    with _output_folder(out.parent, typed=out):
        student = load_student(model)
        if name not in student.findings:
            raise UnknownNameError("finding", finding, student.findings)
        image = read_image(image_path)
        seen, _ = look_at(student, Study(study_id_of(image), (image,)), force=force)
        heatmap, found = explain_finding(
            student, seen, finding=name, method=method, settings=ExplainSettings(samples=samples, seed=seed),
            spacing_mm=image.spacing_mm,
        )
        values = heatmap.values
        packed = io.BytesIO()
        np.save(packed, values, allow_pickle=False)
        _write_files({raw: packed.getvalue(), out: pair_png(image, heatmap)}, typed=out)
    return {
        "finding": name, "method": method, "unit": heatmap.unit, "minimum": float(values.min()),
        "maximum": float(values.max()), "shown": heatmap.shown, "withheld_because": heatmap.withheld_because,
        "checks": {c.name: f"{'passed' if c.passed else 'failed' if c.passed is False else 'not applicable'} - {c.about}"
                   for c in found},
    }


def make_phantoms(
    out: Path, *, count: int, seed: int = 0, size: int = 512, progress: Progress | None = None
) -> dict[str, Any]:
    """`count` synthetic radiographs with their references in `out`."""
    from storyxai.phantoms.generate import write_phantoms

    step = None if progress is None else lambda done: progress("phantoms", done, count)
    write_phantoms(out, count=count, seed=seed, size=size, progress=step)
    return {"out": str(out), "count": count, "seed": seed, "size": size, "synthetic": True}


def import_data(
    source: str, path: Path, out: Path, *, seed: int = 0, own_split: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """The study table of a published set, written to `out`, and what was left out and why.

    `own_split` leaves the publisher's lists aside.
    """
    from dataclasses import asdict

    from storyxai.data.importing import import_source

    with _output_folder(out.parent, typed=out):  # a place that cannot be written is said before hours of reading
        report = import_source(source, path, out, seed=seed, own_split=own_split, progress=progress)
    record = {key: value for key, value in asdict(report).items() if not key.startswith("_")}
    return {**record, "lines": list(report.lines())}


def check_data(table: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """What is wrong with a study table, also as a page with pictures in `out`."""
    from storyxai.data.checking import check_table
    from storyxai.data.table import read_table

    report = check_table(read_table(table), out, progress=progress)
    return {"out": str(out), "lines": [*report.lines, f"{out}/index.html"]}


def evaluate(
    table: Path, out: Path, *, model: Path | None = None, beside: Sequence[Path] = (), split: str = "unseen",
    bootstrap: int = 1000, seed: int = 0, progress: Progress | None = None,
) -> dict[str, Any]:
    """The scorecard of a student on a study table, written to `out` as scorecard.json and scorecard.html.

    Other students, `beside` it, are judged on the same images, with paired differences.
    """
    from storyxai.programs.pipeline import evaluate_student, write_scorecard
    from storyxai.scorecard.build import headline
    from storyxai.scorecard.judge import student_speed

    require_writable(out)
    student, others = load_student(model), [load_student(one) for one in beside]
    with _naming(out):
        record = evaluate_student(
            student, table, split=split, bootstrap=bootstrap, seed=seed, beside=others, progress=progress
        )
        speed = student_speed(student, batches=SPEED_BATCHES, clock=time.perf_counter, beside=others)
        write_scorecard(record, out, speed=speed)
    return {"scorecard": str(out / "scorecard.json"), "headline": headline(record), "lines": score_lines(record)}


def teach(recipe: Path, out: Path, *, task: str = "all", progress: Progress | None = None) -> dict[str, Any]:
    """The teachers of a recipe in `out`, weights and a card each, with their figures on the validation part."""
    from storyxai.programs.teach import teach_to_folder

    with _naming(out):
        cards = teach_to_folder(recipe, out, task=task, progress=progress)
    lines = [f"{out / card['weights']['file']}: {line}" for card in cards for line in teacher_lines(card)]
    teachers = [
        {"task": card["task"], "weights": str(out / card["weights"]["file"]), "hash": card["hash"],
         "card": str(out / f"teacher-{card['task']}.json"), "figures": card["figures"]} for card in cards
    ]
    return {"out": str(out), "teachers": teachers, "lines": lines}


def teacher_lines(card: dict[str, Any]) -> list[str]:
    """The main figure of a teacher on each validation set, with its n, in words."""
    lines = []
    for figure in card["figures"]:
        model, data = figure["model"], figure["data"]
        parts = []
        mean = model.get("mean_auroc") or {}
        if card["task"] == "findings" and mean.get("value") is not None:
            span = f" [{mean['low']:.3f}, {mean['high']:.3f}]" if mean.get("low") is not None else ""
            parts.append(f"mean AUROC {mean['value']:.3f}{span}")
        if card["task"] == "masks":
            known = [one for one in model["masks"] if one["dice"]["value"] is not None]
            parts += [f"{one['mask']} Dice {one['dice']['value']:.3f}" for one in known]
        if card["task"] == "report" and model["reports"] and model["reports"]["finding_f1_micro"]["value"] is not None:
            constant = [f"{one['name']} {one['reports']['finding_f1_micro']['value']:.3f}" for one in figure["baselines"]
                        if one["reports"]["finding_f1_micro"]["value"] is not None]
            parts.append(f"finding F1 {model['reports']['finding_f1_micro']['value']:.3f} (beside {', '.join(constant)})")
        lines.append(f"{data['name']}, n = {data['images']}: {'; '.join(parts) or 'too few cases for a figure'}")
    return lines


def distil(recipe: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """The student of a recipe in `out`/model."""
    from storyxai.programs.pipeline import distil_to_folder

    with _naming(out):
        student, _ = distil_to_folder(recipe, out, progress=progress)
    return {"model": str(out / "model"), "model_id": student.card.model_id}


def ablate(
    recipe: Path, out: Path, *, finished_only: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """What each part of the method adds, as ablation.json and ablation.html in `out`; finished students are kept.

    `finished_only` trains nothing and judges the students that are there.
    """
    from storyxai.training.config import read_recipe

    read = read_recipe(recipe)  # before torch is imported: a bad recipe is told at once
    require_writable(out)
    from storyxai.ablation.page import render_ablation
    from storyxai.ablation.run import run_ablation
    from storyxai.provenance import canonical_json

    record = run_ablation(read, out, finished_only=finished_only, progress=progress)
    write_whole(canonical_json(record), out / "ablation.json")
    write_whole(render_ablation(record), out / "ablation.html")
    return {"out": str(out), "students": record["cells_planned"], "lines": record["conclusions"]}


def pipeline(recipe: Path, out: Path, *, progress: Progress | None = None) -> dict[str, Any]:
    """A recipe from nothing to stories: student, scorecard, and four stories of held-out phantoms."""
    from storyxai.programs.pipeline import run_pipeline
    from storyxai.scorecard.build import headline
    from storyxai.training.config import read_recipe

    read = read_recipe(recipe)
    with _naming(out):
        _, record = run_pipeline(recipe, out, progress=progress)
    first = read.data.phantom_seed * 1_000_000 + read.data.phantom_train + read.data.phantom_validation
    count = min(read.evaluation.stories, read.data.phantom_test)
    if count:
        if not (out / "held_out").exists():  # a run that was cut short goes on
            make_phantoms(out / "held_out", count=count, seed=first, size=512)
        tell([out / "held_out" / "images"], out / "stories", model=out / "model", progress=progress)
    return {"out": str(out), "headline": headline(record), "lines": score_lines(record)}


def score_lines(record: dict[str, Any]) -> list[str]:
    """A scorecard's main figures, one line a model."""
    from storyxai.scorecard.build import headline

    lines = []
    for model in headline(record)["models"]:
        parts = [f"{name} {_figure_in_words(found)}" for name, found in model["figures"].items()]
        lines.append(f"{model['name']} ({model['images']} images): {'; '.join(parts) or 'see the page'}")
    return lines


def _figure_in_words(found: dict[str, Any]) -> str:
    span = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    return f"{found['value']:.3f}{span}"


def _drawn_otherwise(page: bytes, story: Story, audience: str, evidence: Evidence) -> str:
    """Why the page is not the one that its evidence makes, in words; empty where it is, byte by byte."""
    if render_html(tell_story(evidence, audience, story.language), evidence) == page:
        return ""
    told = {"storyxai": evidence.provenance.get("version"), **evidence.provenance.get("packages", {})}
    # Pictures are packed by other code than ours: another version of it may pack the same picture otherwise.
    others = [f"{name} {told[name]}" for name, here in software_versions("storyxai", "numpy", "scipy", "pillow").items()
              if told.get(name, here) != here]
    if others:
        return f"was told with {', '.join(others)} and cannot be drawn again here: verify it with the same versions"
    return "is not the page that this evidence makes: its pictures or layout were changed after it was told"


def _write_files(files: dict[Path, bytes], *, typed: Path) -> None:
    """Each file whole or not at all. Raises: OutputError naming what was `typed`."""
    for path, data in files.items():
        try:
            with tempfile.TemporaryDirectory(prefix=".storyxai-", dir=path.parent) as work:
                part = Path(work) / path.name
                part.write_bytes(data)
                part.replace(path)
        except OSError as error:
            raise OutputError(str(typed), f"cannot be written ({error.strerror})", mend=MORE_ROOM) from error


def _write_study(evidence: Evidence, out: Path, audiences: Sequence[str], language: str) -> dict[str, Any]:
    """Evidence and pages, written beside the final place first and moved in whole."""
    study = out / evidence.prediction.study_id
    work = study
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{study.name}-", dir=out))
        # Told and drawn from what the archive keeps, to its six digits: so it can be drawn again byte by byte.
        kept = read_archive(write_archive(evidence, work / study.name))
        stories = {audience: tell_story(kept, audience, language) for audience in audiences}
        if clash := contradictions(list(stories.values())):
            raise StoryxaiError(f"the stories contradict one another: {'; '.join(clash)}")
        pages = {f"{audience}.html": render_html(story, kept) for audience, story in stories.items()}
        for name, data in pages.items():
            (work / study.name / name).write_bytes(data)
        if study.exists():
            study.rename(work / "older")
        (work / study.name).rename(study)
    except OutputError as error:  # it names a part of the hidden folder
        raise OutputError(str(out), error.why, mend=MORE_ROOM) from error
    except OSError as error:
        raise OutputError(str(out), f"cannot be written ({error.strerror})", mend=MORE_ROOM) from error
    finally:
        if work != study:
            shutil.rmtree(work, ignore_errors=True)
    states = [f"{f.name} {f.state} ({f.probability:.2f})" for f in evidence.prediction.findings if f.state != "absent"]
    return {
        "source": evidence.image.source, "folder": str(study), "pages": list(pages),
        "summary": ", ".join(states) or "no finding reached its threshold",
        "findings": {f.name: {"state": f.state, "probability": round(f.probability, 4)} for f in evidence.prediction.findings},
        "maps_withheld": [f"{h.finding} {h.method}: {h.withheld_because}" for h in evidence.heatmaps if not h.shown],
    }


@contextmanager
def _output_folder(folder: Path, *, typed: Path | None = None) -> Iterator[None]:
    """`folder`, made and seen to be writable; where the block fails and nothing was written, it is gone again.

    Raises: OutputError naming what was `typed` (by default the folder) when the folder cannot be written.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        require_writable(folder)
    except OutputError as error:
        raise OutputError(str(typed or folder), error.why, mend=error.mend) from error
    try:
        with _naming(typed or folder):
            yield
    except BaseException:
        for place in made:
            with suppress(OSError):  # something was written there, so it stays
                place.rmdir()
        raise


@contextmanager
def _naming(out: Path) -> Iterator[None]:
    """A disk that takes no more within the block is told in a sentence that names `out`. Raises: OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        raise OutputError(str(out), f"cannot be written ({error.strerror})", mend=MORE_ROOM) from error
