"""A student at work, without torch: ONNX graphs under onnxruntime, weights of the finding head as arrays.

A student is an `ExplainedModel`: methods of explanation ask it as they ask any other model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError, WeightsError
from storyxai.explain.cam import grid_head_gradients
from storyxai.explain.contract import Look, WrittenReport
from storyxai.imaging.distance import DISTANCE_NAME, GateDistance, read_distance
from storyxai.modalities.chest_radiograph.grammar import detokenize
from storyxai.models.card import ModelCard, read_card
from storyxai.models.tokens import END, PAD, START, UNKNOWN, decode_tokens
from storyxai.types import Array

__all__ = ["GRAPHS", "SHIPPED", "Answer", "Student", "load_student", "open_graph"]

GRAPHS: Mapping[str, str] = {"look": "look.onnx", "findings": "findings.onnx", "words": "words.onnx"}
SHIPPED = Path(__file__).parent / "shipped"
"""The folder of the student that comes with the package."""
FIRST_STRUCTURES = ("left_lung", "right_lung", "heart")
"""What the masks of a student draw whose card, of an older version, does not say so."""
LAYER = "fused features at stride 16"


class Answer(NamedTuple):
    """What the student says about one image.

    Shapes: features [K, h, w]; grid [F, h, w] logits per cell; logits [F]; masks [R, 4h, 4w] probabilities of R structures;
    memory [1, M, D] for the words of the report. Empty where the student has no such head.
    """

    features: Array
    grid: Array
    logits: Array
    masks: Array
    memory: Array


def open_graph(graph: Path | bytes) -> Any:
    """An onnxruntime session of a file, or of a graph's bytes, on the CPU. Raises: WeightsError when it is no graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    given = graph if isinstance(graph, bytes) else str(graph)
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, which it does not export
        why = "is not a graph that onnxruntime can open"
        what = "graph" if isinstance(graph, bytes) else str(graph)
        raise WeightsError(what, why, mend="copy the model again") from error


@dataclass(frozen=True, eq=False)
class Student:
    """A loaded student. `size` is the side of its square input in pixels."""

    folder: Path
    card: ModelCard

    @property
    def size(self) -> int:
        return int(self.card.spec["size"])

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(self.card.spec["findings"])

    @property
    def channels(self) -> int:
        return int(self.card.spec.get("channels", 1))

    @property
    def input_size(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def model_id(self) -> str:
        return self.card.model_id

    def logits(self, images: Array) -> Array:
        """The logits [B, F] of images [B, C, S, S] in [0, 1]."""
        return self._session("findings").run(None, self._feed(images))[0]  # type: ignore[no-any-return]

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
        """Features, gradients of the logits in `columns` (None: all) in closed form and the evidence grid.

        Shapes: image [C, S, S].
        """
        answer = self.answer(image)
        head = dict(self.head)
        if columns is not None:
            head |= {name: head[name][list(columns)] for name in ("out_weight", "out_bias", "sharpness")}
        _, gradients = grid_head_gradients(answer.features, **head)
        return Look(answer.logits, answer.features, gradients, answer.grid, LAYER)

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> None:
        """None: the graphs of a student run forwards only."""

    def structures(self, image: Array) -> dict[str, Array] | None:
        """The probability [4h, 4w] of each structure in an image [C, S, S]; None for a student that draws none."""
        masks = self.answer(image).masks
        names = self.card.spec.get("structures", FIRST_STRUCTURES)
        return dict(zip(names, masks, strict=True)) if len(masks) else None

    def report(self, image: Array) -> WrittenReport | None:
        """The report of an image [C, S, S]; None for a student that writes none."""
        memory = self.answer(image).memory
        if not memory.size:
            return None
        words, confidence = self.write_report(memory)
        return WrittenReport(tuple(detokenize(words)), confidence)

    def answer(self, image: Array) -> Answer:
        """Everything about one image [C, S, S], or [S, S] of one channel, in [0, 1], from one pass."""
        said = self.answer_all((image[None] if image.ndim == 2 else image)[None])
        return Answer(said[0][0], said[1][0], said[2][0], said[3][0], said[4])

    def answer_all(self, images: Array) -> list[Array]:
        """features, grid, logits, masks, memory of images [B, C, S, S], batch first; empty what the student has no head for."""
        session = self._session("look")
        said = dict(zip((out.name for out in session.get_outputs()), session.run(None, self._feed(images)), strict=True))
        height, width = said["grid"].shape[2:]
        said.setdefault("masks", np.zeros((len(images), 0, 4 * height, 4 * width), dtype=np.float32))
        said.setdefault("memory", np.zeros((len(images), 0, 0), dtype=np.float32))
        return [said[name] for name in ("features", "grid", "logits", "masks", "memory")]

    def _feed(self, images: Array) -> dict[str, Array]:
        if images.ndim != 4 or images.shape[1:] != (self.channels, self.size, self.size):
            why, wanted = f"have shape {images.shape}", f"[B, {self.channels}, {self.size}, {self.size}]"
            raise InputError("images", why, mend=f"give float32 {wanted} in [0, 1]")
        return {"images": np.ascontiguousarray(images, np.float32)}

    def write_report(self, memory: Array) -> tuple[list[str], float]:
        """The words of the report and the mean log-probability per word, by greedy choice (ties: the lower number)."""
        words, vocabulary = [START], self.card.spec["vocabulary"]
        limit, total = int(self.card.spec["max_tokens"]) - 1, 0.0
        while len(words) < limit:
            feed = {"words": np.array([words], np.int64), "memory": np.ascontiguousarray(memory, np.float32)}
            scores = self._session("words").run(None, feed)[0][0, -1].copy()
            scores[[PAD, START, UNKNOWN]] = -np.inf
            best = int(np.argmax(scores))
            total += float(scores[best])
            words.append(best)
            if best == END:
                break
        return decode_tokens(words[1:], vocabulary), total / max(1, len(words) - 1)

    @cached_property
    def distance(self) -> GateDistance | None:
        """How far a picture lies from the films it knows; None where the card vouches for no such file."""
        return read_distance(self.folder) if DISTANCE_NAME in self.card.files else None

    @cached_property
    def head(self) -> dict[str, NDArray[np.float32]]:
        """The finding head: hidden_weight [J, K], hidden_bias [J], out_weight [F, J], out_bias [F], sharpness [F]."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / "student.safetensors"
        try:
            with safe_open(path, framework="numpy") as opened:
                get = opened.get_tensor
                return {
                    "hidden_weight": get("finding_head.hidden.weight")[:, :, 0, 0],
                    "hidden_bias": get("finding_head.hidden.bias"),
                    "out_weight": get("finding_head.out.weight")[:, :, 0, 0],
                    "out_bias": get("finding_head.out.bias"),
                    "sharpness": np.exp(np.clip(get("finding_head.log_sharpness"), -3.0, 2.5)),
                }
        except (OSError, SafetensorError) as error:
            raise WeightsError(str(path), "lacks the finding head", mend="copy the model folder again") from error

    @cached_property
    def _sessions(self) -> dict[str, Any]:
        return {}

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            self._sessions[name] = open_graph(self.folder / GRAPHS[name])
        return self._sessions[name]


def load_student(folder: Path | None = None) -> Student:
    """The student in `folder`, or the one that comes with the package, its files' hashes checked.

    Raises: WeightsError when a file is missing or altered.
    """
    chosen = SHIPPED if folder is None else folder
    return Student(chosen, read_card(chosen))
