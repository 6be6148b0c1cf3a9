"""Initial weights."""

from __future__ import annotations

from torch import nn


def init_normal(network: nn.Module, gain: float = 0.02) -> None:
    """Initialise in place as pix2pix does: convolutions N(0, gain), biases 0, batch-norm scales N(1, gain).

    Args:
        network: all of its layers are visited.
        gain: the standard deviation (0.02 in Isola 2017, section 6.2).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, gain)
            nn.init.zeros_(layer.bias)
