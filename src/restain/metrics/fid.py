"""FID: distance of the Inception features of all generated images from those of all real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from restain.metrics.base import METRICS, Direction, MetricInfo, Scope, WeightFiles
from restain.nn.inception import INCEPTION_FID_FILE, inception_features, inception_input
from restain.nn.measuring import features_of, ready, unit_images

DIMENSIONS = 2048


@METRICS.add(
    "fid",
    MetricInfo(
        title="FID",
        unit="",
        direction=Direction.LOWER,
        range=(0.0, math.inf),
        version=1,
        definition=(
            "Fréchet distance of the 2048 features of all real and all generated images: FID's Inception-v3 "
            "(TensorFlow's of 2015), images taken to 299 px bilinearly without a filter against aliasing (Heusel 2017, "
            "as pytorch-fid). Biased upwards, the more the fewer the images: compare equal numbers of them only."
        ),
        decimals=2,
        weights=(INCEPTION_FID_FILE,),
        scope=Scope.SET,
        fewest=DIMENSIONS,
        of_fewer="biased upwards",
    ),
)
class Fid:
    """FID (Heusel 2017) as pytorch-fid computes it."""

    def __init__(self, files: WeightFiles) -> None:
        self._network = ready(inception_features(files[INCEPTION_FID_FILE], fid=True))

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [n, 2048] of images, uint8 RGB [H, W, 3] of any sizes."""
        return features_of(images, lambda image: inception_input(unit_images(image)), self._network)

    def distance(self, real: NDArray[np.float32], fake: NDArray[np.float32]) -> float:
        """``frechet_distance``."""
        return frechet_distance(real, fake)


def frechet_distance(real: NDArray[np.floating], fake: NDArray[np.floating]) -> float:
    """Fréchet distance of two normal distributions with the means and covariances of two sets of features.

    |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1 S_2)^(1/2) (Heusel 2017, Eq. 6), S with divisor n - 1. With the centred
    features as rows, X / sqrt(n - 1) = A, S = A^T A, the nonzero eigenvalues of S_1 S_2 are those of (A_1 A_2^T)(A_1
    A_2^T)^T: the trace of the root is the sum of the singular values of A_1 A_2^T. This is exact and real whatever the
    ranks, whereas the matrix root of a singular product is neither, and an [n, n] matrix is small where images are few.

    Args:
        real: [n, d]; of any float type, computed in float64.
        fake: [m, d].

    Returns:
        0 or more. A single image has no covariance, which counts as 0.
    """
    means = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    first, second = _root_of_covariance(real), _root_of_covariance(fake)
    crossed = linalg.svdvals(first @ second.T).sum()
    distance = means @ means + (first**2).sum() + (second**2).sum() - 2 * crossed
    return max(0.0, float(distance))


def _root_of_covariance(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """A matrix [min(n, d), d] whose A^T A is the covariance of features [n, d]."""
    count, dimensions = features.shape
    centred: NDArray[np.float64] = features.astype(np.float64)
    centred -= centred.mean(0)
    centred /= math.sqrt(max(count - 1, 1))
    if count <= dimensions:
        return centred
    triangle = np.asarray(linalg.qr(centred, mode="r", overwrite_a=True, check_finite=False)[0], np.float64)
    return triangle[:dimensions]
