"""Version 3 of the student that comes with the package: version 2 with a wider branch for outlines, taught on real films.

    python recipes/shipped_student_films.py DATA OUT --start student.safetensors --encoder-weights lite0.safetensors

DATA holds nih/, kermany/ and covid/; `--start` is version 2's student.safetensors (in this repository's history). The split of
NIH and Kermany is that of the rounds before, so a patient unseen then is unseen still. Of the COVID set only those films
take part whose own licence is CC BY (68 of 297 outlined ones); their patients count as seen, all others stay unseen.

A new teacher of lungs, started from ImageNet weights, learns from Kermany, COVID (CC BY) and phantoms. What it draws on all
real training films, NIH's too, teaches a new mask branch of the student. All else is held still, so findings, maps of
evidence and reports are version 2's to the bit. (Rounds that moved the encoder too gained no more on outlines and lost on
validation films of NIH: mean AUROC over 14 findings 0.723 and 0.735 against 0.763.) `--only` runs one stage: the teacher
takes a quarter of an hour on a core, the student three quarters; `control` trains the control of the figures.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shipped_student import SIZE, WORDS, encode, kept, parts_of, say, write_model
from shipped_student_longer import SHARE, _follow, _rate, in_shares
from torch import Tensor

from storyxai.data.assemble import examples_from_phantoms, examples_from_table
from storyxai.data.batches import UNKNOWN_PIXEL, Batch, Examples, join_examples, make_batch
from storyxai.data.sources.covid import read_covid
from storyxai.data.sources.kermany import read_kermany
from storyxai.data.sources.nih import read_nih
from storyxai.data.table import StudyTable, read_lung_mask
from storyxai.models.export import load_network
from storyxai.models.network import Network, NetworkSpec, Outputs
from storyxai.training import losses
from storyxai.training.soft_targets import cache_targets
from storyxai.training.weights import freeze_early_stages, load_encoder_weights, positive_weights

PHANTOM_SEEDS = range(3_000_000, 3_003_000)
BATCH = 32
BRANCH = ("down_16", "from_8", "fuse_8", "from_4", "fuse_4", "mask_head")
OPEN = ("CC BY", "CC BY 3.0", "CC BY 4.0")
FIRST = {"nih": (5000, 1), "kermany": (5000, 2), "covid": (500, 3), "phantom": (900, 1)}
LATER = {"nih": (5000, 1), "kermany": (5000, 3), "covid": (500, 3), "phantom": (600, 1)}
PASSES = ((FIRST, 14, 3e-3, 0.997, 29), (LATER, 12, 2e-3, 0.998, 31), (LATER, 24, 2e-3, 0.998, 37))
"""Of the mask branch: what an epoch shows, epochs, rate, decay of the average, seed. Each starts from the one before; on
validation films of Kermany they ended at Dice 0.945, 0.947 and 0.948 (their teacher: 0.951)."""
Loss = Callable[[Outputs, Batch, NDArray[np.int64], bool], Tensor]
"""Of what was said of a batch, of the rows shown, and whether the batch was changed."""
Change = Callable[[Batch, NDArray[np.int64], np.random.Generator], Batch]


def covid_open(folder: Path) -> StudyTable:
    """The outlined films of the COVID set whose own licence is CC BY."""
    table = read_covid(folder)
    records: list[Any] = table.frame.to_dict("records")
    keep = [str(row["license"]).strip() in OPEN and read_lung_mask(table, row) is not None for row in records]
    return table.select(rows=np.array(keep, dtype=np.bool_))


def prepared(data: Path, path: Path) -> tuple[Examples, Examples, NDArray[np.str_]]:
    """What `prepare` gives, read from `path` where an earlier stage left it."""
    if not path.exists():
        train, real, part = prepare(data)
        named = {f"{name}_{item.name}": np.asarray(getattr(one, item.name))
                 for name, one in (("train", train), ("real", real)) for item in fields(Examples)}
        np.savez(path, part=part, **named)
        return train, real, part
    with np.load(path, allow_pickle=False) as kept_arrays:
        both = []
        for name in ("train", "real"):
            values: dict[str, Any] = {item.name: kept_arrays[f"{name}_{item.name}"] for item in fields(Examples)}
            values |= {key: tuple(values[key].tolist()) for key in ("ids", "patient_ids", "domain")}
            both.append(Examples(**values))
        return both[0], both[1], kept_arrays["part"]


def prepare(data: Path) -> tuple[Examples, Examples, NDArray[np.str_]]:
    """All training examples (real, then phantoms), and the real films with their parts, masks in hundredths of a cell."""
    sets = [examples_from_table(table, size=SIZE, encode=encode, progress=say) for table in
            (read_nih(data / "nih"), read_kermany(data / "kermany"), covid_open(data / "covid"))]
    parts = [parts_of(part.patient_ids, part.labels) for part in sets[:2]] + [np.full(len(sets[2]), "train")]
    # What the COVID set says of findings is a diagnosis of the case, not a reading of the film.
    sets[2] = replace(sets[2], labels=np.full_like(sets[2].labels, np.nan), tokens=np.zeros_like(sets[2].tokens))
    real, part = join_examples(sets), np.concatenate(parts)
    phantoms = examples_from_phantoms(PHANTOM_SEEDS, size=SIZE, phantom_size=256, encode=encode, progress=say)
    train = in_shares(join_examples([real.take(np.flatnonzero(part == "train")), phantoms]), data)
    return train, real, part


def learn(network: Network, train: Examples, loss_of: Loss, *, shown: dict[str, tuple[int, int]], epochs: int, rate: float,
          decay: float, weight_decay: float, seed: int, plain: int = 0, still: bool = False, change: Change | None = None,
          chance: float = 0.0) -> Network:
    """The running average of `network` after training.

    `shown` gives for each set how many of its films an epoch draws, and how often it shows each. Epoch e shows view e + 1,
    but every `plain`-th the films as they are. With `still`, batch norms that learn nothing keep their statistics too.
    With `change` each batch is changed by it with that `chance`, and the loss is told.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    domain = np.array(train.domain)
    places = {name: np.flatnonzero(domain == name) for name in shown}
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    learnt = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ])
    forward: Any = torch.compile(network)
    batches = sum(min(count, len(places[name])) * times for name, (count, times) in shown.items()) // BATCH
    total, step, noted = batches * epochs, 0, 0.0
    for epoch in range(epochs):
        network.train()
        for module in network.modules():
            if still and isinstance(module, torch.nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        view = 0 if plain and (epoch + 1) % plain == 0 else epoch + 1
        rows = np.concatenate([np.tile(generator.permutation(places[name])[:count], times)
                               for name, (count, times) in shown.items()])
        rows = generator.permutation(rows)
        for start in range(0, batches * BATCH, BATCH):
            mine = rows[start : start + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = rate * _rate(step / total, 0.05)
            batch = make_batch(train, mine, view)
            changed = change is not None and bool(generator.random() < chance)
            if change is not None and changed:
                batch = change(batch, mine, generator)
            loss = loss_of(forward(batch.images.contiguous(memory_format=torch.channels_last)), batch, mine, changed)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            step += 1
            noted = 0.95 * noted + 0.05 * float(loss.detach())
            _follow(average, network, min(decay, step / (step + 10)))
            say(f"epoch {epoch + 1}, loss {noted / (1 - 0.95**step):.3f}", step, total)
    return average


def loss_of_masks(said: Outputs, batch: Batch, mine: NDArray[np.int64], changed: bool) -> Tensor:
    """Outlines against shares of cells, sides apart and together."""
    assert said.masks is not None
    return losses.mask_loss(said.masks, batch.masks / SHARE) + losses.union_loss(said.masks, batch.union)


def teach_masks(train: Examples, encoder_weights: Path) -> Network:
    """A teacher of lungs (and, from phantoms, of the heart)."""
    torch.manual_seed(6)
    spec = NetworkSpec(encoder="tf_efficientnet_lite0", size=SIZE, tasks=("masks",), vocabulary=WORDS, width=128, fine_width=64)
    network = Network(spec)
    load_encoder_weights(network, encoder_weights)
    freeze_early_stages(network, stride=4)
    return learn(network, train, loss_of_masks, shown={"kermany": (5000, 1), "covid": (500, 3), "phantom": (200, 1)}, epochs=22,
                 rate=1.5e-3, decay=0.997, weight_decay=0.02, seed=6)


def outlined(train: Examples, teacher: Network, out: Path) -> Examples:
    """`train` with the lungs that the teacher draws on each real film: alone where none are drawn, else half of each.

    Cross-entropy is linear in its target, so half of each is (1 - a) hard + a KL at a = 1/2 and temperature 1, and a target
    that lies with the references moves with them in every view. Hearts of real films stay unknown.
    """
    rows = np.flatnonzero(np.array(train.domain) != "phantom")
    said = cache_targets({"masks": teacher}, train.take(rows), views=1, folder=out / "soft-films", progress=say)[0]
    drawn = SHARE / (1 + np.exp(-np.asarray(said.masks, dtype=np.float32)[:, :2]))
    masks = train.masks.copy()
    known = masks[rows, :2].astype(np.float32)
    stated = (known != UNKNOWN_PIXEL).any(axis=(1, 2, 3), keepdims=True)
    mixed = np.where(known == UNKNOWN_PIXEL, UNKNOWN_PIXEL, np.round(0.5 * known + 0.5 * drawn))
    masks[rows, :2] = np.where(stated, mixed, np.round(drawn)).astype(np.uint8)
    return replace(train, masks=masks)


def draw(version_2: Network, train: Examples) -> Network:
    """Version 2 with a new, wider mask branch; everything else keeps its weights and running statistics."""
    torch.manual_seed(29)
    network = Network(replace(version_2.spec, fine_width=96))
    kept_weights = {name: value for name, value in version_2.state_dict().items() if not name.startswith(BRANCH)}
    network.load_state_dict({**network.state_dict(), **kept_weights})
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(BRANCH))
    for shown, epochs, rate, decay, seed in PASSES:
        network = learn(network, train, loss_of_masks, shown=shown, epochs=epochs, rate=rate, decay=decay, weight_decay=0.01,
                        seed=seed, plain=3, still=True)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(BRANCH))
    return network


def control(train: Examples) -> Network:
    """The same network from scratch on NIH labels alone: what `benchmarks/shipped_figures.py --control` sets beside it."""
    torch.manual_seed(7)
    network = Network(NetworkSpec(encoder="mobilenetv3_small_100", size=SIZE, vocabulary=WORDS))
    weights = positive_weights(torch.from_numpy(train.labels[np.flatnonzero(np.array(train.domain) == "nih")]))

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], changed: bool) -> Tensor:
        assert said.logits is not None
        return losses.finding_loss(said.logits, batch.labels, weights)

    return learn(network, train, loss_of, shown={"nih": (5000, 1)}, epochs=40, rate=2e-3, decay=0.997,
                 weight_decay=0.02, seed=7)


def main() -> None:
    """Train the stages that are asked for, export, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--encoder-weights", type=Path, required=True)
    parser.add_argument("--only", choices=("masks", "student", "control"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train, real, parts = prepared(given.data, given.out / "prepared.npz")
    if given.only == "control":
        plain = kept(given.out / "films-control.safetensors", lambda: control(train))
        write_model(plain, real, parts, train.take(np.flatnonzero(np.array(train.domain) == "nih")), given.out / "control",
                    version="control", script="recipes/shipped_student_films.py --only control")
        return
    masks = kept(given.out / "films-masks.safetensors", lambda: teach_masks(train, given.encoder_weights))
    if given.only == "masks":
        return
    drawn = outlined(train, masks, given.out)
    last = kept(given.out / "films-drawn.safetensors", lambda: draw(load_network(given.start), drawn))
    script = "version 2 (recipes/shipped_student.py, shipped_student_longer.py), then recipes/shipped_student_films.py"
    write_model(last, real, parts, train, given.out / "model", version="3", script=script)


if __name__ == "__main__":
    main()
