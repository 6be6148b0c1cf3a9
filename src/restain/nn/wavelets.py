"""The discrete wavelet transform of images as tensors, with the filters of PyWavelets."""

from __future__ import annotations

import numpy as np
import pywt
import torch
import torch.nn.functional as F
from torch import Tensor

from restain.core.errors import RestainError

REC601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image."""
MODES = {"symmetric": "symmetric", "reflect": "reflect", "periodic": "wrap", "constant": "edge"}
"""How an image goes on beyond its border: PyWavelets' names and NumPy's."""


def grey(rgb: Tensor, weights: tuple[float, ...] = REC601) -> Tensor:
    """RGB [N, 3, H, W] to grey [N, 1, H, W]."""
    return (rgb * rgb.new_tensor(weights)[:, None, None]).sum(1, keepdim=True)


def dwt(image: Tensor, wavelet: str = "haar", level: int = 1, mode: str = "symmetric") -> Tensor:
    """The four sub-bands of the last of ``level`` transforms, as PyWavelets' ``dwt2`` computes them.

    Args:
        image: one channel [N, 1, H, W].
        wavelet: a discrete wavelet of PyWavelets; see ``known_wavelet``.
        level: how often the low band is transformed again.
        mode: how the image goes on beyond its border, one of ``MODES``.

    Returns:
        cA, cH, cV, cD (low; rows, columns, diagonal of the high frequencies) [N, 4, h, w]. A transform takes a side n
        to (n + L - 1) // 2, L the length of the filters; with Haar's L of 2 to n / 2, rounded up.
    """
    low, high = (np.array(taps) for taps in pywt.Wavelet(wavelet).filter_bank[:2])
    # Rows first: cH is high along the height (a horizontal edge), cV along the width.
    bank = np.stack([np.outer(rows, columns) for rows, columns in ((low, low), (high, low), (low, high), (high, high))])
    # A convolution, not a correlation: turned around.
    kernels = torch.from_numpy(bank[:, None, ::-1, ::-1].copy()).to(image)
    bands = image
    for _ in range(level):
        padded = bands[:, :1]
        for axis in (2, 3):
            padded = _continued(padded, axis, len(low) - 1, mode)
        bands = F.conv2d(padded[:, :, 1:, 1:], kernels, stride=2)  # PyWavelets keeps every second value from 1 on
    return bands


def _continued(x: Tensor, axis: int, more: int, mode: str) -> Tensor:
    """``x`` with ``more`` values beyond each end of an axis."""
    places = np.pad(np.arange(x.shape[axis]), more, mode=MODES[mode])  # type: ignore[call-overload]
    return x.index_select(axis, torch.from_numpy(places).to(x.device))


def known_wavelet(name: str) -> str:
    """``name`` itself.

    Raises:
        RestainError: PyWavelets has no such discrete wavelet.
    """
    if name not in (known := pywt.wavelist(kind="discrete")):
        raise RestainError(f"There is no discrete wavelet {name!r}. Known: {', '.join(known)}.")
    return name
