"""How many faulty pictures the gate refuses or warns of, and how many real films it refuses: python gate_score.py DATA

DATA is a folder with nih/, kermany/ and covid/ (left out: ../shared/data beside the checkout). With --fit the pose
weights are fitted again first, on NIH films of patients whose hash is odd; scores are on all other films.
With --model the student is asked too: where it finds lungs, and its distance where its folder holds one (films of patients it
learnt from are then left out), and photographs, textures, tiles in disorder and other DICOM modalities are scored as well.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage

from storyxai.imaging.gate import judge
from storyxai.imaging.geometry import model_frame
from storyxai.imaging.read import read_image
from storyxai.modalities.chest_radiograph import gate
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.models.runtime import Student, load_student
from storyxai.scorecard.judge import patient_mark
from storyxai.types import Array, Check, Image

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS_FILE = ROOT / "src" / "storyxai" / "modalities" / "chest_radiograph" / "gate_weights.py"
FAULTS = ("inverted", "down", "flipped", "left", "right", "cropped", "mirrored", "blank", "noise", "page", "tiles")


class Film(NamedTuple):
    """A film's set, whether the gate was calibrated on its patient, and its file."""

    group: str
    calibrates: bool
    path: Path
    patient: str


def films(data: Path) -> Iterator[Film]:
    """All frontal films of the three sets."""
    for row in _lines(data / "nih" / "Data_Entry_2017_v2020.csv"):
        odd = hashlib.sha256(row["Patient ID"].encode()).digest()[0] % 2 == 1
        yield Film("nih", odd, data / "nih" / "images" / f"{Path(row['Image Index']).stem}.jpg",
                   f"nih-{int(row['Patient ID']):08d}")
    for row in _lines(data / "kermany" / "pairs.csv"):
        yield Film("kermany", False, data / "kermany" / row["image"], f"kermany-{row['patient_id']}")
    for row in _lines(data / "covid" / "metadata.csv"):
        yield Film("covid", False, data / "covid" / "images" / f"{Path(row['filename']).stem}.jpg",
                   f"covid-{row['patientid']}")


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def spoiled(pixels: Array, fault: str, rng: np.random.Generator) -> Array:
    """The film with one fault."""
    height, width = pixels.shape
    if fault in {"blank", "noise"}:
        level = rng.uniform(0.2, 0.8)
        return (rng.random(pixels.shape) if fault == "noise" else np.full(pixels.shape, level)).astype(np.float32)
    if fault == "page":
        words = rng.random((height // 12 + 1, width // 6 + 1)) < 0.15
        page = np.kron(words, np.pad(np.ones((6, 4)), ((3, 3), (1, 1))))
        return (1 - page[:height, :width]).astype(np.float32)
    if fault == "cropped":
        return _window(pixels, rng)
    if fault == "tiles":
        h, w = height // 4, width // 4
        parts = [pixels[i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(4) for j in range(4)]
        order = rng.permutation(16)
        return np.ascontiguousarray(np.block([[parts[order[4 * i + j]] for j in range(4)] for i in range(4)]))
    turned: dict[str, Array] = {
        "upright": pixels, "inverted": 1 - pixels, "down": pixels[::-1, ::-1], "flipped": pixels[::-1],
        "left": np.rot90(pixels, 1), "right": np.rot90(pixels, -1), "mirrored": pixels[:, ::-1],
    }  # fmt: skip
    return np.ascontiguousarray(turned[fault])


def _window(pixels: Array, rng: np.random.Generator) -> Array:
    """A half of the film, or a window of 35 to 50 % of each side."""
    height, width = pixels.shape
    if rng.random() < 0.5:
        h, w = height // 2, width // 2
        half = [pixels[:h], pixels[h:], pixels[:, :w], pixels[:, w:]]
        return np.ascontiguousarray(half[rng.integers(4)])
    share = rng.uniform(0.35, 0.5)
    h, w = int(height * share), int(width * share)
    top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    return np.ascontiguousarray(pixels[top : top + h, left : left + w])


def _varied(pixels: Array, rng: np.random.Generator) -> Array:
    """The film turned, stretched, moved and exposed a little differently."""
    side = 128
    small = PillowImage.fromarray(pixels).resize((side, side), PillowImage.Resampling.BILINEAR)
    angle, zoom = np.radians(rng.uniform(-10, 10)), rng.uniform(0.85, 1.1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([zoom * rng.uniform(0.87, 1.15), zoom])
    offset = np.full(2, side / 2) - matrix @ np.full(2, side / 2) + rng.uniform(-8, 8, 2)
    terms = (*matrix[0], offset[0], *matrix[1], offset[1])
    moved = small.transform((side, side), PillowImage.Transform.AFFINE, terms, PillowImage.Resampling.BILINEAR)
    return np.asarray(np.clip(np.asarray(moved), 0, 1) ** rng.uniform(0.6, 1.6), dtype=np.float32)


def fit(chosen: list[Film]) -> None:
    """Fits the pose rows on the calibrating films and writes gate_weights.py."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    thumbs, poses, sides, upright = [], [], [], []
    for film in chosen:
        pixels = read_image(film.path).pixels
        for view in [pixels, *(_varied(pixels, rng) for _ in range(4))]:
            upright.append(gate.thumbnail(view))
            raster = upright[-1].reshape(gate.THUMBNAIL_SIDE, -1)
            sides.append(((raster - raster[:, ::-1]) / 2).ravel())
            for index, pose in enumerate(gate.POSES):
                for _ in range(3 if pose == "cropped" else 1):
                    name = "flipped" if pose == "down" and rng.random() < 0.5 else pose
                    made = spoiled(view, name, rng)
                    # Mirroring has a rule of its own: the poses must not learn the heart's side.
                    thumbs.append(gate.thumbnail(made[:, ::-1] if rng.random() < 0.5 else made))
                    poses.append(index)
    pose = LogisticRegression(C=0.003, max_iter=300).fit(np.array(thumbs), poses)
    # Only what differs between left and right can tell a mirrored film: mirroring negates it exactly.
    both = np.concatenate([sides, -np.array(sides)])
    answers = np.repeat([0, 1], len(sides))
    mirrored = LogisticRegression(C=0.003, max_iter=300, fit_intercept=False).fit(both, answers)
    rows = np.concatenate([pose.coef_, mirrored.coef_, np.mean(upright, axis=0)[None]])
    scales = np.abs(rows).max(axis=1) / 127
    text = base64.b85encode(np.rint(rows / scales[:, None]).astype(np.int8).tobytes()).decode("ascii")
    lines = [
        '"""Fitted rows of the gate (see gate.py), written by benchmarks/gate_score.py --fit; not to be edited.',
        "",
        "int8 [8, 256] in base 85: six poses, mirrored, the mean film. Fitted on NIH ChestX-ray14 films as said there.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        f"SCALES = ({', '.join(f'{scale:.6g}' for scale in scales)})",
        f"BIASES = ({', '.join(f'{bias:.6g}' for bias in pose.intercept_)})",
        "WEIGHTS = (",
        *(f'    "{text[at : at + 110]}",' for at in range(0, len(text), 110)),
        ")",
    ]
    WEIGHTS_FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def wilson(hits: int, count: int) -> str:
    """The share and its 95 % Wilson interval, in per cent."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return f"{100 * share:5.1f} [{100 * (middle - half):5.1f}, {100 * (middle + half):5.1f}]"


def outcome(image: Image, pixels: Array, student: Student | None = None) -> tuple[bool, bool, bool]:
    """Whether a picture was refused, warned of at least, and warned of as mirrored."""
    seen = replace(image, pixels=pixels)
    checks = judge(seen, CHEST_RADIOGRAPH) if student is None else _asked(seen, student)
    failed = {check.name for check in checks if check.passed is False}
    refused = any(rule.hard and rule.name in failed for rule in gate.RULES)
    return refused, bool(failed - {"gate.mirrored"}), "gate.mirrored" in failed


def line_of(group: str, kind: str, results: list[tuple[bool, bool, bool]]) -> str:
    """One line of the table."""
    shares = [wilson(sum(result[i] for result in results), len(results)) for i in range(3)]
    return f"{group:8} {kind:9} {len(results):4}  {'   '.join(shares)}\n"


def _asked(image: Image, student: Student) -> tuple[Check, ...]:
    """The checks with what the student found, as `tell` judges."""
    frame = model_frame(*image.pixels.shape, size=student.size)
    look = student.answer(frame.to_model(image.pixels)[None])
    masks = [frame.mask_to_original(look.masks[index], 0.5) for index in (0, 1)]
    known = student.distance
    return judge(
        image, CHEST_RADIOGRAPH, masks={"left_lung": masks[0], "right_lung": masks[1]},
        distance=known.of(look.features) if known else None, distance_limit=known.limit if known else None,
    )


def strangers(data: Path, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Kind and pixels of pictures that are no radiograph of a chest."""
    from scipy.ndimage import gaussian_filter
    from skimage import data as library

    for name in ("astronaut", "brick", "camera", "cat", "clock", "coffee", "coins", "grass", "gravel", "moon", "rocket"):
        grey = np.atleast_3d(np.asarray(getattr(library, name)(), dtype=np.float32) / 255).mean(axis=2)
        yield "photo", grey
        for _ in range(3):
            h, w = (int(side * rng.uniform(0.5, 0.9)) for side in grey.shape)
            top, left = rng.integers(0, grey.shape[0] - h), rng.integers(0, grey.shape[1] - w)
            yield "photo", np.ascontiguousarray(grey[top : top + h, left : left + w])
    for _ in range(40):
        smooth = gaussian_filter(rng.random((256, 256)), rng.uniform(1, 20))
        yield "texture", ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    for path in sorted((data / "dicom" / "odd").glob("*.dcm")):
        pixels = _stored(path)
        if pixels is not None:
            yield "modality", pixels


def _stored(path: Path) -> Array | None:
    """The first frame of a DICOM file, whatever it shows, scaled to [0, 1]; None where it cannot be decoded."""
    import pydicom

    try:
        stored = np.asarray(pydicom.dcmread(path).pixel_array, dtype=np.float32)
    except (ValueError, AttributeError):
        return None
    frame = stored[0] if stored.ndim == 3 else stored
    return np.asarray((frame - frame.min()) / max(float(np.ptp(frame)), 1e-6), np.float32)


def main() -> None:
    """Prints one line per set and fault: refused, refused or warned, with intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--count", type=int, default=400, help="films per set")
    parser.add_argument("--model", type=Path, help="ask this student too")
    chosen = parser.parse_args()
    if not (chosen.data / "nih").is_dir():
        sys.stdout.write(f"skipped: no real radiographs in {chosen.data}\n")
        return
    everything = list(films(chosen.data))
    if chosen.fit:
        fit([film for film in everything if film.calibrates])
        sys.stdout.write(f"written: {WEIGHTS_FILE.name}; run again without --fit to score\n")
        return
    student = load_student(chosen.model) if chosen.model else None
    learnt = set(student.card.training.get("patients", ())) if student else set()
    rng = np.random.default_rng(1)
    sys.stdout.write("set      picture    n     refused %               refused or warned %     warned as mirrored %\n")
    for group in ("nih", "kermany", "covid"):
        members = [film for film in everything if film.group == group and not film.calibrates]
        members = [film for film in members if patient_mark(film.patient) not in learnt]
        picked = [members[i] for i in sorted(rng.permutation(len(members))[: chosen.count])]
        images = [read_image(film.path) for film in picked]
        for fault in ("upright", *FAULTS):
            results = [outcome(image, spoiled(image.pixels, fault, rng), student) for image in images]
            sys.stdout.write(line_of(group, fault, results))
    cases = chosen.data.parent / "cases"
    for kind, patterns in (("lateral", ("01*/*.png", "07*/L*.png")), ("slice", ("02*/*.png",)), ("frontal", ("07*/F*.png",))):
        images = [read_image(path) for pattern in patterns for path in sorted(cases.glob(pattern))]
        if images:
            sys.stdout.write(line_of("cases", kind, [outcome(image, image.pixels, student) for image in images]))
    found: dict[str, list[tuple[bool, bool, bool]]] = {}
    for kind, pixels in strangers(chosen.data, rng):
        found.setdefault(kind, []).append(outcome(Image(pixels, "0" * 64, kind), pixels, student))
    for kind, results in found.items():
        sys.stdout.write(line_of("none", kind, results))
    for path in sorted((chosen.data / "dicom").rglob("RG*.dcm")):
        image = read_image(path)
        refused, alone = outcome(image, image.pixels)[0], outcome(replace(image, notes=()), image.pixels)[0]
        sys.stdout.write(f"dicom    {path.stem}  refused {refused}, by pixels alone {alone}\n")


if __name__ == "__main__":
    main()
