"""Logs: the table holds what was noted, events nothing twice, and the picture shows the curves it is given."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyxai.errors import OutputError
from storyxai.training.logs import RunLog, duration, plot_curves

HISTORY = [
    {"loss": 2.0 / (1 + i), "loss_findings": 1.5 / (1 + i), "loss_masks": 0.5 / (1 + i), "learning_rate": 1e-3 / 3 * i,
     "validation_loss": 1.0 / (1 + i), "validation_auroc": 0.6 + 0.1 * i}
    for i in range(3)
]


def test_the_table_holds_every_epoch_to_the_last_digit(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run")
    for epoch in range(1, 4):
        log.note_epoch(HISTORY[:epoch], step=10 * epoch)
    log.close()
    with (tmp_path / "run" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row.pop("epoch")) for row in rows] == [1, 2, 3]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == HISTORY


def test_events_say_what_was_noted_and_a_resumed_run_voids_what_it_repeats(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    first = RunLog(tmp_path)
    first.note_step({"loss": 0.5}, step=7)
    first.note_epoch(HISTORY[:1], step=7)
    first.close()
    second = RunLog(tmp_path, step=4)
    second.close()
    events = []
    for path in sorted((tmp_path / "events").iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):  # a record is its length (8 bytes), a checksum (4), the event, a checksum (4)
            size = int.from_bytes(data[place : place + 8], "little")
            events.append(Event.FromString(data[place + 12 : place + 12 + size]))
            place += size + 16
    noted = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    assert noted["step/loss", 7] == 0.5 and noted["epoch/validation_auroc", 7] == pytest.approx(0.6)
    assert len(noted) == 1 + len(HISTORY[0])
    voided = [event.step for event in events if event.session_log.status == SessionLog.START]
    assert voided == [4]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_at_once_and_holds_nobody_up(tmp_path: Path) -> None:
    """Hundreds of steps, more than any buffer holds, go to a disk without room."""
    log = RunLog(tmp_path)
    log.events._py_recordio_writer._writer = Path("/dev/full").open("wb")  # noqa: SIM115 - the log closes it
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\) — free some space"):
        for step in range(1000):
            log.note_step({"loss": 0.5}, step=step)
    with pytest.raises(OutputError, match="No space left"):
        log.note_epoch(HISTORY, step=3)
    with pytest.raises(OutputError, match="No space left"):
        log.close()


def test_the_picture_shows_the_curves(tmp_path: Path) -> None:
    plot_curves(HISTORY, tmp_path / "curves.png", title="student")
    turned = [{**row, "loss_masks": last["loss_masks"]} for row, last in zip(HISTORY, reversed(HISTORY), strict=True)]
    plot_curves(turned, tmp_path / "turned.png", title="student")
    one, other = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"), dtype=int) for name in ("curves", "turned"))
    assert one.shape == other.shape and one.shape[1] > 3 * one.shape[0]  # four panels in a row
    changed = np.flatnonzero((one != other).any(axis=0))
    assert len(changed) and changed.max() < one.shape[1] / 4  # in the panel of losses only


def test_the_picture_of_one_epoch_counts_in_whole_epochs_and_rates_start_at_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_given, **_how: drawn.append(figure))
    plot_curves(HISTORY[:1], tmp_path / "curves.png", title="student")
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1.0]
    assert drawn[0].axes[-1].get_ylim()[0] == 0.0


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: cannot be written"):
        RunLog(tmp_path / "file")
    with pytest.raises(OutputError, match=r"nowhere.curves\.png: cannot be written"):
        plot_curves(HISTORY, tmp_path / "nowhere" / "curves.png", title="x")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (11100, "3 h 05 min")],
)
def test_time_left_is_told_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said
