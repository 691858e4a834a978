"""Foreign teachers in a run: named by the recipe, averaged with our own, their sentences as reports."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save
from torch import Tensor

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError, UnknownNameError, WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.teachers import KINDS, CallableTeacher, HuggingFaceWriter, OwnTeacher, TeacherAverage
from storyxai.models.tokens import PAD, decode_tokens, encode_tokens, full_vocabulary
from storyxai.training import distil as distil_module
from storyxai.training.config import (
    DataRecipe,
    DistillationRecipe,
    ForeignTeacherRecipe,
    Recipe,
    StudentRecipe,
    TeacherRecipe,
)
from storyxai.training.distil import Parts, ask_teachers, distil
from storyxai.training.foreign import joined_teachers, open_foreign_teachers, replaced, with_foreign_reports
from storyxai.training.recipe_file import read_recipe
from storyxai.training.rounds import Lesson, Taught
from storyxai.training.soft_targets import TeacherTargets
from teaching_examples import SIZE, toy_examples

ENCODER = "mobilenetv3_small_050"
TEACHER = TeacherRecipe(ENCODER, 1, width=16, hidden=16, batch_size=4)
RECIPE = Recipe(
    "toy", 3, DataRecipe(SIZE, 8, 4, 4), TEACHER, TEACHER, TEACHER,
    StudentRecipe(ENCODER, 1, width=16, hidden=16, batch_size=4), DistillationRecipe(views=1),
)
TOML = """
name = "toy"
seed = 7
data = {size = 64, phantom_train = 8, phantom_validation = 4, phantom_test = 4}
teacher_findings = {encoder = "a", epochs = 1}
teacher_masks = {encoder = "a", epochs = 1}
teacher_report = {encoder = "a", epochs = 1}
student = {encoder = "a", epochs = 1}
[[foreign_teachers]]
kind = "onnx"
task = "findings"
path = "net.onnx"
findings = ["Pleural Effusion", "Mass"]
range = "-1024..1024"
weight = 2
finding_weights = {"Pleural Effusion" = 3, Mass = 0.0}
[[foreign_teachers]]
kind = "huggingface"
task = "report"
path = "folder"
instead = true
"""


def examples(count: int = 8, seed: int = 0) -> Examples:
    return toy_examples(count, seed=seed, findings=len(NAMES), max_tokens=64)


def network(*tasks: str) -> Network:
    spec = NetworkSpec(
        encoder=ENCODER, size=SIZE, tasks=tasks, findings=NAMES, vocabulary=full_vocabulary(GRAMMAR.vocabulary()), width=16,
        hidden=16, fine_width=8, decoder_width=32, decoder_layers=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(spec).eval()


def onnx_file(folder: Path) -> Path:
    """A graph that answers [mean grey, minus mean grey] as logits."""
    made = helper.make_graph(
        [helper.make_node("ReduceMean", ["film", "axes"], ["mean"], keepdims=0),
         helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
         helper.make_node("MatMul", ["column", "times"], ["said"])],
        "toy", [helper.make_tensor_value_info("film", TensorProto.FLOAT, ["B", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("said", TensorProto.FLOAT, ["B", 2])],
        [helper.make_tensor("times", TensorProto.FLOAT, [1, 2], [1.0, -1.0]),
         helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
         helper.make_tensor("last", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "net.onnx")
    return folder / "net.onnx"


class Writer(HuggingFaceWriter):
    """A report model that writes one text of every image."""

    def __init__(self, text: str) -> None:
        super().__init__(None, None, None, "writer", "0" * 64)
        object.__setattr__(self, "text", text)

    def reports(self, images: Tensor) -> list[str]:
        return [self.text] * len(images)


def given(task: str, **keys: object) -> ForeignTeacherRecipe:
    return ForeignTeacherRecipe("onnx", task, **keys)


def test_a_recipe_names_any_number_of_foreign_teachers(tmp_path: Path) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOML, encoding="utf-8")
    one, two = read_recipe(path).foreign_teachers
    assert (one.kind, one.findings, one.range, one.weight) == ("onnx", ("Pleural Effusion", "Mass"), "-1024..1024", 2.0)
    assert one.finding_weights == {"Pleural Effusion": 3.0, "Mass": 0.0} and two.finding_weights == {}
    assert two.instead and not one.instead and not two.trusted
    assert replaced(read_recipe(path), "report") and not replaced(read_recipe(path), "findings")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('weight = 2', 'wieght = 2', r"'foreign_teachers\.wieght'.*did you mean 'foreign_teachers\.weight'"),
        ('weight = 2', 'weight = 0', r"'foreign_teachers\.weight' is 0\.0"),
        ("Mass = 0.0", "Mass = -1", r"'foreign_teachers\.finding_weights\.Mass' is -1\.0"),
        ("Mass = 0.0", 'Mass = "much"', r"'foreign_teachers\.finding_weights\.Mass' must be of type float"),
        ('{"Pleural Effusion" = 3, Mass = 0.0}', "2.0", r"must be a table — write it as finding_weights = "),
        ('task = "report"', 'task = "reprot"', r"'reprot'.*did you mean 'report'"),
        ('kind = "huggingface"\n', "", r"lacks the key 'foreign_teachers\.kind'"),
        ('[[foreign_teachers]]\nkind = "onnx"', "[foreign_teachers]\nkind = 1", r"\[\[foreign_teachers\]\]|not readable"),
    ],
)
def test_a_mistake_in_one_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "toy.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match=said) as caught:
        read_recipe(path)
    assert caught.value.mend


def test_all_of_them_are_opened_before_anything_is_trained(tmp_path: Path) -> None:
    def recipe(**keys: object) -> Recipe:
        return dataclasses.replace(RECIPE, foreign_teachers=(given("findings", **keys),))

    path = str(onnx_file(tmp_path))
    ((_, teacher),) = open_foreign_teachers(recipe(path=path, findings=("Mass", "Nodule")))
    assert teacher.findings == ("Mass", "Nodule")
    with pytest.raises(WeightsError, match="does not exist"):
        distil(recipe(path="nowhere.onnx", findings=("Mass",)), tmp_path / "run")
    with pytest.raises(RecipeError, match="no finding in common"):
        distil(recipe(path=path, findings=("Fracture", "Device")), tmp_path / "run")
    with pytest.raises(UnknownNameError, match="finding with a weight 'Efusion': is not known — did you mean 'Effusion'"):
        distil(recipe(path=path, findings=("Mass", "Nodule"), finding_weights={"Efusion": 2.0}), tmp_path / "run")
    reasons = dataclasses.replace(
        recipe(path=path, findings=("Mass", "Nodule"), instead=True), distillation=DistillationRecipe(reasons=1.0)
    )
    with pytest.raises(RecipeError, match="only a network of ours can give"):
        distil(reasons, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ours_and_theirs_are_averaged_by_their_weights() -> None:
    own = network("findings")
    flat = CallableTeacher(lambda x: torch.full((len(x), 2), 3.0), ("Pleural Effusion", "Fracture"), fingerprint="flat")
    joined = joined_teachers({"findings": own}, ((given("findings", weight=3.0), flat),))
    assert list(joined) == ["findings"] and isinstance(joined["findings"], TeacherAverage)
    images = make_batch(examples(2), np.arange(2), 0).images
    mine, said = OwnTeacher(own).answers(images).findings, joined["findings"].answers(images).findings
    effusion = NAMES.index("Effusion")
    torch.testing.assert_close(said[:, effusion], (mine[:, effusion] + 3 * 3.0) / 4)
    others = [i for i in range(len(NAMES)) if i != effusion]
    assert torch.equal(said[:, others], mine[:, others])
    # A weight of one finding, by a synonym, stands before the teacher's own; 0 silences it there.
    for weight, expected in ((1.0, (mine[:, effusion] + 3.0) / 2), (0.0, mine[:, effusion])):
        few = given("findings", weight=3.0, finding_weights={"Pleural Effusion": weight})
        said = joined_teachers({"findings": own}, ((few, flat),))["findings"].answers(images).findings
        torch.testing.assert_close(said[:, effusion], expected)


def test_without_a_foreign_teacher_our_own_is_asked_as_it_is() -> None:
    own = {"findings": network("findings"), "masks": network("masks")}
    assert joined_teachers(own, ()) == own
    writer = ((given("report", instead=True), Writer("x")),)
    assert "report" not in joined_teachers(own, writer)
    flat = CallableTeacher(lambda x: torch.zeros(len(x), 3, 8, 8), task="masks", fingerprint="flat")
    alone = joined_teachers({"findings": own["findings"]}, ((given("masks", instead=True), flat),))
    images = make_batch(examples(2), np.arange(2), 0).images
    assert torch.equal(alone["masks"].answers(images).masks, torch.zeros(2, 3, 8, 8))


def text_of(row: np.ndarray) -> str:
    return " ".join(GRAMMAR.detokenize(decode_tokens(row[1:].tolist(), full_vocabulary(GRAMMAR.vocabulary()))))


def test_a_writers_sentences_stand_where_no_report_is_known_or_everywhere() -> None:
    train = examples()
    known = encode_tokens(GRAMMAR.tokenize("Normal heart size."), full_vocabulary(GRAMMAR.vocabulary()), length=64)
    tokens = np.where(np.arange(8)[:, None] % 2 == 0, known, PAD)
    train = dataclasses.replace(train, tokens=tokens)
    writer = Writer("The lungs are clear. Xyzzy.")
    filled = with_foreign_reports(((given("report"), writer),), train)
    assert [text_of(row) for row in filled.tokens] == ["Normal heart size.", "The lungs are clear."] * 4
    instead = with_foreign_reports(((given("report", instead=True), writer),), train)
    assert [text_of(row) for row in instead.tokens] == ["The lungs are clear."] * 8
    assert np.array_equal(train.tokens, tokens)  # what was given is not written to
    assert with_foreign_reports((), train) is train
    with pytest.raises(RecipeError, match="wrote no sentence in our words"):
        with_foreign_reports(((given("report"), Writer("Xyzzy.")),), train)


def test_reasons_stay_those_of_our_own_teacher(tmp_path: Path) -> None:
    own = {"findings": network("findings")}
    flat = CallableTeacher(lambda x: torch.full((len(x), 1), 3.0), ("Effusion",), fingerprint="flat")
    recipe = dataclasses.replace(RECIPE, distillation=DistillationRecipe(views=1, reasons=1.0))
    train = examples(4)
    (joined,) = ask_teachers(recipe, own, ((given("findings"), flat),), train, tmp_path)
    (alone,) = ask_teachers(recipe, own, (), train, tmp_path)
    assert np.array_equal(np.asarray(joined.maps), np.asarray(alone.maps)) and joined.maps.shape[:2] == (4, len(NAMES))
    effusion = NAMES.index("Effusion")
    expected = (alone.findings[:, effusion] + 3) / 2
    np.testing.assert_allclose(joined.findings[:, effusion], expected, atol=2e-3)


def test_a_student_learns_from_a_foreign_teacher_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(examples(8), examples(4, 1), examples(4, 2))
    trained: list[str] = []
    learnt: list[TeacherTargets] = []

    def teach(recipe: Recipe, task: str, train: Examples, out: Path, **rest: object) -> Network:
        trained.append(task)
        return network(task)

    def learn(recipe: Recipe, lesson: Lesson, **rest: object) -> Taught:
        learnt.extend(lesson.answers.own)
        return Taught(network("findings"), ())

    monkeypatch.setattr(distil_module, "gather_examples", lambda recipe, *, progress=None: parts)
    monkeypatch.setattr(distil_module, "train_teacher", teach)
    monkeypatch.setattr(distil_module, "train_student", learn)
    theirs = given("findings", path=str(onnx_file(tmp_path)), findings=("Effusion", "Mass"), instead=True)
    (tmp_path / "run").mkdir()
    run = distil(dataclasses.replace(RECIPE, foreign_teachers=(theirs,)), tmp_path / "run")
    assert trained == ["masks", "report"] and set(run.teachers) == {"masks", "report"}
    (said,) = learnt
    grey = make_batch(parts.train, np.arange(8), 0).images.mean(dim=(1, 2, 3)).numpy()
    np.testing.assert_allclose(said.findings[:, NAMES.index("Effusion")], grey, atol=1e-3)
    np.testing.assert_allclose(said.findings[:, NAMES.index("Mass")], -grey, atol=1e-3)
    assert np.isnan(np.delete(said.findings, [NAMES.index("Effusion"), NAMES.index("Mass")], axis=1)).all()
    assert len(said.masks) == 8 and len(said.words) == 6  # every fourth has no report


def test_the_table_in_the_how_to_is_a_recipe(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bring-your-teachers.md").read_text(encoding="utf-8")
    table = text.split("```toml\n")[1].split("```")[0]
    path = tmp_path / "toy.toml"
    path.write_text(TOML.split("[[foreign_teachers]]")[0] + table, encoding="utf-8")
    (taught,) = read_recipe(path).foreign_teachers
    assert taught.weight == 2.0 and taught.findings[0] == "Pleural Effusion"
    for item in dataclasses.fields(ForeignTeacherRecipe):
        assert f"`{item.name}`" in text, f"the how-to does not explain {item.name}"
    assert all(f"`{kind}`" in text for kind in KINDS)
