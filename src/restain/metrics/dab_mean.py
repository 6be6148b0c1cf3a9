"""Mean DAB optical density of either image of a pair: how much stain there is, whether or not in the right place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.dab_map import LARGEST, UNIT


def _info(title: str, which: str) -> MetricInfo:
    return MetricInfo(
        title=title,
        unit=UNIT,
        direction=Direction.NEITHER,
        range=(0.0, LARGEST),
        version=1,
        definition=f"Mean over all pixels of the DAB of the {which} image, defined as for the DAB error.",
        decimals=5,
    )


def _mean(dab: NDArray[np.float32]) -> float:
    return float(dab.mean(dtype=np.float64))


@pair_metric("dab_mean_real", _info("Mean DAB, real", "real"))
def dab_mean_real(pair: ImagePair) -> float:
    """Mean DAB optical density of the real image, in HED units (see ``dab_od_error``); 0 for a white image."""
    return _mean(pair.dab_real)


@pair_metric("dab_mean_fake", _info("Mean DAB, generated", "generated"))
def dab_mean_fake(pair: ImagePair) -> float:
    """Mean DAB optical density of the generated image, in HED units (see ``dab_od_error``); 0 for a white image."""
    return _mean(pair.dab_fake)
