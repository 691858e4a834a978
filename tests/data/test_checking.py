"""The data check finds what was planted, and nothing else, and writes one page that opens from disk."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.data.checking import CheckReport, check_table
from storyxai.data.masks import encode_runs
from storyxai.data.table import BoxNote, StudyRow, StudyTable
from storyxai.errors import OutputError
from storyxai.pages.data_check import render_data_check

SIDE = 160


def chest(seed: int) -> np.ndarray:
    """A grey picture with two dark lungs, each time a little different."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    grey = 190 - 15 * rng.random() + 12 * rows
    for centre in (0.28, 0.72):
        shift = rng.normal(0, 0.02, 2)
        grey -= 120 * np.exp(-(((columns - centre - shift[0]) / 0.14) ** 2 + ((rows - 0.45 - shift[1]) / 0.26) ** 2) ** 2)
    coarse = Picture.fromarray(rng.normal(0, 22, (14, 14)).astype(np.float32))
    return (grey + np.asarray(coarse.resize((SIDE, SIDE), Picture.Resampling.BICUBIC))).clip(0, 255).astype(np.uint8)


def films(folder: Path, count: int = 24) -> list[StudyRow]:
    rows = []
    for seed in range(count):
        Picture.fromarray(chest(seed)).save(folder / f"{seed:02d}.png")
        rows.append(StudyRow(f"s{seed:02d}", f"p{seed}", f"{seed:02d}.png", "x", labels={"Mass": float(seed % 3 == 0)}))
    return rows


def looked_over(table: StudyTable, out: Path) -> CheckReport:
    """The report, and the page beside its problems, as `storyxai data check` writes them."""
    report = check_table(table, out)
    (out / "index.html").write_bytes(render_data_check(table, report))
    return report


def kinds(table: StudyTable, out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for problem in looked_over(table, out).problems:
        found.setdefault(problem.kind, []).append(problem.what)
    return found


def test_a_sound_table_has_no_problem(tmp_path: Path) -> None:
    table = StudyTable.from_rows(films(tmp_path), root=tmp_path)
    report = looked_over(table, tmp_path / "out")
    assert report.problems == () and report.lines == ("24 images of 24 patients, 0 problems",)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "problems.csv"]
    again = (tmp_path / "out" / "index.html").read_bytes()
    looked_over(table, tmp_path / "out")
    assert (tmp_path / "out" / "index.html").read_bytes() == again


def test_everything_planted_is_found_and_named(tmp_path: Path) -> None:
    rows = films(tmp_path)

    def put(name: str, grey: np.ndarray | None, row: StudyRow | None = None) -> None:
        if grey is not None:
            Picture.fromarray(grey).save(tmp_path / f"{name}.png")
        rows.append(row or StudyRow(name, f"p-{name}", f"{name}.png", "x", labels={"Mass": 0.0}))

    put("inverted", 255 - chest(100))
    put("blank", np.full((SIDE, SIDE), 128, dtype=np.uint8))
    put("tiny", np.asarray(Picture.fromarray(chest(101)).resize((90, 90))))
    put("gone", None)
    put("copy", chest(1))
    put("near", (chest(2) * 0.9).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "05.png").read_bytes()[:3000])
    put("cut", None)
    wrong = encode_runs(np.ones((10, 40), dtype=bool))
    put("mask", chest(102), StudyRow("mask", "pm", "mask.png", "x", labels={"Mass": 0.0}, masks={"lungs": wrong}))
    box = BoxNote("Mass", SIDE - 10, 5, 60, 5, 0, 0)
    put("box", chest(103), StudyRow("box", "pb", "box.png", "x", labels={"Mass": 1.0}, boxes=(box,)))
    put("silent", chest(104), StudyRow("silent", "ps", "silent.png", "x"))
    put("same patient", chest(105), StudyRow("same patient", "p3", "same patient.png", "x", labels={"Mass": 0.0}))
    table = StudyTable.from_rows(rows, root=tmp_path)
    split = ["test" if name in ("same patient", "copy") else "train" for name in table.frame["image_id"]]
    found = kinds(table.with_column("split", split), tmp_path / "out")
    assert set(found.pop("intensity")) == {"inverted", "blank"}
    assert found.pop("leak") == ["copy and s01"]
    assert found == {
        "small": ["tiny"], "missing": ["gone"], "exact duplicate": ["copy and s01"], "near duplicate": ["near and s02"],
        "unreadable": ["cut"], "mask": ["mask"], "box": ["box"], "no label": ["1 rows"],
    }
    written = list(csv.DictReader((tmp_path / "out" / "problems.csv").open()))
    assert {line["kind"] for line in written} >= {"leak", "mask", "box"}


def test_a_patient_in_two_parts_is_a_leak(tmp_path: Path) -> None:
    table = StudyTable.from_rows(films(tmp_path, 4), root=tmp_path).with_column("patient_id", ["p", "p", "q", "r"])
    assert kinds(table.with_column("split", ["train", "test", "val", ""]), tmp_path / "out")["leak"] == ["patient p"]


def test_the_page_needs_nothing_else_and_shows_masks_and_boxes_where_they_are(tmp_path: Path) -> None:
    Picture.fromarray(np.full((200, 200), 60, dtype=np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((200, 200), dtype=bool)
    mask[40:120, 20:80] = True
    box = BoxNote("Mass", 500, 500, 200, 200, 1000, 1000)
    row = StudyRow("<b>&", "p", "a.png", "x", labels={"Mass": 1.0}, boxes=(box,), masks={"lungs": encode_runs(mask)})
    looked_over(StudyTable.from_rows([row], root=tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "://" not in page and "<script" not in page and "<b>&<" not in page and "&lt;b&gt;&amp;" in page
    data = re.search(r'data:image/jpeg;base64,([^"]+)"', page) or pytest.fail("the sample is shown")
    with Picture.open(io.BytesIO(base64.b64decode(data[1]))) as picture:
        colour = np.asarray(picture.convert("RGB")).astype(int)
    assert colour.shape == (300, 300, 3)
    cyan = (colour[..., 2] - colour[..., 0]) > 80
    yellow = (colour[..., 0] - colour[..., 2]) > 80
    rows, columns = np.nonzero(cyan)
    assert abs(rows.min() - 60) <= 3 and abs(rows.max() - 180) <= 3 and abs(columns.min() - 30) <= 3
    rows, columns = np.nonzero(yellow)
    assert abs(rows.min() - 150) <= 3 and abs(rows.max() - 210) <= 3 and abs(columns.max() - 210) <= 3


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        looked_over(StudyTable.from_rows(films(tmp_path, 2), root=tmp_path), tmp_path / "file" / "out")


@pytest.mark.real
def test_the_inverted_film_among_real_ones_is_found(real_data: Path, tmp_path: Path) -> None:
    from storyxai.data.sources.nih import read_nih

    table = read_nih(real_data / "nih")
    keep = np.arange(len(table)) % 12 == 0
    keep |= (table.frame["image_id"] == "nih-00017999_000").to_numpy()
    odd = [problem.what for problem in looked_over(table.select(rows=keep), tmp_path / "out").problems
           if problem.kind == "intensity"]
    assert odd == ["nih-00017999_000"]


def test_many_copies_of_one_file_are_compared_once_and_a_leak_through_them_is_found(tmp_path: Path) -> None:
    """Pairs of copies grow with their number, not with its square; look-alikes leak through any copy."""
    rows = films(tmp_path)
    (tmp_path / "like.png").write_bytes((tmp_path / "00.png").read_bytes())
    brighter = np.clip(chest(0).astype(np.int64) + 1, 0, 255).astype(np.uint8)
    Picture.fromarray(brighter).save(tmp_path / "brighter.png")
    rows += [StudyRow(f"t{n:02d}", f"q{n}", "like.png", "x") for n in range(30)]
    rows.append(StudyRow("u", "u", "brighter.png", "x"))
    table = StudyTable.from_rows(rows, root=tmp_path)
    found = kinds(table, tmp_path / "out")
    assert len(found["exact duplicate"]) == 30 and found["near duplicate"] == ["s00 and u"] and "leak" not in found
    parts = ["train" if name != "t29" else "test" for name in table.frame["image_id"]]
    assert "t29" in kinds(table.with_column("split", parts), tmp_path / "out")["leak"][0]
    parts = ["test" if name in ("s00", "u") else "train" for name in table.frame["image_id"]]
    assert "leak" in kinds(table.with_column("split", parts), tmp_path / "out")


def test_marks_of_a_dicom_film_are_checked_too(tmp_path: Path) -> None:
    """VinDr, RSNA and SIIM come as DICOM: the heads of picture files tell nothing of these."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3", "DX"
    film.Rows, film.Columns = SIDE, SIDE + 40
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.PixelData = np.pad(chest(1), ((0, 0), (0, 40))).tobytes()
    film.save_as(tmp_path / "a.dicom", enforce_file_format=True)
    wrong = encode_runs(np.ones((SIDE, SIDE), dtype=bool))
    boxes = (BoxNote("Mass", SIDE + 30, 5, 60, 5, 0, 0), BoxNote("Mass", SIDE + 20, 5, 10, 5, 0, 0))
    row = StudyRow("a", "p", "a.dicom", "x", labels={"Mass": 1.0}, boxes=boxes, masks={"lungs": wrong})
    found = kinds(StudyTable.from_rows([row], root=tmp_path), tmp_path / "out")
    assert found == {"mask": ["a"], "box": ["a"]}


def test_a_box_frame_of_another_shape_than_the_film_is_told(tmp_path: Path) -> None:
    rows = films(tmp_path, 2)
    box = BoxNote("Mass", 10, 10, 20, 20, 300, 100)
    rows.append(StudyRow("z", "z", "00.png", "x", labels={"Mass": 1.0}, boxes=(box,)))
    problems = looked_over(StudyTable.from_rows(rows, root=tmp_path), tmp_path / "out").problems
    assert [(p.what, "300 x 100" in p.why) for p in problems if p.kind == "box"] == [("z", True)]


def test_cells_that_hold_no_marks_are_problems_and_not_crashes(tmp_path: Path) -> None:
    rows = films(tmp_path, 4)
    table = StudyTable.from_rows(rows, root=tmp_path)
    table = table.with_column("boxes", ["[", '[{"x": 1}]', "[]", "7"]).with_column("masks", ["{}", "{}", "[1]", "{}"])
    found = kinds(table.with_column("masks", ["{}", "{}", "[1]", '{"heart": "runs:axb"}']), tmp_path / "out")
    assert sorted(found["marks"]) == ["s00", "s01", "s02", "s03"]
    assert (tmp_path / "out" / "index.html").is_file()


def test_counts_say_how_many_rows(tmp_path: Path) -> None:
    rows = [*films(tmp_path, 3), StudyRow("r1", "q1", "", "x"), StudyRow("r2", "q2", "", "x")]
    report = looked_over(StudyTable.from_rows(rows, root=tmp_path), tmp_path / "out")
    assert report.lines == ("3 images of 3 patients and 2 reports without an image, 1 problem", "  no label: 2 rows")
    page = (tmp_path / "out" / "index.html").read_text()
    assert '<th scope="row">no label</th><td>2 rows</td>' in page and "2 reports without an image" in page


def test_reports_alone_show_no_empty_sample_and_no_legend(tmp_path: Path) -> None:
    looked_over(StudyTable.from_rows([StudyRow("r", "q", "", "x", labels={"Mass": 1.0})], root=tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "lung outline" not in page and "No row has an image" in page


def test_tables_wider_than_a_narrow_screen_scroll_for_themselves(tmp_path: Path) -> None:
    looked_over(StudyTable.from_rows(films(tmp_path, 3), root=tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<table") == page.count('<div class="scroll" tabindex="0"') and ".scroll { overflow-x: auto;" in page
