"""Bootstrap intervals that several benchmarks print."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of [seeds, patients]: both are drawn again."""
    rng = np.random.default_rng(0)
    seeds, patients = differences.shape
    rows = rng.integers(seeds, size=(4000, seeds, 1))
    columns = rng.integers(patients, size=(4000, 1, patients))
    low, high = np.percentile(differences[rows, columns].mean((1, 2)), (2.5, 97.5))
    return float(low), float(high)
