"""Points that keep their distance: a jittered lattice in three dimensions, relaxed by repulsion between neighbours.

Every step looks only a few sites around, so that any block of the world can be drawn alone and fits its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.hashing import hash_uniform

_RELAXATIONS = 2


@dataclass(frozen=True)
class Box:
    """A box of the world in um, lower bounds included, upper ones not."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float


@dataclass(frozen=True)
class Sites:
    """Points of a lattice.

    Attributes:
        index: int64 [n, 3], lattice site (column, row, layer) of each point: its identity.
        position: float64 [n, 3], x, y, z in um.
    """

    index: NDArray[np.int64]
    position: NDArray[np.float64]


def relaxed_lattice(seed: int, spacing: tuple[float, float, float], box: Box, jitter: float = 0.95) -> Sites:
    """The points whose lattice site lies in ``box`` (in z: all layers that touch it).

    Args:
        seed: which lattice.
        spacing: um between sites in x, y, z.
        box: the part of the world.
        jitter: size of the uniform displacement, as a share of the spacing.

    Returns:
        The points; a point may lie slightly outside the box, its site does not.
    """
    lows = (box.x0, box.y0, box.z0 - spacing[2])
    highs = (box.x1, box.y1, box.z1 + spacing[2])
    first = [int(np.ceil(low / step)) for low, step in zip(lows, spacing, strict=True)]
    last = [int(np.ceil(high / step)) for high, step in zip(highs, spacing, strict=True)]
    halo = _RELAXATIONS
    axes = [np.arange(low - halo, high + halo) for low, high in zip(first, last, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    u = np.stack([hash_uniform(seed, grid[..., 0], grid[..., 1], grid[..., 2], axis) for axis in range(3)], axis=-1)
    # In units of the spacing, where the lattice is cubic.
    unit = grid + 0.5 + jitter * (u - 0.5)
    for _ in range(_RELAXATIONS):
        unit = _repel(unit)
    inner = tuple(slice(halo, -halo) for _ in range(3))
    position = unit[inner].reshape(-1, 3) * np.asarray(spacing)
    return Sites(grid[inner].reshape(-1, 3), position)


def _repel(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """One step of soft repulsion from the 26 neighbouring sites; outermost sites stay (the caller cuts them off)."""
    moved = unit.copy()
    centre = unit[1:-1, 1:-1, 1:-1]
    push = np.zeros_like(centre)
    for i, j, k in product((0, 1, 2), repeat=3):
        if (i, j, k) == (1, 1, 1):
            continue
        stop = [offset - 2 if offset < 2 else None for offset in (i, j, k)]
        difference = centre - unit[i : stop[0], j : stop[1], k : stop[2]]
        distance = np.sqrt((difference**2).sum(axis=-1, keepdims=True)) + 1e-6
        push += difference * (np.maximum(0.0, 1.0 - distance) / distance)
    moved[1:-1, 1:-1, 1:-1] = centre + 0.42 * push
    return moved
