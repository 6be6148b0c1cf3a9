"""Probabilities that can be read as such: one temperature, fitted on validation patients (Guo 2017, Sec. 4.2)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of the temperature: where every validation patient is right, the likelihood alone would send it to 0."""
BINS = 10


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature T at which softmax(logits / T) has the smallest negative log likelihood.

    Args:
        logits: [N, C], finite.
        labels: class numbers [N].

    Returns:
        T within ``LOWEST`` to ``HIGHEST``; 1 without patients.
    """
    if not len(labels):
        return 1.0
    found = minimize_scalar(
        lambda power: negative_log_likelihood(logits, labels, math.exp(power)),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
    )
    return float(math.exp(found.x))


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float = 1.0
) -> float:
    """Mean -log p of the true class, in nats."""
    logs = log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def probabilities(logits: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """softmax(logits / temperature), float64 [N, C]."""
    return np.asarray(np.exp(log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)))


def calibration_error(values: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Expected calibration error (Guo 2017, Eq. 3): mean gap of confidence and accuracy over 10 bins of confidence.

    Args:
        values: probabilities [N, C].
        labels: class numbers [N].
    """
    confidence, right = values.max(1), values.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, confidence - right, BINS)
    return float(np.abs(gaps).sum() / len(labels))
