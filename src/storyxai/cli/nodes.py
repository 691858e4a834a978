"""The verbs of a node in a hospital: receiving, watching, asking a DICOMweb service."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from storyxai.cli.options import Json, Out, app, dicomweb_app
from storyxai.console import answer, say
from storyxai.errors import InputError


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


def _node() -> Any:
    """The node, once it is known that what it needs is installed."""
    if find_spec("pynetdicom") is None:
        mend = 'install it with: pip install "storyxai[hospital]"'
        raise InputError("the node", "needs pynetdicom, which is not installed", mend=mend)
    import_module("storyxai.node.workers").import_ahead(["storyxai.node.ahead"])  # beside the node's own imports
    return import_module("storyxai.node.serve")
