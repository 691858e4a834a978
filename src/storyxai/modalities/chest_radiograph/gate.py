"""The gate of chest radiographs: is this a whole, upright, frontal film in the right grey values?

Every limit stands in RULES with how it was obtained. "Calibrated" means: fitted on NIH ChestX-ray14 films of the
patients whose hash is odd (632 films), never on those used for scoring; benchmarks/gate_score.py repeats the fit and
the scores. The plain limits (size, proportions, contrast, flatness, likeness) were set with the extremes of all 2,861
films of three sets in view, so they refuse none of those by construction. What kind of picture it is (lateral, slice,
other, unlike) was learnt by benchmarks/gate_view.py from films of all sets and judged out of fold. A rule
refuses only where a real film hardly ever lands; where films and faults overlap, it warns.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from storyxai.modalities.any_image import contrast_of, flat_share, noted_share
from storyxai.modalities.chest_radiograph.gate_frame import bright_frame
from storyxai.modalities.chest_radiograph.gate_view import REFUSE, WARN, view_odds
from storyxai.modalities.chest_radiograph.gate_weights import BIASES, SCALES, WEIGHTS
from storyxai.modalities.contract import Gate, GateRule
from storyxai.types import Array, Image, Mask

THUMBNAIL_SIDE = 16
SHARPNESS_SIDE = 112
POSES = ("upright", "inverted", "down", "left", "right", "cropped")
_FRONTAL = "give a frontal chest radiograph"
_FOLDS = "learnt; in every set 99.4 % of the frontal films or more stay below, out of fold"


RULES: tuple[GateRule, ...] = (
    GateRule("gate.size", 112, True, True, "The picture is large enough.", "the picture is too small to judge",
         "give it at full resolution", "half of the model's 224 pixels; the smallest real film seen has 140"),
    GateRule("gate.aspect", 3.5, False, True, "The picture has a film's proportions.", "the picture is a narrow strip",
         _FRONTAL, "the widest real film seen is 3.2 times as wide as high"),
    GateRule("gate.contrast", 0.06, True, True, "The picture has contrast.", "the picture is blank or almost so",
         "export it with its window applied", "5th to 95th percentile; the palest real film seen has 0.145"),
    GateRule("gate.greys", 16, True, True, "The picture has a film's many grey values.",
         "the picture has only a few grey values, like a fax, a mask or a drawing", "export the image with all its grey values",
         "chosen: of 256 levels those in a sample of the pixels; the fewest on 4,941 films of four sets are 81"),
    GateRule("gate.flat", 0.75, False, True, "The grey values vary as on a film.",
         "most of the picture is perfectly flat, like a screenshot, text or drawing", "export the radiograph itself",
         "share of pixels equal to their four neighbours; the highest of 2,861 real films is 0.61"),
    GateRule("gate.colour", 0.25, False, True, "The picture is grey.", "the picture is in colour",
         "export the radiograph in grey values", "chosen: no film of the three sets has any colour"),
    GateRule("gate.body_part", 0, False, True, "The file names no other body part.",
         "the file says that it shows another body part", _FRONTAL, "DICOM Body Part Examined against a list of names"),
    GateRule("gate.view", 0, False, True, "The file does not call it a lateral, oblique or decubitus view.",
         "the file says that it is a lateral, oblique or decubitus view", _FRONTAL,
         "DICOM View Position, View Code, Patient Orientation, and the names of series and protocol where these say nothing"),
    GateRule("gate.inverted", 0.9, False, True, "Dense parts are bright.", "the grey values look inverted (bright lungs)",
         "invert the picture, or give the original DICOM file", "calibrated: share of inverted against upright"),
    GateRule("gate.upside_down", 0.9, False, True, "The head is up.", "the picture looks upside down",
         "turn it so that the head is up", "calibrated: share of upside down against upright"),
    GateRule("gate.rotated", 0.9, False, True, "The picture is not lying on its side.",
         "the picture looks turned by 90 degrees",
         "turn it so that the head is up", "calibrated: share of turned left or right against upright"),
    GateRule("gate.likeness", 0.1, True, True, "The picture resembles a frontal chest film.",
         "the picture does not resemble a frontal chest film", _FRONTAL,
         "correlation with the mean film of the calibrating patients; the lowest upright real film seen has 0.13"),
    GateRule("gate.lateral", REFUSE, False, True, "It does not look like a lateral view.",
         "the picture looks like a lateral view", "give the frontal (PA or AP) film of the study", _FOLDS),
    GateRule("gate.slice", REFUSE, False, True, "It does not look like a slice.",
         "the picture looks like a slice (as of a CT), not a frontal chest film", _FRONTAL, _FOLDS),
    GateRule("gate.other", REFUSE, False, True, "It does not look like a picture of another kind.",
         "the picture does not resemble a frontal chest film", _FRONTAL, _FOLDS),
    GateRule("gate.unlike", WARN, False, False, "It looks like a frontal chest film.",
         "the picture looks unusual for a frontal chest film", "look at the picture before relying on the story",
         "learnt; the largest of the three log-odds above, 98 % of every set stay below"),
    GateRule("gate.pose", 0.5, False, False, "The pose is not in doubt.", "the grey values or the orientation may be wrong",
         "look at the picture before relying on the story", "calibrated: the three shares above taken together"),
    GateRule("gate.cropped", 0.6, False, False, "The chest seems to be whole.", "the chest may be cut off at an edge",
         "give the whole film", "calibrated: share of cut-out windows against whole films"),
    GateRule("gate.blurred", 0.45, True, False, "The picture is sharp.", "the picture is blurred",
         "look for a sharper copy", "chosen: fine detail against slopes at 112 px; the lowest of 4,941 real films has 0.53, "
         "and 237 of 240 blurred by 0.9 % of their shorter side stay below (benchmarks/gate_sharp.py)"),
    GateRule("gate.faint", 0.18, True, False, "Dark and bright parts stand apart.",
         "the picture has hardly any contrast", "set its window, or give the original DICOM file",
         "chosen: 5th to 95th percentile; 3 of 4,941 real films stay below"),
    GateRule("gate.framed", 0.8, False, False, "No bright frame lies round the film.",
         "the film lies within a bright frame, as on a photograph of a light box",
         "if it is a photograph, give the radiograph itself", "chosen: 3 of 600 films of three sets lie above, of 201 drawn "
         "photographs 193 (benchmarks/gate_frame.py); warns only"),
    GateRule("gate.mirrored", 0.5, False, False, "The heart lies on the usual side.",
         "the picture may be mirrored (or the heart lies on the right)",
         "compare the side marker", "calibrated: share of mirrored against unmirrored; warns only", sides=True),
    GateRule("gate.lung_area", 0.04, True, True, "Lungs were found.", "hardly any lung was found", _FRONTAL,
         "chosen: share of the picture that the student takes for lung"),
    GateRule("gate.lung_sides", 0, False, False, "The lungs lie on their own sides.",
         "the lungs found lie on swapped sides",
         "compare the side marker", "chosen: the left lung's centre must lie right of the right lung's", sides=True),
    GateRule("gate.lung_edges", 0.3, False, False, "The lungs found lie within the picture.",
         "the lungs found run into the picture's edge", "give the whole film",
         "chosen: share of one picture edge that lung touches"),
    GateRule("gate.distance", 0, False, False, "The picture is like the films that the model learnt from.",
         "the picture is unlike the films that the model learnt from", "read it without the model",
         "given with the model: 99 % of left-out training films are nearer (of phantoms, to theirs); warns"),
    GateRule("gate.taught", 0, False, False, "The picture is like films from which the model learnt findings.",
         "the picture is most like films (such as those of children) from which the model learnt no findings",
         "read it without the model",
         "given with the model: how much nearer it lies to such a set of films than to the others; warns"),
    GateRule("gate.age", 0, True, False, "The model learnt findings from people of this age.",
         "the patient is younger than nearly everyone from whose films the model learnt findings", "read it without the model",
         "given with the model: 99 in 100 were of this age or older; warns"),
)  # fmt: skip

# What undoes each fault of pose on the ranks of a thumbnail.
_MENDED: Mapping[str, Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], ...]]] = {
    "gate.inverted": lambda ranks: (-ranks,),
    "gate.upside_down": lambda ranks: (ranks[::-1, ::-1], ranks[::-1]),
    "gate.rotated": lambda ranks: (np.rot90(ranks), np.rot90(ranks, -1)),
}

_MENDED_PIXELS: Mapping[str, Callable[[Array], tuple[Array, ...]]] = {
    "gate.inverted": lambda pixels: (1 - pixels,),
    "gate.upside_down": lambda pixels: (pixels[::-1, ::-1], pixels[::-1]),
    "gate.rotated": lambda pixels: (np.rot90(pixels), np.rot90(pixels, -1)),
}

# Chance stays below; of 162 real films, turned or inverted and then mended, nearly all lie above.
_MENDED_LIKENESS = 0.3

_KINDS = ("gate.lateral", "gate.slice", "gate.other")

# Body parts that are certainly no chest, as words within DICOM's free-text-like codes (PS3.16 annex L).
_OTHER_PARTS = (
    "ABDOMEN", "ANKLE", "ARM", "BECKEN", "BREAST", "BUTTOCK", "CALCANEUS", "CARPUS", "CEREBRAL", "CERVICAL", "COCCYX", "CSPINE",
    "ELBOW", "EXTREMITY", "EYE", "FACE", "FACIAL", "FEMUR", "FIBULA", "FINGER", "FOOT", "FUSS", "HAND", "HEAD", "HIP",
    "HUEFTE", "HUMERUS", "JAW", "KNEE", "KNIE", "LEG", "LSPINE", "LUMBAR", "MANDIBLE", "MAXILLA", "NASAL", "NECK", "ORBIT",
    "PATELLA", "PELVIS", "PENIS", "RADIUS", "SACRUM", "SCHULTER", "SCROTUM", "SHOULDER", "SINUS", "SKULL", "SPINE",
    "TARSUS", "TEETH", "THIGH", "THUMB", "TIBIA", "TOE", "TOOTH", "ULNA", "UTERUS", "WRIST", "ZYGOMA",
)  # fmt: skip
# The same as whole words, without accents: short forms, and other languages.
_OTHER_WORDS = {
    "short": "ABD KUB LWS HWS EXM HEEL DENTAL MAMMA",
    "de": "BAUCH HAND HANDE KNIEGELENK HUFTE SCHADEL SCHAEDEL KOPF WIRBELSAULE WIRBELSAEULE ELLENBOGEN HANDGELENK SPRUNGGELENK "
    "OBERSCHENKEL UNTERSCHENKEL OBERARM UNTERARM ZAHN ZAHNE FERSE ZEH DAUMEN HALS KIEFER NASE",
    "fr": "VENTRE MAIN GENOU PIED BASSIN HANCHE EPAULE CRANE TETE RACHIS LUMBALE CERVICALE COUDE POIGNET CHEVILLE DENT COU NEZ",
    "es": "MANO MANOS RODILLA PIE CADERA HOMBRO CRANEO CABEZA COLUMNA CODO MUNECA TOBILLO DIENTE MAMA CUELLO",
    "it": "GINOCCHIO PIEDE BACINO ANCA SPALLA CRANIO TESTA COLONNA GOMITO POLSO CAVIGLIA COLLO",
    "pt": "JOELHO QUADRIL OMBRO CABECA COLUNA PUNHO",
}
_OTHER_WORD_SET = frozenset(word for words in _OTHER_WORDS.values() for word in words.split())
_CHEST_PARTS = (
    "CHEST", "THORA", "TORAX", "TORACE", "TORSO", "LUNG", "PULMO", "RIB", "HEART", "CARDIAC", "TSPINE", "CLAVICLE", "STERNUM",
    "POUMON", "POITRINE", "BRUST",
)  # fmt: skip


def _measure(image: Image, masks: Mapping[str, Mask] | None) -> dict[str, float | None]:
    """The value of each rule. `masks` hold "left_lung" and "right_lung" (the patient's), as the student found them."""
    if image not in _measured:
        _measured[image] = _measure_picture(image)
    return {**_measured[image], **_lung_values(masks, image.pixels.shape[:2])}


_measured: WeakKeyDictionary[Image, Mapping[str, float | None]] = WeakKeyDictionary()
"""The gate looks at a picture before its masks are drawn and after."""


def _measure_picture(image: Image) -> dict[str, float | None]:
    """The values of the rules that ask for no masks."""
    pixels = image.pixels if image.pixels.ndim == 2 else np.asarray(image.pixels.mean(axis=2), dtype=np.float32)
    ranks = thumbnail(pixels)
    poses, kinds = _pose_shares(ranks), view_odds(pixels)
    height, width = pixels.shape
    return {
        "gate.size": float(min(height, width)),
        "gate.aspect": max(height, width) / min(height, width),
        "gate.contrast": (contrast := contrast_of(pixels)),
        "gate.greys": float(_levels(pixels)),
        "gate.flat": flat_share(pixels),
        "gate.colour": noted_share(image, "colour:"),
        "gate.body_part": float(_names_other_part(image)),
        "gate.view": float(image.view in {"LATERAL", "OTHER"}),
        "gate.inverted": _against_upright(poses, "inverted"),
        "gate.upside_down": _against_upright(poses, "down"),
        "gate.rotated": _against_upright(poses, "left", "right"),
        "gate.framed": bright_frame(pixels),
        "gate.likeness": _likeness(ranks),
        **{f"gate.{kind}": odds for kind, odds in kinds.items()},
        "gate.unlike": max(kinds.values()),
        "gate.pose": _against_upright(poses, "inverted", "down", "left", "right"),
        "gate.cropped": _against_upright(poses, "cropped"),
        "gate.blurred": _sharpness(pixels),
        "gate.faint": contrast,
        "gate.mirrored": float(1 / (1 + np.exp(-_rows()[-2] @ ranks))),
    }


def _levels(pixels: Array) -> int:
    """How many of 256 levels of grey some 65,000 pixels have, spread evenly over the picture."""
    step = max(1, int((pixels.size / 65536) ** 0.5))
    return int(np.unique(np.rint(pixels[::step, ::step] * 255)).size)


def _tell(image: Image, failed: frozenset[str]) -> frozenset[str]:
    """Of the failed rules those to tell.

    A picture that lies wrongly fails several rules at once; it is told the one whose mend would make it a frontal film, or what
    it looks like where no mend would.
    """
    about = {*_MENDED, *_KINDS, "gate.likeness"}
    if not failed & about:
        return failed
    pixels = image.pixels if image.pixels.ndim == 2 else np.asarray(image.pixels.mean(axis=2), dtype=np.float32)
    return failed - about | {_told_pose(pixels, failed) or _told_kind(pixels, failed)}


def _told_kind(pixels: Array, failed: frozenset[str]) -> str:
    """The failed rule that says best what the picture looks like."""
    odds = {f"gate.{kind}": value for kind, value in view_odds(pixels).items() if f"gate.{kind}" in failed}
    return max(odds, key=lambda name: odds[name], default="gate.likeness")


def _told_pose(pixels: Array, failed: frozenset[str]) -> str | None:
    """The failed rule of pose whose mend makes the picture most like a frontal film; None where none does."""
    ranks = thumbnail(pixels).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    likeness = {
        name: max(_likeness(np.ascontiguousarray(mended).ravel()) for mended in mend(ranks))
        for name, mend in _MENDED.items() if name in failed
    }
    best = max(likeness, key=lambda name: likeness[name], default=None)
    strange = failed & {*_KINDS, "gate.likeness"}
    if best is None or (strange and likeness[best] < _MENDED_LIKENESS):
        return None
    # A lateral view may fail a rule of pose too: turned back, it must look frontal.
    frontal = not failed & {*_KINDS} or any(max(view_odds(view).values()) <= REFUSE for view in _MENDED_PIXELS[best](pixels))
    return best if frontal else None


def thumbnail(pixels: Array) -> NDArray[np.float64]:
    """The picture's ranks on a 16 x 16 raster, single-valued borders cut off.

    Shapes: [H, W] -> float64 [256] in [-1, 1]. Ranks know order, not exposure: inverting the picture negates them.
    """
    small = _resized(pixels, 128, PillowImage.Resampling.BILINEAR)
    rows, columns = (np.flatnonzero(np.ptp(small, axis=axis) > 0.04) for axis in (1, 0))
    if min(rows.size, columns.size) >= THUMBNAIL_SIDE:
        small = small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    raster = _resized(small, THUMBNAIL_SIDE, PillowImage.Resampling.BOX)
    # Equal values share their mean rank, so that a flat part does not become a ramp.
    _, inverse, counts = np.unique(np.round(raster.ravel(), 3), return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts + 1) / 2
    ranks: NDArray[np.float64] = mean_ranks[inverse] / (raster.size - 1) * 2 - 1
    return ranks


def _resized(pixels: Array, side: int, resample: PillowImage.Resampling) -> Array:
    picture = PillowImage.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(picture.resize((side, side), resample), dtype=np.float32)


def _rows() -> NDArray[np.float64]:
    """The fitted rows: one per pose, then mirrored, then the mean film. Shapes: [8, 256]."""
    whole = np.frombuffer(base64.b85decode("".join(WEIGHTS)), dtype=np.int8)
    rows: NDArray[np.float64] = whole.reshape(len(SCALES), -1) * np.array(SCALES)[:, None]
    return rows


def _pose_shares(ranks: NDArray[np.float64]) -> dict[str, float]:
    logits = _rows()[: len(POSES)] @ ranks + np.array(BIASES)
    shares = np.exp(logits - logits.max())
    return dict(zip(POSES, (shares / shares.sum()).tolist(), strict=True))


def _likeness(ranks: NDArray[np.float64]) -> float:
    """Correlation with the mean film; 0 for a picture of one value."""
    mean_film = _rows()[-1]
    length = float(np.linalg.norm(ranks) * np.linalg.norm(mean_film))
    return float(ranks @ mean_film) / length if length > 0 else 0.0


def _against_upright(poses: Mapping[str, float], *names: str) -> float:
    """The share of the faulty poses where only they and the upright one could be."""
    faulty = sum(poses[name] for name in names)
    return faulty / max(faulty + poses["upright"], 1e-12)


def _sharpness(pixels: Array) -> float:
    """How strong the finest detail is beside the slopes, in the middle of the picture at 112 px; 1 where there are no slopes.

    112 px are the smallest film that the gate lets through: a small film is not taken for a blurred one. Shapes: [H, W].
    """
    height, width = pixels.shape
    scale = SHARPNESS_SIDE / min(height, width)
    raster = PillowImage.fromarray(np.ascontiguousarray(pixels, dtype=np.float32)).resize(
        (max(8, round(width * scale)), max(8, round(height * scale))), PillowImage.Resampling.BOX
    )
    grey = np.asarray(raster, dtype=np.float64)
    rows, columns = (slice(side // 8, side - side // 8) for side in grey.shape)
    grey = grey[rows, columns]
    inner = grey[1:-1, 1:-1]
    detail = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    slopes = (grey[1:-1, 2:] - grey[1:-1, :-2]) ** 2 + (grey[2:, 1:-1] - grey[:-2, 1:-1]) ** 2
    # A picture of one value has neither; contrast is what it fails, and not sharpness.
    return float(np.sqrt(np.mean(detail**2) / np.mean(slopes))) if np.mean(slopes) > 1e-9 else 1.0


def _names_other_part(image: Image) -> bool:
    said = next((note.removeprefix("body part: ") for note in image.notes if note.startswith("body part: ")), "")
    plain = unicodedata.normalize("NFKD", said.upper()).encode("ascii", "ignore").decode()
    words = re.findall("[A-Z]+", plain)
    joined = "".join(words)
    other = bool(_OTHER_WORD_SET & set(words)) or any(part in joined for part in _OTHER_PARTS)
    return other and not any(part in joined for part in _CHEST_PARTS)


def _lung_values(lungs: Mapping[str, Mask] | None, shape: tuple[int, int]) -> dict[str, float | None]:
    if lungs is None:
        return dict.fromkeys(("gate.lung_area", "gate.lung_sides", "gate.lung_edges"))
    left, right = (lungs.get(name, np.zeros(shape, dtype=np.bool_)) for name in ("left_lung", "right_lung"))
    both = left | right
    swapped = None
    if left.any() and right.any():
        # On the picture the patient's left lies on the right.
        swapped = float(np.nonzero(left)[1].mean() < np.nonzero(right)[1].mean())
    edges = (both[0], both[-1], both[:, 0], both[:, -1])
    return {
        "gate.lung_area": float(both.mean()),
        "gate.lung_sides": swapped,
        "gate.lung_edges": max(float(edge.mean()) for edge in edges),
    }


CHEST_GATE = Gate(RULES, _measure, _tell)
