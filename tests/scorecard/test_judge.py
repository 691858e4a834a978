"""Tables that a student is judged on, with what real sets hold: laterals, damaged files and masks, joint classes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.data.importing import import_source
from storyxai.data.masks import encode_runs
from storyxai.data.table import BoxNote, StudyRow, StudyTable
from storyxai.errors import InputError
from storyxai.evidence.predict import calibrated
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.card import Calibration
from storyxai.models.runtime import load_student
from storyxai.programs.evaluate import score_lines
from storyxai.scorecard import judge
from storyxai.scorecard.build import References, TaskOutputs, build_scorecard
from storyxai.scorecard.judge import JudgeOptions, evaluate_student
from storyxai.scorecard.page import render_scorecard
from storyxai.scorecard.rows import is_searched, parts_of

ROOT = Path(__file__).resolve().parents[2]

ALL = JudgeOptions("all", 20)


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = Path(os.environ.get("STORYXAI_CASES") or ROOT.parent / "shared" / "cases")
    if not folder.is_dir():
        pytest.skip("the public cases are absent: set STORYXAI_CASES to their folder")
    return folder


def table_of(folder: Path, rows: dict[str, dict[str, Any]], name: str = "t.parquet") -> Path:
    """A table of films of noise, each its own patient; a row "broken" is a film cut off in the middle."""
    made = []
    for number, (stem, cells) in enumerate(rows.items()):
        noise = np.random.default_rng(number).integers(0, 256, (96, 80), dtype=np.uint8)
        path = folder / f"{stem}.png"
        Picture.fromarray(noise).save(path)
        if stem.startswith("broken"):
            path.write_bytes(path.read_bytes()[:3000])
        made.append(StudyRow(stem, stem, path.name, "test", **cells))
    StudyTable.from_rows(made, root=folder).write(folder / name)
    return folder / name


def left_out(record: dict[str, Any]) -> dict[str, str]:
    return {item["what"]: item["why"] for item in record["dataset"]["left_out"]}


def test_laterals_and_broken_files_are_left_out_counted_and_named(tmp_path: Path) -> None:
    table = table_of(tmp_path, {
        "one": {"view": "PA", "labels": {"Mass": 1.0}}, "two": {"view": "LATERAL", "labels": {"Mass": 0.0}},
        "three": {"labels": {"Mass": 0.0}}, "broken": {"view": "AP"}, "four": {"view": "OTHER"},
    })
    student = load_student()
    record = evaluate_student(student, table, ALL)
    assert record["dataset"]["images"] == 2 and record["models"][0]["images"] == 2
    found = left_out(record)
    assert set(found) == {"two", "four", "broken"}
    assert "lateral" in found["two"] and "neither" in found["four"] and "cannot be read" in found["broken"]
    lines = "\n".join(score_lines(record))
    assert "left out: 3" in lines and all(name in lines for name in ("two", "four", "broken"))
    page = render_scorecard(record)
    assert b"left out: 3 (" in page
    told = re.findall(rb'<th scope="row">([\w ]+)</th><td>likely</td>', page)
    assert told == [b"Mass"], "of a finding that no image is known to have or to lack there is nothing to show"
    every = evaluate_student(student, table, JudgeOptions("all", 20, laterals=True))
    assert every["dataset"]["images"] == 4 and set(left_out(every)) == {"broken"}


def test_a_table_of_nothing_that_can_be_judged_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = table_of(tmp_path, {"broken": {}, "broken2": {}})
    with pytest.raises(InputError, match=r"no image that can be judged \(2 x cannot be read"):
        evaluate_student(load_student(), table, ALL)
    sides = table_of(tmp_path, {"a": {"view": "LATERAL"}}, "side.parquet")
    with pytest.raises(InputError, match=r"no image that can be judged \(1 x is a lateral view"):
        evaluate_student(load_student(), sides, ALL)


def test_a_damaged_mask_costs_its_own_figure_only(tmp_path: Path) -> None:
    lungs = np.zeros((96, 80), dtype=np.bool_)
    lungs[20:70, 10:35] = lungs[20:70, 45:70] = True
    (tmp_path / "bad.png").write_bytes(b"no picture")
    table = table_of(tmp_path, {"one": {"masks": {"lungs": encode_runs(lungs)}}, "two": {"masks": {"lungs": "bad.png"}}})
    record = evaluate_student(load_student(), table, ALL)
    assert record["dataset"]["images"] == 2
    masks = {mask["mask"]: mask["images"] for mask in record["models"][0]["masks"]}
    assert masks["lungs"] == 1 and "is used without its masks" in left_out(record)["two"]


def test_a_joint_class_is_judged_where_either_of_its_findings_is_strongest(tmp_path: Path) -> None:
    box = BoxNote("Nodule/Mass", 10, 10, 20, 20, 0, 0)
    table = table_of(tmp_path, {
        "one": {"boxes": (box,), "boxes_complete": True, "uncertain": ("Mass", "Nodule")},
        "two": {"boxes_complete": True, "labels": {"Mass": 0.0, "Nodule": 0.0}},
        "three": {"boxes_complete": True, "labels": {"Mass": 0.0}},
        "four": {"boxes": (BoxNote("Rib fracture", 1, 1, 9, 9, 0, 0),), "boxes_complete": True},
    })
    record = evaluate_student(load_student(), table, ALL)
    found = {where["finding"]: where for where in record["models"][0]["detection"]}
    assert (found["Nodule/Mass"]["images"], found["Nodule/Mass"]["boxes"]) == (2, 1)
    assert found["Rib fracture"]["hit_rate"]["value"] == 0.0  # a class that the student does not know is never found
    assert render_scorecard(record)


def test_what_a_joint_class_joins() -> None:
    assert parts_of("Nodule/Mass", CHEST) == ("Nodule", "Mass") and parts_of("Pleural effusion", CHEST) == ("Effusion",)
    assert parts_of("Rib fracture", CHEST) == ()
    row = {"boxes_complete": True, "label_Mass": 0.0, "label_Nodule": np.nan}
    assert is_searched(row, "Mass", CHEST) and not is_searched(row, "Nodule/Mass", CHEST)
    assert not is_searched(row, "Rib fracture", CHEST)


def test_the_order_of_rows_and_a_second_run_change_nothing(tmp_path: Path) -> None:
    table = table_of(tmp_path, {f"film{number:02d}": {"labels": {"Mass": float(number % 2)}} for number in range(20)})
    first, again = (evaluate_student(load_student(), table, ALL) for _ in range(2))
    assert json.dumps(first) == json.dumps(again)


def test_public_cases_end_in_a_scorecard(cases: Path, tmp_path: Path) -> None:
    student = load_student()
    made = {"vindr": cases / "11-evaluate-crashes-on-vindr" / "vindr",
            "padchest": cases / "18-evaluate-stops-at-one-broken-picture" / "padchest",
            "manifest": cases / "07-lateral-rows-judged-and-trained" / "t.csv"}
    images = {}
    for source, folder in made.items():
        import_source(source, folder, tmp_path / f"{source}.parquet")
        record = evaluate_student(student, tmp_path / f"{source}.parquet", ALL)
        images[source] = record["dataset"]["images"], len(record["dataset"]["left_out"])
    assert images == {"vindr": (3, 0), "padchest": (5, 0), "manifest": (6, 7)}


def test_a_handful_of_patients_ranked_perfectly_has_no_interval_of_certainty() -> None:
    ids = ("a", "b", "c")
    labels, logits = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([[4.0, -4.0], [-4.0, 4.0], [-4.0, -4.0]])
    given = TaskOutputs("student", "student", ids, findings=("Mass", "Nodule"), logits=logits, calibration=[(1.0, 0.0)] * 2,
                        thresholds=[0.5, 0.5])
    record = build_scorecard([given], References("three", False, ids, ids, ("Mass", "Nodule"), labels), seed=0).as_dict()
    said = "\n".join(score_lines(record))
    assert "1.000" in said and "[1.000, 1.000]" not in said
    assert not _certain(record)


def _certain(value: object) -> bool:
    """Whether an interval of no width stands anywhere in a record."""
    if isinstance(value, dict):
        certain = value.get("low") is not None and value.get("low") == value.get("high")
        return certain or any(_certain(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_certain(item) for item in value)


def test_the_scorecard_counts_the_very_tiers_that_stories_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "IMAGES_AT_ONCE", 7)
    rng = np.random.default_rng(5)
    cards = [
        Calibration(0.8, -0.5, threshold, tuple(map(tuple, rng.normal((0.8, -0.5), 0.3, (many, 2)))), 100, 20, "made")
        for threshold, many in ((0.2, 50), (0.7, 50), (0.1, 0))
    ]
    logits = rng.normal(0, 2, (40, 3)).astype(np.float32)
    told = judge.told_tiers(logits, cards)
    for row, column in np.ndindex(40, 3):
        assert told[row, column] == calibrated("x", float(logits[row, column]), cards[column]).tier
    assert set(told[:, 0]) == {"likely", "possible", "unlikely", "cannot_tell"}
    assert judge.told_tiers(np.array([[np.nan, 0.0, 0.0]]), cards)[0, 0] == ""
