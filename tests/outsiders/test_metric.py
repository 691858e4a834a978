"""A figure of somebody's own on the scorecard, from a package of theirs, with no edit of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.scorecard.build import References, Scorecard, TaskOutputs, build_scorecard
from storyxai.scorecard.page import render_scorecard

MODULE = """
import numpy as np
from storyxai.metrics.own import Metric

def hits(labels, said):
    right = (said >= 0.5) == (labels >= 0.5)
    return lambda weights: (weights * right).sum(axis=1) / weights.sum(axis=1)

def stated(labels, said):
    return lambda weights: weights @ np.isfinite(labels).mean(axis=1) / weights.sum(axis=1)

ACCURACY = Metric("accuracy", hits)
STATED = Metric("share stated", stated, needs="scores", over="all", higher_is_better=False)
SHORT = Metric("short", lambda labels, said: lambda weights: np.zeros(1))
"""


def install(site: Path, points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package as pip leaves it: its module, and a folder that says which entry points it has."""
    (site / "ours_of_metric.py").write_text(MODULE, encoding="utf-8")
    info = site / "ours_of_metric-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ours-of-metric\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[storyxai.metrics]\n{points}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))


def card() -> Scorecard:
    labels = np.array([[1, 0], [0, np.nan], [1, 1], [0, 0], [1, np.nan], [0, 1], [1, 0], [0, 1]], dtype=np.float64)
    ids = [f"i{row}" for row in range(len(labels))]
    logits = np.where(np.nan_to_num(labels) >= 0.5, 2.0, -2.0)
    logits[:3, 0] *= -1  # three of eight are wrong
    said = TaskOutputs("student", "student", ids, findings=("Effusion", "Mass"), logits=logits)
    return build_scorecard([said], References("toy", False, ids, ids, ("Effusion", "Mass"), labels), seed=0, count=50)


def test_a_metric_of_a_package_stands_on_the_scorecard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "accuracy = ours_of_metric:ACCURACY\nstated = ours_of_metric:STATED\n", monkeypatch)
    record = card().as_dict()
    rows = record["models"][0]["own_metrics"]
    assert [(row["metric"], row["finding"], row["value"]) for row in rows] == [
        ("accuracy", "Effusion", 5 / 8), ("accuracy", "Mass", 1.0), ("share stated", "", 14 / 16),
    ]
    assert 0 <= rows[0]["low"] < 5 / 8 < rows[0]["high"] <= 1 and rows[0]["images"] == 8 and rows[1]["images"] == 6
    page = render_scorecard(record).decode()
    assert "Further figures" in page and "accuracy, Effusion" in page


def test_without_one_the_scorecard_says_nothing_of_it() -> None:
    assert "own_metrics" not in card().as_dict()["models"][0]


@pytest.mark.parametrize(("point", "said"), [
    ("gone", "metric 'x': cannot be loaded from ours_of_metric:gone .*mend or remove"),
    ("MODULE", "metric 'x': cannot be loaded"), ("hits", "metric 'x': is not what ours_of_metric:hits holds"),
    ("SHORT", r"metric 'short': gives values of shape \(1,\) for .*return one value for each row"),
])
def test_a_metric_that_is_none_is_named_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, said: str
) -> None:
    install(tmp_path, f"x = ours_of_metric:{point}\n", monkeypatch)
    with pytest.raises(InputError, match=said):
        card()
