"""Mean DAB optical density of either image of a pair: how much stain there is, whether or not in the right place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.dab_od_error import LARGEST


def _info(title: str, which: str) -> MetricInfo:
    return MetricInfo(
        title=title,
        unit="HED",
        direction=Direction.NEITHER,
        range=(0.0, LARGEST),
        version=1,
        definition=f"Mean DAB of the {which} image over all pixels, in the units of the DAB error.",
        decimals=5,
    )


def _mean(dab: NDArray[np.float32]) -> float:
    return float(dab.mean(dtype=np.float64))


@pair_metric("dab_mean_real", _info("DAB real", "real"))
def dab_mean_real(pair: ImagePair) -> float:
    """Mean DAB optical density of the real image, in HED units (see ``dab_od_error``); 0 for a white image."""
    return _mean(pair.dab_real)


@pair_metric("dab_mean_fake", _info("DAB generated", "generated"))
def dab_mean_fake(pair: ImagePair) -> float:
    """Mean DAB optical density of the generated image, in HED units (see ``dab_od_error``); 0 for a white image."""
    return _mean(pair.dab_fake)
