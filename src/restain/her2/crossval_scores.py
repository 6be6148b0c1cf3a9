"""What a cross-validation found: scores of every model with intervals, and paired tests between models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from restain.evaluate.bootstrap import Estimate
from restain.her2.calibration import calibration_error
from restain.her2.status_scores import SCORES, Weights, class_auc, confusions, finite, roc_curve, status_scores

CONFIDENCE = 0.95
GRID = np.linspace(0, 1, 201)
"""False positive rates at which curves of several trainings are averaged."""
TESTED = ("weighted_auc", "macro_f1", "acc")
"""Scores whose differences between models are tested."""
FEWEST = 5
"""Test patients of the rarest class below which differences have no p: the bootstrap does not keep its level there."""


@dataclass(frozen=True)
class Training:
    """One training: a fold and a seed, and what it said.

    Attributes:
        fold: number, from 1; 0 for predictions from elsewhere.
        seed: of the training.
        test: probabilities of the test patients [N, C], in the order of the plan.
        val: of its validation patients [M, C], in the order of the plan; None for predictions from elsewhere.
        val_labels: their classes [M].
        best_epoch: whose weights were kept.
        epochs: how many were done.
        temperature: fitted on validation.
        seconds: that the training took; None where it was done by an earlier call.
    """

    fold: int
    seed: int
    test: NDArray[np.float64]
    val: NDArray[np.float64] | None = None
    val_labels: NDArray[np.int64] | None = None
    best_epoch: int = 0
    epochs: int = 0
    temperature: float = 1.0
    seconds: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) over trainings; None where not defined."""

    mean: float | None
    deviation: float | None


@dataclass(frozen=True)
class Entry:
    """One model of the table.

    Attributes:
        name: of the recipe, with what a sweep changed.
        method: registered name; empty for predictions from elsewhere.
        learns: what training reads, ``H&E`` or ``H&E+IHC``, and a trained ``stainer``.
        trainings: by fold and seed.
        test: each score: mean over trainings, interval over test patients and seeds (trainings averaged within each
            resample).
        test_spread: mean and deviation of the test scores over trainings.
        val_spread: the same of the validation scores; empty for predictions from elsewhere.
        together: scores of the mean of all trainings' probabilities, with interval.
        confusion: test patients by (true, predicted) class, mean over trainings [C, C].
        class_aucs: area of each class against the rest, over trainings.
        curves: mean ROC curve of each class on ``GRID`` (None: not defined), and their mean.
        calibration: expected calibration error over trainings.
        inference: what it reads of a new patient: ``H&E``, ``virtual IHC`` (made from the H&E), or both.
    """

    name: str
    method: str
    learns: str
    trainings: Sequence[Training]
    test: Mapping[str, Estimate]
    test_spread: Mapping[str, Spread]
    val_spread: Mapping[str, Spread]
    together: Mapping[str, Estimate]
    confusion: NDArray[np.float64]
    class_aucs: Sequence[Spread]
    curves: Sequence[NDArray[np.float64] | None]
    macro_curve: NDArray[np.float64] | None
    calibration: Spread
    inference: str = "H&E"


@dataclass(frozen=True)
class Difference:
    """A model against the reference, in one score.

    Attributes:
        name: of the model.
        against: the reference.
        score: which.
        difference: model minus reference.
        low: lower end of the interval.
        high: upper end.
        p: two-sided, of the paired bootstrap over patients; None where a class has too few of them.
        p_holm: corrected for all models compared in this score.
    """

    name: str
    against: str
    score: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class McNemar:
    """Exact test of whether two models err equally often on the same patients.

    Attributes:
        name: of the model.
        against: the reference.
        only_model: patients that only the model gets right.
        only_reference: patients that only the reference gets right.
        p: two-sided, exact binomial.
        p_holm: corrected for all models compared.
    """

    name: str
    against: str
    only_model: int
    only_reference: int
    p: float
    p_holm: float


def score_entry(
    name: str,
    method: str,
    learns: str,
    trainings: Sequence[Training],
    labels: NDArray[np.int64],
    weights: Weights,
    inference: str = "H&E",
) -> Entry:
    """The scores of one model's trainings.

    Args:
        name: of the recipe.
        method: registered name.
        learns: what training reads.
        trainings: at least one.
        labels: classes of the test patients [N].
        weights: bootstrap samples of these [R, N], the same for all models of a table.
        inference: what is read of a new patient.
    """
    classes = trainings[0].test.shape[1]
    once = np.ones((1, len(labels)))
    alone = [finite(status_scores(training.test, labels)) for training in trainings]
    mean = np.mean([training.test for training in trainings], 0)
    held_out = [
        finite(status_scores(one.val, one.val_labels))
        for one in trainings
        if one.val is not None and one.val_labels is not None and len(one.val)
    ]
    wanted = [labels == k for k in range(classes)]
    curves = []
    for k in range(classes):
        found = [roc_curve(training.test[:, k], wanted[k], GRID) for training in trainings]
        there = [curve for curve in found if curve is not None]
        curves.append(np.mean(there, 0) if there else None)
    defined = [curve for curve in curves if curve is not None]
    resampled = averaged_scores(trainings, labels, weights)
    sampled_mean = status_scores(mean, labels, weights)
    whole = finite(status_scores(mean, labels))
    return Entry(
        name=name,
        method=method,
        learns=learns,
        trainings=trainings,
        test={key: _estimate(_mean([one[key] for one in alone]), resampled[key], len(labels)) for key in SCORES},
        test_spread={key: spread([one[key] for one in alone]) for key in SCORES},
        val_spread={key: spread([one[key] for one in held_out]) for key in SCORES} if held_out else {},
        together={key: _estimate(whole[key], sampled_mean[key], len(labels)) for key in SCORES},
        confusion=np.mean([confusions(training.test, labels, once)[0] for training in trainings], 0),
        class_aucs=[
            spread([_or_none(class_auc(training.test[:, k], wanted[k], once)[0]) for training in trainings])
            for k in range(classes)
        ],
        curves=curves,
        macro_curve=np.mean(defined, 0) if defined else None,
        calibration=spread([calibration_error(training.test, labels) for training in trainings]),
        inference=inference,
    )


def averaged_scores(
    trainings: Sequence[Training], labels: NDArray[np.int64], weights: Weights
) -> dict[str, NDArray[np.float64]]:
    """Each score in each resample, mean over the trainings [R]; NaN where it is not defined.

    Of several seeds a resample draws as many with replacement, the same ones for all models with these seeds: what
    another seed would change is then in the spread.
    """
    found = [status_scores(training.test, labels, weights) for training in trainings]
    shares = _seed_shares([training.seed for training in trainings], len(weights))
    return {key: (shares * np.stack([one[key] for one in found], 1)).sum(1) for key in SCORES}


def _seed_shares(seeds: Sequence[int], resamples: int) -> NDArray[np.float64]:
    """How much each training counts in each resample [R, trainings]; rows sum to 1.

    Drawing n of n seeds gives their mean (n - 1) / n of its variance, two thirds of it with three seeds; what was drawn
    is stretched around the mean by the root of n / (n - 1).
    """
    own, place = np.unique(seeds, return_inverse=True)
    n = len(own)
    drawn = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), resamples)[:, place]
    counts = 1 + (drawn - 1) * (np.sqrt(n / (n - 1)) if n > 1 else 1.0)
    return np.asarray(counts / counts.sum(1, keepdims=True))


def differences(
    entries: Sequence[Entry], against: Entry, labels: NDArray[np.int64], weights: Weights
) -> tuple[list[Difference], list[McNemar]]:
    """Paired tests of every other model against one, over the test patients: see ``paired``."""
    return paired([(entry, against) for entry in entries if entry is not against], labels, weights)


def paired(
    pairs: Sequence[tuple[Entry, Entry]], labels: NDArray[np.int64], weights: Weights
) -> tuple[list[Difference], list[McNemar]]:
    """Paired tests of models, each against its reference, over the test patients.

    Paired bootstrap: both models are scored on the same resampled patients, trainings averaged; p is twice the smaller
    share of resamples on one side of 0 (with one added to both counts, so that it is never 0). McNemar's exact test
    compares the classes that the mean of all trainings' probabilities gives. No p with fewer than ``FEWEST`` test
    patients in a class. Holm's correction goes over the pairs,
    within each score and within McNemar's tests.

    Args:
        pairs: model and reference.
        labels: classes of the test patients [N].
        weights: bootstrap samples of these [R, N].
    """
    sampled = {one.name: averaged_scores(one.trainings, labels, weights) for pair in pairs for one in pair}
    enough = np.unique(labels, return_counts=True)[1].min() >= FEWEST
    found: list[Difference] = []
    for key in TESTED:
        rows = []
        for entry, against in pairs:
            own, reference = entry.test[key].mean, against.test[key].mean
            change = sampled[entry.name][key] - sampled[against.name][key]
            change = change[np.isfinite(change)]
            if own is None or reference is None or not len(change):
                rows.append(Difference(entry.name, against.name, key, None, None, None, None, None))
                continue
            low, high = _ends(change)
            smaller = min((change <= 0).sum(), (change >= 0).sum())
            p = float(min(1.0, 2 * (1 + smaller) / (len(change) + 1))) if enough else None
            rows.append(Difference(entry.name, against.name, key, own - reference, low, high, p, None))
        corrected = holm([row.p for row in rows])
        found += [replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True)]
    tests = []
    for entry, against in pairs:
        mine, right = _right(entry, labels), _right(against, labels)
        only, missed = int((mine & ~right).sum()), int((right & ~mine).sum())
        p = float(binomtest(only, only + missed).pvalue) if only + missed else 1.0
        tests.append(McNemar(entry.name, against.name, only, missed, p, p))
    adjusted = holm([one.p for one in tests])
    return found, [replace(one, p_holm=one.p if p is None else p) for one, p in zip(tests, adjusted, strict=True)]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of p values; None stays None and counts for nothing."""
    known = sorted((p, index) for index, p in enumerate(values) if p is not None)
    result: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        result[index] = largest
    return result


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and deviation of the values that are defined."""
    there = [value for value in values if value is not None]
    if not there:
        return Spread(None, None)
    return Spread(float(np.mean(there)), float(np.std(there, ddof=1)) if len(there) > 1 else None)


def _right(entry: Entry, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    mean = np.mean([training.test for training in entry.trainings], 0)
    return np.asarray(mean.argmax(1) == labels)


def _mean(values: Sequence[float | None]) -> float | None:
    return spread(values).mean


def _estimate(mean: float | None, sampled: NDArray[np.float64], n: int) -> Estimate:
    there = sampled[np.isfinite(sampled)]
    if mean is None or n < 2 or not len(there):
        return Estimate(mean, None, None, n)
    return Estimate(mean, *_ends(there), n)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
