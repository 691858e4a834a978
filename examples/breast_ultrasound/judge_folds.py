"""BUSI out of fold: findings and the outline of a cross-validated student, beside what its greys alone tell.

    storyxai crossvalidate examples/breast_ultrasound/busi.toml --out runs/busi-folds
    python examples/breast_ultrasound/judge_folds.py runs/busi-folds

RUN is the folder that `crossvalidate` left. The baseline is logistic regression on each picture's histogram of 32 greys, learnt
on the same folds. Outlines are judged where a mask shows a mass; of pictures that show none it is said how often none is drawn,
and how often none is shown by the modality's rule (an outline only where a finding reaches its threshold, with scaling and
thresholds of each fold from the answers of the others). Intervals are 95 %, from 2,000 resamples of the groups of near-alike
pictures that BUSI's list names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from breast_ultrasound.modality import BREAST_ULTRASOUND
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from storyxai.data.batches import UNKNOWN_PIXEL, image_tensor
from storyxai.metrics.bootstrap import draw_resamples, estimate, mean_statistic, paired_difference
from storyxai.metrics.classification import auroc_statistic
from storyxai.metrics.segmentation import dice
from storyxai.models.export import load_network
from storyxai.training.calibrate import calibrate

COUNT, GREYS, SEED = 2000, 32, 0
WORDS = {"Benign_mass": "benign, against the rest", "Malignant_mass": "malignant, against the rest"}


def grey_scores(images: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Log-odds [N, F] of logistic regression on histograms, each fold by one that was learnt on the others."""
    counts = np.stack([np.bincount(one.ravel() // (256 // GREYS), minlength=GREYS) for one in images])
    shares, said = np.sqrt(counts / counts.sum(axis=1, keepdims=True)), np.zeros(labels.shape)
    for number in np.unique(fold):
        here = fold == number
        scale = StandardScaler().fit(shares[~here])
        for column in range(labels.shape[1]):
            model = LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
            model.fit(scale.transform(shares[~here]), labels[~here, column] >= 0.5)
            said[here, column] = model.decision_function(scale.transform(shares[here]))
    return said


def outlines(run: Path, images: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The probability of mass by the student that has not seen the picture, [N, S / 4, S / 4]."""
    said = np.zeros((len(images), images.shape[1] // 4, images.shape[2] // 4), dtype=np.float32)
    for number in np.unique(fold):
        network = load_network(run / f"fold-{number}" / "student-network.safetensors").eval()
        for row in np.flatnonzero(fold == number):
            with torch.inference_mode():
                said[row] = torch.sigmoid(network(image_tensor(images[row : row + 1])).masks)[0, 0].numpy()
    return said


def backed(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Whether a finding reaches its threshold [N], each fold read by scaling and thresholds of the others."""
    found = np.zeros(len(logits), dtype=bool)
    for number in np.unique(fold):
        here, names = fold == number, BREAST_ULTRASOUND.names
        known = calibrate(logits[~here], labels[~here], groups[~here], findings=names, data="other folds")
        for column, one in enumerate(known[name] for name in names):
            found[here] |= 1 / (1 + np.exp(-(one.scale * logits[here, column] + one.bias))) >= one.threshold
    return found


def main() -> None:
    """Print a line for each figure."""
    run = Path(sys.argv[1])
    with np.load(run / "examples.npz", allow_pickle=False) as kept:
        images, masks, ids = kept["images"], kept["masks"][:, 0], kept["ids"].tolist()
    with np.load(run / "answers.npz", allow_pickle=False) as kept:
        answers = {name: kept[name] for name in ("ids", "patient_ids", "fold", "labels", "student", "teachers")}
    order = [ids.index(name) for name in answers["ids"].tolist()]
    images, masks, fold = images[order], masks[order], answers["fold"]
    labels, groups = answers["labels"], answers["patient_ids"]
    print(f"{len(images)} pictures, {len(set(groups.tolist()))} groups, {len(np.unique(fold))} folds")
    resamples, greys = draw_resamples(groups, count=COUNT, seed=SEED), grey_scores(images, labels, fold)
    for column, finding in enumerate(BREAST_ULTRASOUND.names):
        scored = {"student": answers["student"], "teacher": answers["teachers"], "greys alone": greys}
        rows = {name: auroc_statistic(labels[:, column], scores[:, column]) for name, scores in scored.items()}
        print(f"AUROC {WORDS[finding]} ({int(labels[:, column].sum())} of {len(labels)}):")
        for name, row in rows.items():
            found = estimate(row, resamples)
            print(f"  {name}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")
        more = paired_difference(rows["student"], rows["greys alone"], groups, count=COUNT, seed=SEED)
        print(f"  student - greys alone: {more.value:.3f} [{more.low:.3f}, {more.high:.3f}]")
    known = masks != UNKNOWN_PIXEL
    truth, drawn = (masks >= 50) & known, (outlines(run, images, fold) >= 0.5) & known
    mass, stated = truth.any(axis=(1, 2)), known.any(axis=(1, 2))
    scores = np.where(mass, [dice(one, other) for one, other in zip(drawn, truth, strict=True)], np.nan)
    found = estimate(mean_statistic(scores), resamples)
    print(f"Dice of the mass: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], n = {int(mass.sum())}")
    ruled = drawn & backed(answers["student"], labels, groups, fold)[:, None, None]
    scores = np.where(mass, [dice(one, other) for one, other in zip(ruled, truth, strict=True)], np.nan)
    judged = {
        "nothing drawn where there is none": np.where(stated & ~mass, ~drawn.any(axis=(1, 2)), np.nan),
        "nothing drawn where there is a mass": np.where(mass, ~drawn.any(axis=(1, 2)), np.nan),
        "nothing shown by the rule where there is none": np.where(stated & ~mass, ~ruled.any(axis=(1, 2)), np.nan),
        "nothing shown by the rule where there is a mass": np.where(mass, ~ruled.any(axis=(1, 2)), np.nan),
        "Dice of the mass by the rule": scores,
    }
    for what, values in judged.items():
        found = estimate(mean_statistic(values), resamples)
        print(f"{what}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], n = {int((~np.isnan(values)).sum())}")


if __name__ == "__main__":
    main()
