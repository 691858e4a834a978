"""Anybody's torch network as a model that can be explained.

Nothing of the caller's network changes: hooks go, train or eval state, gradients and random state come back, also when the
network raises. torch is imported inside the functions, so that this module costs nothing until it is used.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from storyxai.errors import InputError
from storyxai.explain.contract import Attention, Look, WrittenReport
from storyxai.modalities.contract import Modality
from storyxai.models.adapters.answers import PROBABILITIES_MEND, SUREST, Answers, checked_answer, log_odds, logits_shape
from storyxai.models.adapters.settings import channel_numbers, checked_findings, checked_modality, checked_size
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
    `probabilities` True: it gives these in the place of logits; None: a network of which this is seen, or may be, is not told
    before somebody said so. `modality` is the kind of image that it reads, or its key; None: it follows from the findings.
    A compiled network is asked as the one that it was made of.
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
    probabilities: bool | None = None
    modality: Modality | str | None = None
    _answers: Answers = field(init=False, repr=False)
    _found: dict[tuple[int, ...], str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _refuse_no_network(self.module)
        object.__setattr__(self, "module", _unwrapped(self.module))
        object.__setattr__(self, "findings", checked_findings(self.findings))
        object.__setattr__(self, "channels", self.channels or _channels_of(self.module))
        if self.channels not in (1, 3):
            raise InputError("channels", f"{self.channels!r}", mend="images have 1 or 3; bring them there with transform=")
        if self.layer is not None:
            layer_named(self.module, self.layer)
        for what, numbers in (("mean", self.mean), ("std", self.std)):
            object.__setattr__(self, what, channel_numbers(what, numbers, self.channels))
        object.__setattr__(self, "size", checked_size(self.size))
        object.__setattr__(self, "modality", checked_modality(self.modality))
        answers = Answers(self._numbers, self.findings, self.probabilities, ends_linear=self._ends_linear)
        object.__setattr__(self, "_answers", answers)

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
            digest.update(_state_bytes(value))
        return f"{type(self.module).__name__} {digest.hexdigest()[:12]}"

    def logits(self, images: Array) -> Array:
        """The logits [B, F].

        Raises: InputError where the network does not answer with one finite number per image and finding.
        """
        import torch

        with _undisturbed(self.module), torch.no_grad():
            return self._answers.logits(images)

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
        if isinstance(layer, torch.jit.ScriptModule):
            why, mend = "is of a network that was scripted or traced, in which no layer is met", "give the one it was made of"
            raise InputError(f"layer '{name}'", why, mend=f"{mend}, or leave layer= out")
        with _undisturbed(self.module):
            handle = layer.register_forward_hook(keep)
            try:
                with torch.no_grad():
                    logits = self._answer(self._tensor(image[None]))
                if seen and not logits.requires_grad:
                    # The layer lies within a no_grad of the network's own, whose end took the gradients away again.
                    seen.clear()
                    logits = self._answer(self._tensor(image[None]))
            finally:
                handle.remove()
            _refuse_layer(name, len(seen), logits)
            self._answers.refuse_unclear(_array(logits), image[None].shape)
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

        if len(images) > 1 and self._mixes(images):
            return np.concatenate([self.input_gradients(image[None], columns) for image in images])
        with _undisturbed(self.module):
            pixels = self._tensor(images).requires_grad_(True)
            # A copy goes in, so that a network which changes its input in place neither fails nor changes the array.
            asked = self._columns(columns)
            answer = self._answer(pixels.clone())
            self._answers.refuse_unclear(_array(answer), images.shape)
            return _array(torch.stack(_gradients(answer, pixels, asked), dim=1))

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

        return as_network(self.module, self._prepared, self._as_logits)

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
        """The logits [B, F] of images in [0, 1], checked."""
        answer = self._spoken(images)
        checked_answer(_array(answer), images=len(images), findings=self.findings, probabilities=self.probabilities)
        return self._as_logits(answer)

    def _spoken(self, images: torch.Tensor) -> torch.Tensor:
        """The network's own answer, a tensor that is not seen to be of probabilities where nobody said so."""
        import torch

        answer = self._said(images)
        if not isinstance(answer, torch.Tensor):
            why = f"returns a {type(answer).__name__}"
            raise InputError("model", why, mend="wrap it so that it returns logits [B, F] alone, as one tensor")
        if not answer.is_floating_point():
            why = f"returns values of the type {answer.dtype}, which are classes and no logits"
            raise InputError("model", why, mend="return the logits as floating-point numbers")
        if self.probabilities is None and (step := _SQUASHES.get(_last_step(answer))):
            raise InputError("model", f"ends in a {step}: it returns probabilities, no logits", mend=PROBABILITIES_MEND)
        return answer

    def _as_logits(self, answer: torch.Tensor) -> torch.Tensor:
        """The network's own answer as logits [B, F]. Raises: InputError for probabilities that are none."""
        import torch

        answer = answer.reshape(logits_shape(answer.shape, images=len(answer)))
        if not self.probabilities:
            return answer
        log_odds(_array(answer))
        return torch.logit(answer.float(), eps=SUREST)

    def _numbers(self, images: Array) -> Array:
        return _array(self._spoken(self._tensor(images)))

    def _mixes(self, images: Array) -> bool:
        """Whether the network answers an image otherwise beside these others than alone."""
        import torch

        with _undisturbed(self.module), torch.no_grad():
            return self._answers.mixes(images)

    def _ends_linear(self, image: Array) -> bool:
        """Whether the last step of the network is seen to be a linear layer, which makes logits."""
        import torch

        with torch.enable_grad():
            return _last_step(self._spoken(self._tensor(image).requires_grad_(True) * 1.0)) in _LINEAR

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


def _unwrapped(module: nn.Module) -> nn.Module:
    """The network that torch.compile or DataParallel wrapped: its own layers are met, under their own names."""
    from torch import nn

    inner = module.module if isinstance(module, nn.DataParallel) else getattr(module, "_orig_mod", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else module


_ONE_AT_A_TIME = RLock()
"""Hooks, modes and torch's random state are shared by all threads of a process."""


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluate with gradients, whatever the caller's mode; every module's own state and the random state come back."""
    with _ONE_AT_A_TIME:
        yield from _kept(module)


def _kept(module: nn.Module) -> Iterator[None]:
    import torch

    # A graph that torch.jit froze has no mode any more.
    states = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    # Some networks train on while they answer: their running means come back too.
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers() if buffer.layout == torch.strided]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    # What is compiled meets no hook; where nothing was, asking would only load the compiler.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    module.eval()
    try:
        with eager, torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=sorted(devices, key=str)):
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
    from torch.nn.parameter import is_lazy

    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        mend = "give the network itself (a torch.nn.Module), with its weights loaded"
        raise InputError("module", f"is {kind}, no network", mend=mend)
    parts = (*module.parameters(), *module.buffers())
    if any(map(is_lazy, parts)):
        raise InputError("module", "has layers that never ran, and so no weights", mend="load its weights, or run it once")
    if any(part.is_meta for part in parts):
        raise InputError("module", "has no weights (its device is meta)", mend="load its weights onto a real device")


_SQUASHES = {"SigmoidBackward0": "sigmoid", "SoftmaxBackward0": "softmax", "LogSoftmaxBackward0": "log-softmax"}
"""What autograd calls the last step of a network that answers with probabilities."""
_LINEAR = ("AddmmBackward0", "MmBackward0", "LinearBackward0", "ConvolutionBackward0")
"""What it calls a linear layer."""
_SHAPING = (
    "Squeeze", "Unsqueeze", "View", "UnsafeView", "Reshape", "Select", "Slice", "Permute", "Transpose", "Clone", "ToCopy",
    "Clamp", "Cat", "Stack", "Expand",
)  # fmt: skip
"""How the names of steps begin that move or copy numbers and change none between 0 and 1."""


def _last_step(answer: torch.Tensor) -> str:
    """What autograd calls the step that made these numbers, whatever shape they were brought to; "" where it watched none."""
    node = answer.grad_fn
    while node is not None and node.name().startswith(_SHAPING) and node.next_functions:  # "sigmoid(y).squeeze(1)"
        node = node.next_functions[0][0]
    return "" if node is None else str(node.name())


def _refuse_layer(name: str, ran: int, logits: torch.Tensor) -> None:
    """Nothing, for a layer that ran once and moves the logits. Raises: InputError for another."""
    what = f"layer '{name}'"
    if ran == 0:
        raise InputError(what, "was not met in a pass of the network", mend="choose a layer that it calls")
    if ran > 1:
        raise InputError(what, f"ran {ran} times in one pass", mend="choose a layer that runs once")
    if not logits.requires_grad:
        mend = "choose a layer whose features make them, and take detach() and numpy out of what follows it"
        raise InputError(what, "does not move the logits as far as torch can see", mend=mend)


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


def _state_bytes(value: object) -> bytes:
    """An entry of a network's state as bytes: a tensor, quantised and sparse ones too, or what else layers keep there."""
    import torch

    if isinstance(value, dict):
        value = [part for pair in sorted(value.items(), key=repr) for part in pair]
    if isinstance(value, list | tuple):
        return b"".join(map(_state_bytes, value))
    if not isinstance(value, torch.Tensor):
        plain = value is None or isinstance(value, str | bytes | int | float | torch.dtype)
        return (repr(value) if plain else type(value).__name__).encode()
    tensor = value.detach().cpu()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor.to_dense() if tensor.layout != torch.strided else tensor
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


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
