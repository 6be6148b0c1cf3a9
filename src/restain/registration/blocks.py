"""The elastic step: elastix in overlapping blocks, blended, coarse to fine.

A step registers the IHC to the H&E as the registration so far shows it, block by block, and adds what it finds. The
first step has one block, the whole slide; the second has 4 x 4 (the BCI paper's 16), each finer. Blocks overlap, and
where they do their displacements are blended, so that neither seams nor gaps appear where the paper had to repair them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.registration.channels import Plane
from restain.registration.elastix import displacement
from restain.registration.pictures import Side, amount, band, blurred, tissue_at
from restain.registration.quality import correlation
from restain.registration.transform import Transform
from restain.registration.warp import WarpedSlide

NODE_UM = 25.0
"""Distance of the nodes at which a displacement is kept: a ninth of the default B-spline grid, half of the finest."""

STRETCH = (0.3, 3.0)
"""Bounds of the Jacobian's determinant: no place may shrink or grow more than this, let alone fold."""

_OVERLAP = 0.15
"""How far a block reaches over its border, as a share of its side."""
_LARGEST = 4096
"""Longest side in px of the picture of a block: bounds the memory, whatever the slide."""
_FINE, _WIDE = 0.7, 100.0
"""Structure compared: from 0.7 px to 100 um, smaller than the shading and unequal thickness of sections."""
_MARGIN = 60.0
"""um around the tissue that are compared too: where tissue ends is the best guide."""
_LEAST_TISSUE = 0.02
"""Share of a block; below, it is not registered."""
_ATTEMPTS = 6

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A block: its name and its edges in um on the IHC, overlap included."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Lattice:
    """The nodes of a displacement over the whole IHC: at k ``NODE_UM``, from the corner to beyond the far edge."""

    columns: int
    rows: int

    @staticmethod
    def over(extent: tuple[float, float]) -> Lattice:
        """The lattice of a slide of (width, height) um."""
        columns, rows = (int(np.ceil(side / NODE_UM)) + 1 for side in extent)
        return Lattice(max(columns, 2), max(rows, 2))

    def within(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of the nodes in a box."""
        return (
            slice(int(np.ceil(box.top / NODE_UM)), min(self.rows, int(np.floor(box.bottom / NODE_UM)) + 1)),
            slice(int(np.ceil(box.left / NODE_UM)), min(self.columns, int(np.floor(box.right / NODE_UM)) + 1)),
        )


def boxes(extent: tuple[float, float], count: int) -> list[Box]:
    """``count`` x ``count`` overlapping blocks of a slide of (width, height) um, row by row."""
    width, height = (side / count for side in extent)

    def edges(index: int, side: float) -> tuple[float, float]:
        low = 0.0 if index == 0 else (index - _OVERLAP) * side
        # nodes lie up to one step beyond the slide's far edge
        return low, count * side + NODE_UM if index == count - 1 else (index + 1 + _OVERLAP) * side

    found = []
    for row in range(count):
        for column in range(count):
            (left, right), (top, bottom) = edges(column, width), edges(row, height)
            found.append(Box(f"block-{count}-{row}-{column}", left, top, right, bottom))
    return found


@dataclass(frozen=True)
class BlockResult:
    """What a block found.

    Attributes:
        field: float32 [rows, columns, 2] um at the nodes within its box; zeros where it was not used.
        before: correlation of structure before, None where there is no tissue.
        after: and after.
        reason: why it was not used; empty where it was.
    """

    field: Field
    before: float | None
    after: float | None
    reason: str = ""


def register_block(
    he: WarpedSlide, ihc: Side, box: Box, lattice: Lattice, mpp: float, grid: float, levels: int, seed: int
) -> BlockResult:
    """Register one block of the IHC to the H&E as the registration so far shows it.

    Args:
        he: the H&E on the IHC's grid, so far.
        ihc: the IHC.
        box: the block.
        lattice: of the whole slide.
        mpp: um/px to work at; coarser where the block would have more than 4,096 px.
        grid: spacing of the B-spline's control points, um.
        levels: resolutions of elastix.
        seed: of elastix' samples.
    """
    rows, columns = lattice.within(box)
    nothing = np.zeros((rows.stop - rows.start, columns.stop - columns.start, 2), np.float32)
    width, height = min(box.right, ihc.extent[0]) - box.left, min(box.bottom, ihc.extent[1]) - box.top
    mpp = max(mpp, max(width, height) / _LARGEST)
    size = max(1, round(width / mpp)), max(1, round(height / mpp))
    place = box.left / ihc.mpp, box.top / ihc.mpp
    moving_rgb, real = he.read(*place, *size, mpp)
    fixed = _structure(amount(ihc.slide.read(*place, *size, mpp), ihc.white), mpp)
    moving = _structure(amount(moving_rgb, he.white), mpp)
    tissue = blurred(tissue_at(ihc, (box.left, box.top), size, mpp), _MARGIN / 2 / mpp)
    compared = (tissue > 0.03) & real
    known = cv2.erode(real.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(np.bool_)
    if (compared & (tissue > 0.5)).mean() < _LEAST_TISSUE:
        return BlockResult(nothing, None, None, "too little tissue")
    both = compared & known
    before = correlation(fixed[both], moving[both])
    x = np.arange(columns.start, columns.stop) * NODE_UM - box.left
    y = np.arange(rows.start, rows.stop) * NODE_UM - box.top
    try:
        field = displacement(fixed, moving, compared, known, mpp, grid, levels, (x, y), seed)
    except ItemError as error:
        return BlockResult(nothing, before, None, str(error))
    moved, both = _moved(moving, known, compared, field, (x, y), mpp)
    after = correlation(fixed[both], moved[both])
    if after is None or before is None or after < before:
        return BlockResult(nothing, before, after, "the correlation fell")
    return BlockResult(field, before, after)


def blend(blocks: Sequence[tuple[Box, Field]], lattice: Lattice, extent: tuple[float, float]) -> Field:
    """One field from those of overlapping blocks: weights fall smoothly to 0 at inner edges and add up to 1.

    Returns:
        float32 [rows, columns, 2] at the nodes of the lattice, um.
    """
    total = np.zeros((lattice.rows, lattice.columns, 2))
    weights = np.zeros((lattice.rows, lattice.columns, 1))
    for box, field in blocks:
        rows, columns = lattice.within(box)
        down = _ramp(np.arange(rows.start, rows.stop) * NODE_UM, box.top, box.bottom, extent[1])
        across = _ramp(np.arange(columns.start, columns.stop) * NODE_UM, box.left, box.right, extent[0])
        weight = (down[:, None] * across[None])[..., None]
        total[rows, columns] += weight * field
        weights[rows, columns] += weight
    return np.asarray(total / np.maximum(weights, 1e-9), np.float32)


def compose(transform: Transform, field: Field) -> tuple[Transform | None, float]:
    """The transform after a further displacement of the fixed slide, kept from folding.

    Where it stretches more than ``STRETCH`` allows, the displacement is smoothed until it does not, and only there.

    Args:
        transform: so far, T(p).
        field: v [rows, columns, 2] um at the nodes of the slide's lattice.

    Returns:
        p to T(p + v(p)), None where no smoothing kept it within bounds; and the share of nodes that were smoothed.
    """
    mpp = transform.ihc_mpp
    rows, columns = field.shape[:2]
    spacing = NODE_UM / mpp
    across, down = np.meshgrid(np.arange(columns) * spacing, np.arange(rows) * spacing)
    nodes = np.stack([across, down], axis=2)
    touched = np.zeros((rows, columns), np.float32)
    for attempt in range(_ATTEMPTS):
        moved = nodes + np.asarray(field, np.float64) / mpp
        whole = transform.displaced(moved.reshape(-1, 2)).reshape(moved.shape) - nodes
        found = replace(transform, displacement=whole.astype(np.float32), origin=(0.0, 0.0), spacing=spacing)
        stretch = found.jacobian()
        wrong = (stretch.min(axis=2) <= STRETCH[0]) | (stretch.max(axis=2) >= STRETCH[1])
        if not wrong.any():
            return found, float((touched > 0.01).mean())
        sigma = 2.0**attempt
        around = 2 * int(2 * sigma) + 3
        near = cv2.dilate(np.pad(wrong.astype(np.float32), ((0, 1), (0, 1))), np.ones((around, around), np.uint8))
        weight = cv2.GaussianBlur(near, (0, 0), sigma)
        touched = np.maximum(touched, weight)
        field = np.asarray(field + weight[..., None] * (cv2.GaussianBlur(field, (0, 0), sigma) - field), np.float32)
    return None, float((touched > 0.01).mean())


def step(
    transform: Transform,
    he: Side,
    ihc: Side,
    count: int,
    mpp: float,
    grid: float,
    levels: int,
    each: Callable[[Box, Callable[[], BlockResult]], BlockResult],
) -> tuple[Transform | None, list[dict[str, Any]], float]:
    """One elastic step.

    Args:
        transform: so far.
        he: the moving slide.
        ihc: the fixed slide.
        count: blocks along each side.
        mpp: um/px to work at.
        grid: spacing of the B-spline's control points, um.
        levels: resolutions of elastix.
        each: gets a block and the work on it, and returns the block's result; from an earlier call, where it has one.

    Returns:
        The transform after it (None where it would fold), what each block found, and the share of nodes smoothed.
    """
    warped = WarpedSlide(he.slide, transform)
    lattice = Lattice.over(ihc.extent)
    found: list[tuple[Box, Field]] = []
    report = []
    for seed, box in enumerate(boxes(ihc.extent, count)):
        work = _Work(warped, ihc, box, lattice, mpp, grid, levels, seed)
        result = each(box, work)
        found.append((box, result.field))
        report.append({"name": box.name, "before": result.before, "after": result.after, "reason": result.reason})
    if all(entry["reason"] for entry in report):
        return transform, report, 0.0
    after, smoothed = compose(transform, blend(found, lattice, ihc.extent))
    return after, report, smoothed


@dataclass(frozen=True)
class _Work:
    """``register_block`` with its arguments, to be called or not."""

    he: WarpedSlide
    ihc: Side
    box: Box
    lattice: Lattice
    mpp: float
    grid: float
    levels: int
    seed: int

    def __call__(self) -> BlockResult:
        return register_block(self.he, self.ihc, self.box, self.lattice, self.mpp, self.grid, self.levels, self.seed)


def _structure(plane: Plane, mpp: float) -> Plane:
    return band(plane, _FINE, _WIDE / mpp)


def _moved(
    moving: Plane,
    known: NDArray[np.bool_],
    compared: NDArray[np.bool_],
    field: Field,
    nodes: tuple[NDArray[np.float64], NDArray[np.float64]],
    mpp: float,
) -> tuple[Plane, NDArray[np.bool_]]:
    """The moving picture under a displacement, and where to compare it."""
    height, width = moving.shape
    x, y = (np.arange(side, dtype=np.float32) for side in (width, height))
    column = ((x + 0.5) * mpp - nodes[0][0]) / NODE_UM
    row = ((y + 0.5) * mpp - nodes[1][0]) / NODE_UM
    at = [np.ascontiguousarray(plane, np.float32) for plane in np.meshgrid(column, row)]
    shift = cv2.remap(field, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) / np.float32(mpp)
    map_x, map_y = x[None] + shift[..., 0], y[:, None] + shift[..., 1]
    warped = np.asarray(cv2.remap(moving, map_x, map_y, cv2.INTER_LINEAR), np.float32)
    still = cv2.remap(known.astype(np.uint8), map_x, map_y, cv2.INTER_NEAREST).astype(np.bool_)
    return warped, still & compared


def _ramp(place: NDArray[np.float64], low: float, high: float, extent: float) -> NDArray[np.float64]:
    """1 inside, falling as a cosine to 0 over the overlap at edges that are not the slide's."""
    weight = np.ones_like(place)
    # of a box that reaches over both of its borders by the overlap
    overlap = 2 * _OVERLAP / (1 + 2 * _OVERLAP) * (high - low)
    for edge, inner in ((place - low, low > 0), (high - place, high < extent)):
        if inner:
            weight *= 0.5 - 0.5 * np.cos(np.pi * np.clip(edge / overlap, 0, 1))
    return np.maximum(weight, 1e-6)
