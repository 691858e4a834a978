"""The gate's distance: closed form on made features, an independent oracle, and files that come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.spatial.distance import mahalanobis

from storyxai.errors import WeightsError
from storyxai.imaging.distance import (
    DISTANCE_NAME,
    PASSED_SHARE,
    SHRINKAGE,
    GateDistance,
    calibrate_distance,
    fit_distance,
    read_distance,
    summary,
)


def features(rng: np.random.Generator, *, gain: float = 1.0) -> np.ndarray:
    return (gain * rng.gamma(2.0, 1.0, (4, 6, 6))).astype(np.float32)


def fitted(seed: int = 0, count: int = 300) -> GateDistance:
    rng = np.random.default_rng(seed)
    sets = {"adults": [1.0] * count, "children": [3.0] * count}
    return fit_distance({name: np.array([summary(features(rng, gain=g)) for g in gains]) for name, gains in sets.items()})


def passes(distance: GateDistance, seen: np.ndarray) -> bool:
    value, limit = distance.of(seen)
    return value <= limit


def test_a_summary_on_paper() -> None:
    one = np.zeros((2, 2, 2), np.float32)
    one[0] = [[4, 4], [0, 0]]
    assert summary(one).tolist() == pytest.approx([np.sqrt(2), 0, 2, 0, 0, 0])


def test_the_distance_is_scipys_mahalanobis_to_the_nearest_centre() -> None:
    rng = np.random.default_rng(1)
    sets = {name: rng.normal(at, 1.0, (60, 12)) + 9 for name, at in (("a", 0.0), ("b", 4.0))}
    distance = fit_distance(sets)
    centres = np.array([sets[name].mean(axis=0) for name in "ab"])
    within = np.concatenate([sets[name] - centre for name, centre in zip("ab", centres, strict=True)])
    cov = within.T @ within / 118
    spread = np.diag(cov).copy()
    cov = (1 - SHRINKAGE) * cov + SHRINKAGE * np.diag(spread) + np.eye(12) * 1e-4 * spread.mean()
    seen = features(rng)
    expected = min(mahalanobis(summary(seen), centre, np.linalg.inv(cov)) for centre in centres)
    assert distance.of(seen)[0] == pytest.approx(expected, rel=1e-4)
    assert distance.n == 120


def test_kin_pass_and_strangers_do_not() -> None:
    distance, rng = fitted(), np.random.default_rng(9)
    for gain in (1.0, 3.0):
        within = [passes(distance, features(rng, gain=gain)) for _ in range(300)]
        assert 0.955 < np.mean(within) <= 1
    assert not any(passes(distance, features(rng, gain=gain)) for gain in (0.02, 30.0) for _ in range(20))


def test_a_set_apart_has_its_own_limit_and_leaves_the_others_theirs() -> None:
    rng = np.random.default_rng(6)
    sets = {"films": rng.normal(0, 1, (400, 6)), "made": rng.normal(20, 3, (400, 6))}
    together, apart = fit_distance(sets), fit_distance(sets, apart=("made",))
    films, made = apart.limits
    assert made > 2 * films and len(set(together.limits)) == 1
    # By hand: what is left out of each fifth, to the nearest centre, among films alone.
    alone = []
    for fold in range(5):
        centres, within = [], []
        for rows in sets.values():
            kept = np.delete(rows, np.s_[fold::5], axis=0)
            centres.append(kept.mean(axis=0))
            within.append(kept - centres[-1])
        every = np.concatenate(within)
        cov = every.T @ every / (len(every) - 2)
        spread = np.diag(cov).copy()
        cov = (1 - SHRINKAGE) * cov + SHRINKAGE * np.diag(spread) + np.eye(6) * 1e-4 * spread.mean()
        inverse = np.linalg.inv(cov)
        alone += [min(mahalanobis(row, c, inverse) for c in centres) for row in sets["films"][fold::5]]
    assert films == pytest.approx(np.quantile(alone, PASSED_SHARE), rel=1e-6)
    with pytest.raises(ValueError, match="no set named phantoms; there are films, made"):
        fit_distance(sets, apart=("phantoms",))


def test_the_order_of_sets_changes_nothing_and_the_same_fit_comes_again() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (40, 6)), rng.normal(1, 1, (40, 6))
    one, other = fit_distance({"a": a, "b": b}), fit_distance({"b": b, "a": a})
    assert one.whitening.tobytes() == other.whitening.tobytes() and one.limits.tolist() == other.limits.tolist()


def test_it_comes_back_from_its_file_or_is_refused(tmp_path: Path) -> None:
    distance, seen = fitted(count=40), features(np.random.default_rng(3))
    first = distance.write(tmp_path).read_bytes()
    assert distance.write(tmp_path).read_bytes() == first
    again = read_distance(tmp_path)
    assert again.of(seen) == distance.of(seen) and (again.limits.tolist(), again.n) == (distance.limits.tolist(), 80)
    with pytest.raises(WeightsError, match="is for 4 channels, the student has 5"):
        again.of(np.ones((5, 6, 6), np.float32))
    (tmp_path / DISTANCE_NAME).write_bytes(first[:100])
    with pytest.raises(WeightsError, match="copy the model again"):
        read_distance(tmp_path)
    with pytest.raises(WeightsError, match="copy the model again"):
        read_distance(tmp_path / "none")


def test_a_file_of_before_has_one_limit_for_all(tmp_path: Path) -> None:
    distance = fitted(count=40)
    distance.write(tmp_path)
    held = load_file(tmp_path / DISTANCE_NAME)
    save_file({**held, "limit": held["limit"][:1].copy()}, tmp_path / DISTANCE_NAME)
    assert read_distance(tmp_path).limits.tolist() == [distance.limits[0]] * 2


def test_films_are_looked_at_in_the_models_frame() -> None:
    asked: list[tuple[int, ...]] = []

    def look(view: np.ndarray) -> np.ndarray:
        asked.append(view.shape)
        return view[None, :8, :8] + np.float32(0.1)

    rng = np.random.default_rng(4)
    films = [rng.random((40, 30), dtype=np.float32) for _ in range(20)]
    assert calibrate_distance(look, 32, sets={"x": films}).n == 20
    assert set(asked) == {(32, 32)}
    with pytest.raises(ValueError, match="needs 20 films"):
        calibrate_distance(look, 32, sets={"x": films[:19]})
