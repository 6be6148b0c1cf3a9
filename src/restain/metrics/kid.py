"""KID: what FID asks, without FID's bias."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.metrics.base import METRICS, Direction, MetricInfo, Scope, WeightFiles
from restain.nn.inception import INCEPTION_IMAGENET_FILE, inception_features, inception_input
from restain.nn.measuring import features_of, ready, unit_images

SUBSETS = 100
LARGEST_SUBSET = 100
SEED = 0
DEGREE = 3
COEFFICIENT = 1.0


@METRICS.add(
    "kid",
    MetricInfo(
        title="KID",
        unit="",
        direction=Direction.LOWER,
        range=(-math.inf, math.inf),
        version=1,
        definition=(
            f"Mean over {SUBSETS} random subsets of min(n, {LARGEST_SUBSET}) images (seed {SEED}) of the unbiased "
            "squared MMD with kernel (x.y / 2048 + 1)^3 of Inception-v3 features (Bińkowski 2018); the network is "
            "torchvision's with ImageNet weights, as in ASP, not FID's. Sets that do not differ give values around 0."
        ),
        decimals=5,
        weights=(INCEPTION_IMAGENET_FILE,),
        scope=Scope.SET,
        fewest=LARGEST_SUBSET,
        of_fewer="noisy",
    ),
)
class Kid:
    """KID (Bińkowski 2018) with the network and the subsets of ASP.

    The network is torchvision's Inception-v3 with ImageNet weights, in the range that these were trained in ([-1, 1]),
    not FID's: values are those of neither pytorch-fid's network nor of the original KID. Not multiplied by 1000.
    """

    def __init__(self, files: WeightFiles) -> None:
        self._network = ready(inception_features(files[INCEPTION_IMAGENET_FILE], fid=False))

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [n, 2048] of images, uint8 RGB [H, W, 3] of any sizes."""
        return features_of(images, lambda image: inception_input(unit_images(image)), self._network)

    def distance(self, real: NDArray[np.float32], fake: NDArray[np.float32]) -> float:
        """The mean over random subsets, drawn with a fixed seed, of ``squared_mmd``.

        Raises:
            ItemError: there is one image only; the unbiased MMD needs two of each.
        """
        size = min(len(real), len(fake), LARGEST_SUBSET)
        if size < 2:
            raise ItemError(f"KID needs at least 2 images of each kind, there are {len(real)} and {len(fake)}.")
        random = np.random.default_rng(SEED)
        values = [
            squared_mmd(
                real[random.choice(len(real), size, replace=False)], fake[random.choice(len(fake), size, replace=False)]
            )
            for _ in range(SUBSETS)
        ]
        return float(np.mean(values))


def squared_mmd(
    real: NDArray[np.floating],
    fake: NDArray[np.floating],
    degree: float = DEGREE,
    coefficient: float = COEFFICIENT,
) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of features (Gretton 2012, Eq. 3).

    mean of k(x, x') over x != x' + mean of k(y, y') over y != y' - 2 mean of k(x, y), k(x, y) = (x.y / d +
    coefficient)^degree, in float64.

    Args:
        real: x, [n, d], n at least 2.
        fake: y, [m, d], m at least 2.
        degree: of the kernel.
        coefficient: of the kernel.
    """
    x, y = real.astype(np.float64), fake.astype(np.float64)

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (a @ b.T / a.shape[1] + coefficient) ** degree
        return values

    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(within) - 2 * kernel(x, y).mean())
