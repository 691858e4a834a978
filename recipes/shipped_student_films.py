"""The fourth and fifth round of the student that comes with the package: real films, from the weights of version 2.

    python recipes/shipped_student_films.py DATA OUT --start student.safetensors --encoder-weights lite0.safetensors

DATA holds nih/, kermany/ and covid/; `--start` is version 2's student.safetensors (in this repository's history). The split of
NIH and Kermany is that of the rounds before, so a patient unseen then is unseen still. Of the COVID set only those films
take part whose own licence is CC BY (68 of 297 outlined ones); their patients count as seen, all others stay unseen.

Two new teachers, both started from ImageNet weights: one of findings, from NIH labels, boxes and the public DenseNet-121's
predictions, and one of lungs, from Kermany, COVID (CC BY) and phantoms. The first is averaged with version 2 itself; they
answer for all real training films, so a film without outlines still teaches lungs and a film without labels still teaches
findings. Phantoms teach by their exact references alone. The fifth round starts halfway between the fourth and version 2
(`settle` says why). `--only` runs one stage, so the teachers can be trained side by
side, a core each: about a quarter of an hour for either, twice that for the student. `--only control` trains the control of
the figures.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
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
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.data.table import StudyTable, read_lung_mask
from storyxai.findings import NAMES
from storyxai.models.export import load_network
from storyxai.models.network import Network, NetworkSpec, Outputs
from storyxai.training import losses
from storyxai.training.distil import standardise
from storyxai.training.soft_targets import TeacherTargets, cache_targets, join_findings
from storyxai.training.weights import freeze_early_stages, load_encoder_weights, positive_weights

PHANTOM_SEEDS = range(3_000_000, 3_003_000)
VIEWS, BATCH, TEMPERATURE = 5, 32, 2.0
OPEN = ("CC BY", "CC BY 3.0", "CC BY 4.0")
Loss = Callable[[Outputs, Batch, NDArray[np.int64], int], Tensor]


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
          decay: float, weight_decay: float, seed: int, plain: int = 0, flips: bool = False) -> Network:
    """The running average of `network` after training.

    `shown` gives for each set how many of its films an epoch draws, and how often it shows each. Epoch e shows view e + 1,
    but every `plain`-th the films as they are; with `flips` half of them are mirrored, which findings but not sides survive.
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
        view = 0 if plain and (epoch + 1) % plain == 0 else epoch + 1
        rows = np.concatenate([np.tile(generator.permutation(places[name])[:count], times)
                               for name, (count, times) in shown.items()])
        rows = generator.permutation(rows)
        for start in range(0, batches * BATCH, BATCH):
            mine = rows[start : start + BATCH]
            for group in optimizer.param_groups:
                group["lr"] = rate * _rate(step / total, 0.05)
            batch = make_batch(train, mine, view)
            if flips:
                mirrored = torch.from_numpy(generator.random(len(mine)) < 0.5).view(-1, 1, 1, 1)
                batch = batch._replace(images=torch.where(mirrored, batch.images.flip(3), batch.images),
                                       cells=torch.where(mirrored, batch.cells.flip(3), batch.cells))
            loss = loss_of(forward(batch.images.contiguous(memory_format=torch.channels_last)), batch, mine, view)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            step += 1
            noted = 0.95 * noted + 0.05 * float(loss.detach())
            _follow(average, network, min(decay, step / (step + 10)))
            say(f"epoch {epoch + 1}, loss {noted / (1 - 0.95**step):.3f}", step, total)
    return average


def published(train: Examples, data: Path) -> TeacherTargets:
    """The public DenseNet-121's answers for the training films that it was asked about, nan elsewhere."""
    empty = np.zeros((0,), np.float16)
    nobody = TeacherTargets(0, np.full(train.labels.shape, np.nan, np.float32), empty, empty, np.full(len(train), -1))
    soft = standardise(read_densenet_targets(data / "nih"), train)
    return join_findings(nobody, soft, train, NAMES, weight=1.0)


def teach_findings(train: Examples, data: Path, encoder_weights: Path) -> Network:
    """A teacher of findings for real films."""
    torch.manual_seed(5)
    network = Network(NetworkSpec(encoder="tf_efficientnet_lite0", size=SIZE, tasks=("findings",), vocabulary=WORDS, width=128))
    load_encoder_weights(network, encoder_weights)
    freeze_early_stages(network, stride=8)
    soft = torch.from_numpy(published(train, data).findings)
    rows = np.flatnonzero(np.array(train.domain) == "nih")
    weights = positive_weights(torch.from_numpy(train.labels[rows]))

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], view: int) -> Tensor:
        assert said.logits is not None and said.grid is not None
        hard = losses.finding_loss(said.logits, batch.labels, weights) + 0.3 * losses.box_loss(said.grid, batch.cells)
        return 0.6 * hard + 4.0 * losses.bernoulli_kl(said.logits, soft[mine], 1.5)

    return learn(network, train, loss_of, shown={"nih": (5000, 1), "kermany": (150, 1), "phantom": (250, 1)}, epochs=26,
                 rate=8e-4, decay=0.997, weight_decay=0.05, seed=5, flips=True)


def teach_masks(train: Examples, encoder_weights: Path) -> Network:
    """A teacher of lungs (and, from phantoms, of the heart)."""
    torch.manual_seed(6)
    spec = NetworkSpec(encoder="tf_efficientnet_lite0", size=SIZE, tasks=("masks",), vocabulary=WORDS, width=128, fine_width=64)
    network = Network(spec)
    load_encoder_weights(network, encoder_weights)
    freeze_early_stages(network, stride=4)

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], view: int) -> Tensor:
        assert said.masks is not None
        return losses.mask_loss(said.masks, batch.masks / SHARE) + losses.union_loss(said.masks, batch.union)

    return learn(network, train, loss_of, shown={"kermany": (5000, 1), "covid": (500, 3), "phantom": (200, 1)}, epochs=22,
                 rate=1.5e-3, decay=0.997, weight_decay=0.02, seed=6)


def ask(train: Examples, findings: Sequence[Network], data: Path, out: Path) -> NDArray[np.float32]:
    """The teachers' logits for each real film, nan for phantoms, whose references are exact.

    A teacher's answer is its mean over five mild views and holds for every view of the film, as a label does. The new
    teacher speaks of NIH films alone, version 2 of all; where both speak they are averaged, and once more with the public
    DenseNet-121 where that knows the film.
    """
    domain = np.array(train.domain)
    heard = []
    for teacher, rows in zip(findings, (np.flatnonzero(domain == "nih"), np.flatnonzero(domain != "phantom")), strict=True):
        said = cache_targets({"findings": teacher}, train.take(rows), views=VIEWS, folder=out / "soft-films", progress=say)
        logits = np.full(train.labels.shape, np.nan, np.float32)
        logits[rows] = np.mean([one.findings for one in said], axis=0)
        heard.append(logits)
    both = np.stack(heard)
    spoken = (~np.isnan(both)).sum(axis=0)
    mean = np.where(spoken > 0, np.nansum(both, axis=0) / np.maximum(spoken, 1), np.nan).astype(np.float32)
    empty = np.zeros((0,), np.float16)
    targets = TeacherTargets(0, mean, empty, empty, np.full(len(train), -1))
    soft = standardise(read_densenet_targets(data / "nih"), train)
    return join_findings(targets, soft, train, NAMES, weight=0.5).findings


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


def distil(student: Network, train: Examples, answers: NDArray[np.float32]) -> Network:
    """The student after its round on real films."""
    counted = np.flatnonzero(np.isin(np.array(train.domain), ("nih", "phantom")))
    weights = positive_weights(torch.from_numpy(train.labels[counted]))
    squared, taught = TEMPERATURE * TEMPERATURE, torch.from_numpy(answers)

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], view: int) -> Tensor:
        assert said.logits is not None and said.grid is not None and said.masks is not None and said.memory is not None
        hard = losses.finding_loss(said.logits, batch.labels, weights) + 0.3 * losses.box_loss(said.grid, batch.cells)
        findings = 0.5 * hard + squared * losses.bernoulli_kl(said.logits, taught[mine], TEMPERATURE)
        masks = losses.mask_loss(said.masks, batch.masks / SHARE) + losses.union_loss(said.masks, batch.union)
        there = np.flatnonzero((batch.tokens != 0).any(dim=1).numpy())
        tokens = batch.tokens[there]
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
        report = losses.token_loss(student.decoder(tokens[:, :-1], said.memory[there]), tokens)
        return findings + 1.2 * masks + 0.4 * report

    shown = {"nih": (5000, 2), "kermany": (5000, 1), "covid": (500, 3), "phantom": (900, 1)}
    return learn(student, train, loss_of, shown=shown, epochs=30, rate=1.5e-3, decay=0.998, weight_decay=0.03, seed=19,
                 plain=4)


def halfway(one: Network, other: Network, train: Examples) -> Network:
    """The network halfway between two of one training path, its batch norms' statistics taken anew."""
    mean = copy.deepcopy(one)
    second = other.state_dict()
    mean.load_state_dict({name: (value + second[name]) / 2 if value.dtype.is_floating_point else value
                          for name, value in one.state_dict().items()})
    generator, domain = np.random.default_rng(1), np.array(train.domain)
    rows = np.concatenate([generator.choice(np.flatnonzero(domain == name), count, replace=False)
                           for name, count in (("nih", 400), ("kermany", 250), ("phantom", 250))])
    rows = generator.permutation(rows)
    for module in mean.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean of all batches
    mean.train()
    with torch.no_grad():
        for place in range(0, len(rows), 50):
            mean(make_batch(train, rows[place : place + 50], 1 + place // 50 % 5).images)
    for module in mean.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    return mean


def settle(student: Network, version_2: Network, train: Examples, data: Path, out: Path) -> Network:
    """The last round: outlines weigh most, and what is said of findings is held to version 2, which ranks unseen films best.

    On validation films the round before had lost there what it gained on phantoms and outlines: a teacher that has learnt
    849 films by heart has little to say of them. So NIH labels teach nothing here.
    """
    rows = np.flatnonzero(np.array(train.domain) != "phantom")
    said = cache_targets({"findings": version_2}, train.take(rows), views=VIEWS, folder=out / "soft-films", progress=say)
    logits = np.full(train.labels.shape, np.nan, np.float32)
    logits[rows] = np.mean([one.findings for one in said], axis=0)
    empty = np.zeros((0,), np.float16)
    targets = TeacherTargets(0, logits, empty, empty, np.full(len(train), -1))
    soft = standardise(read_densenet_targets(data / "nih"), train)
    taught = torch.from_numpy(join_findings(targets, soft, train, NAMES, weight=0.3).findings)
    exact = torch.from_numpy(np.array(train.domain) == "phantom").view(-1, 1)
    weights = positive_weights(torch.from_numpy(train.labels[~np.isin(np.arange(len(train)), rows)]))
    squared = TEMPERATURE * TEMPERATURE

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], view: int) -> Tensor:
        assert said.logits is not None and said.grid is not None and said.masks is not None and said.memory is not None
        labels = batch.labels.masked_fill(~exact[mine], torch.nan)
        hard = losses.finding_loss(said.logits, labels, weights) + 0.3 * losses.box_loss(said.grid, batch.cells)
        findings = 0.5 * hard + 1.5 * squared * losses.bernoulli_kl(said.logits, taught[mine], TEMPERATURE)
        masks = losses.mask_loss(said.masks, batch.masks / SHARE) + losses.union_loss(said.masks, batch.union)
        there = np.flatnonzero((batch.tokens != 0).any(dim=1).numpy())
        tokens = batch.tokens[there]
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
        report = losses.token_loss(student.decoder(tokens[:, :-1], said.memory[there]), tokens)
        return findings + 2.5 * masks + 0.3 * report

    shown = {"nih": (5000, 1), "kermany": (5000, 2), "covid": (500, 3), "phantom": (600, 1)}
    return learn(student, train, loss_of, shown=shown, epochs=12, rate=1.2e-3, decay=0.997, weight_decay=0.02, seed=23, plain=3)


def control(train: Examples) -> Network:
    """The same network from scratch on NIH labels alone: what `benchmarks/shipped_figures.py --control` sets beside it."""
    torch.manual_seed(7)
    network = Network(NetworkSpec(encoder="mobilenetv3_small_100", size=SIZE, vocabulary=WORDS))
    weights = positive_weights(torch.from_numpy(train.labels[np.flatnonzero(np.array(train.domain) == "nih")]))

    def loss_of(said: Outputs, batch: Batch, mine: NDArray[np.int64], view: int) -> Tensor:
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
    parser.add_argument("--only", choices=("findings", "masks", "student", "control"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train, real, parts = prepared(given.data, given.out / "prepared.npz")
    if given.only == "control":
        plain = kept(given.out / "films-control.safetensors", lambda: control(train))
        write_model(plain, real, parts, train.take(np.flatnonzero(np.array(train.domain) == "nih")), given.out / "control",
                    version="control", script="recipes/shipped_student_films.py --only control")
        return
    findings = masks = None
    if given.only != "masks":
        findings = kept(given.out / "films-findings.safetensors",
                        lambda: teach_findings(train, given.data, given.encoder_weights))
    if given.only != "findings":
        masks = kept(given.out / "films-masks.safetensors", lambda: teach_masks(train, given.encoder_weights))
    if findings is None or masks is None:
        return
    version_2 = load_network(given.start)
    answers = ask(train, (findings, version_2), given.data, given.out)
    drawn = outlined(train, masks, given.out)
    student = kept(given.out / "films-student.safetensors", lambda: distil(load_network(given.start), drawn, answers))
    last = kept(given.out / "films-settled.safetensors",
                lambda: settle(halfway(version_2, student, train), version_2, drawn, given.data, given.out))
    script = "version 2 (recipes/shipped_student.py, shipped_student_longer.py), then recipes/shipped_student_films.py"
    write_model(last, real, parts, train, given.out / "model", version="3", script=script)


if __name__ == "__main__":
    main()
