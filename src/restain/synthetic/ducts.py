"""Benign ducts, lobules and blood vessels: rings around a lumen, placed sparsely in the world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from restain.synthetic.hashing import hash_uniform, subseed
from restain.synthetic.noise import Field
from restain.synthetic.patient import Patient

FAR = 1000.0
"""um: the distance given where no ring is near."""

_DUCT_SITE = 420.0
_VESSEL_SITE = 130.0


@dataclass(frozen=True)
class DuctField:
    """Fields [rows, columns] float32, in um.

    Attributes:
        duct: distance outward from the lumen of the nearest duct (negative in the lumen).
        wall: thickness of that duct's wall.
        clearance: distance from the outer border of the nearest duct (negative inside it).
        vessel: distance outward from the lumen of the nearest vessel.
    """

    duct: Field
    wall: Field
    clearance: Field
    vessel: Field


def duct_field(patient: Patient, x: Field, y: Field, z: float) -> DuctField:
    """Distances to ducts and vessels at the crossings of ``x`` and ``y`` (um) at depth ``z`` (um)."""
    shape = (len(y), len(x))
    duct = np.full(shape, FAR, dtype=np.float32)
    wall = np.full(shape, 13.0, dtype=np.float32)
    window = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    for ring in _rings(subseed(patient.seed, "duct"), _DUCT_SITE, 0.6, window, acini=7):
        _merge(duct, wall, ring, x, y, z)
    vessel = np.full(shape, FAR, dtype=np.float32)
    for ring in _rings(subseed(patient.seed, "vessel"), _VESSEL_SITE, 0.55, window, acini=0):
        _merge(vessel, None, ring, x, y, z)
    return DuctField(duct, wall, duct - wall, vessel)


@dataclass(frozen=True)
class _Ring:
    centre: tuple[float, float]
    radius: float
    wall: float
    reach: float
    stretch: float
    angle: float
    waves: Field
    drift: tuple[float, float]


@lru_cache(maxsize=8)
def _rings(
    seed: int, site: float, share: float, window: tuple[float, float, float, float], acini: int
) -> tuple[_Ring, ...]:
    """The rings that can touch a window: one site in each square of side ``site``, taken with probability ``share``."""
    x0, x1, y0, y1 = window
    margin = 160.0 if acini else 40.0
    columns = np.arange(int(np.floor((x0 - margin) / site)), int(np.floor((x1 + margin) / site)) + 1)
    rows = np.arange(int(np.floor((y0 - margin) / site)), int(np.floor((y1 + margin) / site)) + 1)
    found: list[_Ring] = []
    for row in rows:
        for column in columns:
            u = hash_uniform(seed, row, column, np.arange(10))
            if u[0] > share:
                continue
            centre = ((column + 0.15 + 0.7 * u[1]) * site, (row + 0.15 + 0.7 * u[2]) * site)
            if acini and u[3] < 0.6:
                found.extend(_lobule(seed, int(row), int(column), centre, 3 + int(u[4] * acini)))
            elif acini:
                found.append(_ring(seed, int(row), int(column), 0, centre, 16 + 30 * u[5] ** 1.5, 12.5 + 3 * u[6]))
            else:
                found.append(_ring(seed, int(row), int(column), 0, centre, 3.5 + 11 * u[5] ** 3, 2.2 + 2 * u[6]))
    return tuple(ring for ring in found if _touches(ring, window))


def _lobule(seed: int, row: int, column: int, centre: tuple[float, float], count: int) -> list[_Ring]:
    """Acini around a terminal duct, on a sunflower spiral so that they do not overlap."""
    rings = []
    for number in range(count):
        u = hash_uniform(seed, row, column, 20 + number, np.arange(3))
        turn = 2.399963 * number + 6.28 * float(u[2])  # golden angle
        distance = 33.0 * np.sqrt(number + 0.2)
        place = (centre[0] + distance * np.cos(turn), centre[1] + distance * np.sin(turn))
        rings.append(_ring(seed, row, column, 1 + number, place, 2.0 + 7 * float(u[0]) ** 2, 11.5 + 2 * float(u[1])))
    return rings


def _ring(
    seed: int, row: int, column: int, number: int, centre: tuple[float, float], radius: float, wall: float
) -> _Ring:
    u = hash_uniform(seed, row, column, 100 + number, np.arange(12))
    waves = np.array([[0.18 * u[0], 6.28 * u[1]], [0.12 * u[2], 6.28 * u[3]], [0.07 * u[4], 6.28 * u[5]]])
    stretch = float(1 + 0.9 * u[6] ** 2)
    drift = (float(0.5 * (u[8] - 0.5)), float(0.5 * (u[9] - 0.5)))
    reach = radius * 1.6 * stretch + wall + 30.0
    return _Ring(centre, float(radius), float(wall), reach, stretch, float(3.14 * u[7]), waves, drift)


def _touches(ring: _Ring, window: tuple[float, float, float, float]) -> bool:
    (cx, cy), reach = ring.centre, ring.reach
    x0, x1, y0, y1 = window
    return x0 - reach < cx < x1 + reach and y0 - reach < cy < y1 + reach


def _merge(distance: Field, wall: Field | None, ring: _Ring, x: Field, y: Field, z: float) -> None:
    """Lower ``distance`` (and set ``wall``) where ``ring`` is the nearest so far; only its own box is visited."""
    cx, cy = ring.centre[0] + ring.drift[0] * z, ring.centre[1] + ring.drift[1] * z
    columns = slice(*np.searchsorted(x, [cx - ring.reach, cx + ring.reach]))
    rows = slice(*np.searchsorted(y, [cy - ring.reach, cy + ring.reach]))
    dx, dy = (x[columns] - cx)[None, :], (y[rows] - cy)[:, None]
    if dx.size == 0 or dy.size == 0:
        return
    cosine, sine = np.cos(ring.angle), np.sin(ring.angle)
    u = (cosine * dx + sine * dy) / ring.stretch
    v = cosine * dy - sine * dx
    angle = np.arctan2(v, u)
    outline = np.full_like(angle, ring.radius)
    for order, (amplitude, phase) in enumerate(ring.waves, start=2):
        outline += ring.radius * amplitude * np.cos(order * angle + phase)
    # The stretched axis overstates distances; the mean stretch sets the wall right on average.
    away = np.asarray((np.hypot(u, v) - outline) * np.sqrt(ring.stretch), dtype=np.float32)
    nearer = away < distance[rows, columns]
    distance[rows, columns] = np.where(nearer, away, distance[rows, columns])
    if wall is not None:
        wall[rows, columns] = np.where(nearer, np.float32(ring.wall), wall[rows, columns])
