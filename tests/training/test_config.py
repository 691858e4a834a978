"""Recipes: what is written is what is read, and every mistake is named with its mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from storyxai.errors import RecipeError
from storyxai.training.config import DistillationRecipe, EvaluationRecipe, FitConfig, TrainingRecipe
from storyxai.training.recipe_file import read_recipe

RECIPE = """
name = "toy"
seed = 7
[data]
size = 64
phantom_train = 8
phantom_validation = 4
phantom_test = 4
tables = ["one.parquet", "two.parquet"]
[teacher_findings]
encoder = "a"
epochs = 3
[teacher_masks]
encoder = "b"
epochs = 2
learning_rate = 1
[teacher_report]
encoder = "c"
epochs = 1
[student]
encoder = "d"
epochs = 5
width = 48
[distillation]
mixing = 0.25
task_weights = [1.0, 2, 0.5, 0.25]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_is_read_as_written(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    assert (recipe.name, recipe.seed, recipe.data.size) == ("toy", 7, 64)
    assert recipe.data.tables == ("one.parquet", "two.parquet")
    assert (recipe.teacher_findings.encoder, recipe.student.encoder, recipe.student.width) == ("a", "d", 48)
    assert recipe.distillation.mixing == 0.25
    assert recipe.distillation.task_weights == (1.0, 2.0, 0.5, 0.25)


def test_what_is_left_out_takes_its_default(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, RECIPE))
    assert recipe.distillation.temperature == DistillationRecipe().temperature
    assert recipe.evaluation == EvaluationRecipe()
    assert recipe.data.soft_targets == () and recipe.student.weights == ""


def test_how_the_loop_runs_is_read_too(tmp_path: Path) -> None:
    keys = 'finding_loss = "asymmetric"\nstop_metric = "validation_auroc"\nprocesses = 2\nema_decay = 0.9\nwarmup_share = 0'
    recipe = read_recipe(written(tmp_path, f'{RECIPE}balance = "dwa"\n[training]\n{keys}\n'))
    assert recipe.distillation.balance == "dwa"
    assert recipe.training == TrainingRecipe(
        finding_loss="asymmetric", stop_metric="validation_auroc", processes=2, ema_decay=0.9, warmup_share=0.0
    )
    assert read_recipe(written(tmp_path, RECIPE)).training == TrainingRecipe() == FitConfig(epochs=1).training


def test_a_whole_number_stands_for_a_rate(tmp_path: Path) -> None:
    rate = read_recipe(written(tmp_path, RECIPE)).teacher_masks.learning_rate
    assert rate == 1.0 and type(rate) is float


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("phantom_train = 8", "phantom_trian = 8", r"unknown key 'data\.phantom_trian'.*'data\.phantom_train'"),
        ("seed = 7", "sede = 7", r"unknown key 'sede'.*'seed'"),
        ("[student]", "[studnet]", r"unknown key 'studnet'.*'student'"),
        ("mixing = 0.25", "zzzzzzzz = 1", r"unknown key 'distillation\.zzzzzzzz'.*known keys: .*temperature"),
        ("seed = 7\n", "", "lacks the key 'seed'"),
        ("phantom_test = 4\n", "", r"lacks the key 'data\.phantom_test'"),
        ('encoder = "d"\n', "", r"lacks the key 'student\.encoder'"),
        ("seed = 7", 'seed = "7"', "'seed' must be of type int, not str"),
        ("seed = 7", "seed = true", "'seed' must be of type int, not bool"),
        ("epochs = 5", "epochs = 5.5", r"'student\.epochs' must be of type int, not float"),
        ("mixing = 0.25", "mixing = false", r"'distillation\.mixing' must be of type float, not bool"),
        ('tables = ["one.parquet", "two.parquet"]', 'tables = "one.parquet"', r"'data\.tables' must be a list"),
        ('"two.parquet"]', "2]", r"'data\.tables' must be of type str, not int"),
        ("mixing = 0.25", "mixing = 1.0", r"'distillation\.mixing' is 1\.0.*\[0, 1\)"),
        ("mixing = 0.25", "mixing = -0.1", r"'distillation\.mixing' is -0\.1"),
        ("mixing = 0.25", "views = -1", r"'distillation\.views' is -1.*at least 0"),
        ("mixing = 0.25", "views = 0", r"'distillation\.views' is 0, but outlines.*exact view"),
        ("epochs = 3", "epochs = 3\nmembers = 0", r"'teacher_findings' has 0 members"),
        ("epochs = 3", "epochs = 3\nmembers = 3\nfolds = 2", r"has 3 members over 2 folds"),
        ("epochs = 2", "epochs = 2\nmirrored = true", r"'teacher_masks\.mirrored' is set.*teacher of findings"),
        ('[teacher_report]\nencoder = "c"\nepochs = 1\n', "", r"lacks the table \[teacher_report\]"),
        ("width = 48", 'start = {nek = "teacher_findings"}', r"'student\.start' names 'nek'.*known: encoder, neck"),
        ("phantom_test = 4", 'phantom_test = 4\nlearn_from = ["train", "val"]', r"would calibrate it.*out_of_fold"),
        ("phantom_test = 4", 'phantom_test = 4\nlearn_from = ["val"]', r"lacks 'train'"),
        ("phantom_test = 4", 'phantom_test = 4\nlearn_from = ["tain"]', r"'data\.learn_from' names 'tain'"),
        (
            "phantom_test = 4", 'phantom_test = 4\noutlines = {model = "m", sets = ["nih"], structures = ["liver"]}',
            r"'data\.outlines\.structures' names 'liver'",
        ),
        ("size = 64", "size = 32", r"'data\.size' is 32.*at least 64"),
        ("size = 64", "size = 100", r"'data\.size' is 100.*multiple of 32"),
        ("phantom_validation = 4", "phantom_validation = -1", r"'data\.phantom_validation' is -1.*at least 0"),
        ('4\ntables = ["one.parquet", "two.parquet"]', "0", r"'data\.phantom_test' is 0.*at least 2"),
        ("epochs = 5", "epochs = 0", r"'student\.epochs' is 0.*at least 1"),
        ("epochs = 3", "epochs = 0", r"'teacher_findings\.epochs' is 0.*at least 1"),
        ("epochs = 5", "epochs = 5\nbatch_size = 1", r"'student\.batch_size' is 1.*at least 2"),
        ("epochs = 2", "epochs = 2\nbatch_size = 1", r"'teacher_masks\.batch_size' is 1.*at least 2"),
        ("mixing = 0.25", "temperature = 0", r"'distillation\.temperature' is 0\.0.*over 0"),
        ("seed = 7", "seed = ", "is not readable TOML"),
        ("seed = 7", "seed = 1" + "0" * 5000, "is not readable TOML"),
        ("mixing = 0.25", 'balance = "upgrade"', r"balance 'upgrade' is not known.*did you mean 'upgrad'"),
        *(
            ("[distillation]", f"[training]\n{line}\n[distillation]", said)
            for line, said in (
                ('precision = "bf16"', r"'training\.precision' is 'bf16'.*did you mean 'bf16-mixed'"),
                ('stop_metric = "validation_aucroc"', r"'training\.stop_metric'.*did you mean 'validation_auroc'"),
                ('finding_loss = "vocal"', r"'training\.finding_loss'.*did you mean 'focal'"),
                ('device = "tpu"', r"'training\.device' is 'tpu'.*known: cpu, cuda"),
                ("ema_dekay = 0.9", r"unknown key 'training\.ema_dekay'.*'training\.ema_decay'"),
                ("warmup_share = 1.0", r"'training\.warmup_share' is 1\.0.*under 1\.0"),
                ("gradient_clip = 0", r"'training\.gradient_clip' is 0\.0.*at least"),
                ("rare_share = -0.1", r"'training\.rare_share' is -0\.1.*at least 0"),
                ("patience = 0", r"'training\.patience' is 0.*at least 1"),
                ("checkpoint_steps = -1", r"'training\.checkpoint_steps' is -1"),
                ("processes = 0", r"'training\.processes' is 0.*at least 1"),
                ("processes = 17", r"'student\.batch_size' is 32 for 17 processes.*two images at least"),
            )
        ),
    ],
)
def test_a_mistake_is_named_with_its_mend(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in RECIPE
    with pytest.raises(RecipeError, match=said) as caught:
        read_recipe(written(tmp_path, RECIPE.replace(old, new)))
    assert "toy.toml" in caught.value.what and caught.value.mend and caught.value.exit_status == 2


def test_a_table_given_as_a_value_is_refused(tmp_path: Path) -> None:
    flat = 'student = 3\n' + RECIPE.replace('[student]\nencoder = "d"\nepochs = 5\nwidth = 48\n', "")
    with pytest.raises(RecipeError, match=r"'student' must be a table.*\[student\]"):
        read_recipe(written(tmp_path, flat))


def test_a_missing_or_undecodable_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml: does not exist"):
        read_recipe(tmp_path / "nowhere.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"')
    with pytest.raises(RecipeError, match="not readable TOML"):
        read_recipe(path)
    with pytest.raises(RecipeError, match="not readable TOML"):
        read_recipe(tmp_path)
