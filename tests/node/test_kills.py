"""A node that is killed at any instant loses no study and tells none twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import run


@pytest.mark.parametrize("films", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_again_and_again_every_study_is_told_once_and_answered(tmp_path: Path, films: int) -> None:
    studies = {1: 12, 2: 3}[films]
    result = run(tmp_path, studies=studies, senders=3, kills=4 - films - films // 2, films=films, seconds=0.05, seed=films)
    assert len(result.told) == studies * films and set(result.told.values()) == {1}
    assert len(result.answered) == studies * films  # each at least once, by its UID; a receiver keeps one of the same UID
    assert result.problems == () and not any(result.left.values()), result.left
    assert result.most_mib < 1500
