"""The verbs' groups, and the options that verbs share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyxai.cli.programs import logging_to, opening
from storyxai.errors import InputError

if TYPE_CHECKING:
    from storyxai import logbook

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
Modality = Annotated[
    str, typer.Option("--modality", help="Kind of image that an ONNX file reads: the key of a modality, or a TOML file.")
]
Mean = Annotated[
    str, typer.Option("--mean", help="What is taken from images in [0, 1] for an ONNX file: one number or three.")
]
Std = Annotated[str, typer.Option("--std", help="What they are divided by then.")]
Probabilities = Annotated[
    bool | None, typer.Option("--probabilities/--logits", help="What an ONNX file gives, where its graph does not show it.")
]
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


def opened_log(path: Path | None, key: Path | None) -> logbook.Logbook | None:
    """The log that was asked for, looked at before any work is done."""
    return logging_to.open_log(logging_to.LogChoice(path, key)) if path else None


def listed(text: str) -> tuple[str, ...]:
    """The parts of a text between commas, without quotation marks around it or them: some shells hand these on."""
    parts = (_unquoted(part.strip()) for part in _unquoted(text.strip()).split(","))
    return tuple(part for part in parts if part)


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    around = len(text) > 1 and text[0] + text[-1] in {"\"\"", "''", "“”", "‘’", "„“"} and text[0] not in inner
    return inner.strip() if around else text


def method_key(name: str) -> str:
    """The method's key: "Grad-CAM" and "LIME" are taken too, as pictures and pages call them."""
    return name.casefold().replace("-", "_").replace(" ", "_")


@dataclass(frozen=True)
class ModelWords:
    """Options of verbs that one model speaks in: which, and what an ONNX file does not say of itself."""

    model: Model = None
    findings: Findings = ""
    modality: Modality = ""
    mean: Mean = ""
    std: Std = ""
    probabilities: Probabilities = None

    def graph(self) -> opening.GraphWords:
        """What was said of an ONNX file. Raises: InputError for a mean or std that is no numbers."""
        mean, std = (_numbers(what, text) for what, text in (("mean", self.mean), ("std", self.std)))
        return opening.GraphWords(self.modality, mean, std, self.probabilities)

    def chosen(self) -> opening.ModelChoice:
        """The model that was named, and what was said of it."""
        return opening.ModelChoice(self.model, listed(self.findings), graph=self.graph())


def _numbers(what: str, text: str) -> tuple[float, ...] | None:
    """The numbers between commas, None where nothing is written. Raises: InputError."""
    try:
        return tuple(map(float, listed(text))) or None
    except ValueError as error:
        raise InputError(what, f"is '{text}', no numbers", mend=f"write them as in --{what} 0.485,0.456,0.406") from error
