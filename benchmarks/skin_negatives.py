"""How many pictures that are no dermoscopy the gate of dermoscopy lets through, and how many of PH2 it refuses.

    python benchmarks/skin_negatives.py ../shared/data/ph2 --photos FOLDER

Pictures of other things: photographs that scikit-image, scikit-learn and matplotlib ship, those of FOLDER (ours held what
imgaug, stardist, mahotas, insightface, ultralytics, face_recognition and gradio 3 ship: people, animals, a street, tissue),
each whole and as eight crops down to a face's cheek; and thirteen kinds that are drawn here. What `CHOSEN_ON` names chose
which rules to ask. The others were looked at once before the limits stood as they are: a tenth of slack, set by PH2, and a
fallback for fur came after that look, so theirs are not quite figures of the unseen. All are shown to the student that comes
along. PH2 is
asked twice: with the limits of the code, which were set with all of it in view, and by five folds, limits a tenth beyond the
extremes of the other four (of `gate.spot` beyond the second least: a small lesion in a dark rim lies far below).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import skimage
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from storyxai.evidence.gather import GatherSettings, look_at
from storyxai.imaging.read import read_image
from storyxai.models.runtime import Student, load_student, shipped_students
from storyxai.phantoms.dermoscopy import generate_skin_phantom
from storyxai.types import Check, Image

SIDE, SEEDS, CROPS, PHANTOMS, FIRST_PHANTOM, FOLDS = 256, 12, 8, 60, 920_000, 5
NEW = ("gate.spot", "gate.rough", "gate.around")
CHOSEN_ON = frozenset((
    "chelsea", "coffee", "astronaut", "grace_hopper", "histo", "motorcycle_left", "china", "hubble_deep_field", "zidane",
    "mask_blue", "Tom_Hanks_54745", "luispedro", "quokka", "cheetah1",
    "wood", "wall", "face", "histology", "fur", "bread",
))
SHIPPED = ("astronaut", "chelsea", "coffee", "ihc", "motorcycle_left", "retina", "hubble_deep_field")
_Values = NDArray[np.float64]
Rng = np.random.Generator
DOWN, ACROSS = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
SKINS = np.array([(0.93, 0.76, 0.67), (0.86, 0.65, 0.53), (0.72, 0.5, 0.38), (0.5, 0.33, 0.24)])


def noise(rng: Rng, scale: float | tuple[float, float]) -> _Values:
    """Smooth noise of mean about 0 and deviation 1."""
    made = gaussian_filter(rng.standard_normal((SIDE, SIDE)), scale)
    return np.asarray(made / made.std())


def mixed(share: _Values, low: tuple[float, ...], high: tuple[float, ...]) -> _Values:
    """From one colour to another by a share, [S, S, 3]."""
    return np.asarray(low) + share.clip(0, 1)[..., None] * (np.asarray(high) - np.asarray(low))


def even(colour: tuple[float, ...] | _Values) -> _Values:
    """One colour everywhere."""
    return np.ones((SIDE, SIDE, 3)) * np.asarray(colour)


def shade(rng: Rng, much: float = 0.2) -> _Values:
    """Light that falls off to one side, [S, S, 1]."""
    angle = rng.uniform(0, 7)
    return np.asarray(1 + much * (np.cos(angle) * ACROSS + np.sin(angle) * DOWN) * 2)[..., None]


def oval(y: float, x: float, height: float, width: float, soft: float = 1.5) -> _Values:
    """1 within an oval, 0 outside, with a soft edge, [S, S, 1]."""
    inside = np.hypot((DOWN - y) / height, (ACROSS - x) / width) < 1
    return np.asarray(gaussian_filter(inside.astype(float), soft))[..., None]


def blob(rng: Rng, radius: float, ragged: float = 0.1) -> _Values:
    """As `oval`, ragged and somewhere near the middle."""
    y, x = DOWN - rng.uniform(-0.12, 0.12), ACROSS - rng.uniform(-0.12, 0.12)
    angle = np.arctan2(y, x)
    waves = sum(rng.normal() / k * np.cos(k * angle + rng.uniform(0, 7)) for k in (2, 3, 4, 5))
    return np.asarray(gaussian_filter((np.hypot(y, x) < radius * (1 + ragged * waves)).astype(float), 2))[..., None]


def over(below: _Values, cover: _Values, colour: tuple[float, ...] | _Values) -> _Values:
    """A colour laid over a picture."""
    return below * (1 - cover) + cover * np.asarray(colour)


def wood(rng: Rng) -> _Values:
    """A brown board, some with a knot."""
    bend = gaussian_filter(rng.standard_normal((SIDE, SIDE)), (40, 12)) * 20
    rings = 0.5 + 0.5 * np.sin(rng.uniform(20, 60) * (ACROSS + 0.05 * bend) * 2 + 3 * noise(rng, (60, 4)))
    board = mixed(0.6 * rings + 0.15 * noise(rng, (12, 0.7)) + 0.2, (0.42, 0.25, 0.13), (0.75, 0.52, 0.33))
    return board * (1 - 0.6 * (rng.random() < 0.6) * blob(rng, rng.uniform(0.05, 0.15))) * shade(rng)


def wall(rng: Rng) -> _Values:
    """A beige wall with a stain, in falling light."""
    bare = even((0.85, 0.76, 0.64)) * rng.uniform(0.8, 1.1) * (1 + rng.uniform(0.005, 0.03) * noise(rng, 0.8))[..., None]
    stain = blob(rng, rng.uniform(0.08, 0.25), 0.3) * rng.uniform(0.3, 0.7)
    return bare * shade(rng, 0.3) * (1 - stain * np.array([0.8, 0.95, 1.05]))


def biscuit(rng: Rng) -> _Values:
    """A biscuit with chocolate on a plate."""
    crust = mixed(0.5 + 0.15 * noise(rng, 3) + 0.1 * noise(rng, 12), (0.62, 0.4, 0.2), (0.87, 0.68, 0.42))
    plate = over(even((0.95, 0.94, 0.92)) * shade(rng, 0.1), blob(rng, rng.uniform(0.3, 0.42), 0.02), crust)
    for _ in range(rng.integers(4, 14)):
        y, x = rng.uniform(-0.25, 0.25, 2)
        radius = rng.uniform(0.02, 0.05)
        plate = plate * (1 - 0.75 * oval(y, x, radius, radius, 1))
    return plate


def pizza(rng: Rng) -> _Values:
    """A pizza on a table."""
    cheese = mixed(0.5 + 0.35 * noise(rng, 9), (0.72, 0.16, 0.08), (0.95, 0.78, 0.42))
    for _ in range(rng.integers(5, 12)):
        y, x = rng.uniform(-0.4, 0.4, 2)
        radius = rng.uniform(0.05, 0.09)
        cheese = over(cheese, oval(y, x, radius, radius, 1), even((0.65, 0.12, 0.1)) * (1 + 0.1 * noise(rng, 1))[..., None])
    table = even((0.5, 0.35, 0.22)) * (1 + 0.1 * noise(rng, (30, 1)))[..., None]
    return over(table, blob(rng, 0.45, 0.02), cheese)


def skin(rng: Rng) -> _Values:
    """Even skin of one of four tones."""
    tone = even(SKINS[rng.integers(4)]) * rng.uniform(0.9, 1.05)
    return tone * (1 + 0.012 * noise(rng, 1) + 0.02 * noise(rng, 18))[..., None]


def face(rng: Rng) -> _Values:
    """A face before a plain wall."""
    back = even(rng.uniform(0.2, 0.9, 3)) * shade(rng)
    head = oval(rng.uniform(-0.03, 0.05), 0, rng.uniform(0.36, 0.55), rng.uniform(0.28, 0.45), 2)
    made = skin(rng) * (1 - 0.35 * (ACROSS / 0.45) ** 2)[..., None]
    for side in (-0.14, 0.14):
        made = over(made, oval(-0.08, side, 0.035, 0.06), (0.9, 0.9, 0.9))
        made = over(made, oval(-0.08, side, 0.03, 0.03), (0.2, 0.13, 0.1))
        made = made * (1 - 0.7 * oval(-0.15, side, 0.012, 0.08))
    made = over(made * (1 - 0.35 * oval(0.08, 0.01, 0.015, 0.04, 3)), oval(0.2, 0, 0.03, 0.1), (0.7, 0.35, 0.33))
    hair = rng.choice([(0.15, 0.1, 0.08), (0.4, 0.25, 0.12), (0.75, 0.6, 0.35)])
    return over(over(back, head, made), oval(-0.5, 0, 0.22, 0.5), hair)


def hand(rng: Rng) -> _Values:
    """A hand on a table."""
    back = even(rng.uniform(0.1, 0.95, 3)) * shade(rng)
    fingers = (-0.2, -0.07, 0.06, 0.19)
    shape = np.maximum(oval(0.2, 0, 0.28, 0.26, 2), oval(0.15, 0.33, 0.1, 0.16, 2))
    made = skin(rng) * (1 - 0.1 * noise(rng, 25).clip(-1, 1))[..., None]
    for x in fingers:
        shape = np.maximum(shape, oval(-0.15, x, 0.3, 0.055, 2))
        made = over(made, oval(-0.4, x, 0.04, 0.035), (0.95, 0.8, 0.76))
        for y in (-0.05, -0.2):
            made = made * (1 - 0.2 * oval(y, x, 0.006, 0.05, 1))
    return over(back, shape, made)


def palm(rng: Rng) -> _Values:
    """Skin close to, with folds and without a spot."""
    made = skin(rng) * shade(rng, 0.3)
    for _ in range(rng.integers(2, 5)):
        angle, wave = rng.uniform(0, 7), 0.06 * np.sin(6 * ACROSS + rng.uniform(0, 7))
        away = np.cos(angle) * ACROSS + np.sin(angle) * DOWN + rng.uniform(-0.3, 0.3) + wave
        made = made * (1 - 0.3 * np.exp(-((away / 0.01) ** 2)))[..., None]
    return made


def histology(rng: Rng) -> _Values:
    """Pink tissue with violet nuclei."""
    made = mixed(0.5 + 0.3 * noise(rng, 5), (0.85, 0.55, 0.72), (0.97, 0.85, 0.92))
    for _ in range(150):
        y, x = rng.uniform(-0.5, 0.5, 2)
        radius = rng.uniform(0.012, 0.025)
        made[np.hypot((DOWN - y) / radius, (ACROSS - x) / radius / rng.uniform(0.7, 1.3)) < 1] = (0.38, 0.2, 0.52)
    return np.asarray(gaussian_filter(made, (0.8, 0.8, 0)))


def fundus(rng: Rng) -> _Values:
    """The back of an eye."""
    made = mixed(0.6 + 0.1 * noise(rng, 20) - 0.8 * np.hypot(DOWN, ACROSS) ** 2, (0.45, 0.12, 0.04), (0.85, 0.4, 0.2))
    made = over(made, oval(0, rng.choice([-0.2, 0.2]), 0.06, 0.055, 3), (0.98, 0.85, 0.6))
    made = made * (1 - 0.5 * oval(0, 0, 0.07, 0.07, 8))
    for _ in range(8):
        along = np.linspace(0, 0.45, 300)
        angle = rng.uniform(0, 7) + 0.1 * np.sin(6 * along + rng.uniform(0, 7))
        vessel = np.zeros((SIDE, SIDE))
        rows, columns = (((one * along + 0.5) * SIDE).astype(int).clip(1, SIDE - 2) for one in (np.sin(angle), np.cos(angle)))
        vessel[rows, columns] = 1
        thick = gaussian_filter(vessel, 1.2)
        made = made * (1 - 0.45 * (thick / thick.max())[..., None])
    return made * oval(0, 0, 0.47, 0.47)


def fur(rng: Rng) -> _Values:
    """Tawny fur in bands."""
    hairs = noise(rng, (7, 0.7) if rng.random() < 0.5 else (0.7, 7))
    bands = np.sin(rng.uniform(15, 40) * (ACROSS + 0.1 * noise(rng, 30)))
    return mixed(0.55 + 0.2 * hairs + 0.2 * bands, (0.25, 0.16, 0.1), (0.85, 0.66, 0.45))


def sand(rng: Rng) -> _Values:
    """Sand with a damp patch."""
    grains = even((0.8, 0.66, 0.48)) * (1 + 0.12 * noise(rng, 0.7) + 0.08 * noise(rng, 20))[..., None]
    return grains * (1 - rng.uniform(0.3, 0.6) * blob(rng, rng.uniform(0.1, 0.25), 0.2))


def leather(rng: Rng) -> _Values:
    """Brown leather."""
    return mixed(0.4 + 0.2 * np.abs(noise(rng, 2)), (0.35, 0.2, 0.12), (0.62, 0.4, 0.26)) * shade(rng, 0.3)


def bread(rng: Rng) -> _Values:
    """Bread with holes."""
    crumb = mixed(0.6 + 0.15 * noise(rng, 2), (0.75, 0.55, 0.35), (0.97, 0.88, 0.74))
    for _ in range(40):
        y, x = rng.uniform(-0.5, 0.5, 2)
        crumb = crumb * (1 - 0.4 * oval(y, x, rng.uniform(0.01, 0.03), rng.uniform(0.01, 0.04), 1))
    return crumb


KINDS: tuple[Callable[[Rng], _Values], ...] = (
    wood, wall, biscuit, pizza, face, hand, palm, histology, fundus, fur, sand, leather, bread,
)  # fmt: skip


def photographs(folder: Path | None) -> Iterator[Path]:
    """The photographs of the libraries and of the folder."""
    ours = Path(skimage.__file__).parent / "data"
    yield from (path for path in sorted(ours.iterdir()) if path.stem in SHIPPED)
    yield from sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    yield Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    yield from sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".jpeg", ".png")) if folder else ()


def crops(path: Path) -> Iterator[NDArray[np.float32]]:
    """The photograph and parts of it, at most 384 pixels a side."""
    whole = Picture.open(path).convert("RGB")
    whole.thumbnail((1600, 1600))
    rng, (width, height) = np.random.default_rng([0, sum(path.name.encode())]), whole.size
    parts = [whole]
    for _ in range(CROPS):
        side = min(max(100, int(min(height, width) * rng.uniform(0.12, 0.95))), height, width)
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        parts.append(whole.crop((left, top, left + side, top + side)))
    for part in parts:
        part.thumbnail((384, 384))
        yield np.asarray(part, dtype=np.float32) / 255


def negatives(folder: Path | None) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """(what it is, of which source, pixels)."""
    for path in photographs(folder):
        yield from (("photograph" if i == 0 else "crop", path.stem, one) for i, one in enumerate(crops(path)))
    for kind in KINDS:
        for seed in range(SEEDS):
            name = kind.__name__
            rng = np.random.default_rng([seed, sum(name.encode())])
            yield "drawn", name, kind(rng).clip(0, 1).astype(np.float32)


def judged(student: Student, pixels: NDArray[np.float32]) -> dict[str, Check]:
    """What the gate says of a picture, with the student's outline in view."""
    _, checks = look_at(student, Image(pixels, "0" * 64, "picture.png"), settings=GatherSettings(force=True))
    return {one.name: one for one in checks}


def refused(checks: dict[str, Check], *, but: tuple[str, ...] = ()) -> list[str]:
    """The rules that refuse it, without those named in `but`."""
    return [name for name, one in checks.items() if one.passed is False and not one.warns and name not in but]


def by_folds(rows: list[dict[str, Check]]) -> int:
    """How many pictures the new rules refuse by limits of the other folds."""
    values = {name: np.array([np.nan if row[name].value is None else row[name].value for row in rows]) for name in NEW}
    fold, lost = np.random.default_rng(0).permutation(len(rows)) % FOLDS, np.zeros(len(rows), dtype=bool)
    for number in range(FOLDS):
        inside, here = fold != number, fold == number
        lost[here] |= values["gate.spot"][here] < 0.9 * np.sort(values["gate.spot"][inside])[1]
        for name in NEW[1:]:
            lost[here] |= values[name][here] > 1.1 * np.nanmax(values[name][inside])
    return int(lost.sum())


def main() -> None:
    """Look at everything, and print what was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ph2", type=Path)
    parser.add_argument("--photos", type=Path)
    asked = parser.parse_args()
    student = load_student(shipped_students()["dermoscopy"])
    skins = [judged(student, read_image(path, colour=True).pixels) for path in sorted((asked.ph2 / "images").iterdir())]
    new, all_in_all = (sum(bool(refused(one)) and not refused(one, but=but) for one in skins) for but in (NEW, tuple(skins[0])))
    print(f"PH2: {len(skins)}, refused {all_in_all}, by the new rules alone {new}, by those by folds {by_folds(skins)}")
    made = [generate_skin_phantom(FIRST_PHANTOM + seed, size=SIDE).image.pixels for seed in range(PHANTOMS)]
    found = [refused(judged(student, one)) for one in made]
    print(f"phantoms: {PHANTOMS}, refused {sum(map(bool, found))}, by {sorted({name for one in found for name in one})}")
    rows = [(what, source, judged(student, pixels)) for what, source, pixels in negatives(asked.photos)]
    for title, wanted in (("chosen on", True), ("reported on", False)):
        some = [row for row in rows if (row[1] in CHOSEN_ON) is wanted]
        for what in ("photograph", "crop", "drawn"):
            mine = [checks for kind, _, checks in some if kind == what]
            before, after = (sum(not refused(one, but=but) for one in mine) for but in (NEW, ()))
            print(f"{title}, {what}: {len(mine)}, passed {before} without the new rules, {after} with them")
        sources = sorted({source for _, source, _ in some})
        counts = {one: [not refused(checks) for _, source, checks in some if source == one] for one in sources}
        print("  passed: " + ", ".join(f"{one} {sum(those)} of {len(those)}" for one, those in counts.items() if any(those)))


if __name__ == "__main__":
    main()
