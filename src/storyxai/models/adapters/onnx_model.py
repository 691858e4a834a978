"""Anybody's ONNX graph as a model that can be explained, without torch.

Logits are asked from onnxruntime. Where the graph ends in global average pooling and one linear layer, the derivative of
each logit by the pooled features is that layer's weight over the number of cells, so Grad-CAM needs no autograd; reading
the graph for this takes the package onnx, and without it, or with another head, the model cannot be looked into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Look, WrittenReport
from storyxai.modalities.contract import Modality
from storyxai.models.adapters.answers import Answers, checked_answer
from storyxai.models.adapters.onnx_heads import PooledHead, one_against_others, pooled_head, slopes_against_others, with_output
from storyxai.models.adapters.settings import channel_numbers, checked_findings, checked_modality, checked_size
from storyxai.models.runtime import open_graph
from storyxai.provenance import sha256_file
from storyxai.types import Array

__all__ = ["OnnxModel"]

FEEDS: Final[Mapping[str, type[np.generic]]] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
}
"""What images are given as, by what the graph says that it takes."""
FLOATS: Final = ("tensor(float)", "tensor(float16)", "tensor(double)")
"""What logits can be given as."""


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX file from one input of images to logits [B, F], its first output.

    `findings` names the logits in order. `channels` 0 and `size` None are read from the graph where it states them. `mean`
    and `std` (one number a channel) bring images in [0, 1] to what the graph was trained on. A graph that takes channels last
    is given them so, one that takes bytes 0 to 255. A last Sigmoid or Softmax is left out where the graph can be read: what
    is explained is the logit, of a Softmax the log-odds of one finding against all others. `probabilities` True: the graph
    gives these by another end; None: a graph of such an end whose answers all lie within [0, 1] is not told before somebody
    said which they are. `modality` is the kind of image that it reads, or its key; None: it follows from the findings.
    Raises: WeightsError when the file is no graph; InputError for a graph or settings that do not fit.
    """

    path: Path
    findings: Sequence[str] = ()
    channels: int = 0
    size: int | tuple[int, int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    probabilities: bool | None = None
    modality: Modality | str | None = None
    _answers: Answers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "findings", checked_findings(self.findings))
        stated = self._session.get_inputs()
        if len(stated) != 1 or len(stated[0].shape) != 4:
            raise InputError(str(self.path), "does not take one batch of images", mend="export it with one input [B, C, H, W]")
        if stated[0].type not in FEEDS:
            kinds = ", ".join(kind[len("tensor(") : -1] for kind in FEEDS)
            raise InputError(str(self.path), f"takes {stated[0].type}", mend=f"export it with an input of {kinds}")
        object.__setattr__(self, "channels", self.channels or stated[0].shape[3 if self._channels_last else 1])
        if self.channels not in (1, 3):
            why = f"takes {stated[0].shape}, in which no axis is of 1 or 3 channels"
            raise InputError(str(self.path), why, mend="export it with an input [B, 1 or 3, H, W], or give channels=")
        for what, numbers in (("mean", self.mean), ("std", self.std)):
            object.__setattr__(self, what, channel_numbers(what, numbers, self.channels))
        object.__setattr__(self, "size", checked_size(self.size))
        object.__setattr__(self, "modality", checked_modality(self.modality))
        self._refuse_output()
        object.__setattr__(self, "_answers", self._listening())

    def _refuse_output(self) -> None:
        """Raises InputError where the graph's first output holds no logits, whatever its numbers."""
        first, *others = self._session.get_outputs()
        if first.type not in FLOATS:
            why = f"gives {first.type} as its first output '{first.name}', which are no logits"
            beside = f" (it has '{others[0].name}' too)" if others else ""
            mend = f"export it with its logits [B, F] first{beside}, and without a ZipMap or an ArgMax behind them"
            raise InputError(str(self.path), why, mend=mend)

    def _listening(self) -> Answers:
        """How the graph is asked: for the logits before a last Sigmoid or Softmax, where that is seen."""
        head = self._head
        name = self._session.get_outputs()[0].name if head is None else head.logits
        sure = head is not None and head.sure
        return Answers(
            lambda images: self._run([name], images)[0], self.findings, None if sure else self.probabilities, surely_logits=sure
        )

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width that the graph takes, None for any."""
        if self.size is not None:
            return (self.size, self.size) if isinstance(self.size, int) else self.size
        shape = self._input.shape
        height, width = shape[1:3] if self._channels_last else shape[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def model_id(self) -> str:
        """The file's name and the start of its SHA-256."""
        return f"{self.path.name} {sha256_file(self.path)[:12]}"

    def logits(self, images: Array) -> Array:
        """The logits [B, F]. Raises: InputError where the graph does not answer with one finite number per finding."""
        answer = self._answers.logits(images)
        return one_against_others(answer) if self._head is not None and self._head.softmax else answer

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        """Features before the pooling and the gradients of the logits in `columns` (None: all); None for another head.

        Shapes: image [C, H, W].
        """
        head = self._head
        if head is None or head.features is None or head.weights is None:
            return None
        logits, features = self._run([head.logits, head.features], image[None])
        answer = checked_answer(logits, images=1, findings=self.findings)
        maps = np.asarray(features[0], dtype=np.float32)
        weights = head.weights
        if head.softmax:
            weights = slopes_against_others(answer[0]) @ weights
            answer = one_against_others(answer)
        weights = weights if columns is None else weights[list(columns)]
        if maps.ndim != 3 or len(maps) != weights.shape[1]:
            return None
        slopes = (weights / (maps.shape[1] * maps.shape[2])).astype(np.float32)
        gradients = np.broadcast_to(slopes[:, :, None, None], (*slopes.shape, *maps.shape[1:]))
        return Look(answer[0], maps, np.ascontiguousarray(gradients), layer=head.features)

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> None:
        """None: onnxruntime runs forwards only."""

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """None: it draws nothing."""
        return None

    def report(self, image: Array) -> WrittenReport | None:
        """None: it writes nothing."""
        return None

    def _run(self, names: list[str], images: Array) -> list[Any]:
        """The outputs called `names`. A graph exported for a fixed batch is asked in batches of it, the last one filled up."""
        session, stated, feed = self._opened, self._input, self._prepared(images)
        batch = stated.shape[0] if isinstance(stated.shape[0], int) and stated.shape[0] > 0 else len(feed)
        filled = np.concatenate([feed, *[feed[-1:]] * (-len(feed) % batch)])
        try:
            parts = [session.run(names, {stated.name: one}) for one in np.split(filled, len(filled) // batch)]
        except Exception as error:  # onnxruntime raises its own types, which it does not export
            reason = str(error).splitlines()[0]
            raise InputError(str(self.path), f"cannot run on {feed.shape} ({reason})", mend="give it its own size") from error
        return [np.concatenate(said)[: len(feed)] for said in zip(*parts, strict=True)]

    def _prepared(self, images: Array) -> Array:
        if images.ndim != 4 or images.shape[1] != self.channels or len(images) == 0:
            raise InputError("images", f"have shape {images.shape}", mend=f"give float32 [B, {self.channels}, H, W] in [0, 1]")
        out = np.ascontiguousarray(images, dtype=np.float32)
        if self.mean is not None:
            out = out - np.asarray(self.mean, dtype=np.float32)[:, None, None]
        if self.std is not None:
            out = out / np.asarray(self.std, dtype=np.float32)[:, None, None]
        kind = FEEDS[self._input.type]
        if kind == np.uint8:
            out = np.rint(np.clip(out, 0, 1) * 255)
        return np.ascontiguousarray(out.transpose(0, 2, 3, 1) if self._channels_last else out, dtype=kind)

    @property
    def _input(self) -> Any:
        """What the graph says of its one input: name, type and shape."""
        return self._session.get_inputs()[0]

    @property
    def _channels_last(self) -> bool:
        """Whether images go in as [B, H, W, C], as graphs of TensorFlow and Keras take them."""
        shape = self._input.shape
        return shape[1] not in (1, 3) and shape[3] in (1, 3)

    @cached_property
    def _session(self) -> Any:
        return open_graph(self.path)

    @cached_property
    def _head(self) -> PooledHead | None:
        return pooled_head(self.path)

    @cached_property
    def _opened(self) -> Any:
        """The session that also gives the features and the logits before a last Sigmoid or Softmax."""
        head = self._head
        if head is None:
            return self._session
        known = {output.name for output in self._session.get_outputs()}
        missing = [name for name in (head.logits, head.features) if name is not None and name not in known]
        return open_graph(with_output(self.path, missing)) if missing else self._session
