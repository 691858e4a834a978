"""PH2 out of fold in some minutes: three heads on an encoder that stays as it came, its features seen once.

    python benchmarks/ph2_heads.py recipes/dermoscopy-ph2.toml runs/ph2-heads && python benchmarks/ph2_folds.py runs/ph2-heads

The recipe says where the pictures and ImageNet's weights are; the student here also reads stride 32, of pictures at 256 px.
What the encoder sees of eight views (quarter turns, and mirrored) is kept, and neck and heads learn from that: 120 pictures are
few for an encoder, and steps on kept features cost a tenth. Its teacher of findings is the logistic regression of
`training/probe.py` on the same features and a colour histogram, fitted to the training pictures of each fold; what it says of
a training picture comes from a fit without it, so that it is no echo of the labels. RUN is laid out as by `crossvalidate`.

Two forms of the student: the plain one pools findings over the picture; the other within the lesion that it draws
(`student.within`), and its teacher also reads the features inside the readers' outlines, which training pictures have. With
`--form choose` each fold takes the form that ranks the criteria better, on average, when halves of its own training pictures
judge one another: the fold that is judged has no say. A fold whose student lies in RUN is not taught again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyxai.data.assemble import examples_from_table
from storyxai.data.batches import Batch, Examples, image_tensor, make_batch
from storyxai.data.folds import deal_folds
from storyxai.data.table import read_table
from storyxai.metrics.classification import auroc_statistic
from storyxai.models.export import load_network, save_network
from storyxai.models.network import INPUT_MEAN, INPUT_STD, Network
from storyxai.models.tokens import encode_tokens
from storyxai.training import losses
from storyxai.training.config import FitConfig, Recipe
from storyxai.training.distil import new_network, words_of
from storyxai.training.objective import task_losses, task_weights
from storyxai.training.probe import LEAST_POSITIVES, VARIANCE, colour_histogram, fit_logistic
from storyxai.training.recipe_file import read_recipe
from storyxai.training.weights import positive_weights

SIZE, FOLDS, INNER, VIEWS = 256, 5, 4, 8
FITTED_VIEWS = 4
HALVES, SHORT = 2, 200
FORMS = ("", "lesion")
"""What findings are pooled within: nothing, or the lesion."""
CRITERIA = slice(2, None)
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


def columns_of(levels: list[Tensor], examples: Examples, within: str) -> np.ndarray:
    """Means and maxima at strides 16 and 32, inside the outlines too where asked for, and the colour histogram, [N, D]."""
    parts = [part for level in levels[-2:] for part in (level.float().mean(dim=(2, 3)), level.float().amax(dim=(2, 3)))]
    if within:
        drawn = torch.from_numpy((examples.masks[:, :1] == 100).astype(np.float32))
        parts += [part for level in levels[-3:] for part in inside_of(level.float(), drawn)]
    return torch.cat([*parts, colour_histogram(image_tensor(examples.images))], dim=1).double().numpy()


def inside_of(level: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, deviations and maxima of a level within the outlines, [N, K] each. Shapes: drawn [N, 1, S / 4, S / 4]."""
    share = F.adaptive_avg_pool2d(drawn, level.shape[-2:]) + 1e-4
    share = share / share.sum(dim=(2, 3), keepdim=True)
    mean = (level * share).sum(dim=(2, 3))
    spread = ((level - mean[..., None, None]) ** 2 * share).sum(dim=(2, 3)).sqrt()
    most = level.masked_fill(share < 0.5 * share.amax(dim=(2, 3), keepdim=True), -torch.inf).amax(dim=(2, 3))
    return mean, spread, most


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


@dataclass(frozen=True, eq=False)
class Seen:
    """The pictures in each view: what is known of them, what the encoder saw, and the columns of each form's teacher."""

    examples: Examples
    known: list[Batch]
    kept: list[list[Tensor]]
    columns: dict[str, np.ndarray]

    def batch(self, rows: np.ndarray, views: np.ndarray) -> tuple[Batch, list[Tensor]]:
        """The rows, each in its view, and what the encoder saw of them."""
        places = list(zip(rows, views, strict=True))
        parts = zip(*([part[row] for part in self.known[view]] for row, view in places), strict=True)
        levels = [
            torch.stack([self.kept[view][level][row] for row, view in places]).float() for level in range(len(self.kept[0]))
        ]
        return Batch(*(torch.stack(part) for part in parts)), levels


def taught(network: Network, seen: Seen, inside: np.ndarray, *, steps: int) -> Network:
    """`network` with its neck and heads learnt from the pictures `inside` and from what their teacher says of these."""
    teacher = cross_fitted(seen.columns[network.spec.within], seen.examples, inside)
    encoder, stand_in = network.encoder, Kept()
    network.encoder = stand_in
    learning = list(network.parameters())
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=DECAY)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA), use_buffers=True
    )
    config = FitConfig(epochs=1, task_weights=(1.0, 1.0, 0.2, 0.0))
    weights, rng = positive_weights(torch.from_numpy(seen.examples.labels[inside])), np.random.default_rng(0)
    share = task_weights(network.spec, config)
    network.train()
    for step in range(steps):
        places = rng.choice(len(inside), BATCH, replace=False)
        batch, levels = seen.batch(inside[places], rng.integers(0, VIEWS, BATCH))
        stand_in.given = dict(zip(network.levels, levels, strict=True))
        said = network(batch.images)
        lost = task_losses(network, said, batch, places, config=config, weights=weights)
        assert said.logits is not None
        distance = losses.bernoulli_kl(said.logits, torch.from_numpy(teacher[places]).float(), TEMPERATURE)
        total = sum(share[task] * lost[task] for task in lost) + MIXING / (1 - MIXING) * TEMPERATURE**2 * distance
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 25) * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        average.update_parameters(network)
    student: Network = average.module
    student.encoder = encoder
    return student.eval()


@torch.inference_mode()
def answers_of(network: Network, seen: Seen, rows: np.ndarray) -> np.ndarray:
    """Its log-odds of the pictures `rows` as they are, [rows, F], from what the encoder saw."""
    encoder, stand_in = network.encoder, Kept()
    network.encoder = stand_in
    batch, levels = seen.batch(rows, np.zeros(len(rows), dtype=int))
    stand_in.given = dict(zip(network.levels, levels, strict=True))
    said = network(batch.images).logits
    network.encoder = encoder
    assert said is not None
    return np.asarray(said.numpy())


def seen_pictures(recipe: Recipe) -> Seen:
    """The recipe's pictures as the encoder sees them in every view."""
    examples = examples_of(recipe)
    first = new_network(recipe, recipe.student, recipe.student.tasks, seed=0).eval()
    known, kept, columns = [], [], {form: [] for form in FORMS}
    for view in range(VIEWS):
        laid = replace(examples, images=turned(examples.images, view), masks=turned(examples.masks, view))
        kept.append(seen_by(first, laid.images))
        for form in FORMS:
            columns[form].append(columns_of(kept[-1], laid, form))
        # The encoder has seen the pictures: a batch carries none.
        known.append(make_batch(replace(laid, images=laid.images[:, :, :1, :1]), np.arange(len(laid)), 0))
    return Seen(examples, known, kept, {form: np.stack(of) for form, of in columns.items()})


def inner_figure(recipe: Recipe, seen: Seen, inside: np.ndarray, form: str) -> float:
    """The mean AUROC of the criteria when halves of the pictures `inside` judge one another."""
    examples = seen.examples
    patients = [examples.patient_ids[row] for row in inside]
    part_of = deal_folds(patients, examples.labels[inside], folds=HALVES, seed=2)
    part, said = np.array([part_of[patient] for patient in patients]), np.zeros((len(inside), examples.labels.shape[1]))
    shape = replace(recipe.student, within=form)
    for number in range(HALVES):
        fresh = new_network(recipe, shape, ("findings", "masks"), seed=number)
        network = taught(fresh, seen, inside[part != number], steps=SHORT)
        said[part == number] = answers_of(network, seen, inside[part == number])
    truth, all_alike = examples.labels[inside], np.ones((1, len(inside)))
    ranked = [auroc_statistic(truth[:, f], said[:, f])(all_alike)[0] for f in range(truth.shape[1])]
    return float(np.mean(ranked[CRITERIA]))


def form_of(recipe: Recipe, seen: Seen, inside: np.ndarray, asked: str) -> str:
    """The form that is asked for, or the one that ranks the criteria of `inside` better; the plain one of equals."""
    if asked != "choose":
        return "" if asked == "plain" else "lesion"
    figures = [inner_figure(recipe, seen, inside, form) for form in FORMS]
    print("inner mean AUROC of the criteria, plain and within: " + ", ".join(f"{one:.3f}" for one in figures), flush=True)
    return FORMS[int(np.argmax(figures))]


def fold_student(recipe: Recipe, seen: Seen, inside: np.ndarray, *, number: int, asked: argparse.Namespace) -> Network:
    """The student of a fold: as it lies in the run's folder, else taught there and then."""
    place = asked.run / f"fold-{number}" / "student-network.safetensors"
    if place.is_file():
        return load_network(place)
    shape = replace(recipe.student, within=form_of(recipe, seen, inside, asked.form))
    network = taught(new_network(recipe, shape, shape.tasks, seed=number), seen, inside, steps=STEPS)
    place.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, place)
    return network


def main() -> None:
    """Teach each fold's student and leave what it says of the pictures that it has not seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--form", choices=("choose", "plain", "within"), default="choose")
    asked = parser.parse_args()
    recipe, out = read_recipe(asked.recipe), asked.run
    recipe = replace(recipe, data=replace(recipe.data, size=SIZE), student=replace(recipe.student, deepest=32))
    seen = seen_pictures(recipe)
    examples = seen.examples
    dealt = deal_folds(examples.patient_ids, examples.labels, folds=FOLDS, seed=recipe.seed)
    fold = np.array([dealt[patient] for patient in examples.patient_ids])
    student = np.zeros_like(examples.labels)
    for number in range(FOLDS):
        inside, here = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        network = fold_student(recipe, seen, inside, number=number, asked=asked)
        student[here] = answers_of(network, seen, here)
        print(f"fold {number}: pooled within '{network.spec.within}'", flush=True)
    ids = np.array(examples.ids)
    np.savez(out / "examples.npz", images=examples.images, masks=examples.masks, ids=ids)
    np.savez(
        out / "answers.npz", ids=ids, patient_ids=np.array(examples.patient_ids), fold=fold, labels=examples.labels,
        student=student, teachers=np.full_like(student, np.nan),
    )


if __name__ == "__main__":
    main()
