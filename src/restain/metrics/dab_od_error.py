"""Mean error of the DAB optical density, pixel by pixel."""

from __future__ import annotations

import cv2

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.dab_map import LARGEST, UNIT


@pair_metric(
    "dab_od_error",
    MetricInfo(
        title="DAB error",
        unit=UNIT,
        direction=Direction.LOWER,
        range=(0.0, LARGEST),
        version=1,
        definition=(
            "Mean over all pixels of |DAB generated - DAB real|; DAB is the third channel of scikit-image's rgb2hed: "
            "optical density to the base 10^6 (1 is six decades of absorption), negative values set to 0, channels "
            "that are 0 taken as 1."
        ),
        decimals=5,
    ),
)
def dab_od_error(pair: ImagePair) -> float:
    """Mean absolute error of the DAB optical density: mean over pixels of |DAB(fake) - DAB(real)|.

    DAB is that of ``dab_map``: optical densities are logarithms to the base 10^6, as in scikit-image's ``rgb2hed``, so
    multiply by 6 for decadic optical density.

    Returns:
        0 or more, in HED units; 0 where both images carry the same DAB (two white or two black images do).
    """
    return float(cv2.norm(pair.dab_fake, pair.dab_real, cv2.NORM_L1)) / pair.dab_real.size
