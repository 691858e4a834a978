"""A student at work, without torch: ONNX graphs under onnxruntime, weights of the finding head as arrays.

A student is an `ExplainedModel`: methods of explanation ask it as they ask any other model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from storyxai.errors import InputError, WeightsError
from storyxai.explain.cam import cell_shares, grid_head_gradients
from storyxai.explain.contract import Look, WrittenReport
from storyxai.imaging.distance import DISTANCE_NAME, GateDistance, read_distance
from storyxai.modalities.contract import Modality
from storyxai.modalities.registry import DEFAULT_MODALITY, modality_of
from storyxai.models.card import CARD_NAME, ModelCard, read_card
from storyxai.models.tokens import END, PAD, START, UNKNOWN, decode_tokens
from storyxai.types import Array

__all__ = ["GRAPHS", "HEADS", "SHIPPED", "Answer", "Student", "load_student", "open_graph", "shipped_students"]

GRAPHS: Mapping[str, str] = {"look": "look.onnx", "findings": "findings.onnx", "words": "words.onnx"}
SHIPPED = Path(__file__).parent / "shipped"
"""The folder of the student that comes with the package; one of another modality lies beside it, "shipped_<key>"."""
TASKS = ("findings", "masks", "report")
HEADS: Mapping[str, str] = {"masks": "masks", "report": "memory"}
"""What the graph "look" gives of a task beside the findings."""
LAYER = "fused features at stride 16"


class Answer(NamedTuple):
    """What the student says about one image.

    Shapes: features [K, h, w]; grid [F, h, w] logits per cell; logits [F]; masks [M, 4h, 4w] probabilities of the M
    structures and memory [1, T, D], each None where it was not taught to draw or to write.
    """

    features: Array
    grid: Array
    logits: Array
    masks: Array | None
    memory: Array | None


class _Session(Protocol):
    """What is asked of onnxruntime's session."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, object]) -> list[NDArray[Any]]:
        """What the graph gives for these inputs; of the named outputs, or of all."""
        ...


def open_graph(graph: Path | bytes, *, threads: int | None = None) -> Any:
    """An onnxruntime session of a file, or of a graph's bytes, on the CPU. Raises: WeightsError when it is no graph.

    With `threads` it runs in so many: for one process among several that share the cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    # A thread that waits would turn at full speed: on a machine that others use too it takes the time of the one waited for.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    given = graph if isinstance(graph, bytes) else str(graph)
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, which it does not export
        what = "graph" if isinstance(graph, bytes) else str(graph)
        why, mend = _why_closed(graph, error)
        raise WeightsError(what, why, mend=mend) from error


def _why_closed(graph: Path | bytes, error: Exception) -> tuple[str, str]:
    """Why onnxruntime did not open a graph, and what to do about it."""
    again = "copy the model again"
    if isinstance(graph, Path) and graph.is_dir():
        return "is a folder", "name the ONNX file in it"
    if isinstance(graph, Path) and not graph.exists():
        return "no such file", "check the spelling of the path"
    if isinstance(graph, Path) and graph.stat().st_size == 0:
        return "is empty", again
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(word in said.lower() for word in ("bad_alloc", "allocate", "out of memory")):
        return "cannot be opened: there is too little memory", "close other programs or raise the limit (ulimit -v)"
    if "external data" in said.lower() or "model_path must not be empty" in said:
        return "keeps its weights in another file, which is not there", "copy that file beside it"
    if "pset" in said or "IR version" in said or "is not a registered function/op" in said:
        why = "asks for operators or a version that this onnxruntime does not know"
        return why, "export it with an older opset, and without operators of its own"
    if "NOT_IMPLEMENTED" in said or "ould not find an implementation" in said:
        return "asks for a type of numbers in which onnxruntime cannot run it", "export it in float32"
    return "is not a graph that onnxruntime can open", again


@dataclass(frozen=True, eq=False)
class Student:
    """A loaded student. `size` is the side of its square input in pixels; `threads` are those it runs in (None: all cores')."""

    folder: Path
    card: ModelCard
    threads: int | None = None

    @property
    def size(self) -> int:
        return int(self._spec["size"])

    @property
    def findings(self) -> tuple[str, ...]:
        return tuple(self._spec["findings"])

    @property
    def _spec(self) -> Any:
        """The network's specification as its card states it: plain JSON values."""
        return self.card.spec

    @cached_property
    def modality(self) -> Modality:
        """The kind of image that it reads, by its card. Raises: UnknownNameError where that is known nowhere."""
        return modality_of(self.card.modality, beside=self.folder)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it was taught: "findings" and, where it draws or writes, "masks" and "report"."""
        return tuple(self._spec.get("tasks", TASKS))

    @property
    def structure_names(self) -> tuple[str, ...]:
        """What its masks draw, in order; empty where it draws none."""
        if "masks" not in self.tasks:
            return ()
        return tuple(self._spec.get("structures") or self.modality.structure_names)

    @property
    def channels(self) -> int:
        return int(self._spec.get("channels", 1))

    @property
    def input_size(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def model_id(self) -> str:
        return self.card.model_id

    def logits(self, images: Array) -> Array:
        """The logits [B, F] of images [B, C, S, S] in [0, 1]."""
        return self._session("findings").run(None, self._feed(images))[0]

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look:
        """Features, gradients of the logits in `columns` (None: all) in closed form and the evidence grid.

        Shapes: image [C, S, S].
        """
        answer = self.answer(image)
        head = dict(self.head)
        if columns is not None:
            head |= {name: head[name][list(columns)] for name in ("out_weight", "out_bias", "sharpness")}
        _, gradients = grid_head_gradients(answer.features, **head, shares=self._shares(answer))
        return Look(answer.logits, answer.features, gradients, answer.grid, LAYER)

    def _shares(self, answer: Answer) -> Array | None:
        """What each cell counts in the findings, where they are pooled within a structure."""
        within = self._spec.get("within", "")
        if not within or answer.masks is None:
            return None
        inside, (height, width) = answer.masks[self.structure_names.index(within)], answer.grid.shape[1:]
        return cell_shares(inside, height=height, width=width)

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> None:
        """None: the graphs of a student run forwards only."""

    def structures(self, image: Array) -> dict[str, Array] | None:
        """The probability [4h, 4w] of each structure in an image [C, S, S]; None where it draws none."""
        masks = self.answer(image).masks
        return None if masks is None else dict(zip(self.structure_names, masks, strict=True))

    def report(self, image: Array) -> WrittenReport | None:
        """The report of an image [C, S, S]; None where it writes none."""
        memory = self.answer(image).memory
        return None if memory is None else self.written(memory)

    def written(self, memory: Array) -> WrittenReport:
        """The report of the image that `memory` [1, M, D] is of. Raises: WeightsError where the modality has no reports."""
        words, confidence = self.write_report(memory)
        grammar = self.modality.grammar
        if grammar is None:
            why = f"writes reports, and the modality '{self.modality.key}' has no grammar for them"
            raise WeightsError(str(self.folder), why, mend="give the modality its grammar")
        return WrittenReport(tuple(grammar.detokenize(words)), confidence)

    def answer(self, image: Array) -> Answer:
        """Everything about one image [C, S, S] in [0, 1], from one pass."""
        features, grid, logits, masks, memory = self.answer_all(image[None])
        return Answer(features[0], grid[0], logits[0], None if masks is None else masks[0], memory)

    def answer_all(self, images: Array) -> tuple[Array, Array, Array, Array | None, Array | None]:
        """features, grid, logits, masks and memory of images [B, C, S, S], batch first; None for what it was not taught."""
        names = ["features", "grid", "logits", *(name for task, name in HEADS.items() if task in self.tasks)]
        said = dict(zip(names, self._session("look").run(names, self._feed(images)), strict=True))
        return said["features"], said["grid"], said["logits"], said.get("masks"), said.get("memory")

    def _feed(self, images: Array) -> dict[str, Array]:
        if images.ndim != 4 or images.shape[1:] != (self.channels, self.size, self.size):
            why, wanted = f"have shape {images.shape}", f"[B, {self.channels}, {self.size}, {self.size}]"
            raise InputError("images", why, mend=f"give float32 {wanted} in [0, 1]")
        return {"images": np.ascontiguousarray(images, np.float32)}

    def write_report(self, memory: Array) -> tuple[list[str], float]:
        """The words of the report and the mean log-probability per word, by greedy choice (ties: the lower number)."""
        words, vocabulary = [START], self._spec["vocabulary"]
        limit, total = int(self._spec["max_tokens"]) - 1, 0.0
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
    def _sessions(self) -> dict[str, _Session]:
        return {}

    def _session(self, name: str) -> _Session:
        if name not in self._sessions:
            self._sessions[name] = open_graph(self.folder / GRAPHS[name], threads=self.threads)
        return self._sessions[name]


def shipped_students() -> dict[str, Path]:
    """The folders of the students that come with the package, by the key of their modality."""
    beside = {path.name.removeprefix(f"{SHIPPED.name}_"): path for path in SHIPPED.parent.glob(f"{SHIPPED.name}_*")}
    return {DEFAULT_MODALITY: SHIPPED, **{key: path for key, path in sorted(beside.items()) if (path / CARD_NAME).is_file()}}


def load_student(folder: str | Path | None = None) -> Student:
    """The student in `folder`, or the one that comes with the package, its files' hashes checked.

    Raises: WeightsError when a file is missing or altered.
    """
    chosen = SHIPPED if folder is None else Path(folder)
    return Student(chosen, read_card(chosen))
