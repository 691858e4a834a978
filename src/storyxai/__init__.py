"""storyxai: a medical image and a model become stories for four readers, each sentence backed by checked evidence.

    import storyxai as sx

    model = sx.TorchModel(net, layer=net.layer4, findings=["one", "other"])
    image = sx.read("film.dcm")
    evidence = sx.gather(model, image, methods=["grad_cam", "lime"])
    story = sx.tell(evidence, audience="practitioner")
    sx.render(story, "story.html")

Each name is loaded when it is first used. Research use only - not for diagnostic use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storyxai.evidence.archive import read_archive as load_evidence
    from storyxai.evidence.archive import write_archive as save_evidence
    from storyxai.evidence.gather import GatherSettings, gather
    from storyxai.evidence.gather import explain_finding as explain
    from storyxai.export.save import render
    from storyxai.imaging.read import read_image as read
    from storyxai.models.adapters.function import FunctionModel
    from storyxai.models.adapters.onnx_model import OnnxModel
    from storyxai.models.adapters.torch_model import TorchModel
    from storyxai.models.runtime import load_student
    from storyxai.programs.evaluate import evaluate, evaluate_explanations
    from storyxai.programs.verify import verify
    from storyxai.story.tell import tell

__all__ = [
    "FunctionModel", "GatherSettings", "OnnxModel", "TorchModel", "__version__", "evaluate", "evaluate_explanations", "explain",
    "gather", "load_evidence", "load_student", "read", "render", "save_evidence", "tell", "verify",
]

__version__ = "0.1.0"

_PLACES = {
    "FunctionModel": "storyxai.models.adapters.function:FunctionModel",
    "GatherSettings": "storyxai.evidence.gather:GatherSettings",
    "OnnxModel": "storyxai.models.adapters.onnx_model:OnnxModel",
    "TorchModel": "storyxai.models.adapters.torch_model:TorchModel",
    "evaluate": "storyxai.programs.evaluate:evaluate",
    "evaluate_explanations": "storyxai.programs.evaluate:evaluate_explanations",
    "gather": "storyxai.evidence.gather:gather",
    "load_evidence": "storyxai.evidence.archive:read_archive",
    "load_student": "storyxai.models.runtime:load_student",
    "read": "storyxai.imaging.read:read_image",
    "render": "storyxai.export.save:render",
    "save_evidence": "storyxai.evidence.archive:write_archive",
    "tell": "storyxai.story.tell:tell",
    "verify": "storyxai.programs.verify:verify",
}


def __getattr__(name: str) -> Any:
    if name == "explain":  # the room of that name, which can be called
        return import_module("storyxai.explain")
    if name not in _PLACES:
        raise AttributeError(f"module 'storyxai' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    found = getattr(import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


class _Room(ModuleType):
    """`storyxai.explain`: a room of modules, and the verb of that name when it is called."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return import_module("storyxai.evidence.gather").explain_finding(*args, **options)


class _Face(ModuleType):
    """The package: a room that is imported becomes its attribute, and would otherwise hide the verb."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "explain" and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
