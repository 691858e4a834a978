"""LIME against closed forms, against the `lime` package's own solve, and against itself."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest

from storyxai.errors import InputError
from storyxai.explain.contract import Budget
from storyxai.explain.lime import (
    Lime,
    LimeFit,
    LimeResult,
    foldover_vectors,
    kernel_weights,
    lime,
    lime_map,
    sample_vectors,
    unsettled_error,
)
from storyxai.explain.ridge import RidgeFit, inverse_of, weighted_ridge
from storyxai.explain.superpixels import grid_segments
from storyxai.models.adapters.function import FunctionModel

RNG = np.random.default_rng(11)
SIDE, COUNT = 32, 16
IMAGE = RNG.uniform(0.3, 1.0, (SIDE, SIDE)).astype(np.float32)
SEGMENTS = grid_segments((SIDE, SIDE), count=COUNT)
SLOPES = RNG.normal(size=(3, COUNT))


def shown(batch: np.ndarray) -> np.ndarray:
    """Which superpixels of IMAGE are shown, for fill 0: [B, S] of 0 and 1."""
    corners = [np.argwhere(s == SEGMENTS)[0] for s in range(COUNT)]
    return np.stack([batch[:, 0, r, c] > 0 for r, c in corners], axis=1).astype(np.float64)


def linear(batch: np.ndarray) -> np.ndarray:
    return shown(batch) @ SLOPES.T + np.array([1.0, -2.0, 0.5])


def curved(batch: np.ndarray) -> np.ndarray:
    """Superpixels 3 and 7 speak only together, 5 speaks against: not linear, so that LIME has something to miss."""
    on = shown(batch)
    return np.stack([2 * on[:, 3] * on[:, 7] - on[:, 5], on[:, 0] * on[:, 1] * on[:, 2]], axis=1)


def explain(predict, **settings) -> LimeResult:
    fit = LimeFit(**{key: settings.pop(key) for key in set(settings) & {field.name for field in fields(LimeFit)}})
    fill = settings.pop("fill", 0.0)
    return lime(predict, IMAGE, SEGMENTS, fill=fill, fit=fit, budget=Budget(**{"samples": 200, **settings}))


def test_a_linear_model_gives_its_own_coefficients() -> None:
    result = explain(linear, ridge=0.0)
    np.testing.assert_allclose(result.coefficients, SLOPES, atol=1e-10)
    np.testing.assert_allclose(result.intercept, [1.0, -2.0, 0.5], atol=1e-10)
    np.testing.assert_allclose(result.r2, 1.0, atol=1e-12)
    np.testing.assert_allclose(result.standard_error, 0.0, atol=1e-10)


def test_ridge_shrinks_but_keeps_signs() -> None:
    plain, shrunk = explain(linear, ridge=0.0), explain(linear, ridge=1.0)
    assert (np.abs(shrunk.coefficients).sum(axis=1) < np.abs(plain.coefficients).sum(axis=1)).all()
    strong = np.abs(SLOPES) > 0.3
    assert (np.sign(shrunk.coefficients) == np.sign(SLOPES))[strong].all()


def test_agrees_with_the_lime_package() -> None:
    lime_base = pytest.importorskip("lime.lime_base")
    vectors = sample_vectors(COUNT, samples=150, seed=3)
    weights = kernel_weights(vectors, width=0.25)
    answers = np.random.default_rng(4).normal(size=(150, 2)) + vectors @ SLOPES[:2].T
    ours = weighted_ridge(vectors, answers, weights=weights, ridge=1.0)
    base = lime_base.LimeBase(lambda distances: weights, random_state=np.random.RandomState(0))
    for finding in range(2):
        intercept, pairs, score, _ = base.explain_instance_with_data(
            vectors.astype(float), answers, np.zeros(150), finding, num_features=COUNT, feature_selection="none"
        )
        theirs = dict(pairs)
        np.testing.assert_allclose(ours.coefficients[finding], [theirs[s] for s in range(COUNT)], atol=1e-9)
        assert ours.intercept[finding] == pytest.approx(intercept, abs=1e-9)
        assert ours.r2[finding] == pytest.approx(score, abs=1e-9)


def test_kernel_on_paper() -> None:
    # A quarter shown: cosine with all ones is 1/2, so d = 1/2 and the weight exp(-(0.5 / 0.25)^2) = exp(-4).
    vectors = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=np.uint8)
    np.testing.assert_allclose(kernel_weights(vectors, width=0.25), [1, np.exp(-4), np.exp(-16)])


def test_same_seed_same_bytes_whatever_the_batch() -> None:
    first = explain(curved, batch=64)
    for batch in (1, 7, 200, 1000):
        again = explain(curved, batch=batch)
        for name in ("coefficients", "intercept", "r2", "standard_error", "interval", "reliability"):
            assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert explain(curved, seed=1).coefficients.tobytes() != first.coefficients.tobytes()


def test_more_samples_start_with_the_same_ones() -> None:
    assert (sample_vectors(COUNT, samples=100, seed=2) == sample_vectors(COUNT, samples=300, seed=2)[:100]).all()
    vectors = sample_vectors(COUNT, samples=2000, seed=0)
    assert vectors[0].all()
    assert abs(vectors[1:].mean() - 0.5) < 4 * 0.5 / np.sqrt(2000 * COUNT)


def test_a_foldover_design_is_balanced_and_every_row_has_its_complement() -> None:
    vectors = foldover_vectors(COUNT, samples=192, seed=2)
    assert (vectors[1::2] == 1 - vectors[::2]).all()
    assert (foldover_vectors(COUNT, samples=100, seed=2) == vectors[:100]).all()
    for start in range(0, 192, 64):
        signs = 2 * vectors[start : start + 64].astype(int) - 1
        assert (signs.T @ signs == 64 * np.eye(COUNT)).all() and (signs.sum(axis=0) == 0).all()
    assert (vectors[:64] != vectors[64:128]).any() and (vectors != foldover_vectors(COUNT, samples=192, seed=3)).any()


def test_two_superpixels_that_speak_together_cancel_in_a_pair_but_not_in_independent_samples() -> None:
    """Of 2 x y, and x and y are shown at half of all times, each superpixel's own effect is exactly one."""
    pure = explain(curved, samples=64, ridge=0.0)
    expected = np.zeros(COUNT)
    expected[[3, 7, 5]] = 1, 1, -1
    np.testing.assert_allclose(pure.coefficients[0], expected, atol=1e-12)
    # 2 x y = x + y - 1/2 + a quarter of the variance that is even in both; weights of pairs differ a little.
    np.testing.assert_allclose(pure.intercept[0], -0.5, atol=0.03)
    np.testing.assert_allclose(pure.r2[0], 0.75 / (0.75 + 0.25), atol=0.03)
    alone = explain(curved, samples=64, ridge=0.0, design="independent")
    assert np.abs(alone.coefficients[0] - expected).max() > 0.05


def test_too_few_samples_for_pairs_are_drawn_independently_and_an_odd_one_is_left_out() -> None:
    assert explain(linear, samples=2 * COUNT + 3).design == "independent"
    odd = explain(linear, samples=2 * COUNT + 5)
    assert (odd.design, odd.samples.tolist()) == ("foldover", [2 * COUNT + 4] * 3)


def test_signs_hold_between_500_and_1000_samples() -> None:
    few, many = explain(curved, samples=500), explain(curved, samples=1000)
    sure = (many.interval[..., 0] > 0) | (many.interval[..., 1] < 0)
    assert sure[0, [3, 5, 7]].all()
    assert sure[1, [0, 1, 2]].all()
    assert (np.sign(few.coefficients) == np.sign(many.coefficients))[sure].all()


@pytest.mark.parametrize(("design", "predict"), [("independent", "curved"), ("foldover", "noisy")])
def test_standard_error_is_the_spread_over_seeds(design: str, predict: str) -> None:
    asked = {"curved": curved, "noisy": lambda batch: noisy(batch)[:, 1:]}[predict]
    runs = [explain(asked, samples=300, seed=seed, design=design, ridge=0.1) for seed in range(40)]
    spread = np.std([run.coefficients for run in runs], axis=0, ddof=1)
    stated = np.mean([run.standard_error for run in runs], axis=0)
    # 40 runs know a spread to 11 %; over 32 coefficients the mean ratio must be near one (HC3 is slightly cautious).
    assert 0.9 < (stated / spread).mean() < 1.25


def test_reliability_foretells_the_correlation_of_two_seeds() -> None:
    runs = [explain(curved, samples=500, seed=seed) for seed in range(16)]
    seen = [
        [np.corrcoef(a.coefficients[f], b.coefficients[f])[0, 1] for a, b in zip(runs[::2], runs[1::2], strict=True)]
        for f in range(2)
    ]
    told = np.mean([run.reliability for run in runs], axis=0)
    np.testing.assert_allclose(told, np.mean(seen, axis=1), atol=0.03)


def test_a_model_that_never_moves_has_no_evidence() -> None:
    result = explain(lambda batch: np.full((len(batch), 2), 0.3))
    assert (result.coefficients == 0).all()
    assert (result.r2 == 0).all()
    assert (result.reliability == 0).all()


def test_the_first_independent_sample_is_the_whole_image_and_batches_are_real() -> None:
    seen: list[np.ndarray] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.float32
        seen.append(batch.copy())
        return linear(batch)

    explain(watching, batch=64, design="independent")
    assert (seen[0][0, 0] == IMAGE).all()
    assert [len(batch) for batch in seen] == [64, 64, 64, 8]


@pytest.mark.parametrize("fill", ["blur", "mean", 0.5])
def test_hidden_superpixels_take_the_fill_and_shown_ones_stay(fill) -> None:
    seen: list[np.ndarray] = []

    def watching(batch: np.ndarray) -> np.ndarray:
        seen.append(batch[:, 0].copy())
        return batch.mean(axis=(1, 2, 3))[:, None]

    result = explain(watching, fill=fill, samples=40)
    images, vectors = np.concatenate(seen), foldover_vectors(COUNT, samples=40, seed=0).astype(bool)
    on = vectors[:, SEGMENTS]
    assert (images == IMAGE)[on].all()
    if fill == "mean":
        means = [IMAGE[s == SEGMENTS].mean() for s in range(COUNT)]
        np.testing.assert_allclose(images[~on], np.broadcast_to(np.array(means)[SEGMENTS], on.shape)[~on], atol=1e-6)
    if fill == 0.5:
        assert (images[~on] == 0.5).all()
    assert result.fill == str(fill)


def test_map_paints_each_superpixel() -> None:
    result = explain(linear, ridge=0.0)
    maps = lime_map(result, SEGMENTS)
    assert maps.shape == (3, SIDE, SIDE)
    assert maps.dtype == np.float32
    for s in range(COUNT):
        np.testing.assert_allclose(maps[:, s == SEGMENTS], np.tile(SLOPES[:, [s]], 64), atol=1e-5)
    with pytest.raises(InputError):
        lime_map(result, grid_segments((SIDE, SIDE), count=4))


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"samples": 10}, "samples"), ({"batch": 0}, "batch"), ({"fill": "noise"}, "fill"), ({"fill": 2.0}, "fill")],
)
def test_bad_settings_name_the_mend(settings, word: str) -> None:
    with pytest.raises(InputError, match=word):
        explain(linear, **settings)


def test_bad_models_and_segments() -> None:
    with pytest.raises(InputError, match="return logits"):
        explain(lambda batch: batch.mean(axis=(1, 2, 3)))
    with pytest.raises(InputError, match="not finite"):
        explain(lambda batch: np.full((len(batch), 1), np.inf))
    with pytest.raises(InputError, match="gaps"):
        lime(linear, IMAGE, SEGMENTS * 2)
    with pytest.raises(InputError, match="shape"):
        lime(linear, IMAGE, SEGMENTS[:-1])


def test_superpixels_always_switched_together_are_refused_without_ridge() -> None:
    vectors = sample_vectors(4, samples=30, seed=0)
    vectors[:, 1] = vectors[:, 0]
    answers = vectors[:, :1].astype(float)
    with pytest.raises(InputError, match="ridge"):
        weighted_ridge(vectors, answers, weights=np.ones(30), ridge=0.0)
    fit = weighted_ridge(vectors, answers, weights=np.ones(30), ridge=1.0)
    assert fit.coefficients[0, 0] == pytest.approx(fit.coefficients[0, 1])


def test_without_a_number_of_samples_it_stops_when_order_and_signs_are_known() -> None:
    """A linear model is known after the first round, at which time its coefficients are those of its own slopes."""
    result = explain(linear, samples=None, ridge=0.0, first_per_superpixel=3)
    assert result.stopped == ("stable",) * 3
    # Two whole foldover designs of order 32: three samples a superpixel would be 48.
    assert result.samples.tolist() == [128] * 3
    alone = explain(linear, samples=None, ridge=0.0, first_per_superpixel=3, design="independent")
    assert alone.samples.tolist() == [3 * COUNT] * 3
    np.testing.assert_allclose(result.coefficients, SLOPES, atol=1e-9)
    np.testing.assert_allclose(result.error, 0, atol=1e-9)


def noisy(batch: np.ndarray) -> np.ndarray:
    """A linear finding, one of the same with much noise, and one of noise alone: the noise depends on the image only."""
    on = shown(batch)
    noise = np.sin(12345.6 * np.einsum("bs,s->b", on, np.sqrt(np.arange(2, COUNT + 2))))
    # einsum, not BLAS: an image's answer must not depend on its place in the batch.
    plain = np.einsum("bs,s->b", on, SLOPES[0])
    return np.stack([plain, plain + 2.5 * noise, noise], axis=1)


def test_each_finding_stops_at_its_own_time_and_as_if_that_number_had_been_given() -> None:
    result = explain(noisy, samples=None, most=1000, error=0.15)
    assert result.stopped == ("stable", "stable", "samples")
    assert result.samples[0] < result.samples[1] < result.samples[2] == 960  # fifteen matrices of 64 rows
    assert (result.error[:2] <= 0.15).all() and result.error[2] > 0.15
    for finding, samples in enumerate(result.samples.tolist()):
        fixed = explain(noisy, samples=samples)
        assert fixed.coefficients[finding].tobytes() == result.coefficients[finding].tobytes()
        alone = explain(lambda batch, f=finding: noisy(batch)[:, [f]], samples=None, most=1000, error=0.15)
        assert alone.samples.tolist() == [samples]


def test_what_was_called_stable_is_what_many_samples_say() -> None:
    """Order and signs of the strongest superpixels, within the stated error, over sixteen seeds."""
    truth = explain(noisy, samples=20_000).coefficients[1]
    scale = np.abs(truth).max()
    for seed in range(16):
        found = explain(noisy, samples=None, seed=seed, error=0.2).coefficients[1]
        top = np.argsort(-np.abs(found), kind="stable")[:5]
        assert ((np.sign(found[top]) == np.sign(truth[top])) | (np.abs(truth[top]) < 0.2 * scale)).all()
        steps = np.diff(np.abs(truth[top]))
        assert (steps < 0.2 * scale).all(), "a superpixel told as weaker may be stronger by no more than the error"


def test_an_error_is_open_only_where_sign_or_order_is() -> None:
    sure = RidgeFit(np.array([[4.0, -2.0, 1.0, 0.0]]), np.zeros(1), np.full((1, 4), 0.1), np.ones(1))
    assert unsettled_error(sure, strongest=3)[0] == 0
    order = RidgeFit(np.array([[4.0, -3.9, 1.0, 0.0]]), np.zeros(1), np.full((1, 4), 0.1), np.ones(1))
    assert unsettled_error(order, strongest=3)[0] == pytest.approx(1.959964 * np.hypot(0.1, 0.1) / 4, rel=1e-5)
    sign = RidgeFit(np.array([[4.0, 0.3, 0.0, 0.0]]), np.zeros(1), np.array([[0.1, 0.2, 0.0, 0.0]]), np.ones(1))
    assert unsettled_error(sign, strongest=2)[0] == pytest.approx(1.959964 * 0.2 / 4, rel=1e-5)


def test_time_ends_it_after_the_least_that_a_fit_needs() -> None:
    for samples, design, least in ((None, "foldover", 36), (5000, "foldover", 36), (5000, "independent", 20)):
        result = explain(curved, samples=samples, seconds=0.0, batch=4, design=design)
        assert result.stopped == ("seconds",) * 2
        assert result.samples.tolist() == [least] * 2


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    """Beside a byte a superpixel and eight a finding, which 4,000 samples more make 0.1 MB of."""

    def peak(samples: int) -> int:
        tracemalloc.start()
        explain(curved, samples=samples)
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    peak(200)
    assert peak(6000) - peak(2000) < 4000 * (COUNT + 3 * 8 * 2 + 24)


def test_blocks_of_rows_give_the_fit_of_all_rows() -> None:
    vectors = sample_vectors(COUNT, samples=2500, seed=5)
    answers = vectors @ SLOPES.T + np.random.default_rng(6).normal(size=(2500, 3))
    weights = kernel_weights(vectors, width=0.25)
    fit = weighted_ridge(vectors, answers, weights=weights, ridge=0.0)
    design = np.column_stack([np.ones(2500), vectors])
    known = np.linalg.lstsq(design * np.sqrt(weights)[:, None], answers * np.sqrt(weights)[:, None], rcond=None)[0]
    np.testing.assert_allclose(fit.coefficients, known[1:].T, atol=1e-9)
    np.testing.assert_allclose(inverse_of(design.T @ design), np.linalg.inv(design.T @ design), atol=1e-9)


def test_lime_waits_only_for_what_is_asked() -> None:
    """The finding of noise alone never settles; asked for the plain one, LIME ends at once and with the same map."""
    asked: list[int] = []

    def watched(batch: np.ndarray) -> np.ndarray:
        asked.append(len(batch))
        return noisy(batch)

    method = Lime(superpixels=COUNT, fill=0.0, fit=LimeFit(error=0.15))
    model = FunctionModel(watched, findings=("plain", "both", "noise"), size=(SIDE, SIDE))
    alone = method.explain(model, IMAGE[None], ("plain",), Budget(samples=None))
    few, asked[:] = sum(asked), []
    whole = method.explain(model, IMAGE[None], ("plain", "both", "noise"), Budget(samples=None))
    assert few < sum(asked) and alone[0].values.tobytes() == whole[0].values.tobytes()


def test_a_fit_of_many_findings_is_that_of_each_alone_to_the_last_bit() -> None:
    rng = np.random.default_rng(5)
    vectors, answers = rng.integers(0, 2, (700, 20)), rng.normal(size=(700, 5))
    weights = rng.uniform(0.1, 1.0, 700)
    together = weighted_ridge(vectors, answers, weights=weights, ridge=1.0)
    for one in range(5):
        alone = weighted_ridge(vectors, answers[:, [one]], weights=weights, ridge=1.0)
        for part in fields(RidgeFit):
            assert getattr(together, part.name)[one].tobytes() == getattr(alone, part.name)[0].tobytes(), part.name
