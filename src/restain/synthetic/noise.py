"""Smooth random fields and tileable textures in world coordinates (um)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.synthetic.hashing import hash_uniform

Field = NDArray[np.floating[Any]]
"""A map [rows, columns]; float32 wherever it has the size of an image."""

_UNIT_VARIANCE = np.sqrt(12.0) / (151.0 / 315.0)
"""Uniform numbers of variance 1/12 through a two-dimensional cubic B-spline (mean square weight (151/315)^2)."""


def _spline_weights(position: Field, first: int, count: int) -> Field:
    """Rows of cubic B-spline weights [len(position), count] of lattice sites first, first + 1, ..."""
    base = np.floor(position).astype(np.int64)
    t = position - base
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    matrix = np.zeros((len(position), count))
    rows = np.arange(len(position))
    for offset in range(4):
        matrix[rows, base - first - 1 + offset] = weights[:, offset]
    return matrix


@dataclass(frozen=True)
class LatticeNoise:
    """A smooth random field, about Gaussian with mean 0 and variance 1, defined everywhere in the plane.

    Hashed values at lattice sites under a cubic B-spline: twice differentiable, no state, any extent.

    Attributes:
        seed: which field.
        spacing: distance between lattice sites in um; features are about 1.5 spacings wide.
    """

    seed: int
    spacing: float

    def on_grid(self, x: Field, y: Field) -> Field:
        """The field at the crossings of ``x`` and ``y`` (um, 1-D): float32 [len(y), len(x)]."""
        columns, rows = x / self.spacing, y / self.spacing
        first_x, first_y = int(np.floor(columns.min())) - 1, int(np.floor(rows.min())) - 1
        count_x = int(np.floor(columns.max())) + 3 - first_x
        count_y = int(np.floor(rows.max())) + 3 - first_y
        sites_x = np.arange(first_x, first_x + count_x)
        sites_y = np.arange(first_y, first_y + count_y)
        values = hash_uniform(self.seed, sites_y[:, None], sites_x[None, :]) - 0.5
        across = _spline_weights(columns, first_x, count_x)
        down = _spline_weights(rows, first_y, count_y)
        return np.asarray((down @ values @ across.T) * _UNIT_VARIANCE, dtype=np.float32)


def _bandpass(seed: int, shape: tuple[int, int], sigma: tuple[float, float]) -> Field:
    """Tileable Gaussian noise of unit variance, smoothed with standard deviations ``sigma`` (rows, columns; texels)."""
    white = np.random.default_rng(seed).standard_normal(shape)
    rows = np.fft.fftfreq(shape[0])[:, None]
    columns = np.fft.rfftfreq(shape[1])[None, :]
    gain = np.exp(-2 * np.pi**2 * ((rows * sigma[0]) ** 2 + (columns * sigma[1]) ** 2))
    gain[0, 0] = 0.0
    smooth = np.fft.irfft2(np.fft.rfft2(white) * gain, s=shape)
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


@dataclass(frozen=True)
class Texture:
    """A tileable picture looked up in world coordinates.

    Attributes:
        values: float32 [rows, columns], with one repeated row and column at the end for the interpolation.
        texel: um per texel along (rows, columns).
    """

    values: Field
    texel: tuple[float, float]

    def sample(self, along: Field, across: Field) -> Field:
        """Bilinear values at ``along`` (columns) and ``across`` (rows), in um, of one shape."""
        rows, columns = self.values.shape[0] - 1, self.values.shape[1] - 1
        u = _wrapped(along, self.texel[1], columns)
        v = _wrapped(across, self.texel[0], rows)
        return np.asarray(cv2.remap(self.values, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def _wrapped(position: Field, texel: float, count: int) -> Field:
    """``position`` um in texels, modulo ``count`` (float32 modulo is several times slower than this)."""
    turns = position * np.float32(1 / (texel * count))
    turns -= np.floor(turns)
    turns *= np.float32(count)
    return turns


def _tile(values: Field, texel: tuple[float, float]) -> Texture:
    padded = np.pad(values, ((0, 1), (0, 1)), mode="wrap")
    padded.setflags(write=False)
    return Texture(padded, texel)


@lru_cache(maxsize=1)
def textures() -> dict[str, Texture]:
    """The textures all patients share (each looks at them through its own offset, direction and warp).

    ``grain``: cytoplasm and matrix granularity, features of 1 um; ``wobble``: displacement noise, 6 um;
    ``bundle``: collagen bundles, 6 um wide and 40 um long; ``fibril``: single fibres, 1.6 um wide and 25 um long;
    ``chromatin``: clumps of 0.9 um on finer grain.  All have mean 0 and variance 1.
    """
    grain = _bandpass(11, (1024, 1024), (1.0, 1.0)) + 0.8 * _bandpass(12, (1024, 1024), (2.6, 2.6))
    wobble = _bandpass(13, (512, 512), (4.0, 4.0)) + 0.6 * _bandpass(14, (512, 512), (1.7, 1.7))
    bundle = _bandpass(15, (1024, 512), (3.4, 5.5)) + 0.5 * _bandpass(16, (1024, 512), (1.7, 3.4))
    fibril = _bandpass(17, (1024, 1024), (1.3, 8.0)) + 0.5 * _bandpass(18, (1024, 1024), (0.7, 4.0))
    chromatin = _bandpass(19, (512, 512), (1.8, 1.8)) + 0.7 * _bandpass(20, (512, 512), (0.9, 0.9))
    chosen = {
        "grain": (grain, (0.45, 0.45)),
        "wobble": (wobble, (0.8, 0.8)),
        "bundle": (bundle, (0.7, 2.6)),
        "fibril": (fibril, (0.5, 1.3)),
        "chromatin": (chromatin, (0.25, 0.25)),
    }
    return {name: _tile(values / values.std(), texel) for name, (values, texel) in chosen.items()}
