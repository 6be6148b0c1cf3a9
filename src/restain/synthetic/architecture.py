"""Where the tissue is, and of which kind: continuous fields over the world, evaluated on demand.

All fields are sums and thresholds of lattice noise, so they cost memory only for the window asked for. Thresholds come
from quantiles over a coarse look at the whole slide, so that shares of tumour, nests and fat are what the patient says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.ducts import DuctField, duct_field
from restain.synthetic.hashing import hash_uniform, subseed
from restain.synthetic.lattice import Box, Sites, relaxed_lattice
from restain.synthetic.noise import Field, LatticeNoise
from restain.synthetic.options import SynthOptions
from restain.synthetic.patient import Patient

GRID_STEP = 2.0
"""um between the points where fields are evaluated before they are interpolated to pixels."""

FAT_CELL = 54.0
"""um between the centres of fat cells."""

Axis = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tissue:
    """Fields on a grid [len(y), len(x)], float32. Signed distances in um are positive inside, right near the border.

    Attributes:
        edge: distance into the tissue.
        nest: distance into a tumour nest.
        lumen: distance into the lumen of a tumour gland.
        fat: distance into a fat cell.
        necrosis: distance into necrosis.
        duct: distance outward from the lumen of the nearest benign duct, negative in the lumen.
        duct_wall: thickness of that duct's wall.
        vessel: distance outward from the lumen of the nearest vessel, negative in the lumen.
        immune: expected share of sites taken by lymphocytes, 0 to 1.
        across: coordinate across the collagen fibres in um.
        along: coordinate along them.
        loose: 0 dense collagen to 1 loose myxoid stroma.
        eosin: slow variation of the eosin uptake around 1.
    """

    edge: Field
    nest: Field
    lumen: Field
    fat: Field
    necrosis: Field
    duct: Field
    duct_wall: Field
    vessel: Field
    immune: Field
    across: Field
    along: Field
    loose: Field
    eosin: Field


class Architecture:
    """The tissue architecture of one patient.

    Args:
        patient: who.
        options: slide size.
    """

    def __init__(self, patient: Patient, options: SynthOptions) -> None:
        self.patient = patient
        self.side = options.side
        self.region_scale = float(np.clip(0.3 * self.side, 90.0, 700.0))

        self._kept: OrderedDict[tuple[float, ...], dict[str, Field]] = OrderedDict()

    def _keep(self, name: str, x: Axis, y: Axis, draw: Callable[[], Field]) -> Field:
        """A field that does not depend on depth: drawn once for both sections of a window."""
        window = (float(x[0]), float(x[-1]), len(x), float(y[0]), float(y[-1]), len(y))
        fields = self._kept.setdefault(window, {})
        if len(self._kept) > 3:
            self._kept.popitem(last=False)
        if name not in fields:
            fields[name] = draw()
        return fields[name]

    def _noise(self, name: str, scale: float, x: Axis, y: Axis) -> Field:
        noise = LatticeNoise(subseed(self.patient.seed, name), scale)
        return self._keep(f"{name} {scale}", x, y, lambda: noise.on_grid(x, y))

    def _deep(self, name: str, scale: float, x: Axis, y: Axis, z: float) -> Field:
        """Noise that also drifts with depth: unrelated after about one and a half scales."""
        return self._noise(name, scale, x, y) + np.float32(z / (1.4 * scale)) * self._noise(name + "-z", scale, x, y)

    def edge(self, x: Axis, y: Axis) -> Field:
        """Distance into the tissue in um (a rounded outline with ragged border inside the slide)."""
        half = self.side / 2
        u = (x - half) / (0.93 * half)
        v = (y - half) / (0.93 * half)
        round_ = (np.abs(u)[None, :] ** 4 + np.abs(v)[:, None] ** 4) ** 0.25
        outline = (1 - round_) * half
        large = float(np.clip(0.25 * self.side, 60.0, 1200.0))
        wave = 0.3 * large * self._noise("outline", large, x, y)
        ragged = 7.0 * self._noise("notched", 45.0, x, y)
        ragged += 5.0 * self._noise("ragged", 22.0, x, y) + 2.5 * self._noise("frayed", 7.0, x, y)
        return np.asarray(outline + wave + ragged, dtype=np.float32)

    def _territory(self, x: Axis, y: Axis) -> Field:
        return self._noise("territory", self.region_scale, x, y)

    def _fat_noise(self, x: Axis, y: Axis) -> Field:
        coarse = self._noise("fat", self.region_scale * 0.8, x, y)
        return np.asarray(coarse - 0.6 * self._territory(x, y), dtype=np.float32)

    def adipocytes(self, x0: float, x1: float, y0: float, y1: float) -> Sites:
        """Fat cells whose sites lie in a window (um). They are far larger than the sections are apart: one layer."""
        box = Box(x0, x1, y0, y1, 0.0, 1.0)
        sites = relaxed_lattice(
            subseed(self.patient.seed, "adipocyte"), (FAT_CELL, FAT_CELL, 1e4), box, 0.9, planar=True
        )
        layer = sites.index[:, 2] == 0
        index, position = sites.index[layer], sites.position[layer]
        if len(index) == 0:
            return Sites(index, position)
        position[:, 2] = 0.0
        step = 8.0
        x = step * np.arange(np.floor(position[:, 0].min() / step), np.ceil(position[:, 0].max() / step) + 2)
        y = step * np.arange(np.floor(position[:, 1].min() / step), np.ceil(position[:, 1].max() / step) + 2)
        field = np.minimum(self._fat_noise(x, y) - self._cuts[1], (self.edge(x, y) - 15.0) / 15.0)
        column = np.rint((position[:, 0] - x[0]) / step).astype(np.int64)
        row = np.rint((position[:, 1] - y[0]) / step).astype(np.int64)
        scattered = hash_uniform(subseed(self.patient.seed, "lone-fat"), index[:, 0], index[:, 1])
        clear = duct_field(self.patient, x, y, 0.0).clearance[row, column] > 0.65 * FAT_CELL + 12.0
        chosen = (field[row, column] > 0.5 * scattered**2 - 0.06) & clear
        return Sites(index[chosen], position[chosen])

    def fat_radius(self, sites: Sites) -> NDArray[np.float64]:
        """Radius in um of each fat cell, before its neighbours flatten it."""
        seed = subseed(self.patient.seed, "fat-radius")
        return 0.6 * FAT_CELL * (0.82 + 0.36 * hash_uniform(seed, sites.index[:, 0], sites.index[:, 1]))

    def _fat_bodies(self, x: Axis, y: Axis) -> Field:
        """Distance into the nearest fat cell, down to -40 um."""
        far = 0.7 * FAT_CELL + 40.0
        sites = self.adipocytes(x[0] - far, x[-1] + far, y[0] - far, y[-1] + far)
        field = np.full(len(y) * len(x), -40.0)
        if len(sites.index):
            step = float(x[1] - x[0])
            offset = np.arange(-int(far / step), int(far / step) + 1)
            column = np.rint((sites.position[:, 0] - x[0]) / step).astype(np.int64)[:, None, None] + offset
            row = np.rint((sites.position[:, 1] - y[0]) / step).astype(np.int64)[:, None, None] + offset[:, None]
            column, row = np.broadcast_arrays(column, row)
            dx = column * step + x[0] - sites.position[:, 0, None, None]
            dy = row * step + y[0] - sites.position[:, 1, None, None]
            depth = self.fat_radius(sites)[:, None, None] - np.hypot(dx, dy)
            inside = (column >= 0) & (column < len(x)) & (row >= 0) & (row < len(y))
            np.maximum.at(field, (row * len(x) + column)[inside], depth[inside])
        return field.reshape(len(y), len(x)).astype(np.float32)

    def _nest_noise(self, x: Axis, y: Axis, z: float) -> Field:
        scale, solid = self.patient.nest_scale, self.patient.solidity
        blob = self._deep("nest", scale, x, y, z) + 0.45 * self._deep("nest-fine", scale / 2.4, x, y, z)
        cord = 1.1 - 2.0 * np.abs(self._deep("cord", scale * 1.25, x, y, z))
        mixed = solid * blob + (1 - solid) * (0.75 * cord + 0.55 * blob)
        return np.asarray(mixed + 0.12 * self._noise("nest-rough", 7.0, x, y), dtype=np.float32)

    @cached_property
    def _cuts(self) -> tuple[float, float, float]:
        """Thresholds of territory, fat and nests from a coarse look at the whole slide."""
        count = int(np.clip(self.side / 12.0, 48, 320))
        axis = (np.arange(count) + 0.5) * self.side / count
        inside = self.edge(axis, axis) > 0
        if not inside.any():
            inside[:] = True
        territory = self._territory(axis, axis)
        home = float(np.quantile(territory[inside], 1 - self.patient.tumour))
        fat = float(np.quantile(self._fat_noise(axis, axis)[inside], 1 - self.patient.fat))
        within = inside & (territory > home)
        nests = float(np.quantile(self._nest_noise(axis, axis, 0.0)[within], 1 - self.patient.nests))
        return home, fat, nests

    def fields(self, x: Axis, y: Axis, z: float) -> Tissue:
        """All fields at the crossings of ``x`` and ``y`` (um, evenly spaced, 1-D) at depth ``z`` (um)."""
        patient = self.patient
        home, _, nest_cut = self._cuts
        step = float(x[1] - x[0])
        edge = self._keep("edge", x, y, lambda: self.edge(x, y))
        territory = self._territory(x, y)
        fat = self._keep("fat bodies", x, y, lambda: self._fat_bodies(x, y))
        ducts = duct_field(patient, x, y, z)
        core = self._nest_noise(x, y, z) - np.float32(nest_cut)
        # Outside the tumour's territory nests thin out and end; the border of the territory itself is never seen.
        core = core - 2.6 * np.maximum(np.float32(home + 0.12) - territory, 0.0)
        nest = _signed(core, step, patient.nest_scale)
        nest = np.minimum(np.minimum(nest, edge - 2.0), np.minimum(-fat - 3.0, ducts.clearance - 12.0))
        lumen = self._lumen(x, y, z, nest)
        necrosis = self._necrosis(x, y, nest, step)
        return Tissue(
            edge=edge,
            nest=nest,
            lumen=lumen,
            fat=np.minimum(fat, np.minimum(edge - 1.0, ducts.clearance - 4.0)),
            necrosis=necrosis,
            duct=np.where(edge > 3.0, ducts.duct, np.float32(1e3)),
            duct_wall=ducts.wall,
            vessel=np.where((edge > 6.0) & (nest < -3.0) & (fat < -6.0), ducts.vessel, np.float32(1e3)),
            immune=self._immune(x, y, nest, ducts),
            across=self._across(x, y, nest, ducts),
            along=self._along(x, y),
            loose=_soft(1.2 * self._noise("loose", 60.0, x, y) + 5.0 * np.float32(patient.myxoid) - 2.9),
            eosin=np.asarray(1 + 0.1 * self._noise("eosin", 110.0, x, y), dtype=np.float32),
        )

    def _lumen(self, x: Axis, y: Axis, z: float, nest: Field) -> Field:
        """Gland lumina: the deep parts of nests where a second pattern says so; rarer the more solid the tumour."""
        pattern = self._deep("lumen", 17.0, x, y, z) - np.float32(0.35 + 1.7 * self.patient.solidity)
        hole = 15.0 * pattern
        deep = nest - np.float32(1.15 * self.patient.cell_spacing)
        # A smooth minimum: lumina have no corners.
        return np.asarray(-4.0 * np.logaddexp(-hole / 4.0, -deep / 4.0), dtype=np.float32)

    def _necrosis(self, x: Axis, y: Axis, nest: Field, step: float) -> Field:
        if not self.patient.necrotic:
            return np.full_like(nest, -100.0)
        patches = _signed(self._noise("necrosis", 70.0, x, y) - 0.2, step, 70.0)
        return np.asarray(np.minimum(patches, nest - 26.0))

    def _immune(self, x: Axis, y: Axis, nest: Field, ducts: DuctField) -> Field:
        """Lymphocytes gather in clusters, mostly along the border of nests and around ducts and vessels."""
        amount = self.patient.inflammation
        cluster = self._noise("immune", 55.0, x, y) + 0.6 * self._noise("immune-fine", 20.0, x, y)
        border = np.exp(-np.abs(nest + 10.0) / 22.0) + 0.5 * _near(np.abs(ducts.vessel - 6.0), 24.0)
        dense = _soft(3.2 * (cluster + 0.9 * border - np.float32(2.25 - 1.1 * amount)))
        sparse = np.float32(0.015 + 0.05 * amount) * (0.4 + border)
        share = 0.85 * dense + sparse
        return np.asarray(np.where(nest > 0, 0.06 * share, share), dtype=np.float32)

    def _across(self, x: Axis, y: Axis, nest: Field, ducts: DuctField) -> Field:
        """A stream function whose level lines are the fibres: straight bundles, bent, and wrapped around epithelium."""
        angle = self.patient.fibre_angle
        plane = np.cos(angle) * y[:, None] - np.sin(angle) * x[None, :]
        bent = 105.0 * self._noise("fibre", 260.0, x, y) + 30.0 * self._noise("fibre-fine", 70.0, x, y)
        bent += 7.0 * self._noise("fibre-wave", 24.0, x, y)
        crimp = 2.6 * self._noise("crimp", 10.0, x, y)
        wrap = 16.0 * np.exp(np.minimum(nest, 0.0) / 18.0) + 28.0 * _near(ducts.clearance, 28.0)
        return np.asarray(plane + bent + crimp - wrap, dtype=np.float32)

    def _along(self, x: Axis, y: Axis) -> Field:
        angle = self.patient.fibre_angle
        plane = np.cos(angle) * x[None, :] + np.sin(angle) * y[:, None]
        return np.asarray(plane + 60.0 * self._noise("fibre-along", 240.0, x, y), dtype=np.float32)


def _signed(values: Field, step: float, scale: float) -> Field:
    """A level set turned into distance from its zero line in um: divided by its slope, which is kept off zero."""
    down, across = np.gradient(values, step)
    slope = np.sqrt(down**2 + across**2 + np.float32((0.35 / scale) ** 2))
    return np.asarray(values / slope, dtype=np.float32)


def _near(distance: Field, reach: float) -> Field:
    """1 at distance 0, smoothly down to exactly 0 at ``reach``."""
    return np.asarray((1 - np.clip(distance / reach, 0.0, 1.0)) ** 2, dtype=np.float32)


def _soft(values: Field) -> Field:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-values)), dtype=np.float32)
