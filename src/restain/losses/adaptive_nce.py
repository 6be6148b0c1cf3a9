"""The weights of ASP's supervised PatchNCE: as the training goes on, locations that agree count more (Li 2023)."""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor


class Schedule(StrEnum):
    """How far all locations still count alike, p(t), at share t of the training (Li 2023, section 2.2)."""

    zero = "zero"
    linear = "linear"
    sigmoid = "sigmoid"
    lambda_ = "lambda"

    def __call__(self, t: float, constant: float) -> float:
        """The value of p, in [0, 1].

        Args:
            t: (epoch - 1) / all epochs; it never reaches 1.
            constant: the share of epochs before the learning rate decays (k), up to which ``lambda`` stays at 1.
        """
        if self is Schedule.zero:
            return 1.0
        if self is Schedule.linear:
            return 1.0 - t
        if self is Schedule.sigmoid:
            return 1.0 / (1.0 + math.exp(10.0 * (t - 0.5)))
        return 1.0 if t < constant else (1.0 - t) / (1.0 - constant)


class WeightFunction(StrEnum):
    """What a location counts by its similarity x, the cosine of generated and real patch (Li 2023, Fig. 2)."""

    linear = "linear"
    top = "top"
    bell = "bell"
    uniform = "uniform"

    def __call__(self, similarity: Tensor) -> Tensor:
        """f(x) of cosines [n], at least 0."""
        x = similarity
        if self is WeightFunction.linear:
            return x.relu()
        if self is WeightFunction.top:
            return (1 - (x.relu() - 1) ** 2).clamp_min(0).sqrt()
        if self is WeightFunction.bell:
            return torch.exp(-0.5 * (4 * (x - 0.5)) ** 2) / math.sqrt(2 * math.pi)
        return torch.ones_like(x)


def adaptive_weights(
    query: Tensor, key: Tensor, schedule: Schedule, function: WeightFunction, t: float, constant: float
) -> Tensor:
    """The weight of each location, p + (1 - p) f(cos), normalised to mean 1 (Li 2023, Eq. 4 to 6).

    Args:
        query: [n, C] of the generated image, rows of length 1.
        key: [n, C] of the real IHC at the same places.
        schedule: p(t).
        function: f.
        t: share of the training, see ``Schedule``.
        constant: k, see ``Schedule``.

    Returns:
        [n], without gradient; over the whole batch their mean is 1.
    """
    with torch.no_grad():
        p = schedule(t, constant)
        weights = p + (1 - p) * function((query * key).sum(1))
        return weights / weights.mean()
