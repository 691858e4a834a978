"""The second round of the student that comes with the package: more phantoms, more epochs, from the weights of the first.

    python recipes/shipped_student_longer.py DATA OUT

DATA holds nih/ and kermany/; OUT is the folder that recipes/shipped_student.py wrote (teachers and student). The split is
the first round's, so a patient unseen then is unseen still. The teachers answer for view 0; their findings stand for every
mild view of a film, as its labels do, while their masks and words, which belong to exact pixels, teach in the epochs of
view 0 alone. About an hour on one core, with torch.compile.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shipped_student import SIZE, encode, kept, parts_of, say, write_model
from torch import Tensor

from storyxai.data.assemble import examples_from_phantoms, examples_from_table
from storyxai.data.batches import Batch, Examples, join_examples, make_batch
from storyxai.data.sources.kermany import read_kermany
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.findings import NAMES
from storyxai.models.export import load_network
from storyxai.models.network import Network, Outputs
from storyxai.training import losses
from storyxai.training.distil import standardise
from storyxai.training.soft_targets import TeacherTargets, cache_targets, join_findings
from storyxai.training.weights import positive_weights

PHANTOMS, EPOCHS, BATCH, RATE, WARMUP, TEMPERATURE = 6500, 14, 48, 2e-3, 0.03, 2.0
REPEATS = {"phantom": 1, "kermany": 2, "nih": 2}


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of every training image beside its references: the teachers' answers to view 0."""

    findings: Tensor
    targets: TeacherTargets


def loss_of(network: Network, said: Outputs, batch: Batch, known: Known, *, rows: NDArray[np.int64], view: int,
            weights: Tensor) -> Tensor:
    """Findings + 0.6 masks + 0.3 report, each with its distillation term."""
    assert said.logits is not None and said.grid is not None and said.masks is not None and said.memory is not None
    squared = TEMPERATURE * TEMPERATURE
    findings = losses.finding_loss(said.logits, batch.labels, weights) + 0.5 * losses.box_loss(said.grid, batch.cells)
    findings = findings + squared * losses.bernoulli_kl(said.logits, known.findings[rows], TEMPERATURE)
    masks = losses.mask_loss(said.masks, batch.masks) + losses.union_loss(said.masks, batch.union)
    there = np.flatnonzero((batch.tokens != 0).any(dim=1).numpy())
    tokens = batch.tokens[there]
    tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
    words = network.decoder(tokens[:, :-1], said.memory[there])
    report = losses.token_loss(words, tokens)
    if view == 0:
        drawn = torch.from_numpy(np.asarray(known.targets.masks[rows], dtype=np.float32))
        masks = 0.7 * masks + 0.3 * squared * losses.bernoulli_kl(said.masks, drawn, TEMPERATURE)
        told = np.asarray(known.targets.words[known.targets.word_row[rows[there]]], dtype=np.float32)
        taught = torch.from_numpy(told[:, : tokens.shape[1] - 1])
        report = report + 0.5 * squared * losses.token_kl(words, taught, tokens, TEMPERATURE)
    return findings + 0.6 * masks + 0.3 * report


def train(network: Network, examples: Examples, known: Known) -> Network:
    """The running average of `network` after the second round."""
    torch.manual_seed(17)
    generator = np.random.default_rng(3)
    domain = np.array(examples.domain)
    base = np.concatenate([np.flatnonzero(domain == name) for name, times in REPEATS.items() for _ in range(times)])
    weights = positive_weights(torch.from_numpy(examples.labels[base]))
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": free, "weight_decay": 0.0}])
    forward: Any = torch.compile(network)
    batches = len(base) // BATCH
    total, step = batches * EPOCHS, 0
    for epoch in range(EPOCHS):
        network.train()
        view = epoch if epoch % 4 else 0
        order = generator.permutation(base)
        for start in range(0, batches * BATCH, BATCH):
            rows = order[start : start + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = RATE * _rate(step / total)
            batch = make_batch(examples, rows, view)
            said = forward(batch.images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(network, said, batch, known, rows=rows, view=view, weights=weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            _follow(average, network, min(0.998, step / (step + 10)))
            say(f"epoch {epoch + 1}, loss {float(loss.detach()):.3f}", step, total)
    return average


def _rate(share: float) -> float:
    if share < WARMUP:
        return share / WARMUP + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP)))


@torch.no_grad()
def _follow(average: Network, network: Network, decay: float) -> None:
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


def main() -> None:
    """Train on, export, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    sets = [examples_from_table(reader(given.data / name), size=SIZE, encode=encode, progress=say)
            for name, reader in (("nih", read_nih), ("kermany", read_kermany))]
    parts = np.concatenate([parts_of(part.patient_ids, part.labels) for part in sets])
    real = join_examples(sets)
    seeds = range(1_000_000, 1_000_000 + PHANTOMS)
    phantoms = examples_from_phantoms(seeds, size=SIZE, phantom_size=256, encode=encode, progress=say)
    examples = join_examples([phantoms, real.take(np.flatnonzero(parts == "train"))])
    teachers = {task: load_network(given.out / f"teacher-{task}.safetensors") for task in ("findings", "masks", "report")}
    targets = cache_targets(teachers, examples, views=1, folder=given.out / "soft-longer", progress=say)[0]
    soft = standardise(read_densenet_targets(given.data / "nih"), examples)
    known = Known(torch.from_numpy(join_findings(targets, soft, examples, NAMES, weight=0.6).findings), targets)
    student = load_network(given.out / "student.safetensors")
    student = kept(given.out / "student-longer.safetensors", lambda: train(student, examples, known))
    script = "recipes/shipped_student.py, then recipes/shipped_student_longer.py"
    write_model(student, real, parts, examples, given.out / "model", version="2", script=script)


if __name__ == "__main__":
    main()
