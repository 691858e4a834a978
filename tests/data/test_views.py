"""Views as tables write them, and rows that no model of frontal films may meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from storyxai.data.opening import frontal_rows
from storyxai.data.table import StudyRow, StudyTable
from storyxai.imaging.views import known_view, view_of

SPELLINGS = {
    "PA": ("PA", "pa", "P.A.", "P-A", "postero-anterior", "Posteroanterior", "POSTERO_ANTERIOR", "PA erect",
           "PA LLD", "CHEST PA"),
    "AP": ("AP", "AP Supine", "AP Erect", "AP_horizontal", "AP AXIAL",
           "antero-posterior", "ANTEROPOSTERIOR", "Chest AP portable",
           "anterior to posterior", "AP lordotic"),
    "LATERAL": ("L", "LL", "RL", "LAT", "LATERAL", "Lateral", "lateral left", "LEFT LATERAL", "LLAT", "Lat.", "L-lateral",
                "latero-lateral", "XTABLE LATERAL", "SWIMMERS", "right lateral view", "LATERAL_LEFT"),
    "OTHER": ("LAO", "RAO", "LPO", "oblique", "PA oblique", "Axial", "Coronal", "COSTAL", "EXCLUDE", "lateral decubitus",
              "LLD"),
    "unknown": ("", "unknown", "nan", "Frontal", "F", "PA and lateral", "CHEST (PA AND LAT)", "UNK", "portable", "PA/AP"),
}


@pytest.mark.parametrize(("text", "view"), [(text, view) for view, texts in SPELLINGS.items() for text in texts])
def test_a_view_is_read_as_people_and_published_tables_write_it(text: str, view: str) -> None:
    assert view_of(text) == view
    assert known_view(text) == view


def test_words_that_name_no_view_are_not_guessed() -> None:
    assert known_view("bilateral infiltrates") is None and view_of("bilateral infiltrates") == "unknown"
    assert known_view("sideways?") is None


def test_rows_that_are_not_frontal_are_left_out_and_named(tmp_path: Path) -> None:
    views = {"a": "PA", "b": "LATERAL", "c": "unknown", "d": "Lateral", "e": "OTHER"}
    rows = [StudyRow(name, name, f"{name}.png", "test", view=view) for name, view in views.items()]
    table = StudyTable.from_rows(rows, root=tmp_path)
    kept, left_out = frontal_rows(table)
    assert list(kept.frame["image_id"]) == ["a", "c"]
    assert [item.what for item in left_out] == ["b", "d", "e"]
    assert left_out[0].why.startswith("is a lateral view") and left_out[2].why.startswith("is neither a frontal")
    assert frontal_rows(table, laterals=True) == (table, ())
