"""Cells of every kind as spheroids in three dimensions, drawn per block of the world."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.architecture import GRID_STEP, Architecture, Tissue
from restain.synthetic.hashing import hash_bits, hash_normal, hash_uniform, subseed
from restain.synthetic.lattice import Box, Sites, relaxed_lattice
from restain.synthetic.noise import Field, LatticeNoise
from restain.synthetic.options import SynthOptions
from restain.synthetic.patient import Patient

BLOCK = 256.0
"""Side in um of the blocks in which cells are drawn."""

REACH = 48.0
"""um: no cell draws on pixels farther than this from its centre."""


class Kind(IntEnum):
    """Kinds of cells, as coded in ``nuclei.ome.tif``."""

    TUMOUR = 1
    LYMPHOCYTE = 2
    FIBROBLAST = 3
    LUMINAL = 4
    MYOEPITHELIAL = 5
    ENDOTHELIAL = 6
    ADIPOCYTE = 7
    DEBRIS = 8


@dataclass(frozen=True)
class Cells:
    """A table of n cells; every attribute is an array [n]. Lengths in um.

    Attributes:
        id: unique number of the cell in its patient.
        kind: ``Kind``.
        x: position in the world (the IHC's frame).
        y: as x.
        z: depth; the IHC section starts at 0.
        a: long semi-axis of the nucleus in the plane.
        b: short semi-axis in the plane.
        c: semi-axis in depth.
        angle: direction of the long axis in radians.
        tone: haematoxylin uptake of the nucleus around 1.
        vesicular: 0 dense, 1 open chromatin.
        ripple: relative amplitude of the outline's waves.
        radius: radius of the cell body.
        score: expression score (tumour cells; 0 for others).
    """

    id: NDArray[np.int64]
    kind: NDArray[np.uint8]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    angle: NDArray[np.float64]
    tone: NDArray[np.float64]
    vesicular: NDArray[np.float64]
    ripple: NDArray[np.float64]
    radius: NDArray[np.float64]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.id)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Cells:
        """The cells at ``chosen`` (a mask or indices)."""
        return Cells(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def section_area(self, z0: float, thickness: float) -> NDArray[np.float64]:
        """Area in um^2 of each nucleus' outline in the section from ``z0``, 0 where the section misses it.

        The outline of a spheroid seen through a slab is its largest cross-section within the slab.
        """
        nearest = np.clip(self.z, z0, z0 + thickness)
        inside = 1 - ((nearest - self.z) / self.c) ** 2
        return np.pi * self.a * self.b * np.maximum(inside, 0.0)


def concatenate(tables: list[Cells]) -> Cells:
    """One table from several."""
    return Cells(*(np.concatenate([getattr(table, column.name) for table in tables]) for column in fields(Cells)))


@dataclass(frozen=True)
class _Surroundings:
    """Tissue fields around a block, looked up at points by bilinear interpolation in the plane and linear in depth."""

    x: Field
    y: Field
    depths: tuple[float, float]
    tissue: tuple[Tissue, Tissue]

    def at(self, name: str, sites: Sites) -> NDArray[np.float64]:
        """Field ``name`` at the sites."""
        lower = self.plane(getattr(self.tissue[0], name), sites)
        if self.depths[0] == self.depths[1]:
            return lower
        upper = self.plane(getattr(self.tissue[1], name), sites)
        t = (sites.position[:, 2] - self.depths[0]) / (self.depths[1] - self.depths[0])
        return lower + np.clip(t, -1.0, 2.0) * (upper - lower)

    def plane(self, field: Field, sites: Sites) -> NDArray[np.float64]:
        """A field on this grid at the sites' x and y."""
        u = (sites.position[:, 0] - self.x[0]) / GRID_STEP
        v = (sites.position[:, 1] - self.y[0]) / GRID_STEP
        column = np.clip(u.astype(np.int64), 0, len(self.x) - 2)
        row = np.clip(v.astype(np.int64), 0, len(self.y) - 2)
        s, t = u - column, v - row
        upper = field[row, column] * (1 - s) + field[row, column + 1] * s
        lower = field[row + 1, column] * (1 - s) + field[row + 1, column + 1] * s
        value: NDArray[np.float64] = upper * (1 - t) + lower * t
        return value

    def direction(self, name: str, sites: Sites) -> NDArray[np.float64]:
        """Angle in radians of the gradient of field ``name`` (lower section) at the sites."""
        down, across = np.gradient(getattr(self.tissue[0], name), GRID_STEP)
        return np.arctan2(self.plane(down, sites), self.plane(across, sites))


class CellSource:
    """Draws the cells of one patient, block by block.

    Args:
        patient: who.
        options: sections' thickness and distance.
        architecture: the patient's tissue.
    """

    def __init__(self, patient: Patient, options: SynthOptions, architecture: Architecture) -> None:
        self.patient = patient
        self.architecture = architecture
        gap = 0.0 if options.same_section else options.section_gap
        middle = options.section_thickness / 2
        self.depths = (middle, middle + gap)
        self.top = options.section_thickness + gap

    def block(self, column: int, row: int) -> Cells:
        """The cells whose sites lie in the block ``column``, ``row`` (x from column * BLOCK um), sorted by id."""
        x0, y0 = column * BLOCK, row * BLOCK
        margin = 24.0
        steps = np.arange(round((BLOCK + 2 * margin) / GRID_STEP) + 1)
        x, y = x0 - margin + GRID_STEP * steps, y0 - margin + GRID_STEP * steps
        if float(self.architecture.edge(x[::8], y[::8]).max()) < -30.0:
            return _empty()
        lower = self.architecture.fields(x, y, self.depths[0])
        same = self.depths[0] == self.depths[1]
        upper = lower if same else self.architecture.fields(x, y, self.depths[1])
        around = _Surroundings(x, y, self.depths, (lower, upper))
        box = Box(x0, x0 + BLOCK, y0, y0 + BLOCK, 0.0, self.top)
        drawn = [self._lymphocytes(box, around), self._fibroblasts(box, around), self._adipocytes(box)]
        # Lattices of what is not there need not be relaxed.
        if max(float(tissue.nest.max()) for tissue in around.tissue) > 0:
            drawn.append(self._tumour(box, around))
        if float(lower.duct.min()) < 20.0:
            drawn.append(self._duct_cells(box, around))
        if float(lower.vessel.min()) < 20.0:
            drawn.append(self._endothelium(box, around))
        table = concatenate(drawn)
        return table.take(np.argsort(table.id, kind="stable"))

    def _sites(self, name: str, spacing: tuple[float, float, float], box: Box, jitter: float, steps: int = 1) -> Sites:
        return relaxed_lattice(subseed(self.patient.seed, name), spacing, box, jitter, steps=steps)

    def _tumour(self, box: Box, around: _Surroundings) -> Cells:
        patient = self.patient
        spacing = patient.cell_spacing
        # A little closer in depth than in the plane would be natural for cuboidal cells; equal spacing is kept.
        sites = self._sites("tumour", (spacing, spacing, spacing), box, 0.95, steps=2)
        nest, lumen, dead = (around.at(name, sites) for name in ("nest", "lumen", "necrosis"))
        draw = _Draw(subseed(patient.seed, "tumour-cell"), sites)
        alive = (nest > 2.6) & (lumen < -5.0)
        shown = alive & ((dead < -2.0) | (draw.uniform(0) < 0.3))
        sites, draw, nest, lumen, dead = draw.keep(shown, nest, lumen, dead)
        clone = self._noise_at("clone", 110.0, around, sites)
        patch = self._noise_at("patch", 30.0, around, sites)
        single = draw.normal(1)
        score = 0.85 * clone + 0.45 * patch + 0.22 * single
        local = patient.coupling * (0.6 * clone + 0.25 * single)
        variety = patient.pleomorphism
        # The second term keeps the nuclei's total volume the same however much they vary.
        radius = patient.nuclear_radius * np.exp(variety * (0.85 * draw.normal(2) + 0.35 * local) - 1.5 * variety**2)
        giant = draw.uniform(3) < 0.5 * max(variety - 0.12, 0.0)
        radius = np.clip(np.where(giant, radius * 1.35, radius), 2.6, 8.5)
        # Epithelium along lumina and in small glands stands upright on the border; in solid nests cells stream.
        upright = (np.minimum(np.abs(nest - 6), np.abs(lumen + 6)) < 5) & (
            draw.uniform(5) < 0.75 - 0.5 * patient.solidity
        )
        stream = np.arctan2(
            self._noise_at("stream-y", 38.0, around, sites), self._noise_at("stream-x", 38.0, around, sites)
        )
        free = 0.5 * stream + (1.0 - 0.7 * patient.streaming) * draw.normal(6)
        angle = np.where(upright, around.direction("nest", sites) + 0.25 * draw.normal(9), free)
        stretch = (1.08 + 0.5 * draw.uniform(4) ** 1.5) * np.where(upright, 1.15, 1.0) * (1 + 0.35 * patient.streaming)
        pyknotic = dead > -2.0
        radius = np.where(pyknotic, 0.5 * radius, radius)
        kind = np.where(pyknotic, Kind.DEBRIS, Kind.TUMOUR)
        return _table(
            draw,
            kind,
            a=radius * np.sqrt(stretch),
            b=radius / np.sqrt(stretch),
            c=radius,
            angle=angle,
            tone=np.where(pyknotic, 1.5, patient.tone * np.exp(0.16 * draw.normal(7))),
            vesicular=np.clip(patient.vesicular + 0.22 * draw.normal(8) + 0.06 * local, 0.0, 1.0),
            ripple=np.full(len(radius), patient.irregularity),
            radius=np.full(len(radius), 0.95 * spacing),
            score=np.where(pyknotic, 0.0, score),
        )

    def _lymphocytes(self, box: Box, around: _Surroundings) -> Cells:
        sites = self._sites("lymphocyte", (7.2, 7.2, 7.2), box, 0.9)
        draw = _Draw(subseed(self.patient.seed, "lymphocyte-cell"), sites)
        edge, fat, duct, wall, lumen, vessel = (
            around.at(name, sites) for name in ("edge", "fat", "duct", "duct_wall", "lumen", "vessel")
        )
        free = (edge > 3.0) & (fat < -1.5) & (duct > wall + 3.0) & (lumen < -3.0) & (vessel > 2.0)
        sites, draw = draw.keep(free & (draw.uniform(0) < around.at("immune", sites)))
        plasma = draw.uniform(1) < 0.2
        radius = np.where(plasma, 3.5, 2.9) * np.exp(0.07 * draw.normal(2))
        stretch = 1 + 0.25 * draw.uniform(3)
        return _table(
            draw,
            Kind.LYMPHOCYTE,
            a=radius * stretch,
            b=radius,
            c=radius,
            angle=np.pi * draw.uniform(4),
            tone=1.45 * np.exp(0.08 * draw.normal(5)),
            vesicular=np.where(plasma, 0.35, 0.1),
            ripple=np.full(len(radius), 0.04),
            radius=radius + np.where(plasma, 2.5, 0.8),
        )

    def _fibroblasts(self, box: Box, around: _Surroundings) -> Cells:
        sites = self._sites("fibroblast", (17.0, 17.0, 9.0), box, 1.0)
        draw = _Draw(subseed(self.patient.seed, "fibroblast-cell"), sites)
        edge, nest, fat, duct, wall, vessel = (
            around.at(name, sites) for name in ("edge", "nest", "fat", "duct", "duct_wall", "vessel")
        )
        free = (edge > 3.0) & (nest < -3.5) & (fat < -0.8) & (duct > wall + 2.0) & (vessel > 5.0)
        sites, draw = draw.keep(free & (draw.uniform(0) < 0.8))
        plump = draw.uniform(1) < 0.3
        long = np.where(plump, 5.6, 6.6) * np.exp(0.22 * draw.normal(2))
        thin = np.where(plump, 2.5, 1.5) * np.exp(0.16 * draw.normal(3))
        return _table(
            draw,
            Kind.FIBROBLAST,
            a=long,
            b=thin,
            c=1.25 * thin,
            angle=around.direction("across", sites) + np.pi / 2 + 0.25 * draw.normal(4),
            tone=np.where(plump, 0.85, 1.3) * np.exp(0.12 * draw.normal(5)),
            vesicular=np.where(plump, 0.5, 0.15),
            ripple=np.full(len(long), 0.07),
            radius=1.5 * long,
        )

    def _duct_cells(self, box: Box, around: _Surroundings) -> Cells:
        """The two layers of benign ducts: luminal cells on the lumen, flat myoepithelial cells at the base."""
        sites = self._sites("duct", (6.4, 6.4, 8.0), box, 0.8)
        draw = _Draw(subseed(self.patient.seed, "duct-cell"), sites)
        duct, wall, edge = (around.at(name, sites) for name in ("duct", "duct_wall", "edge"))
        sites, draw, duct, wall = draw.keep((duct > 0.0) & (duct < wall) & (edge > 4.0), duct, wall)
        outward = around.direction("duct", sites)
        base = wall - 1.9
        luminal_height = 0.47 * wall
        at_base = np.abs(duct - base) < np.minimum(2.4, np.abs(duct - luminal_height))
        luminal = ~at_base & (np.abs(duct - luminal_height) < 3.4)
        target = np.where(at_base, base, luminal_height + 1.4 * (draw.uniform(0) - 0.5))
        pull = 0.9 * (target - duct)
        sites.position[:, 0] += pull * np.cos(outward)
        sites.position[:, 1] += pull * np.sin(outward)
        chosen = luminal | (at_base & (draw.uniform(1) < 0.55))
        sites, draw, outward, at_base = draw.keep(chosen, outward, at_base)
        flat = at_base.astype(bool)
        size = np.exp(0.1 * draw.normal(2))
        return _table(
            draw,
            np.where(flat, Kind.MYOEPITHELIAL, Kind.LUMINAL),
            a=np.where(flat, 3.9, 4.1) * size,
            b=np.where(flat, 1.5, 2.8) * size,
            c=np.where(flat, 2.2, 3.0) * size,
            angle=outward + np.where(flat, np.pi / 2, 0.0) + 0.2 * draw.normal(3),
            tone=np.where(flat, 1.05, 1.0) * np.exp(0.1 * draw.normal(4)),
            vesicular=np.where(flat, 0.1, 0.3),
            ripple=np.full(len(size), 0.05),
            radius=np.where(flat, 4.0, 7.5),
        )

    def _endothelium(self, box: Box, around: _Surroundings) -> Cells:
        sites = self._sites("vessel", (6.0, 6.0, 9.0), box, 0.9)
        draw = _Draw(subseed(self.patient.seed, "vessel-cell"), sites)
        vessel = around.at("vessel", sites)
        sites, draw, vessel = draw.keep((np.abs(vessel - 1.3) < 1.8) & (draw.uniform(0) < 0.65), vessel)
        size = np.exp(0.15 * draw.normal(1))
        return _table(
            draw,
            Kind.ENDOTHELIAL,
            a=4.6 * size,
            b=1.35 * size,
            c=1.8 * size,
            angle=around.direction("vessel", sites) + np.pi / 2 + 0.15 * draw.normal(2),
            tone=1.05 * np.exp(0.1 * draw.normal(3)),
            vesicular=np.full(len(size), 0.15),
            ripple=np.full(len(size), 0.05),
            radius=5.0 * size,
        )

    def _adipocytes(self, box: Box) -> Cells:
        """Fat cells; their nuclei, thin crescents that few sections meet, are not drawn."""
        sites = self.architecture.adipocytes(box.x0, box.x1, box.y0, box.y1)
        draw = _Draw(subseed(self.patient.seed, "adipocyte-cell"), sites)
        count = len(sites.index)
        return _table(
            draw,
            Kind.ADIPOCYTE,
            a=1.0 + 0.35 * draw.uniform(1),
            b=np.full(count, 1.0),
            c=np.full(count, 1.0),
            angle=2 * np.pi * draw.uniform(0),
            tone=np.full(count, 1.1),
            vesicular=np.zeros(count),
            ripple=np.zeros(count),
            radius=self.architecture.fat_radius(sites),
        )

    def _noise_at(self, name: str, scale: float, around: _Surroundings, sites: Sites) -> NDArray[np.float64]:
        noise = LatticeNoise(subseed(self.patient.seed, name), scale)
        return around.plane(noise.on_grid(around.x, around.y), sites)


class _Draw:
    """Random numbers of cells, by lattice site."""

    def __init__(self, seed: int, sites: Sites) -> None:
        self.seed, self.sites = seed, sites

    def uniform(self, what: int) -> NDArray[np.float64]:
        """Uniform in [0, 1), number ``what`` of each cell."""
        i = self.sites.index
        return hash_uniform(self.seed, i[:, 0], i[:, 1], i[:, 2], what)

    def normal(self, what: int) -> NDArray[np.float64]:
        """Standard normal, cut off at 2.5, number ``what`` of each cell."""
        i = self.sites.index
        return np.clip(hash_normal(self.seed, i[:, 0], i[:, 1], i[:, 2], what), -2.5, 2.5)

    def ids(self) -> NDArray[np.int64]:
        """Numbers that name the cells, unique in practice (62 hashed bits)."""
        i = self.sites.index
        return (hash_bits(self.seed, i[:, 0], i[:, 1], i[:, 2]) >> np.uint64(2)).astype(np.int64)

    def keep(self, mask: NDArray[np.bool_], *values: NDArray[np.float64]) -> tuple:  # type: ignore[type-arg]
        """Sites, draws and values of the chosen cells."""
        sites = Sites(self.sites.index[mask], self.sites.position[mask])
        return (sites, _Draw(self.seed, sites), *(value[mask] for value in values))


def _table(draw: _Draw, kind: NDArray[np.int64] | Kind, **columns: NDArray[np.float64]) -> Cells:
    position = draw.sites.position
    count = len(position)
    score = columns.pop("score", np.zeros(count)).astype(np.float32)
    kinds = np.broadcast_to(np.asarray(kind, dtype=np.uint8), (count,)).copy()
    return Cells(
        id=draw.ids(), kind=kinds, x=position[:, 0], y=position[:, 1], z=position[:, 2], score=score, **columns
    )


def _empty() -> Cells:
    nowhere = Sites(np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3)))
    columns = ("a", "b", "c", "angle", "tone", "vesicular", "ripple", "radius")
    return _table(_Draw(0, nowhere), Kind.DEBRIS, **{column: np.zeros(0) for column in columns})
