"""How well values of a map predict that it hits a reader's box: the fit, by parts of patients, and its figures.

`map_trust.py` collects the maps; this file needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from storyxai.errors import InputError
from storyxai.evidence.checks import DOUBTED
from storyxai.evidence.trust import FORMAT, MAP_VALUES, TRUST_NAME, MethodTrust, Trust, ValueWorth
from storyxai.files import write_whole
from storyxai.metrics.bootstrap import Estimate, bootstrap_interval, mean_statistic, paired_difference
from storyxai.metrics.calibration import ece, ece_floor
from storyxai.metrics.classification import auroc_statistic
from storyxai.provenance import canonical_json

GROUPS = ("shown", "doubtful", "withheld")
SHOWN_FROM = 0.7
FEWEST = 30
"""A finding of fewer boxed maps is not spoken of: what holds for others need not hold for it."""
FEWEST_MAPS = 50
"""Of a method with fewer boxed maps nothing is said."""
PARTS = 10
BINS = 5
PRIOR_DEVIATION, OFFSET_DEVIATION = 1.0, 3.0


def fit_hits(values: NDArray[np.float64], hits: NDArray[np.bool_], *, groups: int = 0) -> tuple[NDArray[np.float64], float]:
    """Weights >= 0 and intercept of the logistic regression of `hits` [N] on standardised `values` [N, V].

    The last `groups` columns say which group a map is of; their weights may have either sign. A normal prior of deviation one
    on each weight (three on a group's) keeps them finite where the hits are separable; the intercept has a wide one, of
    deviation ten. Raises: InputError when there is no map.
    """
    if not len(values) or len(values) != len(hits):
        raise InputError("maps", f"are {len(values)}, hits {len(hits)}", mend="give the values of one map or more, and its hit")
    sign = np.where(hits, 1.0, -1.0)
    held = values.shape[1] - groups
    precision = np.array([1 / PRIOR_DEVIATION**2] * held + [1 / OFFSET_DEVIATION**2] * groups + [0.01])
    design = np.column_stack([values, np.ones(len(values))])

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * np.einsum("nv,v->n", design, theta)
        wrong = -sign * expit(-margin)
        return (
            float(np.logaddexp(0, -margin).sum() + 0.5 * (precision * theta**2).sum()),
            np.einsum("nv,n->v", design, wrong) + precision * theta,
        )

    bounds = [(0.0, None)] * held + [(None, None)] * (groups + 1)
    found = minimize(loss, np.zeros(values.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds)
    return np.asarray(found.x[:-1], dtype=np.float64), float(found.x[-1])


def write_trust(trust: Trust, folder: Path) -> Path:
    """Write `trust.json` into a model's folder; the card's `files` should vouch for it. Returns its path."""
    path = folder / TRUST_NAME
    write_whole(canonical_json({"format": FORMAT, **msgspec.to_builtins(trust)}), path)
    return path


def judged(frame: pd.DataFrame, *, models: str, by_finding: bool = False) -> tuple[Trust, dict[str, Any]]:
    """The trust fitted on all boxed maps, and figures from parts that were left out.

    With `by_finding` each finding has a rate of its own beside what the values tell.
    """
    fitted, record = {}, {}
    for method, rows in frame.groupby("method"):
        cases = rows[np.isfinite(rows["hit"]) & (rows["peak"] > 0)].reset_index(drop=True)
        if len(cases) < FEWEST_MAPS:
            continue
        cases["average_hit"] = average_hits(cases)
        often = cases["finding"].map(cases["finding"].value_counts()) >= FEWEST
        trust, figures = judged_method(cases[often].reset_index(drop=True), rows, by_finding)
        fitted[str(method)], record[str(method)] = trust, figures | {"elsewhere": elsewhere(cases[~often], trust)}
    data = "NIH ChestX-ray14 and RSNA boxes, films that the model which drew the map had not learnt from"
    return Trust(fitted, data, models), {"methods": record, "data": data, "models": models}


def judged_method(cases: pd.DataFrame, rows: pd.DataFrame, by_finding: bool) -> tuple[MethodTrust, dict[str, Any]]:
    """One method: its trust, and its figures. `cases` are the boxed maps that are not empty, `rows` all of them."""
    patients, hits = cases["patient"].to_numpy(dtype=str), cases["hit"].to_numpy() >= 0.5
    values = cases[list(MAP_VALUES)].to_numpy(dtype=np.float64)
    worth = worth_of(values, hits, patients, count=1000)
    whose = cases["finding"].to_numpy(dtype=str) if by_finding else None
    said = cross_validated(values, hits, patients, whose)
    blind = float(cases["centre_hit"].mean())
    names, model = fitted_on(values, hits, worth, whose)
    interval = _plain(bootstrap_interval(mean_statistic(hits.astype(float)), patients, seed=0))
    ranking = _plain(bootstrap_interval(auroc_statistic(hits, said), patients, seed=0))
    trust = MethodTrust(
        names=names, **model, blind=blind, shown_from=SHOWN_FROM, n=len(cases), patients=len(set(patients)),
        findings={str(k): int(v) for k, v in cases["finding"].value_counts().sort_index().items()},
        hit_rate=_triple(interval), auroc=_triple(ranking), ece=ece(said, hits, bins=BINS), worth=worth,
    )
    group = np.where(said >= SHOWN_FROM, "shown", np.where(said >= blind, "doubtful", "withheld"))
    figures = {
        "n": len(cases), "patients": len(set(patients)), "findings": dict(trust.findings),
        "hit_rate": interval, "near": mean_of(cases["near"], patients), "energy_inside": mean_of(cases["energy"], patients),
        "baselines": {
            name: {"hit_rate": mean_of(cases[f"{name}_hit"], patients)} | (
                {"energy_inside": mean_of(cases[f"{name}_energy"], patients)} if f"{name}_energy" in cases else {}
            ) for name in ("centre", "random", "average")
        },
        "minus_centre": _plain(paired_difference(
            mean_statistic(hits.astype(float)), mean_statistic(cases["centre_hit"]), patients, seed=0)),
        "groups": {name: grouped(group == name, hits, patients) for name in ("shown", "doubtful", "withheld")},
        "shown_minus_others": _gap(group == "shown", hits, patients),
        "not_withheld_minus_withheld": _gap(group != "withheld", hits, patients),
        "uncalibrated": {name: grouped(by_checks(cases) == name, hits, patients) for name in GROUPS},
        "checks": worth_of_checks(cases),
        "empty": int((rows["peak"] <= 0).sum()), "auroc": ranking,
        "ece": trust.ece, "ece_floor": ece_floor(said, bins=BINS), "blind": blind, "shown_from": SHOWN_FROM,
        "worth": {k: {"auroc": w.auroc, "interval": w.interval, "kept": w.kept} for k, w in worth.items()},
        "reliability": reliability(said, hits),
        "by_finding": by_finding_of(cases["finding"].to_numpy(dtype=str), said, group, hits), "told": told_shares(rows, trust),
    }
    if "their_hit" in cases and np.isfinite(cases["their_hit"].astype(float)).any():
        beside = np.isfinite(cases["their_hit"].to_numpy(dtype=float))
        ours, theirs = np.where(beside, hits, np.nan), cases["their_hit"].to_numpy(dtype=float)
        figures["pytorch_grad_cam"] = {
            "n": int(beside.sum()), "hit_rate": mean_of(theirs, patients), "ours": mean_of(ours, patients),
            "ours_minus_theirs": _plain(paired_difference(mean_statistic(ours), mean_statistic(theirs), patients, seed=0)),
            "same": int((theirs == cases["hit"]).sum()),
        }
    return trust, figures


def worth_of(
    values: NDArray[np.float64], hits: NDArray[np.bool_], patients: NDArray[np.str_], *, count: int
) -> dict[str, ValueWorth]:
    """Each value's own AUROC with its interval; kept where that lies above one half."""
    found = {}
    for column, name in enumerate(MAP_VALUES):
        known = np.isfinite(values[:, column])
        if not known.any():
            found[name] = ValueWorth()
            continue
        one = bootstrap_interval(auroc_statistic(hits[known], values[known, column]), patients[known], count=count, seed=0)
        sure = one.low is not None and one.high is not None
        found[name] = ValueWorth(one.value, (one.low, one.high) if sure else None, sure and one.low > 0.5)
    return found


def fitted_on(
    values: NDArray[np.float64], hits: NDArray[np.bool_], worth: Mapping[str, ValueWorth],
    whose: NDArray[np.str_] | None = None,
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The kept values' names, and weights, centres, scales, intercept and offsets as `MethodTrust` takes them.

    `whose` is each map's finding where findings have rates of their own.
    """
    kept = [name for name in MAP_VALUES if worth[name].kept]
    columns = [MAP_VALUES.index(name) for name in kept]
    whole = np.isfinite(values[:, columns]).all(axis=1)
    used, hit = values[whole][:, columns], hits[whole]
    centres, scales = used.mean(axis=0), np.maximum(used.std(axis=0), 1e-9)
    groups = [] if whose is None else sorted(set(whose[whole]))
    of_group = np.array([whose[whole] == name for name in groups]).reshape(len(groups), len(used)).T.astype(float)
    weights, intercept = fit_hits(np.column_stack([(used - centres) / scales, of_group]), hit, groups=len(groups))
    offsets = dict(zip(groups, map(float, weights[len(kept):]), strict=True))
    counting = np.flatnonzero(weights[: len(kept)] > 0)
    parts = {"weights": weights, "centres": centres, "scales": scales}
    found = {key: tuple(float(one) for one in part[counting]) for key, part in parts.items()}
    return tuple(kept[place] for place in counting), {**found, "intercept": intercept, "offsets": offsets}


def cross_validated(
    values: NDArray[np.float64], hits: NDArray[np.bool_], patients: NDArray[np.str_], whose: NDArray[np.str_] | None = None
) -> NDArray[np.float64]:
    """Each map's hit probability by a model that was selected and fitted without its patient."""
    part = parts_of(patients)
    said = np.full(len(hits), np.nan)
    for left_out in range(PARTS):
        inside, outside = part != left_out, part == left_out
        worth = worth_of(values[inside], hits[inside], patients[inside], count=200)
        names, model = fitted_on(values[inside], hits[inside], worth, None if whose is None else whose[inside])
        columns = [MAP_VALUES.index(name) for name in names]
        scaled = (values[outside][:, columns] - model["centres"]) / model["scales"] if columns else np.zeros((outside.sum(), 0))
        offset = [0.0 if whose is None else model["offsets"].get(whose[row], 0.0) for row in np.flatnonzero(outside)]
        said[outside] = 1 / (1 + np.exp(-(scaled @ np.array(model["weights"]) + model["intercept"] + np.array(offset))))
    # A map of which a needed value is not known is not spoken of; it has no probability.
    return said


def parts_of(patients: NDArray[np.str_]) -> NDArray[np.intp]:
    """Ten parts by patient, dealt in a random order that a seed fixes."""
    people = np.unique(patients)
    place = dict(zip(np.random.default_rng(0).permutation(people), np.arange(len(people)) % PARTS, strict=True))
    return np.array([place[patient] for patient in patients])


def average_hits(cases: pd.DataFrame) -> NDArray[np.float64]:
    """Whether the average map of the finding on other patients, each map with the same total, hits each case."""
    grids = np.stack([np.maximum(grid, 0) / max(np.maximum(grid, 0).sum(), 1e-12) for grid in cases["grid"]])
    part, found = parts_of(cases["patient"].to_numpy(dtype=str)), np.zeros(len(cases))
    for row in range(len(cases)):
        others = part != part[row]
        same = others & (cases["finding"] == cases["finding"].iloc[row]).to_numpy()
        mean = grids[same if same.sum() >= 5 else others].mean(axis=0)
        found[row] = cases["cells"].iloc[row].reshape(mean.shape)[np.unravel_index(int(mean.argmax()), mean.shape)]
    return found


def by_checks(rows: pd.DataFrame) -> NDArray[np.str_]:
    """"shown", "doubtful" or "withheld" for each map by the checks alone, as `decide_shown` has it.

    By their names, as rows may have been drawn before a check came to mean doubt.
    """
    failed = [set(str(names).split()) for names in rows["failed"]]
    open_ = rows["passed"].to_numpy(bool) | np.array([bool(names) and names <= DOUBTED for names in failed], dtype=bool)
    doubted = np.array([not names.isdisjoint(DOUBTED) for names in failed], dtype=bool)
    return np.where(open_, np.where(doubted, "doubtful", "shown"), "withheld")


def worth_of_checks(cases: pd.DataFrame) -> dict[str, Any]:
    """By check: how many of the maps that failed it hit, and how many of those that passed it or were not asked."""
    failed = [set(str(names).split()) for names in cases["failed"]]
    hits, patients = cases["hit"].to_numpy() >= 0.5, cases["patient"].to_numpy(dtype=str)
    found = {}
    for name in sorted(set().union(*failed)):
        mine = np.array([name in names for names in failed])
        found[name] = {"failed": grouped(mine, hits, patients), "others": grouped(~mine, hits, patients)}
    return found


def decided(rows: pd.DataFrame, trust: MethodTrust | None) -> NDArray[np.str_]:
    """"shown", "doubtful" or "withheld" for each map: by the trust where it speaks of the finding, else by the checks."""
    groups = []
    for row, checked in zip(rows.to_dict("records"), by_checks(rows), strict=True):
        values = {name: number_of(row[name]) for name in MAP_VALUES}
        chance = None if trust is None else trust.hit_probability(row["finding"], values)
        if chance is None or trust is None or row["peak"] <= 0:
            groups.append(str(checked))
        else:
            groups.append("shown" if chance >= trust.shown_from else "doubtful" if chance >= trust.blind else "withheld")
    return np.array(groups)


def told_shares(rows: pd.DataFrame, trust: MethodTrust) -> dict[str, Any]:
    """Of the maps of findings that stories dwell on, boxed or not: how many are shown, doubtful, withheld."""
    told = rows[rows["told"].astype(bool)]
    group, spoken = decided(told, trust), told["finding"].isin(list(trust.findings)).to_numpy()
    return {
        "maps": len(told), "spoken_of": int(spoken.sum()), "uncalibrated_shown": float(np.mean(by_checks(told) != "withheld")),
        "all": {name: float((group == name).mean()) for name in ("shown", "doubtful", "withheld")},
        "spoken": {name: float((group[spoken] == name).mean()) for name in ("shown", "doubtful", "withheld")},
    }


def elsewhere(cases: pd.DataFrame, trust: MethodTrust) -> dict[str, Any]:
    """What the trust would say of findings that it does not rest on, and what was seen: whether it may speak of them."""
    often = next(iter(trust.findings))
    said = [trust.hit_probability(often, {n: number_of(row[n]) for n in MAP_VALUES}) for row in cases.to_dict("records")]
    patients = cases["patient"].to_numpy(dtype=str)
    return {
        "said": float(np.mean([one for one in said if one is not None])) if any(said) else None,
        "seen": mean_of((cases["hit"] >= 0.5).astype(float), patients) if len(cases) else None,
        "findings": {str(k): int(v) for k, v in cases["finding"].value_counts().sort_index().items()},
    }


def lime_worth(frame: pd.DataFrame) -> dict[str, Any] | None:
    """How well agreement with LIME tells Grad-CAM's hits from its misses; None where LIME was not asked."""
    cases = frame[(frame["method"] == "grad_cam") & np.isfinite(frame["hit"]) & np.isfinite(frame["lime"].astype(float))]
    lime = frame[(frame["method"] == "lime") & np.isfinite(frame["hit"])]
    if not len(cases):
        return None
    patients = cases["patient"].to_numpy(dtype=str)
    ranking = bootstrap_interval(auroc_statistic(cases["hit"] >= 0.5, cases["lime"].astype(float)), patients, seed=0)
    who, hit = lime["patient"].to_numpy(dtype=str), lime["hit"].to_numpy()
    return {
        "n": len(cases), "auroc": _plain(ranking), "lime_hit_rate": mean_of(hit, who),
        "lime_uncalibrated": {name: grouped(by_checks(lime) == name, hit >= 0.5, who) for name in GROUPS},
    }


def grouped(mask: NDArray[np.bool_], hits: NDArray[np.bool_], patients: NDArray[np.str_]) -> dict[str, Any]:
    """Maps, patients and hit rate of one group, and the share of all maps that it is."""
    return {"maps": int(mask.sum()), "share": float(mask.mean()), "patients": len(set(patients[mask])),
            "hit_rate": mean_of(np.where(mask, hits, np.nan), patients)}


def reliability(said: NDArray[np.float64], hits: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Mean probability and share of hits in BINS groups of equal size."""
    known = np.flatnonzero(np.isfinite(said))
    order = known[np.argsort(said[known], kind="stable")]
    return [{"said": float(said[part].mean()), "seen": float(hits[part].mean()), "n": len(part)}
            for part in np.array_split(order, BINS)]


def by_finding_of(
    findings: NDArray[np.str_], said: NDArray[np.float64], group: NDArray[np.str_], hits: NDArray[np.bool_]
) -> dict[str, Any]:
    """By finding what was said of its maps, what was seen, and how many of the shown ones hit."""
    rows = {name: findings == name for name in sorted(set(findings))}
    return {
        name: {"n": int(mine.sum()), "said": float(np.nanmean(said[mine])), "seen": float(hits[mine].mean()),
               "shown": [int(hits[mine & (group == "shown")].sum()), int((mine & (group == "shown")).sum())]}
        for name, mine in rows.items()
    }


def hits_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What stories cite of it, by method."""
    return {
        method: {"data": "NIH and RSNA boxes (out of fold)"} | {
            name: {"hit_rate": found["hit_rate"]["value"], "n": found["maps"], "chance": one["blind"],
                   "interval": [found["hit_rate"]["low"], found["hit_rate"]["high"]]}
            for name, found in one["groups"].items()
            if found["maps"] and found["hit_rate"]["low"] is not None
        }
        for method, one in record["methods"].items()
    }


def lines(record: Mapping[str, Any]) -> list[str]:
    """The figures in words."""
    out = []
    for method, one in record["methods"].items():
        out.append(f"{method}: {one['n']} maps of {one['patients']} patients ({one['findings']}), {one['empty']} empty")
        out.append(f"  hit {_said(one['hit_rate'])} (or close beside the box {_said(one['near'])}), "
                   f"minus centre {_said(one['minus_centre'])}, energy {_said(one['energy_inside'])}")
        for name, base in one["baselines"].items():
            out.append(f"  {name}: " + ", ".join(f"{k} {_said(v)}" for k, v in base.items()))
        if "pytorch_grad_cam" in one:
            out.append(f"  pytorch-grad-cam: hit {_said(one['pytorch_grad_cam']['hit_rate'])}, "
                       f"ours on these {_said(one['pytorch_grad_cam']['ours'])}, ours - theirs "
                       f"{_said(one['pytorch_grad_cam']['ours_minus_theirs'])}, "
                       f"same {one['pytorch_grad_cam']['same']} of {one['pytorch_grad_cam']['n']}")
        out.append(f"  AUROC {_said(one['auroc'])}, ECE {one['ece']:.3f} (by chance {one['ece_floor']:.3f}), "
                   f"blind {one['blind']:.3f}")
        out += [f"  {name}: {g['maps']} ({g['share']:.2f}), hit {_said(g['hit_rate'])}" for name, g in one["groups"].items()]
        out.append(f"  shown - others {_said(one['shown_minus_others'])}; "
                   f"not withheld - withheld {_said(one['not_withheld_minus_withheld'])}")
        out += [f"  uncalibrated {n}: {g['maps']}, hit {_said(g['hit_rate'])}" for n, g in one["uncalibrated"].items()]
        for name, w in one["worth"].items():
            out.append(f"  {name}: {w['auroc']} {w['interval']} {'kept' if w['kept'] else 'dropped'}")
        out += [f"  said {b['said']:.2f} seen {b['seen']:.2f} n {b['n']}" for b in one["reliability"]]
        out.append(f"  told: {one['told']}")
        out.append(f"  elsewhere: {one['elsewhere']}")
    for key in ("lime_agreement", "phantoms"):
        if record.get(key):
            out.append(f"{key}: {json.dumps(record[key])}")
    return out


def mean_of(values: Any, patients: NDArray[np.str_]) -> dict[str, Any]:
    """The mean of the values that are known, with its interval."""
    return _plain(bootstrap_interval(mean_statistic(values), patients, seed=0))


def _gap(mask: NDArray[np.bool_], hits: NDArray[np.bool_], patients: NDArray[np.str_]) -> dict[str, Any]:
    first, second = (mean_statistic(np.where(one, hits, np.nan)) for one in (mask, ~mask))
    return _plain(paired_difference(first, second, patients, seed=0))


def number_of(value: Any) -> float | None:
    """The value, None where it is not finite."""
    return None if value is None or not np.isfinite(value) else float(value)


def _plain(found: Estimate) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _triple(found: Mapping[str, Any]) -> tuple[float, float, float] | None:
    return None if None in found.values() else (found["value"], found["low"], found["high"])


def _said(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "not known"
    inside = "no interval" if found["low"] is None else f"{found['low']:.3f}, {found['high']:.3f}"
    return f"{found['value']:.3f} [{inside}]"


def documented(record: Mapping[str, Any]) -> str:
    """The section "Maps" of docs/figures.md."""
    grad = record["methods"]["grad_cam"]
    findings = ", ".join(f"{name.lower()} {count}" for name, count in grad["findings"].items())
    groups = "\n".join(_group_rows(key, one) for key, one in record["methods"].items())
    return f"""## Maps

Whether a map's strongest point lies in a reader's box (the pointing game; with its source's tolerance of 3 % of the side
{_words(grad["near"])} of the Grad-CAM maps do), and what share of the positive map does (energy), on NIH and
RSNA boxes ({findings}): {grad["n"]} Grad-CAM maps of {grad["patients"]} patients
(`benchmarks/map_trust.py`, `results/map-checks`). Drawn by {record["models"]}.
Intervals are 95 %, by patient.

| map | hits | energy inside |
|---|---|---|
{_map_rows(record)}

How often a map like this one hits (`trust.json`, [how it is
made](explanation/evidence.md#how-often-a-map-like-this-one-hits)), each map judged by a fit without its patient; withheld is
what is likely to hit less often than the middle of the image:

| maps | share | hits |
|---|---|---|
{groups}

{_ranking(grad)}

{_checks(record)}

{_elsewhere(grad)}
{_phantoms(record.get("phantoms"))}"""


_NAMES = {
    "evidence_grid": "the model's own evidence grid, where a cell is above zero", "lime": "LIME, strongest superpixel",
    "centre": "middle of the image", "random": "random smooth noise", "average": "average map of other patients",
    "grad_cam": "Grad-CAM", "fine_occlusion": "Fine occlusion of nodules", "leading": "The map that a story leads with",
}


def _map_rows(record: Mapping[str, Any]) -> str:
    grad = record["methods"]["grad_cam"]
    base, theirs = grad["baselines"], grad.get("pytorch_grad_cam")
    rows = [("Grad-CAM", grad["hit_rate"], grad["energy_inside"])]
    rows += [
        (f"{_NAMES[key]} ({one['n']} maps)", one["hit_rate"], one["energy_inside"])
        for key, one in record["methods"].items() if key != "grad_cam"
    ]
    rows += [(_NAMES[key], base[key]["hit_rate"], base[key].get("energy_inside")) for key in ("centre", "random", "average")]
    if theirs:
        gap = _words(theirs["ours_minus_theirs"])
        rows.append((f"pytorch-grad-cam, same network, layer and {theirs['n']} films; ours minus theirs {gap}",
                     theirs["hit_rate"], None))
    rows.append(("Grad-CAM minus the middle of the image", grad["minus_centre"], None))
    return "\n".join(f"| {name} | {_words(hit)} | {_words(energy) if energy else ''} |" for name, hit, energy in rows)


def _group_rows(method: str, one: Mapping[str, Any]) -> str:
    name, old = _NAMES[method].partition(",")[0], one["uncalibrated"]
    rows = [
        f"| {name}, {group} | {found['share']:.2f} | {_words(found['hit_rate'])} of {found['maps']} |"
        for group in ("shown", "doubtful", "withheld") if (found := one["groups"][group])["maps"]
    ]
    rows.append(f"| {name}, shown minus all others | | {_words(one['shown_minus_others'])} |")
    for group, found in ((group, found) for group, found in old.items() if found["maps"]):
        rows.append(f"| {name}, {group} by the checks without a calibration | {found['share']:.2f} "
                    f"| {_words(found['hit_rate'])} of {found['maps']} |")
    return "\n".join(rows)


def _ranking(grad: Mapping[str, Any]) -> str:
    worth = ", ".join(
        f"{name.replace('_', ' ')} {one['auroc']:.2f}{' (kept)' if one['kept'] else ''}"
        for name, one in grad["worth"].items() if one["auroc"] is not None
    )
    return (
        f"Grad-CAM's probability ranks hits above misses with an AUROC of {_words(grad['auroc'])}; its calibration\n"
        f"error (ECE, five groups) is {grad['ece']:.3f}, where a perfect one would show {grad['ece_floor']:.3f} by chance.\n"
        f"What each value tells by itself (AUROC): {worth}.\nA value below one half points the wrong way and is dropped."
    )


def _checks(record: Mapping[str, Any]) -> str:
    """A table of the checks: how many of the maps that failed each hit, on films and on phantoms."""
    told = {"films": record["methods"], "phantoms": record.get("phantoms") or {}}
    rows = [
        f"| {name} | {_NAMES[key].partition(',')[0]}, {where} | {_words(one['failed']['hit_rate'])} of {one['failed']['maps']} "
        f"| {_words(one['others']['hit_rate'])} of {one['others']['maps']} |"
        for where, methods in told.items() for key, found in methods.items() if key != "leading"  # which are those of others
        for name, one in found.get("checks", {}).items()
    ]
    return "\n".join([
        "What each check tells by itself, in hits of the maps that failed it and of all others:", "",
        "| check | maps | failed | others |", "|---|---|---|---|", *rows,
    ])


def _elsewhere(grad: Mapping[str, Any]) -> str:
    other, told = grad["elsewhere"], grad["told"]
    if other["said"] is None:
        return ""
    return (
        f"What does not hold: the same fit said {other['said']:.2f} of the {sum(other['findings'].values())} boxed maps of\n"
        f"other findings, and {_words(other['seen'])} of them hit; so a probability is stated only for findings with {FEWEST}\n"
        f"boxed maps, and the others' maps face the uncalibrated checks. Of {told['maps']} maps of the likeliest findings of\n"
        f"these films {100 * told['all']['shown']:.0f} % are shown, {100 * told['all']['doubtful']:.0f} % doubtful."
    )


def _phantoms(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    rows = [
        f"| {_NAMES[key].partition(',')[0]} | {_words(one['hit_rate'])} of {one['maps']} | {one['shown']['share']:.2f}: "
        f"{_words(one['shown']['hit_rate'])} | {_words(one['near_shown'])} | {one['doubtful']['share']:.2f}: "
        f"{_words(one['doubtful']['hit_rate'])} | {one['withheld']['share']:.2f}: {_words(one['withheld']['hit_rate'])} | "
        f"{_words(one['centre'])} |"
        for key, one in found.items() if one["maps"]
    ]
    by_finding = "; ".join(
        f"{name} " + ", ".join(f"{part} {one[part][0]} of {one[part][1]}" for part in GROUPS if one[part][1])
        for name, one in found["leading"]["findings"].items()
    )
    head = "| map | all, hits | shown, share: hits | with the tolerance | doubtful | withheld | middle of the image |\n"
    table = head + "|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    led = "Hits by finding of the map that a story leads with (fine occlusion of nodules, else Grad-CAM)"
    return f"\nOn fresh phantoms, of findings that are told and there:\n\n{table}\n\n{led}: {by_finding}.\n"


def _words(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "not known"
    inside = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['value']:.2f}{inside}"
