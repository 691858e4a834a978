"""The conformance suite for methods of explanation: `check_method(your_method, model, image)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from storyxai.errors import InputError, UnknownNameError, UnsupportedMethodError
from storyxai.explain.contract import Budget, ExplainedModel, Explanation, Look, Method, WrittenReport
from storyxai.types import Array

FEW = Budget(samples=96, batch=16)


def check_method(method: Method, model: ExplainedModel, image: Array, *, budget: Budget = FEW) -> None:
    """Hold a method to `Method` on a model of two or more findings that can serve it, and an image [C, H, W].

    Raises: AssertionError on the first promise that is not kept.
    """
    assert isinstance(method, Method), "lacks a member of Method"
    assert method.key.isidentifier() and method.name, "key is no plain name, or name is empty"
    assert len(model.findings) > 1, "give a model of two or more findings"
    name, before, state = model.model_id, image.copy(), _global_state()
    all_of_them = method.explain(model, image, model.findings, budget)
    _check_form(method, all_of_them, model.findings, image)
    _check_same(all_of_them, method.explain(model, image, model.findings, budget), "the same call gives other bytes")
    _check_independence(method, model, image, all_of_them, budget)
    assert (image == before).all(), "the image was changed"
    assert model.model_id == name, "the model was changed"
    assert _global_state() == state, "the global random state was used"
    _check_refusals(method, model, image, budget)


def _global_state() -> str:
    """numpy's global generator, which a method leaves alone."""
    with np.printoptions(threshold=10_000):
        return repr(np.random.get_state())  # noqa: NPY002 - it is looked at, not used


def _check_form(method: Method, found: Sequence[Explanation], findings: Sequence[str], image: Array) -> None:
    assert [each.finding for each in found] == list(findings), "explanations are not one per finding, in order"
    for each in found:
        assert each.method == method.key, "an explanation names another method"
        assert each.unit, "an explanation has no unit"
        assert each.values.ndim == 2 and each.values.dtype == np.float32, "values are not float32 [h, w]"
        assert np.isfinite(each.values).all(), "values are not finite"
        for key, value in each.details.items():
            assert value is None or isinstance(value, bool | int | float | str), f"detail '{key}' is no plain value"
        if each.segments is not None:
            assert each.segments.shape == image.shape[1:] == each.values.shape, "segments are not of the image's frame"
        if each.intervals is not None:
            assert each.segments is not None, "intervals without segments"
            assert each.intervals.shape == (int(each.segments.max()) + 1, 2), "intervals are not [S, 2]"
            assert (each.intervals[:, 0] <= each.intervals[:, 1]).all(), "an interval is turned round"


def _check_same(first: Sequence[Explanation], second: Sequence[Explanation], fault: str) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.finding == b.finding and a.values.tobytes() == b.values.tobytes(), f"{fault}: {a.finding}"
        assert dict(a.details) == dict(b.details), f"{fault}: details of {a.finding}"


def _check_independence(
    method: Method, model: ExplainedModel, image: Array, known: Sequence[Explanation], budget: Budget
) -> None:
    fault = "a map depends on which others were asked for"
    last, first = len(known) - 1, 0
    _check_same([known[last]], method.explain(model, image, [model.findings[last]], budget), fault)
    turned = [model.findings[last], model.findings[first]]
    _check_same([known[last], known[first]], method.explain(model, image, turned, budget), fault)


def _check_refusals(method: Method, model: ExplainedModel, image: Array, budget: Budget) -> None:
    bad = {
        "without its channel axis": image[0],
        "of nan": np.full_like(image, np.nan),
        "beyond [0, 1]": image + 5,
        "of other channels": np.repeat(image[:1], 4 - model.channels, axis=0),
    }
    for words, wrong in bad.items():
        _check_raises(InputError, f"an image {words}", method, model, wrong, model.findings[:1], budget)
    _check_raises(UnknownNameError, "a finding that the model lacks", method, model, image, ("no such finding",), budget)
    if method.needs:
        closed = _Closed(model)
        _check_raises(UnsupportedMethodError, "a closed model", method, closed, image, model.findings[:1], budget)


def _check_raises(
    kind: type[Exception], words: str, method: Method, model: ExplainedModel, image: Array, findings: Sequence[str],
    budget: Budget,
) -> None:
    try:
        method.explain(model, image, findings, budget)
    except kind:
        return
    except Exception as error:
        raise AssertionError(f"{words} raises {type(error).__name__}, not {kind.__name__}") from error
    raise AssertionError(f"{words} is taken")


class _Closed:
    """The same model, but it gives logits alone."""

    def __init__(self, model: ExplainedModel) -> None:
        self.findings, self.channels, self.input_size = model.findings, model.channels, model.input_size
        self.model_id, self.logits = model.model_id, model.logits

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        return None

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array | None:
        return None

    def structures(self, image: Array) -> None:
        return None

    def report(self, image: Array) -> WrittenReport | None:
        return None
