"""The plain script that the shipped recipe's student is held against: one ImageNet start, labels, and nothing clever.

    python benchmarks/plain_script.py teach --weights FILE [--data DATA] [--epochs 3] [--work FOLDER]
    python benchmarks/plain_script.py judge [--data DATA] [--write]

What it is, stated before any of its figures was seen. EfficientNet-lite0 as timm has it (one linear layer on the average of
the last features, 3.39 M parameters) from ImageNet's weights (safetensors as `storyxai data weights` writes them); every film
of nih/, nih128/ and nih64/ of folds 1 to 4 at 128 px, grey shown as three channels; 14 binary cross-entropies with equal
weights. The target is the label, and where the public DenseNet-121 answered the mean of label and its probability. Three
epochs of batches of 32 in a drawn order, each film mirrored in half of its showings; AdamW with rate 1e-3 (warm-up over a
twentieth of the batches, then a cosine to zero) and weight decay 0.01; the last weights count. No phantoms, boxes, lungs,
reports, blur, averages of weights, rounds or mirrored answers. Nothing was tried first: these settings ran once. Five epochs
were meant: a run of five was ended after its first hundred and some batches of 1,810, before any figure of it was seen,
because it would not have ended in time on a machine that others used, and the shorter one begun.

Judged once, on the films and patients of fold 0 whose answers of the recipe's student stand in
`results/shipped/out_of_fold.npz`; no film of these patients, nor of those of the films that come with the package, is learnt
from. Interrupted, `teach` goes on from its last hundred batches. Its answers stand in `results/shipped/plain_script.npz`;
`judge` needs no training, and with --write it writes `results/shipped/plain_script.json`; it prints the rows of
docs/figures.md.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from encoder_front import LEFT_OUT, ROOT, films
from shipped_figures import ANSWERS, NATURAL, read_answers
from storyxai.data.batches import Examples
from storyxai.data.sources.nih import read_densenet_targets
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Estimate, draw_resamples, estimate
from storyxai.metrics.classification import mean_auroc_statistic
from storyxai.models.card import read_card
from storyxai.models.runtime import SHIPPED
from storyxai.provenance import canonical_json

BATCH, RATE, DECAY, WARM, SEED = 32, 1e-3, 0.01, 0.05, 0
PLAIN = ROOT / "results" / "shipped" / "plain_script.npz"
RECORD = PLAIN.with_suffix(".json")


def learnt_from(every: Examples) -> NDArray[np.int64]:
    """The rows of all patients that are not judged: folds 1 to 4 of those that the recipe's student was judged by."""
    with np.load(ANSWERS, allow_pickle=False) as kept:
        judged = {str(name).rsplit("_", 1)[0] for name in kept["image_ids"]}
    return np.flatnonzero([patient not in judged | LEFT_OUT for patient in every.patient_ids])


def targets_of(every: Examples, data: Path, findings: tuple[str, ...]) -> NDArray[np.float32]:
    """Labels, or their mean with the DenseNet's probability where it answered. Shapes: [N, F]."""
    told = {}
    for name in ("nih", *NATURAL):
        soft = read_densenet_targets(data / name)
        places = [soft.findings.index(finding) for finding in findings]
        told |= dict(zip(soft.ids, 1 / (1 + np.exp(-soft.logits[:, places])), strict=True))
    return np.array([
        label if name not in told else (label + told[name]) / 2 for name, label in zip(every.ids, every.labels, strict=True)
    ], np.float32)


def new_network(weights: Path | None = None) -> torch.nn.Module:
    """timm's network, its last layer fresh."""
    from safetensors.torch import load_file

    torch.manual_seed(SEED)
    network: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=14)
    if weights is not None:
        given = {name: one for name, one in load_file(weights).items() if not name.startswith("classifier.")}
        missing, odd = network.load_state_dict(given, strict=False)
        assert sorted(missing) == ["classifier.bias", "classifier.weight"], (missing, odd)
        assert not odd, odd
    return network.to(memory_format=torch.channels_last)


def shown(every: Examples, rows: NDArray[np.int64]) -> torch.Tensor:
    """Films as the network takes them, float32 [B, 3, 128, 128] in [-1, 1]."""
    grey = torch.from_numpy(every.images[rows]).float().div_(127.5).sub_(1).unsqueeze(1)
    return grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def save(path: Path, step: int, steps: int, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Weights and the optimiser's moments, so that a run that was cut goes on as if it had not been."""
    from safetensors.torch import save_file

    kept = {f"network.{name}": one.contiguous() for name, one in network.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        kept |= {f"optimiser.{number}.{name}": one.contiguous() for name, one in state.items()}
    save_file(kept, path.with_suffix(".part"), metadata={"step": str(step), "steps": str(steps)})
    path.with_suffix(".part").replace(path)


def load(path: Path, steps: int, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """The batch to go on with; 0 where nothing was kept."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    with safe_open(path, "pt") as kept:
        about = kept.metadata()
        assert int(about["steps"]) == steps, f"{path} is of a run of {about['steps']} batches, not {steps}"
        names = list(kept.keys())
        network.load_state_dict({name[8:]: kept.get_tensor(name) for name in names if name.startswith("network.")})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name in names:
            if name.startswith("optimiser."):
                _, number, part = name.split(".")
                state.setdefault(int(number), {})[part] = kept.get_tensor(name)
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(about["step"])


def rate(step: int, steps: int) -> float:
    """The learning rate of a batch: a short warm-up, then a cosine to zero."""
    warm = WARM * steps
    if step + 1 < warm:
        return RATE * (step + 1) / warm
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def teach(every: Examples, targets: NDArray[np.float32], rows: NDArray[np.int64], given: argparse.Namespace) -> torch.nn.Module:
    """The network after all epochs."""
    network = new_network(given.weights).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    a_round = len(rows) // BATCH
    steps = a_round * given.epochs
    given.work.mkdir(parents=True, exist_ok=True)
    kept = given.work / "plain.safetensors"
    begin, losses = time.monotonic(), []
    for step in range(load(kept, steps, network, optimiser), steps):
        order = np.random.default_rng([SEED, step // a_round]).permutation(rows)
        batch = order[step % a_round * BATCH : (step % a_round + 1) * BATCH]
        flip = torch.from_numpy(np.random.default_rng([SEED, 1, step]).random(BATCH) < 0.5)[:, None, None, None]
        images = shown(every, batch)
        logits = network(torch.where(flip, images.flip(3), images).contiguous(memory_format=torch.channels_last))
        loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(targets[batch]))
        for group in optimiser.param_groups:
            group["lr"] = rate(step, steps)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or (step + 1) % a_round == 0 or step + 1 == steps:
            save(kept, step + 1, steps, network, optimiser)
            used = time.process_time()
            print(f"epoch {(step + 1) / a_round:.2f}, batch {step + 1} of {steps}: loss {np.mean(losses[-100:]):.4f}, "
                  f"{time.monotonic() - begin:.0f} s, {used:.0f} s of processor", flush=True)
    return network.eval()


@torch.inference_mode()
def answers(network: torch.nn.Module, every: Examples, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-odds of the films. Shapes: float32 [N, F]."""
    parts = np.array_split(rows, max(1, len(rows) // 64))
    return np.concatenate([network(shown(every, part)).numpy() for part in parts])


def taught(given: argparse.Namespace) -> None:
    """Teach, then ask about the films of fold 0 once."""
    torch.set_num_threads(given.threads)
    every, findings = films(given.data, frozenset()), tuple(read_card(SHIPPED).spec["findings"])
    rows = learnt_from(every)
    targets = targets_of(every, given.data, findings)
    soft = int((targets[rows] != every.labels[rows]).any(axis=1).sum())
    people = len({every.patient_ids[row] for row in rows})
    print(f"learns from {len(rows)} films of {people} patients, {soft} with answers", flush=True)
    network = teach(every, targets, rows, given)
    with np.load(ANSWERS, allow_pickle=False) as kept:
        ids = kept["image_ids"]
    place = {name: row for row, name in enumerate(every.ids)}
    said = answers(network, every, np.array([place[str(name)] for name in ids]))
    np.savez_compressed(PLAIN, image_ids=ids, plain=said, learnt_from=len(rows), epochs=given.epochs)


def judged(data: Path) -> dict[str, Any]:
    """Mean AUROC of both and their paired difference, by set, with intervals by patient."""
    known = read_answers(data, tuple(read_card(SHIPPED).spec["findings"]))
    with np.load(PLAIN, allow_pickle=False) as kept:
        assert (kept["image_ids"] == known.rows["image_id"].to_numpy(np.str_)).all()
        plain, learnt, epochs = kept["plain"], int(kept["learnt_from"]), int(kept["epochs"])
    out: dict[str, Any] = {"learnt_from": learnt, "epochs": epochs, "sets": {}}
    natural = np.isin(known.origin, NATURAL)
    everywhere = np.ones(len(known.findings), bool)
    often = (known.labels[natural] >= 0.5).sum(axis=0) >= 10
    parts = (("natural", natural, everywhere), ("selection", ~natural, everywhere), ("all", natural | ~natural, everywhere),
             ("natural_often", natural, often))
    for name, chosen, columns in parts:
        mine = known.take(chosen)
        resamples = draw_resamples(mine.patients, count=1000, seed=0)
        ours, theirs = (
            mean_auroc_statistic(mine.labels[:, columns], one[:, columns]) for one in (mine.student, plain[chosen])
        )
        gap = estimate(lambda weights, ours=ours, theirs=theirs: ours(weights) - theirs(weights), resamples)  # type: ignore[misc]
        of = {"student": estimate(ours, resamples), "plain": estimate(theirs, resamples), "student_minus_plain": gap}
        out["sets"][name] = {
            "films": len(mine.rows), "patients": len(set(mine.patients.tolist())),
            **{key: asdict(one) for key, one in of.items()},
        }
    return out


def rows_of(found: dict[str, Any]) -> str:
    """The rows of docs/figures.md."""
    sets = found["sets"]

    def text(key: str, *names: str) -> str:
        given = [Estimate(**sets[name][key]) for name in names]
        return "; ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in given)

    return (
        f"| a plain script (the same encoder from ImageNet, labels and the DenseNet's answers, {found['epochs']} epochs; "
        f"`benchmarks/plain_script.py`), taught on the same folds | the natural mix; the selection | "
        f"{text('plain', 'natural', 'selection')} |\n"
        f"| student minus plain script | the natural mix; the selection; all three origins | "
        f"{text('student_minus_plain', 'natural', 'selection', 'all')} |\n"
        f"| the same without findings of fewer than 10 cases (asked for after the others) | the natural mix, 12 findings "
        f"| {text('student_minus_plain', 'natural_often')} |\n"
    )


def main() -> None:
    """Teach or judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("teach", "judge"))
    default = Path(os.environ.get("STORYXAI_REAL_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("plain"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.what == "teach":
        taught(given)
    found = judged(given.data)
    print(rows_of(found), end="")
    if given.write:
        write_whole(canonical_json(found), RECORD)


if __name__ == "__main__":
    main()
