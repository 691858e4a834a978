"""A table judged by the shipped student: masks, searched images and blind maps as they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storyxai.data.table import read_table
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH as CHEST
from storyxai.models.card import Calibration
from storyxai.models.runtime import load_student
from storyxai.phantoms.generate import write_phantoms
from storyxai.programs.data import import_data
from storyxai.programs.evaluate import score_lines
from storyxai.programs.scorecards import figures_of
from storyxai.scorecard.judge import JudgeOptions, conformal_of, evaluate_student, student_speed
from storyxai.scorecard.rows import is_searched, judge_masks, with_pair


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((40, 60), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_masks_are_measured_in_pixels_and_millimetres_where_the_spacing_is_known() -> None:
    drawn = {"left_lung": square(10, 35, 10), "right_lung": square(10, 5, 10), "heart": square(0, 0, 3)}
    drawn = with_pair(drawn, CHEST)
    moved = {"left_lung": (square(12, 35, 10), None), "lungs": (square(10, 35, 10) | square(10, 5, 10), None)}
    dices, distances = judge_masks(moved, drawn, (0.5, 0.25))
    assert dices == {"left_lung": pytest.approx(0.8), "lungs": 1.0}  # 80 of 100 pixels shared; the heart has no reference
    assert (distances["left_lung"]["hausdorff_95_px"], distances["left_lung"]["hausdorff_95_mm"]) == (2.0, 1.0)
    assert distances["lungs"] == dict.fromkeys(("average_px", "hausdorff_95_px", "average_mm", "hausdorff_95_mm"), 0.0)
    _, unknown = judge_masks(moved, drawn, None)
    assert set(unknown["left_lung"]) == {"average_px", "hausdorff_95_px"}
    empty, apart = judge_masks({"left_lung": (square(0, 0, 0), None)}, drawn, None)
    assert (empty["left_lung"], apart["left_lung"]) == (0.0, {})


def test_an_image_counts_as_searched_only_where_a_reader_marked_all() -> None:
    row = {"boxes_complete": True, "label_Pneumonia": 1.0, "label_Mass": 0.0, "label_Nodule": np.nan, "label_Edema": 1.0}
    assert [is_searched(row, name, CHEST) for name in ("Pneumonia", "Mass", "Nodule", "Edema")] == [True, True, False, False]
    assert not is_searched({**row, "boxes_complete": False}, "Mass", CHEST)


def test_conformal_limits_come_from_the_card_or_are_none() -> None:
    held = Calibration(1.0, 0.0, 0.5, (), 9, 3, "x", (0.7, 0.2, 0.9))
    limits, nothing = conformal_of([held, Calibration(1.0, 0.0, 0.5, (), 9, 3, "x")])
    assert limits is not None and (limits.present, limits.absent, limits.level) == (0.7, 0.2, 0.9)
    assert nothing is None


def test_a_table_of_phantoms_gives_outlines_hearts_and_maps_that_know_nothing(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "films", count=4, seed=3, size=256)
    import_data("phantom", tmp_path / "films", tmp_path / "films.parquet")
    student = load_student()
    found, again = (
        evaluate_student(student, tmp_path / "films.parquet", JudgeOptions("all", 20)) for _ in range(2)
    )
    assert found == again
    own = next(line for line in score_lines(found) if line.startswith("student "))
    count = found["models"][0]["mean_auroc_all"]["finding_count"]
    assert count > 1 and f"mean AUROC of all {count} findings 0." in own.replace("1.000", "0.") and "Dice of lungs 0." in own
    twin = evaluate_student(
        student, tmp_path / "films.parquet", JudgeOptions("all", 20), beside=[student]
    )
    (gap,) = [item for item in twin["differences"] if item["other"].startswith("beside: ")]
    assert all(mask["dice"]["value"] == 0.0 for mask in gap["masks"])
    assert [m["role"] for m in twin["models"] if m["name"].startswith("beside: ")] == ["control"]
    models = {model["name"]: model for model in found["models"]}
    masks = {mask["mask"]: mask for mask in models["student"]["masks"]}
    assert set(masks) == {"lungs", "left_lung", "right_lung", "heart"}
    assert masks["lungs"]["distances"]["hausdorff_95_px"]["value"] >= masks["lungs"]["distances"]["average_px"]["value"] > 0
    assert "average_mm" not in masks["lungs"]["distances"]  # a PNG states no spacing
    boxed = {where["finding"]: where["boxes"] for where in models["student"]["detection"]}
    table = read_table(tmp_path / "films.parquet")
    noted = [box.finding for row in table.frame.to_dict("records") for box in table.boxes_of(row, height=256, width=256)]
    assert boxed == {name: noted.count(name) for name in set(noted)} and boxed
    for name in ("centre map", "random map"):
        assert {where["finding"]: where["boxes"] for where in models[name]["detection"]} == boxed
        assert {where["images"] for where in models[name]["detection"]} == {4}
    assert models["student"]["facts"]["bytes"] == (student.folder / "student.safetensors").stat().st_size
    # Four bytes a number, and a header.
    assert 0 < models["student"]["facts"]["bytes"] - 4 * models["student"]["facts"]["parameters"] < 100_000


def test_a_teacher_is_judged_by_its_answers_on_the_images_that_it_saw(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "films", count=12, seed=5, size=128)
    import_data("phantom", tmp_path / "films", tmp_path / "films.parquet")
    table = read_table(tmp_path / "films.parquet")
    student, labels = load_student(), table.labels()
    order = [labels.findings.index(name) for name in student.findings]
    answers = {str(name): (10 * labels.values[i, order] - 5).astype(np.float32)
               for i, name in enumerate(table.frame["image_id"]) if i != 7}
    teachers = {"one who knows": answers, "one who saw nothing": {"elsewhere": np.zeros(14, np.float32)}}
    found = evaluate_student(student, tmp_path / "films.parquet", JudgeOptions("all", 20), teachers=teachers)
    (teacher,) = [model for model in found["models"] if model["role"] == "teacher"]
    assert teacher["name"] == "one who knows" and teacher["mean_auroc_all"]["value"] == 1.0
    assert {item["n"] for item in teacher["findings"] if item["n"]} == {11}
    (gap,) = [item for item in found["differences"] if item["other"] == "one who knows"]
    assert gap["mean_auroc_all"]["value"] <= 0.0
    assert [(item["student"], item["teacher"]) for item in found["agreement"]] == [("student", "one who knows")]
    twice = evaluate_student(student, tmp_path / "films.parquet", JudgeOptions("all", 20),
                             teachers={"one who knows": answers, "another": {name: -said for name, said in answers.items()}})
    cited = figures_of(twice, CHEST).agreement
    assert {item.teacher for item in cited.values()} == {"one who knows"}  # of several teachers the first speaks
    assert cited == figures_of(found, CHEST).agreement


def test_speed_is_by_the_given_clock() -> None:
    ticks = iter(np.arange(0.0, 100.0, 0.5))
    (found,) = student_speed(load_student(), batches=2, clock=lambda: float(next(ticks)))["models"]
    assert (found["images_per_second"], found["batches"], found["batch_size"]) == (2.0, 2, 1)
    ticks, student = iter(np.arange(0.0, 100.0, 0.5)), load_student()
    _, other = student_speed(student, batches=2, clock=lambda: float(next(ticks)), beside=[student])["models"]
    assert other["name"].startswith("beside: ") and other["student_times_faster"] == 1.0


def test_covid_masks_of_both_lungs_give_dice(real_data: Path, tmp_path: Path) -> None:
    import_data("covid", real_data / "covid", tmp_path / "covid.parquet")
    table = read_table(tmp_path / "covid.parquet")
    chosen = np.zeros(len(table), dtype=bool)
    chosen[np.flatnonzero((table.frame["masks"] != "{}").to_numpy())[:2]] = True
    table.select(rows=chosen).write(tmp_path / "two.parquet")
    found = evaluate_student(load_student(), tmp_path / "two.parquet", JudgeOptions("all", 10))
    lungs = next(mask for mask in found["models"][0]["masks"] if mask["mask"] == "lungs")
    assert lungs["images"] == 2 and 0.5 < lungs["dice"]["value"] <= 1.0


def test_a_few_films_of_the_nih_layout_give_a_mean_over_every_finding_with_both_kinds(
    real_data: Path, tmp_path: Path
) -> None:
    import_data("nih", real_data / "nih", tmp_path / "nih.parquet")
    table = read_table(tmp_path / "nih.parquet")
    chosen, stated = np.zeros(len(table), dtype=bool), table.labels()
    for column in stated.values.T:
        for value in (0.0, 1.0):
            chosen[np.flatnonzero(column == value)[:6]] = True  # fewer patients of a class have no interval
    table.select(rows=chosen).write(tmp_path / "few.parquet")
    found = evaluate_student(load_student(), tmp_path / "few.parquet", JudgeOptions("all", 20))
    mean = found["models"][0]["mean_auroc_all"]
    assert (mean["finding_count"], mean["findings"]) == (14, stated.findings)
    assert mean["low"] < mean["value"] < mean["high"] and mean["images"] == int(chosen.sum())
