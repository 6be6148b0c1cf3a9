"""Separable antialiased resampling on absolute coordinates, so that parts of a picture equal the whole."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

SUPPORT = 2
"""Half width of the kernel, in output pixels (in stored pixels where the picture is enlarged)."""


def kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cubic convolution with a = -0.5 (Keys 1981, eq. 4 and 15); zero from ``SUPPORT`` on."""
    u = np.abs(distance)
    near = (1.5 * u - 2.5) * u * u + 1
    far = ((-0.5 * u + 2.5) * u - 4) * u + 2
    return np.where(u < 1, near, np.where(u < SUPPORT, far, 0.0))


def span(start: float, step: float, count: int, extent: int) -> tuple[int, int]:
    """The stored pixels [first, last) that ``count`` output pixels of ``step`` from ``start`` on need, at least one."""
    reach = SUPPORT * max(1.0, step)
    first = math.floor(start + 0.5 * step - reach)
    last = math.ceil(start + (count - 0.5) * step + reach) + 1
    return min(max(0, first), extent - 1), max(min(extent, last), 1)


def resample(
    pixels: NDArray[np.uint8],
    first: tuple[int, int],
    start: tuple[float, float],
    step: tuple[float, float],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """Output pixels whose kernel is widened by the step where that reduces, so nothing aliases.

    Args:
        pixels: uint8 [h, w, 3], the stored pixels of ``span``; what lies beyond repeats the edge.
        first: (x, y) of its first pixel; pixel i covers [i, i + 1).
        start: (x, y) of the left and top edge of the output, in stored pixels.
        step: (x, y) stored pixels per output pixel.
        size: (width, height) of the output.

    Returns:
        uint8 [height, width, 3].
    """
    height, width, channels = pixels.shape
    down = _weights(first[1], height, start[1], step[1], size[1])
    across = _weights(first[0], width, start[0], step[0], size[0])
    rows = down @ pixels.reshape(height, width * channels).astype(np.float32)
    columns = rows.reshape(size[1], width, channels).transpose(1, 0, 2).reshape(width, size[1] * channels)
    out = (across @ np.ascontiguousarray(columns)).reshape(size[0], size[1], channels)
    np.rint(out, out=out)
    return np.ascontiguousarray(np.clip(out, 0, 255, out=out).astype(np.uint8).transpose(1, 0, 2))


def _weights(first: int, length: int, start: float, step: float, count: int) -> sparse.csr_matrix:
    """Weights [count, length] of stored pixels ``first`` to ``first + length`` for each output pixel; rows sum to 1."""
    widened = max(1.0, step)
    centre = start - first + (np.arange(count) + 0.5) * step
    taps = math.ceil(2 * SUPPORT * widened) + 1
    index = np.floor(centre - SUPPORT * widened).astype(np.int64)[:, None] + np.arange(taps)
    weight = kernel((index + 0.5 - centre[:, None]) / widened)
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.broadcast_to(np.arange(count)[:, None], index.shape)
    column = np.clip(index, 0, length - 1)
    entries = (weight.ravel().astype(np.float32), (row.ravel(), column.ravel()))
    return sparse.csr_matrix(entries, shape=(count, length))
