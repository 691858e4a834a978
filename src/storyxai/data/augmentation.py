"""How far the views of an image may lie from it, as a recipe says it: the augmentation of training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ViewSettings:
    """How far views may lie from the image: what is drawn for each image and view, evenly between the limits.

    `turn` in degrees to either side; `zoom` of both axes and `stretch` of each; `shift` to either side and `offset` of
    brightness, as shares of half the width and of white; `gain` of contrast; `gamma` the standard deviation of the logarithm
    of the exponent; `grain` the largest standard deviation of noise. `mirror` and `blur` are chances: a mirrored image
    takes boxes and structures along, the masks in `mirror_order`, and loses its report, whose words name sides; a blurred
    one is averaged down to between `blur_sides` (shares of the side) and drawn up again, as a coarser image would be.
    Images of the sets in `never_mirrored` are not. `blend` is the chance that a batch's images are each laid over another's
    (`training/blend.py`), `plain` the chance that a batch is shown as it is; views know nothing of these two.
    """

    turn: float = 8.0
    zoom: tuple[float, float] = (0.86, 1.14)
    stretch: tuple[float, float] = (0.95, 1.05)
    shift: float = 0.10
    gamma: float = 0.25
    gain: tuple[float, float] = (0.85, 1.15)
    offset: float = 0.08
    grain: float = 0.02
    mirror: float = 0.0
    mirror_order: tuple[int, ...] = (1, 0, 2)
    blur: float = 0.0
    blur_sides: tuple[float, float] = (0.44, 0.88)
    blend: float = 0.0
    never_mirrored: tuple[str, ...] = ()
    plain: float = 0.0


DEFAULT_VIEWS = ViewSettings()
