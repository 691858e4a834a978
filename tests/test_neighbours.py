"""The index of a model's features: the nearest against a search by hand, what is known of them, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evidence_models import CalibratedReader, Reader, image_of
from storyxai.data.table import StudyRow, StudyTable
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.neighbours import (
    ABSENT,
    NOT_STATED,
    PRESENT,
    NeighbourIndex,
    build_index,
    image_key,
    index_bytes,
    nearest,
    neighbours_of,
    read_index,
    similarities,
)
from storyxai.explain.contract import Look
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs import neighbours as program
from storyxai.programs.neighbours import build_neighbours

SPOTS = Modality("spots", (FindingTerm("A"), FindingTerm("B")))
PLACE = np.zeros((32, 32), np.bool_)
PLACE[4:12, 4:12] = True
MODEL = CalibratedReader({"A": PLACE, "B": ~PLACE})


def index_of(count: int = 300, width: int = 16, *, seed: int = 0) -> tuple[NeighbourIndex, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width)) * rng.uniform(0.1, 5, width) + 3
    labels = rng.choice([ABSENT, PRESENT, NOT_STATED], size=(count, 2), p=[0.6, 0.2, 0.2]).astype(np.uint8)
    keys = np.arange(count, dtype=np.uint64)
    return build_index(MODEL, features, labels, keys, part="train", table_sha256="ab" * 32), features


def looked(features: np.ndarray) -> Look:
    return Look(np.zeros(2, np.float32), np.asarray(features, np.float32)[:, None, None], None)


def test_the_nearest_are_those_of_a_search_by_hand() -> None:
    index, features = index_of()
    mine = np.random.default_rng(9).normal(size=16) + 3
    near = neighbours_of(index, MODEL, image_of(np.zeros((8, 8))), looked(mine), count=20)
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    q = (mine - features.mean(axis=0)) / features.std(axis=0)
    cosine = z @ q / np.linalg.norm(z, axis=1) / np.linalg.norm(q)
    order = np.argsort(-cosine)[:20]
    assert near is not None and (near.count, near.of) == (20, 300)
    assert [near.closest, near.farthest] == pytest.approx(cosine[order[[0, -1]]], abs=2e-3)
    around, all_ = index.labels[order, 0], index.labels[:, 0]
    told = near.findings[0]
    assert (told.known, told.present) == (int((around != NOT_STATED).sum()), int((around == PRESENT).sum()))
    assert told.overall == pytest.approx((all_ == PRESENT).sum() / (all_ != NOT_STATED).sum())
    assert told.with_it == pytest.approx(cosine_to(z[all_ == PRESENT], q), abs=1e-5)


def cosine_to(rows: np.ndarray, mine: np.ndarray) -> float:
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    return float(mean @ mine / np.linalg.norm(mean) / np.linalg.norm(mine))


def test_an_image_is_not_its_own_neighbour() -> None:
    index, features = index_of()
    itself = image_of(np.zeros((8, 8)))
    keys = index.keys.copy()
    keys[7] = image_key(itself.sha256)
    near = neighbours_of(NeighbourIndex(**{**vars(index), "keys": keys}), MODEL, itself, looked(features[7]), count=1)
    kept = neighbours_of(index, MODEL, itself, looked(features[7]), count=1)
    assert near is not None and kept is not None and kept.closest > 0.999 > near.closest


def test_equal_ones_come_in_their_order_and_never_more_than_there_are() -> None:
    assert nearest(np.array([0.5, 0.9, 0.5, 0.5, -np.inf], np.float32), 3).tolist() == [1, 0, 2]
    assert nearest(np.array([0.5, -np.inf], np.float32), 5).tolist() == [0]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, features = index_of()
    mine = index.placed(features[3])
    whole = similarities(index, mine)
    monkeypatch.setattr("storyxai.evidence.neighbours.BLOCK", 7)
    np.testing.assert_array_equal(similarities(index, mine), whole)


def test_the_file_comes_back_and_is_the_same_twice(tmp_path: Path) -> None:
    index, _ = index_of()
    (tmp_path / "i").write_bytes(index_bytes(index))
    back = read_index(tmp_path / "i")
    assert index_bytes(back) == index_bytes(index) and back.findings == ("A", "B") and len(back) == 300


@pytest.mark.parametrize("content", [b"", b"{}", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i").write_bytes(content)
    with pytest.raises(InputError, match="— build it again with `storyxai neighbours build`"):
        read_index(tmp_path / "i")


def test_what_does_not_fit_the_model_is_refused() -> None:
    index, features = index_of()
    image, look = image_of(np.zeros((8, 8))), looked(features[0])
    with pytest.raises(InputError, match="is of the model reader-1, and this is reader-2"):
        neighbours_of(index, Reader({"A": PLACE}, model_id="reader-2"), image, look, count=20)
    with pytest.raises(InputError, match="0 are asked for — ask for one or more"):
        neighbours_of(index, MODEL, image, look, count=0)
    with pytest.raises(InputError, match="need features"):
        neighbours_of(index, MODEL, image, None, count=20)
    assert neighbours_of(None, MODEL, image, look, count=20) is None


def table_of(folder: Path, count: int) -> Path:
    """Phantoms, of which every second shows an effusion by its label; the last file is damaged."""
    (folder / "films").mkdir(parents=True)
    rows = []
    for i in range(count):
        from PIL import Image as Picture

        pixels = generate_phantom(20 + i, size=64).image.pixels
        Picture.fromarray((255 * pixels).astype(np.uint8)).save(folder / "films" / f"{i}.png")
        labels = {"Effusion": float(i % 2)} if i else {}
        rows.append(StudyRow(f"s{i}", f"patient-{i}", f"films/{i}.png", "toy", f"i{i:03}", labels=labels))
    (folder / "films" / f"{count - 1}.png").write_bytes(b"no picture")
    StudyTable.from_rows(rows, root=folder).with_column("split", ["train"] * count).write(folder / "t.parquet")
    return folder / "t.parquet"


def test_a_table_becomes_an_index_without_a_patient_and_gather_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = type("Chest", (CalibratedReader,), {"modality": CHEST_RADIOGRAPH})({"Effusion": PLACE, "Unheard_of": ~PLACE})
    monkeypatch.setattr(program, "open_model", lambda choice: model)
    table = table_of(tmp_path, 7)
    built = build_neighbours(table, tmp_path / "index")
    assert (built.images, built.size) == (6, (tmp_path / "index").stat().st_size)
    assert len(built.left_out) == 1 and built.left_out[0].startswith("i006: cannot be read")
    written = (tmp_path / "index").read_bytes()
    assert b"patient" not in written and b"films" not in written
    index = read_index(tmp_path / "index")
    assert index.labels[:, 0].tolist() == [NOT_STATED, PRESENT, ABSENT, PRESENT, ABSENT, PRESENT]
    assert set(index.labels[:, 1]) == {NOT_STATED}
    film = generate_phantom(20, size=64).image
    settings = GatherSettings(samples=100, index=index, near=4, force=True)
    near = gather(model, film, methods=["grad_cam"], settings=settings).neighbours
    assert near is not None and (near.count, near.of, near.part) == (4, 6, "train")
    assert {f.finding: f.overall for f in near.findings} == {"Effusion": 0.6, "Unheard_of": None}


def test_a_part_without_images_and_an_unknown_one_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "open_model", lambda choice: MODEL)
    table = table_of(tmp_path, 3)
    with pytest.raises(InputError, match=r"has 0 images in 'val' \(its parts: train\) — choose another --split"):
        build_neighbours(table, tmp_path / "index", split="val")
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        build_neighbours(table, tmp_path / "index", split="trian")
    assert not (tmp_path / "index").exists()
