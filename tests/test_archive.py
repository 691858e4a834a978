"""The archive: the same bytes for the same evidence, exact reading back, and every alteration found."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import string
import zipfile
from pathlib import Path

import numpy as np
import pytest

from evidence_example import example_evidence, normal_evidence
from storyxai.errors import ArchiveError, OutputError
from storyxai.evidence.archive import ARRAYS_NAME, EVIDENCE_NAME, _npy, read_archive, verify_hashes, write_archive
from storyxai.evidence.record import as_archived, as_record
from storyxai.provenance import canonical_json
from storyxai.types import Evidence
from test_record import same


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(example_evidence(), tmp_path_factory.mktemp("archive") / "study")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_evidence_same_bytes_and_nothing_else_left(tmp_path: Path, written: Path) -> None:
    again = write_archive(example_evidence(), tmp_path / "again")
    assert content(again) == content(written)
    assert set(content(again)) == {EVIDENCE_NAME, ARRAYS_NAME}
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["example", "normal"])
def test_reading_back_is_exact(tmp_path: Path, evidence: Evidence) -> None:
    back = read_archive(write_archive(evidence, tmp_path / "study"))
    assert same(back, evidence)
    assert content(write_archive(back, tmp_path / "copy")) == content(tmp_path / "study")
    assert verify_hashes(tmp_path / "study") == []


@pytest.mark.parametrize("kind", ["eight", "sixteen", "float"])
def test_grey_levels_are_kept_exactly(tmp_path: Path, kind: str) -> None:
    base = normal_evidence()
    rng = np.random.default_rng(5)
    raw = rng.random((31, 17), dtype=np.float32)
    steps = {"eight": 255, "sixteen": 65535}.get(kind)
    pixels = raw if steps is None else (np.rint(raw * steps) / np.float32(steps)).astype(np.float32)
    evidence = dataclasses.replace(base, image=dataclasses.replace(base.image, pixels=pixels))
    folder = write_archive(evidence, tmp_path / "study")
    assert np.array_equal(read_archive(folder).image.pixels, pixels)
    with zipfile.ZipFile(folder / ARRAYS_NAME) as file:
        stored = np.lib.format.read_array(file.open("image.npy"), allow_pickle=False)
    assert stored.dtype == {"eight": np.uint8, "sixteen": np.uint16, "float": np.float32}[kind]


def test_writing_over_keeps_pages_and_replaces_evidence(tmp_path: Path) -> None:
    folder = write_archive(normal_evidence(), tmp_path / "study")
    (folder / "patient.html").write_text("page", encoding="utf-8")
    write_archive(example_evidence(), folder)
    assert (folder / "patient.html").read_text(encoding="utf-8") == "page"
    assert same(read_archive(folder), example_evidence())


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_archive(normal_evidence(), tmp_path / "study")
    before = content(folder)
    real = os.replace

    def fail_on_evidence(source: Path, target: Path) -> None:
        # The first of the two moves has been made when the second fails.
        if Path(target) == folder / EVIDENCE_NAME and Path(source).parent.name != "kept":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", fail_on_evidence)
    with pytest.raises(OutputError, match="No space left"):
        write_archive(example_evidence(), folder)
    monkeypatch.undo()
    assert content(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "study"):
        with pytest.raises(OutputError) as caught:
            write_archive(normal_evidence(), place)
        assert str(place) in str(caught.value) and caught.value.mend
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def altered(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "study"))


def test_every_altered_byte_of_the_arrays_is_found(written: Path, tmp_path: Path) -> None:
    folder = altered(written, tmp_path)
    raw = bytearray((folder / ARRAYS_NAME).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / ARRAYS_NAME).write_bytes(raw)
    with pytest.raises(ArchiveError, match=r"arrays\.npz: was altered") as caught:
        read_archive(folder)
    assert caught.value.mend and verify_hashes(folder) == [str(caught.value)]


def test_altered_numbers_in_the_record_are_found_by_what_follows_from_them(written: Path, tmp_path: Path) -> None:
    folder = altered(written, tmp_path)
    record = json.loads((folder / EVIDENCE_NAME).read_bytes())
    record["findings"]["Effusion"]["interval"] = [0.1, 0.2]
    (folder / EVIDENCE_NAME).write_bytes(canonical_json(record))
    assert len(verify_hashes(folder)) == 1 and "follows from others" in verify_hashes(folder)[0]


def test_missing_old_and_broken_files(written: Path, tmp_path: Path) -> None:
    folder = altered(written, tmp_path)
    text = (folder / EVIDENCE_NAME).read_text(encoding="utf-8")
    for content_, why in (
        ("{", "cannot be read"),
        ("[]", "not of format"),
        (text.replace("storyxai-evidence/4", "storyxai-evidence/9"), "not of format"),
        (text.replace('"items"', '"things"'), "which arrays"),
    ):
        (folder / EVIDENCE_NAME).write_text(content_, encoding="utf-8")
        with pytest.raises(ArchiveError, match=why) as caught:
            read_archive(folder)
        assert EVIDENCE_NAME in str(caught.value) and caught.value.mend
    (folder / EVIDENCE_NAME).write_text(text, encoding="utf-8")
    (folder / ARRAYS_NAME).unlink()
    with pytest.raises(ArchiveError, match=r"arrays\.npz: is missing"):
        read_archive(folder)
    with pytest.raises(ArchiveError, match=r"evidence\.json: is missing"):
        read_archive(tmp_path / "nowhere")


def test_a_folder_of_the_format_before_is_read(written: Path, tmp_path: Path) -> None:
    folder = altered(written, tmp_path)
    record = json.loads((folder / EVIDENCE_NAME).read_bytes())
    old = {**record, "format": "storyxai-evidence/1", "gaps": record["card_gaps"]}
    del old["card_gaps"]
    old["model"]["lungs"] = old["model"].pop("outlines")
    (folder / EVIDENCE_NAME).write_bytes(canonical_json(old))
    assert verify_hashes(folder) == []
    assert same(read_archive(folder), example_evidence())


def test_a_folder_whose_outlines_have_the_name_of_before_is_read(written: Path, tmp_path: Path) -> None:
    folder = altered(written, tmp_path)
    old = {**json.loads((folder / EVIDENCE_NAME).read_bytes()), "format": "storyxai-evidence/3"}
    old["model"]["lungs"] = old["model"].pop("outlines")
    (folder / EVIDENCE_NAME).write_bytes(canonical_json(old))
    assert verify_hashes(folder) == []
    assert same(read_archive(folder), example_evidence())


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (os.environ["STORYXAI_TEST_BOMB"],))


def test_a_pickle_in_the_arrays_is_never_run(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYXAI_TEST_BOMB", str(tmp_path / "bang"))
    pickle.loads(pickle.dumps(Bomb()))
    (tmp_path / "bang").rmdir()
    folder = altered(written, tmp_path)
    with zipfile.ZipFile(folder / ARRAYS_NAME) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    bomb = np.empty((), dtype=object)
    bomb[()] = Bomb()
    with zipfile.ZipFile(folder / ARRAYS_NAME, "w") as file:
        for name, raw in entries.items():
            if name != "image.npy":
                file.writestr(name, raw)
        stream = io.BytesIO()
        np.lib.format.write_array(stream, bomb, allow_pickle=True)
        file.writestr("image.npy", stream.getvalue())
    # Every hash is made to hold, as an attacker would.
    record = json.loads((folder / EVIDENCE_NAME).read_bytes())
    record["arrays"]["items"]["image"]["sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    record["arrays"]["sha256"] = hashlib.sha256((folder / ARRAYS_NAME).read_bytes()).hexdigest()
    (folder / EVIDENCE_NAME).write_bytes(canonical_json(record))
    with pytest.raises(ArchiveError, match="cannot be read as arrays"):
        read_archive(folder)
    assert not (tmp_path / "bang").exists()


def test_as_archived_is_what_the_archive_gives_back(written: Path) -> None:
    kept, read = as_archived(example_evidence()), read_archive(written)
    assert same(kept, read) and as_record(kept) == as_record(read)


def test_arrays_are_written_as_numpy_writes_them() -> None:
    drawn = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for array in (drawn, np.asfortranarray(drawn), np.packbits(drawn > 5), np.zeros((0, 3), np.uint16), drawn[:1, :1]):
        meant = io.BytesIO()
        np.save(meant, array, allow_pickle=False)
        assert _npy(array) == meant.getvalue()


def test_canonical_json_is_that_of_the_json_module_laid_out_by_two_spaces() -> None:
    chance = random.Random(5)
    signs = string.printable + "\u00e4\u2028\0\x7f\U0001f600"

    def value(depth: int) -> object:
        kind = chance.randrange(8 if depth < 4 else 5)
        if kind == 0:
            return chance.choice([None, True, False, 0, -1, 10**18, 0.0, -0.0, 1e-30, 1e300, 1e16])
        if kind == 1:
            return float(f"{chance.gauss(0, 1e6):.6g}")
        if kind < 5:
            return "".join(chance.choice(signs) for _ in range(chance.randrange(9)))
        if kind == 5:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        return {str(value(9)): value(depth + 1) for _ in range(chance.randrange(4))}

    for _ in range(2000):
        one = value(0)
        assert canonical_json(one).decode() == json.dumps(one, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
