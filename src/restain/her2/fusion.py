"""What a virtual IHC says of a patient's class, and that joined with what a model of the H&E says.

Two small models, each fitted on patients that nothing before it has learned from:

- ``Reader``: multinomial logistic regression from the percentages of a scored IHC to the classes. Shares of a whole
  are read on a log scale (Aitchison 1982): the guideline's cut-offs lie at 10 % and 1 %, where 5 % more decides, as it
  does not at 60 %.
- ``Pool``: a logarithmic opinion pool (Genest and Zidek 1986) of two answers, ``p ~ own^a (read / frequency)^b``. With
  ``a = b = 1`` it is Bayes' rule for two sources that are independent given the class; ``b = 0`` leaves the IHC out.
  Two weights and no term for a class: what a model of the H&E gains by it can come from the IHC alone, not from drawing
  the limits between its own classes anew, which a regression on its log-probabilities would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from restain.core.errors import RestainError

Array = NDArray[np.float64]

LEAST = 0.5
"""Percent added to each share before its logarithm: about what a score is wrong by where nothing is stained."""
FLOOR = 1e-6
"""Probabilities below this are this, before their logarithm."""
STRENGTH = 1.0
"""Of the ridge penalty of both models (scikit-learn's C; precision of the pool's weights around 1)."""


@dataclass(frozen=True)
class Reader:
    """From the percentages of a scored IHC to probabilities of classes.

    Attributes:
        mean: of each feature over the patients that it was fitted on [4].
        scale: their deviations, 1 where one is 0 [4].
        weights: of the standardised features, by class that was there [K, 4].
        offsets: [K].
        classes: numbers of the classes that were there [K].
        frequency: share of each class in these patients [C].
    """

    mean: Array
    scale: Array
    weights: Array
    offsets: Array
    classes: NDArray[np.int64]
    frequency: Array

    @classmethod
    def fit(cls, percent: Array, labels: NDArray[np.int64], classes: int) -> Reader:
        """Fit on patients.

        Args:
            percent: of tumour cells in class 0, 1+, 2+, 3+ [N, 4]; rows of NaN for patients without a score, which
                count in ``frequency`` alone.
            labels: class numbers [N].
            classes: how many there are, C.

        Raises:
            RestainError: fewer than two classes among the patients with a score.
        """
        scored = np.isfinite(percent).all(1)
        there = np.unique(labels[scored])
        if len(there) < 2:
            raise RestainError(
                f"{int(scored.sum())} of {len(labels)} patients to learn from have a score of their virtual IHC, of "
                f"{len(there)} class(es): there is nothing to fit. Stain and score more of them."
            )
        found = _features(percent[scored])
        mean, deviation = found.mean(0), found.std(0)
        scale = np.where(deviation > 1e-9, deviation, 1.0)
        fitted = LogisticRegression(C=STRENGTH, max_iter=5000).fit((found - mean) / scale, labels[scored])
        weights, offsets = fitted.coef_, fitted.intercept_
        if len(there) == 2:  # scikit-learn keeps the second class's alone
            weights, offsets = np.vstack([np.zeros_like(weights), weights]), np.append(0.0, offsets)
        frequency = np.bincount(labels, minlength=classes) / len(labels)
        return cls(mean, scale, weights, offsets, there.astype(np.int64), frequency)

    def probabilities(self, percent: Array) -> Array:
        """Probabilities [N, C] of patients with ``percent`` [N, 4].

        ``frequency`` where a row is NaN; 0 for a class that the reader has never seen.
        """
        values = np.tile(self.frequency, (len(percent), 1))
        scored = np.isfinite(percent).all(1)
        if scored.any():
            features = (_features(percent[scored]) - self.mean) / self.scale
            values[scored] = 0.0
            values[np.ix_(scored, self.classes)] = np.exp(log_softmax(features @ self.weights.T + self.offsets, axis=1))
        return values

    def evidence(self, percent: Array) -> Array:
        """log(probability / frequency) [N, C]: how much more likely a class is than without the IHC.

        0 throughout where a row is NaN, and for a class that the reader has never seen.
        """
        values = np.zeros((len(percent), len(self.frequency)))
        scored = np.isfinite(percent).all(1)
        read = np.maximum(self.probabilities(percent[scored])[:, self.classes], FLOOR)
        values[np.ix_(scored, self.classes)] = np.log(read / self.frequency[self.classes])
        return values

    def document(self) -> dict[str, Any]:
        """The reader as JSON can hold it."""
        return {key: np.asarray(value).tolist() for key, value in vars(self).items()}

    @classmethod
    def of(cls, document: Mapping[str, Any], classes: int) -> Reader:
        """The reader of a ``document``, for ``classes`` classes.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        arrays = {key: np.asarray(document[key], np.float64) for key in ("mean", "scale", "weights", "offsets")}
        there = np.asarray(document["classes"], np.int64)
        frequency = np.asarray(document["frequency"], np.float64)
        count = len(there)
        shapes = {"mean": (4,), "scale": (4,), "weights": (count, 4), "offsets": (count,)}
        if any(arrays[key].shape != shape or not np.isfinite(arrays[key]).all() for key, shape in shapes.items()):
            raise ValueError("arrays of other sizes")
        if frequency.shape != (classes,) or not set(there.tolist()) <= set(range(classes)):
            raise ValueError("other classes")
        return cls(**arrays, classes=there, frequency=frequency)


@dataclass(frozen=True)
class Pool:
    """Two answers as one: ``own^own_weight (read / frequency)^read_weight``, normalised.

    Attributes:
        own_weight: of the H&E model's log-probabilities, at least 0.
        read_weight: of the virtual IHC's evidence, at least 0.
    """

    own_weight: float
    read_weight: float

    @classmethod
    def fit(cls, own: Array, evidence: Array, labels: NDArray[np.int64]) -> Pool:
        """The weights with the largest likelihood of the labels, with a normal prior of deviation 1 around 1.

        Args:
            own: probabilities of an H&E model [N, C], of patients that it did not learn from.
            evidence: of ``Reader.evidence`` [N, C], likewise; rows of 0 (no score) say nothing and are left out.
            labels: class numbers [N].
        """
        known = _told(evidence)
        logs, read, wanted = _log(own[known]), evidence[known], labels[known]
        each = np.arange(len(wanted))

        def loss(weights: Array) -> tuple[float, Array]:
            joined = log_softmax(weights[0] * logs + weights[1] * read, axis=1)
            share = np.exp(joined)
            slopes = [float((values[each, wanted] - (share * values).sum(1)).sum()) for values in (logs, read)]
            away = weights - 1
            return float(STRENGTH * away @ away / 2 - joined[each, wanted].sum()), STRENGTH * away - np.array(slopes)

        found = minimize(loss, np.ones(2), jac=True, method="L-BFGS-B", bounds=[(0, None), (0, None)])
        return cls(float(found.x[0]), float(found.x[1]))

    def join(self, own: Array, evidence: Array) -> Array:
        """Probabilities [N, C]; the H&E model's own where the evidence is 0 throughout (no score)."""
        joined = np.exp(log_softmax(self.own_weight * _log(own) + self.read_weight * evidence, axis=1))
        return np.asarray(np.where(_told(evidence)[:, None], joined, own))


def percent_rows(patients: Sequence[str], percent: Mapping[str, Sequence[float] | None]) -> Array:
    """Percentages [N, 4] of ``patients``; NaN for those without a score."""
    nothing = (float("nan"),) * 4
    return np.array([percent[name] or nothing for name in patients], np.float64).reshape(-1, 4)


def _features(percent: Array) -> Array:
    return np.asarray(np.log(np.maximum(percent, 0.0) + LEAST))


def _told(evidence: Array) -> NDArray[np.bool_]:
    """The rows that say anything [N]."""
    return np.asarray((evidence != 0).any(axis=1))


def _log(probabilities: Array) -> Array:
    return np.asarray(np.log(np.maximum(probabilities, FLOOR)))
