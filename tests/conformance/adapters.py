"""Numeric cases recorded from the authors' code, answered by ours: one function a kind, a file a family."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .families import (
    asp,
    bcistainer,
    cut,
    cyclegan,
    lifangda,
    pix2pix,
    pix2pixhd,
    tdkstain,
    tta,
    ugatit,
    wavelet,
    wecrest,
)
from .reading import Answers, Arrays, Options

KINDS: Answers = {}
for family in (
    asp,
    bcistainer,
    cut,
    cyclegan,
    lifangda,
    pix2pix,
    pix2pixhd,
    tdkstain,
    tta,
    ugatit,
    wavelet,
    wecrest,
):
    KINDS |= family.KINDS


def run(kind: str, options: Options, inputs: Arrays) -> dict[str, np.ndarray]:
    """Our answer to one case; KeyError for a kind that is not known."""
    answer = KINDS[kind](options, inputs)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in answer.items()
    }
