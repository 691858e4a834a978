"""The conformance suite for models: `check_model(your_model, image)`."""

from __future__ import annotations

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import ExplainedModel, Look
from storyxai.types import Array


def check_model(model: ExplainedModel, image: Array) -> None:
    """Hold a model to `ExplainedModel` on an image [C, H, W] that it takes.

    Raises: AssertionError on the first promise that is not kept.
    """
    assert isinstance(model, ExplainedModel), "lacks a member of ExplainedModel"
    names = model.findings
    assert isinstance(names, tuple) and names and len(set(names)) == len(names), "findings are not one or more different names"
    assert model.channels in (1, 3), "channels are neither 1 nor 3"
    assert model.input_size is None or len(model.input_size) == 2, "input_size is neither None nor (height, width)"
    assert model.model_id and model.model_id == model.model_id, "model_id is not the same twice"
    name, before = model.model_id, image.copy()
    logits = _check_logits(model, image)
    _check_look(model, image, logits)
    _check_input_gradients(model, image)
    _check_structures(model, image)
    _check_refusals(model, image)
    report = model.report(image)
    assert report is None or all(isinstance(sentence, str) for sentence in report.sentences), "the report is no sentences"
    assert (image == before).all(), "the image was changed"
    assert model.model_id == name, "the model was changed"
    assert model.logits(image[None]).tobytes() == logits.tobytes(), "the model answers otherwise after it was explained"


def _check_logits(model: ExplainedModel, image: Array) -> Array:
    logits, again = (model.logits(image[None]) for _ in range(2))
    assert logits.shape == (1, len(model.findings)), f"logits have shape {logits.shape} for one image"
    assert logits.dtype == np.float32, "logits are not float32"
    assert np.isfinite(logits).all(), "logits are not finite"
    assert logits.tobytes() == again.tobytes(), "the same image gives other logits"
    pair = model.logits(np.stack([image, image[:, ::-1]]).astype(np.float32))
    assert pair.shape == (2, len(model.findings)), f"logits have shape {pair.shape} for two images"
    np.testing.assert_allclose(pair[0], logits[0], rtol=1e-3, atol=1e-4, err_msg="an image's logits depend on its neighbours")
    return logits


def _check_look(model: ExplainedModel, image: Array, logits: Array) -> None:
    look, again = model.look(image), model.look(image)
    if look is None or again is None:
        assert look is again, "the model can be looked into only now and then"
        return
    count = len(model.findings)
    assert look.features.ndim == 3, "features are not [K, h, w]"
    np.testing.assert_allclose(look.logits, logits[0], rtol=1e-3, atol=1e-4, err_msg="look has other logits")
    assert _bytes(look) == _bytes(again), "the same look gives other numbers"
    if look.cells is not None:
        assert look.cells.shape == (count, *look.features.shape[1:]), "cells are not [F, h, w]"
    if look.gradients is None:
        return
    assert look.gradients.shape == (count, *look.features.shape), "gradients are not [F, K, h, w]"
    some = model.look(image, (count - 1, 0))
    assert some is not None and some.gradients is not None
    assert some.gradients.tobytes() == look.gradients[[count - 1, 0]].tobytes(), "gradients are not those of the columns"


def _bytes(look: Look) -> list[bytes]:
    return [part.tobytes() for part in look if isinstance(part, np.ndarray)]


def _check_input_gradients(model: ExplainedModel, image: Array) -> None:
    gradients = model.input_gradients(image[None])
    if gradients is None:
        return
    count = len(model.findings)
    assert gradients.shape == (1, count, *image.shape), "input gradients are not [B, F, C, H, W]"
    assert np.isfinite(gradients).all(), "input gradients are not finite"
    last = model.input_gradients(image[None], (count - 1,))
    assert last is not None
    assert last[:, 0].tobytes() == gradients[:, count - 1].tobytes(), "input gradients are not those of the columns"


def _check_structures(model: ExplainedModel, image: Array) -> None:
    for name, drawn in (model.structures(image) or {}).items():
        assert drawn.ndim == 2, f"structure '{name}' is not [h, w]"
        assert np.isfinite(drawn).all() and drawn.min() >= 0 and drawn.max() <= 1, f"'{name}' is no probability"


def _check_refusals(model: ExplainedModel, image: Array) -> None:
    wrong = np.repeat(image[:1], 4 - model.channels, axis=0)
    try:
        model.logits(wrong[None])
    except InputError:
        return
    except Exception as error:
        raise AssertionError(f"an image of {len(wrong)} channels raises {type(error).__name__}, not InputError") from error
    raise AssertionError(f"an image of {len(wrong)} channels is taken")
