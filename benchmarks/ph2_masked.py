"""PH2 out of fold in some minutes: a probe that looks into the lesion, beside a colour histogram.

    python benchmarks/ph2_masked.py ../shared/data/ph2 lite0.safetensors [--out FILE.json]

No network is trained. Pictures go at 320 px through tf_efficientnet_lite0 as it came from ImageNet, in four quarter turns. The
lesion is drawn by a ridge regression of its fine features, out of fold; means, deviations and maxima at strides 8, 16 and 32
are taken within it and over all of the picture, beside colours, measured concepts and texture. Which of these a finding's
logistic regression takes, and how strongly it is held, is chosen in each of five folds by four inner folds of its own 120
pictures (the ideas were written down before any was tried), so the fold that is judged has no say. Intervals are from 2,000
resamples of pictures.
`ph2_heads.py` judges a student so; this one is no student: it names no report and shows no map.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from PIL import Image as Picture
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from ph2_folds import COUNT, SEED, baseline, difference, histograms
from storyxai.data.folds import deal_folds
from storyxai.data.sources.ph2 import read_ph2
from storyxai.metrics.bootstrap import draw_resamples, estimate, mean_statistic
from storyxai.metrics.classification import auroc_statistic
from storyxai.metrics.segmentation import dice
from storyxai.modalities.dermoscopy.findings import NAMES
from storyxai.modalities.dermoscopy.lesion import border_irregularity, fold_asymmetry
from storyxai.modalities.masks import largest_piece
from storyxai.provenance import canonical_json
from storyxai.training.probe import fit_logistic

SIZE, GRID, VIEWS, FOLDS, INNER = 320, 80, 4, 5, 4
STRENGTHS = (0.005, 0.05, 0.5)
RIDGE, VARIANCE, EVERY = 100.0, 100.0, 13
SETS = {
    "whole": ("whole", "colours"), "whole and within": ("whole", "within", "colours"), "within": ("within", "own colours"),
    "all": ("whole", "within", "colours", "concepts", "own colours"), "lesion alone": ("within", "concepts", "own colours"),
    "concepts": ("concepts", "colours"),
}
"""Which blocks a regression may take."""


class Known(NamedTuple):
    """PH2: images uint8 [N, 3, S, S], masks bool [N, G, G], labels [N, F], patients and their fold [N]."""

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    patients: list[str]
    fold: np.ndarray


def read(folder: Path) -> Known:
    """The pictures at SIZE with their readers' masks on the grid."""
    table, side = read_ph2(folder), (SIZE, SIZE)
    rows = table.frame.to_dict("records")
    opened = [Picture.open(table.image_path(row)).convert("RGB").resize(side, Picture.Resampling.BILINEAR) for row in rows]
    images = np.stack([np.asarray(one) for one in opened]).transpose(0, 3, 1, 2).copy()
    names = [str(row["study_id"]).removeprefix("ph2-") for row in rows]
    drawn = np.stack([np.asarray(Picture.open(folder / "masks" / f"{name}.png").convert("L").resize(side)) for name in names])
    cell = SIZE // GRID
    masks = drawn.reshape(-1, GRID, cell, GRID, cell).mean(axis=(2, 4)) >= 127
    labels, patients = table.labels().values, [str(row["patient_id"]) for row in rows]
    dealt = deal_folds(patients, labels, folds=FOLDS, seed=0)
    return Known(images, masks, labels, patients, np.array([dealt[one] for one in patients]))


def levels_of(network: nn.Module, image: np.ndarray) -> list[Tensor]:
    """The features of one picture at strides 2 to 32."""
    with torch.inference_mode():
        found: list[Tensor] = network(torch.from_numpy(image[None].copy()).float() / 127.5 - 1)
    return found


def outlines(network: nn.Module, known: Known) -> np.ndarray:
    """Each picture's lesion by a ridge regression of the points of the other folds, bool [N, G, G]."""
    line = torch.linspace(-1, 1, GRID)
    place = (torch.stack(torch.meshgrid(line, line, indexing="ij")) ** 2).sum(dim=0).expand(1, 1, GRID, GRID)
    points = []
    for image in known.images:
        fine = [F.interpolate(level, size=(GRID, GRID), mode="bilinear") for level in levels_of(network, image)[1:4]]
        points.append(torch.cat([*fine, place], dim=1).flatten(2).transpose(1, 2)[0].half().numpy())
    said = np.zeros((len(points), GRID, GRID), dtype=bool)
    for number in range(FOLDS):
        others = np.flatnonzero(known.fold != number)
        drawn = np.concatenate([points[row][::EVERY] for row in others]).astype(np.float64)
        truth = np.concatenate([known.masks[row].ravel()[::EVERY] for row in others]).astype(np.float64)
        mean, spread = drawn.mean(axis=0), drawn.std(axis=0) + 1e-6
        scaled = (drawn - mean) / spread
        weights = np.linalg.solve(scaled.T @ scaled + RIDGE * np.eye(scaled.shape[1]), scaled.T @ (truth - truth.mean()))
        for row in np.flatnonzero(known.fold == number):
            inside = (((points[row].astype(np.float64) - mean) / spread) @ weights + truth.mean()).reshape(GRID, GRID) >= 0.5
            said[row] = largest_piece(inside) if inside.any() else True
    return said


def pooled(network: nn.Module, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and maxima over all of the picture; means, deviations and maxima within the mask."""
    whole, within = [], []
    for level in levels_of(network, image)[2:]:
        share = F.interpolate(torch.from_numpy(mask.astype(np.float32))[None, None], size=level.shape[-2:], mode="area")
        if share.max() <= 0.5:
            share = (share >= share.max()).float()
        mean = (level * share).sum(dim=(2, 3)) / share.sum()
        spread = ((level - mean[..., None, None]) ** 2 * share).sum(dim=(2, 3)) / share.sum()
        whole += [level.mean(dim=(2, 3)), level.amax(dim=(2, 3))]
        most = level.masked_fill(share < 0.5, -torch.inf).amax(dim=(2, 3))
        within += [mean, spread.sqrt(), most]
    return torch.cat(whole, dim=1)[0].numpy(), torch.cat(within, dim=1)[0].numpy()


def measured(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Asymmetry about both axes, border, size, colours' means and deviations, and texture at four widths, of the lesion."""
    lesion = np.kron(mask, np.ones((SIZE // GRID, SIZE // GRID), dtype=bool))
    folded, grey, texture = fold_asymmetry(mask), image.mean(axis=0) / 255, []
    for width in (1, 2, 4, 8):
        values = (ndimage.gaussian_filter(grey, width) - ndimage.gaussian_filter(grey, 2 * width))[lesion]
        skew = (values**3).mean() / (values.std() ** 3 + 1e-9)
        texture += [values.std(), np.abs(values).mean(), skew, *np.percentile(values, (2, 98))]
    colours = image[:, lesion] / 255
    shape = (max(folded), min(folded), border_irregularity(mask), np.sqrt(mask.mean()))
    return np.array([*shape, *colours.mean(axis=1), *colours.std(axis=1), *texture])


def own_colours(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The colour histogram within the lesion, [64]."""
    lesion = np.kron(mask, np.ones((SIZE // GRID, SIZE // GRID), dtype=bool))
    return np.asarray(histograms(image[:, lesion][None, :, :, None])[0])


def blocks_of(network: nn.Module, known: Known, lesions: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of each block, [VIEWS * N, D] each."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("whole", "within", "concepts", "own colours")}
    for view in range(VIEWS):
        for picture, lesion in zip(known.images, lesions, strict=True):
            image, mask = np.rot90(picture, view, axes=(1, 2)).copy(), np.rot90(lesion, view).copy()
            found = (*pooled(network, image, mask), measured(image, mask), own_colours(image, mask))
            for name, one in zip(rows, found, strict=True):
                rows[name].append(one)
    return {name: np.stack(of) for name, of in rows.items()} | {"colours": np.tile(histograms(known.images), (VIEWS, 1))}


def seen(rows: np.ndarray, count: int) -> np.ndarray:
    """The places of these pictures in every view."""
    return np.concatenate([rows + view * count for view in range(VIEWS)])


def reduced(blocks: list[np.ndarray], inside: np.ndarray, count: int) -> np.ndarray:
    """The blocks side by side, each scaled by the pictures `inside`, in the span of all rows: [VIEWS * N, rank]."""
    parts = []
    for block in blocks:
        learnt = block[seen(inside, count)]
        scale = np.maximum(learnt.std(axis=0), 1e-6) * np.sqrt(block.shape[1] / VARIANCE)
        parts.append((block - learnt.mean(axis=0)) / scale)
    joined = np.concatenate(parts, axis=1)
    values, vectors = np.linalg.eigh(joined @ joined.T)
    kept = values > 1e-8 * values.max()
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))


def said_of(columns: np.ndarray, inside: np.ndarray, outside: np.ndarray, truth: np.ndarray, strength: float) -> np.ndarray:
    """Log-odds of the pictures `outside`, means over views, by a regression on those `inside`."""
    count = len(truth)
    weights, bias = fit_logistic(columns[seen(inside, count)], np.tile(truth[inside], VIEWS), strength=strength)
    return np.asarray((columns[seen(outside, count)] @ weights + bias).reshape(VIEWS, -1).mean(axis=0))


def chosen(columns: dict[str, np.ndarray], inside: np.ndarray, part: np.ndarray, truth: np.ndarray) -> tuple[str, float]:
    """The set and strength that rank the pictures `inside` best when each part of them is left out."""
    best, found = -1.0, ("", 0.0)
    for name, of in columns.items():
        for strength in STRENGTHS:
            said = np.zeros(len(inside))
            for number in range(INNER):
                said[part == number] = said_of(of, inside[part != number], inside[part == number], truth, strength)
            area = auroc_statistic(truth[inside], said)(np.ones((1, len(inside))))[0]
            if area > best:
                best, found = float(area), (name, strength)
    return found


def out_of_fold(known: Known, blocks: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Log-odds [N, F] by regressions that were chosen and fitted without the picture's fold, and what was chosen."""
    said, choices = np.zeros(known.labels.shape), {name: [] for name in NAMES}
    for number in range(FOLDS):
        inside, here = np.flatnonzero(known.fold != number), np.flatnonzero(known.fold == number)
        dealt = deal_folds([known.patients[row] for row in inside], known.labels[inside], folds=INNER, seed=1)
        part = np.array([dealt[known.patients[row]] for row in inside])
        columns = {name: reduced([blocks[one] for one in of], inside, len(known.fold)) for name, of in SETS.items()}
        for column, finding in enumerate(NAMES):
            truth = known.labels[:, column] >= 0.5
            name, strength = chosen(columns, inside, part, truth)
            choices[finding].append(f"{name}, {strength}")
            said[here, column] = said_of(columns[name], inside, here, truth, strength)
        print(f"fold {number}", flush=True)
    return said, choices


def main() -> None:
    """Read, look, choose, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ph2", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known = read(asked.ph2)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    network.load_state_dict(load_file(asked.weights), strict=False)
    network.eval()
    lesions = outlines(network, known)
    said, choices = out_of_fold(known, blocks_of(network, known, lesions))
    resamples = draw_resamples(known.patients, count=COUNT, seed=SEED)
    plain = baseline(histograms(known.images), known.labels, known.fold)
    record: dict[str, object] = {}
    print(f"{'':20s} n+   probe                 histogram             probe - histogram")
    for column, name in enumerate(NAMES):
        pair = [auroc_statistic(known.labels[:, column], scores[:, column]) for scores in (said, plain)]
        found = [estimate(one, resamples) for one in (*pair, difference(*pair))]
        told = "  ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found)
        print(f"{name:20s} {int(known.labels[:, column].sum()):3d}  {told}")
        three = zip(("probe", "histogram", "difference"), found, strict=True)
        record[name] = {"positives": int(known.labels[:, column].sum()), "chosen": choices[name]} | {
            key: [one.value, one.low, one.high] for key, one in three
        }
    drawn = np.array([dice(one, mask) for one, mask in zip(lesions, known.masks, strict=True)])
    one = estimate(mean_statistic(drawn), resamples)
    print(f"Dice of the lesion: {one.value:.3f} [{one.low:.3f}, {one.high:.3f}], n = {len(drawn)}")
    record["Dice of the lesion"], record["n"] = [one.value, one.low, one.high], len(drawn)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_bytes(canonical_json(record))


if __name__ == "__main__":
    main()
