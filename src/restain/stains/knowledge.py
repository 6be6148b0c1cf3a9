"""What TDKstain (Peng 2024, Sec. 2 and Fig. 1a) extracts from a real IHC before it trains: DAB, membranes, nuclei."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from restain.core.errors import MissingResolutionError, RestainError
from restain.stains.density import SIGMA, DensityScale, density_map
from restain.stains.membrane import dab_only, membrane_mask
from restain.stains.nuclei import NUCLEI_MPP, Detector, NucleusDetector


@dataclass(frozen=True)
class KnowledgeOptions:
    """What is extracted. Defaults are those of the authors' code but for the detector (theirs is Cellpose).

    Attributes:
        threshold: saturation of the DAB above which a pixel is membrane, 0 to 1 (authors' code: 0.15).
        blur: soften the mask, Gaussian of 9x9 px, sigma 3 px (authors' code).
        sigma: of the Gaussian that nuclei are drawn with, in px (authors' code: 11).
        density_scale: of the nuclei map; ``image`` as released, ``count`` keeps numbers of nuclei.
        dab_centroids: add the cells found in the DAB mask to the nuclei (authors' code: yes). Off by default: the
            paper speaks of nuclei, and a stained cell would count twice.
        detector: what finds nuclei.
        cellpose_model: Cellpose's model file, for ``detector: cellpose``.
    """

    threshold: float = 0.15
    blur: bool = True
    sigma: float = SIGMA
    density_scale: DensityScale = DensityScale.image
    dab_centroids: bool = False
    detector: Detector = Detector.classical
    cellpose_model: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            RestainError: a value out of range, named with the range.
        """
        if not 0 <= self.threshold < 1:
            raise RestainError(f"knowledge: threshold must lie in [0, 1), got {self.threshold}.")
        if not 0 < self.sigma <= 1000:
            raise RestainError(f"knowledge: sigma must lie between 0 and 1000 px, got {self.sigma}.")


@dataclass(frozen=True)
class Knowledge:
    """What is known of one IHC.

    Attributes:
        dab: the IHC with its DAB alone, uint8 [H, W, 3].
        dab_mask: where membranes are stained, uint8 [H, W].
        nuclei_map: how dense nuclei lie, uint8 [H, W].
        centroids: of the nuclei, (x, y) in px, float64 [n, 2].
    """

    dab: NDArray[np.uint8]
    dab_mask: NDArray[np.uint8]
    nuclei_map: NDArray[np.uint8]
    centroids: NDArray[np.float64]


def extract(
    ihc: NDArray[np.uint8], mpp: float | None, options: KnowledgeOptions, detector: NucleusDetector
) -> Knowledge:
    """The knowledge in one real IHC.

    Args:
        ihc: uint8 [H, W, 3].
        mpp: its um/px; nuclei are told by their size.
        options: what to extract.
        detector: finds the nuclei, see ``nuclei.make_detector``.

    Raises:
        MissingResolutionError: ``mpp`` is None.
        RestainError: ``mpp`` is out of range.
    """
    if mpp is None:
        raise MissingResolutionError(
            "Nuclei are told by their size, and this image has no um/px: give it (--mpp, or pairs.csv)."
        )
    if not NUCLEI_MPP[0] <= mpp <= NUCLEI_MPP[1]:
        raise RestainError(f"Nuclei can be found at {NUCLEI_MPP[0]} to {NUCLEI_MPP[1]} um/px, not at {mpp}.")
    centroids = detector(ihc, mpp)
    if options.dab_centroids:
        hard = membrane_mask(ihc, options.threshold, blur=False)
        centroids = np.concatenate([centroids, detector.in_mask(hard, mpp)])
    height, width = ihc.shape[:2]
    # The middle of what the border leaves of a nucleus may lie on the outermost pixel, which the released filter
    # repeats outwards: it would weigh as much as 15 nuclei, and min-max scaling would leave nothing of the others.
    drawn = np.clip(centroids, 1, np.nextafter([width - 1, height - 1], 0))
    return Knowledge(
        dab=(dab_only(ihc) * 255).astype(np.uint8),
        dab_mask=membrane_mask(ihc, options.threshold, options.blur),
        nuclei_map=density_map(drawn, (width, height), options.sigma, options.density_scale),
        centroids=centroids,
    )


_GAP = 8
_BAR = 26
_LARGEST = 512


def knowledge_picture(ihc: NDArray[np.uint8], knowledge: Knowledge, title: str = "") -> NDArray[np.uint8]:
    """What was extracted from an IHC, side by side: the IHC with its nuclei, nuclei map, DAB, membrane mask.

    Args:
        ihc: uint8 [H, W, 3].
        knowledge: what was extracted from it.
        title: written over the first panel, e.g. the file's name.

    Returns:
        uint8 RGB [h, w, 3]; panels of at most 512 px a side.
    """
    factor = min(1.0, _LARGEST / max(ihc.shape[:2]))
    size = max(1, round(ihc.shape[1] * factor)), max(1, round(ihc.shape[0] * factor))
    inferno = cv2.applyColorMap(knowledge.nuclei_map, cv2.COLORMAP_INFERNO)[..., ::-1]
    planes = (ihc, inferno, knowledge.dab, cv2.cvtColor(knowledge.dab_mask, cv2.COLOR_GRAY2RGB))
    panels = [cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA) for plane in planes]
    marks = np.zeros((size[1], size[0]), np.uint8)
    column, row = np.minimum((knowledge.centroids * factor).astype(np.int64), np.array(size) - 1).T
    marks[row, column] = 1
    panels[0][cv2.dilate(marks, np.ones((3, 3), np.uint8)) > 0] = (0, 255, 0)
    nuclei = f"{len(knowledge.centroids)} nuclei"
    labels = (f"{title}: {nuclei}" if title else nuclei, "nuclei map", "DAB", "membrane mask")
    sheet = np.full((size[1] + _BAR, 4 * size[0] + 3 * _GAP, 3), 255, np.uint8)
    for index, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        left = index * (size[0] + _GAP)
        sheet[_BAR:, left : left + size[0]] = panel
        bar = Image.new("RGB", (size[0], _BAR), "white")  # a long name ends where its panel ends
        ImageDraw.Draw(bar).text((2, _BAR / 2), label, "black", ImageFont.load_default(14), anchor="lm")
        sheet[:_BAR, left : left + size[0]] = np.asarray(bar)
    return sheet
