"""What a run leaves to look at: a table and event files while it runs, a picture of its curves when it has ended."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyxai.errors import OutputError
from storyxai.files import write_whole

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]


class RunLog:
    """The log of one training in `folder`: log.csv (a row an epoch), events/ for TensorBoard, curves.png at the end.

    A run that goes on after a break writes the table anew and marks the events from `step` on as void, so nothing
    stands in either twice. Raises: OutputError.
    """

    def __init__(self, folder: Path, *, step: int = 0, clock: Callable[[], float] = time.time) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]

        self.folder, self._clock = folder, clock
        try:
            (folder / "events").mkdir(parents=True, exist_ok=True)
            # Event files are named by the second; the suffix keeps two starts within one from sharing a file.
            self.events: EventsWriter = EventsWriter(str(folder / "events" / "events"), f".from-{step}")
        except OSError as error:
            raise _unwritable(folder, error) from error
        if step:
            self._note(step, session_log=SessionLog(status=SessionLog.START))

    def note_step(self, values: Mapping[str, float], *, step: int) -> None:
        """Nothing; the values stand among the events as "step/NAME"."""
        self._note_all("step", values, step)

    def note_epoch(self, history: Sequence[Mapping[str, float]], *, step: int) -> None:
        """Nothing; the table holds all of `history`, the events its last row as "epoch/NAME"."""
        self._note_all("epoch", history[-1], step)
        columns = list(dict.fromkeys(name for row in history for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(history, start=1))
        try:
            self.events.flush()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        write_whole(text.getvalue().encode(), self.folder / "log.csv")

    def close(self) -> None:
        """Nothing; the events are on disk."""
        try:
            self.events.close()
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _note_all(self, kind: str, values: Mapping[str, float], step: int) -> None:
        from tensorboardX.summary import scalar  # type: ignore[import-untyped]

        for name, value in values.items():
            self._note(step, summary=scalar(f"{kind}/{name}", value))

    def _note(self, step: int, **what: Any) -> None:
        # Written here and now: tensorboardX's own writer has a thread, which dies on a full disk and lets us wait for ever.
        from tensorboardX.proto.event_pb2 import Event

        try:
            self.events.write_event(Event(step=step, wall_time=self._clock(), **what))
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def plot_curves(history: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Nothing; a picture at `path` of losses, validation figures and learning rate over the epochs.

    Raises: OutputError when it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = list(dict.fromkeys(name for row in history for name in row))
    watched = [name for name in names if name.startswith("validation_")]
    panels = [("loss", ["loss", *(name for name in names if name.startswith("loss_"))])]
    panels += [(name.removeprefix("validation_") + " on validation", [name]) for name in watched]
    panels.append(("learning rate", ["learning_rate"]))
    figure = Figure(figsize=(4.4 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    epochs = range(1, len(history) + 1)
    for axes, (label, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for line, marker in zip(lines, "os^Dv" * len(lines), strict=False):
            shown = "all, as weighted" if line == "loss" else line.removeprefix("loss_")
            axes.plot(epochs, [row.get(line, float("nan")) for row in history], marker=marker, markersize=4, label=shown)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, len(history) + 0.5)
        if len(lines) > 1:
            axes.legend(fontsize=8)
        if len(lines) > 1 or label == "learning rate":
            axes.set_ylim(bottom=0)  # so that a fall looks as large as it is
        axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise _unwritable(path, error) from error


def duration(seconds: float) -> str:
    """`seconds` in words: "45 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(str(path), f"cannot be written ({error.strerror})", mend="free some space or name another folder")
