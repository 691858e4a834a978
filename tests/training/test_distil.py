"""Teaching whole, on toys: parts that do not hold together are refused, and what was trained is not trained again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit

from storyxai.data.batches import UNKNOWN_PIXEL
from storyxai.errors import RecipeError, WeightsError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.network import MASKS, Network, NetworkSpec, count_parameters
from storyxai.training import distil as distil_module
from storyxai.training.config import DataRecipe, DistillationRecipe, Recipe, StudentRecipe, TeacherRecipe
from storyxai.training.distil import Parts, check_parts, distil, new_network
from storyxai.training.outputs import network_outputs
from storyxai.training.weights import freeze_early_stages, load_encoder_weights, positive_weights
from teaching_examples import FINDINGS, SIZE, VOCABULARY, tiny_network, toy_examples

ENCODER = "mobilenetv3_small_050"
TEACHER = TeacherRecipe(ENCODER, 1, width=16, hidden=16, batch_size=4)
RECIPE = Recipe(
    "toy", 3, DataRecipe(SIZE, 8, 4, 4), TEACHER, TEACHER, TEACHER,
    StudentRecipe(ENCODER, 1, width=16, hidden=16, batch_size=4), DistillationRecipe(views=1),
)


def parts() -> Parts:
    train, validation, test = (
        toy_examples(count, seed=seed, findings=len(NAMES), max_tokens=64) for seed, count in enumerate((8, 4, 4))
    )
    return Parts(train, validation, test)


def share_a_patient(given: Parts) -> Parts:
    ids = (given.train.patient_ids[2], *given.test.patient_ids[1:])
    return dataclasses.replace(given, test=dataclasses.replace(given.test, patient_ids=ids))


def no_positive(given: Parts) -> Parts:
    labels = np.where(np.isnan(given.train.labels), np.nan, 0).astype(np.float32)
    return dataclasses.replace(given, train=dataclasses.replace(given.train, labels=labels))


def one_finding_only_absent(given: Parts) -> Parts:
    labels = given.train.labels.copy()
    labels[:3, 13] = 0.0
    return dataclasses.replace(given, train=dataclasses.replace(given.train, labels=labels))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_finding_only_absent, r"no training image has these findings.*: Hernia \(3\) — add images that have them"),
        (share_a_patient, "patient toy-0-2 stands in train and in test"),
        (lambda given: dataclasses.replace(given, validation=given.validation.take([])), "validation part is empty"),
        (no_positive, "no finding has a positive image"),
    ],
)
def test_parts_that_do_not_hold_together_are_refused(spoil: Callable[[Parts], Parts], said: str) -> None:
    check_parts(RECIPE, parts())
    with pytest.raises(RecipeError, match=said) as caught:
        check_parts(RECIPE, spoil(parts()))
    assert caught.value.mend


def test_teaching_is_repeated_exactly_and_what_is_there_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil_module, "gather_examples", lambda recipe, *, progress=None: parts())
    run = distil(RECIPE, tmp_path / "one")
    assert set(run.losses) == {"teacher of findings", "teacher of masks", "teacher of report", "student"}
    assert run.student.spec.tasks == ("findings", "masks", "report")
    assert {task: teacher.spec.tasks for task, teacher in run.teachers.items()} == {
        task: (task,) for task in ("findings", "masks", "report")
    }
    files = sorted(path.name for path in (tmp_path / "one").glob("*.safetensors"))
    stamps = [(tmp_path / "one" / name).read_bytes() for name in files]
    kept = distil(RECIPE, tmp_path / "one")
    assert kept.losses == {} and stamps == [(tmp_path / "one" / name).read_bytes() for name in files]
    again = distil(RECIPE, tmp_path / "two")
    assert again.losses == run.losses and stamps == [(tmp_path / "two" / name).read_bytes() for name in files]


def test_a_new_network_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one = new_network(RECIPE, RECIPE.student, ("findings",), seed=9)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    same, other = (new_network(RECIPE, RECIPE.student, ("findings",), seed=seed) for seed in (9, 10))
    name = "finding_head.hidden.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_an_unknown_encoder_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="encoder 'no_such_net' is not known"):
        new_network(RECIPE, dataclasses.replace(RECIPE.student, encoder="no_such_net"), ("findings",), seed=0)


def test_a_student_may_end_at_stride_16_and_read_three_channels() -> None:
    given = {"encoder": ENCODER, "size": SIZE, "findings": FINDINGS, "vocabulary": VOCABULARY, "width": 16, "hidden": 16}
    whole, short = Network(NetworkSpec(**given)), Network(NetworkSpec(**given, deepest=16, channels=3)).eval()
    assert count_parameters(short.encoder) < 0.5 * count_parameters(whole.encoder)
    said = short(torch.rand(2, 3, SIZE, SIZE))
    assert said.features.shape == (2, 16, SIZE // 16, SIZE // 16) and said.masks.shape[2:] == (SIZE // 4, SIZE // 4)
    assert NetworkSpec.from_dict(short.spec.as_dict()) == short.spec
    with pytest.raises(WeightsError, match="1 or 3 channels"):
        Network(NetworkSpec(**given, channels=2))
    with pytest.raises(WeightsError, match=r"gives no features at stride 4"):
        Network(NetworkSpec(**{**given, "encoder": "vit_tiny_patch16_224"}))


def test_positive_weights_by_hand() -> None:
    labels = torch.tensor([[1.0, 0.0, 1.0, torch.nan]] + [[0.0, 0.0, 1.0, torch.nan]] * 4)
    assert positive_weights(labels).tolist() == pytest.approx([2.0, 1.0, 1.0, 1.0])
    assert positive_weights(torch.tensor([[1.0]] + [[0.0]] * 400)).item() == 8.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoder", [ENCODER, "tf_efficientnet_lite0", "resnet10t", "densenet121", "convnext_atto"])
def test_an_encoder_of_colour_images_reads_ours_as_its_own_input(tmp_path: Path, encoder: str, channels: int) -> None:
    """The independent way: the whole colour network on (x - mean) / std, as timm states them, against ours on x."""
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model(encoder, pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "colour.safetensors")
    torch.manual_seed(0)
    network = Network(NetworkSpec(
        encoder=encoder, size=SIZE, tasks=("findings",), findings=FINDINGS, width=8, hidden=8, channels=channels
    )).eval()
    assert load_encoder_weights(network, tmp_path / "colour.safetensors") == len(network.encoder.state_dict())
    names = timm.create_model(encoder, pretrained=False, features_only=True).eval()
    given = whole.state_dict()
    names.load_state_dict({name: given.get(name, given.get(name.replace("_", ".", 1))) for name in names.state_dict()})
    mean, std = (torch.tensor(whole.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    x = torch.rand(1, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = names((x.expand(-1, 3, -1, -1) - mean) / std)[0]
        ours = network.encoder((x - 0.5) / 0.25)[0]
    inside = slice(3, -3)  # at the border both pad with zeros, which are different greys
    assert torch.allclose(ours[..., inside, inside], theirs[..., inside, inside], rtol=1e-3, atol=2e-4)
    assert float(theirs.std()) > 1e-3


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(16, 1, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"other\.safetensors: fits 1 of"):
        load_encoder_weights(tiny_network(tasks=("findings",)), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: cannot be read"):
        load_encoder_weights(tiny_network(tasks=("findings",)), tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    ("encoder", "first", "kept", "learns"),
    [
        ("mobilenetv3_small_050", "conv_stem.weight", "blocks.1.", "blocks.2."),
        ("resnet10t", "conv1.0.weight", "layer2.", "layer3."),
        ("densenet121", "features_conv0.weight", "features_denseblock2.", "features_denseblock3."),
    ],
)
def test_early_stages_are_kept_and_the_rest_learns(encoder: str, first: str, kept: str, learns: str) -> None:
    network = Network(NetworkSpec(encoder=encoder, size=SIZE, findings=FINDINGS, vocabulary=VOCABULARY, width=8, hidden=8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = freeze_early_stages(network, stride=8)
    held = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == sum(p.numel() for name, p in network.named_parameters() if name in held)
    assert f"encoder.{first}" in held and all(name.startswith("encoder.") for name in held)
    at = {name: name in held for name, _ in network.encoder.named_parameters(prefix="encoder")}
    assert all(at[name] for name in at if name.startswith(f"encoder.{kept}"))
    assert not any(at[name] for name in at if name.startswith(f"encoder.{learns}"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()) and network.encoder.training


def test_outputs_of_many_examples_do_not_depend_on_the_batch() -> None:
    network, examples = tiny_network(), toy_examples(5)
    one, other = (network_outputs(network, examples, batch_size=size) for size in (2, 5))
    assert np.allclose(one.logits, other.logits, atol=1e-5) and one.logits.shape == (5, len(FINDINGS))
    assert one.words == other.words and len(one.words) == 5
    assert all(word in VOCABULARY[4:] for text in one.words for word in text)
    assert one.dice.shape == (5, len(MASKS)) and np.isnan(one.dice[:, 2]).all()  # no heart is stated
    assert np.allclose(one.dice[:, :2], other.dice[:, :2]) and (one.dice[:, :2] >= 0).all()
    lone = network_outputs(tiny_network(tasks=("masks",)), examples)
    assert lone.logits is None and lone.words is None and lone.dice is not None


def test_a_perfect_mask_has_a_perfect_dice() -> None:
    network, examples = tiny_network(tasks=("masks",)), toy_examples(2)
    with torch.no_grad():
        network.mask_head.weight.zero_()
        network.mask_head.bias.copy_(torch.tensor([float(logit(0.9)), -3.0, 0.0]))
    everything = dataclasses.replace(examples, masks=np.full_like(examples.masks, 100))
    said = network_outputs(network, everything, with_pair=True)
    assert said.dice.tolist() == [[1.0, 0.0, 0.0]] * 2 and said.paired.tolist() == [1.0, 1.0]


def test_lungs_that_are_not_told_apart_are_judged_together() -> None:
    network, examples = tiny_network(tasks=("masks",)), toy_examples(2)
    with torch.no_grad():
        network.mask_head.weight.zero_()
        network.mask_head.bias.copy_(torch.tensor([-3.0, 3.0, 3.0]))  # the right lung and the heart everywhere
    union = np.zeros_like(examples.union)
    union[0, : union.shape[1] // 2], union[1] = 100, UNKNOWN_PIXEL
    union[0, 0] = UNKNOWN_PIXEL  # counts neither way
    both = dataclasses.replace(examples, masks=np.full_like(examples.masks, UNKNOWN_PIXEL), union=union)
    said = network_outputs(network, both, with_pair=True)
    rows = union.shape[1]
    inside = rows // 2 - 1
    assert said.paired[0] == pytest.approx(2 * inside / (inside + rows - 1)) and np.isnan(said.paired[1])
    assert np.isnan(said.dice).all()


def test_predictions_of_none_of_the_images_and_tables_without_a_train_part_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ",".join(["Image Index", *(f"prob_{name}" for name in NAMES)])
    (tmp_path / "densenet121_predictions.csv").write_text(f"{columns}\nelsewhere.png{',0.5' * len(NAMES)}\n")
    recipe = dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, soft_targets=(str(tmp_path),)))
    with pytest.raises(RecipeError, match="are of none of the 8 training images — name the folder"):
        distil_module.published_answers(recipe, parts().train)

    drawn_first = "phantoms were drawn first"
    monkeypatch.setattr(distil_module, "examples_from_phantoms", lambda *_given, **_how: pytest.fail(drawn_first))
    table = SimpleNamespace(frame=pd.DataFrame({"split": ["val", "test"]}))
    monkeypatch.setattr(distil_module, "read_table", lambda _path: table)
    recipe = dataclasses.replace(RECIPE, data=dataclasses.replace(RECIPE.data, tables=("films.parquet",)))
    with pytest.raises(RecipeError, match=r"films\.parquet has no image in its train part — split it again"):
        distil_module.gather_examples(recipe)
