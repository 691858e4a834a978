"""The display shutter: what a DICOM file covers around the picture. Source: PS3.3 C.7.6.11, C.7.6.15."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from storyxai.imaging.notes import note
from storyxai.imaging.tags import numbers, pixel_aspect, text, whole
from storyxai.types import Mask

_EDGES = ("ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge")
# A shutter that leaves less of the picture open (a radius of 0) is no field that anybody exposed.
_LEAST_OPEN = 0.01
_OVERLAYS = range(0x6000, 0x6020, 2)


def covered(header: Any, shape: tuple[int, int]) -> tuple[Mask | None, list[str]]:
    """Which pixels the file's shutters cover, None where it has none, and a note.

    Shapes: bool [rows, columns]. Rows and columns count from 1 in the file, and the edges themselves stay visible. A shutter
    that would cover all or nearly all, or whose form is not told, is left aside.
    """
    forms = [form for form in text(header, "ShutterShape").split("\\") if form]
    if not forms:
        return None, []
    hidden = np.zeros(shape, dtype=np.bool_)
    for form in forms:
        mask = _covered_by(form, header, shape)
        if mask is None:
            return None, [note("note_shutter_form", form=form[:16].lower())]
        hidden |= mask
    if 1.0 - hidden.mean() < _LEAST_OPEN:
        return None, [note("note_shutter_whole")]
    return hidden, [note("note_shutter", forms=", ".join(form.lower() for form in forms), share=float(hidden.mean()))]


def covered_grey(header: Any) -> float:
    """The grey value in [0, 1] that covered pixels have: the shutter's presentation value, or the lightness of its colour."""
    value = whole(header, "ShutterPresentationValue")
    if value is None:
        lightness = numbers(header, "ShutterPresentationColorCIELabValue")
        value = int(lightness[0]) if lightness else 0
    return min(max(value, 0), 65535) / 65535


def overlay_groups(header: Any) -> list[int]:
    """The groups that hold an overlay."""
    return [group for group in _OVERLAYS if (group, 0x3000) in header or (group, 0x0100) in header]


def _covered_by(form: str, header: Any, shape: tuple[int, int]) -> Mask | None:
    if form == "RECTANGULAR":
        return _outside_rectangle(header, shape)
    if form == "CIRCULAR":
        return _outside_circle(header, shape)
    if form == "POLYGONAL":
        return _outside_polygon(header, shape)
    return _under_bitmap(header, shape) if form == "BITMAP" else None


def _outside_rectangle(header: Any, shape: tuple[int, int]) -> Mask | None:
    edges = [whole(header, name) for name in _EDGES]
    if any(edge is None for edge in edges):
        return None
    left, right, upper, lower = (int(edge or 0) for edge in edges)
    hidden = np.ones(shape, dtype=np.bool_)
    hidden[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = False
    return hidden


def _outside_circle(header: Any, shape: tuple[int, int]) -> Mask | None:
    center, radius = numbers(header, "CenterOfCircularShutter"), whole(header, "RadiusOfCircularShutter")
    if len(center) != 2 or radius is None:
        return None
    # The radius counts columns: on pixels that are not square it spans another number of rows.
    down = (np.arange(1, shape[0] + 1) - center[0]) * pixel_aspect(header)
    across = np.arange(1, shape[1] + 1) - center[1]
    return np.asarray(down[:, None] ** 2 + across**2 > radius**2)


def _outside_polygon(header: Any, shape: tuple[int, int]) -> Mask | None:
    corners = numbers(header, "VerticesOfThePolygonalShutter")
    if len(corners) < 6 or len(corners) % 2:
        return None
    canvas = PillowImage.new("1", (shape[1], shape[0]), 1)
    points = [(column - 1, row - 1) for row, column in zip(corners[::2], corners[1::2], strict=True)]
    ImageDraw.Draw(canvas).polygon(points, fill=0, outline=0)
    return np.array(canvas, dtype=np.bool_)


def _under_bitmap(header: Any, shape: tuple[int, int]) -> Mask | None:
    group = whole(header, "ShutterOverlayGroup")
    if group is None or (group, 0x3000) not in header:
        return None
    if len(header[group, 0x3000].value) > shape[0] * shape[1]:  # eight pixels in a byte: far more than the picture has
        return None
    drawn = np.asarray(header.overlay_array(group), dtype=np.bool_)
    if drawn.ndim != 2:
        return None
    top, left = (int(corner) - 1 for corner in header.get((group, 0x0050)).value) if (group, 0x0050) in header else (0, 0)
    hidden = np.zeros(shape, dtype=np.bool_)
    rows, columns = max(top, 0), max(left, 0)
    part = drawn[rows - top :, columns - left :][: max(shape[0] - rows, 0), : max(shape[1] - columns, 0)]
    hidden[rows : rows + part.shape[0], columns : columns + part.shape[1]] = part
    return hidden
