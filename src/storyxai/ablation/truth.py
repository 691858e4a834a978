"""What the students of an ablation are judged by: held-out references, true places of findings, and what a network says.

Places and the modality's pair are shares of the cells of the maps' grid (stride 16): exact for a coarse map, and free of
resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.ablation.figures import Answers
from storyxai.data.batches import UNKNOWN_PIXEL, Examples, make_batch
from storyxai.explain.cam import grad_cam, grid_head_gradients
from storyxai.imaging.geometry import model_frame
from storyxai.metrics.calibration import fit_platt
from storyxai.metrics.text import claims
from storyxai.modalities.registry import modality_named
from storyxai.models.network import Network
from storyxai.phantoms.generate import generate_phantom
from storyxai.progress import Progress
from storyxai.training.outputs import network_outputs

Floats = NDArray[np.float32]
STRIDE = 16
KIND = modality_named()
"""What ablations are of: the modality of the phantoms."""
NAMES = KIND.names


@dataclass(frozen=True, eq=False)
class Ground:
    """The images to learn from and to be judged on.

    `phantoms` are those to learn from first where `train` is of real films, else empty. Shapes: `labels` [N, F] of the
    test part and `validation_labels`, nan = not stated or not of the judged domain; `places` [N, F, h, w] the share of
    each cell inside the finding, nan = no place known; `pair` [N, h, w] that inside the modality's pair, nan = no reference.
    """

    train: Examples
    phantoms: Examples
    validation: Examples
    test: Examples
    labels: Floats
    validation_labels: Floats
    places: Floats
    pair: Floats


def ground_of(
    train: Examples, validation: Examples, test: Examples, *, drawn: Floats, real: bool, domain: str
) -> Ground:
    """The ground of a study of real images (phantoms apart) or of phantoms; `domain` "" judges findings on all images.

    `drawn` are the phantoms' own places by row of `test` (nan for other rows); real places come from boxes.
    """

    def rows(part: Examples, phantom: bool) -> NDArray[np.int64]:
        return np.flatnonzero((np.array(part.domain) == "phantom") == phantom)

    phantoms = train.take(rows(train, True) if real else [])
    kept = rows(test, not real)
    train, validation, test = (part.take(rows(part, not real)) for part in (train, validation, test))
    places = _places_from_cells(test) if real else drawn[kept]
    return Ground(
        train, phantoms, validation, test, _judged(test, domain), _judged(validation, domain),
        np.where((test.labels >= 0.5)[:, :, None, None], places, np.nan).astype(np.float32), _inside_pair(test),
    )


def place_shares(
    ids: Sequence[str], *, size: int, phantom_size: int, progress: Progress | None = None
) -> Floats:
    """The share of each cell inside what a finding shows, from the phantoms' own masks; nan for images that are no phantoms.

    Shapes: float32 [N, F, size / 16, size / 16].
    """
    side = size // STRIDE
    shares = np.full((len(ids), len(NAMES), side, side), np.nan, dtype=np.float32)
    for row, name in enumerate(ids):
        kind, _, seed = name.partition("-")
        if kind == "phantom" and seed.isdigit():
            phantom = generate_phantom(int(seed), size=phantom_size)
            frame = model_frame(*phantom.image.pixels.shape, size=size)
            for finding, mask in phantom.sign_masks.items():
                shares[row, NAMES.index(finding)] = _cell_means(frame.mask_to_model(mask), STRIDE)
        if progress:
            progress("true places", row + 1, len(ids))
    return shares


def answers_of(network: Network, ground: Ground) -> Answers:
    """What `network` says of the test part, with its calibration from the validation part and the figures of its maps."""
    nothing = np.zeros((0,), dtype=np.float32)
    said = network_outputs(network, ground.test)
    logits, calibration, dice, claimed = nothing, nothing, nothing, nothing
    maps: dict[str, Floats] = {}
    if said.logits is not None:
        logits = said.logits
        on_validation = network_outputs(network.only("findings"), ground.validation).logits
        assert on_validation is not None
        fitted = [fit_platt(on_validation[:, f], ground.validation_labels[:, f]) for f in range(len(NAMES))]
        calibration = np.array(fitted, dtype=np.float32)
        maps = map_figures(network, ground)
    if said.dice is not None:
        dice = said.dice[:, :2].astype(np.float32)
    if said.words is not None:
        read = {words: _labels_in(words) for words in set(said.words)}
        claimed = claims([[read[words][name] for name in NAMES] for words in said.words]).astype(np.float32)
    return Answers(logits, calibration, dice, claimed, maps)


def _labels_in(words: Sequence[str]) -> dict[str, float]:
    """What a written report states, by finding."""
    if KIND.grammar is None or KIND.labeller is None:
        return dict.fromkeys(NAMES, float("nan"))
    return KIND.labeller(" ".join(KIND.grammar.detokenize(words)))


def map_figures(network: Network, ground: Ground, *, batch_size: int = 64) -> dict[str, Floats]:
    """The figures of Grad-CAM and of the evidence grid for every finding stated present, by metric, each [N, F].

    Pairs and places count on every image of the test part that has them, the rest on the images that judge findings.
    """
    test = ground.test
    names = ("cam_hit", "cam_energy", "grid_hit", "grid_energy", "inside_pair", "agreement", "overlap")
    figures = {name: np.full(test.labels.shape, np.nan, dtype=np.float32) for name in names}
    judged = [int(f) for f in np.flatnonzero((ground.labels >= 0.5).any(axis=0))]
    asked = np.flatnonzero((test.labels >= 0.5).any(axis=1))
    network = network.to(memory_format=torch.channels_last).eval()
    for start in range(0, len(asked), batch_size):
        rows = asked[start : start + batch_size]
        with torch.inference_mode():
            images = make_batch(test, rows, 0).images.contiguous(memory_format=torch.channels_last)
            said = network(images)
        features = said.features.contiguous().numpy()
        grids, shares = torch.sigmoid(said.grid).contiguous().numpy(), network.shares(said.masks)
        for place, row in enumerate(rows):
            cams = _cams(network, features[place], None if shares is None else shares[place].numpy())
            _measure(figures, ground, int(row), cams, grids[place], judged)
    return figures


def floors_of(ground: Ground) -> dict[str, dict[str, float]]:
    """What maps that know nothing reach: an even map, a cell drawn at random, and the cell in the middle."""
    places = ground.places[np.isfinite(ground.places).all(axis=(2, 3))]
    floors: dict[str, dict[str, float]] = {}
    if len(places):
        middle = places.shape[1] // 2
        hit = {"random cell": float((places > 0).mean()), "middle cell": float((places[:, middle, middle] > 0).mean())}
        floors |= {"cam_hit": hit, "grid_hit": hit}
        even = {"even map": float(places.mean())}
        floors |= {"cam_energy": even, "grid_energy": even}
    judged = np.where((ground.labels >= 0.5).any(axis=0), ground.test.labels, np.nan)
    inside = ground.pair[np.isfinite(ground.pair).all(axis=(1, 2)) & (_expected_inside(judged) >= 0.5).any(axis=1)]
    if len(inside):
        floors["inside_pair"] = {"even map": float(inside.mean())}
    return floors


def _measure(
    figures: dict[str, Floats], ground: Ground, row: int, cams: Floats, grid: Floats, judged: Sequence[int]
) -> None:
    pair = ground.pair[row]
    norms = np.sqrt((cams.astype(np.float64) ** 2).sum(axis=(1, 2)))
    for f in np.flatnonzero(ground.test.labels[row] >= 0.5):
        place = ground.places[row, f]
        if np.isfinite(place).all() and place.any():
            for kind, values in (("cam", cams[f]), ("grid", grid[f])):
                figures[f"{kind}_hit"][row, f] = float(place.flat[int(values.argmax())] > 0 and values.any())
                figures[f"{kind}_energy"][row, f] = _share(values, place)
        if f not in judged:
            continue
        if np.isfinite(pair).all() and NAMES[f] not in KIND.beside_pair and cams[f].any():
            figures["inside_pair"][row, f] = _share(cams[f], pair)
        if not ground.labels[row, f] >= 0.5:  # of a set that lends its outlines only
            continue
        figures["agreement"][row, f] = _correlation(cams[f], grid[f])
        others = [g for g in judged if g != f and norms[g] > 0]
        if norms[f] > 0 and others:
            cosines = (cams[others] * cams[f]).sum(axis=(1, 2)) / (norms[others] * norms[f])
            figures["overlap"][row, f] = float(cosines.mean())


def _cams(network: Network, features: Floats, shares: Floats | None) -> Floats:
    """Grad-CAM of every finding, from the head's weights in closed form."""
    _, gradients = grid_head_gradients(features, **network.finding_head.as_arrays(), shares=shares)
    return grad_cam(features, gradients)


def _share(values: Floats, inside: Floats) -> float:
    """The share of a map without negative values that lies inside; 0 for an empty map."""
    total = float(values.sum(dtype=np.float64))
    return float((values * inside).sum(dtype=np.float64)) / total if total > 0 else 0.0


def _correlation(first: Floats, second: Floats) -> float:
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else float("nan")


def _places_from_cells(examples: Examples) -> Floats:
    known = (examples.cells != UNKNOWN_PIXEL).all(axis=(2, 3)) & (examples.cells > 0).any(axis=(2, 3))
    return np.where(known[:, :, None, None], examples.cells / 100.0, np.nan).astype(np.float32)


def _inside_pair(examples: Examples) -> Floats:
    both = examples.masks[:, :2]
    drawn, union = ((part >= 50) & (part != UNKNOWN_PIXEL) for part in (both, examples.union))
    inside = drawn.any(axis=1) | union
    known = (both != UNKNOWN_PIXEL).any(axis=(1, 2, 3)) | (examples.union != UNKNOWN_PIXEL).any(axis=(1, 2))
    shares = np.stack([_cell_means(mask.astype(np.float32), STRIDE // 4) for mask in inside])
    return np.where(known[:, None, None], shares, np.nan).astype(np.float32)


def _cell_means(values: Floats, step: int) -> Floats:
    side = values.shape[0] // step
    return np.asarray(values.reshape(side, step, side, step).mean(axis=(1, 3)), dtype=np.float32)


def _judged(examples: Examples, domain: str) -> Floats:
    own = np.array([not domain or name == domain for name in examples.domain])
    return np.where(own[:, None], examples.labels, np.nan).astype(np.float32)


def _expected_inside(labels: Floats) -> Floats:
    kept = labels.copy()
    kept[:, [column for column, name in enumerate(NAMES[: kept.shape[1]]) if name in KIND.beside_pair]] = np.nan
    return kept
