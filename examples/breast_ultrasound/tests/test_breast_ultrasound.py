"""The package as somebody would install it: a table of drawn pictures, a student, its scorecard and four stories."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage

from storyxai.data.table import read_table
from storyxai.errors import GateRefusal, ReadError, TableError
from storyxai.evidence.gather import look_at
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.modalities.registry import modality_named
from storyxai.models.runtime import Student, load_student
from storyxai.phantoms.generate import write_phantoms
from storyxai.programs import recipes
from storyxai.programs.data import import_data
from storyxai.programs.models import ModelChoice
from storyxai.programs.tell import TellOptions, Told, tell
from storyxai.programs.verify import verify
from storyxai.story.tell import AUDIENCES

HERE = Path(__file__).resolve().parents[1]
SIZE, COUNT = 96, 36
CHEST = re.compile(r"\blungs?\b|\bLunge|heart|chest|x-ray|radiograph|\bfilms?\b", re.IGNORECASE)  # "Beurteilung" is no lung


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package as pip leaves it: importable, with the entry points that its own pyproject.toml names."""
    about = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"breast_ultrasound-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    groups = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
              for group, points in about["entry-points"].items())
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE / "src"))
        patch.syspath_prepend(str(site))
        yield


def drawn(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture of layers that fade with depth, with a smooth dark mass, a ragged one, or none; and the mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    layers = np.repeat(rng.random(SIZE // 4), 4)[:, None]
    grey = 0.25 + 0.35 * layers + 0.25 * (1 - y) + 0.05 * rng.random((SIZE, SIZE))
    angle = np.arctan2(y - 0.5, x - 0.5)
    edge = 0.2 + (0.06 * np.sign(np.sin(9 * angle)) if kind == "malignant" else 0)
    mask = np.hypot(x - 0.5, y - 0.5) < edge if kind != "normal" else np.zeros((SIZE, SIZE), dtype=bool)
    grey[mask] = 0.12
    return (255 * grey.clip(0, 1)).astype(np.uint8), mask


@pytest.fixture(scope="module")
def folder(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BUSI's published layout, drawn: every second picture with its mask."""
    folder = tmp_path_factory.mktemp("BUSI")
    for number in range(COUNT):
        kind = ("benign", "malignant", "normal")[number % 3]
        (folder / kind).mkdir(exist_ok=True)
        grey, mask = drawn(kind, number)
        Picture.fromarray(grey).save(folder / kind / f"{kind} ({number}).png")
        if number % 2:
            Picture.fromarray(255 * mask.astype(np.uint8)).save(folder / kind / f"{kind} ({number})_mask.png")
    return folder


@pytest.fixture(scope="module")
def student(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Student:
    """The recipe's student at toy size."""
    run = tmp_path_factory.mktemp("run")
    import_data("busi", folder, run / "busi.parquet")
    text = (HERE / "busi.toml").read_text(encoding="utf-8").replace("busi.parquet", (run / "busi.parquet").as_posix())
    small = {"size = 128": "size = 64", "views = 4": "views = 1", "bootstrap = 1000": "bootstrap = 20",
             "min_positives = 5": "min_positives = 1"}
    for old, new in small.items():
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"epochs = \d+", "epochs = 1", re.sub(r"(width|hidden) = \d+", r"\1 = 16", text))
    text = re.sub(r'weights = ".*"\n', "", re.sub(r'encoder = "\w+"', 'encoder = "mobilenetv3_small_050"', text))
    (run / "toy.toml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:  # to export networks anew only to time them takes longest
        patch.setattr("storyxai.programs.pipeline.network_speeds", lambda *_, **__: {"models": []})
        recipes.pipeline(run / "toy.toml", run / "run")
    return load_student(run / "run" / "model")


def test_the_published_layout_becomes_a_table_of_the_modality(folder: Path, tmp_path: Path) -> None:
    report = import_data("busi", folder, tmp_path / "busi.parquet")
    table = read_table(tmp_path / "busi.parquet")
    assert report.positives == {"Benign_mass": COUNT // 3, "Malignant_mass": COUNT // 3}
    assert (table.schema.modality, table.schema.structures, len(table)) == ("breast_ultrasound", ("mass",), COUNT)
    assert int((table.frame["masks"] != "{}").sum()) == COUNT // 2 and report.weights_may_be_shipped is False
    with pytest.raises(TableError, match="holds no picture of BUSI"):
        import_data("busi", tmp_path, tmp_path / "none.parquet")


def test_the_student_knows_both_findings_and_draws_the_mass(student: Student) -> None:
    assert (student.findings, student.structure_names) == (("Benign_mass", "Malignant_mass"), ("mass",))
    assert student.modality.grammar is None and "report" not in student.tasks
    record = json.loads((student.folder.parent / "scorecard.json").read_bytes())
    judged = next(model for model in record["models"] if model["name"] == "student")
    assert [mask["mask"] for mask in judged["masks"]] == ["mass"] and judged["reports"] is None
    assert "not to be passed on" in student.card.licence
    assert not CHEST.search(" ".join(student.card.limits))


def test_an_outline_goes_with_both_findings(installed: None) -> None:
    (mass,) = modality_named("breast_ultrasound").structures
    assert mass.shown_with == ("Benign_mass", "Malignant_mass")


def test_four_stories_are_told_that_name_no_other_organ(student: Student, folder: Path, tmp_path: Path) -> None:
    picture = folder / "malignant" / "malignant (1).png"
    (told,) = tell([picture], tmp_path, TellOptions(model=ModelChoice(student.folder), samples=100))
    assert isinstance(told, Told) and set(told.findings) == set(student.findings)
    assert not verify(told.folder).problems
    for audience in AUDIENCES:
        page = (told.folder / f"{audience}.html").read_text(encoding="utf-8")
        said = re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
        assert not CHEST.search(said), (audience, CHEST.search(said))


def test_a_german_page_says_no_english(student: Student, folder: Path, tmp_path: Path) -> None:
    picture = folder / "malignant" / "malignant (1).png"
    options = TellOptions(model=ModelChoice(student.folder), samples=100, language="de")
    (told,) = tell([picture], tmp_path, options)
    assert isinstance(told, Told) and not verify(told.folder).problems
    page = (told.folder / "patient.html").read_text(encoding="utf-8").partition("<details")[0]
    said = re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "Ultraschallbild Ihrer Brust" in said and "Notruf" not in said
    assert not re.search(r"\b(the|a lump|looks|mass)\b", said), said


def test_the_gate_refuses_what_is_no_ultrasound_picture(student: Student, folder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, count=1, seed=2, size=128)
    (film,) = (tmp_path / "images").glob("*.png")
    with pytest.raises(GateRefusal, match=r"layers across|fade with depth"):
        look_at(student, read_image(film))
    _, gate = look_at(student, read_image(folder / "normal" / "normal (2).png"))
    passed = {check.name: check.passed for check in gate}
    assert passed["gate.layers"] and passed["gate.fades"] and passed["gate.colour"]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_ultrasound_object_is_read_and_a_chest_model_refuses_it_by_name(
    installed: None, channels: int, tmp_path: Path
) -> None:
    """One frame of a multi-frame object, made here: in grey, and in three equal channels."""
    modality, (grey, _) = modality_named("breast_ultrasound"), drawn("benign", 3)
    path = ultrasound_object(grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2), tmp_path / "us.dcm")
    image = read_image(path, acquisition=modality.acquisition)
    assert np.abs(image.pixels - grey / 255).max() < 0.01 and image.notes == ("body part: BREAST",)
    assert modality.gate is not None
    values = modality.gate.measure(image, None)
    asked = [(rule, value) for rule in modality.gate.rules if (value := values.get(rule.name)) is not None]
    assert [rule.name for rule, value in asked if (value < rule.limit if rule.low else value > rule.limit)] == []
    with pytest.raises(ReadError, match=r"is an ultrasound image \(modality US\), not a projection"):
        read_image(path, acquisition=CHEST_RADIOGRAPH.acquisition)


def ultrasound_object(pixels: np.ndarray, path: Path) -> Path:
    """The file of a DICOM object of ultrasound with one frame. Shapes: uint8 [H, W] or [H, W, 3]."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3.4"
    dataset.Modality, dataset.BodyPartExamined, dataset.NumberOfFrames = "US", "BREAST", 1
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path
