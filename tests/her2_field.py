"""A painted IHC field: pale blue nuclei in rings of DAB whose density is known."""

from __future__ import annotations

import numpy as np

HAEMATOXYLIN = np.array([0.65, 0.60, 0.46])
DAB = np.array([0.27, 0.57, 0.78]) / np.linalg.norm([0.27, 0.57, 0.78])
RADIUS, NUCLEUS, HALF_WIDTH = 6.5, 4.0, 0.9
"""um: of the membrane, of the nucleus, and half the membrane's thickness."""


def paint(
    density: np.ndarray,
    white: tuple[int, int, int] = (244, 242, 238),
    mpp: float = 0.5,
    pitch: float = 15.0,
    share: float = 1.0,
    cytoplasm: float = 0.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Cells on a grid, ``density[row, column]`` is the DAB of each one's membrane.

    Args:
        density: optical density along DAB's unit vector [rows, columns].
        white: of the glass.
        mpp: um/px of the picture.
        pitch: um from cell to cell; around the grid there is as much glass.
        share: of the circumference that is stained.
        cytoplasm: DAB everywhere between nucleus and membrane.
        seed: of the noise.

    Returns:
        uint8 [h, w, 3], and the centres (x, y) in px [n, 2], row by row.
    """
    rows, columns = density.shape
    size = round((rows + 2) * pitch / mpp), round((columns + 2) * pitch / mpp)
    y, x = ((np.indices(size) + 0.5) * mpp).astype(float)
    column, row = np.floor(x / pitch).astype(int) - 1, np.floor(y / pitch).astype(int) - 1
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    dx, dy = x - (column + 1.5) * pitch, y - (row + 1.5) * pitch
    distance, angle = np.hypot(dx, dy), np.mod(np.arctan2(dy, dx), 2 * np.pi)
    own = density[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    blue = np.where(inside & (distance < NUCLEUS), 0.2, 0.0) + np.where(inside, 0.02, 0.0)
    ring = inside & (np.abs(distance - RADIUS) < HALF_WIDTH) & (angle < 2 * np.pi * share)
    brown = np.where(ring, own, 0.0) + np.where(inside & (distance > NUCLEUS) & (distance < RADIUS), cytoplasm, 0.0)
    light = 10 ** -(blue[..., None] * HAEMATOXYLIN + brown[..., None] * DAB)
    noise = np.random.default_rng(seed).normal(0, 1.0, (*size, 3))
    grey = np.asarray(white) * light + noise
    i, j = np.mgrid[0:rows, 0:columns]
    centres = np.column_stack([(j.ravel() + 1.5) * pitch / mpp, (i.ravel() + 1.5) * pitch / mpp])
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), centres
