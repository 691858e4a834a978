"""Fits the gate's view rule and judges it out of fold: python benchmarks/gate_view.py [DATA]

Learns from frontal films of NIH ChestX-ray14 (free use with attribution), Kermany (CC BY 4.0) and the COVID-19 collection
(only those under CC BY), from phantoms, and against: laterals and slices rendered from a solid phantom, NIH films that are
laterals on sight, films turned, shuffled or cut to a window, drawn pictures (gate_negatives.py) and scikit-image's bundled
ones. Five folds by patient give the answer to each film from weights that have not seen its patient; the limits come from
these answers. Then one fit to all is written to gate_view_weights.py. The laterals and CT slices of ../shared/cases,
dermoscopy and ultrasound are judged only.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from gate_negatives import MAKERS, cropped, photographs, shuffled, varied
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph.gate_view import KINDS, describe, reduce_picture
from storyxai.phantoms.generate import generate_phantom
from storyxai.types import Array
from view_phantoms import render_view

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS_FILE = ROOT / "src" / "storyxai" / "modalities" / "chest_radiograph" / "gate_view_weights.py"
FOLDS, SIDE, SEED = 5, 128, 3
PASSED, UNWARNED = 0.994, 0.98
EXAMPLES = frozenset({6004, 12415, 12708})
"""NIH patients whose films come along as examples: no part in any training."""
LATERALS = frozenset({
    "00000517_001", "00000591_003", "00000732_007", "00000966_000", "00001085_000", "00001104_011", "00001136_001",
    "00001153_005", "00001602_000", "00001758_001", "00001803_003", "00002058_012", "00002097_000", "00002117_003",
    "00002354_000", "00002391_000", "00002592_003", "00002639_009", "00002644_006", "00002705_000", "00003094_002",
    "00003122_001", "00003426_035",
})  # fmt: skip
TURNED = frozenset({
    "00000632_003", "00001170_015", "00001255_007", "00001255_010", "00001491_000", "00001814_001", "00002180_000",
    "00002376_002", "00002720_002", "00002815_003", "00002868_008", "00002898_001", "00003064_030", "00003122_004",
    "00003220_004", "00003490_011", "00003562_000", "00003693_005",
})  # fmt: skip
NO_FRONTAL = frozenset({
    "00002300_026", "00002359_018", "00017625_000", "00017999_000",
})  # fmt: skip
"""Films that NIH calls PA or AP and that are laterals, upside down or on their side, an abdomen or inverted: found on sight
among the 160 that a first fit held least frontal."""


@dataclass(frozen=True, eq=False)
class Films:
    """Pictures [N, 128, 128] uint8, the fold of each one's patient (-1: none), and whether it may be learnt from."""

    pictures: NDArray[np.uint8]
    folds: NDArray[np.int64]
    learnt: NDArray[np.bool_]
    stems: tuple[str, ...]

    def are(self, stems: frozenset[str], *, but: bool = False) -> NDArray[np.bool_]:
        """Which films are among `stems`; with `but` which are frontal on sight."""
        return np.array([stem not in LATERALS | TURNED | NO_FRONTAL if but else stem in stems for stem in self.stems])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _listed(data: Path, name: str) -> Iterator[tuple[Path, str, bool]]:
    """File, patient and whether its licence lets us learn from it."""
    if name == "kermany":
        for row in _rows(data / name / "pairs.csv"):
            yield data / name / row["image"], f"kermany-{row['patient_id']}", True
    elif name == "covid":
        for row in _rows(data / name / "metadata.csv"):
            free = row["license"].startswith("CC BY") and not row["license"].startswith("CC BY-")
            yield data / name / "images" / f"{Path(row['filename']).stem}.jpg", f"covid-{row['patientid']}", free
    else:
        for row in _rows(data / name / "Data_Entry_2017_v2020.csv"):
            if int(row["Patient ID"]) not in EXAMPLES:
                yield data / name / "images" / f"{Path(row['Image Index']).stem}.jpg", f"nih-{int(row['Patient ID'])}", True


def _framed(pixels: Array) -> NDArray[np.uint8]:
    grey = pixels if pixels.ndim == 2 else np.asarray(pixels.mean(axis=2), np.float32)
    return np.round(model_frame(*grey.shape, size=SIDE).to_model(grey).clip(0, 1) * 255).astype(np.uint8)


def read_films(data: Path, name: str, kept: Path | None) -> Films:
    """All frontal films of one set, in the square frame (padded with 0) at 128 px; a folder `kept` spares a second reading."""
    listed = list(_listed(data, name))
    folds = [hashlib.sha256(patient.encode()).digest()[0] % FOLDS for _, patient, _ in listed]
    store = None if kept is None else kept / f"{name}.npy"
    if store is not None and store.is_file():
        pictures = np.load(store)
    else:
        pictures = np.stack([_framed(read_image(path).pixels) for path, _, _ in listed])
    if store is not None and not store.is_file():
        np.save(store, pictures)
    stems = tuple(path.stem for path, _, _ in listed)
    return Films(pictures, np.array(folds), np.array([free for _, _, free in listed]), stems)


def described(pictures: NDArray[np.uint8]) -> Array:
    """The features of pictures in the square frame."""
    small = [reduce_picture(picture.astype(np.float32) / 255) for picture in pictures]
    return np.concatenate([describe(np.stack(small[at : at + 256])) for at in range(0, len(small), 256)])


class Collection:
    """Features, kind, fold and name of the examples to learn from, as they are made."""

    def __init__(self) -> None:
        self.rows: list[Array] = []
        self.kinds: list[int] = []
        self.folds: list[int] = []
        self.names: list[str] = []

    def add(self, pixels: Array, kind: str, name: str, fold: int = -1) -> None:
        """One more example; fold -1 is learnt from in every fold."""
        self.rows.append(describe(reduce_picture(pixels)[None])[0])
        self.kinds.append(KINDS.index(kind))
        self.folds.append(fold)
        self.names.append(name)


def _bare(picture: NDArray[np.uint8]) -> Array:
    """A framed picture without the frame's padding, in [0, 1]."""
    rows, columns = (np.flatnonzero(np.ptp(picture, axis=axis) > 2) for axis in (1, 0))
    inner = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if min(rows.size, columns.size) > 20 else picture
    return inner.astype(np.float32) / 255


def collect(sets: Mapping[str, Films], rng: np.random.Generator) -> Collection:
    """Frontal films as they are and varied, and everything else."""
    examples = Collection()
    nih = _joined([sets[name] for name in ("nih", "nih128", "nih64")])
    frontal = np.flatnonzero(nih.are(frozenset(), but=True))
    for films, count, repeats in ((nih, 3000, 1), (sets["kermany"], 1163, 1), (sets["covid"], 300, 4)):
        chosen = rng.permutation(frontal if films is nih else np.flatnonzero(films.learnt))[:count]
        for i in np.tile(chosen, repeats):
            plain = films.pictures[i].astype(np.float32) / 255
            shown = plain if rng.random() < 0.6 else varied(plain, rng, 10)
            examples.add(shown, "frontal", "frontal film", films.folds[i])
    for seed in range(200):
        examples.add(varied(generate_phantom(9_000_000 + seed, size=96).image.pixels, rng, 10), "frontal", "phantom")
    _collect_rendered(examples, rng)
    for i in np.repeat(np.flatnonzero(nih.are(LATERALS)), 6):
        examples.add(varied(_bare(nih.pictures[i]), rng), "lateral", "nih lateral", nih.folds[i])
    spoiled = [nih.pictures[i] for i in rng.permutation(frontal)[:400]] + list(sets["kermany"].pictures[::6])
    _collect_others(examples, spoiled, rng)
    return examples


def _joined(parts: Sequence[Films]) -> Films:
    rows = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pictures", "folds", "learnt"))
    return Films(*rows, tuple(stem for part in parts for stem in part.stems))


def _collect_rendered(examples: Collection, rng: np.random.Generator) -> None:
    """Laterals and slices of the solid phantom, whole and cut, and its frontal view, so that no manner of drawing tells."""
    plan = (("lateral", "lateral", 600), ("axial", "slice", 600), ("sagittal", "slice", 200), ("coronal", "slice", 450),
            ("frontal", "frontal", 300))  # fmt: skip
    for view, kind, count in plan:
        for number in range(count):
            pixels = render_view(view, rng, size=80)
            examples.add(varied(pixels, rng), kind, view)
            if kind != "frontal" and number % 2 == 0:
                examples.add(varied(cropped(pixels, rng, 0.72, 1.0), rng), kind, view)


def _collect_others(examples: Collection, films: list[NDArray[np.uint8]], rng: np.random.Generator) -> None:
    for number in range(1800):
        maker = MAKERS[number % len(MAKERS)]
        examples.add(varied(maker(rng), rng), "other", maker.__name__)
    for picture in photographs():
        for _ in range(20):
            examples.add(varied(cropped(picture, rng, 0.3, 0.95), rng, 20), "other", "photograph")
    for number, film in enumerate(films):
        pixels = film.astype(np.float32) / 255
        examples.add(varied(np.rot90(pixels, rng.integers(1, 4)), rng), "other", "turned")
        if number % 2:
            examples.add(varied(cropped(pixels, rng, 0.3, 0.42), rng, 5), "other", "window")
        if number % 3 == 0:
            examples.add(shuffled(pixels, rng), "other", "tiles")


@dataclass(frozen=True, eq=False)
class Layer:
    """Log-odds of each kind but frontal, against frontal: rows float [3, D], biases [3]."""

    rows: NDArray[np.float64]
    biases: NDArray[np.float64]

    def of(self, features: Array) -> NDArray[np.float64]:
        """Shapes: [N, D] -> [N, 3]."""
        return np.asarray(features @ self.rows.T.astype(np.float32) + self.biases)

    def rounded(self) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """The rows in steps of a 127th of their largest weight, and these steps."""
        steps = np.abs(self.rows).max(axis=1) / 127
        return np.rint(self.rows / steps[:, None]).astype(np.int8), steps


def fit(features: Array, kinds: NDArray[np.int64]) -> Layer:
    """A multinomial logistic regression on features scaled by the frontal films' spread."""
    middle, spread = features[kinds == 0].mean(axis=0), 10 * (features[kinds == 0].std(axis=0) + 0.02)
    fitted = LogisticRegression(C=0.03, max_iter=150, tol=1e-3).fit((features - middle) / spread, kinds)
    rows = (fitted.coef_[1:] - fitted.coef_[0]) / spread
    return Layer(rows, fitted.intercept_[1:] - fitted.intercept_[0] - rows @ middle)


def exact(hits: int, count: int) -> str:
    """The share and its exact 95 % interval (Clopper and Pearson), in per cent."""
    low = beta.ppf(0.025, hits, count - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, count - hits) if hits < count else 1.0
    return f"{hits}/{count} = {100 * hits / count:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def write(layer: Layer, refuse: float, warn: float) -> None:
    """Writes gate_view_weights.py."""
    rows, steps = layer.rounded()
    text = base64.b85encode(rows.tobytes()).decode("ascii")
    lines = [
        '"""The gate\'s view rule as fitted by benchmarks/gate_view.py, which says on what; not to be edited.',
        "",
        f"int8 [3, {rows.shape[1]}] in base 85: lateral, slice, other, each against frontal. Learnt from NIH ChestX-ray14",
        "(NIH Clinical Center), Kermany (CC BY 4.0), COVID-19 Image Data Collection (films under CC BY), scikit-image's",
        "pictures and phantoms.",
        '"""', "", "from __future__ import annotations", "",
        f"REFUSE, WARN = {refuse:.2f}, {warn:.2f}",
        f"SCALES = ({', '.join(f'{step:.6g}' for step in steps)})",
        f"BIASES = ({', '.join(f'{bias:.6g}' for bias in layer.biases)})",
        "WEIGHTS = (", *(f'    "{text[at : at + 110]}",' for at in range(0, len(text), 110)), ")",
    ]  # fmt: skip
    WEIGHTS_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _judged(data: Path) -> Iterator[tuple[str, list[NDArray[np.uint8]]]]:
    """Real pictures that nothing here learns from."""
    cases = data.parent / "cases"
    groups = {
        "laterals of the cases": [*cases.glob("01*/*.png"), *cases.glob("07*/L*.png")],
        "CT slices of the cases": cases.glob("02*/*.png"),
        "frontal films of the cases": cases.glob("07*/F*.png"),
        "dermoscopy": (data / "ph2" / "images").glob("*"), "breast ultrasound": (data / "busi" / "images").glob("*"),
    }
    for name, paths in groups.items():
        found = sorted(paths)
        if found:
            yield name, [_framed(read_image(path).pixels) for path in found]


@dataclass(frozen=True, eq=False)
class Answers:
    """Out-of-fold log-odds of the sets' films and of the made pictures, and the fit to all."""

    films: Mapping[str, NDArray[np.float64]]
    made: NDArray[np.float64]
    final: Layer


def answer(sets: Mapping[str, Films], examples: Collection) -> Answers:
    """Five fits, each asked of what it has not seen, then one to all."""
    features, kinds, folds = np.stack(examples.rows), np.array(examples.kinds), np.array(examples.folds)
    # A fifth of the made pictures sits out of each fold as well.
    sits_out = np.where(folds >= 0, folds, np.arange(len(folds)) // 7 % FOLDS)
    made = np.zeros((len(features), len(KINDS) - 1))
    seen = {name: described(films.pictures) for name, films in sets.items()}
    odds = {name: np.zeros((len(rows), len(KINDS) - 1)) for name, rows in seen.items()}
    for fold in range(FOLDS):
        layer = fit(features[sits_out != fold], kinds[sits_out != fold])
        made[sits_out == fold] = layer.of(features[sits_out == fold])
        for name, films in sets.items():
            odds[name][films.folds == fold] = layer.of(seen[name][films.folds == fold])
    return Answers({name: rows.max(axis=1) for name, rows in odds.items()}, made.max(axis=1), fit(features, kinds))


def limit(sets: Mapping[str, Films], answers: Answers, share: float) -> float:
    """What the share of the frontal films stays below in every set."""
    most = [np.quantile(answers.films[name][films.are(frozenset(), but=True)], share) for name, films in sets.items()]
    return float(np.ceil(100 * max(most)) / 100)


def tell(sets: Mapping[str, Films], examples: Collection, answers: Answers, refuse: float, warn: float) -> None:
    """Prints false refusals and warnings by set, then refusals of what is no frontal film, out of fold."""
    say = sys.stdout.write
    say(f"limits: refuse above {refuse}, warn above {warn}; {dict(Counter(KINDS[kind] for kind in examples.kinds))}\n\n")
    say("out of fold, frontal films refused; only warned of\n")
    for name, films in sets.items():
        most = answers.films[name][films.are(frozenset(), but=True)]
        warned = int(((most > warn) & (most <= refuse)).sum())
        say(f"{name:8} {exact(int((most > refuse).sum()), most.size)}; {exact(warned, most.size)}\n")
    say("\nout of fold, NIH films that are none on sight, refused\n")
    for what, stems in (("laterals", LATERALS), ("turned", TURNED), ("others", NO_FRONTAL)):
        most = np.concatenate([answers.films[name][films.are(stems)] for name, films in sets.items()])
        say(f"{what:8} {exact(int((most > refuse).sum()), most.size)}\n")
    say("\nout of fold, made pictures refused\n")
    for name in sorted(set(examples.names)):
        most = answers.made[np.array(examples.names) == name]
        say(f"{name:12} {exact(int((most > refuse).sum()), most.size)}\n")


def tell_judged(data: Path, final: Layer, refuse: float) -> None:
    """Prints refusals of real pictures that nothing was learnt from, and what they were taken for."""
    sys.stdout.write("\nnever learnt from, refused by the fit to all; what they were taken for\n")
    for name, pictures in _judged(data):
        answers = final.of(described(np.stack(pictures)))
        refused = answers.max(axis=1) > refuse
        told = Counter(KINDS[1 + int(kind)] for kind in answers[refused].argmax(axis=1))
        sys.stdout.write(f"{name:27} {exact(int(refused.sum()), len(answers))}; {dict(told)}\n")


def main() -> None:
    """Fits, writes the weights, and prints false refusals and refusals by set and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--kept", type=Path, help="a folder for the films as read, to read them once")
    chosen = parser.parse_args()
    data = chosen.data
    if not (data / "nih").is_dir():
        sys.stdout.write(f"skipped: no real radiographs in {data}\n")
        return
    sets = {name: read_films(data, name, chosen.kept) for name in ("nih", "nih128", "nih64", "kermany", "covid")}
    examples = collect(sets, np.random.default_rng(SEED))
    answers = answer(sets, examples)
    refuse, warn = (limit(sets, answers, share) for share in (PASSED, UNWARNED))
    write(answers.final, refuse, warn)
    tell(sets, examples, answers, refuse, warn)
    tell_judged(data, answers.final, refuse)


if __name__ == "__main__":
    main()
