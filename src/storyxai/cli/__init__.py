"""The command line: the verbs of `storyxai.programs`, words in, words out."""

from __future__ import annotations

import atexit
import copy
import errno
import gc
import itertools
import os
import sys

import typer

from storyxai.cli.options import app
from storyxai.console import fail, quiet_others
from storyxai.errors import GateRefusal, InputError, StoryxaiError

# isort: off
# The order of the help.
from storyxai.cli import studies, models, tables, nodes
# isort: on

__all__ = ["app", "main", "models", "nodes", "studies", "tables"]


AMPLE_BYTES = 4 * 2**30


def main() -> None:
    """Run the command line; every error of ours becomes one sentence and its exit status."""
    # What a start makes stays nearly all: looking it through for garbage every 700 objects took a twentieth of a telling.
    gc.set_threshold(50_000)
    atexit.register(_leave)
    _spare_address_space()
    quiet_others()
    _refuse_empty(sys.argv[1:])
    try:
        status = _typed(sys.argv[1:])(standalone_mode=False)
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
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):  # how a library says so
            raise
        fail("there is too little memory — close other programs, raise the limit (ulimit -v), or give smaller images", 2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        longest = max(str(error.filename).split("/"), key=len)
        fail(f"{longest[:40]}…: is longer than a name may be — name a shorter path", 2)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # click's usage errors, whatever package carries click
        if usage is None:
            raise
        fail(f"{usage() or 'Missing command.'} (see --help)", 2)
    else:  # a command that ends in typer.Exit hands its status back here instead of raising
        sys.exit(status if isinstance(status, int) else 0)


def _spare_address_space() -> None:
    """One thread for OpenBLAS where the address space is limited (ulimit -v) below `AMPLE_BYTES`.

    It takes tens of megabytes a thread, and where there is no room for them it looks for some without an end.
    """
    try:
        import resource
    except ImportError:  # not a Unix: there is no such limit
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < AMPLE_BYTES:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _leave() -> None:
    """What goes with the process is not looked through for garbage once more, which took a twentieth of a telling; where torch
    or onnx was loaded it is, for their libraries print which of their objects are left at the end.
    """
    if sys.modules.keys().isdisjoint({"torch", "onnx"}):
        gc.freeze()


def _refuse_empty(words: list[str]) -> None:
    """An empty path is the current folder to Python: a shell variable that nobody set had every image in it told."""
    if any(not word and before != "--indication" for before, word in itertools.pairwise(["", *words])):
        fail("an argument is empty — was a variable of the shell not set?", 2)


def _typed(words: list[str]) -> typer.Typer:
    """The verb that is typed, without the others, whose options would take as long to build as numpy does to load; all
    verbs where the first word is none.
    """
    verbs = {one.name or getattr(one.callback, "__name__", ""): one for one in app.registered_commands}
    if not words or words[0] not in verbs:
        return app
    alone = copy.copy(app)
    alone.registered_commands, alone.registered_groups = [verbs[words[0]]], []
    return alone
