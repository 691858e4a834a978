"""Cross-validation: nobody is judged by a student that saw them, a cut run goes on, and figures are those by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from sklearn.metrics import roc_auc_score

from storyxai.data.table import StudyRow, StudyTable
from storyxai.errors import ArchiveError, InputError, RecipeError
from storyxai.models.card import Calibration
from storyxai.programs.crossvalidate import CrossValidated, crossvalidate
from storyxai.scorecard.crossvalidation import Judged, judge_sets, operating_point, view_scores
from storyxai.training import crossvalidation as module
from storyxai.training.crossvalidation import patient_hash
from storyxai.types import RESEARCH_USE

RECIPE = """
name = "toy"
seed = 1
[data]
size = 64
phantom_train = 0
phantom_validation = 0
phantom_test = 0
tables = ["TABLE"]
[teacher_findings]
encoder = "mobilenetv3_small_050"
epochs = 1
width = 8
hidden = 8
batch_size = 8
[teacher_masks]
encoder = "mobilenetv3_small_050"
epochs = 1
[teacher_report]
encoder = "mobilenetv3_small_050"
epochs = 1
[student]
encoder = "mobilenetv3_small_050"
width = 8
hidden = 8
batch_size = 8
deepest = 16
tasks = ["findings"]
[distillation]
views = 1
[calibration]
threshold = "sensitivity"
replicates = 20
[evaluation]
bootstrap = 20
[[rounds]]
network = "student"
name = "only"
epochs = 1
learning_rate = 0.001
teachers = ["findings"]
"""


def toy_run(folder: Path, *, patients: int = 16, name: str = "toy") -> Path:
    """A recipe over a table of two images a patient: the even patients have an effusion, of every fourth a nodule."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(patients):
        for image in range(2):
            picture = rng.integers(60, 90, (64, 64), dtype=np.uint8)
            picture[32:, :] += np.uint8(100 * (number % 2 == 0))
            file = f"{name}-{number}-{image}.png"
            Picture.fromarray(picture).save(folder / file)
            labels = {"Effusion": float(number % 2 == 0), "Nodule": float(number % 4 == 0)}
            study, view = f"toy-{number}-{image}", "AP" if image else "PA"
            rows.append(StudyRow(study, f"toy-{number}", file, "toy", view=view, labels=labels))
    table = StudyTable.from_rows(rows, root=folder)
    table.frame["split"] = "train"
    table.write(folder / f"{name}.parquet")
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.replace("TABLE", str(folder / f"{name}.parquet")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrossValidated]:
    folder = tmp_path_factory.mktemp("toy")
    recipe = toy_run(folder)
    return recipe, crossvalidate(recipe, folder / "out", folds=2)


def test_every_patient_is_judged_once_by_students_that_never_saw_it(run: tuple[Path, CrossValidated]) -> None:
    recipe, found = run
    folds = json.loads((found.out / "folds.json").read_bytes())["patients"]
    assert len(folds) == 16 and "toy-3" not in folds
    assert {patient_hash(f"toy-{number}", salt="toy") for number in range(16)} == set(folds)
    seen = set()
    for number in range(2):
        with np.load(found.out / f"fold-{number}" / "answers.npz") as kept:
            patients = {name.rsplit("-", 1)[0] for name in kept["ids"].tolist()}
        assert {folds[patient_hash(patient, salt="toy")] for patient in patients} == {number}
        seen |= patients
    assert len(seen) == 16
    with np.load(found.out / "answers.npz") as kept:
        assert not np.isnan(kept["student"]).any() and not np.isnan(kept["teachers"]).any() and len(kept["ids"]) == 32
    (one,) = found.record.sets
    assert (one.name, one.images, one.patients) == ("toy", 32, 16)
    assert [item.finding for item in one.findings] == ["Effusion", "Nodule"]
    assert one.view_alone.value == pytest.approx(0.5) and one.above_view.value == pytest.approx(one.mean_auroc.value - 0.5)
    assert one.student_minus_teachers is not None and one.minus_beside is None
    page = (found.out / "crossvalidation.html").read_text(encoding="utf-8")
    assert "Effusion" in page and f"{one.mean_auroc.value:.3f}" in page and "<script" not in page
    # It was a page of its own make: no notice on top, no dark look, and wider than a phone.
    assert page.count(RESEARCH_USE) >= 2 and '<div class="scroll"' in page
    assert json.loads((found.out / "crossvalidation.json").read_bytes())["sets"][0]["images"] == 32
    assert recipe.exists()


def test_ended_folds_are_not_trained_again_and_nothing_changes(
    run: tuple[Path, CrossValidated], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, found = run
    before = (found.out / "crossvalidation.json").read_bytes()
    (found.out / "fold-1" / "answers.npz").unlink()
    trained = []
    own = module._run_fold
    monkeypatch.setattr(module, "_run_fold", lambda *given: trained.append(given[2]) or own(*given))
    monkeypatch.setattr(module, "gather_examples", lambda *given, **how: pytest.fail("images were read again"))
    crossvalidate(recipe, found.out, folds=2)
    assert trained == [1] and (found.out / "crossvalidation.json").read_bytes() == before


def test_folds_can_be_trained_one_at_a_time_and_the_record_says_which_have_been(
    run: tuple[Path, CrossValidated], tmp_path: Path
) -> None:
    recipe, found = run
    out = tmp_path / "apart"
    first = crossvalidate(recipe, out, folds=2, only=[1])
    assert not (out / "fold-0").exists() and first.record.folds == 2
    folds = json.loads((out / "folds.json").read_bytes())["patients"]
    mine = {patient for patient, fold in folds.items() if fold == 1}
    with np.load(out / "answers.npz") as kept:
        assert {patient_hash(patient, salt="toy") for patient in kept["patient_ids"].tolist()} == mine
        assert not np.isnan(kept["student"]).any() and set(kept["fold"].tolist()) == {1}
    (one,) = first.record.sets
    assert (one.images, one.patients) == (2 * len(mine), len(mine))
    assert first.record.notes[0].endswith("only their images are judged: 1")
    assert "Of the 2 folds only these" in (out / "crossvalidation.html").read_text(encoding="utf-8")
    crossvalidate(recipe, out, folds=2, only=[0])  # now all have ended: the record is that of one run
    assert (out / "crossvalidation.json").read_bytes() == (found.out / "crossvalidation.json").read_bytes()
    with pytest.raises(InputError, match="fold 2 of 2"):
        crossvalidate(recipe, out, folds=2, only=[2])


def test_another_recipe_is_compared_on_the_same_images(run: tuple[Path, CrossValidated], tmp_path: Path) -> None:
    recipe, found = run
    again = crossvalidate(recipe, found.out, folds=2, beside=found.out)
    (one,) = again.record.sets
    assert one.minus_beside is not None and (one.minus_beside.value, one.minus_beside.low, one.minus_beside.high) == (0, 0, 0)
    with pytest.raises(ArchiveError, match="holds no answers of an ended"):
        crossvalidate(recipe, found.out, folds=2, beside=tmp_path)


def test_other_folds_and_none_are_refused(run: tuple[Path, CrossValidated], tmp_path: Path) -> None:
    recipe, found = run
    with pytest.raises(RecipeError, match="deals other patients, or into other folds"):
        crossvalidate(recipe, found.out, folds=3)
    with pytest.raises(InputError, match="1 folds"):
        crossvalidate(recipe, found.out, folds=1)
    bare = tmp_path / "bare.toml"
    text = RECIPE.replace('tables = ["TABLE"]\n', "").replace("= 0\n", "= 2\n")
    bare.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="has no table whose patients"):
        crossvalidate(bare, tmp_path / "out", folds=2)


def cases(seed: int, count: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 1)) < 0.4).astype(np.float32)
    fold = rng.integers(0, 3, count)
    scores = rng.normal(size=(count, 1)) + labels + 10 * fold[:, None]  # each student has a level of its own
    return labels, scores, fold, np.array([f"p{row // 2}" for row in range(count)])


def test_only_pairs_of_one_fold_are_compared() -> None:
    labels, scores, fold, who = cases(0)
    flat = {"f": Calibration(1.0, 0.0, 0.5, ((1.0, 0.0),) * 5, 1, 1, "toy", None, (0.5,) * 5)}
    judged = Judged(np.full(len(fold), "toy"), who, fold, labels, {"student": scores, "view alone": 0 * scores})
    (one,) = judge_sets(judged, ("f",), flat, replicates=30, seed=0)
    pairs, right = 0.0, 0.0
    for number in range(3):
        here = fold == number
        count = labels[here].sum() * (1 - labels[here]).sum()
        pairs, right = pairs + count, right + count * roc_auc_score(labels[here, 0], scores[here, 0])
    assert one.mean_auroc.value == pytest.approx(right / pairs) and one.view_alone.value == pytest.approx(0.5)
    assert one.mean_auroc.low < one.mean_auroc.value < one.mean_auroc.high


def test_view_position_alone_is_learnt_on_the_other_folds() -> None:
    labels = np.array([[1], [1], [0], [0], [1], [0]], dtype=np.float32)
    view, fold = np.array(["AP", "AP", "PA", "PA", "AP", "PA"]), np.array([0, 0, 0, 1, 1, 1])
    scores = view_scores(labels, view, fold, np.array(list("abcdef")))[:, 0]
    assert scores[:2] == pytest.approx([1.5 / 2] * 2)  # one AP image in fold 1, present
    assert scores[4] == pytest.approx(2.5 / 3) and scores[3] == pytest.approx(0.5 / 2)


def test_of_one_fold_view_position_alone_is_learnt_on_other_patients_of_it() -> None:
    """All had one score: that of no image at all."""
    labels = np.array([[1.0], [1.0], [0.0], [0.0], [1.0], [0.0]], dtype=np.float32)
    view, patients = np.array(["AP", "AP", "PA", "PA", "AP", "PA"]), np.array(["a", "b", "a", "b", "b", "b"])
    scores = view_scores(labels, view, np.full(6, 3), patients)[:, 0]
    np.testing.assert_allclose(scores, [2.5 / 3, 1.5 / 2, 0.5 / 3, 0.5 / 2, 1.5 / 2, 0.5 / 2])


def test_the_interval_of_a_sensitivity_knows_that_its_threshold_was_chosen() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(400) < 0.3).astype(np.float32)
    logits = rng.normal(size=400) + 1.5 * labels
    who = np.array([f"p{row}" for row in range(400)])
    pairs = ((1.0, 0.0),) * 200
    fixed = Calibration(1.0, 0.0, 0.6, pairs, 400, 120, "toy", None, (0.6,) * 200)
    loose = Calibration(1.0, 0.0, 0.6, pairs, 400, 120, "toy", None, tuple(np.linspace(0.5, 0.7, 200)))
    (narrow, _), (wide, _) = (operating_point(logits, labels, who, one, seed=0) for one in (fixed, loose))
    said = 1 / (1 + np.exp(-logits)) >= 0.6
    assert narrow.value == wide.value == pytest.approx(said[labels == 1].mean())
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)
