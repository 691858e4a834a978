"""What a run leaves to look at: a table and event files while it runs, a picture of its curves when it has ended."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storyxai.errors import OutputError

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

__all__ = ["RunLog", "duration", "plot_curves"]


class RunLog:
    """The log of one training in `folder`: log.csv (a row an epoch), events/ for TensorBoard, curves.png at the end.

    A run that goes on after a break writes the table anew and marks the events from `step` on as void, so nothing
    stands in either twice. Raises: OutputError.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Event files are named by the second; the suffix keeps two starts within one from sharing a file.
            self.events: SummaryWriter = SummaryWriter(
                str(folder / "events"), purge_step=step or None, filename_suffix=f".from-{step}"
            )
        except OSError as error:
            raise _unwritable(folder, error) from error

    def note_step(self, values: Mapping[str, float], *, step: int) -> None:
        """Nothing; the values stand among the events as "step/NAME"."""
        for name, value in values.items():
            self.events.add_scalar(f"step/{name}", value, step)

    def note_epoch(self, history: Sequence[Mapping[str, float]], *, step: int) -> None:
        """Nothing; the table holds all of `history`, the events its last row as "epoch/NAME"."""
        for name, value in history[-1].items():
            self.events.add_scalar(f"epoch/{name}", value, step)
        columns = list(dict.fromkeys(name for row in history for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **row} for epoch, row in enumerate(history, start=1))
        part = self.folder / "log.part"
        try:
            part.write_text(text.getvalue(), encoding="utf-8")
            part.replace(self.folder / "log.csv")
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def close(self) -> None:
        """Nothing; the events are on disk."""
        self.events.close()


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
