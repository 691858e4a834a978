"""Anybody's torch network as a model that can be explained.

Nothing of the caller's network changes: hooks go, train or eval state, gradients and random state come back, also when the
network raises. torch is imported inside the functions, so that this module costs nothing until it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Attention, Look, WrittenReport
from storyxai.models.adapters.function import PROBABILITIES_MEND, checked_answer, logits_shape
from storyxai.models.adapters.settings import channel_numbers, checked_findings, checked_size
from storyxai.models.adapters.torch_layers import find_layer, grid_of, layer_named
from storyxai.types import Array

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["TorchModel"]


@dataclass(frozen=True, eq=False)
class TorchModel:
    """A torch network from images to logits: convolutional, or a transformer whose tokens lie on a grid.

    `findings` names the logits in order. `layer` is a module of the network or its dotted name; None finds the last that
    gives a grid. `channels` 0 and `size` None are read from the network where it says so. Images in [0, 1] become what the
    network was trained on by `mean` and `std` (one number a channel), or by `transform`, a function from tensor to tensor.
    Raises: InputError for names that are no names, a layer that is not there, or settings that do not fit.
    """

    module: nn.Module
    layer: nn.Module | str | None = None
    findings: Sequence[str] = ()
    channels: int = 0
    size: int | tuple[int, int] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None
    _found: dict[tuple[int, ...], str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _refuse_no_network(self.module)
        object.__setattr__(self, "findings", checked_findings(self.findings))
        object.__setattr__(self, "channels", self.channels or _channels_of(self.module))
        if self.channels not in (1, 3):
            raise InputError("channels", f"{self.channels!r}", mend="images have 1 or 3; bring them there with transform=")
        if self.layer is not None:
            layer_named(self.module, self.layer)
        for what, numbers in (("mean", self.mean), ("std", self.std)):
            object.__setattr__(self, what, channel_numbers(what, numbers, self.channels))
        object.__setattr__(self, "size", checked_size(self.size))

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width that the network takes, None for any."""
        size = _size_of(self.module) if self.size is None else self.size
        return (size, size) if isinstance(size, int) else size

    @property
    def model_id(self) -> str:
        """The network's class and the start of the SHA-256 of its weights."""
        digest = hashlib.sha256()
        for name, value in self.module.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(_bytes()).numpy().tobytes())
        return f"{type(self.module).__name__} {digest.hexdigest()[:12]}"

    def logits(self, images: Array) -> Array:
        """The logits [B, F].

        Raises: InputError where the network does not answer with one finite number per image and finding.
        """
        import torch

        with _undisturbed(self.module), torch.no_grad():
            return _array(self._answer(self._tensor(images)))

    def look(self, image: Array, columns: Sequence[int] | None = None) -> Look | None:
        """Features of the layer on one image [C, H, W] and the gradients of the logits in `columns` (None: all).

        None where no layer was named and none gives a grid that moves the logits: then methods that ask for logits serve.
        One forward pass; the gradients go only through what follows the layer. Works under no_grad and inference_mode, and
        with an in-place ReLU after the layer. Raises: InputError for a layer that did not run once or gives no grid.
        """
        import torch

        seen: list[torch.Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: object) -> torch.Tensor:
            if not isinstance(output, torch.Tensor):
                raise InputError("layer", f"gives a {type(output).__name__}, not one tensor", mend="choose a layer inside it")
            # What comes before the layer needs no graph; what follows does.
            torch.set_grad_enabled(True)
            leaf = output.detach().clone().requires_grad_(True)
            seen.append(leaf)
            # The network goes on with a copy: an in-place operation must not overwrite what is explained.
            return leaf.clone()

        name, layer = self._chosen_layer(image)
        if layer is None:
            return None
        with _undisturbed(self.module):
            handle = layer.register_forward_hook(keep)
            try:
                with torch.no_grad():
                    logits = self._answer(self._tensor(image[None]))
            finally:
                handle.remove()
            if len(seen) != 1:
                raise InputError(f"layer '{name}'", f"ran {len(seen)} times in one pass", mend="choose a layer that runs once")
            grid = grid_of(tuple(seen[0].shape), (image.shape[1], image.shape[2]))
            if grid is None:
                raise InputError(
                    f"layer '{name}'", f"gives {tuple(seen[0].shape)}, no grid over the image",
                    mend="choose a layer before pooling: [B, K, h, w], [B, h, w, K] or tokens [B, T, K]",
                )
            gradients = _gradients(logits, seen[0], self._columns(columns))
            features = _array(grid.to_maps(seen[0][0]))
            maps = [_array(grid.to_maps(gradient[0])) for gradient in gradients]
            stacked = np.stack(maps) if maps else np.zeros((0, *features.shape), dtype=np.float32)
            return Look(_array(logits[0]), features, stacked, layer=name)

    def input_gradients(self, images: Array, columns: Sequence[int] | None = None) -> Array:
        """The gradients of the logits in `columns` (None: all) by the pixels, [B, T, C, H, W], logit per unit of grey."""
        import torch

        with _undisturbed(self.module):
            pixels = self._tensor(images).requires_grad_(True)
            # A copy goes in, so that a network which changes its input in place neither fails nor changes the array.
            gradients = _gradients(self._answer(pixels.clone()), pixels, self._columns(columns))
            return _array(torch.stack(gradients, dim=1))

    def attention(self, image: Array) -> Attention | None:
        """The attention of every block on one image; None for a network whose tokens do not lie on one grid."""
        import torch

        from storyxai.models.adapters.torch_attention import Watching

        with _undisturbed(self.module), torch.no_grad(), Watching() as seen:
            self._answer(self._tensor(image[None]))
        found = [_array(weights[0]) for weights in seen.weights if weights.shape[0] == 1]
        shapes = {weights.shape for weights in found}
        grid = grid_of((1, found[0].shape[-1], 1), (image.shape[1], image.shape[2])) if len(shapes) == 1 else None
        return None if grid is None else Attention(np.stack(found), (grid.height, grid.width))

    def network(self) -> nn.Module:
        """A copy of the network that takes images in [0, 1], in evaluation mode, no operation in place."""
        from storyxai.models.adapters.torch_attention import as_network

        return as_network(self.module, self._prepared)

    def structures(self, image: Array) -> Mapping[str, Array] | None:
        """None: it draws nothing."""
        return None

    def report(self, image: Array) -> WrittenReport | None:
        """None: it writes nothing."""
        return None

    def _columns(self, columns: Sequence[int] | None) -> Sequence[int]:
        return range(len(self.findings)) if columns is None else columns

    def _chosen_layer(self, image: Array) -> tuple[str, nn.Module | None]:
        """The layer asked for, or else the one found on noise of the image's shape: it must not hang on the image.

        None where none was asked for and none is found.
        """
        if self.layer is not None:
            return layer_named(self.module, self.layer)
        if image.shape not in self._found:
            noise = np.random.default_rng(0).random((1, *image.shape), dtype=np.float32)

            def run() -> torch.Tensor:
                return self._answer(self._tensor(noise).requires_grad_(True) * 1.0)

            with _undisturbed(self.module):
                self._found[image.shape] = find_layer(self.module, run, (image.shape[1], image.shape[2]))
        found = self._found[image.shape]
        return layer_named(self.module, found) if found else ("", None)

    def _tensor(self, images: Array) -> torch.Tensor:
        import torch

        if images.ndim != 4 or images.shape[1] != self.channels or len(images) == 0:
            raise InputError("images", f"have shape {images.shape}", mend=f"give float32 [B, {self.channels}, H, W] in [0, 1]")
        first = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        device, dtype = (None, torch.float32) if first is None else (first.device, first.dtype)
        return torch.tensor(images, dtype=dtype, device=device)

    def _answer(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of images in [0, 1], checked."""
        import torch

        answer = self._said(images)
        if not isinstance(answer, torch.Tensor):
            why = f"returns a {type(answer).__name__}"
            raise InputError("model", why, mend="wrap it so that it returns logits [B, F] alone, as one tensor")
        _refuse_probabilities(answer)
        answer = answer.reshape(logits_shape(answer.shape, images=len(images)))
        checked_answer(_array(answer), images=len(images), findings=self.findings)
        return answer

    def _said(self, images: torch.Tensor) -> object:
        """Whatever the network answers. Raises: InputError for whatever it raises, which stays the cause."""
        try:
            return self.module(self._prepared(images))
        except InputError:
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            mend = "give the size=, channels= or transform= that it takes, or wrap it so that it takes images alone"
            raise InputError("model", f"cannot run on images of shape {tuple(images.shape)} ({reason})", mend=mend) from error

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        if self.transform is not None:
            images = self.transform(images)
        if self.mean is not None:
            images = images - images.new_tensor(list(self.mean))[:, None, None]
        if self.std is not None:
            images = images / images.new_tensor(list(self.std))[:, None, None]
        return images


_ONE_AT_A_TIME = RLock()
"""Hooks, modes and torch's random state are shared by all threads of a process."""


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluate with gradients, whatever the caller's mode; every module's own state and the random state come back."""
    with _ONE_AT_A_TIME:
        yield from _kept(module)


def _kept(module: nn.Module) -> Iterator[None]:
    import torch

    states = [(part, part.training) for part in module.modules()]
    # Some networks train on while they answer: their running means come back too.
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    module.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=sorted(devices, key=str)):
            # A network that draws although it is in evaluation mode draws the same in every call.
            torch.manual_seed(0)
            yield
    finally:
        # One by one: module.train() would also switch parts that the caller had frozen in eval.
        for part, training in states:
            part.training = training
        with torch.no_grad():
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def _refuse_no_network(module: object) -> None:
    """Nothing, for a network. Raises: InputError for weights, a path or a class in its place."""
    from torch import nn

    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        mend = "give the network itself (a torch.nn.Module), with its weights loaded"
        raise InputError("module", f"is {kind}, no network", mend=mend)
    if any(part.is_meta for part in (*module.parameters(), *module.buffers())):
        raise InputError("module", "has no weights (its device is meta)", mend="load its weights onto a real device")


_LAST_STEPS = {"SigmoidBackward0": "sigmoid", "SoftmaxBackward0": "softmax", "LogSoftmaxBackward0": "log-softmax"}
"""What autograd calls the last step of a network that answers with probabilities."""
_SHAPING = (
    "Squeeze", "Unsqueeze", "View", "UnsafeView", "Reshape", "Select", "Slice", "Permute", "Transpose", "Clone", "ToCopy",
    "Clamp", "Cat", "Expand",
)  # fmt: skip
"""How the names of steps begin that move or copy numbers and change none between 0 and 1."""


def _refuse_probabilities(answer: torch.Tensor) -> None:
    """Nothing, for logits. Raises: InputError for classes, and where the last step made probabilities of the logits."""
    if not answer.is_floating_point():
        why = f"returns values of the type {answer.dtype}, which are classes and no logits"
        raise InputError("model", why, mend="return the logits as floating-point numbers")
    node = answer.grad_fn
    while node is not None and node.name().startswith(_SHAPING) and node.next_functions:  # "sigmoid(y).squeeze(1)"
        node = node.next_functions[0][0]
    step = _LAST_STEPS.get("" if node is None else node.name())
    if step:
        raise InputError("model", f"ends in a {step}: it returns probabilities, no logits", mend=PROBABILITIES_MEND)


def _gradients(logits: torch.Tensor, inputs: torch.Tensor, columns: Sequence[int]) -> list[torch.Tensor]:
    """One tensor of the inputs' shape per column. Images do not mix in eval mode, so the sum over the batch separates."""
    import torch

    found = []
    for column in columns:
        if not logits.requires_grad:
            gradient = None
        else:
            (gradient,) = torch.autograd.grad(logits[:, column].sum(), inputs, retain_graph=True, allow_unused=True)
        found.append(torch.zeros_like(inputs) if gradient is None else gradient)
    return found


def _array(tensor: torch.Tensor) -> Array:
    values: Array = tensor.detach().float().cpu().numpy().astype(np.float32, copy=True)
    return values


def _bytes() -> torch.dtype:
    import torch

    return torch.uint8


def _channels_of(module: nn.Module) -> int:
    """Channels of the images that the network's first convolution takes."""
    from torch import nn

    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None:
        raise InputError("channels", "cannot be read from this network", mend="give channels=1 or channels=3")
    return first.in_channels


def _size_of(module: nn.Module) -> int | tuple[int, int] | None:
    """The size that a network names as its own: torchvision's transformers and timm's do, convolutional ones take any."""
    own = getattr(module, "image_size", None)
    embed = getattr(module, "patch_embed", None)
    if own is None and embed is not None and getattr(embed, "strict_img_size", True):
        own = getattr(embed, "img_size", None)
    if isinstance(own, int):
        return own
    return (int(own[0]), int(own[1])) if isinstance(own, tuple | list) and len(own) == 2 else None
