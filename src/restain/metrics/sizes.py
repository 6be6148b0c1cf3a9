"""The least size of images that a metric is defined for."""

from __future__ import annotations

from restain.core.errors import ItemError
from restain.metrics.base import ImagePair


def check_side(pair: ImagePair, least: int, metric: str) -> None:
    """Refuse images with a side shorter than ``least`` px.

    Raises:
        ItemError: they are too small; it says the least size and theirs.
    """
    height, width = pair.real.shape[:2]
    if min(height, width) < least:
        raise ItemError(f"{metric} needs images of at least {least}x{least} px, these have {width}x{height}.")
