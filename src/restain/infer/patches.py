"""Staining patches: images like those that the run was trained on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.data import Augmentation
from restain.infer.network import Network
from restain.infer.tiling import Overlap

WHOLE = 1024
"""Longest side, px, of an image that goes through the network in one piece (BCI's patches have 1024)."""


def stain_patch(
    network: Network, he: NDArray[np.uint8], scale: float = 1.0, overlap: Overlap | None = None
) -> NDArray[np.uint8]:
    """Stain a patch like those that the run's data hold: resized as in training, stained, resized back.

    Args:
        network: the run.
        he: uint8 H&E [H, W, 3], at the um/px of the run's training images.
        scale: size that the network saw relative to these (``RunFolder.scale``).
        overlap: see ``stain_image``.

    Returns:
        uint8 virtual IHC [H, W, 3]; where ``scale`` is not 1 by bicubic interpolation.
    """
    if scale == 1:
        return stain_image(network, he, overlap=overlap)
    resize = Augmentation(resize=max(1, round(min(he.shape[:2]) * scale)))
    (seen,) = resize([he], np.random.default_rng(0))
    stained = stain_image(network, seen, overlap=overlap)
    size = (he.shape[1], he.shape[0])
    return np.asarray(cv2.resize(stained, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def stain_image(
    network: Network, he: NDArray[np.uint8], core: int = WHOLE, overlap: Overlap | None = None
) -> NDArray[np.uint8]:
    """Stain an image in memory.

    Args:
        network: the run.
        he: uint8 H&E [H, W, 3], at the um/px of the run.
        core: an image with a longer side is stained in windows with cores of this side, px.
        overlap: what becomes of the windows' overlap; None for the network's own choice.

    Returns:
        uint8 virtual IHC [H, W, 3].
    """
    height, width = he.shape[:2]
    if max(height, width) <= core:
        return np.rint(network(he)).astype(np.uint8)
    tiling = network.tiling(core, overlap)
    far = tiling.side + core
    padded = np.pad(he, ((tiling.halo, far), (tiling.halo, far), (0, 0)), mode="symmetric")
    out = np.empty_like(he)

    def window(x: int, y: int, side: int) -> NDArray[np.float32]:
        top, left = y + tiling.halo, x + tiling.halo
        return network(padded[top : top + side, left : left + side])

    for x, y, piece in tiling.run((width, height), window, np.zeros(3, np.uint8)):
        out[y : y + piece.shape[0], x : x + piece.shape[1]] = piece
    return out
