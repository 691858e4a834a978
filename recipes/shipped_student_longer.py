"""The second and third round of the student that comes with the package, from the weights of the first.

    python recipes/shipped_student_longer.py DATA OUT

DATA holds nih/ and kermany/; OUT is the folder that recipes/shipped_student.py wrote (teachers and student). The split is
the first round's, so a patient unseen then is unseen still. The teachers answer for view 0; their findings stand for every
mild view of a film, as its labels do, while their masks and words, which belong to exact pixels, teach in the epochs of
view 0 alone. The second round has more phantoms and epochs; the third, short one weighs outlines and reports more, shows
the outlined films thrice, and takes for an outline at the edge the share of each cell. About 75 minutes on one core, with
torch.compile.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shipped_student import SIZE, encode, kept, parts_of, say, write_model
from torch import Tensor

from storyxai.data.assemble import examples_from_phantoms, examples_from_table
from storyxai.data.batches import UNKNOWN_PIXEL, Batch, Examples, join_examples, make_batch
from storyxai.data.sources.covid import read_covid
from storyxai.data.sources.kermany import read_kermany
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.data.table import read_lung_mask, split_lungs
from storyxai.imaging.geometry import model_frame
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.export import load_network
from storyxai.models.network import Network, Outputs
from storyxai.training import losses
from storyxai.training.distil import standardise
from storyxai.training.soft_targets import TeacherTargets, cache_targets, join_findings
from storyxai.training.weights import positive_weights

PHANTOMS, BATCH, TEMPERATURE = 6500, 48, 2.0
SHARE = 100
"""Masks are held in hundredths of a cell."""


@dataclass(frozen=True)
class Round:
    """How often each set is shown (`phantoms` of them drawn anew for each epoch), which views, and what weighs how much.

    `weighed` is how often Kermany's labels count where the weight of a finding's positives is worked out.
    """

    phantoms: int
    kermany: int
    nih: int
    views: tuple[int, ...]
    rate: float
    warmup: float
    decay: float
    masks: float
    report: float
    drawn: float
    weighed: int
    seeds: tuple[int, int]


SECOND = Round(6500, 2, 2, (0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13), 2e-3, 0.03, 0.998, 0.6, 0.3, 0.3, 2, (17, 3))
THIRD = Round(1500, 3, 1, (21, 22, 0, 23, 0), 8e-4, 0.05, 0.995, 1.5, 0.6, 0.0, 0, (18, 4))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of every training image beside its references: the teachers' answers to view 0."""

    findings: Tensor
    targets: TeacherTargets


def loss_of(network: Network, said: Outputs, batch: Batch, known: Known, *, rows: NDArray[np.int64], view: int,
            weights: Tensor, plan: Round) -> Tensor:
    """Findings, masks and report, each with its distillation term."""
    assert said.logits is not None and said.grid is not None and said.masks is not None and said.memory is not None
    squared = TEMPERATURE * TEMPERATURE
    findings = losses.finding_loss(said.logits, batch.labels, weights) + 0.5 * losses.box_loss(said.grid, batch.cells)
    findings = findings + squared * losses.bernoulli_kl(said.logits, known.findings[rows], TEMPERATURE)
    masks = losses.mask_loss(said.masks, batch.masks / SHARE) + losses.union_loss(said.masks, batch.union)
    there = np.flatnonzero((batch.tokens != 0).any(dim=1).numpy())
    tokens = batch.tokens[there]
    tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
    words = network.decoder(tokens[:, :-1], said.memory[there])
    report = losses.token_loss(words, tokens)
    if view == 0:
        if plan.drawn:
            drawn = torch.from_numpy(np.asarray(known.targets.masks[rows], dtype=np.float32))
            learnt = squared * losses.bernoulli_kl(said.masks, drawn, TEMPERATURE)
            masks = (1 - plan.drawn) * masks + plan.drawn * learnt
        told = np.asarray(known.targets.words[known.targets.word_row[rows[there]]], dtype=np.float32)
        taught = torch.from_numpy(told[:, : tokens.shape[1] - 1])
        report = report + 0.5 * squared * losses.token_kl(words, taught, tokens, TEMPERATURE)
    return findings + plan.masks * masks + plan.report * report


def train(network: Network, examples: Examples, known: Known, *, plan: Round) -> Network:
    """The running average of `network` after one round."""
    torch.manual_seed(plan.seeds[0])
    generator = np.random.default_rng(plan.seeds[1])
    domain = np.array(examples.domain)
    phantoms, kermany, nih = (np.flatnonzero(domain == name) for name in ("phantom", "kermany", "nih"))
    counted = np.concatenate([phantoms, *[kermany] * plan.weighed, nih, nih])
    weights = positive_weights(torch.from_numpy(examples.labels[counted]))
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": free, "weight_decay": 0.0}])
    forward: Any = torch.compile(network)
    batches = (plan.phantoms + plan.kermany * len(kermany) + plan.nih * len(nih)) // BATCH
    total, step = batches * len(plan.views), 0
    for epoch, view in enumerate(plan.views):
        network.train()
        shown = generator.permutation(phantoms)[: plan.phantoms]
        order = generator.permutation(np.concatenate([shown, *[kermany] * plan.kermany, *[nih] * plan.nih]))
        for start in range(0, batches * BATCH, BATCH):
            rows = order[start : start + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = plan.rate * _rate(step / total, plan.warmup)
            batch = make_batch(examples, rows, view)
            said = forward(batch.images.contiguous(memory_format=torch.channels_last))
            loss = loss_of(network, said, batch, known, rows=rows, view=view, weights=weights, plan=plan)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step += 1
            _follow(average, network, min(plan.decay, step / (step + 10)))
            say(f"epoch {epoch + 1}, loss {float(loss.detach()):.3f}", step, total)
    return average


def in_shares(examples: Examples, data: Path | None = None) -> Examples:
    """`examples` with masks in hundredths of a cell: 0 or 100, or for real lungs, with `data`, the share drawn."""
    masks = np.where(examples.masks == UNKNOWN_PIXEL, UNKNOWN_PIXEL, examples.masks * SHARE).astype(np.uint8)
    if data is not None:
        for name, reader in (("kermany", read_kermany), ("covid", read_covid)):
            places = np.flatnonzero(np.array(examples.domain) == name)
            table = reader(data / name) if len(places) else None
            records: dict[str, Any] = {} if table is None else {
                str(row["image_id"]): row for row in table.frame.to_dict("records")
            }
            for place in places:
                read = read_lung_mask(table, records[examples.ids[place]]) if table is not None else None
                sides = None if read is None else split_lungs(read[0])
                for part, side in enumerate(sides or ()):
                    moved = model_frame(*side.shape, size=SIZE).mask_to_model(side)
                    share = moved.reshape(SIZE // 4, 4, SIZE // 4, 4).mean(axis=(1, 3))
                    known = examples.masks[place, part] != UNKNOWN_PIXEL
                    masks[place, part][known] = np.round(share * SHARE)[known]
    return replace(examples, masks=masks)


def _rate(share: float, warmup: float) -> float:
    if share < warmup:
        return share / warmup + 1e-3
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


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
    longer = kept(given.out / "student-longer.safetensors",
                  lambda: train(student, in_shares(examples), known, plan=SECOND))
    last = kept(given.out / "student-last.safetensors",
                lambda: train(longer, in_shares(examples, given.data), known, plan=THIRD))
    script = "recipes/shipped_student.py, then recipes/shipped_student_longer.py"
    write_model(last, real, parts, examples, given.out / "model", version="2", script=script)


if __name__ == "__main__":
    main()
