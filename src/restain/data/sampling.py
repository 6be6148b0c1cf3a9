"""How often each pair is drawn: every pair once an epoch, levels alike, or pairs that agree more often."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.progress import track
from restain.core.workers import cpu_threads
from restain.data.dataset import PairDataset

_GREY = np.array([0.299, 0.587, 0.114])
_BLUE = 2
_TINY = 1e-8


class Sampling(StrEnum):
    """Which pairs a training sees in an epoch.

    ``each``: every pair once. ``balanced``: levels equally often; pairs without a level keep their share.
    ``agreement``: the more a pair's images agree and the rarer its H&E's colours are, the more often (Eq. 14 of the
    BCI challenge review 2023, team stan9).
    """

    each = "each"
    balanced = "balanced"
    agreement = "agreement"

    def weights(self, dataset: PairDataset) -> NDArray[np.float64] | None:
        """The weight of each index of ``dataset``, [n]; None where every one comes once.

        ``agreement`` reads all images once, several at a time; its weights are those of whole images as they are.

        Raises:
            RestainError: ``balanced`` without any level, or ``agreement`` of images that are not paired.
            ItemError: an image cannot be read.
        """
        if self is Sampling.each:
            return None
        if self is Sampling.balanced:
            levels = dataset.levels
            if (levels < 0).all():
                raise RestainError(
                    f"{dataset.folder.root}: sampling balanced needs levels, but no pair of split {dataset.split} has "
                    "one. Give them in pairs.csv (columns name and level), or use --batches.sampling each."
                )
            return balanced_weights(levels)
        if dataset.unpaired:
            raise RestainError(
                f"{dataset.folder.root}: sampling agreement compares the images of a pair, but the method draws H&E "
                "and IHC independently of each other. Use --batches.sampling each."
            )
        return _agreement_of(dataset)


def balanced_weights(levels: Collection[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights [n], of sum 1, under which every level that occurs is drawn equally often.

    Args:
        levels: class numbers [n], -1 where unknown: those pairs together keep their share.
    """
    numbers = np.asarray(levels)
    known = numbers >= 0
    there, place, counts = np.unique(numbers[known], return_inverse=True, return_counts=True)
    weights = np.full(len(numbers), 1 / len(numbers))
    weights[known] = known.mean() / (len(there) * counts[place])
    return weights


def correlation(he: NDArray[np.uint8], ihc: NDArray[np.uint8]) -> float:
    """How far the grey values of a pair agree, r_i of Eq. 14; 0 where one of them is constant, 1 where both are.

    As released by WeCREST it is Pearson's r times n / (n - 1), n the number of pixels, with 1e-8 against division by 0.

    Args:
        he: uint8 RGB [H, W, 3].
        ihc: the same shape.
    """
    one, two = (image.reshape(-1, 3) @ _GREY for image in (he, ihc))
    one, two = ((grey - grey.mean() + _TINY) / (grey.std() + _TINY) for grey in (one, two))
    return float((one * two).sum() / max(len(one) - 1, 1))


def colour_histogram(he: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of pixels at each value of the blue channel, [256]: h_i of Eq. 14 as released by WeCREST.

    Args:
        he: uint8 RGB [H, W, 3].
    """
    return np.bincount(he[..., _BLUE].reshape(-1), minlength=256) / (he.size / 3)


def agreement_weights(
    correlations: NDArray[np.float64], histograms: NDArray[np.float64], pixels: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weights of sum 1 in proportion to ((1 + r_i) / 2) / sqrt(sum_k h_i(k) H(k)) (Eq. 14).

    Args:
        correlations: r_i, [n].
        histograms: h_i, [n, 256].
        pixels: of each image, [n]; H is the histogram of all their pixels. None for images of one size.

    Returns:
        [n].
    """
    pooled = np.average(histograms, axis=0, weights=pixels)
    weights = np.clip((1 + correlations) / 2, 0, None) / np.sqrt(histograms @ pooled)
    total = weights.sum()
    # Where no pair agrees at all, none is better than another.
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def _agreement_of(dataset: PairDataset) -> NDArray[np.float64]:
    def look(index: int) -> tuple[float, NDArray[np.float64], int]:
        he, ihc = dataset.pair(index)
        return correlation(he, ihc), colour_histogram(he), he.shape[0] * he.shape[1]

    count = len(dataset)
    with ThreadPoolExecutor(cpu_threads()) as pool:
        found = list(track(pool.map(look, range(count)), f"agreement of {dataset.split}", count))
    correlations, histograms, pixels = (np.array(column, np.float64) for column in zip(*found, strict=True))
    return agreement_weights(correlations, histograms, pixels)
