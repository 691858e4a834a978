"""PH2 out of fold: findings and the lesion's outline of a cross-validated student, beside a colour histogram.

    python benchmarks/ph2_folds.py RUN

RUN is the folder of `storyxai crossvalidate recipes/dermoscopy-ph2.toml`. The baseline is logistic regression on
each picture's colour histogram (4 x 4 x 4, of the whole picture), learnt on the same folds; that of the outline is Otsu's
threshold of the blue channel in the lit part. Intervals are from a bootstrap of 2,000 resamples of pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from storyxai.data.batches import image_tensor
from storyxai.metrics.bootstrap import Floats, Resamples, Statistic, draw_resamples, estimate, mean_statistic
from storyxai.metrics.classification import auroc_statistic
from storyxai.metrics.segmentation import dice
from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.models.export import load_network

COUNT, SEED = 2000, 0


def histograms(images: np.ndarray) -> np.ndarray:
    """Square roots of the joint colour histogram of each image, [N, 64]. Shapes: images uint8 [N, 3, S, S]."""
    bins = images.astype(int) // 64
    joint = bins[:, 0] * 16 + bins[:, 1] * 4 + bins[:, 2]
    return np.stack([np.sqrt(np.bincount(one.ravel(), minlength=64) / one.size) for one in joint])


def baseline(features: np.ndarray, labels: np.ndarray, fold: np.ndarray, *, strength: float = 0.1) -> np.ndarray:
    """Log-odds [N, F] of logistic regression, each fold by one that was learnt on the others."""
    said = np.zeros_like(labels, dtype=np.float64)
    for number in np.unique(fold):
        here = fold == number
        scale = StandardScaler().fit(features[~here])
        for column in range(labels.shape[1]):
            model = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
            model.fit(scale.transform(features[~here]), labels[~here, column] >= 0.5)
            said[here, column] = model.decision_function(scale.transform(features[here]))
    return said


def difference(first: Statistic, second: Statistic) -> Statistic:
    """First minus second on the same resamples."""

    def of(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    return of


def threshold_outline(image: np.ndarray) -> np.ndarray:
    """The dark part of the lit picture by Otsu's threshold of blue, bool [S, S]. Shapes: image uint8 [3, S, S]."""
    lit = image.max(axis=0) > 50
    return np.asarray(lit & (image[2] < threshold_otsu(image[2][lit])))


def main() -> None:
    """Judge the run and print a line for each finding."""
    run = Path(sys.argv[1])
    with np.load(run / "examples.npz", allow_pickle=False) as kept:
        images, masks, ids = kept["images"], kept["masks"], kept["ids"].tolist()
    with np.load(run / "answers.npz", allow_pickle=False) as kept:
        answers = {name: kept[name] for name in ("ids", "patient_ids", "fold", "labels", "student", "teachers")}
    order = [ids.index(name) for name in answers["ids"].tolist()]
    images, masks, fold, labels = images[order], masks[order], answers["fold"], answers["labels"]
    resamples = draw_resamples(answers["patient_ids"], count=COUNT, seed=SEED)
    plain = baseline(histograms(images), labels, fold)
    scored = {"student": answers["student"], "own teacher": answers["teachers"], "histogram": plain}
    scored = {name: scores for name, scores in scored.items() if not np.isnan(scores).all()}
    print(f"{'':20s} n+   " + "".join(f"{name:22s}" for name in (*scored, "student - histogram")))
    for column, name in enumerate(NAMES):
        truth = labels[:, column]
        rows = [auroc_statistic(truth, scores[:, column]) for scores in scored.values()]
        found = [estimate(one, resamples) for one in rows]
        found.append(estimate(difference(rows[0], rows[-1]), resamples))
        told = "  ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found)
        print(f"{name:20s} {int(truth.sum()):3d}  {told}")
    outlines(run, images, masks, fold, resamples)


def outlines(run: Path, images: np.ndarray, masks: np.ndarray, fold: np.ndarray, resamples: Resamples) -> None:
    """Print the Dice of the lesion out of fold at a quarter of the model's frame, and of a threshold."""
    import torch

    drawn, cut = np.full(len(images), np.nan), np.full(len(images), np.nan)
    known = masks[:, 0] != 255
    for number in np.unique(fold):
        network = load_network(run / f"fold-{number}" / "student-network.safetensors").eval()
        for row in np.flatnonzero(fold == number):
            with torch.inference_mode():
                said = torch.sigmoid(network(image_tensor(images[row : row + 1])).masks)[0, 0].numpy() >= 0.5
            truth = masks[row, 0] >= 50
            small = threshold_outline(images[row]).reshape(len(truth), 4, len(truth), 4).mean(axis=(1, 3)) >= 0.5
            drawn[row], cut[row] = (dice(one & known[row], truth & known[row]) for one in (said, small))
    for name, values in (("student", drawn), ("threshold of blue", cut)):
        found = estimate(mean_statistic(values), resamples)
        print(f"Dice of the lesion, {name}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], n = {len(values)}")


if __name__ == "__main__":
    main()
