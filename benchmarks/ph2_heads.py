"""PH2 out of fold in three minutes of one core: three heads on an encoder that stays as it came, its features seen once.

    python benchmarks/ph2_heads.py recipes/dermoscopy-ph2.toml runs/ph2-heads && python benchmarks/ph2_folds.py runs/ph2-heads

The recipe says where the pictures and ImageNet's weights are; the student here also reads stride 32, of pictures at 192 px.
What the encoder sees of eight views (mirrored, quarter turns) is kept, and neck and heads learn from that: 120 pictures are
few for an encoder, and steps on kept features cost a tenth. Its teacher of findings is the logistic regression of
`training/probe.py` on the same features and a colour histogram, fitted to the training pictures of each fold; what it says of
a training picture comes from a fit without it, so that it is no echo of the labels. RUN is laid out as by `crossvalidate`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from storyxai.data.assemble import examples_from_table
from storyxai.data.batches import Batch, Examples, image_tensor, make_batch
from storyxai.data.folds import deal_folds
from storyxai.data.table import read_table
from storyxai.models.export import save_network
from storyxai.models.network import INPUT_MEAN, INPUT_STD, Network
from storyxai.models.tokens import encode_tokens
from storyxai.training import losses
from storyxai.training.config import FitConfig, Recipe
from storyxai.training.distil import new_network, words_of
from storyxai.training.objective import task_losses, task_weights
from storyxai.training.probe import LEAST_POSITIVES, VARIANCE, colour_histogram, fit_logistic
from storyxai.training.recipe_file import read_recipe
from storyxai.training.weights import positive_weights

SIZE, FOLDS, INNER, VIEWS = 192, 5, 4, 8
FITTED_VIEWS = 4
STEPS, BATCH, RATE, DECAY, EMA = 500, 16, 3e-3, 0.02, 0.98
MIXING, TEMPERATURE = 0.5, 2.0


class Kept(nn.Module):
    """Stands in for the encoder and gives the features that were laid down for the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """The features, whatever `x` is."""
        return self.given


def turned(values: np.ndarray, view: int) -> np.ndarray:
    """One of the eight ways to lay a square: `view` % 4 quarter turns, from 4 on mirrored. Shapes: [..., S, S]."""
    laid = np.rot90(values, view % 4, axes=(-2, -1))
    return np.ascontiguousarray(laid[..., ::-1] if view >= 4 else laid)


def examples_of(recipe: Recipe) -> Examples:
    """The pictures of the recipe's table at SIZE."""
    kind = recipe.kind()
    words = words_of(kind)
    found, _ = examples_from_table(
        read_table(Path(recipe.data.tables[0])), size=SIZE, modality=kind, shares=True,
        encode=lambda tokens: encode_tokens(tokens, words, length=64),
    )
    assert found is not None
    return found


@torch.inference_mode()
def seen_by(network: Network, images: np.ndarray) -> list[Tensor]:
    """What the encoder gives of each picture at each stride that is used, float16 [N, K, h, w] each."""
    parts = []
    for start in range(0, len(images), BATCH):
        levels = network.encoder((image_tensor(images[start : start + BATCH]) - INPUT_MEAN) / INPUT_STD)
        parts.append([levels[place].half() for place in network.levels])
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def columns_of(levels: list[Tensor], images: np.ndarray) -> np.ndarray:
    """Means and maxima at strides 16 and 32 and the colour histogram, [N, D]."""
    parts = [part for level in levels[-2:] for part in (level.float().mean(dim=(2, 3)), level.float().amax(dim=(2, 3)))]
    return torch.cat([*parts, colour_histogram(image_tensor(images))], dim=1).double().numpy()


def probe(seen: np.ndarray, labels: np.ndarray, inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Log-odds [outside, F] by a regression on the pictures `inside`. Shapes: seen [views, N, D]."""
    columns = seen[:FITTED_VIEWS, inside]
    mean, spread = columns.mean(axis=(0, 1)), np.maximum(columns.std(axis=(0, 1)), 1e-6)
    sizes = np.repeat([seen.shape[2] - 64, 64], [seen.shape[2] - 64, 64])
    scale = spread * np.sqrt(sizes / VARIANCE)
    flat, asked = ((columns - mean) / scale).reshape(-1, seen.shape[2]), (seen[:, outside].mean(axis=0) - mean) / scale
    said = np.full((len(asked), labels.shape[1]), np.nan)
    for column in range(labels.shape[1]):
        truth = labels[inside, column] >= 0.5
        if min(truth.sum(), (~truth).sum()) >= LEAST_POSITIVES:
            weights, bias = fit_logistic(flat, np.tile(truth, FITTED_VIEWS))
            said[:, column] = asked @ weights + bias
    return said


def cross_fitted(seen: np.ndarray, examples: Examples, inside: np.ndarray) -> np.ndarray:
    """What a probe says of each of the pictures `inside`, fitted without it, [inside, F]."""
    patients = [examples.patient_ids[row] for row in inside]
    part_of = deal_folds(patients, examples.labels[inside], folds=INNER, seed=1)
    part = np.array([part_of[patient] for patient in patients])
    said = np.zeros((len(inside), examples.labels.shape[1]))
    for number in range(INNER):
        said[part == number] = probe(seen, examples.labels, inside[part != number], inside[part == number])
    return said


def taught(
    network: Network, laid: list[Examples], kept: list[list[Tensor]], inside: np.ndarray, teacher: np.ndarray
) -> Network:
    """`network` with its neck and heads learnt from the pictures `inside`; `teacher` are log-odds about these."""
    encoder, stand_in = network.encoder, Kept()
    network.encoder = stand_in
    learning = list(network.parameters())
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=DECAY)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    config = FitConfig(epochs=1, task_weights=(1.0, 1.0, 0.2, 0.0))
    weights, rng = positive_weights(torch.from_numpy(laid[0].labels[inside])), np.random.default_rng(0)
    share = task_weights(network.spec, config)
    network.train()
    for step in range(STEPS):
        places = rng.choice(len(inside), BATCH, replace=False)
        batch, levels = batch_of(laid, kept, inside[places], rng.integers(0, VIEWS, BATCH))
        stand_in.given = dict(zip(network.levels, levels, strict=True))
        said = network(batch.images)
        lost = task_losses(network, said, batch, places, config=config, weights=weights)
        assert said.logits is not None
        distance = losses.bernoulli_kl(said.logits, torch.from_numpy(teacher[places]).float(), TEMPERATURE)
        total = sum(share[task] * lost[task] for task in lost) + MIXING / (1 - MIXING) * TEMPERATURE**2 * distance
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 25) * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(network)
    student: Network = average.module
    student.encoder = encoder
    return student.eval()


def batch_of(
    laid: list[Examples], kept: list[list[Tensor]], rows: np.ndarray, views: np.ndarray
) -> tuple[Batch, list[Tensor]]:
    """The rows, each in its view, and what the encoder saw of them."""
    ones = [make_batch(laid[view], np.array([row]), 0) for row, view in zip(rows, views, strict=True)]
    batch = Batch(*(torch.cat(part) for part in zip(*ones, strict=True)))
    levels = range(len(kept[0]))
    return batch, [
        torch.stack([kept[view][level][row] for row, view in zip(rows, views, strict=True)]).float() for level in levels
    ]


def main() -> None:
    """Teach each fold's student and leave what it says of the pictures that it has not seen."""
    recipe, out = read_recipe(Path(sys.argv[1])), Path(sys.argv[2])
    recipe = replace(recipe, data=replace(recipe.data, size=SIZE), student=replace(recipe.student, deepest=32))
    examples = examples_of(recipe)
    laid = [
        replace(examples, images=turned(examples.images, view), masks=turned(examples.masks, view)) for view in range(VIEWS)
    ]
    first = new_network(recipe, recipe.student, recipe.student.tasks, seed=0).eval()
    kept = [seen_by(first, one.images) for one in laid]
    seen = np.stack([columns_of(levels, one.images) for levels, one in zip(kept, laid, strict=True)])
    dealt = deal_folds(examples.patient_ids, examples.labels, folds=FOLDS, seed=recipe.seed)
    fold = np.array([dealt[patient] for patient in examples.patient_ids])
    student, teachers = np.zeros_like(examples.labels), np.zeros_like(examples.labels)
    for number in range(FOLDS):
        inside, here = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        teachers[here] = probe(seen, examples.labels, inside, here)
        fresh = new_network(recipe, recipe.student, recipe.student.tasks, seed=number)
        network = taught(fresh, laid, kept, inside, cross_fitted(seen, examples, inside))
        with torch.inference_mode():
            student[here] = network(image_tensor(examples.images[here])).logits.numpy()
        (out / f"fold-{number}").mkdir(parents=True, exist_ok=True)
        save_network(network, out / f"fold-{number}" / "student-network.safetensors")
        print(f"fold {number}", flush=True)
    ids = np.array(examples.ids)
    np.savez(out / "examples.npz", images=examples.images, masks=examples.masks, ids=ids)
    np.savez(
        out / "answers.npz", ids=ids, patient_ids=np.array(examples.patient_ids), fold=fold, labels=examples.labels,
        student=student, teachers=teachers,
    )


if __name__ == "__main__":
    main()
