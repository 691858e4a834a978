"""PH2 out of fold in a minute: linear probes of ImageNet's features beside a colour histogram, for findings and the outline.

    python benchmarks/ph2_probe.py ../shared/data/ph2 lite0.safetensors

Nothing is fine-tuned: pictures go once through tf_efficientnet_lite0 (224 px, weights as `storyxai data weights` writes them);
logistic regression is learnt on four fifths of the pictures and judged on the fifth that it has not seen. Findings: means and
maxima of the features at strides 16 and 32. Outline: each point of a 56 x 56 grid by the features at strides 4, 8 and 16 there
and its place. Intervals are from 2,000 resamples of pictures. `benchmarks/ph2_folds.py` judges a trained student so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image as Picture
from safetensors.torch import load_file

from ph2_folds import COUNT, SEED, baseline, difference, histograms, threshold_outline
from storyxai.data.folds import deal_folds
from storyxai.data.sources.ph2 import read_ph2
from storyxai.metrics.bootstrap import draw_resamples, estimate, mean_statistic
from storyxai.metrics.classification import auroc_statistic
from storyxai.metrics.segmentation import dice
from storyxai.modalities.dermoscopy.findings import NAMES

SIDE, GRID = 224, 56


def features_of(images: np.ndarray, weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """By picture the pooled features [N, D], and those of each point of the grid [N, GRID * GRID, K]."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    network.load_state_dict(load_file(weights), strict=False)
    network.eval()
    pooled, points = [], []
    place = torch.stack(torch.meshgrid(torch.linspace(-1, 1, GRID), torch.linspace(-1, 1, GRID), indexing="ij"))
    for start in range(0, len(images), 10):
        shown = torch.from_numpy(images[start : start + 10]).float() / 127.5 - 1
        with torch.inference_mode():
            levels = network(shown)
        pooled.append(torch.cat([part(level) for level in levels[3:] for part in (_mean, _largest)], dim=1).numpy())
        fine = [torch.nn.functional.interpolate(level, size=(GRID, GRID), mode="bilinear") for level in levels[1:4]]
        where = (place**2).sum(dim=0).expand(len(shown), 1, GRID, GRID)
        points.append(torch.cat([*fine, where], dim=1).flatten(2).transpose(1, 2).half().numpy())
    return np.concatenate(pooled), np.concatenate(points)


def _mean(level: torch.Tensor) -> torch.Tensor:
    return level.mean(dim=(2, 3))


def _largest(level: torch.Tensor) -> torch.Tensor:
    return level.amax(dim=(2, 3))


def outline_dice(points: np.ndarray, masks: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The Dice [N] of each picture's outline by ridge regression of the points of the other folds. masks bool [N, G, G]."""
    found = np.zeros(len(masks))
    for number in np.unique(fold):
        here = fold == number
        drawn = points[~here][:, ::7].reshape(-1, points.shape[2]).astype(np.float64)
        truth = masks[~here].reshape((~here).sum(), -1)[:, ::7].ravel().astype(np.float64)
        mean, spread = drawn.mean(axis=0), drawn.std(axis=0) + 1e-6
        scaled = (drawn - mean) / spread
        weights = np.linalg.solve(scaled.T @ scaled + 100 * np.eye(scaled.shape[1]), scaled.T @ (truth - truth.mean()))
        for row in np.flatnonzero(here):
            said = ((points[row].astype(np.float64) - mean) / spread) @ weights + truth.mean()
            found[row] = dice(said.reshape(GRID, GRID) >= 0.5, masks[row])
    return found


def main() -> None:
    """Read, probe and print."""
    folder, weights = Path(sys.argv[1]), Path(sys.argv[2])
    table = read_ph2(folder)
    rows = table.frame.to_dict("records")
    size = (SIDE, SIDE)
    images = np.stack([np.asarray(Picture.open(table.image_path(row)).convert("RGB").resize(size)) for row in rows])
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    names = [str(row["study_id"]).removeprefix("ph2-") for row in rows]
    drawn = [Picture.open(folder / "masks" / f"{name}.png").convert("L").resize(size) for name in names]
    masks = np.stack([np.asarray(one).reshape(GRID, 4, GRID, 4).mean(axis=(1, 3)) >= 127 for one in drawn])
    labels = table.labels().values
    patients = [str(row["patient_id"]) for row in rows]
    fold_of = deal_folds(patients, labels, folds=5, seed=0)
    fold = np.array([fold_of[patient] for patient in patients])
    resamples = draw_resamples(patients, count=COUNT, seed=SEED)
    pooled, points = features_of(images, weights)
    probe, plain = baseline(pooled, labels, fold, strength=0.003), baseline(histograms(images), labels, fold)
    print(f"{'':20s} n+   probe                 histogram             probe - histogram")
    for column, name in enumerate(NAMES):
        pair = [auroc_statistic(labels[:, column], scores[:, column]) for scores in (probe, plain)]
        found = [estimate(one, resamples) for one in (*pair, difference(*pair))]
        told = "  ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found)
        print(f"{name:20s} {int(labels[:, column].sum()):3d}  {told}")
    cut = [threshold_outline(one).reshape(GRID, 4, GRID, 4).mean(axis=(1, 3)) >= 0.5 for one in images]
    for name, values in (
        ("probe", outline_dice(points, masks, fold)),
        ("threshold of blue", np.array([dice(one, mask) for one, mask in zip(cut, masks, strict=True)])),
    ):
        one = estimate(mean_statistic(values), resamples)
        print(f"Dice of the lesion, {name}: {one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {len(values)}")


if __name__ == "__main__":
    main()
