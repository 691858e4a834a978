"""The command line as a user meets it: bad calls end in one sentence and status 2, good ones in pages that verify."""

from __future__ import annotations

import ast
import errno
import gc
import io
import json
import logging
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pydicom
import pytest
import typer
from PIL import Image as PillowImage
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from storyxai import cli, console
from storyxai.cli import options, programs
from storyxai.errors import OutputError, StoryxaiError
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_named
from storyxai.models.runtime import SHIPPED
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs import tell as telling
from storyxai.story.words import words_of
from storyxai.types import Remark

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "phantom.toml"
CR, CT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.2"
FEW = ("--samples", "100")
MOST_BYTES = 1_500_000_000
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
sys.stdout.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


class Ended(NamedTuple):
    """How a call ended: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on standard error, after any line of progress."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


Call = Callable[..., Ended]
"""A call of the command with these words, in this process."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process: call("tell", path, "--out", folder)."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["storyxai", *map(str, words)])
        capsys.readouterr()
        status: object = 0
        try:
            cli.main()
        except SystemExit as leave:
            status = leave.code or 0
        said = capsys.readouterr()
        assert isinstance(status, int)
        return Ended(status, said.out, said.err)

    return run


@pytest.fixture(scope="module")
def student() -> Path:
    """The folder of the student that comes along; skips, saying so, while there is none."""
    if not (SHIPPED / "card.json").is_file():
        pytest.skip("the shipped student is absent: src/storyxai/models/shipped/card.json")
    return SHIPPED


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a PNG file."""
    path = tmp_path_factory.mktemp("film") / "film.png"
    _write_png(path, generate_phantom(7, size=256).image.pixels)
    return path


@pytest.fixture(scope="module")
def told(student: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one real run of the program wrote about `film`: the study's folder."""
    out = tmp_path_factory.mktemp("told")
    done = _run("tell", film, "--out", out, "--model", student, *FEW, "--json")
    assert done.returncode == 0, done.stderr
    (study,) = json.loads(done.stdout)["told"]
    return Path(study["folder"])


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "storyxai", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_bad_file_leaves_no_output_folder(call: Call, tmp_path: Path) -> None:
    """Nothing half-written: not even an empty folder, nor its parents."""
    empty = tmp_path / "empty.png"
    empty.touch()
    assert call("tell", empty, "--out", tmp_path / "new" / "stories").status == 2
    assert not (tmp_path / "new").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    assert call("tell", empty, "--out", mine).status == 2
    assert mine.is_dir()


def test_one_bad_file_among_several_is_left_out_by_name(
    call: Call, student: Path, film: Path, tmp_path: Path
) -> None:
    """A folder of films is told though one of them is broken and one is no radiograph; the status says so."""
    films = tmp_path / "films"
    films.mkdir()
    shutil.copy(film, films / "b.png")
    (films / "a.png").write_text("no picture")
    _write_png(films / "c.png", np.full((256, 256), 0.5, dtype=np.float32))
    ended = call("tell", films, "--out", tmp_path / "out", "--model", student, "--audience", "patient", *FEW, "--json")
    assert ended.status == 2
    told = json.loads(ended.out)["told"]
    assert ["not_told" in item for item in told] == [True, False, True]
    assert [item.get("exit_status") for item in told] == [2, None, 3]
    assert "a.png" in ended.err and "c.png" in ended.err and "Traceback" not in ended.err
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_progress_elsewhere_than_on_a_terminal_is_few_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Short work says its start and its end; long work a line at every tenth, never two within a second."""
    clock = iter(np.arange(0.0, 100.0, 0.01))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.shown_progress() as progress:
        for done in range(1, 21):
            progress("reading", done, 20)
    assert capsys.readouterr().err.splitlines() == ["reading (1/20)", "reading (20/20)"]
    clock = iter(np.arange(0.0, 1000.0, 0.7))
    with console.shown_progress() as progress:
        for done in range(1, 21):
            progress("reading", done, 20)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "reading (1/20)" and said[-1] == "reading (20/20)" and 8 <= len(said) <= 11


def test_version_is_said(call: Call) -> None:
    """The version of the package, and nothing else."""
    from importlib.metadata import version

    ended = call("--version")
    assert (ended.status, ended.out) == (0, f"storyxai {version('storyxai')}\n")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    PillowImage.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)


def _png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixel data are a few bytes: nothing was allocated to make it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _dicom(*, modality: str, sop_class: str) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = sop_class, "1.2.3.4", modality
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = np.arange(4096, dtype=np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = sop_class, "1.2.3.4"
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


BAD_FILES = {
    "empty.png": b"",
    "text.png": b"this is no picture, it is a sentence\n",
    "cut.dcm": _dicom(modality="CR", sop_class=CR)[:-3000],
    "slice.dcm": _dicom(modality="CT", sop_class=CT),
    "huge.png": _png_of_size(20_000, 20_000),
    "one.png": _png_of_size(1, 1),
}


def _assert_refused(ended: Ended, *says: str) -> None:
    assert ended.status == 2, ended
    assert ended.out == ""
    assert ended.err.count("\n") == 1, f"more than one line: {ended.err}"
    assert ended.sentence.startswith("storyxai: ")
    assert "Traceback" not in ended.err
    for words in says:
        assert words in ended.sentence


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_in_one_sentence_and_leaves_nothing(
    name: str, call: Call, student: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    path.write_bytes(BAD_FILES[name])
    _assert_refused(call("tell", path, "--out", out, *FEW), name)
    assert not list(out.rglob("*"))


def test_a_missing_file_is_named_before_anything_is_made(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _assert_refused(call("tell", tmp_path / "gone.png", "--out", out), "gone.png", "no such file")
    assert not out.exists()


def test_a_place_that_cannot_be_written_is_named(call: Call, film: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    for out in (in_the_way, in_the_way / "deeper"):
        _assert_refused(call("tell", film, "--out", out), str(out), "cannot be written")
    assert in_the_way.read_text() == "not a folder"


def test_a_name_that_is_too_long_is_one_sentence(call: Call, film: Path, tmp_path: Path) -> None:
    """Python's own error went through to a traceback, whichever option bore the name."""
    long = tmp_path / ("n" * 300)
    out = ("--out", tmp_path / "out")
    for words in (("--out", long), (*out, "--model", long), (*out, "--concepts", long)):
        _assert_refused(call("tell", film, *words), "nnn", "long")
    assert list(tmp_path.glob("n*")) == []


@pytest.mark.parametrize("full_at", ["write_bytes", "mkdtemp"])
def test_a_full_disk_is_told_by_the_name_that_was_typed(
    full_at: str, call: Call, film: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by that of the hidden folder in which the files are made: that one is gone when the reader looks for it."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path if full_at == "write_bytes" else tempfile, full_at, full)
    stories, map_ = tmp_path / "stories", tmp_path / "maps" / "map.png"
    words = ("tell", film, "--model", student, "--out", stories, *FEW)
    for out, ended in ((stories, call(*words)), (map_, call("explain", film, "--finding", "Mass", "--out", map_, *FEW))):
        _assert_refused(ended, "free some space")
        assert ended.sentence.startswith(f"storyxai: {out}: cannot be written (No space left on device)")
    assert not stories.exists() and not map_.parent.exists()


def test_a_scorecard_on_a_full_disk_is_told_in_a_sentence(
    call: Call, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("storyxai.programs.evaluate.evaluate_student", full)
    ended = call("evaluate", "--data", tmp_path / "t.parquet", "--out", tmp_path / "score", "--model", student)
    _assert_refused(ended, f"{tmp_path / 'score'}: cannot be written (No space left on device)")


def test_a_file_whose_folder_cannot_be_made_is_named_itself(call: Call, film: Path, tmp_path: Path) -> None:
    """The reader typed the file's name, perhaps without any folder: "." would not say which option is meant."""
    (tmp_path / "file").write_text("not a folder")
    png, table = tmp_path / "file" / "map.png", tmp_path / "file" / "t.parquet"
    _assert_refused(call("explain", film, "--finding", "Mass", "--out", png), f"{png}: cannot be written")
    _assert_refused(call("data", "import", "phantom", tmp_path, "--out", table), f"{table}: cannot be written")


def test_an_unknown_name_is_answered_with_the_nearest(call: Call, film: Path, student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _assert_refused(call("tell", film, "--out", out, "--audience", "patient,clinicain"), "'clinicain'", "'clinician'")
    _assert_refused(call("data", "import", "kermani", tmp_path, "--out", out), "'kermani'", "'kermany'")
    _assert_refused(call("tell", film, "--out", out, "--language", "eng"), "'eng'", "'en'")
    _assert_refused(call("evaluate", "--data", film, "--out", out, "--split", "unsen"), "'unsen'", "'unseen'")
    _assert_refused(call("teach", RECIPE, "--out", out, "--task", "finding"), "'finding'", "'findings'")
    _assert_refused(call("tell", film, "--out", out, "--audienc", "patient"), "--audienc", "--audience")
    for option, given, meant in (("--finding", "Efusion", "'Effusion'"), ("--method", "gradcam", "'grad_cam'")):
        words = {"--finding": "Effusion", "--method": "lime", option: given}
        options = [word for pair in words.items() for word in pair]
        _assert_refused(call("explain", film, *options, "--out", out / "map.png"), given, meant)
    assert not out.exists()


def test_an_unknown_recipe_key_is_answered_with_the_nearest(call: Call, tmp_path: Path) -> None:
    recipe, out = tmp_path / "wrong.toml", tmp_path / "out"
    recipe.write_text('name = "x"\nseed = 1\n[data]\nsize = 64\nphantom_trian = 4\n')
    _assert_refused(call("pipeline", recipe, "--out", out), "wrong.toml", "data.phantom_trian", "'data.phantom_train'")
    _assert_refused(call("pipeline", tmp_path / "none.toml", "--out", out), "none.toml", "does not exist")
    assert not out.exists()


def test_altered_weights_are_not_used(call: Call, film: Path, student: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(student, model)
    for path in model.iterdir():
        if path.name == "card.json":
            continue
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        _assert_refused(call("tell", film, "--out", out, "--model", model), path.name, "SHA-256")
        path.write_bytes(data)
    _assert_refused(call("tell", film, "--out", out, "--model", tmp_path), "card.json")
    (tmp_path / "net.onnx").mkdir()
    _assert_refused(call("tell", film, "--out", out, "--model", tmp_path / "net.onnx"), "net.onnx", "no file")
    assert not list(out.rglob("*"))


def test_a_usage_error_is_one_sentence_too(call: Call) -> None:
    _assert_refused(call("tel"), "'tell'")
    _assert_refused(call("tell"), "--help")
    assert call("data").sentence == "storyxai: Missing command. (see --help)"
    _assert_refused(call("data", "phantom", "--count", "none", "--out", "x"), "--count")


def test_the_program_itself_refuses_within_its_memory(student: Path, tmp_path: Path) -> None:
    # The largest claim and the cut DICOM (whose decoder runs in a process of its own), as a user would call it.
    out = tmp_path / "out"
    for name in ("huge.png", "cut.dcm"):
        path = tmp_path / name
        path.write_bytes(BAD_FILES[name])
        # A process in between, because a child's peak cannot be told from those of other tests' children.
        words = [sys.executable, "-m", "storyxai", "tell", str(path), "--out", str(out), "--model", str(student)]
        call = [sys.executable, "-c", MEASURED, *words]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=False)
        _assert_refused(Ended(done.returncode, "", done.stderr), name)
        assert 10_000_000 < int(done.stdout) * 1024 < MOST_BYTES  # kilobytes on Linux
    assert not list(out.rglob("*"))


def test_an_image_that_is_no_chest_is_refused_with_status_3(call: Call, student: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "noise.png", tmp_path / "out"
    _write_png(path, np.random.default_rng(0).random((256, 256)))
    ended = call("tell", path, "--out", out, *FEW)
    assert ended.status == 3
    assert ended.sentence.startswith("storyxai: refused: noise.png: ")
    assert "—" in ended.sentence, "a refusal says what to do"
    assert not list(out.rglob("*"))


@pytest.mark.parametrize("words", [("tell", "", "--out", "stories"), ("tell", "film.png", "--out", ""), ("verify", "")])
def test_an_empty_word_is_not_the_current_folder(call: Call, words: tuple[str, ...], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write_png(tmp_path / "film.png", generate_phantom(7, size=128).image.pixels)
    _assert_refused(call(*words), "an argument is empty", "not set")
    assert [path.name for path in tmp_path.iterdir()] == ["film.png"]


def test_of_a_young_childs_film_nothing_is_told(call: Call, student: Path, tmp_path: Path) -> None:
    """The student learned no finding from children under eleven, and told of one whose header says three years all the same."""
    levels = np.round(generate_phantom(7, size=256).image.pixels * 4095).astype(np.uint16)
    header = pydicom.dcmread(io.BytesIO(_dicom(modality="CR", sop_class=CR)))
    header.Rows, header.Columns, header.BitsStored, header.HighBit = *levels.shape, 12, 11
    header.PixelData, header.PatientAge, header.ViewPosition = levels.tobytes(), "003Y", "AP"
    header.save_as(tmp_path / "child.dcm", enforce_file_format=True)
    ended = call("tell", tmp_path / "child.dcm", "--out", tmp_path / "out", "--audience", "clinician", *FEW, "--json")
    assert ended.status == 0, ended.err
    (study,) = json.loads(ended.out)["told"]
    assert {finding["tier"] for finding in study["findings"].values()} == {"cannot_tell"}
    assert "younger than nearly everyone from whose films the model learnt findings" in ended.out
    record = json.loads((Path(study["folder"]) / "evidence.json").read_bytes())
    assert record["doubts"] == ["gate.age"] and call("verify", study["folder"]).status == 0


def test_the_same_call_twice_writes_the_same_bytes(call: Call, told: Path, film: Path, tmp_path: Path) -> None:
    ended = call("tell", film, "--out", tmp_path, *FEW)  # `told` came from another process
    assert ended.status == 0, ended.err
    again = tmp_path / told.name
    names = {path.name for path in told.iterdir()}
    pages = {"clinician.html", "practitioner.html", "patient.html", "auditor.html"}
    assert names == {"evidence.json", "arrays.npz", *pages} == {path.name for path in again.iterdir()}
    for name in sorted(names):
        assert (again / name).read_bytes() == (told / name).read_bytes(), name


def test_fewer_readers_are_told_the_same(call: Call, told: Path, film: Path, tmp_path: Path) -> None:
    assert call("tell", film, "--out", tmp_path, "--audience", "patient", *FEW).status == 0
    one = tmp_path / told.name
    assert sorted(path.name for path in one.glob("*.html")) == ["patient.html"]
    assert (one / "patient.html").read_bytes() == (told / "patient.html").read_bytes()


def test_verify_passes_what_was_told(call: Call, told: Path) -> None:
    ended = call("verify", told, "--json")
    said = json.loads(ended.out)
    assert ended.status == 0
    assert said["problems"] == []
    (study,) = said["studies"]
    assert study["folder"] == str(told) and len(study["pages"]) == 4
    assert study["sentences"] > 40


def test_verify_looks_at_each_of_many_studies(call: Call, told: Path, tmp_path: Path) -> None:
    """`storyxai verify stories/study-*` with more than one study; one that is broken does not hide the next."""
    first, second, none = tmp_path / "study-a", tmp_path / "study-b", tmp_path / "study-c"
    for folder in (first, second):
        shutil.copytree(told, folder)
    both = call("verify", first, second)
    assert both.status == 0 and both.out.count("every citation resolves") == 2
    (first / "arrays.npz").write_bytes(b"")
    ended = call("verify", first, none, second, "--json")
    said = json.loads(ended.out)
    assert ended.status == 2
    assert [bool(study["problems"]) for study in said["studies"]] == [True, True, False]
    assert any(line.startswith(f"{none}: holds no evidence.json") for line in said["problems"])


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_telling_again_keeps_what_others_laid_there(call: Call, told: Path, film: Path, tmp_path: Path) -> None:
    study = tmp_path / told.name
    shutil.copytree(told, study)
    (study / "notes.txt").write_text("mine")
    (study / "mine").mkdir()
    before = {name: data for path in (study,) for name, data in ((p.name, p.read_bytes()) for p in path.glob("*.*"))}
    assert call("tell", film, "--out", tmp_path, "--audience", "patient", *FEW).status == 0
    assert (study / "mine").is_dir()
    assert {path.name: path.read_bytes() for path in study.glob("*.*")} == before


def test_other_readers_pages_follow_evidence_that_changed(call: Call, told: Path, film: Path, tmp_path: Path) -> None:
    """Told again with another seed for one reader: the other pages would tell of evidence that is no longer there."""
    study = tmp_path / told.name
    shutil.copytree(told, study)
    (study / "auditor.html").write_text("<p>somebody's own page")
    assert call("tell", film, "--out", tmp_path, "--audience", "patient", "--seed", 1, *FEW).status == 0
    assert (study / "clinician.html").read_bytes() != (told / "clinician.html").read_bytes()
    assert (study / "auditor.html").read_text() == "<p>somebody's own page"
    (study / "auditor.html").unlink()
    ended = call("verify", study)
    assert ended.status == 0 and "3 stories" in ended.out, ended.out


@pytest.mark.parametrize("at", ["storyxai.programs.tell.render_html", "storyxai.programs.tell.replace_files"])
def test_a_failed_second_telling_leaves_the_first(
    at: str, call: Call, told: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / told.name
    shutil.copytree(told, study)
    before = _contents(study)

    def fail(*_: object, **__: object) -> None:
        raise StoryxaiError("a fault of ours") if "render" in at else OutputError("there", "cannot be written")

    monkeypatch.setattr(at, fail)
    assert call("tell", film, "--out", tmp_path, "--seed", 1, *FEW).status in (1, 2)
    assert _contents(study) == before


def test_too_little_memory_is_one_sentence(call: Call, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ulimit -v` ended in a traceback."""
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(telling, "tell", full)
    ended = call("tell", film, "--out", tmp_path / "out")
    assert ended.status == 2 and "too little memory" in ended.sentence and "ulimit" in ended.sentence


def test_a_library_that_finds_no_room_is_one_sentence_too(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a limit of 500 MB scipy said "failed to map segment from shared object", in a traceback."""

    def full(*_: object, **__: object) -> None:
        raise ImportError("libx.so: failed to map segment from shared object")

    monkeypatch.setattr(telling, "tell", full)
    _assert_refused(call("tell", tmp_path, "--out", tmp_path / "out"), "too little memory", "ulimit -v")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a process, as Linux does")
def test_half_a_gigabyte_of_address_space_ends_in_one_sentence(film: Path, tmp_path: Path) -> None:
    """It ran without an end: OpenBLAS looked for room for the buffers of its threads."""
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (500_000 * 1024,) * 2); from storyxai.cli import main; main()"
    )
    words = ["tell", str(film), "--out", str(tmp_path / "out")]
    free = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    ended = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=120, env=free)
    assert ended.returncode == 2 and "too little memory" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_only_our_own_lines_reach_the_console(
    call: Call, film: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever other packages warn of or log while a file is read."""
    real = telling.read_image

    def noisy(path: Path, **given: Any) -> object:
        warnings.warn("a third party's warning", UserWarning, stacklevel=1)
        np.log(np.zeros(1))  # numpy's own RuntimeWarning
        logging.getLogger("pydicom").warning("a third party's log")
        logging.getLogger("somebody.else").error("another one's")
        return real(path, **given)

    monkeypatch.setattr(telling, "read_image", noisy)
    ended = call("tell", film, "--out", tmp_path, "--audience", "patient", *FEW)
    assert ended.status == 0
    assert ended.err == "telling (1/1)\n"


def test_verify_finds_an_edited_page_a_changed_number_and_a_changed_array(
    call: Call, told: Path, tmp_path: Path
) -> None:
    def spoil_page(text: bytes) -> bytes:
        return text.replace(b"not for diagnostic use", b"for diagnostic use", 1)

    def spoil_number(text: bytes) -> bytes:
        record = json.loads(text)
        finding = next(iter(record["findings"].values()))
        finding["probability"] = 1 - finding["probability"]
        return json.dumps(record, sort_keys=True).encode()

    def spoil_array(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    for name, spoil in (("patient.html", spoil_page), ("evidence.json", spoil_number), ("arrays.npz", spoil_array)):
        folder = tmp_path / name
        shutil.copytree(told, folder)
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(spoil(before))
        assert (folder / name).read_bytes() != before
        ended = call("verify", folder)
        assert ended.status == 2, name
        assert name in ended.out + ended.err
        assert "Traceback" not in ended.err
    (tmp_path / "none").mkdir()
    _assert_refused(call("verify", tmp_path / "none"), "holds no evidence.json")


@pytest.mark.parametrize("method", ["grad_cam", "lime"])
def test_explain_draws_a_map_and_keeps_its_raw_values(
    method: str, call: Call, film: Path, student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map.png"
    words = ("explain", film, "--finding", "pleural effusion", "--method", method, "--out", out, "--json")
    ended = call(*words, *FEW)
    assert ended.status == 0, ended.err
    said = json.loads(ended.out)
    values = np.load(tmp_path / "map.npy", allow_pickle=False)
    assert values.shape == (256, 256)
    assert (said["finding"], said["method"]) == ("Effusion", method)
    assert (said["minimum"], said["maximum"]) == (float(values.min()), float(values.max()))
    assert said["shown"] is (said["withheld_because"] == "")
    with PillowImage.open(out) as picture:
        assert picture.format == "PNG"
    _assert_refused(call("explain", film, "--finding", "Mass", "--out", tmp_path / "map.jpg"), "PNG")
    (tmp_path / "folder.png").mkdir()
    _assert_refused(call("explain", film, "--finding", "Mass", "--out", tmp_path / "folder.png"), "is a folder")
    assert {"inside_lungs", "methods_agree", "not_empty"} < set(said["checks"])


@pytest.mark.parametrize(("typed", "machine", "called"), [("lime", "lime", "LIME"), ("Grad-CAM", "grad_cam", "Grad-CAM")])
def test_explain_calls_methods_as_the_field_does(
    typed: str, machine: str, called: str, call: Call, film: Path, student: Path, tmp_path: Path
) -> None:
    """In text; the JSON keeps the machine's names. Pleural_Thickening and inside_lungs are no words either."""
    words = ("explain", film, "--finding", "Pleural Thickening", "--method", typed, "--out", tmp_path / "map.png", *FEW)
    text = call(*words).out
    assert f"map.png: {called} of Pleural Thickening, " in text and "  inside lungs: " in text
    assert not re.search(r"\b(lime|grad_cam)\b|[a-z]_[A-Za-z]", text.replace(str(tmp_path), ""))
    said = json.loads(call(*words, "--json").out)
    assert (said["finding"], said["method"]) == ("Pleural_Thickening", machine) and "inside_lungs" in said["checks"]


def test_explain_says_of_a_map_what_tell_says(call: Call, told: Path, film: Path, tmp_path: Path) -> None:
    """A map that `explain` calls good and `tell` withholds would leave the reader with two answers."""
    record = json.loads((told / "evidence.json").read_bytes())
    finding = next(name for name, maps in record["heatmaps"].items() if "lime" in maps)
    for method, kept in record["heatmaps"][finding].items():
        words = ("explain", film, "--finding", finding, "--method", method, "--out", tmp_path / "map.png", "--json")
        said = json.loads(call(*words, *FEW).out)
        why = words_of(modality_named(DEFAULT_MODALITY)).say(*msgspec.convert(kept["withheld_because"], tuple[Remark, ...]))
        assert (said["shown"], said["withheld_because"]) == (kept["shown"], why)
        assert set(said["checks"]) == set(record["checks"][finding][method])


def test_explain_refuses_what_tell_refuses(call: Call, student: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    _write_png(tmp_path / "noise.png", pixels)
    out = tmp_path / "maps" / "map.png"
    ended = call("explain", tmp_path / "noise.png", "--finding", "Mass", "--out", out, *FEW)
    assert ended.status == 3 and ended.sentence.startswith("storyxai: refused: noise.png: ")
    assert not out.parent.exists()
    assert call("explain", tmp_path / "noise.png", "--finding", "Mass", "--out", out, "--force", *FEW).status == 0
    assert out.is_file()


def test_phantoms_import_and_evaluate_on_a_small_scale(call: Call, student: Path, tmp_path: Path) -> None:
    folder, table, score = tmp_path / "phantoms", tmp_path / "table.parquet", tmp_path / "score"
    assert call("data", "phantom", "--count", 8, "--size", 128, "--out", folder).status == 0
    _assert_refused(call("data", "phantom", "--count", 1, "--out", folder), "is there already")
    imported = json.loads(call("data", "import", "phantom", folder, "--out", table, "--json").out)
    assert imported["images"] == 8 == sum(imported["splits"].values())
    ended = call("evaluate", "--data", table, "--split", "all", "--bootstrap", 50, "--out", score, "--json")
    assert ended.status == 0, ended.err
    record = json.loads((score / "scorecard.json").read_bytes())
    assert "student" in {model["role"] for model in record["models"]}
    assert (score / "scorecard.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert json.loads(ended.out)["scorecard"] == str(score / "scorecard.json")


VERBS = (
    "tell", "index", "compare", "gallery", "release", "verify", "export", "deidentify", "explain", "evaluate", "pipeline",
    "teach", "distil", "ablate", "crossvalidate", "log verify", "serve-dicom", "watch-folder",
    "dicomweb find", "dicomweb fetch", "dicomweb store",
    "concepts", "neighbours build",
    "data phantom", "data import", "data check", "data weights",
)


def test_every_program_is_there_when_its_verb_is_typed() -> None:
    """Each is named twice: for the type checker, and to be loaded late. What stands in one list alone ends in a NameError."""
    named = {alias.asname or alias.name for node in ast.walk(ast.parse(Path(programs.__file__).read_text(encoding="utf-8")))
             if isinstance(node, ast.ImportFrom) and node.module == "storyxai.programs" for alias in node.names}  # fmt: skip
    assert len(named) > 15 and named == set(programs.__all__)
    assert not [name for name in named if not hasattr(programs, name)]


def test_every_verb_is_in_the_list_of_verbs(call: Call) -> None:
    listed = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    listed |= {f"data {command.name}" for command in options.data_app.registered_commands}
    listed |= {f"log {command.name}" for command in options.log_app.registered_commands}
    listed |= {f"neighbours {command.name}" for command in options.neighbours_app.registered_commands}
    listed |= {f"dicomweb {command.name}" for command in options.dicomweb_app.registered_commands}
    assert listed == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_shows_an_example_of_it(verb: str, call: Call) -> None:
    ended = call(*verb.split(), "--help")
    assert ended.status == 0
    assert "Example:" in ended.out
    shown = " ".join(ended.out.split())
    assert f"storyxai {verb}" in shown
    # What stands in brackets was taken for a colour once, and "storyxai[hospital]" lost its end.
    command = typer.main.get_command(cli.app)
    for name in verb.split():
        command = command.commands[name]
    assert " ".join((command.help or "").replace("`", "").split()) in shown


def test_without_words_the_program_says_what_it_can_do_and_that_it_is_for_research(call: Call) -> None:
    ended = call("--help")
    assert ended.status == 0
    assert "Research use only" in ended.out


REAL = ("nih", "covid")


@pytest.mark.real
def test_real_films_are_told_and_verified(call: Call, student: Path, real_data: Path, tmp_path: Path) -> None:
    # The first file of a folder that the gate lets pass: sets of web images hold odd ones, which it may refuse.
    told = 0
    for name in REAL:
        for path in sorted((real_data / name / "images").iterdir())[:5]:
            out = tmp_path / name
            ended = call("tell", path, "--out", out, "--audience", "clinician,patient", *FEW)
            assert ended.status in (0, 3), ended.err
            if ended.status == 0:
                (study,) = out.iterdir()
                assert call("verify", study).status == 0
                told += 1
                break
    assert told == len(REAL)


@pytest.mark.real
def test_real_dicom_is_told_upright_and_what_is_no_chest_is_not(
    call: Call, student: Path, real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "dicom"
    out = tmp_path / "chest"
    ended = call("tell", folder / "RG1_J2KI.dcm", "--out", out, "--audience", "clinician", *FEW)
    assert ended.status == 0, ended.err
    (study,) = out.iterdir()
    record = json.loads((study / "evidence.json").read_bytes())
    assert "note_monochrome1" in [note["code"] for note in record["study"]["image"]["notes"]]
    assert call("verify", study).status == 0
    for path in sorted((folder / "odd").glob("*.dcm")):
        refused = call("tell", path, "--out", tmp_path / "odd", *FEW)
        assert refused.status in (2, 3), path.name
        assert path.name in refused.sentence
    assert not list((tmp_path / "odd").rglob("*"))


@pytest.mark.parametrize("typed", ["A,B", " A , B ,", "A,,B", '"A","B"', "'A,B'", "“A”, “B”", "'A', \"B\""])
def test_lists_are_read_without_the_marks_that_shells_hand_on(typed: str) -> None:
    """Where a shell leaves quotation marks, findings were told by names that hold them."""
    assert options.listed(typed) == ("A", "B")


def test_marks_within_a_name_stay() -> None:
    assert options.listed("Crohn's,it's") == ("Crohn's", "it's")


@pytest.mark.parametrize("loaded", ["torch", "onnx"])
def test_objects_are_looked_through_at_the_end_where_a_library_prints_what_is_left(
    loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    for name in ("torch", "onnx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, loaded, ModuleType(loaded))
    cli._leave()
    assert not frozen
    monkeypatch.delitem(sys.modules, loaded)
    cli._leave()
    assert frozen
