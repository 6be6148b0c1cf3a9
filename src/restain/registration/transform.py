"""Where each place of the IHC lies on the H&E, and back.

The IHC is the fixed slide, the H&E the moving one. All points are (x, y) in level-0 px of their slide; pixel i covers
[i, i + 1). An IHC point p lies on the H&E at

    T(p) = P(p + u(p))

with a homography P (IHC px to H&E px) and a displacement u in IHC px, given at the nodes of a grid, bilinear between
them and constant beyond.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.files import atomic_path, read_json, write_json

FORMAT = "restain transform"
VERSION = 1

_CLOSE = 1e-3
"""How near, in IHC px, the inverse comes."""
_PLAIN_STEPS, _DAMPED_STEPS = 60, 400
_BAND = 64
"""Rows of a grid done at once, so that what lies between stays in the processor's cache."""
_FARTHEST = 1e9
"""px: no slide is as large."""
_LARGEST_FIELD = 2**26
"""Nodes (512 MiB) that a field read from a file may have: 130,000 px at a spacing of 16 px."""


@dataclass(frozen=True, eq=False)
class Transform:
    """The map between the two slides of a pair.

    Attributes:
        matrix: float64 [3, 3], homography from IHC px to H&E px, homogeneous.
        displacement: float32 [rows, columns, 2], (x, y) in IHC px at the nodes ``origin + spacing * (column, row)``;
            None: no elastic part.
        origin: (x, y) of node (0, 0) in IHC px.
        spacing: distance of nodes in IHC px.
        he_size: (width, height) of the H&E in px.
        ihc_size: (width, height) of the IHC in px.
        he_mpp: um/px of the H&E.
        ihc_mpp: um/px of the IHC.
        he_name: file name of the H&E, for people.
        ihc_name: file name of the IHC, for people.

    Raises:
        ValueError: shapes, sizes or numbers that make no map of the whole IHC slide.
    """

    matrix: NDArray[np.float64]
    displacement: NDArray[np.float32] | None
    origin: tuple[float, float]
    spacing: float
    he_size: tuple[int, int]
    ihc_size: tuple[int, int]
    he_mpp: float
    ihc_mpp: float
    he_name: str = ""
    ihc_name: str = ""

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
            raise ValueError("the matrix is not an invertible, finite 3 x 3 matrix")
        if min(*self.he_size, *self.ihc_size) < 1:
            raise ValueError(f"the slides' sizes {self.he_size} and {self.ihc_size} are not positive")
        if not all(0 < value < math.inf for value in (self.he_mpp, self.ihc_mpp)):
            raise ValueError(f"um/px must be positive numbers, not {self.he_mpp} and {self.ihc_mpp}")
        object.__setattr__(self, "matrix", matrix)
        if self.displacement is not None:
            field = np.ascontiguousarray(self.displacement, np.float32)
            if field.ndim != 3 or field.shape[2] != 2 or min(field.shape[:2]) < 2 or not np.isfinite(field).all():
                raise ValueError(f"the displacement {field.shape} is not [rows, columns, 2] of finite numbers")
            if (
                not 1e-3 < self.spacing < _FARTHEST
                or np.abs(self.origin).max() > _FARTHEST
                or np.isnan(self.origin).any()
            ):
                raise ValueError(f"the grid from {self.origin} on by {self.spacing} px is none")
            object.__setattr__(self, "displacement", field)
        width, height = self.ihc_size
        corners = self.displaced(np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64))
        depth = corners @ matrix[2, :2] + matrix[2, 2]
        if not ((depth > 0).all() or (depth < 0).all()):
            raise ValueError("the matrix sends a part of the IHC slide to infinity")

    def ihc_to_he(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Where IHC points lie on the H&E: [n, 2] px to [n, 2] px."""
        return project(self.displaced(np.asarray(points, np.float64)), self.matrix)

    def he_to_ihc(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Where H&E points lie on the IHC: [n, 2] px to [n, 2] px, exact to 0.001 px.

        Where the displacement folds (see ``jacobian``), one of the places.

        Raises:
            ItemError: the displacement is such that none is found.
        """
        target = project(np.asarray(points, np.float64), np.linalg.inv(self.matrix))
        if self.displacement is None:
            return target
        found = target.copy()
        pending = np.flatnonzero(np.isfinite(target).all(axis=1))
        for step in range(_PLAIN_STEPS + _DAMPED_STEPS):
            if not pending.size:
                return found
            here = found[pending]
            change = target[pending] - self.displaced(here)
            # stretched by more than a factor of 2, plain steps overshoot; shorter ones still arrive
            found[pending] = here + (change if step < _PLAIN_STEPS else 0.2 * change)
            pending = pending[np.abs(change).max(axis=1) > 0.2 * _CLOSE]
        if pending.size:
            x, y = np.asarray(points)[pending[0]]
            raise ItemError(
                f"{self.he_name or 'the H&E'}: no place on the IHC was found for {pending.size} points, the first at "
                f"({x:.1f}, {y:.1f}): the displacement is torn or folds there. Register the slides again."
            )
        return found

    def grid(self, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """H&E positions of the IHC positions at the crossings of ``x`` and ``y`` (1-D, px).

        Returns:
            float32 [len(y), len(x), 2], (x, y) in H&E px.
        """
        across, down = np.asarray(x, np.float64), np.asarray(y, np.float64)
        out = np.empty((len(down), len(across), 2), np.float32)
        for top in range(0, len(down), _BAND):
            self._grid(across, down[top : top + _BAND], out[top : top + _BAND])
        return out

    def _grid(self, x: NDArray[np.float64], y: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        px: NDArray[np.float64] = np.broadcast_to(x, (len(y), len(x)))
        py: NDArray[np.float64] = np.broadcast_to(y[:, None], (len(y), len(x)))
        if self.displacement is not None:
            rows, columns = self.displacement.shape[:2]
            left, t = _cells((x - self.origin[0]) / self.spacing, columns)
            upper, s = _cells((y - self.origin[1]) / self.spacing, rows)
            first, last = left.min(initial=columns), left.max(initial=0) + 2
            near = self.displacement[:, first:last]
            lines = near[upper] + s[:, None, None] * (near[upper + 1] - near[upper])
            slopes = np.diff(lines, axis=1)
            px = px + lines[..., 0].take(left - first, axis=1) + slopes[..., 0].take(left - first, axis=1) * t
            py = py + lines[..., 1].take(left - first, axis=1) + slopes[..., 1].take(left - first, axis=1) * t
        a, b, c = self.matrix
        depth = 1 / (c[0] * px + (c[1] * py + c[2]))
        out[..., 0] = (a[0] * px + (a[1] * py + a[2])) * depth
        out[..., 1] = (b[0] * px + (b[1] * py + b[2])) * depth

    def jacobian(self) -> NDArray[np.float64]:
        """The determinant of p + u(p) over the cells of the grid: how much area grows; 0 or less where it folds.

        In a bilinear cell the determinant is smallest and largest at corners, so these are given.

        Returns:
            float64 [rows - 1, columns - 1, 4]; ones [1, 1, 4] where there is no elastic part.
        """
        if self.displacement is None:
            return np.ones((1, 1, 4))
        field = self.displacement.astype(np.float64) / self.spacing
        across = np.diff(field, axis=1) + np.array([1.0, 0.0])
        down = np.diff(field, axis=0) + np.array([0.0, 1.0])
        corners = [
            h[..., 0] * v[..., 1] - h[..., 1] * v[..., 0]
            for h in (across[:-1], across[1:])
            for v in (down[:, :-1], down[:, 1:])
        ]
        return np.stack(corners, axis=2)

    def save(self, path: Path) -> None:
        """Write ``transform.json`` and, where there is an elastic part, ``field.npz`` beside it, atomically.

        Raises:
            ItemError: the folder cannot be written, or the disk is full.
        """
        path = Path(path)
        field: dict[str, object] | None = None
        if self.displacement is not None:
            name = "field.npz" if path.stem == "transform" else f"{path.stem}-field.npz"
            with atomic_path(path.with_name(name)) as temporary, temporary.open("wb") as stream:
                np.savez(stream, displacement=self.displacement)
            shape = list(self.displacement.shape)
            origin = [float(value) for value in self.origin]
            field = {"file": name, "origin": origin, "spacing": float(self.spacing), "shape": shape}
        write_json(
            path,
            {
                "format": FORMAT,
                "version": VERSION,
                "fixed": {"slide": self.ihc_name, "size": [int(n) for n in self.ihc_size], "mpp": float(self.ihc_mpp)},
                "moving": {"slide": self.he_name, "size": [int(n) for n in self.he_size], "mpp": float(self.he_mpp)},
                "matrix": self.matrix.tolist(),
                "field": field,
            },
        )

    @staticmethod
    def load(path: Path) -> Transform:
        """The map in ``path``, as written by ``save``.

        Raises:
            ItemError: not such a file, damaged, or its field is missing or does not fit.
        """
        path = Path(path)
        document = read_json(path)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ItemError(f"{path}: not a transform of restain; give the transform.json of `restain register`.")
        if document.get("version") != VERSION:
            raise ItemError(
                f"{path}: is of version {document.get('version')}, this restain reads {VERSION}. Register again, or "
                "use the restain that wrote it."
            )
        try:
            fixed, moving, field = document["fixed"], document["moving"], document["field"]
            return Transform(
                matrix=np.array(document["matrix"], np.float64),
                displacement=None if field is None else _read_field(path, field),
                origin=(0.0, 0.0) if field is None else _two(field["origin"]),
                spacing=1.0 if field is None else float(field["spacing"]),
                he_size=_size(moving["size"]),
                ihc_size=_size(fixed["size"]),
                he_mpp=float(moving["mpp"]),
                ihc_mpp=float(fixed["mpp"]),
                he_name=str(moving["slide"]),
                ihc_name=str(fixed["slide"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"no entry {error}" if isinstance(error, KeyError) else str(error)
            raise ItemError(f"{path}: damaged ({what}). Register the slides again.") from error

    def displaced(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The points moved by the displacement: p + u(p), [n, 2]."""
        field = self.displacement
        if field is None:
            return points
        rows, columns = field.shape[:2]
        column, t = _cells((points[:, 0] - self.origin[0]) / self.spacing, columns)
        row, s = _cells((points[:, 1] - self.origin[1]) / self.spacing, rows)
        t, s = t[:, None], s[:, None]
        upper = field[row, column] * (1 - t) + field[row, column + 1] * t
        lower = field[row + 1, column] * (1 - t) + field[row + 1, column + 1] * t
        moved: NDArray[np.float64] = points + upper * (1 - s) + lower * s
        return moved


def project(points: NDArray[np.floating[Any]], matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Points [n, 2] through a homography; NaN or infinite where it sends one to infinity."""
    homogeneous = points @ matrix[:, :2].T + matrix[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        projected: NDArray[np.float64] = homogeneous[:, :2] / homogeneous[:, 2:]
    return projected


def _cells(place: NDArray[np.floating[Any]], nodes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cell of each place (in units of nodes) and how far it lies in it, 0 to 1; clamped to the grid."""
    inside = np.asarray(np.clip(np.nan_to_num(place), 0, nodes - 1), np.float64)
    cell = np.minimum(inside.astype(np.int64), nodes - 2)
    return cell, inside - cell


def _two(value: Any) -> tuple[float, float]:
    x, y = value
    return float(x), float(y)


def _size(value: Any) -> tuple[int, int]:
    width, height = value
    return int(width), int(height)


def _read_field(path: Path, field: Any) -> NDArray[np.float32]:
    """The displacement that a transform names; its size is checked before it is read."""
    name, shape = str(field["file"]), tuple(int(side) for side in field["shape"])
    if name != Path(name).name or len(shape) != 3 or shape[2] != 2 or min(shape) < 2:
        raise ValueError(f"the field {name} of shape {shape} is none")
    if shape[0] * shape[1] > _LARGEST_FIELD:
        raise ValueError(f"the field {name} of shape {shape} is too large")
    file = path.with_name(name)
    try:
        with zipfile.ZipFile(file) as archive:
            size = archive.getinfo("displacement.npy").file_size
            if not 0 <= size - math.prod(shape) * 4 < 4096:
                raise ItemError(f"{file}: does not hold the field of {shape} float32 that {path.name} names.")
            with archive.open("displacement.npy") as stream:
                stored: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        RuntimeError,
        EOFError,
    ) as error:
        raise ItemError(f"{file}: not a readable field of {path.name} ({error}). Register the slides again.") from error
    if stored.shape != shape or stored.dtype != np.float32:
        raise ItemError(f"{file}: holds {stored.dtype} {stored.shape} in place of the float32 {shape} of {path.name}.")
    return stored
