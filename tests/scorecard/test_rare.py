"""Findings that few images have: a chapter of their own, model beside model, with what the training did about them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storyxai.metrics.classification import auroc
from storyxai.programs.pipeline import remedies_of
from storyxai.scorecard.build import References, TaskOutputs, build_scorecard
from storyxai.scorecard.page import render_scorecard
from storyxai.training.config import ForeignTeacherRecipe, Recipe
from storyxai.training.recipe_file import read_recipe

COUNT = 800


def judged(positives: int, **changes: object) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """A scorecard of two models on a common finding and one with so many positives; labels and the student's logits."""
    rng = np.random.default_rng(0)
    labels = np.zeros((COUNT, 2))
    labels[: COUNT // 4, 0], labels[:positives, 1] = 1, 1
    ids = tuple(f"i{row}" for row in range(COUNT))
    logits = labels + rng.normal(size=labels.shape)
    references = References("made up", True, ids, ids, ("Mass", "Hernia"), labels)
    outputs = [TaskOutputs("student", "student", ids, ("Mass", "Hernia"), logits),
               TaskOutputs("plain", "control", ids, ("Mass", "Hernia"), rng.normal(size=labels.shape))]
    card = build_scorecard(outputs, replace(references, **changes), seed=0, count=50, min_positives=5)
    return card.as_dict(), labels, logits


def chapter(card: dict[str, object]) -> str:
    page = render_scorecard(card).decode()
    found = re.search(r"<h2[^>]*>Rare findings</h2>(.*?)<h2", page, re.DOTALL)
    return "" if found is None else re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", found[1]))


def test_a_finding_of_seven_in_eight_hundred_stands_apart_with_every_model_and_the_remedies() -> None:
    card, labels, logits = judged(7, remedies=("focal loss", "rare positives weigh more in the loss"))
    said, value = chapter(card), auroc(labels[:, 1], logits[:, 1])
    assert "about rare findings: focal loss; rare positives weigh more in the loss." in said
    assert "Hernia" in said and "Mass" not in said and "student 800 7 " in said and "plain 800 7 " in said
    assert f"{value:.3f}" in said


def test_one_in_a_hundred_is_not_rare_and_nothing_done_is_said() -> None:
    assert not chapter(judged(8)[0])  # 8 of 800 are 1 %, and rare is fewer
    assert "names nothing that was done" in chapter(judged(7)[0])


def test_the_remedies_are_those_of_the_recipe() -> None:
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "toy.toml")
    assert remedies_of(recipe) == (
        "24 phantoms, made with every finding that a phantom can have", "rare positives weigh more in the loss",
    )
    training = replace(recipe.training, finding_loss="asymmetric", rare_share=0.02, positive_weights=False)
    bare = replace(recipe, training=training, data=replace(recipe.data, phantom_train=0))
    assert remedies_of(bare) == ("images of findings rarer than 2 % shown more often", "asymmetric loss")
    helped: Recipe = replace(bare, foreign_teachers=(ForeignTeacherRecipe(kind="timm", task="findings"),))
    assert remedies_of(helped)[-1] == "answers of 1 teacher from elsewhere where labels are silent"


@pytest.mark.parametrize("positives", [0, 1])
def test_none_or_one_is_listed_without_an_interval(positives: int) -> None:
    card, _, _ = judged(positives)
    assert f"student 800 {positives} " in chapter(card)


def test_curves_are_given_only_where_ten_patients_have_the_finding_and_ten_have_not() -> None:
    findings = {row["finding"]: row for row in judged(9)[0]["models"][0]["findings"]}
    assert "curve" not in findings["Hernia"]
    curve = findings["Mass"]["curve"]
    assert len(curve["roc"]) <= 40 and curve["roc"][0] == (0.0, 0.0) and curve["roc"][-1] == (1.0, 1.0)
    assert "curve" in judged(10)[0]["models"][0]["findings"][1]
