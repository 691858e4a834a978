"""Self-supervision: the encoder learns to fill in hidden parts of films, without any label.

Source: the idea of He et al. 2022 (masked autoencoders), here for a small convolutional encoder: half of the cells of the
maps' grid are greyed out, and a 1x1 convolution on the features says what was there, at a quarter of the resolution.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyxai.data.batches import Examples, make_batch
from storyxai.errors import RecipeError
from storyxai.models.network import Network
from storyxai.progress import Progress
from storyxai.training.config import FitConfig

CELL, FINE = 16, 4  # pixels of a cell of the grid, and of a block whose mean is to be told
GREY = 0.5


def start_from_films(
    network: Network, films: Examples, *, config: FitConfig, name: str = "self-supervision", progress: Progress | None = None
) -> Network:
    """A copy of `network` whose encoder and neck have learnt to fill in hidden cells of `films`; its heads are as before.

    Of `config` only epochs, batch size, learning rate and seed matter here.
    Raises: RecipeError on a loss that is not a number.
    """
    epochs, batch_size = math.ceil(config.epochs), config.batch_size
    learning_rate, seed = config.learning_rate, config.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = copy.deepcopy(network).to(memory_format=torch.channels_last).train()
        teller = nn.Conv2d(network.spec.width, (CELL // FINE) ** 2, 1)
        # Heads get no gradient from this loss, and without one the optimizer leaves them as they are.
        optimizer = torch.optim.AdamW([*network.parameters(), *teller.parameters()], lr=learning_rate, weight_decay=0.0)
        generator = np.random.default_rng(seed)
        steps = epochs * math.ceil(len(films) / batch_size)
        step = 0
        for epoch in range(epochs):
            order = generator.permutation(len(films))
            for start in range(0, len(films), batch_size):
                rows = order[start : start + batch_size]
                step += 1
                if len(rows) < 2:  # batch normalisation needs two
                    continue
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
                images = make_batch(films, rows, epoch + 1).images
                hidden = torch.from_numpy(generator.random((len(rows), 1, *_grid(images))) < 0.5)
                said = network(hide_cells(images, hidden).contiguous(memory_format=torch.channels_last))
                loss = hidden_loss(teller(said.features), images, hidden)
                if not bool(torch.isfinite(loss)):
                    raise RecipeError(name, f"the loss is not a number at step {step}", mend="lower the learning rate")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                if progress:
                    progress(f"{name}: epoch {epoch + 1}/{epochs}, loss {float(loss.detach()):.4f}", step, steps)
    return network.eval()


def hide_cells(images: Tensor, hidden: Tensor) -> Tensor:
    """`images` [B, 1, S, S] with the cells marked in `hidden` (bool [B, 1, S / 16, S / 16]) in an even grey."""
    return images.masked_fill(hidden.repeat_interleave(CELL, dim=2).repeat_interleave(CELL, dim=3), GREY)


def hidden_loss(told: Tensor, images: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared difference over the hidden cells between what was told and the means of their 4 x 4-pixel blocks.

    Shapes: told [B, 16, h, w], row by row of a cell's blocks; images [B, 1, 16 h, 16 w]; hidden bool [B, 1, h, w].
    """
    there = F.pixel_unshuffle(F.avg_pool2d(images, FINE), CELL // FINE)
    apart = (told - there) ** 2 * hidden
    return apart.sum() / (hidden.sum() * told.shape[1]).clamp(min=1)


def _grid(images: Tensor) -> tuple[int, int]:
    return images.shape[2] // CELL, images.shape[3] // CELL
