"""Nuclei in H&E and IHC: where their centres lie.

``haematoxylin_mask`` is TDKstain's own segmentation; ``ClassicalNuclei`` is the default detector, which needs no
weights (``blobs`` has its method); ``cellpose`` has the one TDKstain used.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.exposure import rescale_intensity
from skimage.filters import threshold_otsu
from skimage.morphology import disk

from restain.core.errors import RestainError

NUCLEI_MPP = (0.05, 2.0)
"""um/px at which nuclei are looked for: finer, one fills a patch; coarser, it is 3 px wide."""


class NucleusDetector(Protocol):
    """Finds nuclei.

    Attributes:
        name: one word, as ``Detector`` has it.
    """

    name: str

    def __call__(self, rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """Centres of the nuclei.

        Args:
            rgb: H&E or IHC, uint8 [H, W, 3].
            mpp: um/px.

        Returns:
            float64 [n, 2]: (x, y) in px, pixel i covering i to i + 1.
        """

    def in_mask(self, mask: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """Centres of what looks like cells in a mask, uint8 [H, W] 0 or 255: as ``__call__``."""


class Detector(Enum):
    """The detectors there are."""

    classical = "classical"
    cellpose = "cellpose"


def make_detector(kind: Detector = Detector.classical, cellpose_model: Path | None = None) -> NucleusDetector:
    """The detector of that name.

    Args:
        kind: which.
        cellpose_model: Cellpose's model file; needed for ``Detector.cellpose`` alone.

    Raises:
        RestainError: Cellpose without a model file, with one that does not exist, or not installed.
    """
    if kind is Detector.classical:
        from restain.stains.blobs import ClassicalNuclei  # as below

        return ClassicalNuclei()
    if cellpose_model is None:
        raise RestainError(
            "Cellpose needs a model file (cellpose_model: its path); nothing is downloaded. "
            "The detector 'classical' needs none."
        )
    from restain.stains.cellpose import CellposeNuclei  # imports this module

    return CellposeNuclei(cellpose_model)


def haematoxylin_mask(
    rgb: NDArray[np.uint8],
    percentile: float = 99,
    hole_area: int = 400,
    connectivity: int = 2,
    dilation_radius: int = 1,
) -> NDArray[np.uint8]:
    """Nuclei as TDKstain segments them before Cellpose (Sec. 2: Otsu on haematoxylin, then morphology; authors' code).

    Args:
        rgb: IHC, uint8 [H, W, 3].
        percentile: of the haematoxylin that is taken as full scale, 0 to 100.
        hole_area: holes of fewer px are filled.
        connectivity: of a hole's pixels: 1 by sides, 2 by corners too.
        dilation_radius: of the disk that the mask grows by, in px.

    Returns:
        uint8 [H, W], 0 or 255.
    """
    amount = rgb2hed(rgb)[..., 0]  # in double precision: the mask hangs on a threshold
    scaled = rescale_intensity(amount, (amount.min(), np.percentile(amount, percentile)), (0, 255))  # type: ignore[no-untyped-call]
    mask = scaled > threshold_otsu(scaled)  # type: ignore[no-untyped-call]
    holes, _ = ndimage.label(~mask, ndimage.generate_binary_structure(2, connectivity))
    small = np.bincount(holes.ravel()) < hole_area
    mask |= small[holes]
    return np.asarray(cv2.dilate(mask.astype(np.uint8) * 255, disk(dilation_radius)), np.uint8)  # type: ignore[no-untyped-call]
