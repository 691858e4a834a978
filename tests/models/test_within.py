"""Findings pooled within a structure that the network draws: its limits, its gradients, and the same answers as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from storyxai.errors import RecipeError, WeightsError
from storyxai.explain.cam import OUTSIDE, grad_cam
from storyxai.models.card import ModelCard, write_card
from storyxai.models.export import export_student, load_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.network_model import NetworkModel
from storyxai.models.runtime import Student, load_student
from storyxai.training.reasons import finding_maps
from storyxai.training.recipe_file import read_recipe
from teaching_examples import FEW_LAYERS, FINDINGS, SIZE, tiny_network

ORGAN = "heart"
RECIPES = Path(__file__).parents[2] / "recipes"


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(6))


def pooled_within(*, outline: float | None = None) -> Network:
    """The tiny network, pooling within a structure; `outline` is the logit of its mask everywhere."""
    plain = tiny_network(tasks=("findings", "masks"), seed=4, encoder=FEW_LAYERS)  # the graph of words would take half the time
    network = Network(replace(plain.spec, within=ORGAN)).eval()
    network.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for name, parameter in network.finding_head.named_parameters():
            if name != "log_sharpness":  # as drawn the cells hardly differ, and any pooling would do
                parameter.mul_(6)
        if outline is not None:
            network.mask_head.weight.zero_()
            network.mask_head.bias.fill_(outline)
        else:
            network.mask_head.weight.mul_(800)
    return network


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    folder, network = tmp_path_factory.mktemp("within"), pooled_within()
    files = export_student(network, folder)
    write_card(ModelCard("toy", "1", network.spec.as_dict(), files, {}, (), (), ()), folder)
    return load_student(folder)


@pytest.mark.parametrize("outline", [200.0, -200.0])
def test_an_outline_of_everything_or_nothing_leaves_the_plain_head(outline: float) -> None:
    network = pooled_within(outline=outline)
    plain = Network(replace(network.spec, within="")).eval()
    plain.load_state_dict(network.state_dict())
    with torch.inference_mode():
        ours, theirs = network(pictures(3)), plain(pictures(3))
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-6, atol=1e-6)
    assert torch.equal(ours.grid, theirs.grid) and torch.equal(ours.masks, theirs.masks)


def test_each_cell_counts_by_the_share_of_it_that_is_drawn() -> None:
    network, side = pooled_within(), SIZE // 16
    with torch.inference_mode():
        said = network(pictures(2))
    drawn = torch.sigmoid(said.masks[:, network.spec.structures.index(ORGAN)]).double()
    mean = drawn.view(2, side, 4, side, 4).mean(dim=(2, 4))
    shares = (mean + OUTSIDE * (1 - mean)).flatten(1)[:, None]
    assert shares.max() > 3 * shares.min()  # or the test would show nothing
    sharp = network.finding_head.sharpness().double()[None, :, None]
    powers = torch.exp(sharp * said.grid.double().flatten(2)) * shares
    wanted = torch.log(powers.sum(dim=2) / shares.sum(dim=2)) / sharp[:, :, 0]
    torch.testing.assert_close(said.logits.double(), wanted, rtol=1e-5, atol=1e-5)
    plain = torch.log(torch.exp(sharp * said.grid.double().flatten(2)).mean(dim=2)) / sharp[:, :, 0]
    assert (plain - wanted).abs().max() > 1e-3


def test_findings_read_the_outline_and_do_not_bend_it() -> None:
    network = pooled_within()
    network(pictures(2)).logits.square().sum().backward()
    fine = (network.mask_head, network.fuse_4, network.from_4, network.fuse_8, network.from_8, network.down_16)
    assert all(parameter.grad is None for part in fine for parameter in part.parameters())
    assert network.encoder.conv_stem.weight.grad.abs().sum() > 0


def test_the_closed_form_is_the_gradient_with_the_outline_held() -> None:
    network, image = pooled_within(), pictures(1)
    look = NetworkModel(network).look(image[0].numpy())
    said = network(image)
    leaf = said.features.detach().requires_grad_()
    logits = network.finding_head(leaf, network.shares(said.masks))[1][0]
    np.testing.assert_allclose(look.logits, logits.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert look.gradients is not None
    for finding in range(len(FINDINGS)):
        (oracle,) = torch.autograd.grad(logits[finding], leaf, retain_graph=True)
        np.testing.assert_allclose(look.gradients[finding], oracle[0].numpy(), rtol=1e-4, atol=1e-7)
    alone = NetworkModel(network).look(image[0].numpy(), columns=[1])
    assert alone.gradients is not None and np.array_equal(alone.gradients[0], look.gradients[1])
    with torch.no_grad():
        maps = finding_maps(network.finding_head, said.features, network.shares(said.masks))[0].numpy()
    np.testing.assert_allclose(maps, grad_cam(look.features, look.gradients), rtol=1e-4, atol=1e-6)


def test_the_file_without_torch_answers_and_explains_as_the_network(student: Student) -> None:
    network, images = load_network(student.folder / "student.safetensors"), pictures(3)
    assert network.spec.within == ORGAN
    with torch.inference_mode():
        wanted = network(images).logits.numpy()
    assert np.abs(student.logits(images.numpy()) - wanted).max() < 1e-4
    for image in images.numpy():
        ours, theirs = student.look(image), NetworkModel(network).look(image)
        assert np.abs(ours.logits - theirs.logits).max() < 1e-4
        assert ours.gradients is not None and theirs.gradients is not None
        assert np.abs(ours.gradients - theirs.gradients).max() < 1e-3 * np.abs(theirs.gradients).max()


def test_what_is_not_drawn_cannot_be_pooled_within() -> None:
    for given in ({"within": "hart"}, {"within": ORGAN, "tasks": ("findings",)}):
        with pytest.raises(WeightsError, match=r"pools findings within 'h.*which it does not draw"):
            Network(NetworkSpec(encoder="mobilenetv3_small_050", size=SIZE, **given))  # type: ignore[arg-type]


def test_a_specification_says_it_only_where_it_is_so() -> None:
    assert "within" not in NetworkSpec().as_dict()
    spec = NetworkSpec(within=ORGAN)
    assert NetworkSpec.from_dict(spec.as_dict()) == spec


def test_a_recipe_names_a_structure_of_its_modality(tmp_path: Path) -> None:
    text = (RECIPES / "dermoscopy-toy.toml").read_text(encoding="utf-8")
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace("[student]", '[student]\nwithin = "lesion"'), encoding="utf-8")
    assert read_recipe(path).student.within == "lesion"
    path.write_text(text.replace("[student]", '[student]\nwithin = "leison"'), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"'student.within' is 'leison', .*did you mean 'lesion'"):
        read_recipe(path)
    path.write_text(text.replace("[student]", '[student]\nwithin = "lesion"\ntasks = ["findings"]'), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"'student.within' is 'lesion', which the student does not draw"):
        read_recipe(path)
