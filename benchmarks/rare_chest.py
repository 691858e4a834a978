"""What helps a finding of the chest with few positives: heads on what ImageNet's encoder sees of NIH's natural mix, five ways.

    python benchmarks/rare_chest.py lite0.safetensors ../shared/data/nih128 --out results/shipped/rare-chest.json
    python benchmarks/rare_chest.py lite0.safetensors ../shared/data/nih128 ../shared/data/nih64 \\
        --out results/shipped/rare-chest-both.json

Written and committed before any of its figures was seen, and run once. The encoder is tf_efficientnet_lite0 as it comes from
ImageNet, never the student that is shipped, which learnt from these films. Films at 128 px go through it once; means and
maxima at strides 16 and 32, in the span of their first 128 components (of all films, without their labels), are the columns
of a logistic head that is held by half its squared length (`rare_heads.py`, whose functions these are). Where two sets are
given all films are brought to 64 px first and enlarged again, so that no head can tell the sets by their sharpness.

Judged are the findings with fewer than 1 % positives: of nih128's 8,317 films pneumonia (13 of 10 patients), hernia (13 of 8)
and oedema (82 of 49). For contrast, those with 1 to 2 %: emphysema (163 of 93). The second command has more patients of the
two rarest (pneumonia 20 of 17, hernia 34 of 18) on coarser films; there oedema, 1.2 %, is the contrast. Folds: five, by
patient, as the product deals them.

- plain: cross-entropy;
- balanced: positives weigh as much in all as negatives, what sampling them alike comes to;
- asymmetric: the asymmetric loss of `training/losses.py`;
- teacher: beside the labels the log-odds of a public DenseNet-121 on those films of the training part for which it answered
  (about a fifth). It learnt from the training part of all of NIH, so from most of these films and their labels: what it adds
  is no clean evidence. The films that it answered for it did not learn from; figures on these alone are told too;
- phantoms: 200 rendered chests in the training part, half of them with the finding. The phantoms know oedema; they know no
  pneumonia, hernia or emphysema, which go without this way.

How strongly a head is held is chosen for each way, fold and finding by three folds of the training part (largest AUROC). What
the heads of a fold say is told in standard deviations of what the training part's films without the finding got in those
three folds, so that folds can be ranked together. The threshold of a fold leaves 0.90 of these same films below it: films of
other patients.

Told: AUROC, average precision, sensitivity and specificity at that threshold; differences to plain; the mean AUROC over the
rare findings. 95 % intervals, 1,000 resamples of patients, the same for all. A way helps with a finding if the interval of
its AUROC less plain's lies above zero. Nothing is corrected for the number of comparisons; the intervals hold folds and fits
fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count as counted
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from rare_heads import (
    COUNT,
    FOLDS,
    PHANTOMS,
    WAYS,
    Known,
    answered,
    dealt,
    inner_answers,
    mean_of,
    opened,
    ranked_best,
    seen_of,
    spanned,
)
from storyxai.data.sources.nih import read_densenet_targets, read_nih
from storyxai.metrics.bootstrap import (
    Estimate,
    Resamples,
    Statistic,
    draw_resamples,
    estimate,
    estimate_ranking,
    estimate_share,
    gap_between,
)
from storyxai.metrics.classification import (
    auroc_statistic,
    average_precision_statistic,
    sensitivity_statistic,
    specificity_statistic,
)
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.phantoms.generate import FINDINGS, generate_phantom, planned
from storyxai.provenance import canonical_json

SIDE, COARSE = 128, 64
RARE, CONTRAST, SPECIFICITY = 0.01, 0.02, 0.90
STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
"""From lower on than those of `rare_heads.py`: here are eighty times as many films, and what a head loses is their sum."""
FIRST_PHANTOM = 800_000
_Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Films:
    """Films of one or more NIH folders: their files, patients, labels and the DenseNet's log-odds (nan: none), both [N, F]."""

    paths: list[Path]
    patients: list[str]
    labels: _Float
    answers: _Float

    @classmethod
    def of(cls, folders: list[Path]) -> Films:
        """The films of all folders, one after another."""
        films = cls([], [], np.empty((0, len(NAMES))), np.empty((0, len(NAMES))))
        for folder in folders:
            films = films.with_those_of(folder)
        return films

    def with_those_of(self, folder: Path) -> Films:
        """These films and those of another folder."""
        table, targets = read_nih(folder), read_densenet_targets(folder)
        rows = table.frame.to_dict("records")
        told = dict(zip(targets.ids, targets.logits, strict=True))
        nothing = np.full(len(NAMES), np.nan, dtype=np.float32)
        return Films(
            self.paths + [table.image_path(row) for row in rows],
            self.patients + [str(row["patient_id"]) for row in rows],
            np.concatenate([self.labels, table.labels().values]),
            np.concatenate([self.answers, np.stack([told.get(str(row["study_id"]), nothing) for row in rows])]),
        )

    def findings(self, below: float) -> list[str]:
        """The findings with fewer positives than this share, the rarest first."""
        share = (self.labels >= 0.5).mean(axis=0)
        return [NAMES[place] for place in np.argsort(share) if 0 < share[place] < below]


def coarsened(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture brought to COARSE and enlarged again. Shapes: uint8 [3, S, S]."""
    shown = Picture.fromarray(picture.transpose(1, 2, 0)).resize((COARSE, COARSE), Picture.Resampling.BILINEAR)
    return np.asarray(shown.resize((SIDE, SIDE), Picture.Resampling.BILINEAR)).transpose(2, 0, 1)


def phantom_pictures(name: str) -> tuple[list[NDArray[np.uint8]], _Float]:
    """PHANTOMS rendered chests, the first half with the finding, and whether they have it."""
    half = PHANTOMS // 2
    seeds = [
        seed for has in (True, False)
        for seed in islice((one for one in counted(FIRST_PHANTOM) if (name in planned(one)[0]) == has), half)
    ]  # fmt: skip
    grey = [(generate_phantom(seed, size=SIDE).image.pixels * 255).astype(np.uint8) for seed in seeds]
    return [np.stack([one] * 3) for one in grey], np.repeat([1.0, 0.0], half)


def chest(films: Films, judged: list[str], weights: Path, *, coarse: bool) -> Known:
    """What the encoder sees of all films and of phantoms of the one judged finding that they know."""
    known = [name for name in judged if name in FINDINGS]
    assert len(known) <= 1, "phantoms are made for one finding"
    made, has = phantom_pictures(known[0]) if known else ([], np.empty(0))
    pictures = [opened(path, SIDE) for path in films.paths] + made
    seen, _ = seen_of(weights, [coarsened(one) for one in pictures] if coarse else pictures)
    labels = {name: np.concatenate([films.labels[:, NAMES.index(name)], has]) for name in judged}
    fold = dealt(films.patients, films.labels)

    def teacher(name: str, inside: NDArray[np.int64]) -> _Float:
        told = np.full(len(fold), np.nan)
        told[inside] = films.answers[inside, NAMES.index(name)]
        return told

    return Known(spanned(seen, len(fold)), labels, films.patients, fold, teacher)


def out_of_fold(known: Known, name: str, way: str) -> tuple[_Float, NDArray[np.float64]]:
    """What heads say of each film whose patient they have not met, in deviations of absent films, and its fold's threshold.

    Shapes: both [N].
    """
    said, threshold = np.zeros(len(known.fold)), np.zeros(len(known.fold))
    nobody = np.empty(0, dtype=np.int64)
    for number in range(FOLDS):
        inside, asked = np.flatnonzero(known.fold != number), np.flatnonzero(known.fold == number)
        tried = [inner_answers(known, name, way, strength, inside, nobody) for strength in STRENGTHS]
        best = ranked_best(known.labels[name][inside], tried)
        absent = tried[best][known.labels[name][inside] < 0.5]
        answers = answered(known, name, way, (inside, nobody, asked), STRENGTHS[best])
        said[asked] = (answers - absent.mean()) / absent.std()
        threshold[asked] = (np.quantile(absent, SPECIFICITY) - absent.mean()) / absent.std()
    return said, threshold


@dataclass(frozen=True, eq=False)
class Judge:
    """Truth of one finding, the films that the teacher had not learnt from, and the resamples of patients."""

    truth: _Float
    clean: NDArray[np.bool_]
    patients: NDArray[np.str_]
    resamples: Resamples

    def statistics(self, said: _Float, threshold: _Float) -> dict[str, Statistic]:
        """All figures of one way."""
        return {
            "auroc": auroc_statistic(self.truth, said),
            "average precision": average_precision_statistic(self.truth, said),
            "sensitivity": sensitivity_statistic(self.truth, said - threshold, threshold=0.0),
            "specificity": specificity_statistic(self.truth, said - threshold, threshold=0.0),
            "auroc, films new to the teacher": auroc_statistic(np.where(self.clean, self.truth, np.nan), said),
        }

    def people(self, films: NDArray[np.bool_]) -> tuple[int, int]:
        """How many patients have it on one of the films, and how many lack it on one."""
        return len(set(self.patients[films & (self.truth >= 0.5)])), len(set(self.patients[films & (self.truth < 0.5)]))

    def estimated(self, what: str, statistic: Statistic, *, gap: bool) -> Estimate:
        """A figure or a difference of two, with an interval where there are patients enough for one."""
        films = self.clean if "new to" in what else np.ones(len(self.clean), dtype=np.bool_)
        if what.startswith("auroc"):
            return estimate_ranking(statistic, self.resamples, patients=[self.people(films)], difference=gap)
        if gap or what == "average precision":
            return estimate(statistic, self.resamples)
        return estimate_share(statistic, self.resamples, patients=self.people(films)[what == "specificity"])


def judge_way(judge: Judge, mine: dict[str, Statistic], plain: dict[str, Statistic] | None) -> Iterator[tuple[str, Estimate]]:
    """Every figure of a way, and what it has more than plain."""
    for what, statistic in mine.items():
        yield what, judge.estimated(what, statistic, gap=False)
        if plain is not None:
            yield f"{what}, more than plain", judge.estimated(what, gap_between(statistic, plain[what]), gap=True)


def ways_for(name: str) -> list[str]:
    """The ways that can be tried for a finding."""
    return [way for way in WAYS if way != "phantoms" or name in FINDINGS]


def say(name: str, way: str, found: dict[str, Estimate]) -> None:
    """A line a figure."""
    for what, one in found.items():
        low, high = one.interval or (float("nan"), float("nan"))
        print(f"{name:11s} {way:11s} {what:50s} {one.value} [{low:.3f}, {high:.3f}]", flush=True)


def together(areas: dict[str, dict[str, Statistic]], resamples: Resamples) -> dict[str, dict[str, object]]:
    """The mean AUROC over findings of each way that all of them have, less that of plain."""
    shared = [way for way in WAYS if all(way in of for of in areas.values())]
    means = {way: mean_of([of[way] for of in areas.values()]) for way in shared}
    found = {
        way: {"auroc": estimate(mean, resamples)}
        | ({} if way == "plain" else {"auroc, more than plain": estimate(gap_between(mean, means["plain"]), resamples)})
        for way, mean in means.items()
    }
    for way, figures in found.items():
        say("all rare", way, figures)
    return {way: {what: asdict(one) for what, one in figures.items()} for way, figures in found.items()}


def judged_all(films: Films, known: Known, names: list[str]) -> dict[str, object]:
    """Every finding, way and figure."""
    patients, clean = np.array(films.patients), np.asarray(~np.isnan(films.answers).any(axis=1), dtype=np.bool_)
    resamples = draw_resamples(films.patients, count=COUNT, seed=0)
    rare = films.findings(RARE)
    areas: dict[str, dict[str, Statistic]] = {}
    record: dict[str, object] = {}
    for name in names:
        judge = Judge(known.labels[name][: len(patients)], clean, patients, resamples)
        made = {way: judge.statistics(*out_of_fold(known, name, way)) for way in ways_for(name)}
        areas[name] = {way: one["auroc"] for way, one in made.items()}
        about: dict[str, object] = {
            "positives": int((judge.truth >= 0.5).sum()), "patients": judge.people(np.ones(len(clean), dtype=np.bool_))[0],
            "positives new to the teacher": int((judge.truth[clean] >= 0.5).sum()),
        }  # fmt: skip
        for way, one in made.items():
            found = dict(judge_way(judge, one, None if way == "plain" else made["plain"]))
            say(name, way, found)
            about[way] = {what: asdict(figure) for what, figure in found.items()}
        record[name] = about
    mean = together({name: areas[name] for name in rare}, resamples)
    return {"films": len(patients), "patients": len(set(films.patients)), "rare": rare, "findings": record,
            "mean of the rare": mean}  # fmt: skip


def main() -> None:
    """See, fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.manual_seed(0)
    films = Films.of(asked.folders)
    names = films.findings(CONTRAST)
    known = chest(films, names, asked.weights, coarse=len(asked.folders) > 1)
    record = judged_all(films, known, names)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_bytes(canonical_json(record))


if __name__ == "__main__":
    main()
