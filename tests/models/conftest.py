"""One exported tiny student for the whole suite: the export is the slow part."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Exported(NamedTuple):
    """A tiny network, the folder it was exported to, and the hashes that the export returned."""

    network: Any
    folder: Path
    files: dict[str, str]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Exported:
    """A tiny student with a card, exported once even where several processes run the tests."""
    from storyxai.models.card import CARD_NAME, Calibration, ModelCard, read_card, write_card
    from storyxai.models.export import export_student
    from teaching_examples import FEW_LAYERS, FINDINGS, tiny_network

    network = tiny_network(seed=4, encoder=FEW_LAYERS)
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "exported-student"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first process exports, the others wait for it
        if not (folder / CARD_NAME).exists():
            scaling = Calibration(1.0, 0.0, 0.5, ((1.0, 0.0),), 1, 0, "toy")
            files = export_student(network, folder)
            calibration = dict.fromkeys(FINDINGS, scaling)
            write_card(ModelCard("toy", "1", network.spec.as_dict(), files, calibration, (), (), ()), folder)
    return Exported(network, folder, dict(read_card(folder).files))
