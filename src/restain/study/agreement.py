"""Agreement: Cohen's and Fleiss' kappa, what chance gives, intervals by resampling.

Where a kappa is 0 / 0 (all grades are one and the same), it is not defined: NaN here, "not computed" in tables. Neither
0 nor 1 would be true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from restain.evaluate.bootstrap import INTERVAL

DEFINED = 0.95
"""Share of resamples in which a number must be defined to have an interval."""
PERMUTATIONS = 10_000
AT_ONCE = 1 << 22
"""Permuted entries held at a time."""


def confusion(rows: NDArray[np.int64], columns: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """How often each pair of grades occurs.

    Args:
        rows: a grade each, 0 to levels - 1; below 0 is none [n].
        columns: likewise [n].
        levels: L.

    Returns:
        Counts [n, L, L] of single entries, for sums over any of them.
    """
    counts = np.zeros((len(rows), levels, levels))
    both = np.flatnonzero((rows >= 0) & (columns >= 0))
    counts[both, rows[both], columns[both]] = 1.0
    return counts


def cohen_kappa(counts: NDArray[np.float64], quadratic: bool = False) -> NDArray[np.float64]:
    """Cohen's kappa, 1 - sum(w o) / sum(w e), with o the observed and e the expected share of each pair of grades.

    Args:
        counts: how often each pair of grades occurs [..., L, L].
        quadratic: w = (i - j)^2, which counts a miss by two levels four times; else w = 1 off the diagonal.

    Returns:
        [...], NaN where not defined: no entries, or nothing but one grade.
    """
    places = np.arange(counts.shape[-1], dtype=np.float64)
    apart = np.abs(places[:, None] - places[None, :])
    weight = apart**2 if quadratic else (apart > 0).astype(np.float64)
    total = counts.sum((-2, -1))
    expected = counts.sum(-1)[..., :, None] * counts.sum(-2)[..., None, :]
    seen, chance = (weight * counts).sum((-2, -1)) * total, (weight * expected).sum((-2, -1))
    return np.asarray(1 - np.divide(seen, chance, out=np.full(np.shape(total), np.nan), where=chance > 0))


def fleiss_parts(grades: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """What Fleiss' kappa is made of, for each image that all readers graded.

    Args:
        grades: of each reader and image, below 0 is none [R, n].
        levels: L.

    Returns:
        [n, 2 + L]: 1, the share of pairs of readers that agree, readers by level; zeros where a grade is missing.
    """
    readers = len(grades)
    votes = (grades[..., None] == np.arange(levels)).sum(0).astype(np.float64)
    full = votes.sum(1) == readers
    agree = (votes * (votes - 1)).sum(1) / max(readers * (readers - 1), 1)
    return np.where(full[:, None], np.column_stack([np.ones(len(votes)), agree, votes]), 0.0)


def fleiss_kappa(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fleiss' kappa, (P - Pe) / (1 - Pe), of sums of ``fleiss_parts`` [..., 2 + L]; NaN where not defined."""
    images, agree, votes = parts[..., 0], parts[..., 1], parts[..., 2:]
    total = votes.sum(-1)
    one = np.ones_like(images)
    mean = np.divide(agree, images, out=one.copy(), where=images > 0)
    chance = np.divide((votes**2).sum(-1), total**2, out=one.copy(), where=total > 0)
    defined = (images > 0) & (1 - chance > 1e-12)
    return np.asarray(np.divide(mean - chance, 1 - chance, out=np.full(np.shape(images), np.nan), where=defined))


def interval(
    parts: NDArray[np.float64],
    units: Sequence[str],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a number that is made of sums over entries.

    Whole units are drawn with replacement, as ``restain.evaluate`` does; a unit without entries is none.

    Args:
        parts: of each entry [n, ...]; an entry that is not counted is all zero.
        units: what is resampled, a name for each entry [n].
        statistic: from sums [samples, ...] to numbers [samples], NaN where not defined.

    Returns:
        Its ends; None where there are fewer than two units, or the number is often not defined.
    """
    counted = parts.reshape(len(parts), -1).any(1)
    if not counted.any():
        return None
    _, unit = np.unique(np.asarray(units, dtype=str)[counted], return_inverse=True)
    groups = int(unit.max()) + 1
    if groups < 2:
        return None
    kept = parts[counted].reshape(int(counted.sum()), -1)
    sums = np.zeros((groups, kept.shape[1]))
    np.add.at(sums, unit, kept)
    drawn = np.random.default_rng(INTERVAL.seed).integers(0, groups, (INTERVAL.resamples, groups))
    offsets = groups * np.arange(INTERVAL.resamples)[:, None]
    times = np.bincount((drawn + offsets).ravel(), minlength=groups * INTERVAL.resamples)
    resampled = times.reshape(INTERVAL.resamples, groups) @ sums
    values = statistic(resampled.reshape(-1, *parts.shape[1:]))
    defined = values[np.isfinite(values)]
    if defined.size < DEFINED * values.size:
        return None
    tail = (1 - INTERVAL.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def expected_agreement(real: NDArray[np.int64], generated: NDArray[np.int64], levels: int) -> float | None:
    """The share of pairs with equal grades if the two had nothing to do with each other: sum of p_k q_k.

    Args:
        real: grades of the real images that count, 0 to levels - 1 [n].
        generated: of the generated ones; below 0 (not readable) equals none [n].
        levels: L.
    """
    if not len(real):
        return None
    grades = np.arange(levels)
    return float(((real[:, None] == grades).mean(0) * (generated[:, None] == grades).mean(0)).sum())


def permuted_agreement(real: NDArray[np.int64], generated: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """The share of equal grades when generated images are dealt to real ones at random.

    Each deal is the same for all readers: what binds their answers to one image stays.

    Args:
        real: grades [R, n]; below 0 is not counted.
        generated: grades [R, n]; below -1 is not counted, -1 equals none.
        seed: of the deals.

    Returns:
        float64 [``PERMUTATIONS``], NaN where nothing could be counted.
    """
    random = np.random.default_rng(seed)
    readers, pairs = real.shape
    shares = []
    rows = max(1, min(PERMUTATIONS, AT_ONCE // max(1, readers * pairs)))
    for start in range(0, PERMUTATIONS, rows):
        count = min(rows, PERMUTATIONS - start)
        dealt = random.permuted(np.tile(np.arange(pairs), (count, 1)), axis=1)
        theirs = generated[:, dealt]  # [R, count, n]
        counted = (real[:, None, :] >= 0) & (theirs >= -1)
        equal = counted & (theirs == real[:, None, :])
        total = counted.sum((0, 2)).astype(np.float64)
        shares.append(np.divide(equal.sum((0, 2)), total, out=np.full(count, np.nan), where=total > 0))
    return np.concatenate(shares)


def p_value(observed: float, chance: NDArray[np.float64]) -> float | None:
    """One-sided p of a permutation test: (1 + how many are at least as large) / (1 + how many)."""
    known = chance[np.isfinite(chance)]
    if not known.size:
        return None
    return float((1 + (known >= observed - 1e-12).sum()) / (1 + known.size))
