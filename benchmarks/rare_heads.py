"""What helps a finding with few positives: linear heads on what ImageNet's encoder sees of PH2, five ways, out of fold.

    python benchmarks/rare_heads.py ../shared/data/ph2 lite0.safetensors --out results/skin/rare-heads.json

Nothing of the network is trained: this is the cheap form of the question, in minutes of one core. Each picture goes once
through tf_efficientnet_lite0 at 256 px; means and maxima at strides 16 and 32, in the span of their first components, are the
columns of a logistic head that is held by half its squared length. Judged are the three rarest criteria (20 to 26 of 150): in
a training part five positives keep their labels; the others lose them, and as many negatives; in three draws.

The ways: cross-entropy as it comes; balanced (positives weigh as much in all as negatives: what sampling them alike comes
to); the asymmetric loss; a teacher's answers beside the labels (a regression on features inside the readers' outlines and on
colours, fitted to the same few labels, which also answers for the pictures that lost theirs); and 200 phantoms in the
training part. How strongly a head is held is chosen for each way, fold and finding by three folds of the training part.
Intervals: 1,000 resamples of patients, the same for every way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from safetensors.torch import load_file
from torch import Tensor

from ph2_folds import difference
from ph2_heads import inside_of
from storyxai.data.folds import deal_folds
from storyxai.data.sources.ph2 import read_ph2
from storyxai.metrics.bootstrap import Floats, Statistic, draw_resamples, estimate
from storyxai.metrics.classification import auroc_statistic
from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.provenance import canonical_json
from storyxai.training import losses
from storyxai.training.probe import colour_histogram, fit_logistic

FOLDS, INNER, COUNT, DRAWS, FEW = 5, 3, 1000, 3, 5
COMPONENTS, STRENGTHS = 128, (0.003, 0.03, 0.3)
WEIGHT, TEMPERATURE = 1.0, 2.0
PHANTOMS, FIRST_PHANTOM = 200, 700_000
WAYS = ("plain", "balanced", "asymmetric", "teacher", "phantoms")
JUDGED = ("Streaks", "Regression", "Blue_Whitish_Veil")
SIDE = 256
_Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """Columns [N + P, D] of N pictures and P phantoms; labels of both by finding; patients and fold of the pictures.

    `teacher` gives a teacher's log-odds [N], nan where it has none, for a finding and the places whose labels are learnt from.
    """

    columns: Tensor
    labels: dict[str, _Float]
    patients: list[str]
    fold: NDArray[np.int64]
    teacher: Callable[[str, NDArray[np.int64]], _Float]

    @property
    def phantoms(self) -> NDArray[np.int64]:
        """The places of the phantoms."""
        return np.arange(len(self.patients), len(self.columns))


def opened(path: Path, side: int) -> NDArray[np.uint8]:
    """A picture in three colours, uint8 [3, side, side]."""
    shown = Picture.open(path).convert("RGB").resize((side, side), Picture.Resampling.BILINEAR)
    return np.asarray(shown).transpose(2, 0, 1)


def batches(images: list[NDArray[np.uint8]]) -> Iterator[Tensor]:
    """Images in [0, 1], 32 at once."""
    for start in range(0, len(images), 32):
        yield torch.from_numpy(np.stack(images[start : start + 32])).float() / 255


@torch.inference_mode()
def seen_of(weights: Path, images: list[NDArray[np.uint8]], masks: Tensor | None = None) -> tuple[_Float, _Float | None]:
    """Means and maxima at strides 16 and 32 [N, D], and what lies inside the masks with all colours [N, K]."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    network.load_state_dict(load_file(weights), strict=False)
    network.eval()
    whole, inside = [], []
    for number, batch in enumerate(batches(images)):
        levels = network(batch * 2 - 1)[-3:]
        whole.append(torch.cat([part for one in levels[1:] for part in (one.mean(dim=(2, 3)), one.amax(dim=(2, 3)))], dim=1))
        if masks is not None and 32 * number < len(masks):
            drawn = masks[32 * number : 32 * number + len(batch)]
            some = [part for one in levels for part in inside_of(one[: len(drawn)], drawn)]
            inside.append(torch.cat([*some, colour_histogram(batch[: len(drawn)])], dim=1))
    return torch.cat(whole).double().numpy(), torch.cat(inside).double().numpy() if inside else None


def spanned(columns: _Float, count: int) -> Tensor:
    """The first components of the columns, of the `count` pictures that are no phantoms, with a summed variance of 100."""
    scaled = (columns - columns[:count].mean(axis=0)) / np.maximum(columns[:count].std(axis=0), 1e-6)
    _, directions = np.linalg.eigh(scaled[:count].T @ scaled[:count])
    parts = scaled @ directions[:, ::-1][:, : min(COMPONENTS, count - 1)]
    return torch.from_numpy(parts * np.sqrt(100 / parts[:count].var(axis=0).sum()))


def dealt(patients: list[str], judged: NDArray[np.float64]) -> NDArray[np.int64]:
    """The fold of each picture."""
    fold = deal_folds(patients, judged, folds=FOLDS, seed=0)
    return np.array([fold[one] for one in patients])


def skin(folder: Path, weights: Path) -> Known:
    """PH2's pictures, phantoms of the skin, and a teacher that looks into the readers' outlines."""
    table, side = read_ph2(folder), SIDE
    rows = table.frame.to_dict("records")
    made = [generate_skin_phantom(FIRST_PHANTOM + number, size=side) for number in range(PHANTOMS)]
    names = [str(row["study_id"]).removeprefix("ph2-") for row in rows]
    masks = np.stack([opened(folder / "masks" / f"{name}.png", side)[:1] for name in names]) / np.float32(255)
    images = [opened(table.image_path(row), side) for row in rows]
    images += [(one.image.pixels * 255).astype(np.uint8).transpose(2, 0, 1) for one in made]
    seen, inside_seen = seen_of(weights, images, torch.from_numpy(masks))
    assert inside_seen is not None
    stated = table.labels().values.astype(np.float64)
    patients = [str(row["patient_id"]) for row in rows]
    fold = dealt(patients, stated)
    labels = {
        name: np.concatenate([stated[:, NAMES.index(name)], [one.labels[name] for one in made]]) for name in JUDGED
    }
    own = spanned(inside_seen, len(rows)).numpy()

    def teacher(name: str, inside: NDArray[np.int64]) -> _Float:
        fitted, bias = fit_logistic(own[inside], labels[name][inside] >= 0.5)
        return np.asarray(own @ fitted + bias)

    return Known(spanned(seen, len(rows)), labels, patients, fold, teacher)


def loss_of(way: str, logits: Tensor, truth: Tensor, answers: Tensor | None) -> Tensor:
    """What a head loses. Shapes: logits, truth (nan: not stated) and answers (nan: none) [N, 1]."""
    positives = truth.nansum()
    balance = ((~truth.isnan()).sum() - positives) / positives
    if way == "asymmetric":
        return losses.asymmetric_loss(logits, truth)
    loss = losses.finding_loss(logits, truth, balance[None] if way == "balanced" else None)
    return loss if answers is None else loss + WEIGHT * TEMPERATURE**2 * losses.bernoulli_kl(logits, answers, TEMPERATURE)


def fitted(way: str, columns: Tensor, truth: Tensor, answers: Tensor | None, strength: float) -> Tensor:
    """Weights [D + 1], the last the intercept."""
    theta = torch.zeros(columns.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    step = torch.optim.LBFGS([theta], max_iter=150, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def closure() -> Tensor:
        step.zero_grad()
        logits = (columns @ theta[:-1] + theta[-1])[:, None]
        loss = strength * len(columns) * loss_of(way, logits, truth, answers) + 0.5 * theta[:-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    step.step(closure)
    return theta.detach()


def answered(known: Known, name: str, way: str, parts: tuple[NDArray[np.int64], ...], strength: float) -> _Float:
    """Log-odds of the pictures `asked`, by a head that learns the labels of `inside` and may see `silent` without theirs."""
    inside, silent, asked = parts
    taught = np.concatenate([inside, silent if way == "teacher" else known.phantoms if way == "phantoms" else silent[:0]])
    truth = torch.from_numpy(known.labels[name][taught].copy())
    if way == "teacher":
        truth[len(inside) :] = torch.nan
    told = torch.from_numpy(known.teacher(name, inside)[taught])[:, None] if way == "teacher" else None
    theta = fitted(way, known.columns[taught], truth[:, None], told, strength)
    return np.asarray((known.columns[asked] @ theta[:-1] + theta[-1]).numpy())


def inner_answers(
    known: Known, name: str, way: str, strength: float, inside: NDArray[np.int64], silent: NDArray[np.int64]
) -> _Float:
    """Log-odds of the pictures `inside`, each third of them by a head that learnt from the others."""
    part_of = deal_folds([known.patients[row] for row in inside], known.labels[name][inside][:, None], folds=INNER, seed=3)
    part = np.array([part_of[known.patients[row]] for row in inside])
    said = np.zeros(len(inside))
    for number in range(INNER):
        said[part == number] = answered(known, name, way, (inside[part != number], silent, inside[part == number]), strength)
    return said


def best_strength(known: Known, name: str, way: str, inside: NDArray[np.int64], silent: NDArray[np.int64]) -> float:
    """The strength that ranks the pictures `inside` best when each part of them is left out; the smallest of equals."""
    said = [inner_answers(known, name, way, strength, inside, silent) for strength in STRENGTHS]
    return STRENGTHS[ranked_best(known.labels[name][inside], said)]


def ranked_best(labels: _Float, said: list[_Float]) -> int:
    """The place of the answers with the largest AUROC, of equals the first."""
    return int(np.argmax([auroc_statistic(labels, one)(np.ones((1, len(labels))))[0] for one in said]))


def out_of_fold(known: Known, name: str, way: str, *, seed: int) -> _Float:
    """Log-odds [N] of every picture by heads that have not seen it, learnt from `FEW` positives."""
    said = np.zeros(len(known.patients))
    for number in range(FOLDS):
        inside, asked = np.flatnonzero(known.fold != number), np.flatnonzero(known.fold == number)
        present = inside[known.labels[name][inside] >= 0.5]
        rng = np.random.default_rng([seed, number])
        lost = rng.permutation(present)[FEW:]
        silent = np.sort(np.concatenate([lost, rng.permutation(np.setdiff1d(inside, present))[: len(lost)]]))
        inside = np.setdiff1d(inside, silent)
        strength = best_strength(known, name, way, inside, silent)
        said[asked] = answered(known, name, way, (inside, silent, asked), strength)
    return said


def mean_of(parts: list[Statistic]) -> Statistic:
    """The mean of several statistics on the same resamples."""

    def mean(weights: Floats) -> Floats:
        return np.asarray(np.mean([part(weights) for part in parts], axis=0))

    return mean


def main() -> None:
    """See, fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    known = skin(asked.folder, asked.weights)
    resamples = draw_resamples(known.patients, count=COUNT, seed=0)
    record: dict[str, dict[str, object]] = {}
    for name in JUDGED:
        truth = known.labels[name][: len(known.patients)]
        record[name] = {"n": len(truth), "positives": int(truth.sum())}
        plain: Statistic | None = None
        for way in WAYS:
            said = [out_of_fold(known, name, way, seed=draw) for draw in range(DRAWS)]
            area = mean_of([auroc_statistic(truth, one) for one in said])
            plain = area if plain is None else plain
            found = {"auroc": estimate(area, resamples)} | (
                {} if way == "plain" else {"more than plain": estimate(difference(area, plain), resamples)}
            )
            record[name][way] = {key: [one.value, one.low, one.high] for key, one in found.items()}
            told = "  ".join(f"{key} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for key, one in found.items())
            print(f"{name:20s} {int(truth.sum()):4d} of {len(truth)}  {way:11s} {told}", flush=True)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_bytes(canonical_json(record))


if __name__ == "__main__":
    main()
