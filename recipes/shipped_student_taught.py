"""Version 4 of the student that comes with the package: version 3 taught again, its findings by two new teachers.

    python recipes/shipped_student_taught.py DATA OUT --start student.safetensors --encoder-weights lite0.safetensors

DATA holds nih/, kermany/ and covid/; `--start` is version 3's student.safetensors (in this repository's history). The split is
that of the rounds before, so a patient unseen then is unseen still.

Two EfficientNet-lite0, started from ImageNet weights, learn NIH's findings from its labels and boxes and from the published
answers of a DenseNet-121 (project reproduce-chexnet). The student sees each film in the very view that they see at the same
moment, in some batches mirrored and blended with another film, and learns what they and version 3 answer there on average.
Of phantoms version 3 answers alone, beside their exact references; on outlined films half of the target is its own outline.
Shipped is the mean of version 3's weights and of those that this ends with (validation films: docs/reference/model-card.md).
`--only control` runs the same round with labels in the teachers' place.
The teachers take six minutes each on a core, the student forty on two.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from shipped_student import SIZE, WORDS, kept, write_model
from shipped_student_films import learn, loss_of_masks, outlined, prepared
from torch import Tensor

from storyxai.data.batches import Batch, Examples
from storyxai.data.sources.nih import read_densenet_targets
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.models.export import load_network
from storyxai.models.network import Network, NetworkSpec, Outputs
from storyxai.training import losses
from storyxai.training.distil import standardise
from storyxai.training.soft_targets import TeacherTargets, join_findings
from storyxai.training.weights import load_encoder_weights, positive_weights

TEMPERATURE = 1.5
SHOWN = {"nih": (5000, 3), "kermany": (5000, 2), "covid": (500, 3), "phantom": (1500, 1)}
EPOCHS, RATE, DECAY = 22, 1.5e-3, 0.998


def published(nih: Examples, data: Path) -> Tensor:
    """The DenseNet's log-odds for each film, on the scale of the labels of `nih`; nan where it was not asked."""
    soft = standardise(read_densenet_targets(data / "nih"), nih)
    nothing = np.zeros((0,), np.float16)
    unknown = np.full(nih.labels.shape, np.nan, np.float32)
    blank = TeacherTargets(0, unknown, nothing, nothing, np.full(len(nih), -1))
    return torch.from_numpy(join_findings(blank, soft, nih, NAMES, weight=1.0).findings)


def teach_findings(nih: Examples, data: Path, encoder_weights: Path, *, seed: int) -> Network:
    """A teacher of findings, its running average after 16 epochs; half of the batches are mirrored."""
    torch.manual_seed(seed)
    spec = NetworkSpec(encoder="tf_efficientnet_lite0", size=SIZE, tasks=("findings",), vocabulary=WORDS, width=128)
    network = Network(spec)
    load_encoder_weights(network, encoder_weights)
    told, weights = published(nih, data), positive_weights(torch.from_numpy(nih.labels))

    def loss_of(said: Outputs, batch: Batch, rows: NDArray[np.int64], mirrored: bool) -> Tensor:
        assert said.logits is not None and said.grid is not None
        loss = losses.finding_loss(said.logits, batch.labels, weights) + 0.3 * losses.box_loss(said.grid, batch.cells)
        return loss + TEMPERATURE**2 * losses.bernoulli_kl(said.logits, told[rows], TEMPERATURE)

    return learn(network, nih, loss_of, shown={"nih": (5000, 1)}, epochs=16, rate=1e-3, decay=0.99,
                 weight_decay=0.02, seed=seed, change=flipped, chance=0.5)


def taught(version_3: Network, teachers: Sequence[Network], train: Examples) -> Network:
    """The student: every weight of version 3 may move. Without `teachers` labels take their place, for the control."""
    network = copy.deepcopy(version_3)
    before = copy.deepcopy(version_3).eval().to(memory_format=torch.channels_last)
    masters = [*(teacher.eval().to(memory_format=torch.channels_last) for teacher in teachers), before]
    domain = np.array(train.domain)
    counted = np.concatenate([np.flatnonzero(domain == name) for name in ("phantom", "nih", "nih", "nih")])
    weights = positive_weights(torch.from_numpy(train.labels[counted]))

    def flipped_and_blended(batch: Batch, rows: NDArray[np.int64], generator: np.random.Generator) -> Batch:
        return blended(flipped(batch, rows, generator), np.flatnonzero(domain[rows] != "phantom"), generator)

    def loss_of(said: Outputs, batch: Batch, rows: NDArray[np.int64], mirrored: bool) -> Tensor:
        assert said.logits is not None and said.grid is not None and said.memory is not None
        phantoms = torch.from_numpy(domain[rows] == "phantom")
        films = ~phantoms if mirrored else torch.from_numpy(domain[rows] == "nih")
        films = films & bool(teachers)
        known = torch.full_like(said.logits, torch.nan).detach()
        with torch.no_grad():
            for chosen, asked in ((films, masters), (phantoms, [before])):
                if bool(chosen.any()):
                    shown = batch.images[chosen].contiguous(memory_format=torch.channels_last)
                    answers = [one(shown).logits for one in asked]
                    known[chosen] = torch.stack([answer for answer in answers if answer is not None]).mean(dim=0)
        if mirrored and teachers:  # who is blended with whom is stated, but a teacher's answer says more
            batch = batch._replace(labels=batch.labels.masked_fill(films[:, None], torch.nan))
        share = float((films | phantoms).float().mean())
        loss = share * TEMPERATURE**2 * losses.bernoulli_kl(said.logits, known, TEMPERATURE)
        stated = losses.finding_loss(said.logits, batch.labels, weights) + losses.box_loss(said.grid, batch.cells)
        loss = loss + (0.3 if teachers else 1.0) * stated
        if mirrored:  # sides of lungs and of sentences would be wrong
            return loss
        there = (batch.tokens != 0).any(dim=1)
        tokens = batch.tokens[there]
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]
        words = network.decoder(tokens[:, :-1], said.memory[there])
        return loss + 1.5 * loss_of_masks(said, batch, rows, mirrored) + 0.3 * losses.token_loss(words, tokens)

    return learn(network, train, loss_of, shown=SHOWN, epochs=EPOCHS, rate=RATE, decay=DECAY, weight_decay=0.02, seed=41,
                 plain=3, change=flipped_and_blended, chance=0.4)


def halfway(one: Network, other: Network) -> Network:
    """A network whose weights and running statistics are the mean of both: the second must have started from the first."""
    middle, theirs = copy.deepcopy(one), other.state_dict()
    middle.load_state_dict({name: 0.5 * value + 0.5 * theirs[name] if value.dtype.is_floating_point else value
                            for name, value in one.state_dict().items()})
    return middle


def flipped(batch: Batch, rows: NDArray[np.int64], generator: np.random.Generator) -> Batch:
    """`batch` in the mirror: findings and boxes move along, what has a side would be wrong."""
    return batch._replace(images=batch.images.flip(3), cells=batch.cells.flip(3))


def blended(batch: Batch, films: NDArray[np.int64], generator: np.random.Generator) -> Batch:
    """`batch` with each of its `films` under a fainter other one; labels are blended alike, boxes no longer hold."""
    share, others = 0.5 + 0.5 * float(generator.random()), generator.permutation(films)
    images, labels, cells = batch.images.clone(), batch.labels.clone(), batch.cells.clone()
    images[films] = share * batch.images[films] + (1 - share) * batch.images[others]
    labels[films] = share * batch.labels[films] + (1 - share) * batch.labels[others]
    cells[films] = torch.nan
    return batch._replace(images=images, labels=labels, cells=cells)


def main() -> None:
    """Train the stages that are asked for, export, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--encoder-weights", type=Path, required=True)
    parser.add_argument("--only", choices=("0", "1", "control"), help="this teacher alone; the student without teachers")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train, real, parts = prepared(given.data, given.out / "prepared.npz")
    if given.only == "control":
        version_3 = load_network(given.start)
        drawn = outlined(train, version_3, given.out)
        plain = kept(given.out / "student-untaught.safetensors", lambda: taught(version_3, (), drawn))
        write_model(halfway(version_3, plain), real, parts, train, given.out / "untaught", version="untaught",
                    script="recipes/shipped_student_taught.py --only control")
        return
    nih = train.take(np.flatnonzero(np.array(train.domain) == "nih"))
    teachers = [
        kept(given.out / f"findings-{seed}.safetensors",
             lambda seed=seed: teach_findings(nih, given.data, given.encoder_weights, seed=seed))
        for seed in ((0, 1) if given.only is None else (int(given.only),))
    ]
    if given.only:
        return
    version_3 = load_network(given.start)
    drawn = outlined(train, version_3, given.out)
    last = kept(given.out / "student-taught.safetensors", lambda: taught(version_3, teachers, drawn))
    script = "version 3 (recipes/shipped_student.py, shipped_student_longer.py, shipped_student_films.py), then " \
             "recipes/shipped_student_taught.py"
    write_model(halfway(version_3, last), real, parts, train, given.out / "model", version="4", script=script)


if __name__ == "__main__":
    main()
