"""The verbs of images and tables: made, imported, looked over."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from storyxai.cli.options import Json, Out, Seed, data_app
from storyxai.cli.programs import data, recipes
from storyxai.console import answer, shown_progress, taking_options


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
