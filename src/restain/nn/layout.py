"""How tensors lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def channels_last(network: M) -> M:
    """``network`` itself, with its kernels channels last: convolutions then run up to 1.5 times as fast on CPUs."""
    moved: M = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved
