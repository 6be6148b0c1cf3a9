"""Scores of a status predictor, for many resamples of the patients at once.

Definitions as in ``evaluate.classification`` (scikit-learn's; a class without patients is left out of a macro mean),
with patients that count as often as a bootstrap sample drew them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
SCORES = {
    "acc": "ACC",
    "macro_auc": "M-AUC",
    "weighted_auc": "W-AUC",
    "macro_f1": "M-F1",
    "weighted_f1": "W-F1",
    "kappa": "Kappa",
}
"""Scores of Table 2 (Wang 2024) and the quadratic kappa, with their headings; all grow as predictions get better."""


def resamples(patients: int, count: int, seed: int) -> Weights:
    """How often each patient is drawn, float64 [count, patients]; with replacement, as many as there are."""
    return np.random.default_rng(seed).multinomial(patients, np.full(patients, 1 / patients), count).astype(np.float64)


def status_scores(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], weights: Weights | None = None
) -> dict[str, NDArray[np.float64]]:
    """The scores ``SCORES`` of each row of weights.

    Args:
        probabilities: [N, C].
        labels: class numbers [N].
        weights: how often each patient counts [R, N]; None: once, R = 1.

    Returns:
        [R] by name; NaN where a score is not defined (a single class was drawn). Callers leave these out.
    """
    values = np.asarray(probabilities, np.float64)
    counts = np.ones((1, len(labels))) if weights is None else weights
    classes = values.shape[1]
    confusion = confusions(values, labels, counts)
    support, predicted = confusion.sum(2), confusion.sum(1)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    both = support + predicted
    f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0)
    total = support.sum(1)
    areas = np.stack([class_auc(values[:, k], np.asarray(labels) == k, counts) for k in range(classes)], 1)
    defined = np.isfinite(areas)
    area = np.where(defined, areas, 0.0)
    return {
        "acc": hits.sum(1) / total,
        "macro_auc": _ratio(area.sum(1), defined.sum(1)),
        "weighted_auc": _ratio((area * support).sum(1), (support * defined).sum(1)),
        "macro_f1": _ratio(f1.sum(1), (both > 0).sum(1)),
        "weighted_f1": _ratio((f1 * support).sum(1), total),
        "kappa": quadratic_kappa(confusion),
    }


def confusions(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], weights: Weights
) -> NDArray[np.float64]:
    """Patients by (true, predicted) class [R, C, C]; the largest probability is the prediction."""
    classes = probabilities.shape[1]
    cells = np.zeros((len(labels), classes * classes))
    cells[np.arange(len(labels)), np.asarray(labels) * classes + probabilities.argmax(1)] = 1
    return np.asarray((weights @ cells).reshape(-1, classes, classes))


def class_auc(scores: NDArray[np.float64], wanted: NDArray[np.bool_], weights: Weights) -> NDArray[np.float64]:
    """Area under the ROC curve of ``wanted`` against the rest, by counting pairs (ties count half), [R].

    NaN where one of the two sides was not drawn.
    """
    mine, rest = scores[wanted], scores[~wanted]
    if not len(mine) or not len(rest):
        return np.full(len(weights), np.nan)
    pairs = (mine[:, None] > rest).astype(np.float64) + 0.5 * (mine[:, None] == rest)
    own, other = weights[:, wanted], weights[:, ~wanted]
    return _ratio(((own @ pairs) * other).sum(1), own.sum(1) * other.sum(1))


def quadratic_kappa(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa with quadratic weights of matrices [R, C, C], [R]; classes in their order.

    1 - sum(w O) / sum(w E), w = (i - j)^2; NaN where chance alone could not disagree (a single class throughout).
    """
    classes = confusion.shape[-1]
    place = np.arange(classes)
    weight = ((place[:, None] - place) ** 2).astype(np.float64)
    total = confusion.sum((1, 2))
    expected = confusion.sum(2)[:, :, None] * confusion.sum(1)[:, None, :] / total[:, None, None]
    return np.asarray(1 - _ratio((weight * confusion).sum((1, 2)), (weight * expected).sum((1, 2))))


def roc_curve(
    scores: NDArray[np.float64], wanted: NDArray[np.bool_], grid: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """True positive rate at the false positive rates ``grid`` (straight between points); None where not defined."""
    positives, negatives = int(wanted.sum()), int((~wanted).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true = np.append(0, np.cumsum(wanted[order])[ends]) / positives
    false = np.append(0, np.cumsum(~wanted[order])[ends]) / negatives
    found = np.interp(grid, false, true)
    found[0] = 0.0  # where the curve begins; interp would take the top of a vertical start
    return np.asarray(found)


def finite(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    """Single values of ``status_scores`` [1]; None where not defined."""
    return {name: float(value[0]) if np.isfinite(value[0]) else None for name, value in scores.items()}


def _ratio(top: NDArray[np.floating], bottom: NDArray[np.generic]) -> NDArray[np.float64]:
    below = np.asarray(bottom, np.float64)
    return np.asarray(np.divide(top, below, out=np.full(below.shape, np.nan), where=below > 0))
