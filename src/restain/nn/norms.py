"""Normalisation layers by name, as the pix2pix lineage uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

from torch import nn

COUNTER = "num_batches_tracked"
"""What batch norms call the number of batches that they have seen; it moves nothing."""


class Norm(StrEnum):
    """Normalisation of a network.

    ``batch``: affine, with running statistics. ``instance``: without affine and without running statistics, so that
    the convolutions before it keep a bias.
    """

    batch = "batch"
    instance = "instance"

    @property
    def layer(self) -> Callable[[int], nn.Module]:
        """A function from a number of channels to the layer."""
        return nn.BatchNorm2d if self is Norm.batch else partial(nn.InstanceNorm2d, affine=False)

    @property
    def conv_bias(self) -> bool:
        """Whether a convolution followed by this layer has a bias."""
        return self is Norm.instance


@contextmanager
def image_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of what passes through them now; the running ones stay as they are.

    This is what the authors' test scripts of the pix2pix lineage do (they leave the network in train mode).
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, tracked) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, tracked
