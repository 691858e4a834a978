"""How many real films the gate takes for blurred, for faint or for pictures of a few greys, and how many blurred ones it finds.

python gate_sharp.py DATA [--blurred N]: DATA is a folder with nih/, nih128/, kermany/ and covid/ (left out: ../shared/data
beside the checkout). Every film of the three sets counts, of nih128 every fourth; N of each set are blurred as well, by
Gaussians of a share of their shorter side. The limits were chosen with these films in view.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from gate_score import films
from storyxai.imaging.gate import judge
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.gate import RULES
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.types import Array, Image

ROOT = Path(__file__).resolve().parents[1]
BLURS = (0.006, 0.009, 0.012, 0.02)
"""Standard deviations as shares of the shorter side."""
LIMITS = {rule.name: rule.limit for rule in RULES if rule.name in ("gate.blurred", "gate.faint", "gate.greys")}


def main() -> None:
    """Print, for each set, the lowest values and how many films lie below each limit; then the share of blurred ones found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--blurred", type=int, default=100)
    asked = parser.parse_args()
    sets: dict[str, list[Path]] = defaultdict(list)
    for film in films(asked.data):
        sets[film.group].append(film.path)
    sets["nih128"] = sorted((asked.data / "nih128" / "images").glob("*.jpg"))[::4]
    for name, paths in sets.items():
        seen = [measured(read_image(path)) for path in paths]
        told = [f"{key} lowest {min(one[key] for one in seen):.3g}, below {limit:g}: {sum(one[key] < limit for one in seen)}"
                for key, limit in LIMITS.items()]  # fmt: skip
        print(f"{name}, {len(seen)} films: {'; '.join(told)}", flush=True)
        some = [read_image(paths[place]).pixels for place in np.linspace(0, len(paths) - 1, asked.blurred).astype(int)]
        for share in BLURS:
            found = sum(measured(image_of(blurred(pixels, share)))["gate.blurred"] < LIMITS["gate.blurred"] for pixels in some)
            print(f"{name}, blurred by {share:.1%} of the shorter side: {found} of {len(some)} found", flush=True)


def measured(image: Image) -> dict[str, float]:
    """The values of the three rules."""
    checks = judge(image, CHEST_RADIOGRAPH)
    return {check.name: check.value for check in checks if check.name in LIMITS and check.value is not None}


def image_of(pixels: Array) -> Image:
    """A picture of these pixels."""
    return Image(pixels=pixels, sha256="0" * 64, source="blurred.png")


def blurred(pixels: Array, share: float) -> Array:
    """The picture under a Gaussian of that share of its shorter side."""
    picture = PillowImage.fromarray(np.rint(pixels * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(share * min(pixels.shape))), dtype=np.float32) / np.float32(255)


if __name__ == "__main__":
    main()
