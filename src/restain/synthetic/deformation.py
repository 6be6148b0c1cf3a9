"""How the H&E slide lies on the IHC slide, exactly and both ways.

The IHC is the fixed slide and its frame (um from the upper left corner of level 0, x to the right, y down) is the
world's. The H&E is the moving slide: it is rendered by asking, for each of its pixels, which place of the world it
shows. That map, H&E to IHC, is the definition: rotation (mirrored for some), scale and perspective about the centre, a
shift, and an elastic displacement on a coarse grid, interpolated bilinearly. The way back is found by fixed-point
iteration, to 1e-4 um.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.files import atomic_path
from restain.synthetic.hashing import subseed
from restain.synthetic.noise import Field, LatticeNoise
from restain.synthetic.options import SynthOptions

Points = NDArray[np.floating[Any]]

_SKIP = 8


@dataclass(frozen=True)
class Deformation:
    """The map between the two slides of a patient.

    Attributes:
        matrix: float64 [3, 3], homogeneous; acts on H&E um about ``centre``.
        centre: x, y of the slide's centre in um.
        displacement: float64 [rows, columns, 2], (x, y) um added after ``matrix``, at grid nodes of the H&E frame.
        origin: x, y in um of node (0, 0).
        spacing: distance of nodes in um.
        mpp: um per px of both slides.
    """

    matrix: Field
    centre: Field
    displacement: Field
    origin: Field
    spacing: float
    mpp: float

    def he_to_ihc_um(self, points: Points) -> Points:
        """Where H&E points lie on the IHC: [n, 2] um to [n, 2] um."""
        return self._linear(points) + self._elastic(points)

    def ihc_to_he_um(self, points: Points) -> Points:
        """Where IHC points lie on the H&E: [n, 2] um to [n, 2] um, exact to 1e-4 um."""
        points = np.asarray(points, dtype=np.float64)
        inverse = np.linalg.inv(self.matrix)
        guess = self._inverse_linear(points, inverse)
        for _ in range(60):
            following = self._inverse_linear(points - self._elastic(guess), inverse)
            change = np.abs(following - guess).max(initial=0.0)
            guess = following
            if change < 1e-6:
                break
        return guess

    def he_to_ihc(self, points: Points) -> Points:
        """Level-0 pixels of the H&E to level-0 pixels of the IHC, [n, 2] (x, y)."""
        return self.he_to_ihc_um(np.asarray(points, dtype=np.float64) * self.mpp) / self.mpp

    def ihc_to_he(self, points: Points) -> Points:
        """Level-0 pixels of the IHC to level-0 pixels of the H&E, [n, 2] (x, y)."""
        return self.ihc_to_he_um(np.asarray(points, dtype=np.float64) * self.mpp) / self.mpp

    def grid_um(self, x: Field, y: Field) -> tuple[Field, Field]:
        """World x and y [len(y), len(x)] of the H&E positions at the crossings of ``x`` and ``y`` (um, 1-D, rising).

        Evaluated at every eighth position and interpolated: within 0.01 um of ``he_to_ihc_um``.
        """
        coarse_x, coarse_y = x[::_SKIP], y[::_SKIP]
        if coarse_x[-1] != x[-1]:
            coarse_x = np.append(coarse_x, x[-1])
        if coarse_y[-1] != y[-1]:
            coarse_y = np.append(coarse_y, y[-1])
        across, down = np.meshgrid(coarse_x, coarse_y)
        world = self.he_to_ihc_um(np.stack([across.ravel(), down.ravel()], axis=1)).reshape(*across.shape, 2)
        left, upper = _linear_weights(coarse_x, x), _linear_weights(coarse_y, y)
        return upper @ world[..., 0] @ left.T, upper @ world[..., 1] @ left.T

    def save(self, path: Path) -> None:
        """Write the map to ``path`` (NumPy .npz, no pickle), atomically."""
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                matrix=self.matrix,
                centre=self.centre,
                displacement=self.displacement,
                origin=self.origin,
                spacing=np.float64(self.spacing),
                mpp=np.float64(self.mpp),
            )

    @staticmethod
    def load(path: Path) -> Deformation:
        """The map in ``path``, as written by ``save``."""
        with np.load(path, allow_pickle=False) as stored:
            return Deformation(
                stored["matrix"],
                stored["centre"],
                stored["displacement"],
                stored["origin"],
                float(stored["spacing"]),
                float(stored["mpp"]),
            )

    def _linear(self, points: Points) -> Points:
        return _project(np.asarray(points, dtype=np.float64) - self.centre, self.matrix) + self.centre

    def _inverse_linear(self, points: Points, inverse: Field) -> Points:
        return _project(points - self.centre, inverse) + self.centre

    def _elastic(self, points: Points) -> Points:
        """Bilinear displacement at H&E points, constant beyond the grid's edge."""
        rows, columns = self.displacement.shape[:2]
        place = (np.asarray(points, dtype=np.float64) - self.origin) / self.spacing
        place = np.clip(place, 0.0, [columns - 1.000001, rows - 1.000001])
        base = place.astype(np.int64)
        t = place - base
        column, row = base[:, 0], base[:, 1]
        u, v = t[:, :1], t[:, 1:]
        field = self.displacement
        upper = field[row, column] * (1 - u) + field[row, column + 1] * u
        lower = field[row + 1, column] * (1 - u) + field[row + 1, column + 1] * u
        moved: Points = upper * (1 - v) + lower * v
        return moved


def _linear_weights(nodes: Field, x: Field) -> Field:
    """Matrix [len(x), len(nodes)] that interpolates values at ``nodes`` linearly at ``x``."""
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, max(len(nodes) - 2, 0))
    right = np.minimum(left + 1, len(nodes) - 1)
    t = (x - nodes[left]) / np.maximum(nodes[right] - nodes[left], 1e-12)
    matrix = np.zeros((len(x), len(nodes)))
    rows = np.arange(len(x))
    matrix[rows, left] += 1 - t
    matrix[rows, right] += t
    return matrix


def _project(points: Points, matrix: Field) -> Points:
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    projected: Points = homogeneous[:, :2] / homogeneous[:, 2:]
    return projected


def draw_deformation(options: SynthOptions, seed: int) -> Deformation:
    """The deformation of a patient's H&E.

    Args:
        options: ranges (rotation, mirrored, shift, elastic) and slide size.
        seed: the patient's seed.

    Returns:
        The identity where ``options.no_deformation``; else a random map whose elastic part has wavelengths from about
        0.3 mm to the size of the slide and strains of a few per cent, as in sections that were floated and mounted.
    """
    side = options.side
    spacing = 25.0
    count = int(np.ceil(side / spacing)) + 5
    origin = np.array([-2 * spacing, -2 * spacing])
    displacement = np.zeros((count, count, 2))
    matrix = np.eye(3)
    if not options.no_deformation:
        rng = np.random.default_rng(subseed(seed, "deform"))
        angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
        scale = 1 + rng.uniform(-0.015, 0.015, size=2)
        shear = rng.uniform(-0.008, 0.008)
        shift = rng.uniform(-options.shift, options.shift, size=2)
        tilt = rng.uniform(-0.008, 0.008, size=2) / side
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if np.random.default_rng(subseed(seed, "mirror")).random() < options.mirrored:
            turn[:, 0] *= -1
        matrix[:2, :2] = turn @ np.array([[scale[0], shear], [0.0, scale[1]]])
        matrix[:2, 2] = shift
        matrix[2, :2] = tilt
        nodes = origin[0] + spacing * np.arange(count)
        coarse = float(np.clip(0.35 * side, 150.0, 1500.0))
        for axis in range(2):
            large = LatticeNoise(subseed(seed, "elastic", axis), coarse).on_grid(nodes, nodes)
            small = LatticeNoise(subseed(seed, "elastic-fine", axis), coarse / 3).on_grid(nodes, nodes)
            displacement[..., axis] = options.elastic * min(1.0, coarse / 400) * (0.94 * large + 0.25 * small)
    return Deformation(matrix, np.array([side / 2, side / 2]), displacement, origin, spacing, options.mpp)
