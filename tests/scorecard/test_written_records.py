"""Files of figures read as types and written again are the same bytes: no figure is written that is not read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storyxai.metrics.speed import Speeds
from storyxai.provenance import canonical_json, read_as
from storyxai.scorecard.record import read_scores
from storyxai.scorecard.record_maps import read_maps

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/scorecard.json")), ids=lambda path: path.parent.name)
def test_a_scorecard_read_and_written_is_the_same_bytes(path: Path) -> None:
    assert canonical_json(read_scores(json.loads(path.read_bytes())).as_dict()) == path.read_bytes()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/explanations.json")), ids=lambda path: path.parent.name)
def test_figures_of_maps_read_and_written_are_the_same_bytes(path: Path) -> None:
    assert canonical_json(read_maps(json.loads(path.read_bytes())).as_dict()) == path.read_bytes()


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/speed.json")), ids=lambda path: path.parent.name)
def test_measured_times_read_and_written_are_the_same_bytes(path: Path) -> None:
    read = read_as(Speeds, json.loads(path.read_bytes()), path.name, mend="measure again")
    assert canonical_json(read.as_dict()) == path.read_bytes()
