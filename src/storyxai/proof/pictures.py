"""Whether the pictures on a page are those of the evidence: their pixels are read back and held against the arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from storyxai.proof.lexicon import Lexicon
from storyxai.proof.page import Page
from storyxai.proof.surroundings import map_of
from storyxai.types import Evidence

Pixels = NDArray[np.float64]
FILM: Final = "film"
SIDE: Final = 48
"""Pictures are compared at this size: what differs there is another picture, not another way of scaling."""
FILM_APART: Final = 0.02
"""Mean difference of grey levels, on a scale of 1, that scaling may leave."""
MAP_ALIKE: Final = 0.97
"""Correlation of a drawn map with the one on record, at least."""
MOST_PIXELS: Final = 64_000_000

_FILMS: WeakKeyDictionary[Evidence, dict[bytes, tuple[str, ...]]] = WeakKeyDictionary()
_MAPS: WeakKeyDictionary[Evidence, dict[tuple[str, str, bytes], bool]] = WeakKeyDictionary()
"""What was found of the pictures of a study: its pages hold the same ones."""


def picture_problems(page: Page, evidence: Evidence, lexicon: Lexicon) -> Iterator[str]:
    """What is wrong with the page's film and maps, one line each."""
    film = page.images.get(FILM)
    if film is not None:
        films = _FILMS.setdefault(evidence, {})
        if film not in films:
            films[film] = tuple(_film_problems(film, evidence))
        yield from films[film]
    alike = _MAPS.setdefault(evidence, {})
    maps = {(heatmap.finding, heatmap.method): heatmap.values for heatmap in evidence.heatmaps}
    seen: set[tuple[str, str, str]] = set()
    for tile in page.tiles:
        if tile.layers and tile.layers[0] != FILM:
            yield "lays a map over another picture than the film"
        of = map_of(tile, lexicon)
        for layer in (one for one in tile.layers if one.startswith("m")):
            if of is None or of not in maps or (layer, *of) in seen:
                continue
            seen.add((layer, *of))
            drawn = page.images.get(layer, b"")
            if (*of, drawn) not in alike:
                alike[*of, drawn] = _is_map(drawn, np.asarray(maps[of], dtype=np.float64))
            if not alike[*of, drawn]:
                yield f"shows another picture as the {of[1]} map of {of[0]} than the map on record"


def _film_problems(film: bytes, evidence: Evidence) -> Iterator[str]:
    drawn = _opened(film)
    if drawn is None:
        yield "holds a film that cannot be read"
        return
    pixels = np.asarray(evidence.image.pixels, dtype=np.float64)
    if abs(drawn.width * pixels.shape[0] - drawn.height * pixels.shape[1]) > max(drawn.size) * max(pixels.shape[:2]) * 0.01:
        yield "shows a film of other proportions than the one on record"
    shown = np.asarray(drawn.convert("L" if pixels.ndim == 2 else "RGB"), dtype=np.float64) / 255
    planes = zip(np.atleast_3d(shown).T, np.atleast_3d(np.clip(pixels, 0, 1)).T, strict=True)  # one, or one a colour
    if np.mean([np.abs(_small(one.T) - _small(other.T)).mean() for one, other in planes]) > FILM_APART:
        yield "shows another film than the one on record"


def _is_map(layer: bytes, values: Pixels) -> bool:
    """Whether the layer hides the image as strongly as the map is strong, and in the colours of its sign."""
    drawn = _opened(layer)
    if drawn is None:
        return False
    coloured = np.asarray(drawn.convert("RGBA"), dtype=np.float64)
    peak = np.abs(values).max()
    if peak == 0:
        return bool(coloured[..., 3].max() == 0)
    # The cover grows as the root of the map; what lowered the score in a signed map is blue.
    strength = coloured[..., 3] ** 2
    if values.min() < 0:
        strength = strength * np.sign(coloured[..., 0] - coloured[..., 2])
    return _correlation(_small(strength), _small(values)) >= MAP_ALIKE


def _correlation(a: Pixels, b: Pixels) -> float:
    if a.std() == 0 or b.std() == 0:
        return 1.0 if a.std() == b.std() else 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def _small(values: Pixels) -> Pixels:
    picture = Picture.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((SIDE, SIDE), Picture.Resampling.BOX), dtype=np.float64)


def _opened(data: bytes) -> Picture.Image | None:
    try:
        with Picture.open(io.BytesIO(data)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return None
            picture.load()
            return picture.copy()
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError):
        return None
