"""What explanation asks of a model, and what a method of explanation gives: the two contracts of this room.

A model is anything that turns images into one logit per finding. What it cannot do is None, and stories leave it out.
`storyxai.testing` holds any model and any method, yours too, to these contracts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from storyxai.types import Array, Value

__all__ = ["Budget", "ExplainedModel", "Explanation", "Look", "Method", "WrittenReport"]


class Look(NamedTuple):
    """The inside of a model on one image.

    Shapes: logits [F]; features [K, h, w] of the layer that maps are drawn on; gradients [F, K, h, w], the derivative of
    each logit by these features, None where the model cannot give them.
    """

    logits: Array
    features: Array
    gradients: Array | None


class WrittenReport(NamedTuple):
    """A report that a model wrote, one sentence an entry, and the mean log-probability of a word."""

    sentences: tuple[str, ...]
    confidence: float


@runtime_checkable
class ExplainedModel(Protocol):
    """A model that can be explained.

    Shapes: images float32 [B, C, H, W] in [0, 1], bright = dense for radiographs; C is `channels` (1 or 3) and H, W are
    `input_size`, or any size where `input_size` is None.
    Promises: the same call gives the same numbers; neither images nor model are changed, hooks are gone afterwards.
    """

    @property
    def findings(self) -> tuple[str, ...]:
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

    def look(self, image: Array) -> Look | None:
        """The inside on one image [C, H, W]; None where the model cannot be looked into."""
        ...

    def input_gradients(self, images: Array) -> Array | None:
        """The derivative of each logit by the pixels, [B, F, C, H, W]; None where the model cannot give it."""
        ...

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """Probability [h, w] of each structure that the model draws; None where it draws none."""
        ...

    def report(self, image: Array) -> WrittenReport | None:
        """The report that the model writes; None where it writes none."""
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
    that the values were painted on, None for methods without.
    """

    finding: str
    method: str
    values: Array
    unit: str
    details: Mapping[str, Value] = field(default_factory=dict)
    segments: Array | None = None


@runtime_checkable
class Method(Protocol):
    """A method of explanation, one entry of the registry.

    `key` names it in records and options, `name` is what the field calls it, `checks` the checks that its maps must face,
    `needs` what the model must give: any of "features", "gradients" (of the features), "input_gradients".
    """

    key: str
    name: str
    needs: frozenset[str]
    checks: tuple[str, ...]

    def explain(
        self, model: ExplainedModel, image: Array, findings: Sequence[str], budget: Budget
    ) -> tuple[Explanation, ...]:
        """One explanation per asked finding, in order.

        Shapes: image [C, H, W]. Raises: InputError for a bad image, UnknownNameError for a finding that the model lacks,
        UnsupportedMethodError where the model cannot give what the method needs.
        """
        ...
