"""Who is missed, and what can be done where nothing is trained again: python benchmarks/remedies.py [DATA] [--write]

Stated before any of its figures was seen, and run once. The films are NIH's natural mix (nih128, nih64), the answers those of
`results/shipped/out_of_fold.npz`, out of fold. Groups: sex; age (18-39, 40-59, 60-79); view; origin. For each attribute, over
the findings with ten cases or more in each of its groups:

- ranking: the mean AUROC in a group;
- found: the share of all cases (a film, a finding that it has) at or above the review threshold of 0.135;
- raised: the share of all films and findings without the finding that are at or above it.

A gap is the largest minus the smallest value over an attribute's groups; chance alone makes it larger than zero, so what counts
is how a remedy changes it. Everything that a remedy fits is fitted to other patients (five parts, as the calibration is).

- none: one scale and bias a finding, as shipped;
- calibrated by group: scale and bias of the group where it has 20 cases of the finding, else those of all;
- patient known: a logistic model of the finding from its log-odds, sex, age and view (the last three pulled weakly to 0);
- threshold by group: the group's own threshold at which as many cases are found, in the other patients, as in all of them.

Also: found and raised over the findings with fewer than one case in a hundred films, with each remedy (by view). Intervals:
95 %, 1,000 resamples of patients. What was not tried: to train with other weights of the groups (four hours a fold).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from shipped_figures import NATURAL, ROOT, RULE, Answers, asked, parts_of, read_answers, say, text_of
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Resamples, Statistic, draw_resamples, estimate, gap_between, ratio
from storyxai.metrics.calibration import fit_platt
from storyxai.metrics.classification import mean_auroc_statistic
from storyxai.models.card import read_card
from storyxai.models.runtime import SHIPPED
from storyxai.provenance import canonical_json
from storyxai.scorecard.build import age_bands

LEAST_CASES, OWN_CASES, RARE, PULL = 10, 20, 0.01, 1.0
AGES = ("18-39", "40-59", "60-79")
OUT = ROOT / "results" / "shipped" / "remedies.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Said:
    """What a remedy makes of the films: probabilities float [N, F], and the threshold of each film, float [N]."""

    probability: Floats
    threshold: Floats


Remedy = Callable[[Answers, NDArray[np.str_], NDArray[np.bool_]], Said]
"""From the answers, each film's group and the films to fit to: what it says of all films."""


def none(answers: Answers, group: NDArray[np.str_], fit: NDArray[np.bool_]) -> Said:
    """As shipped."""
    return Said(_platt(answers, fit), np.full(len(group), RULE.probability))


def by_group(answers: Answers, group: NDArray[np.str_], fit: NDArray[np.bool_]) -> Said:
    """Calibrated by group."""
    out = _platt(answers, fit)
    for name in np.unique(group):
        mine = group == name
        own = _platt(answers, fit & mine)
        enough = (answers.labels[fit & mine] >= 0.5).sum(axis=0) >= OWN_CASES
        out[np.ix_(mine, enough)] = own[np.ix_(mine, enough)]
    return Said(out, np.full(len(group), RULE.probability))


def known_patient(answers: Answers, group: NDArray[np.str_], fit: NDArray[np.bool_]) -> Said:
    """Each finding from its log-odds, sex, age and view."""
    rows = answers.rows
    age = np.nan_to_num((rows["age_years"].to_numpy(dtype=np.float64) - 50.0) / 20.0)
    about = np.stack([rows["sex"].to_numpy() == "F", age, rows["view"].to_numpy() == "AP"], axis=1).astype(np.float64)
    out = np.empty(answers.student.shape)
    for column in range(out.shape[1]):
        given = np.column_stack([np.ones(len(rows)), answers.student[:, column], about])
        out[:, column] = expit(given @ _logistic(given[fit], answers.labels[fit, column] >= 0.5))
    return Said(out, np.full(len(group), RULE.probability))


def own_threshold(answers: Answers, group: NDArray[np.str_], fit: NDArray[np.bool_]) -> Said:
    """The threshold of each group at which as many of its cases are found as of all."""
    probability, has = _platt(answers, fit), answers.labels >= 0.5
    share = (probability[fit][has[fit]] >= RULE.probability).mean()
    threshold = np.full(len(group), RULE.probability)
    for name in np.unique(group):
        mine = fit & (group == name)
        threshold[group == name] = np.quantile(probability[mine][has[mine]], 1.0 - share)
    return Said(probability, threshold)


REMEDIES: Final[dict[str, Remedy]] = {
    "none": none, "calibrated by group": by_group, "patient known": known_patient, "threshold by group": own_threshold,
}  # fmt: skip


def _platt(answers: Answers, fit: NDArray[np.bool_]) -> Floats:
    scaled = [fit_platt(answers.student[fit, column], answers.labels[fit, column]) for column in range(len(answers.findings))]
    return np.stack([expit(a * answers.student[:, column] + b) for column, (a, b) in enumerate(scaled)], axis=1)


def _logistic(given: Floats, has: NDArray[np.bool_]) -> Floats:
    """Coefficients of a constant, log-odds, and what is known of the patient; the last three are pulled to zero."""
    sign = np.where(has, 1.0, -1.0)

    def loss(weights: Floats) -> tuple[float, Floats]:
        margin = sign * (given @ weights)
        slope = -(sign * expit(-margin)) @ given
        slope[2:] += PULL * weights[2:]
        return float(np.logaddexp(0.0, -margin).sum() + PULL / 2 * (weights[2:] ** 2).sum()), slope

    start = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def attributes(answers: Answers) -> Iterator[tuple[str, NDArray[np.str_], tuple[str, ...]]]:
    """Each attribute, the films' groups and those that are judged."""
    rows = answers.rows
    yield "sex", rows["sex"].to_numpy(dtype=np.str_), ("F", "M")
    yield "age", np.array(age_bands(rows["age_years"].to_numpy()), np.str_), AGES
    yield "view", rows["view"].to_numpy(dtype=np.str_), ("AP", "PA")
    yield "origin", answers.origin, NATURAL


def cross_fitted(remedy: Remedy, answers: Answers, group: NDArray[np.str_], part: NDArray[np.int64]) -> Said:
    """What the remedy says of each part of the patients when it is fitted to the others."""
    probability, threshold = np.empty(answers.student.shape), np.empty(len(group))
    for one in np.unique(part):
        said, mine = remedy(answers, group, part != one), part == one
        probability[mine], threshold[mine] = said.probability[mine], said.threshold[mine]
    return Said(probability, threshold)


def statistics_of(
    said: Said, labels: NDArray[np.float32], columns: NDArray[np.bool_], mine: NDArray[np.bool_]
) -> dict[str, Statistic]:
    """Ranking, found and raised in the films of a group, over some findings."""
    has, up = labels[:, columns] >= 0.5, (said.probability >= said.threshold[:, None])[:, columns]

    def share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Statistic:
        some, every = (part & mine[:, None]).sum(axis=1).astype(float), (whole & mine[:, None]).sum(axis=1).astype(float)
        return lambda weights: ratio(weights @ some, weights @ every)

    ranked = mean_auroc_statistic(labels[:, columns], said.probability[:, columns])
    return {"ranking": lambda weights: ranked(weights * mine), "found": share(has & up, has), "raised": share(up & ~has, ~has)}


def gap_of(parts: list[Statistic]) -> Statistic:
    """The largest minus the smallest over groups."""

    def gap(weights: Floats) -> Floats:
        values = np.stack([part(weights) for part in parts])
        return np.asarray(values.max(axis=0) - values.min(axis=0))

    return gap


def judged(answers: Answers, count: int) -> dict[str, Any]:
    """Every attribute's groups, gaps and what each remedy changes, and the rare findings."""
    part, resamples = parts_of(answers), draw_resamples(answers.patients, count=count, seed=0)
    has = answers.labels >= 0.5
    out: dict[str, Any] = {"films": len(part), "patients": len(set(answers.patients.tolist())), "attributes": {}}
    for attribute, group, names in attributes(answers):
        columns = np.all([has[group == name].sum(axis=0) >= LEAST_CASES for name in names], axis=0)
        said = {key: cross_fitted(remedy, answers, group, part) for key, remedy in REMEDIES.items()}
        made = {
            key: [statistics_of(one, answers.labels, columns, group == name) for name in names] for key, one in said.items()
        }
        out["attributes"][attribute] = {
            "findings": [finding for finding, kept in zip(answers.findings, columns, strict=True) if kept],
            "films": {name: int((group == name).sum()) for name in names},
            "remedies": {key: _compared(parts, made["none"], names, resamples) for key, parts in made.items()},
        }
        if attribute == "view":
            out["rare"] = _rare(said, answers, resamples)
    return out


def _compared(
    parts: list[dict[str, Statistic]], plain: list[dict[str, Statistic]], names: tuple[str, ...], resamples: Resamples
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for what in ("ranking", "found", "raised"):
        gap, before = gap_of([one[what] for one in parts]), gap_of([one[what] for one in plain])
        out[what] = {
            **{name: asdict(estimate(one[what], resamples)) for name, one in zip(names, parts, strict=True)},
            "gap": asdict(estimate(gap, resamples)), "gap_change": asdict(estimate(gap_between(gap, before), resamples)),
        }
    return out


def _rare(said: dict[str, Said], answers: Answers, resamples: Resamples) -> dict[str, Any]:
    """Findings with fewer than one case in a hundred films, all groups together."""
    shares = (answers.labels >= 0.5).mean(axis=0)
    columns, everyone = (shares < RARE) & (shares > 0), np.ones(len(answers.labels), bool)
    made = {key: statistics_of(one, answers.labels, columns, everyone) for key, one in said.items()}
    return {
        "findings": [finding for finding, kept in zip(answers.findings, columns, strict=True) if kept],
        "cases": int((answers.labels[:, columns] >= 0.5).sum()),
        **{key: {what: asdict(estimate(one[what], resamples)) for what in ("found", "raised")} for key, one in made.items()},
    }


def rows_of(found: dict[str, Any]) -> Iterator[str]:
    """What docs/figures.md tells, as rows of a table."""
    yield "| by | remedy | ranking: gap | found: by group; gap | change of that gap | raised: gap |\n|---|---|---|---|---|---|"
    for attribute, item in found["attributes"].items():
        for key, one in item["remedies"].items():
            groups = ", ".join(f"{name} {one['found'][name]['value']:.3f}" for name in item["films"])
            changed = "" if key == "none" else text_of(one["found"]["gap_change"])
            yield (f"| {attribute} ({len(item['findings'])} findings) | {key} | {text_of(one['ranking']['gap'])} | "
                   f"{groups}; {text_of(one['found']['gap'])} | {changed} | {text_of(one['raised']['gap'])} |")  # fmt: skip
    rare = found["rare"]
    about = f"rare: {', '.join(rare['findings'])} ({rare['cases']} cases)"
    for key in REMEDIES:
        yield f"| {about} | {key} | | found {text_of(rare[key]['found'])} | | raised {text_of(rare[key]['raised'])} |"


def main() -> None:
    """Judge and print; with --write keep the figures."""
    given = asked(__doc__)
    answers = read_answers(given.data, tuple(read_card(SHIPPED).spec["findings"]))
    found = judged(answers.take(np.isin(answers.origin, NATURAL)), 1000)
    for row in rows_of(found):
        say(row)
    if given.write:
        write_whole(canonical_json(found), OUT)


if __name__ == "__main__":
    main()
