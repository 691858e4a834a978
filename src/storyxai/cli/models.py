"""The verbs of models: explained, tested, judged, taught, distilled, compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from storyxai.cli.options import (
    Json,
    ModelWords,
    Out,
    Recipe,
    Seed,
    app,
    listed,
    method_key,
    neighbours_app,
)
from storyxai.cli.programs import conceiving, explaining, indexing_neighbours, judging, opening_budget, recipes
from storyxai.console import answer, say, shown_progress, taking_options


@dataclass(frozen=True)
class _ExplainWords(ModelWords):
    method: Annotated[str, typer.Option(help="grad_cam (Grad-CAM), lime (LIME), occlusion, ...")] = "grad_cam"
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
        finding, method_key(words.method), words.chosen(),
        opening_budget.read_samples(words.samples), words.seed, words.force, words.seconds, words.memory,
    )
    result = explaining.explain(image, out, options)
    span = f"{result.minimum:.3g} to {result.maximum:.3g} {result.unit}"
    lines = [f"{out}: {result.method_name} of {result.finding.replace('_', ' ')}, {span}"]
    if not result.shown:
        lines.append(f"  tell would withhold this map: {result.withheld_because}")
    lines += [f"  {name.replace('_', ' ')}: {about}" for name, about in result.checks.items()]
    if result.doubt:
        say(f"storyxai: {result.doubt}")
    answer(asdict(result), lines, words.as_json)


@dataclass(frozen=True)
class _ConceptWords(ModelWords):
    model: Annotated[Path | None, typer.Argument(help="A student's folder, or an ONNX file; ours where none is named.")] = None
    folder: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR, or DIR, of images that show a concept; may be repeated.")
    ] = None
    others: Annotated[Path | None, typer.Option(help="Folder of images of the same kind without the concepts.")] = None
    films: Annotated[
        Path | None, typer.Option(help="Folder of images on which findings are judged. [default: the others]")
    ] = None
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
        words.chosen(), dict(named), words.others, words.films, words.phantoms, words.any_size,
        conceiving.TcavSettings(words.controls, words.chance, seed=words.seed),
    )
    with shown_progress() as progress:
        result = conceiving.make_concepts(words.out, options, progress=progress)
    answer(asdict(result), [f"{result.path}", *(f"  {line}" for line in result.lines)], words.as_json)


@dataclass(frozen=True)
class _NeighbourWords(ModelWords):
    split: Annotated[str, typer.Option(help="Which part of the table: train, val, test or all.")] = "train"
    as_json: Json = False


@neighbours_app.command("build")
@taking_options(_NeighbourWords)
def neighbours_build(
    table: Annotated[Path, typer.Option("--table", help="A study table, as `data import` writes it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    words: _NeighbourWords,
) -> None:
    """Write an index of a model's features: `tell --neighbours` then says what was known of the most similar images.

    It holds features and labels, no picture and nobody's name or number.

    Example:  storyxai neighbours build --table nih.parquet --out nih.index
    """
    with shown_progress() as progress:
        built = indexing_neighbours.build_neighbours(table, out, words.chosen(), split=words.split, progress=progress)
    lines = [f"{built.path}: {built.images} images, {built.size / 1e6:.1f} MB"]
    answer(asdict(built), [*lines, *(f"  left out: {one}" for one in built.left_out)], words.as_json)


@dataclass(frozen=True)
class _EvaluateWords(ModelWords):
    beside: Annotated[
        list[Path] | None, typer.Option(help="Folder of another student to judge on the same images; may be repeated.")
    ] = None
    split: Annotated[str, typer.Option(help="unseen (patients the student never met), train, val, test or all.")] = "unseen"
    bootstrap: Annotated[int, typer.Option(help="Patient-level bootstrap replicates.")] = 1000
    laterals: Annotated[bool, typer.Option("--laterals", help="Judge the views that are not frontal too.")] = False
    explanations: Annotated[
        bool, typer.Option("--explanations", help="Judge the maps too; of an ONNX file (--findings A,B) the maps alone.")
    ] = False
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
        tuple(method_key(one) for one in listed(words.methods)), words.images, samples=words.samples
    ) if words.explanations else None
    options = judging.EvaluateOptions(
        words.model, words.beside or (), words.split, bootstrap=words.bootstrap, seed=words.seed, laterals=words.laterals,
        findings=listed(words.findings), graph=words.graph(), explanations=plan, write_card=words.write_card,
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
    only: Annotated[
        list[int] | None, typer.Option(help="Train this fold alone, now; may be repeated. Figures: of the ended folds.")
    ] = None,
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
        result = recipes.crossvalidate(
            recipe, out, folds=folds, at_once=at_once, only=only or (), beside=beside, progress=progress
        )
    answer(asdict(result), [*result.lines, f"{out}/crossvalidation.html"], as_json)
