"""Staining patches: images that are taken as they are, pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.infer.network import Network
from restain.infer.tiling import Overlap

WHOLE = 1024
"""Longest side, px, of an image that goes through the network in one piece (BCI's patches have 1024)."""


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
