"""The methods of explanation by name: ours, and those that other packages bring by an entry point.

A package declares its own in the group `storyxai.methods`; the value is a `Method`, or a class or function that makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from storyxai.errors import InputError, UnknownNameError
from storyxai.explain.cam import CAMS
from storyxai.explain.captum_methods import CAPTUM
from storyxai.explain.contract import Method
from storyxai.explain.gradients import IntegratedGradients, Saliency, SmoothGrad
from storyxai.explain.kernel_shap import KernelShap
from storyxai.explain.lime import Lime
from storyxai.explain.occlusion import FineOcclusion, Occlusion
from storyxai.explain.rise import Rise
from storyxai.explain.rollout import AttentionRollout
from storyxai.explain.score_cam import ScoreCam

__all__ = ["GROUP", "METHODS", "known_methods", "method_named"]

GROUP = "storyxai.methods"
OURS: tuple[Method, ...] = (
    *CAMS, ScoreCam(), Saliency(), SmoothGrad(), IntegratedGradients(), Lime(), KernelShap(), Occlusion(), Rise(),
    FineOcclusion(), AttentionRollout(), *CAPTUM,
)
METHODS: Mapping[str, Method] = {method.key: method for method in OURS}
"""Our methods with their default options; `dataclasses.replace` gives one with others."""


def known_methods() -> tuple[str, ...]:
    """The names of all methods, ours first, none of them loaded."""
    return (*METHODS, *sorted({point.name for point in entry_points(group=GROUP)} - set(METHODS)))


def method_named(key: str) -> Method:
    """The method of that name.

    Raises: UnknownNameError, naming the nearest; InputError where another package's method cannot be loaded.
    """
    if key in METHODS:
        return METHODS[key]
    points = tuple(entry_points(group=GROUP, name=key))
    if not points:
        raise UnknownNameError("method", key, known_methods())
    return _load(points[0])


def _load(point: EntryPoint) -> Method:
    what = f"method '{point.name}'"
    package = point.dist.name if point.dist is not None else point.value
    mend = f"mend or uninstall the package {package}"
    try:
        loaded = point.load()
        method = loaded if isinstance(loaded, Method) and not isinstance(loaded, type) else loaded()
    except Exception as error:  # another's module may raise anything when it is imported
        raise InputError(what, f"cannot be loaded from {point.value} ({type(error).__name__}: {error})", mend=mend) from error
    if not isinstance(method, Method):
        raise InputError(what, f"{point.value} is no method of explanation", mend=mend)
    return method
