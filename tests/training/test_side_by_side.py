"""Work in processes side by side: what comes back, in which order, how errors travel, and that teachers come out alike."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from errands import fail, leave, meet, wait_for_ever

from storyxai.errors import RecipeError, StoryxaiError
from storyxai.training.apart import side_by_side
from storyxai.training.config import DataRecipe, DistillationRecipe, Recipe, StudentRecipe, TeacherRecipe, TrainingRecipe
from storyxai.training.distil import Parts, train_teachers
from storyxai.training.fit import CHECKPOINT
from teaching_examples import SIZE, toy_examples

TEACHER = TeacherRecipe("mobilenetv3_small_050", 1, width=16, hidden=16, batch_size=4)
RECIPE = Recipe(
    "toy", 3, DataRecipe(SIZE, 8, 4, 4), TEACHER, TEACHER, TEACHER,
    StudentRecipe("mobilenetv3_small_050", 1, width=16, hidden=16, batch_size=4), DistillationRecipe(views=1),
    TrainingRecipe(teachers_at_once=2),
)


def test_two_run_at_once_in_processes_of_their_own_and_tell_what_they_do(tmp_path: Path) -> None:
    told: list[str] = []
    work = {name: functools.partial(meet, tmp_path / name, tmp_path / other) for name, other in (("a", "b"), ("b", "a"))}
    given = side_by_side(work, at_once=2, progress=lambda said, done, total: told.append(said))
    assert list(given) == ["a", "b"] and len({*given.values(), os.getpid()}) == 3
    until = time.monotonic() + 30  # the last word may still be on its way
    while len(told) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(told) == ["a: here", "b: here"]


@pytest.mark.slow
def test_the_first_error_comes_back_as_it_was_and_ends_the_others(tmp_path: Path) -> None:
    began = tmp_path / "began"
    with pytest.raises(RecipeError, match="cannot work") as caught:
        side_by_side({"long": functools.partial(wait_for_ever, began), "bad": fail}, at_once=2)
    assert caught.value.mend == "mend it" and not multiprocessing.active_children()
    with pytest.raises(StoryxaiError, match="the process of gone was lost"):
        side_by_side({"gone": leave}, at_once=1)


@pytest.mark.slow
def test_teachers_side_by_side_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    train, validation, test = (toy_examples(count, seed=seed, findings=14, max_tokens=64)
                               for seed, count in enumerate((8, 4, 4)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over threads round otherwise
    try:
        files, losses = [], []
        for name, at_once in (("apart", 2), ("alone", 1)):
            out = tmp_path / name
            recipe = Recipe(**{**vars(RECIPE), "training": TrainingRecipe(teachers_at_once=at_once)})
            mine: dict[str, tuple[float, ...]] = {}
            teachers = train_teachers(recipe, ("findings", "masks", "report"), Parts(train, validation, test), out, losses=mine)
            assert list(teachers) == ["findings", "masks", "report"]
            assert not list(out.rglob(CHECKPOINT))
            files.append({path.name: path.read_bytes() for path in out.glob("*.safetensors")})
            losses.append(mine)
    finally:
        torch.set_num_threads(threads)
    assert files[0] == files[1] and len(files[0]) == 3
    assert losses[0] == losses[1] and set(losses[0]) == {f"teacher of {task}" for task in ("findings", "masks", "report")}
