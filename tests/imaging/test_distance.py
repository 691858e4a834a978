"""The gate's distance: closed form on made features, an independent oracle, and files that come back."""

from __future__ import annotations

from dataclasses import replace
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
    near = distance.of(seen)
    return near.distance <= near.limit


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


def test_what_is_most_like_a_set_that_taught_no_findings_is_known_for_it() -> None:
    """Films of children that taught outlines alone were told findings of as adults' are."""
    rng = np.random.default_rng(5)
    sets = {"adults": [1.0] * 60, "children": [3.0] * 60, "others": [1.2] * 60}
    seen = {name: np.array([summary(features(rng, gain=gain)) for gain in gains]) for name, gains in sets.items()}
    distance = replace(fit_distance(seen, untaught=("children",)), least_age=11.0)
    adult, child = distance.of(features(rng, gain=1.0)), distance.of(features(rng, gain=3.0))
    assert adult.untaught is not None and child.untaught is not None and adult.untaught < 0 < child.untaught
    assert adult.least_age == child.least_age == 11
    # By hand: how much nearer the child lies to its own centre than to the nearer one of the others.
    film = features(rng, gain=2.9)
    apart = [
        mahalanobis(summary(film), centre, distance.whitening.astype(float) @ distance.whitening.astype(float))
        for centre in distance.centres.astype(float)
    ]
    assert distance.of(film).untaught == pytest.approx(min(apart[0], apart[2]) - apart[1], rel=1e-6)
    assert fit_distance(seen).of(film) == (*distance.of(film)[:2], None, None)
    with pytest.raises(ValueError, match="no set named infants; there are adults, children, others"):
        fit_distance(seen, untaught=("infants",))
    with pytest.raises(ValueError, match="none of adults, children, others taught findings"):
        fit_distance(seen, untaught=tuple(seen))


def test_the_order_of_sets_changes_nothing_and_the_same_fit_comes_again() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (40, 6)), rng.normal(1, 1, (40, 6))
    one, other = fit_distance({"a": a, "b": b}), fit_distance({"b": b, "a": a})
    assert one.whitening.tobytes() == other.whitening.tobytes() and one.limits.tolist() == other.limits.tolist()


def test_it_comes_back_from_its_file_or_is_refused(tmp_path: Path) -> None:
    distance = replace(fitted(count=40), taught=np.array([True, False]), least_age=11.0)
    seen = features(np.random.default_rng(3))
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


def test_a_file_of_before_has_one_limit_for_all_and_all_its_sets_taught_findings(tmp_path: Path) -> None:
    distance = fitted(count=40)
    distance.write(tmp_path)
    held = load_file(tmp_path / DISTANCE_NAME)
    save_file({**held, "limit": held["limit"][:1].copy()}, tmp_path / DISTANCE_NAME)
    assert read_distance(tmp_path).limits.tolist() == [distance.limits[0]] * 2
    del held["taught"]
    save_file(held, tmp_path / DISTANCE_NAME)
    assert read_distance(tmp_path).taught.all()


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
