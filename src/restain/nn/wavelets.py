"""The discrete wavelet transform of images as tensors, with the filters of PyWavelets."""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache

import numpy as np
import pywt
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restain.core.errors import RestainError

REC601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image."""
PERIODIZATION = "periodization"
"""The mode of PyWavelets that gives exactly half as many values."""


def grey(rgb: Tensor, weights: tuple[float, ...] = REC601) -> Tensor:
    """RGB [N, 3, H, W] to grey [N, 1, H, W]."""
    return (rgb * rgb.new_tensor(weights)[:, None, None]).sum(1, keepdim=True)


def dwt(image: Tensor, wavelet: str = "haar", level: int = 1, mode: str = "symmetric") -> Tensor:
    """The four sub-bands of the last of ``level`` transforms, as PyWavelets' ``dwt2`` computes them.

    Args:
        image: one channel [N, 1, H, W].
        wavelet: a discrete wavelet of PyWavelets; see ``known_wavelet``.
        level: how often the low band is transformed again.
        mode: how the image goes on beyond its border, one of PyWavelets' modes.

    Returns:
        cA, cH, cV, cD (low; rows, columns, diagonal of the high frequencies) [N, 4, h, w]. A transform takes a side n
        to (n + L - 1) // 2, L the length of the filters; with Haar's L of 2, or periodization, to n / 2, rounded up.
    """
    low, high = (np.array(taps) for taps in pywt.Wavelet(wavelet).filter_bank[:2])
    # Rows first: cH is high along the height (a horizontal edge), cV along the width.
    bank = np.stack([np.outer(rows, columns) for rows, columns in ((low, low), (high, low), (low, high), (high, high))])
    # A convolution, not a correlation: turned around.
    kernels = torch.from_numpy(bank[:, None, ::-1, ::-1].copy()).to(image)
    bands, length = image, len(low)
    for _ in range(level):
        padded = bands[:, :1]
        for axis in (2, 3):
            # PyWavelets keeps every second value: of periodization from the filter's middle on, else from 1 on.
            ends = (length // 2 - 1, length // 2 - 1) if mode == PERIODIZATION else (length - 2, length - 1)
            padded = _continued(padded, axis, ends, mode)
        bands = F.conv2d(padded, kernels, stride=2)
    return bands


def _continued(x: Tensor, axis: int, ends: tuple[int, int], mode: str) -> Tensor:
    """``x`` with so many values more before and after an axis."""
    x = x.transpose(axis, 3)
    if mode == PERIODIZATION and x.shape[3] % 2:
        x = torch.cat([x, x[..., -1:]], 3)
    before, after = (torch.from_numpy(rows).to(x) for rows in _beyond(x.shape[3], ends, mode))
    return torch.cat([x @ before.T, x, x @ after.T], 3).transpose(axis, 3)


@lru_cache(maxsize=64)
def _beyond(length: int, ends: tuple[int, int], mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What lies beyond a signal's ends as sums of its values: two matrices [values more, length]."""
    more = max(ends)
    periodic = "periodic" if mode == PERIODIZATION else mode
    continued = np.apply_along_axis(pywt.pad, 0, np.eye(length), more, periodic) if more else np.eye(length)
    return continued[more - ends[0] : more], continued[more + length : more + length + ends[1]]


def known_wavelet(name: str) -> str:
    """``name`` itself.

    Raises:
        RestainError: PyWavelets has no such discrete wavelet.
    """
    if name not in (known := pywt.wavelist(kind="discrete")):
        near = get_close_matches(name, known, n=3) or ["haar", "db2", "sym4"]
        raise RestainError(f"PyWavelets has no discrete wavelet {name!r}. It has {', '.join(near)} and others.")
    return name
