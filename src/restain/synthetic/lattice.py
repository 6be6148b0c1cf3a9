"""Points that keep their distance: a jittered lattice in three dimensions, relaxed by repulsion between neighbours.

Every step looks only a few sites around, so that any block of the world can be drawn alone and fits its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.hashing import hash_uniform


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


def relaxed_lattice(
    seed: int, spacing: tuple[float, float, float], box: Box, jitter: float = 0.95, planar: bool = False, steps: int = 2
) -> Sites:
    """The points whose lattice site lies in ``box`` (in z: all layers that touch it).

    Args:
        seed: which lattice.
        spacing: um between sites in x, y, z.
        box: the part of the world.
        jitter: size of the uniform displacement, as a share of the spacing.
        planar: displace in the plane only, so that each layer keeps its distances by itself.
        steps: of repulsion, at least 1.

    Returns:
        The points; a point may lie slightly outside the box, its site does not.
    """
    lows = (box.x0, box.y0, box.z0 - spacing[2])
    highs = (box.x1, box.y1, box.z1 + spacing[2])
    first = [int(np.ceil(low / step)) for low, step in zip(lows, spacing, strict=True)]
    last = [int(np.ceil(high / step)) for high, step in zip(highs, spacing, strict=True)]
    halo = steps
    axes = [np.arange(low - halo, high + halo) for low, high in zip(first, last, strict=True)]
    sites = np.meshgrid(*axes, indexing="ij", sparse=True)
    spread = (jitter, jitter, 0.0 if planar else jitter)
    # In units of the spacing, where the lattice is cubic; one array per coordinate.
    unit = [sites[axis] + 0.5 + spread[axis] * (hash_uniform(seed, axis, *sites) - 0.5) for axis in range(3)]
    for _ in range(steps):
        unit = _repel(unit)
    inner = tuple(slice(halo, -halo) for _ in range(3))
    position = np.stack([(unit[axis][inner] * spacing[axis]).ravel() for axis in range(3)], axis=1)
    index = np.stack([np.broadcast_to(site, unit[0].shape)[inner].ravel() for site in sites], axis=1)
    return Sites(index, position)


def _repel(unit: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """One step of soft repulsion from the 26 neighbouring sites; outermost sites stay (the caller cuts them off)."""
    core = (slice(1, -1),) * 3
    centre = [coordinate[core] for coordinate in unit]
    push = [np.zeros_like(coordinate) for coordinate in centre]
    for offsets in product((0, 1, 2), repeat=3):
        if offsets == (1, 1, 1):
            continue
        window = tuple(slice(offset, offset - 2 if offset < 2 else None) for offset in offsets)
        x, y, z = (middle - coordinate[window] for middle, coordinate in zip(centre, unit, strict=True))
        distance = np.sqrt(x * x + y * y + z * z) + 1e-6
        strength = np.maximum(0.0, 1.0 - distance) / distance
        for total, difference in zip(push, (x, y, z), strict=True):
            total += difference * strength
    moved = [coordinate.copy() for coordinate in unit]
    for target, middle, total in zip(moved, centre, push, strict=True):
        target[core] = middle + 0.42 * total
    return moved
