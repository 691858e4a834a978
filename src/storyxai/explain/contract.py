"""What explanation asks of a model, and what a method of explanation gives: the two contracts of this room.

A model is anything that turns images into one logit per finding. What it cannot do is None, and stories leave it out.
`storyxai.testing` holds any model and any method, yours too, to these contracts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from storyxai.types import Array, Mask, Value

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "BLANK_SCENE", "DEFAULT_BUDGET", "AttendingModel", "Attention", "Budget", "ExplainedModel", "Explanation", "Look", "Method",
    "Scene", "TorchBacked", "WrittenReport", "explanations",
]


class Look(NamedTuple):
    """The inside of a model on one image.

    Shapes: logits [F]; features [K, h, w] of the layer that maps are drawn on; gradients [T, K, h, w], the derivative of
    each of the T logits asked for by these features, None where the model cannot give them; cells [F, h, w], the logit of
    each cell, None but for a model whose head judges cells. `layer` names the layer.
    """

    logits: Array
    features: Array
    gradients: Array | None
    cells: Array | None = None
    layer: str = ""


class Attention(NamedTuple):
    """What a transformer attends to on one image.

    Shapes: weights [L, heads, T, T] of L blocks, rows sum to one; the last h * w of the T tokens are the `grid` (h, w).
    """

    weights: Array
    grid: tuple[int, int]


class WrittenReport(NamedTuple):
    """A report that a model wrote, one sentence an entry, and the mean log-probability of a word."""

    sentences: tuple[str, ...]
    confidence: float


@runtime_checkable
class ExplainedModel(Protocol):
    """A model that can be explained.

    Shapes: images float32 [B, C, H, W] in [0, 1], bright = dense for projections; C is `channels` (1 or 3) and H, W are
    `input_size`, or any size where `input_size` is None.
    Promises: the same call gives the same numbers; neither images nor model are changed, hooks are gone afterwards.
    """

    @property
    def findings(self) -> Sequence[str]:
        """The names of the F logits, in order."""
        ...

    @property
    def channels(self) -> int:
        """Channels of an image: 1 or 3."""
        ...

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width of an image that the model takes; None for any."""
        ...

    @property
    def model_id(self) -> str:
        """A name that changes when the weights do."""
        ...

    def logits(self, images: Array) -> Array:
        """The logits [B, F]."""
        ...

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        """The inside on one image [C, H, W], gradients of the logits in `columns` (None: all); None where it is closed."""
        ...

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array | None:
        """The derivative of the logits in `columns` (None: all) by the pixels, [B, T, C, H, W]; None where it has none."""
        ...

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """Probability [h, w] of each structure that the model draws; None where it draws none."""
        ...

    def report(self, image: Array) -> WrittenReport | None:
        """The report that the model writes; None where it writes none."""
        ...


@runtime_checkable
class AttendingModel(Protocol):
    """A model that may also tell what its tokens attend to."""

    def attention(self, image: Array) -> Attention | None:
        """The attention on one image [C, H, W]; None where there is none."""
        ...


@runtime_checkable
class TorchBacked(Protocol):
    """A model behind which a torch network stands, for methods that need the network itself."""

    def network(self) -> nn.Module:
        """A copy of the network from images [B, C, H, W] in [0, 1] to logits [B, F], in evaluation mode."""
        ...


@dataclass(frozen=True)
class Budget:
    """What an explanation may cost: forward passes, seconds (None: no limit), images a batch; and its seed.

    `samples` None lets a method that samples stop by itself when its result is stable.
    """

    samples: int | None = 1000
    seconds: float | None = None
    batch: int = 64
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Explanation:
    """One map of one finding, signed and raw.

    Shapes: `values` float32 [h, w] on the model's input frame, as coarse as the method is (a grid of cells is not enlarged).
    Units: `unit` says what one unit is. `details` holds the method's own figures; `segments` int32 [H, W] the superpixels
    that the values were painted on and `intervals` [S, 2] the 95 % interval of each superpixel's value, None for methods
    without.
    """

    finding: str
    method: str
    values: Array
    unit: str
    details: Mapping[str, Value] = field(default_factory=dict)
    segments: NDArray[np.int32] | None = None
    intervals: Array | None = None


@dataclass(frozen=True, eq=False)
class SmallSign:
    """A finding whose sign is small: `extent` is how wide it is at most, as a share of the image's longer side.

    Shapes: `region` bool [H, W] is where it may lie, None for the whole image.
    """

    extent: float
    region: Mask | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known of one image beside its pixels.

    Shapes: `filling` float32 [C, H, W], what stands where a perturbation hides something, None for a blur; `structures`
    int32 [H, W] labels that no superpixel may cross, None where nothing is drawn. `filling_words` says what the filling is.
    `small` are the findings of which it is known that their sign is small.
    """

    filling: Array | None = None
    filling_words: str = ""
    structures: NDArray[np.int32] | None = None
    small: Mapping[str, SmallSign] = field(default_factory=dict)


DEFAULT_BUDGET = Budget()
BLANK_SCENE = Scene()


def explanations(
    method: str, findings: Sequence[str], maps: Iterable[NDArray[np.floating[Any]]], unit: str, details: Mapping[str, Value]
) -> tuple[Explanation, ...]:
    """One method's maps of the findings, in the same order, as explanations that share unit and details."""
    return tuple(
        Explanation(finding, method, np.asarray(values, dtype=np.float32), unit, details)
        for finding, values in zip(findings, maps, strict=True)
    )


@runtime_checkable
class Method(Protocol):
    """A method of explanation, one entry of the registry.

    `key` names it in records and options, `name` is what the field calls it, `checks` the checks that its maps must face,
    `needs` what the model must give: any of "features", "gradients" (of the features), "cells", "input_gradients",
    "attention", "network"; empty for a method that only asks for logits.
    Promises: the same call gives the same bytes unless `budget.seconds` ended it; image and model are not changed; no
    finding's map depends on which others were asked for.
    """

    @property
    def key(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    @property
    def checks(self) -> tuple[str, ...]: ...

    def explain(
        self,
        model: ExplainedModel,
        image: Array,
        findings: Sequence[str],
        budget: Budget = DEFAULT_BUDGET,
        scene: Scene = BLANK_SCENE,
    ) -> tuple[Explanation, ...]:
        """One explanation per asked finding, in order.

        Shapes: image [C, H, W]. Raises: InputError for a bad image, UnknownNameError for a finding that the model lacks,
        UnsupportedMethodError where the model cannot give what the method needs.
        """
        ...
