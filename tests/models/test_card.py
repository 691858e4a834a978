"""The model card: round trip, and every way in which a model folder can be incomplete, altered or garbled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storyxai.errors import WeightsError
from storyxai.model_facts import DataSet, FindingCurves, FindingFigures, OutlineFigures
from storyxai.models.card import CARD_NAME, Calibration, CardFigures, ModelCard, read_card, write_card
from storyxai.provenance import sha256_bytes

WEIGHTS = b"not really weights"


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    """A card and its one file, written into tmp_path."""
    (tmp_path / "student.safetensors").write_bytes(WEIGHTS)
    made = ModelCard(
        "toy", "1", {"size": 64, "findings": ["a"]}, {"student.safetensors": sha256_bytes(WEIGHTS)},
        {"a": Calibration(1.25, -0.5, 0.3, ((1.0, -0.5), (1.5, -0.25)), 40, 12, "toy validation")},
        (DataSet("toys", 8),), ("adults only",), ("fractures",), CardFigures(per_finding={"a": FindingFigures(auroc=0.8)}),
        {"seed": 7}, "Apache-2.0",
    )
    write_card(made, tmp_path)
    return made


def altered(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / CARD_NAME).read_bytes())
    record.update(changes)
    (folder / CARD_NAME).write_text(json.dumps(record))


def test_a_card_comes_back_as_it_was_written(card: ModelCard, tmp_path: Path) -> None:
    assert read_card(tmp_path) == card


def test_a_card_is_the_same_bytes_each_time(card: ModelCard, tmp_path: Path) -> None:
    before = (tmp_path / CARD_NAME).read_bytes()
    write_card(read_card(tmp_path), tmp_path)
    assert (tmp_path / CARD_NAME).read_bytes() == before
    assert json.loads((tmp_path / CARD_NAME).read_bytes())["research_use_only"] is True


def test_the_id_and_what_stories_may_cite(card: ModelCard, tmp_path: Path) -> None:
    digest = sha256_bytes(WEIGHTS)
    assert card.model_id == f"toy-1-{digest[:12]}"
    record = card.model_record()
    assert record.weights_sha256 == digest and record.limits == ("adults only",)
    assert record.per_finding == {"a": FindingFigures(auroc=0.8)} and record.outlines == OutlineFigures()
    written = json.loads((tmp_path / CARD_NAME).read_bytes())
    assert written["figures"] == {"per_finding": {"a": {"auroc": 0.8}}}, "what is not known is left out"


def test_a_card_of_before_has_its_outlines_figures_under_the_name_of_today(card: ModelCard, tmp_path: Path) -> None:
    record = json.loads((tmp_path / CARD_NAME).read_bytes())
    record["figures"]["lungs"] = {"dice": 0.9, "n": 4, "data": "test"}
    (tmp_path / CARD_NAME).write_text(json.dumps(record), encoding="utf-8")
    assert read_card(tmp_path).figures.outlines == OutlineFigures(0.9, n=4, data="test")


@pytest.mark.parametrize("altering", [lambda b: b[:-1], lambda b: b + b"x", lambda b: bytes([b[0] ^ 1]) + b[1:]])
def test_altered_weights_are_refused(card: ModelCard, tmp_path: Path, altering: Any) -> None:
    path = tmp_path / "student.safetensors"
    path.write_bytes(altering(WEIGHTS))
    with pytest.raises(WeightsError, match=r"student\.safetensors: is not the file that the card vouches") as caught:
        read_card(tmp_path)
    assert caught.value.mend and caught.value.exit_status == 2
    assert read_card(tmp_path, check_files=False) == card


def test_a_missing_file_is_named(card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "student.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"student\.safetensors: is missing"):
        read_card(tmp_path)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"has no {CARD_NAME}"):
        read_card(tmp_path)
    with pytest.raises(WeightsError, match=f"has no {CARD_NAME}"):
        read_card(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format": "storyxai-model/1"'])
def test_a_card_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_NAME).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as a model card"):
        read_card(tmp_path)


def test_a_card_of_another_format_is_refused(card: ModelCard, tmp_path: Path) -> None:
    altered(tmp_path, format="storyxai-model/9")
    with pytest.raises(WeightsError, match="is not of format"):
        read_card(tmp_path)
    (tmp_path / CARD_NAME).write_text("[]")
    with pytest.raises(WeightsError, match="is not of format"):
        read_card(tmp_path)


GOOD = {"scale": 1.0, "bias": 0.0, "threshold": 0.5, "replicates": [[1, 0]], "n": 1, "positives": 0, "data": "x"}


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": {"a": {}}}, {"calibration": {"a": {**GOOD, "surprise": 1}}},
        {"calibration": {"a": {**GOOD, "replicates": [[1]]}}}, {"limits": None}, {"calibration": []},
        {"files": []},
    ],
    ids=["lacks all", "unknown field", "short pair", "no list", "no table", "no files"],
)
def test_a_garbled_field_is_refused(card: ModelCard, tmp_path: Path, changes: dict[str, Any]) -> None:
    altered(tmp_path, **changes)
    with pytest.raises(WeightsError, match="lacks or garbles a field"):
        read_card(tmp_path)


@pytest.mark.parametrize("key", ["name", "spec", "files", "calibration", "figures", "licence"])
def test_a_card_without_a_field_is_refused(card: ModelCard, tmp_path: Path, key: str) -> None:
    record = json.loads((tmp_path / CARD_NAME).read_bytes())
    del record[key]
    (tmp_path / CARD_NAME).write_text(json.dumps(record))
    with pytest.raises(WeightsError, match=f"lacks or garbles a field .*{key}"):
        read_card(tmp_path)


def test_a_card_does_not_reach_out_of_its_folder(card: ModelCard, tmp_path: Path) -> None:
    secret = tmp_path.parent / "elsewhere.bin"
    secret.write_bytes(b"elsewhere")
    altered(tmp_path, files={"../elsewhere.bin": sha256_bytes(b"elsewhere")})
    with pytest.raises(WeightsError, match=r"elsewhere\.bin: is missing"):
        read_card(tmp_path)


def test_points_of_curves_come_back_and_a_card_of_before_has_none(card: ModelCard, tmp_path: Path) -> None:
    assert card.model_record().curves == {}
    curves = {"a": FindingCurves(((0.0, 0.0), (0.2, 0.7), (1.0, 1.0)), ((0.05, 0.04, 120), (0.3, 0.33, 121)))}
    write_card(replace(card, figures=replace(card.figures, curves=curves)), tmp_path)
    back = read_card(tmp_path)
    assert back.figures.curves == curves == back.model_record().curves
    altered(tmp_path, figures={"curves": {"a": {"roc": [[0.0]]}}})
    with pytest.raises(WeightsError, match="curves"):
        read_card(tmp_path)
