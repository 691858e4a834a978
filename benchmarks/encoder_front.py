"""How well encoders of one to five million parameters rank findings, against what a look costs: the Pareto front.

    python benchmarks/encoder_front.py [DATA] [--encoders NAME ...] [--weights NAME=FILE ...] [--epochs 2] [--out FOLDER]

Every encoder is taught alike: findings alone, by labels alone, NIH's films at 128 px of four of five folds of patients, for
the same epochs, half of the smallest films an epoch. The fifth fold judges it. This compares encoders at a small budget; it
is not how the shipped student was taught, and its figures are lower. With --weights an encoder starts
from ImageNet's too (safetensors as `storyxai data weights` writes them), and that one is also brought to 8-bit integers by
onnxruntime (static, by channel; 200 training films give the ranges). Time: 1,000 looks at one film on one thread of
onnxruntime, encoders in turn within one run, best of five rounds.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.assemble import examples_from_table
from storyxai.data.batches import Examples, join_examples, make_batch
from storyxai.data.folds import deal_folds
from storyxai.data.table import read_table
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Resamples, draw_resamples, estimate
from storyxai.metrics.classification import mean_auroc_statistic
from storyxai.models.export import as_session
from storyxai.models.network import Network, NetworkSpec
from storyxai.programs.data import import_data
from storyxai.provenance import canonical_json
from storyxai.training.losses import finding_loss
from storyxai.training.weights import load_encoder_weights

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = (
    "mobilenetv3_small_050", "mobilenetv3_small_100", "mobilenetv3_large_075", "tf_efficientnet_lite0",
)  # fmt: skip
SETS, NATURAL = ("nih", "nih128", "nih64"), ("nih128", "nih64")
SIZE, BATCH, RATE, FOLD, SEED = 128, 32, 1e-3, 0, 0
LEFT_OUT = frozenset({"nih-00006004", "nih-00012708", "nih-00012415"})
"""Patients of the films that come with the package."""


@dataclass(frozen=True)
class Point:
    """One network on the plot. Units: `ms` for one look at one film."""

    name: str
    start: str
    parameters: int
    auroc: float
    low: float | None
    high: float | None
    ms: float


def films(data: Path, without: frozenset[str] = LEFT_OUT) -> Examples:
    """All NIH films at 128 px, without the example films' patients."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            table = Path(folder) / f"{name}.parquet"
            import_data("nih", data / name, table)
            found, _ = examples_from_table(
                read_table(table), size=SIZE, encode=lambda words: np.zeros(4, np.int64)
            )
            assert found is not None
            parts.append(Examples(found.ids, found.patient_ids, (name,) * len(found), *(
                getattr(found, field) for field in ("images", "labels", "masks", "union", "cells", "tokens"))))  # fmt: skip
    every = join_examples(parts)
    return every.take(np.flatnonzero([patient not in without for patient in every.patient_ids]))


def taught(encoder: str, every: Examples, rows: NDArray[np.int64], *, epochs: int, weights: Path | None) -> Network:
    """A network of this encoder after `epochs` looks at the films of `rows`, the running average of its weights."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    network = Network(NetworkSpec(encoder=encoder, size=SIZE, tasks=("findings",), vocabulary=(), width=128, hidden=128))
    if weights is not None:
        load_encoder_weights(network, weights)
    network = network.to(memory_format=torch.channels_last).train()
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    small = np.array(every.domain)[rows] == "nih64"
    batches = []
    for _ in range(epochs):
        chosen = np.concatenate([rows[~small], rng.permutation(rows[small])[: int(small.sum()) // 2]])
        shown = rng.permutation(chosen)
        batches += list(shown[: len(shown) // BATCH * BATCH].reshape(-1, BATCH))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=len(batches), pct_start=0.1)
    for number, batch in enumerate(batches):
        given = make_batch(every, batch, 1 + number * BATCH // len(rows))
        flip = torch.rand(len(batch))[:, None, None, None] < 0.5
        images = torch.where(flip, given.images.flip(3), given.images).contiguous(memory_format=torch.channels_last)
        loss = finding_loss(network(images).logits, given.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
    result: Network = average.module.eval()
    return result


def quantised(network: Network, every: Examples, rows: NDArray[np.int64], folder: Path) -> Any:
    """The network's graph in 8-bit integers, as a session."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Films(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(np.array_split(rows, len(rows) // 20))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            some = next(self.left, None)
            return None if some is None else {"images": make_batch(every, some, 0).images.numpy()}

    logging.disable(logging.WARNING)
    plain, ready, small = (str(folder / f"{name}.onnx") for name in ("plain", "ready", "small"))
    images = torch.zeros(2, 1, SIZE, SIZE)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images).logits  # type: ignore[no-any-return]

    network.to(memory_format=torch.contiguous_format).requires_grad_(False)
    torch.onnx.export(
        Logits().eval(), (images,), plain, input_names=["images"], output_names=["logits"], dynamo=False,
        dynamic_axes={"images": {0: "batch"}}, opset_version=17,
    )
    quant_pre_process(plain, ready, skip_symbolic_shape=True)
    quantize_static(
        ready, small, Films(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return session(small)


def session(path: str) -> Any:
    """A graph on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(one: Any, every: Examples, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-odds of the films. Shapes: float32 [N, F]."""
    parts = np.array_split(rows, max(1, len(rows) // 64))
    return np.concatenate([one.run(["logits"], {"images": make_batch(every, part, 0).images.numpy()})[0] for part in parts])


def timed(sessions: Sequence[Any], image: NDArray[np.float32], *, looks: int = 200, rounds: int = 5) -> list[float]:
    """Milliseconds a look, the best of rounds in which all take turns."""
    best = [np.inf] * len(sessions)
    for _ in range(rounds):
        for number, one in enumerate(sessions):
            start = time.perf_counter()
            for _ in range(looks):
                one.run(None, {"images": image})
            best[number] = min(best[number], (time.perf_counter() - start) / looks * 1e3)
    return best


def plot(points: Sequence[Point], path: Path) -> None:
    """AUROC against time, intervals as bars, the front as a line."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "storyxai", "svg.fonttype": "none", "font.size": 11})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    front: list[Point] = []
    for point in sorted(points, key=lambda point: point.ms):
        on_front = not front or point.auroc > front[-1].auroc
        front += [point] if on_front else []
        span = [[point.auroc - (point.low or point.auroc)], [(point.high or point.auroc) - point.auroc]]
        axes.errorbar(point.ms, point.auroc, yerr=span, fmt="o", color="#0b6" if on_front else "#888", capsize=3)
        words = f"{point.name}, {point.start}\n{point.parameters / 1e6:.1f} M"
        axes.annotate(words, (point.ms, point.auroc), xytext=(6, 6), textcoords="offset points", fontsize=8)
    axes.plot([point.ms for point in front], [point.auroc for point in front], color="#0b6", linewidth=1)
    axes.set(xlabel="time of one look, ms (one thread)", ylabel="mean AUROC, patients not learned from")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


@dataclass(frozen=True, eq=False)
class Bench:
    """The films that judge, and the resamples of their patients."""

    every: Examples
    judged: NDArray[np.int64]
    resamples: Resamples

    def entry(self, point: Point, one: Any) -> Entry:
        """The network's place on the plot but for its time, and its session."""
        logits = answers(one, self.every, self.judged)
        found = estimate(mean_auroc_statistic(self.every.labels[self.judged], logits), self.resamples)
        assert found.value is not None
        print(f"{point.name}, {point.start}: {found.value:.4f}", flush=True)
        return Entry(replace(point, auroc=found.value, low=found.low, high=found.high), one)


@dataclass(frozen=True, eq=False)
class Entry:
    """A network's place on the plot, and what runs it."""

    point: Point
    session: Any


def entries(
    bench: Bench, rows: NDArray[np.int64], encoders: Sequence[str], weights: Mapping[str, Path], epochs: int
) -> list[Entry]:
    """All networks, taught one after the other."""
    found = []
    starts: list[tuple[str, Path | None]] = [(encoder, None) for encoder in encoders]
    for name, start in [*starts, *weights.items()]:
        network = taught(name, bench.every, rows, epochs=epochs, weights=start)
        size = sum(one.numel() for one in network.parameters())
        about = Point(name, "ImageNet" if start else "scratch", size, 0.0, None, None, 0.0)
        found.append(bench.entry(about, as_session(network)))
        if start is not None:
            some = np.random.default_rng(SEED).permutation(rows)[:200]
            with tempfile.TemporaryDirectory() as folder:
                small = quantised(network, bench.every, some, Path(folder))
            found.append(bench.entry(replace(about, start="ImageNet, int8"), small))
    return found


def main() -> None:
    """Teach, judge, time, write."""
    parser = argparse.ArgumentParser()
    default = Path(os.environ.get("STORYXAI_REAL_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=default)
    parser.add_argument("--encoders", nargs="*", default=ENCODERS, help="those that start from nothing")
    parser.add_argument("--weights", nargs="*", default=[])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "encoders")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    every = films(asked.data)
    fold = deal_folds(every.patient_ids, every.labels, folds=5, seed=SEED)
    place = np.array([fold[patient] for patient in every.patient_ids])
    rows, judged = np.flatnonzero(place != FOLD), np.flatnonzero((place == FOLD) & np.isin(every.domain, NATURAL))
    bench = Bench(every, judged, draw_resamples([every.patient_ids[row] for row in judged], count=1000, seed=SEED))
    weights = {name: Path(file) for name, _, file in (one.partition("=") for one in asked.weights)}
    made = entries(bench, rows, asked.encoders, weights, asked.epochs)
    ms = timed([one.session for one in made], make_batch(every, judged[:1], 0).images.numpy())
    points = [replace(one.point, ms=time_) for one, time_ in zip(made, ms, strict=True)]
    record = {
        "films": len(judged), "patients": len({every.patient_ids[row] for row in judged}), "learned_from": len(rows),
        "epochs": asked.epochs, "points": [asdict(one) for one in points],
    }
    write_whole(canonical_json(record), asked.out / "front.json")
    plot(points, asked.out / "front.svg")
    for one in points:
        size, auroc = f"{one.parameters / 1e6:.2f} M", f"{one.auroc:.3f} [{one.low:.3f}, {one.high:.3f}]"
        print(f"{one.name}, {one.start}: {auroc}, {size}, {one.ms:.2f} ms")


if __name__ == "__main__":
    main()
