"""How many real films, and how many drawn photographs of films on a light box, the gate takes for framed.

python gate_frame.py DATA [--each N]: DATA is a folder with nih/, kermany/ and covid/ (left out: ../shared/data beside the
checkout). Of each set N films are taken, evenly spread over its names; a third of them are drawn as a phone would see them:
tilted by up to three hundredths of the side, bright round it, with glare, noise and blur.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter
from scipy.stats import beta

from storyxai.modalities.chest_radiograph.gate import RULES
from storyxai.modalities.chest_radiograph.gate_frame import bright_frame
from storyxai.types import Array

ROOT = Path(__file__).resolve().parents[1]
SETS = ("nih", "kermany", "covid")
LIMIT = next(rule.limit for rule in RULES if rule.name == "gate.framed")


def main() -> None:
    """Print both counts with their 95 % intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--each", type=int, default=100)
    asked = parser.parse_args()
    rng = np.random.default_rng(5)
    for name in SETS:
        films = [grey(path) for path in spread(asked.data / name / "images", asked.each)]
        say(f"{name} films", [bright_frame(film) for film in films])
        say(f"{name} on a light box", [bright_frame(photographed(film, rng)) for film in films[::3]])


def say(what: str, values: list[float]) -> None:
    """One line: how many lie above the gate's limit, of how many."""
    above, n = sum(value > LIMIT for value in values), len(values)
    low = beta.ppf(0.025, above, n - above + 1) if above else 0.0
    high = beta.ppf(0.975, above + 1, n - above) if above < n else 1.0
    print(f"{what}: {above} of {n} are framed ({above / n:.3f} [{low:.3f}, {high:.3f}])", flush=True)


def spread(folder: Path, count: int) -> list[Path]:
    """So many of the folder's pictures, evenly spread over their names."""
    paths = sorted(folder.rglob("*.jpg"))
    return [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]


def grey(path: Path) -> Array:
    """The picture's grey values in [0, 1]. Shapes: float32 [H, W]."""
    with PillowImage.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)


def photographed(film: Array, rng: np.random.Generator) -> Array:
    """`film` on a light box as a phone sees it. Shapes: [H, W] in [0, 1] -> [1100, 900] or [900, 1100]."""
    width, height = (900, 1100) if film.shape[0] >= film.shape[1] else (1100, 900)
    margin, size = rng.uniform(0.05, 0.14), np.array([width, height])
    corners = np.array([(margin, margin), (1 - margin, margin), (1 - margin, 1 - margin), (margin, 1 - margin)]) * size
    corners += rng.uniform(-0.03, 0.03, (4, 2)) * size
    down, across = film.shape
    pose = perspective(corners, np.array([(0, 0), (across, 0), (across, down), (0, down)], dtype=np.float64))
    drawn = [
        np.asarray(PillowImage.fromarray(layer).transform((width, height), PillowImage.Transform.PERSPECTIVE, pose))
        for layer in (film, np.ones_like(film))
    ]
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    ground = rng.uniform(0.78, 1.0) * (1 + 0.1 * (x - 0.5) * rng.uniform(-1, 1) + 0.1 * (y - 0.5) * rng.uniform(-1, 1))
    seen = np.where(drawn[1] > 0.5, 0.06 + 0.85 * drawn[0], ground)
    glare = ((x - rng.uniform(0.2, 0.8)) ** 2 + (y - rng.uniform(0.2, 0.8)) ** 2) / (2 * rng.uniform(0.05, 0.15) ** 2)
    seen = np.clip(seen + rng.uniform(0.2, 0.6) * np.exp(-glare) + rng.normal(0, 0.012, seen.shape), 0, 1)
    picture = PillowImage.fromarray(np.uint8(seen * 255)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


def perspective(seen: np.ndarray, flat: np.ndarray) -> list[float]:
    """Pillow's coefficients of the perspective that shows the corners `flat` at `seen`. Shapes: [4, 2] each."""
    rows = []
    for (x, y), (u, v) in zip(seen, flat, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return list(np.linalg.solve(np.array(rows), flat.ravel()))


if __name__ == "__main__":
    main()
