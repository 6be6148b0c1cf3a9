"""Scores of a classifier: accuracy, F1, area under the ROC curve, confusion; of any number of classes.

As IPCA (Wang 2024) reports its models: scikit-learn's definitions, the F1 of the class with the largest probability,
the areas one class against the rest.

A class of which there is no image has no area under a ROC curve and no accuracy: it is left out of the macro mean,
weighs nothing in the weighted mean, and its own values are None, not 0 and not NaN. A class that is neither in the
labels nor ever predicted has no F1 either; one that is only predicted has F1 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from restain.core.errors import RestainError


@dataclass(frozen=True)
class Averages:
    """One score of all classes together, in [0, 1]; None where it is not defined.

    Attributes:
        micro: over all entries pooled.
        macro: mean over the classes that have a value.
        weighted: mean over classes, each by its share of the images.
    """

    micro: float | None
    macro: float | None
    weighted: float | None


@dataclass(frozen=True)
class ClassificationScores:
    """How well a classifier did.

    Attributes:
        accuracy: share of images whose class is the one predicted.
        f1: F1 of the predicted classes.
        auc: area under the ROC curve, one class against the rest.
        class_accuracy: share of each class' images that are predicted as it (recall) [C]; None for an absent class.
        confusion: images by (true, predicted) class, int64 [C, C].
    """

    accuracy: float
    f1: Averages
    auc: Averages
    class_accuracy: tuple[float | None, ...]
    confusion: NDArray[np.int64]


def classification_scores(
    probabilities: NDArray[np.floating], labels: Sequence[int] | NDArray[np.integer]
) -> ClassificationScores:
    """The scores of ``probabilities`` (or logits after a softmax) against ``labels``.

    Args:
        probabilities: [N, C], finite; the largest of a row is the prediction (the first of equals).
        labels: class of each image, 0 to C - 1 [N].

    Raises:
        RestainError: no images, other shapes, numbers that are not finite, or a label that is no class.
    """
    values, truth = np.asarray(probabilities, np.float64), np.asarray(labels)
    if values.ndim != 2 or truth.shape != values.shape[:1] or not values.size:
        raise RestainError(f"scores want probabilities [N, C] and labels [N], got {values.shape} and {truth.shape}.")
    if not np.isfinite(values).all():
        raise RestainError("scores: some probabilities are not finite.")
    classes = values.shape[1]
    if truth.min() < 0 or truth.max() >= classes:
        raise RestainError(f"scores: labels from {truth.min()} to {truth.max()}, but there are {classes} classes.")
    pairs = truth * classes + values.argmax(1)
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)
    recall = [int(row[k]) / int(row.sum()) if row.sum() else None for k, row in enumerate(confusion)]
    return ClassificationScores(
        accuracy=float(np.trace(confusion) / confusion.sum()),
        f1=_f1(confusion),
        auc=_auc(values, truth),
        class_accuracy=tuple(recall),
        confusion=confusion,
    )


def macro_f1(confusion: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean F1 over the classes that are in the labels or among the predictions.

    Args:
        confusion: images by (true, predicted) class [..., C, C], each with at least one image.

    Returns:
        [...] in [0, 1].
    """
    present, f1 = _class_f1(np.asarray(confusion, np.float64))
    return np.asarray(f1.sum(-1) / present.sum(-1))


def _class_f1(confusion: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which classes have an F1 [..., C], and it, 0 where they have none: 2 TP / (images + predictions)."""
    both = confusion.sum(-1) + confusion.sum(-2)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return both > 0, np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)


def _f1(confusion: NDArray[np.int64]) -> Averages:
    counts = confusion.astype(np.float64)
    _, f1 = _class_f1(counts)
    support = counts.sum(1)
    # With one class an image, pooled precision and recall are both the accuracy.
    return Averages(
        micro=float(np.trace(counts) / counts.sum()),
        macro=float(macro_f1(counts)),
        weighted=float((f1 * support).sum() / support.sum()),
    )


def _auc(values: NDArray[np.float64], truth: NDArray[np.integer]) -> Averages:
    wanted = truth[:, None] == np.arange(values.shape[1])
    support = wanted.sum(0)
    # A class that no image, or every image, is of has nothing to be told apart from.
    areas = {
        k: float(roc_auc_score(wanted[:, k], values[:, k]))
        for k in np.flatnonzero((support > 0) & (support < len(truth)))
    }
    micro = float(roc_auc_score(wanted.ravel(), values.ravel())) if 0 < wanted.sum() < wanted.size else None
    if not areas:
        return Averages(micro, None, None)
    weights = np.array([support[k] for k in areas], np.float64)
    found = np.array(list(areas.values()))
    return Averages(micro, float(found.mean()), float((found * weights).sum() / weights.sum()))
