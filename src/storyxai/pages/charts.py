"""Charts as SVG: letters as outlines, no date, fixed ids, so that the same figure gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

_LOOK = {
    "svg.hashsalt": "storyxai", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "axes.edgecolor": "#56616f", "xtick.color": "#56616f", "ytick.color": "#1e2733",
    "ytick.major.size": 0,
}  # fmt: skip
_NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}


def chart_svg(draw: Callable[[], Any]) -> bytes:
    """The matplotlib figure that `draw` makes, as SVG on a transparent ground; the reader's own settings play no part."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_LOOK)
        stream = io.BytesIO()
        draw().savefig(stream, format="svg", bbox_inches="tight", metadata=_NOTHING, transparent=True)
    return stream.getvalue()
