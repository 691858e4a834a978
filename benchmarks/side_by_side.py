"""What explanations cost here and in the libraries that people use: one run, same network, image and samples.

    python benchmarks/side_by_side.py [--samples N] [--rounds N] [--out FOLDER]

Time is the processor time of all threads, which others on the machine hardly move, the median over rounds in which all sides
take turns; memory is how far the peak resident size lies above what stood before, in a process of its own, asked of Linux (that
alone starts the peak anew: absent elsewhere); agreement is a correlation of results.
Weights are drawn at random where a network stands only for its size (DenseNet-121, MobileNetV3-small). shap and MONAI come with
storyxai[bench]; where they are not installed they are "absent" and their columns are left out. Figures go to
side_by_side.json, the plot to side_by_side.svg and side_by_side.png.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.predict import OneLook, view_of
from storyxai.explain.cam import CAMS
from storyxai.explain.contract import Budget
from storyxai.explain.gradients import IntegratedGradients
from storyxai.explain.kernel_shap import kernel_shap
from storyxai.explain.lime import LimeFit, lime
from storyxai.explain.registry import METHODS
from storyxai.explain.superpixels import grid_segments, slic_segments
from storyxai.imaging.read import read_image
from storyxai.metrics.agreement import correlation, rank_correlation
from storyxai.models.adapters.torch_model import TorchModel
from storyxai.models.runtime import Student, load_student
from storyxai.pages.charts import chart_svg
from storyxai.provenance import canonical_json

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = tuple(f"finding {number}" for number in range(14))
LIBRARIES = {"pytorch-grad-cam": "pytorch_grad_cam", "captum": "captum", "lime": "lime", "shap": "shap", "MONAI": "monai"}
SUPERPIXELS, BATCH, SIDE = 60, 64, 224
IG_STEPS = 16
Row = dict[str, Any]
Timed = Mapping[str, Callable[[], object]]


@dataclass(frozen=True, eq=False)
class Bench:
    """The networks and the one image, as each of them takes it."""

    samples: int
    rounds: int
    student: Student
    densenet: nn.Module
    mobilenet: nn.Module

    @property
    def film(self) -> Any:
        # Of this film a finding is told, so that LIME is asked; of the first example none is.
        return read_image(ROOT / "src" / "storyxai" / "examples" / "nih_00012708_000.jpg")

    def pixels(self, side: int = SIDE, channels: int = 3) -> np.ndarray:
        """The film at `side` pixels, [C, S, S]."""
        model = TorchModel(nn.Conv2d(1, 1, 1), findings=["x"], channels=1, size=side)
        return np.repeat(view_of(model, self.film)[0], channels, axis=0)

    def model(self, net: nn.Module) -> TorchModel:
        """A network of torchvision as a model: its maps lie on its last features."""
        layer = "features.norm5" if hasattr(net.features, "norm5") else "features.12"
        return TorchModel(net, layer=layer, findings=FINDINGS, size=SIDE)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench")
    parser.add_argument("--memory", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.manual_seed(0)
    bench = Bench(given.samples, given.rounds, load_student(), _densenet(), _mobilenet())
    if given.memory:
        sys.stdout.write(json.dumps(memory_of(bench, given.memory)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    libraries = {name: _installed(module) for name, module in LIBRARIES.items()}
    record: Row = {"libraries": libraries, "threads": torch.get_num_threads(), "rounds": given.rounds}
    for part in (cams, integrated_gradients, perturbed, shapley_values, evidence, scaling, memory):
        say(part.__name__)
        record[part.__name__] = part(bench)
        (given.out / "side_by_side.json").write_bytes(canonical_json(record))
    record["ratios"] = ratios(record)
    (given.out / "side_by_side.json").write_bytes(canonical_json(record))
    (given.out / "side_by_side.svg").write_bytes(chart_svg(lambda: drawn(record)))
    drawn(record).savefig(given.out / "side_by_side.png", dpi=110, metadata={"Software": None})
    for name, value in record["ratios"].items():
        say(f"{name}: {value:.2f}")


def cams(bench: Bench) -> Row:
    """Grad-CAM for 1 and 14 findings and the whole family: the student's, and a DenseNet-121's beside two libraries."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    student, net = bench.student, bench.densenet
    small, large = view_of(student, bench.film)[0], bench.pixels()
    names, model = student.findings, bench.model(net)
    tensor = torch.tensor(large[None])
    grad = METHODS["grad_cam"]

    def family() -> None:
        once = OneLook(student, small)
        for method in CAMS:
            method.explain(once, small, names)

    def theirs(count: int) -> np.ndarray:
        with GradCAM(model=net, target_layers=[net.features.norm5]) as cam:
            return np.stack([cam(input_tensor=tensor, targets=[ClassifierOutputTarget(f)])[0] for f in range(count)])

    def captums(count: int) -> np.ndarray:
        cam = LayerGradCam(net, net.features.norm5)
        found = [cam.attribute(tensor, target=f, relu_attributions=True)[0, 0].detach().numpy() for f in range(count)]
        return np.stack(found)

    def monais(count: int) -> np.ndarray:
        from monai.visualize import GradCAM as Theirs

        # Its hooks forbid the ReLU in place that follows a DenseNet's last features, so it is asked of the MobileNet.
        cam = Theirs(nn_module=bench.mobilenet, target_layers="features.12", upsampler=lambda _: lambda maps: maps)
        # Its maps are scaled to [0, 1] and turned over: 1 is where the least evidence lies.
        return np.stack([cam(tensor, class_idx=f).detach().numpy()[0, 0] for f in range(count)])

    def mobile(count: int) -> np.ndarray:
        return np.stack([one.values for one in grad.explain(bench.model(bench.mobilenet), large, FINDINGS[:count])])

    with_monai: Timed = {}
    if _there("monai"):
        sides = {"ours": mobile, "monai": monais}
        with_monai = {f"{who}_mobilenet_{n}": (lambda n=n, ask=ask: ask(n)) for who, ask in sides.items() for n in (1, 14)}
    times = timed({
        "student_1": lambda: grad.explain(student, small, names[:1]), "student_14": lambda: grad.explain(student, small, names),
        "student_family": family,
        **{f"ours_{n}": (lambda n=n: grad.explain(model, large, FINDINGS[:n])) for n in (1, 14)},
        **{f"pytorch_grad_cam_{n}": (lambda n=n: theirs(n)) for n in (1, 14)},
        **{f"captum_{n}": (lambda n=n: captums(n)) for n in (1, 14)}, **with_monai,
    }, bench.rounds)
    ours = np.stack([one.values for one in grad.explain(model, large, FINDINGS)])
    enlarged = np.stack([torch.nn.functional.interpolate(torch.tensor(m[None, None]), size=(SIDE, SIDE), mode="bilinear")[0, 0]
                         .numpy() for m in ours])
    agreement = {"captum": _mean([correlation(a, b) for a, b in zip(ours, captums(14), strict=True)]),
                 "pytorch_grad_cam": _mean([correlation(a, b) for a, b in zip(enlarged, theirs(14), strict=True)])}
    if with_monai:
        agreement["monai"] = _mean([correlation(a, 1 - b) for a, b in zip(mobile(14), monais(14), strict=True)])
    return {"seconds": times, "agreement": agreement, "family": [method.key for method in CAMS]}


def integrated_gradients(bench: Bench) -> Row:
    """Integrated gradients of a MobileNetV3-small for 1 and 14 findings beside captum's, equal steps."""
    from captum.attr import IntegratedGradients as Theirs

    net, pixels = bench.mobilenet, bench.pixels()
    model = bench.model(net)
    ours = IntegratedGradients(steps=IG_STEPS, fill=0.0)
    tensor = torch.tensor(pixels[None])

    def captums(count: int) -> list[np.ndarray]:
        found = [Theirs(net).attribute(tensor, baselines=0 * tensor, target=f, n_steps=IG_STEPS) for f in range(count)]
        return [one[0].sum(dim=0).detach().numpy() for one in found]

    times = timed({
        **{f"ours_{n}": (lambda n=n: ours.explain(model, pixels, FINDINGS[:n])) for n in (1, 14)},
        **{f"captum_{n}": (lambda n=n: captums(n)) for n in (1, 14)},
    }, bench.rounds)
    mine = [one.values for one in ours.explain(model, pixels, FINDINGS[:3])]
    pairs = zip(mine, captums(3), strict=True)
    return {"seconds": times, "agreement": {"captum": _mean([correlation(a, b) for a, b in pairs])}}


def perturbed(bench: Bench) -> Row:
    """LIME of the student at equal samples beside bare batched passes and the package lime, which fits one finding a call."""
    student = bench.student
    pixels = view_of(student, bench.film)[0]
    segments = slic_segments(pixels, count=SUPERPIXELS)
    batch = np.repeat(pixels[None], BATCH, axis=0)
    fit = LimeFit(width=0.25 * 2**0.5)

    def bare() -> None:
        for start in range(0, bench.samples, BATCH):
            student.logits(batch[: min(BATCH, bench.samples - start)])

    def ours() -> np.ndarray:
        mine = slic_segments(pixels, count=SUPERPIXELS)
        return lime(student.logits, pixels, mine, fill="mean", fit=fit, budget=Budget(bench.samples, batch=BATCH)).coefficients

    def theirs(count: int) -> np.ndarray:
        return _lime_package(student.logits, pixels, segments, bench.samples, count)

    times = timed({
        "bare": bare, "ours_14": ours, **{f"lime_{n}": (lambda n=n: theirs(n)) for n in (1, 14)},
    }, bench.rounds)
    pair = zip(ours(), theirs(14), strict=True)
    return {"seconds": times, "samples": bench.samples, "superpixels": int(segments.max()) + 1,
            "agreement": {"lime, rank correlation of superpixels": _mean([rank_correlation(a, b) for a, b in pair])}}


def shapley_values(bench: Bench) -> Row:
    """KernelSHAP of the student's 14 findings at equal samples beside bare passes and the package shap.

    Of so many superpixels a thousand samples leave either side a spread of its own: how two seeds of ours agree stands beside
    how shap and we do. On nine squares both ask every coalition, and must find the same exact values.
    """
    student = bench.student
    pixels = view_of(student, bench.film)[0]
    segments = slic_segments(pixels, count=SUPERPIXELS)
    batch, fill = np.repeat(pixels[None], BATCH, axis=0), np.full_like(pixels, float(pixels.mean()))

    def bare() -> None:
        for start in range(0, bench.samples, BATCH):
            student.logits(batch[: min(BATCH, bench.samples - start)])

    def ours(regions: np.ndarray = segments, samples: int = bench.samples, seed: int = 0) -> np.ndarray:
        return kernel_shap(student.logits, pixels, regions, fill=fill, budget=Budget(samples, seed=seed, batch=BATCH))[0]

    def theirs(regions: np.ndarray = segments, samples: int = bench.samples) -> np.ndarray:
        import shap

        def shown(vectors: np.ndarray) -> np.ndarray:
            masks = vectors.astype(bool)[:, regions][:, None]
            parts = [student.logits(np.where(masks[at : at + BATCH], pixels, fill)) for at in range(0, len(masks), BATCH)]
            return np.concatenate(parts)

        count = int(regions.max()) + 1
        explainer = shap.KernelExplainer(shown, np.zeros((1, count)))
        found = explainer.shap_values(np.ones((1, count)), nsamples=samples, l1_reg=False, silent=True)
        return np.asarray(found)[0].T

    def alike(pair: tuple[np.ndarray, np.ndarray]) -> float | None:
        return _mean([rank_correlation(a, b) for a, b in zip(*pair, strict=True)])

    agreement = {"ours with another seed, rank correlation of superpixels": alike((ours(), ours(seed=1)))}
    record = {"samples": bench.samples, "superpixels": int(segments.max()) + 1, "agreement": agreement}
    if not _there("shap"):
        return {"seconds": timed({"bare": bare, "ours_14": ours}, bench.rounds), **record}
    few = grid_segments(pixels.shape[1:], count=9)
    every = 2 ** (int(few.max()) + 1)
    agreement["shap, rank correlation of superpixels"] = alike((ours(), theirs()))
    apart = float(abs(ours(few, every) - theirs(few, every)).max())
    agreement["shap on nine squares, exact: largest difference in logits"] = apart
    return {"seconds": timed({"bare": bare, "ours_14": ours, "shap_14": theirs}, bench.rounds), **record}


def evidence(bench: Bench) -> Row:
    """All evidence of one film by the student, and what a notebook runs for 14 Grad-CAMs and one LIME on larger networks."""
    from captum.attr import LayerGradCam

    def notebook(net: nn.Module) -> Callable[[], None]:
        model, pixels = bench.model(net), bench.pixels()
        layer = net.get_submodule(str(model.layer))
        tensor = torch.tensor(pixels[None])

        def run() -> None:
            for column in range(len(FINDINGS)):
                LayerGradCam(net, layer).attribute(tensor, target=column)
            _lime_package(model.logits, pixels, slic_segments(pixels, count=SUPERPIXELS), bench.samples, 1)

        return run

    settings, film = GatherSettings(samples=bench.samples), bench.film
    times = timed({
        "ours": lambda: gather(bench.student, film),
        "ours_at_equal_samples": lambda: gather(bench.student, film, settings=settings),
    }, bench.rounds)
    for name, net in (("mobilenet_v3_small", bench.mobilenet), ("densenet121", bench.densenet)):
        times |= timed({f"notebook_{name}": notebook(net)}, 1, warm=False)
    return {"seconds": times, "samples": bench.samples}


def scaling(bench: Bench) -> Row:
    """Our cost against image size, findings, samples and batch."""
    student, pixels = bench.student, view_of(bench.student, bench.film)[0]
    grad, segments = METHODS["grad_cam"], slic_segments(pixels, count=SUPERPIXELS)
    model = bench.model(bench.mobilenet)

    def sized(side: int) -> Callable[[], object]:
        image = bench.pixels(side)
        open_model = TorchModel(bench.mobilenet, layer=model.layer, findings=FINDINGS)
        return lambda: grad.explain(open_model, image, FINDINGS)

    def sampled(count: int) -> Callable[[], object]:
        return lambda: lime(student.logits, pixels, segments, budget=Budget(count, batch=BATCH))

    def batched(size: int) -> Callable[[], object]:
        images = np.repeat(pixels[None], size, axis=0)
        return lambda: [student.logits(images) for _ in range(max(1, 128 // size))]

    parts: dict[str, Timed] = {
        "image_size": {str(side): sized(side) for side in (64, 128, 224, 320)},
        "findings": {str(n): (lambda n=n: grad.explain(student, pixels, student.findings[:n])) for n in (1, 4, 8, 14)},
        "samples": {str(n): sampled(n) for n in (100, 250, 500, 1000)},
        "batch_of_128_passes": {str(n): batched(n) for n in (1, 4, 16, 64)},
    }
    return {name: timed(calls, bench.rounds) for name, calls in parts.items()}


def memory(bench: Bench) -> Row:
    """How far the peak resident size grows, MiB, each in a process of its own; nothing where the system does not tell."""
    found: dict[str, float] = {}
    if not Path("/proc/self/clear_refs").exists():
        return {"lime_growth_mib": found}
    for task in ("bare_2000", "ours_500", "ours_2000", "lime_500", "lime_2000"):
        done = subprocess.run([sys.executable, __file__, "--memory", task], capture_output=True, text=True, check=True)
        found[task] = json.loads(done.stdout)
    return {"lime_growth_mib": found}


def memory_of(bench: Bench, task: str) -> float:
    """One side's LIME of so many samples, or as many passes alone: MiB above what stood before it."""
    who, _, count = task.partition("_")
    pixels = view_of(bench.student, bench.film)[0]
    segments = slic_segments(pixels, count=SUPERPIXELS)
    lime(bench.student.logits, pixels, segments, budget=Budget(segments.max() + 3, batch=BATCH))
    before = resident("VmRSS")
    # The peak of before would hide this one: it holds the import of torch, and over an exec that of the parent process.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if who == "ours":
        lime(bench.student.logits, pixels, segments, budget=Budget(int(count), batch=BATCH))
    elif who == "bare":
        for _ in range(0, int(count), BATCH):
            bench.student.logits(np.repeat(pixels[None], BATCH, axis=0))
    else:
        _lime_package(bench.student.logits, pixels, segments, int(count), 1)
    return round(resident("VmHWM") - before, 1)


def resident(what: str) -> float:
    """The resident size of this process now ("VmRSS") or at its highest ("VmHWM"). Units: MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what)) / 1024


def ratios(record: Row) -> dict[str, float]:
    """The figures that were set as aims."""
    cam, per, shapley, whole = (record[name]["seconds"] for name in ("cams", "perturbed", "shapley_values", "evidence"))
    return {
        "14 Grad-CAMs of the student over one": cam["student_14"] / cam["student_1"],
        "14 Grad-CAMs of a DenseNet-121 over one, ours": cam["ours_14"] / cam["ours_1"],
        "14 Grad-CAMs of a DenseNet-121, pytorch-grad-cam over ours": cam["pytorch_grad_cam_14"] / cam["ours_14"],
        "14 Grad-CAMs of a DenseNet-121, captum over ours": cam["captum_14"] / cam["ours_14"],
        "the whole CAM family of 14 findings over one Grad-CAM": cam["student_family"] / cam["student_1"],
        "LIME of 14 findings over bare passes": per["ours_14"] / per["bare"],
        "KernelSHAP of 14 findings over bare passes": shapley["ours_14"] / shapley["bare"],
        "the package lime for one finding over bare passes": per["lime_1"] / per["bare"],
        "notebook on DenseNet-121 over evidence of one film": whole["notebook_densenet121"] / whole["ours"],
        "notebook on MobileNetV3-small over evidence of one film": whole["notebook_mobilenet_v3_small"] / whole["ours"],
    }


def drawn(record: Row) -> Figure:
    """Bars of what stands side by side, and lines of what cost hangs on."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 5)
    for at, name in zip(axes[0], ("cams", "integrated_gradients", "perturbed", "shapley_values", "evidence"), strict=True):
        seconds = record[name]["seconds"]
        at.barh([key.replace("_", " ") for key in seconds], list(seconds.values()), color="#1f5f8b")
        at.set_xscale("log")
        at.set_title(f"{name.replace('_', ' ')}, s", fontsize=9)
        at.tick_params(labelsize=7)
    for at, (name, seconds) in zip(axes[1], record["scaling"].items(), strict=False):
        at.plot([int(key) for key in seconds], list(seconds.values()), marker="o", color="#c4681c")
        at.set_ylim(bottom=0)
        at.set_title(f"seconds by {name.replace('_', ' ')}", fontsize=9)
        at.tick_params(labelsize=7)
    grown = record["memory"]["lime_growth_mib"]
    axes[1][-1].barh([key.replace("_", " ") for key in grown], list(grown.values()), color="#5b7f3a")
    axes[1][-1].set_title("LIME's memory by samples, MiB", fontsize=9)
    axes[1][-1].tick_params(labelsize=7)
    return figure


def timed(calls: Timed, rounds: int, *, warm: bool = True) -> dict[str, float]:
    """Median processor seconds of each call; all take turns, once unmeasured first where `warm`."""
    for call in calls.values() if warm else ():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _lime_package(
    predict: Callable[..., Any], pixels: np.ndarray, segments: np.ndarray, samples: int, count: int
) -> np.ndarray:
    """The package's superpixel weights of the first `count` columns, [count, S], the image's own means as filling."""
    from lime.lime_image import LimeImageExplainer

    grey = np.repeat(pixels, 3 // len(pixels), axis=0).transpose(1, 2, 0).astype(np.float64)

    def classify(images: np.ndarray) -> np.ndarray:
        batch = np.stack(images).transpose(0, 3, 1, 2)[:, : len(pixels)]
        return np.asarray(predict(np.ascontiguousarray(batch, dtype=np.float32)))

    explainer = LimeImageExplainer(feature_selection="none", random_state=0)
    found = explainer.explain_instance(
        grey, classify, labels=tuple(range(count)), top_labels=None, num_samples=samples, batch_size=BATCH,
        segmentation_fn=lambda _: segments,
    )
    return np.array([[dict(found.local_exp[f])[s] for s in range(segments.max() + 1)] for f in range(count)])


def _densenet() -> nn.Module:
    from torchvision.models import densenet121

    return densenet121(weights=None, num_classes=len(FINDINGS)).eval()


def _mobilenet() -> nn.Module:
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small(weights=None, num_classes=len(FINDINGS)).eval()


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _installed(module: str) -> str:
    if not _there(module):
        return "absent"
    from importlib.metadata import packages_distributions, version

    return version(packages_distributions()[module][0])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def say(text: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
