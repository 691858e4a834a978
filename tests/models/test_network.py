"""The network family: sizes, heads, the pooling's limits, and who may bend whom."""

from __future__ import annotations

import math

import pytest
import torch

from storyxai.errors import WeightsError
from storyxai.modalities.chest_radiograph.grammar import GRAMMAR
from storyxai.models.network import TASKS, FindingHead, Network, NetworkSpec, count_parameters
from storyxai.models.tokens import full_vocabulary
from storyxai.training.config import StudentRecipe
from teaching_examples import FINDINGS, SIZE, VOCABULARY, tiny_network

MOST_PARAMETERS = 5_000_000


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_the_student_is_small() -> None:
    shape = StudentRecipe("mobilenetv3_small_100", 1)
    spec = NetworkSpec(vocabulary=full_vocabulary(GRAMMAR.vocabulary()), width=shape.width, hidden=shape.hidden)
    network = Network(spec)
    assert count_parameters(network) == sum(p.numel() for p in network.parameters()) <= MOST_PARAMETERS


def test_three_tasks_give_three_heads() -> None:
    said = tiny_network()(pictures(2))
    coarse, fine = SIZE // 16, SIZE // 4
    assert said.features.shape == (2, 16, coarse, coarse)
    assert said.grid.shape == (2, len(FINDINGS), coarse, coarse) and said.logits.shape == (2, len(FINDINGS))
    assert said.masks.shape == (2, 3, fine, fine)
    assert said.memory.shape == (2, 49 + len(FINDINGS), 64)


@pytest.mark.parametrize(
    ("task", "given"), [("findings", "grid logits"), ("masks", "masks"), ("report", "grid logits memory")]
)
def test_a_teacher_has_the_heads_of_its_task(task: str, given: str) -> None:
    said = tiny_network(tasks=(task,))(pictures(2))
    present = {name for name, value in said._asdict().items() if value is not None}
    assert present == {"features", *given.split()}


def test_an_image_is_judged_apart_from_its_neighbours() -> None:
    network, images = tiny_network(), pictures(3)
    with torch.inference_mode():
        together, alone = network(images), network(images[1:2])
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours[1:2], theirs, atol=1e-5)


def bare_head(log_sharpness: float) -> FindingHead:
    """A head that passes one non-negative channel through."""
    head = FindingHead(1, 1, 1)
    with torch.no_grad():
        for layer in (head.hidden, head.out):
            layer.weight.fill_(1.0)
            layer.bias.fill_(0.0)
        head.log_sharpness.fill_(log_sharpness)
    return head


CELLS = torch.tensor([0.0, 0.2, 0.5, 1.5]).view(1, 1, 2, 2)


def test_a_blunt_pooling_is_the_mean() -> None:
    # z = mean + r var / 2 + O(r^2), and r stops at exp(-3).
    grid, pooled = bare_head(-50.0)(CELLS)
    assert torch.equal(grid, CELLS)
    second_order = CELLS.mean() + math.exp(-3) * CELLS.var(unbiased=False) / 2
    assert pooled.item() == pytest.approx(second_order.item(), abs=1e-3)


def test_a_sharp_pooling_is_the_maximum() -> None:
    # max - ln(n) / r <= z <= max, equal on the left when one cell alone stands out.
    sharp = math.exp(2.5)
    pooled = bare_head(50.0)(CELLS)[1].item()
    assert pooled == pytest.approx(1.5 - math.log(4) / sharp, abs=1e-4) and pooled < 1.5


def test_pooling_grows_with_sharpness_and_keeps_an_even_grid() -> None:
    pooled = [bare_head(value)(CELLS)[1].item() for value in (-3.0, -1.0, 0.0, 1.0, 2.5)]
    assert pooled == sorted(pooled) and CELLS.mean() < pooled[0] and pooled[-1] < CELLS.max()
    for value in (-3.0, 0.0, 2.5):
        assert bare_head(value)(torch.full((1, 1, 3, 3), 0.7))[1].item() == pytest.approx(0.7, abs=1e-5)


def test_pooling_survives_large_cells() -> None:
    pooled = bare_head(2.5)(CELLS * 1000)[1]
    assert torch.isfinite(pooled).all() and pooled.item() == pytest.approx(1500, abs=1)


def test_the_decoder_does_not_see_the_future() -> None:
    network = tiny_network()
    memory = network(pictures(1)).memory
    words = torch.tensor([[1, 4, 5, 6, 7, 8]])
    with torch.inference_mode():
        whole = network.decoder(words, memory)
        for place in range(1, 6):
            changed = words.clone()
            changed[:, place:] = 9
            other = network.decoder(changed, memory)
            assert torch.allclose(whole[:, :place], other[:, :place], atol=1e-5)
            assert (whole[:, place] - other[:, place]).abs().max() > 1e-3
            assert torch.allclose(whole[:, :place], network.decoder(words[:, :place], memory), atol=1e-5)
    assert whole.shape == (1, 6, len(VOCABULARY))


def test_the_report_reads_the_findings_but_does_not_bend_them() -> None:
    network = tiny_network()
    network(pictures(2)).memory.square().sum().backward()
    assert all(p.grad is None for p in network.finding_head.parameters())
    assert network.decoder.finding_slope.grad.abs().sum() > 0
    assert network.encoder.conv_stem.weight.grad.abs().sum() > 0
    features = torch.zeros(1, 16, 4, 4)
    low, high = (network.decoder.remember(features, torch.full((1, 3), p)) for p in (0.1, 0.9))
    assert torch.equal(low[:, :49], high[:, :49]) and (low[:, 49:] - high[:, 49:]).abs().min() > 0


def test_a_specification_comes_back_and_an_unknown_field_is_refused() -> None:
    spec = NetworkSpec(vocabulary=VOCABULARY, tasks=TASKS[:2], size=SIZE)
    assert NetworkSpec.from_dict(spec.as_dict()) == spec
    with pytest.raises(WeightsError, match="surprise"):
        NetworkSpec.from_dict({**spec.as_dict(), "surprise": 1})
