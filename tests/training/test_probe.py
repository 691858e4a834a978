"""A fitted teacher: its regression against another's, its colours in closed form, and that it teaches a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from storyxai.data.assemble import examples_from_phantoms
from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError, WeightsError
from storyxai.models.tokens import encode_tokens
from storyxai.training.config import PROBE, DataRecipe, ForeignTeacherRecipe, Recipe, StudentRecipe
from storyxai.training.distil import Parts, distil, words_of
from storyxai.training.foreign import fit_probes, joined_teachers, open_foreign_teachers
from storyxai.training.probe import colour_histogram, fit_logistic, fit_probe

ENCODER, SIZE = "mobilenetv3_small_050", 64
RECIPE = Recipe(
    "probed", 0, DataRecipe(SIZE, 40, 4, 4, phantom_size=SIZE), None, None, None, StudentRecipe(ENCODER, 1),
    modality="dermoscopy",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(timm.create_model(ENCODER, pretrained=False).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def lesions() -> Examples:
    words = words_of(RECIPE.kind())
    return examples_from_phantoms(
        range(40), size=SIZE, phantom_size=SIZE, encode=lambda text: encode_tokens(text, words, length=64),  # type: ignore[arg-type]
        modality="dermoscopy",
    )


def probe(weights: Path, **keys: object) -> ForeignTeacherRecipe:
    return ForeignTeacherRecipe(PROBE, "findings", path=str(weights), name=ENCODER, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(60, 7), (20, 90)])
def test_the_regression_is_that_of_another_library(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=shape)
    truth = columns[:, 0] + rng.normal(size=len(columns)) > 0.7
    weights, bias = fit_logistic(columns, truth, strength=0.3)
    theirs = LogisticRegression(C=0.3, class_weight="balanced", tol=1e-8, max_iter=5000).fit(columns, truth)
    np.testing.assert_allclose(weights, theirs.coef_[0], atol=2e-4)
    assert bias == pytest.approx(float(theirs.intercept_[0]), abs=2e-4)


def test_the_histogram_counts_colours_and_leaves_black_out() -> None:
    image = torch.zeros(1, 3, 4, 4)
    image[0, 0, :2] = 1.0  # red, level 3 of 0..3: 3 * 16
    image[0, :, 2, :] = 0.3  # grey, level 1 of each: 16 + 4 + 1
    found = colour_histogram(image)[0].square()
    assert found[48].item() == pytest.approx(8 / 12) and found[21].item() == pytest.approx(4 / 12)
    assert found.sum().item() == pytest.approx(1.0)
    assert colour_histogram(torch.zeros(1, 3, 4, 4)).abs().max() == 0


def test_it_knows_what_it_was_fitted_to_and_says_nothing_of_what_is_too_rare(weights: Path, lesions: Examples) -> None:
    labels = lesions.labels.copy()
    rare = RECIPE.kind().names.index("Streaks")
    labels[:, rare] = 0
    labels[:4, rare] = 1
    train = dataclasses.replace(lesions, labels=labels)
    teacher = fit_probe(RECIPE, probe(weights), train)
    said = teacher.answers(make_batch(train, np.arange(len(train)), 0).images).findings
    assert said is not None and bool(said[:, rare].isnan().all())
    naevus = RECIPE.kind().names.index("Atypical_Network")
    truth = labels[:, naevus] >= 0.5
    scores = said[:, naevus].numpy()
    assert (scores[truth][:, None] > scores[~truth][None]).mean() > 0.9
    assert teacher.hash == fit_probe(RECIPE, probe(weights), train).hash
    assert teacher.hash != fit_probe(RECIPE, probe(weights), train.take(np.arange(30))).hash


def test_it_is_fitted_to_what_is_learnt_from_and_joins_the_others(weights: Path, lesions: Examples) -> None:
    recipe = dataclasses.replace(RECIPE, foreign_teachers=(probe(weights, instead=True),))
    assert open_foreign_teachers(recipe) == ()
    (pair,) = fit_probes(recipe, lesions)
    joined = joined_teachers({}, (pair,), recipe.kind())
    assert list(joined) == ["findings"] and pair[1].name == f"probe of {ENCODER}"


def test_a_probe_that_cannot_be_is_named_before_anything_is_trained(
    weights: Path, lesions: Examples, tmp_path: Path
) -> None:
    parts = Parts(lesions.take(np.arange(20)), lesions.take(np.arange(20, 30)), lesions.take(np.arange(30, 40)))
    for given, error, said in (
        (ForeignTeacherRecipe(PROBE, "masks", path=str(weights), name=ENCODER), RecipeError, "is to teach masks"),
        (ForeignTeacherRecipe(PROBE, "findings", name=ENCODER), RecipeError, "weights ''"),
        (ForeignTeacherRecipe(PROBE, "findings", path=str(weights), name="no_such_net"), RecipeError, "timm does not know"),
        (ForeignTeacherRecipe(PROBE, "findings", path="nowhere", name=ENCODER), WeightsError, "nowhere"),
    ):
        with pytest.raises(error, match=said):
            distil(dataclasses.replace(RECIPE, foreign_teachers=(given,)), tmp_path / "run", parts=parts)
    assert not list(tmp_path.glob("run/*.safetensors"))
