"""The model of a map's hits against closed forms and scikit-learn; and what becomes of a map with a known probability."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from evidence_models import OpenReader, image_of
from hit_fit import fit_hits, write_trust
from storyxai.errors import InputError, WeightsError
from storyxai.evidence.checks import NO_BETTER, REASONS, decide_by_hits
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.trust import (
    MAP_VALUES,
    TRUST_NAME,
    MapView,
    MethodTrust,
    Trust,
    ValueWorth,
    map_values,
    read_trust,
    strongest_cell,
)
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.models.card import ModelCard
from storyxai.provenance import sha256_file
from storyxai.types import Check, Evidence, Heatmap

KNOWN = MethodTrust(
    names=("logit", "inside"), weights=(1.0, 0.5), centres=(0.0, 0.6), scales=(2.0, 0.2), intercept=0.3, blind=0.2,
    shown_from=0.7, n=300, patients=250, findings={"Pneumonia": 300}, hit_rate=(0.7, 0.65, 0.75),
    worth={"inside": ValueWorth(0.7, (0.6, 0.8), True), "off_centre": ValueWorth(0.5, None, False)},
)
GRID = np.zeros((8, 8), np.float32)
GRID[2, 5], GRID[2, 6], GRID[6, 1] = 4.0, 2.0, 2.0


def test_without_any_value_the_probability_is_the_share_of_hits() -> None:
    hits = np.array([True] * 30 + [False] * 10)
    weights, intercept = fit_hits(np.zeros((40, 0)), hits)
    assert not len(weights) and 1 / (1 + np.exp(-intercept)) == pytest.approx(0.75, abs=0.001)


def test_a_group_s_weight_gives_its_own_rate_and_may_have_either_sign() -> None:
    """Two groups of 400 maps that hit 9 and 1 in 10: with so many maps the prior of three moves a rate by less than 0.01."""
    of_group = np.repeat(np.eye(2), 400, axis=0)
    hits = np.tile(np.arange(10), 80) < np.repeat([9, 1], 400)
    weights, intercept = fit_hits(of_group, hits, groups=2)
    assert weights[0] > 0 > weights[1]
    assert 1 / (1 + np.exp(-(weights + intercept))) == pytest.approx([0.9, 0.1], abs=0.01)
    held, _ = fit_hits(of_group, hits)
    assert held[1] == 0


def test_weights_agree_with_scikit_learn_where_no_bound_binds() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    values = generator.normal(size=(400, 3))
    hits = generator.random(400) < 1 / (1 + np.exp(-(values @ [1.2, 0.6, 0.3] + 0.5)))
    weights, intercept = fit_hits(values, hits)
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(values, hits)
    assert weights == pytest.approx(theirs.coef_[0], abs=0.005) and intercept == pytest.approx(theirs.intercept_[0], abs=0.005)


def test_a_value_that_points_the_other_way_counts_nothing() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(300, 2))
    hits = generator.random(300) < 1 / (1 + np.exp(-(values @ [1.0, -1.0])))
    (first, second), _ = fit_hits(values, hits)
    assert first > 0.5 and second == 0.0


def test_maps_without_hits_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="hits 3"):
        fit_hits(np.zeros((2, 1)), np.ones(3, dtype=bool))


def test_the_probability_is_the_sigmoid_of_the_weighted_values_and_rises_with_each() -> None:
    at = {"logit": 1.0, "inside": 0.8}
    assert KNOWN.hit_probability("Pneumonia", at) == pytest.approx(1 / (1 + np.exp(-(0.3 + 0.5 + 0.5))))
    for name in at:
        assert KNOWN.hit_probability("Pneumonia", {**at, name: at[name] + 0.1}) > KNOWN.hit_probability("Pneumonia", at)
    assert KNOWN.hit_probability("Pneumonia", {"logit": 1.0, "inside": None}) is None
    assert KNOWN.hit_probability("Pneumonia", {"logit": 1.0}) is None
    assert KNOWN.hit_probability("Mass", at) is None  # nobody boxed enough of them
    apart = replace(KNOWN, offsets={"Pneumonia": -2.0})
    assert apart.hit_probability("Pneumonia", at) == pytest.approx(1 / (1 + np.exp(-(0.3 + 0.5 + 0.5 - 2.0))))


def test_values_of_a_map_by_hand() -> None:
    place = np.zeros((16, 16), np.float32)
    place[4:6, 10] = 1  # half of the strongest cell
    beside = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    found = map_values(MapView(GRID, 1.5, inside=0.7, cosine=0.4, place=place, beside=beside))
    assert tuple(found) == MAP_VALUES and strongest_cell(GRID) == (2, 5)
    assert found["logit"] == 1.5 and found["inside"] == 0.7
    assert found["peak_inside"] == 0.5
    assert found["concentration"] == 6 / 8
    assert found["other_method"] == pytest.approx(spearmanr(GRID.ravel(), beside.ravel()).statistic)
    assert found["specificity"] == pytest.approx(0.6)
    assert found["off_centre"] == pytest.approx(np.hypot(2.5 / 8 - 0.5, 5.5 / 8 - 0.5))


@pytest.mark.parametrize("side", [16, 64, 100])
def test_a_map_drawn_finer_has_the_values_of_its_cells(side: int) -> None:
    fine = GRID[np.arange(side) * 8 // side][:, np.arange(side) * 8 // side]
    coarse, found = map_values(MapView(GRID, 0.5, beside=GRID)), map_values(MapView(fine, 0.5, beside=fine))
    assert found["concentration"] == pytest.approx(coarse["concentration"], abs=0.08)
    assert found["off_centre"] == coarse["off_centre"] and found["other_method"] == pytest.approx(1.0)


def test_what_is_not_there_is_not_known() -> None:
    found = map_values(MapView(np.zeros((8, 8), np.float32), 1.0))
    assert [name for name, value in found.items() if value is None] == [
        "inside", "peak_inside", "concentration", "other_method", "specificity",
    ]


def test_trust_comes_back_from_its_file_as_it_was_written(tmp_path: Path) -> None:
    trust = Trust({"grad_cam": KNOWN}, "boxed films", "fold students")
    path = write_trust(trust, tmp_path)
    before = path.read_bytes()
    assert read_trust(tmp_path) == trust
    assert write_trust(read_trust(tmp_path), tmp_path).read_bytes() == before


@pytest.mark.parametrize(("change", "why"), [
    ({"weights": [1.0]}, "do not fit together"), ({"weights": [-1.0, 0.5]}, "do not fit together"),
    ({"scales": [0.0, 1.0]}, "do not fit together"), ({"names": ["logit", "colour"]}, "unknown value 'colour'"),
    ({"intercept": "much"}, "cannot be read"),
])
def test_a_garbled_file_is_named(tmp_path: Path, change: dict[str, object], why: str) -> None:
    record = json.loads(write_trust(Trust({"grad_cam": KNOWN}), tmp_path).read_bytes())
    record["methods"]["grad_cam"] |= change
    (tmp_path / TRUST_NAME).write_text(json.dumps(record))
    with pytest.raises(WeightsError, match=why):
        read_trust(tmp_path)


def test_a_file_that_is_not_there_or_of_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=TRUST_NAME):
        read_trust(tmp_path)
    (tmp_path / TRUST_NAME).write_text("{}")
    with pytest.raises(WeightsError, match="is not of format"):
        read_trust(tmp_path)


@pytest.mark.parametrize(("hits", "shown", "doubtful"), [
    (0.9, True, False), (0.7, True, False), (0.69, True, True), (0.2, True, True), (0.19, False, False),
])
def test_a_map_is_shown_doubtful_or_withheld_by_how_often_it_hits(hits: float, shown: bool, doubtful: bool) -> None:
    away = Check("inside_lungs", "Effusion", "grad_cam", 0.1, 0.5, False, "a note now")
    heatmap = decide_by_hits(Heatmap("Effusion", "grad_cam", GRID, "logit"), [away], hits=hits, blind=0.2, shown_from=0.7)
    assert (heatmap.shown, heatmap.doubtful, heatmap.hit_probability) == (shown, doubtful, hits)
    assert heatmap.withheld_because == (() if shown else (NO_BETTER,))


@pytest.mark.parametrize("name", ["not_empty", "repeatable"])
def test_a_map_that_is_none_is_withheld_however_often_its_like_hit(name: str) -> None:
    failed = Check(name, "Effusion", "grad_cam", 0.0, 1e-6, False, "")
    other = replace(failed, method="lime")
    broken = decide_by_hits(Heatmap("Effusion", "grad_cam", GRID, "logit"), [failed], hits=0.95, blind=0.2, shown_from=0.7)
    assert not broken.shown and not broken.doubtful and broken.withheld_because == (REASONS[name],)
    assert decide_by_hits(Heatmap("Effusion", "grad_cam", GRID, "logit"), [other], hits=0.95, blind=0.2, shown_from=0.7).shown


SPOTS = Modality("spots", (FindingTerm("Upper_spot"), FindingTerm("Lower_spot")))
UPPER, LOWER = np.zeros((32, 32), np.bool_), np.zeros((32, 32), np.bool_)
UPPER[4:12, 4:12], LOWER[20:28, 16:28] = True, True


@dataclass(frozen=True, eq=False)
class Bringing(OpenReader):
    """A model that comes in a folder."""

    folder: Path = Path()
    card: ModelCard | None = None


def told(trust: Trust | None, folder: Path) -> Evidence:
    """Evidence of a bright upper spot by a model whose folder holds the trust."""
    files = {} if trust is None else {TRUST_NAME: sha256_file(write_trust(trust, folder))}
    card = ModelCard("spots", "1", {}, files, {}, (), (), (), modality="spots")
    model = Bringing({"Upper_spot": UPPER, "Lower_spot": LOWER}, folder=folder, card=card)
    pixels = np.where(UPPER, 0.8, 0.3) + 0.05 * np.random.default_rng(0).random((32, 32))
    return gather(model, image_of(pixels), methods=["grad_cam"], settings=GatherSettings(modality=SPOTS))


def test_evidence_of_a_model_that_brings_its_trust_carries_it_and_without_one_nobody_knows(tmp_path: Path) -> None:
    always = replace(KNOWN, names=(), weights=(), centres=(), scales=(), intercept=float(np.log(1.5)))
    always = replace(always, findings={"Upper_spot": 30})
    kept = {h.finding: h for h in told(Trust({"grad_cam": always}), tmp_path).heatmaps}["Upper_spot"]
    assert kept.hit_probability == pytest.approx(0.6) and kept.shown and kept.doubtful
    for trust in (None, Trust({"lime": always}), Trust({"grad_cam": KNOWN})):
        assert {h.hit_probability for h in told(trust, tmp_path).heatmaps} == {None}
