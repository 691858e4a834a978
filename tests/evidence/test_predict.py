"""Outlines in the original frame."""

from __future__ import annotations

import numpy as np
import pytest

from storyxai.evidence.predict import _outline
from storyxai.imaging.geometry import model_frame


@pytest.mark.parametrize("edge", [37.4, 40.3, 61.7])
@pytest.mark.parametrize("steepness", [0.15, 0.6, 1.5])
def test_an_outline_stands_where_the_log_odds_cross_zero_however_steep_they_are(edge: float, steepness: float) -> None:
    centres = np.arange(24) * 4 + 1.5  # of cells four pixels wide
    odds = np.tile(steepness * (centres - edge), (24, 1))
    mask = _outline((1 / (1 + np.exp(-odds))).astype(np.float32), model_frame(96, 96, size=96))
    first = mask.argmax(axis=1)
    # What is clipped far from the edge bends a cubic a little, so half a pixel is allowed beside the pixel itself.
    assert np.all(first >= np.ceil(edge) - 0.6) and np.all(first <= np.ceil(edge) + 0.6)


def test_an_outline_of_nothing_is_empty_and_of_everything_is_full() -> None:
    frame = model_frame(100, 60, size=96)
    assert not _outline(np.zeros((24, 24), np.float32), frame).any()
    assert _outline(np.ones((24, 24), np.float32), frame).all()
