"""Initial weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn


def init_normal(network: nn.Module, gain: float = 0.02) -> None:
    """Initialise in place as pix2pix does: convolutions N(0, gain), biases 0, batch-norm scales N(1, gain).

    Args:
        network: all of its layers are visited.
        gain: the standard deviation (0.02 in Isola 2017, section 6.2).
    """
    _init(network, partial(nn.init.normal_, mean=0.0, std=gain), gain)


def init_xavier(network: nn.Module, gain: float = 0.02) -> None:
    """Initialise in place as CUT does: Glorot's normal distribution times ``gain``, biases 0, batch-norm N(1, gain)."""
    _init(network, partial(nn.init.xavier_normal_, gain=gain), gain)


def _init(network: nn.Module, kernel: Callable[[Tensor], Tensor], gain: float) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            kernel(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, gain)
            nn.init.zeros_(layer.bias)
