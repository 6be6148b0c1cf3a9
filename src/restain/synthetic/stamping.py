"""Drawing many cells into a pixel block at once: every cell looks only at the pixels around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.cells import Cells, Kind
from restain.synthetic.hashing import hash_uniform
from restain.synthetic.noise import Field, textures

_BATCH = 1_500_000
"""Pixel visits handled at a time: bounds the memory."""

FAR = 1e3


@dataclass(frozen=True)
class Canvas:
    """Where the pixels of a block lie in the world.

    Attributes:
        x: float32 [H, W], world x in um of each pixel's centre, relative to ``origin``.
        y: as x.
        origin: world position that ``x`` and ``y`` count from.
        mpp: um per px.
    """

    x: Field
    y: Field
    origin: tuple[float, float]
    mpp: float

    def world(self) -> tuple[Field, Field]:
        """World x and y of the pixels in um, float32 (0.01 um at 100 mm: enough to look textures up)."""
        return self.x + np.float32(self.origin[0]), self.y + np.float32(self.origin[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.x.shape[0], self.x.shape[1]


@dataclass(frozen=True)
class Visits:
    """Pixels that cells may cover: one entry per cell and pixel.

    Attributes:
        cell: int32 [n], index into the table of cells.
        pixel: int64 [n], flat index into the block.
        dx: float32 [n], world distance from the cell's centre in um.
        dy: as dx.
    """

    cell: NDArray[np.int32]
    pixel: NDArray[np.int64]
    dx: Field
    dy: Field


def visits(
    canvas: Canvas, x: NDArray[np.float64], y: NDArray[np.float64], reach: NDArray[np.float64]
) -> Iterator[Visits]:
    """The pixels within ``reach`` um of each point, in batches.

    Args:
        canvas: the block.
        x: world positions in um [n].
        y: as x.
        reach: how far each point sees, in um [n].

    Yields:
        Batches of whole cells, so that a reduction over a cell's pixels needs one batch only.
    """
    if len(x) == 0:
        return
    column, row = _nearest_pixel(canvas, x, y)
    half = np.ceil(reach / canvas.mpp * 1.06).astype(np.int64) + 1
    height, width = canvas.shape
    seen = (column + half >= 0) & (column - half < width) & (row + half >= 0) & (row - half < height)
    order = np.flatnonzero(seen)
    order = order[np.argsort(half[order], kind="stable")]
    start = 0
    while start < len(order):
        # Cells of like reach share one square patch.
        stop = start + 1
        limit = half[order[start]] * 1.25 + 1
        stop = int(np.searchsorted(half[order], limit, side="right"))
        side = 2 * int(half[order[stop - 1]]) + 1
        for low in range(start, stop, max(1, _BATCH // side**2)):
            chosen = order[low : min(stop, low + max(1, _BATCH // side**2))]
            yield _patch(canvas, chosen, x, y, reach, column, row, side)
        start = stop


def _patch(
    canvas: Canvas,
    chosen: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    reach: NDArray[np.float64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    side: int,
) -> Visits:
    height, width = canvas.shape
    offset = np.arange(side) - side // 2
    columns = (column[chosen][:, None] + offset)[:, None, :]
    rows = (row[chosen][:, None] + offset)[:, :, None]
    inside = ((columns >= 0) & (columns < width)) & ((rows >= 0) & (rows < height))
    pixel = (rows * width + columns)[inside]
    cell = np.broadcast_to(chosen[:, None, None], inside.shape)[inside].astype(np.int32)
    centre_x = (x - canvas.origin[0]).astype(np.float32)[cell]
    centre_y = (y - canvas.origin[1]).astype(np.float32)[cell]
    dx = canvas.x.ravel()[pixel] - centre_x
    dy = canvas.y.ravel()[pixel] - centre_y
    near = dx * dx + dy * dy < (reach.astype(np.float32) ** 2)[cell]
    return Visits(cell[near], pixel[near], dx[near], dy[near])


def _nearest_pixel(
    canvas: Canvas, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pixel that shows each world position, from the block's affine approximation and two corrections."""
    height, width = canvas.shape
    corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
    source = np.array([[canvas.x[r, c], canvas.y[r, c], 1.0] for r, c in corners])
    target = np.array([[c, r] for r, c in corners], dtype=np.float64)
    affine, *_ = np.linalg.lstsq(source, target, rcond=None)
    local = np.column_stack([x - canvas.origin[0], y - canvas.origin[1], np.ones(len(x))])
    guess = local @ affine
    for _ in range(2):
        column = np.clip(np.rint(guess[:, 0]).astype(np.int64), 0, width - 1)
        row = np.clip(np.rint(guess[:, 1]).astype(np.int64), 0, height - 1)
        shown = np.column_stack([canvas.x[row, column], canvas.y[row, column]])
        step = (local[:, :2] - shown) @ affine[:2]
        guess = np.column_stack([column, row]) + step
    placed = np.rint(guess).astype(np.int64)
    return placed[:, 0], placed[:, 1]


@dataclass(frozen=True)
class Bodies:
    """Cell bodies of an epithelium (or of fat) as they tile the section; arrays [H, W].

    Attributes:
        owner: int32, index of the cell that a pixel belongs to; -1 where none is near.
        border: float32, um to the border with the next cell.
        depth: float32, um into the cell's own radius; negative beyond it.
        tilt: float32, slope of the border against the light's direction: 0 seen on edge, 1 at 45 degrees.
        cosine: float32, direction from the owner's centre (for patterns around the cell).
        sine: as cosine.
    """

    owner: NDArray[np.int32]
    border: Field
    depth: Field
    tilt: Field
    cosine: Field
    sine: Field


class _Metric:
    """Distance from cells as each of them measures it: shorter along its long axis, so that cells are not all round."""

    def __init__(self, cells: Cells, dz2: Field) -> None:
        self.stretch = np.sqrt(cells.a / cells.b)
        self._along = (1 / self.stretch).astype(np.float32)
        self._across = self.stretch.astype(np.float32)
        self._cosine = np.cos(cells.angle).astype(np.float32)
        self._sine = np.sin(cells.angle).astype(np.float32)
        self._dz2 = dz2

    def _axes(self, i: NDArray[np.int64] | NDArray[np.int32], dx: Field, dy: Field) -> tuple[Field, Field]:
        u = (self._cosine[i] * dx + self._sine[i] * dy) * self._along[i]
        v = (self._cosine[i] * dy - self._sine[i] * dx) * self._across[i]
        return u, v

    def distance(self, i: NDArray[np.int32], dx: Field, dy: Field) -> Field:
        """Distance in um of points (dx, dy) from cells ``i``."""
        u, v = self._axes(i, dx, dy)
        return np.asarray(np.sqrt(u * u + v * v + self._dz2[i]), dtype=np.float32)

    def gradient(self, i: NDArray[np.int64], dx: Field, dy: Field) -> tuple[Field, Field]:
        """Gradient of ``distance`` in the plane."""
        u, v = self._axes(i, dx, dy)
        over = 1 / (np.sqrt(u * u + v * v + self._dz2[i]) + np.float32(1e-3))
        u, v = u * self._along[i] * over, v * self._across[i] * over
        return self._cosine[i] * u - self._sine[i] * v, self._sine[i] * u + self._cosine[i] * v


def draw_bodies(canvas: Canvas, cells: Cells, z: float, round_off: float) -> Bodies:
    """The Voronoi cells, in three dimensions, of ``cells`` cut at depth ``z`` um; no farther than each cell's radius.

    Args:
        canvas: the block.
        cells: those that make up the tissue.
        z: middle of the section in um.
        round_off: 0 plain Voronoi cells, towards 1 rounder ones.
    """
    height, width = canvas.shape
    size = height * width
    best = np.full(size, np.iinfo(np.int64).max)
    second = np.full(size, np.iinfo(np.int64).max)
    dz2 = ((cells.z - z) ** 2).astype(np.float32)
    radius = cells.radius.astype(np.float32)
    metric = _Metric(cells, dz2)
    shift = np.int64(1 << 24)
    batches: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    reach = np.sqrt(np.maximum(cells.radius**2 * 1.15 - dz2, 0.04)) * np.minimum(metric.stretch, 1.4)
    for visit in visits(canvas, cells.x, cells.y, reach):
        distance = metric.distance(visit.cell, visit.dx, visit.dy) - round_off * radius[visit.cell]
        key = ((distance + 128.0) * 4096.0).astype(np.int64) * shift + visit.cell
        np.minimum.at(best, visit.pixel, key)
        batches.append((visit.pixel, key))
    for pixel, key in batches:
        other = key != best[pixel]
        np.minimum.at(second, pixel[other], key[other])
    touched = np.flatnonzero(best != np.iinfo(np.int64).max)
    owner = np.full(size, -1, dtype=np.int32)
    border = np.full(size, FAR, dtype=np.float32)
    depth = np.full(size, -FAR, dtype=np.float32)
    tilt = np.zeros(size, dtype=np.float32)
    cosine = np.zeros(size, dtype=np.float32)
    sine = np.zeros(size, dtype=np.float32)
    first = (best[touched] % shift).astype(np.int64)
    away = (best[touched] // shift).astype(np.float32) / 4096.0 - 128.0
    local_x, local_y = (cells.x - canvas.origin[0]).astype(np.float32), (cells.y - canvas.origin[1]).astype(np.float32)
    x, y = canvas.x.ravel()[touched], canvas.y.ravel()[touched]
    dx, dy = x - local_x[first], y - local_y[first]
    length = np.sqrt(dx * dx + dy * dy) + np.float32(1e-3)
    limit = radius[first] * (1 - round_off) - away
    has_second = second[touched] != np.iinfo(np.int64).max
    rival = np.where(has_second, second[touched] % shift, first).astype(np.int64)
    beyond = (second[touched] // shift).astype(np.float32) / 4096.0 - 128.0
    # Towards the border the two distances change at rates given by their gradients.
    gx, gy = metric.gradient(first, dx, dy)
    rival_gx, rival_gy = metric.gradient(rival, x - local_x[rival], y - local_y[rival])
    slope = np.hypot(rival_gx - gx, rival_gy - gy) + np.float32(0.15)
    between = np.where(has_second, (beyond - away) / slope, FAR)
    owner[touched] = first
    border[touched] = between
    depth[touched] = limit
    apart = np.hypot(local_x[rival] - local_x[first], local_y[rival] - local_y[first]) + np.float32(0.5)
    tilt[touched] = np.abs(cells.z[rival] - cells.z[first]) / apart
    cosine[touched], sine[touched] = dx / length, dy / length
    shape = canvas.shape
    return Bodies(
        owner.reshape(shape),
        border.reshape(shape),
        depth.reshape(shape),
        tilt.reshape(shape),
        cosine.reshape(shape),
        sine.reshape(shape),
    )


@dataclass(frozen=True)
class Nuclei:
    """Nuclei as seen through a section; arrays [H, W].

    Attributes:
        amount: float32, haematoxylin of all nuclei on the light's way, about 1 in a nucleus that fills the section.
        depth: float32, 0 outside to 1 deep inside the most central nucleus (for masks and cytoplasm).
        owner: int32, index of the nucleus that covers most; -1 where none does.
    """

    amount: Field
    depth: Field
    owner: NDArray[np.int32]


def draw_nuclei(canvas: Canvas, cells: Cells, z0: float, thickness: float) -> Nuclei:
    """Nuclei of ``cells`` in the section from ``z0`` um, with outline, rim, chromatin and nucleoli.

    The light's path through a spheroid is cut by both faces of the section, so that a nucleus that just touches it is
    small and pale, and neighbouring sections show different outlines of the same nucleus.
    """
    height, width = canvas.shape
    size = height * width
    amount = np.zeros(size)
    rank = np.zeros(size, dtype=np.int64)
    waves = _outline_waves(cells)
    tone = cells.tone.astype(np.float32)
    vesicular = cells.vesicular.astype(np.float32)
    u0, nucleolus = _interior(cells)
    chromatin = textures()["chromatin"].values
    side = chromatin.shape[0] - 1
    low = ((z0 - cells.z) / cells.c).astype(np.float32)
    high = ((z0 + thickness - cells.z) / cells.c).astype(np.float32)
    depth_axis = cells.c.astype(np.float32)
    cosine, sine = np.cos(cells.angle).astype(np.float32), np.sin(cells.angle).astype(np.float32)
    a, b = cells.a.astype(np.float32), cells.b.astype(np.float32)
    waist = np.minimum(b, np.float32(4.0))
    # Nuclei off the section's middle are cut obliquely: their outline is less sharp.
    softness = (0.4 + 0.12 * np.abs(cells.z - z0 - thickness / 2)).astype(np.float32)
    for visit in visits(canvas, cells.x, cells.y, cells.a * (1 + 2.2 * cells.ripple) + 0.3):
        i = visit.cell
        u = (cosine[i] * visit.dx + sine[i] * visit.dy) / a[i]
        v = (cosine[i] * visit.dy - sine[i] * visit.dx) / b[i]
        rho = np.sqrt(u * u + v * v) + np.float32(1e-4)
        rho /= _outline(u / rho, v / rho, waves, i)
        inside = rho < 1.0
        i, pixel, rho, u, v = i[inside], visit.pixel[inside], rho[inside], u[inside], v[inside]
        half = np.sqrt(1 - rho * rho)
        path = np.minimum(high[i], half) - np.maximum(low[i], -half)
        cut = path > 0
        i, pixel, rho, u, v, path = i[cut], pixel[cut], rho[cut], u[cut], v[cut], path[cut]
        filled = np.minimum(path * depth_axis[i] / np.float32(0.75 * thickness), 1.0)
        away = (1 - rho) * waist[i]
        open_ = vesicular[i]
        rim = np.exp(-((away / np.float32(0.55)) ** 2))
        tx = ((u * a[i]) * 4.0 + u0[i, 0]).astype(np.int64) % side
        ty = ((v * b[i]) * 4.0 + u0[i, 1]).astype(np.int64) % side
        clump = chromatin[ty, tx]
        spot = np.zeros_like(rho)
        for number in range(2):
            sx, sy, sr = (nucleolus[i, number, column] for column in range(3))
            near = ((u * a[i] - sx) ** 2 + (v * b[i] - sy) ** 2) / (sr * sr + np.float32(1e-3))
            spot += np.where(sr > 0, np.exp(-near * near), 0.0)
        # Mean uptake stays the same from dense to open chromatin: what leaves the interior goes to rim and nucleoli.
        inner = 1.0 - 0.36 * open_ + (0.1 + 0.15 * open_) * clump
        density = (inner + (0.08 + 0.6 * open_) * rim + 0.7 * open_ * spot) * (0.89 + 0.23 * open_)
        edge = np.minimum(away / softness[i] + 0.3, 1.0)
        share = filled * np.maximum(density, 0.1) * tone[i] * edge
        amount += np.bincount(pixel, weights=share, minlength=size)
        key = (filled * (1.2 - rho) * 1e4).astype(np.int64) * (1 << 24) + i + 1
        np.maximum.at(rank, pixel, key)
    depth = (rank >> 24).astype(np.float32) / 1.2e4
    owner = ((rank & ((1 << 24) - 1)) - 1).astype(np.int32)
    return Nuclei(
        amount.astype(np.float32).reshape(height, width), depth.reshape(height, width), owner.reshape(height, width)
    )


def _outline_waves(cells: Cells) -> Field:
    """Amplitude of cosine and sine waves of order 2 to 5 around each nucleus: [n, 8]."""
    orders = np.arange(4)
    angle = 2 * np.pi * hash_uniform(91, cells.id[:, None], orders)
    size = hash_uniform(92, cells.id[:, None], orders) * cells.ripple[:, None] * np.array([0.8, 1.1, 0.8, 0.6])
    return np.concatenate([size * np.cos(angle), size * np.sin(angle)], axis=1).astype(np.float32)


def _outline(c: Field, s: Field, waves: Field, i: NDArray[np.int32]) -> Field:
    """Radius factor in direction (c, s) of nuclei ``i``; multiple angles by recurrence instead of trigonometry."""
    factor = np.ones_like(c)
    cosine, sine = c, s
    table = waves[i]
    for order in range(4):
        cosine, sine = cosine * c - sine * s, cosine * s + sine * c
        factor += table[:, order] * cosine + table[:, 4 + order] * sine
    return factor


def _interior(cells: Cells) -> tuple[Field, Field]:
    """Texture offsets [n, 2] and nucleoli [n, 2, 3] (x, y, radius in um; radius 0: none)."""
    offset = hash_uniform(93, cells.id[:, None], np.arange(2)) * 4096 + 4096
    u = hash_uniform(94, cells.id[:, None, None], np.arange(2)[:, None], np.arange(4))
    distance, angle = 0.5 * np.sqrt(u[..., 0]), 2 * np.pi * u[..., 1]
    place_x = distance * np.cos(angle) * cells.a[:, None]
    place_y = distance * np.sin(angle) * cells.b[:, None]
    is_tumour = (cells.kind == Kind.TUMOUR)[:, None]
    shown = is_tumour & (u[..., 2] < cells.vesicular[:, None] * np.array([0.9, 0.35]))
    radius = np.where(shown, (0.75 + 0.5 * u[..., 3]), 0.0)
    return offset.astype(np.float32), np.stack([place_x, place_y, radius], axis=-1).astype(np.float32)
