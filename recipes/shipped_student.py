"""How the student that comes with the package was trained: run it with a folder that holds nih/ and kermany/.

    python recipes/shipped_student.py DATA OUT --encoder-weights tf_efficientnet_lite0.safetensors

It says more than a recipe in TOML can: the teacher of findings starts from ImageNet weights and also learns from a public
DenseNet-121's predictions, and the teacher of reports stands on the teacher of findings. Patients are split by a hash
within strata of their rarest finding: 65 % train, 10 % validation, 25 % never shown. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from storyxai.data.assemble import examples_from_phantoms, examples_from_table
from storyxai.data.batches import Examples, join_examples
from storyxai.data.sources.kermany import read_kermany
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import vocabulary
from storyxai.models.card import ModelCard, write_card
from storyxai.models.export import export_student, load_network, save_network
from storyxai.models.network import Network, NetworkSpec
from storyxai.models.tokens import encode_tokens, full_vocabulary
from storyxai.programs import pipeline
from storyxai.training.distil import standardise
from storyxai.training.fit import FitConfig, fit
from storyxai.training.soft_targets import TeacherTargets, cache_targets, join_findings
from storyxai.training.weights import freeze_early_stages, load_encoder_weights, positive_weights

SIZE, VIEWS, PHANTOMS = 192, 2, 1500
FRACTIONS = (0.65, 0.10, 0.25)
WORDS = full_vocabulary(vocabulary())


def parts_of(patients: tuple[str, ...], labels: NDArray[np.float32], seed: int = 0) -> NDArray[np.str_]:
    """train, val or test for each image: whole patients, in the order of a hash within each rarest finding."""
    positives = np.nansum(labels, axis=0)
    stratum: dict[str, int] = {}
    for patient, row in zip(patients, labels, strict=True):
        own = [int(f) for f in np.argsort(positives, kind="stable") if positives[f] > 0 and row[f] == 1][:1]
        known = own + ([stratum[patient]] if stratum.get(patient, -1) >= 0 else [])
        stratum[patient] = min(known, key=lambda f: (positives[f], f)) if known else -1
    part = {}
    for which in sorted(set(stratum.values())):
        group = [patient for patient in stratum if stratum[patient] == which]
        group.sort(key=lambda patient: hashlib.sha256(f"{seed}|{unpadded(patient)}".encode()).hexdigest())
        for i, patient in enumerate(group):
            share = (i + 0.5) / len(group)
            part[patient] = "test" if share < FRACTIONS[2] else "val" if share < FRACTIONS[1] + FRACTIONS[2] else "train"
    return np.array([part[patient] for patient in patients])


def unpadded(patient: str) -> str:
    """A patient id without leading zeros ("nih-61"): the form that the split was drawn with."""
    return re.sub(r"^nih-0+", "nih-", patient)


def encode(tokens: object) -> NDArray[np.int64]:
    """The words of a report as numbers."""
    return encode_tokens(tokens, WORDS, length=64)  # type: ignore[arg-type]


def say(step: str, done: int, total: int) -> None:
    """A line at every tenth."""
    if done % max(1, total // 10) == 0:
        sys.stderr.write(f"{step} ({done}/{total})\n")


def train_teachers(uniq: Examples, data: Path, out: Path, encoder_weights: Path) -> dict[str, Network]:
    """The three teachers, read from `out` where they are already there."""
    domain = np.array(uniq.domain)
    twice = np.flatnonzero(domain == "nih")
    kermany = np.flatnonzero(domain == "kermany")
    rows = np.concatenate([np.flatnonzero(domain == "phantom"), kermany, twice, twice])
    train = uniq.take(rows)
    empty = np.zeros((0,), np.float16)
    unknown = np.full(train.labels.shape, np.nan, np.float32)
    soft = standardise(read_densenet_targets(data / "nih"), train)
    public = join_findings(
        TeacherTargets(0, unknown, empty, empty, np.full(len(train), -1)), soft, train, NAMES, weight=1.0
    )
    findings = Network(NetworkSpec(
        encoder="tf_efficientnet_lite0", size=SIZE, tasks=("findings",), vocabulary=WORDS, width=128
    ))
    load_encoder_weights(findings, encoder_weights)
    freeze_early_stages(findings, stride=8)
    config = FitConfig(epochs=6, learning_rate=7e-4, task_weights=(1.0, 1.0, 1.0, 0.3), temperature=1.5)
    weights = positive_weights(torch.from_numpy(train.labels)).numpy()
    findings = kept(out / "teacher-findings.safetensors", lambda: fit(
        findings, train, config=config, targets=(public,), positive_weights=weights, name="teacher findings", progress=say
    ).network)
    masks = Network(NetworkSpec(size=SIZE, tasks=("masks",), vocabulary=WORDS, width=128, fine_width=64))
    outlined = uniq.take(np.concatenate([np.flatnonzero(domain == "phantom")[:800], kermany]))
    config = FitConfig(epochs=7, learning_rate=2e-3, task_weights=(1.0, 1.0, 1.0, 0.3))
    masks = kept(out / "teacher-masks.safetensors", lambda: fit(
        masks, outlined, config=config, name="teacher masks", progress=say
    ).network)
    report = Network(NetworkSpec(
        encoder="tf_efficientnet_lite0", size=SIZE, tasks=("report",), vocabulary=WORDS, width=128
    ))
    shared = {name: value for name, value in findings.state_dict().items() if name in report.state_dict()}
    report.load_state_dict({**report.state_dict(), **shared})
    for name, parameter in report.named_parameters():
        parameter.requires_grad_(name.startswith("decoder"))
    told = uniq.take(np.flatnonzero(domain != "kermany"))
    config = FitConfig(epochs=6, learning_rate=2e-3, task_weights=(1.0, 1.0, 1.0, 0.0))
    report = kept(out / "teacher-report.safetensors", lambda: fit(
        report, told, config=config, name="teacher report", progress=say
    ).network)
    return {"findings": findings, "masks": masks, "report": report}


def kept(path: Path, train) -> Network:  # type: ignore[no-untyped-def]
    """The network at `path`, trained and written first where it is not there."""
    if not path.exists():
        save_network(train(), path)
    return load_network(path)


def train_student(uniq: Examples, teachers: dict[str, Network], data: Path, out: Path) -> Network:
    """The student, from labels and the teachers' cached answers to two exact views."""
    whole = cache_targets(teachers, uniq, views=1, folder=out / "soft", progress=say)[0]
    # The second view has the teacher of findings only: masks and words are learnt there from references alone.
    second = cache_targets({"findings": teachers["findings"]}, uniq, views=VIEWS, folder=out / "soft", progress=say)[1]
    soft = standardise(read_densenet_targets(data / "nih"), uniq)
    targets = tuple(join_findings(item, soft, uniq, NAMES, weight=0.6) for item in (whole, second))
    order = np.concatenate([np.arange(len(uniq)), np.flatnonzero(np.array(uniq.domain) == "nih")])
    train = uniq.take(order)
    repeated = tuple(
        replace(t, findings=t.findings[order], masks=np.asarray(t.masks)[order] if len(t.masks) else t.masks,
                word_row=t.word_row[order])
        for t in targets
    )
    torch.manual_seed(17)
    config = FitConfig(
        epochs=6, learning_rate=2.5e-3, batch_size=48, views=VIEWS, temperature=2.0, mixing=0.6,
        task_weights=(1.0, 0.5, 0.3, 0.3),
    )
    weights = positive_weights(torch.from_numpy(train.labels)).numpy()
    student = Network(NetworkSpec(encoder="mobilenetv3_small_100", size=SIZE, vocabulary=WORDS))
    return kept(out / "student.safetensors", lambda: fit(
        student, train, config=config, targets=repeated, positive_weights=weights, name="student", progress=say
    ).network)


def write_model(
    student: Network, real: Examples, parts: NDArray[np.str_], uniq: Examples, folder: Path, *, version: str = "1",
    script: str = "recipes/shipped_student.py",
) -> ModelCard:
    """The exported student with its card, calibrated on the NIH validation patients."""
    folder.mkdir(parents=True, exist_ok=True)
    files = export_student(student, folder)
    validation = real.take(np.flatnonzero(parts == "val"))
    card = ModelCard(
        "storyxai-student", version, student.spec.as_dict(), files,
        pipeline.calibration_of(student, validation, domain="nih"), pipeline.training_sets(uniq),
        pipeline.limits_of(pipeline.training_sets(uniq)),
        pipeline.CANNOT_SEE,
        training={
            "seed": 0, "script": script, "teacher_of_findings": "EfficientNet-lite0, ImageNet start",
            "public_soft_targets": "DenseNet-121 of the project reproduce-chexnet (BSD-3-Clause), training patients only",
            "report_text": "storyxai's own grammar; Open-i text is CC BY-NC-ND and was not used",
            "patients": sorted({pipeline.patient_mark(p) for p, part in zip(real.patient_ids, parts, strict=True)
                                if part != "test"}),
        },
        licence="Apache-2.0",
    )
    write_card(card, folder)
    return card


def main() -> None:
    """Train, export, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder-weights", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sets = [examples_from_table(reader(given.data / name), size=SIZE, encode=encode, progress=say)
            for name, reader in (("nih", read_nih), ("kermany", read_kermany))]
    parts = np.concatenate([parts_of(part.patient_ids, part.labels) for part in sets])
    real = join_examples(sets)
    seeds = range(1_000_000, 1_000_000 + PHANTOMS)
    phantoms = examples_from_phantoms(seeds, size=SIZE, phantom_size=256, encode=encode, progress=say)
    uniq = join_examples([phantoms, real.take(np.flatnonzero(parts == "train"))])
    teachers = train_teachers(uniq, given.data, given.out, given.encoder_weights)
    student = train_student(uniq, teachers, given.data, given.out)
    card = write_model(student, real, parts, uniq, given.out / "model")
    sys.stdout.write(f"{replace(card).model_id}\n")


if __name__ == "__main__":
    main()
