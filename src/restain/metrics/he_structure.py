"""Does the generated image keep the H&E's structure: its nuclei where they are in the image it was made from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.correlation import correlation
from restain.stains import haematoxylin

FINE, COARSE = 1.0, 8.0
"""Sigma of the Gaussians whose difference is looked at, px: above the grain, up to the size of a nucleus."""
FLAT = 1e-5
"""Deviation of a band-passed map, HED units, that counts as no structure; one grey level is some 30 times that."""


@pair_metric(
    "he_structure",
    MetricInfo(
        title="H&E structure",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Pearson's r, over all pixels, of the haematoxylin (first channel of scikit-image's rgb2hed) of the H&E "
            "and of the generated image, each the difference of its Gaussians of sigma 1 and 8 px: are nuclei where "
            "they are in the H&E, whatever the stain. The real image does not enter. 0 where only one has structure."
        ),
        decimals=4,
        needs_he=True,
    ),
)
def he_structure(pair: ImagePair) -> float:
    """Correlation of the band-passed haematoxylin of the H&E and of the generated image.

    Haematoxylin stains the nuclei of both, so it is the structure that a faithful virtual stain keeps; strength and
    colour of the stain, and what DAB adds, hardly move it. The real IHC, a neighbouring section with other nuclei, gets
    about 0 itself: high values say that the H&E's cells were kept, not that the stain is right.

    Returns:
        -1 to 1; 1 where the structure is the same, 0 where one image is flat and the other is not, 1 where both are.

    Raises:
        ItemError: the pair has no H&E.
    """
    if pair.he is None:
        raise ItemError("The H&E image is not given; he_structure compares the generated image with it.")
    x, y = _band(pair.he), _band(pair.fake)
    deviations = float(x.std(dtype=np.float64)), float(y.std(dtype=np.float64))
    if min(deviations) < FLAT:
        return 1.0 if max(deviations) < FLAT else 0.0
    return correlation(x, y)


def _band(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Haematoxylin [H, W] in HED units between the two scales; channel values of 0 taken as 1, as for the DAB."""
    stain = haematoxylin(np.maximum(rgb, 1))
    fine, coarse = (cv2.GaussianBlur(stain, (0, 0), sigma) for sigma in (FINE, COARSE))
    return np.asarray(fine - coarse, np.float32)
