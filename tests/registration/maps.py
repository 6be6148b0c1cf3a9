"""Transforms to test with, and the map they stand for, written once more with other libraries."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import RegularGridInterpolator

from restain.registration import Transform


def turned(degrees: float, size: tuple[int, int], scale: float = 1.0, mirrored: bool = False) -> np.ndarray:
    """Rotation, scale and a little perspective about the centre of a slide; mirrored left to right first."""
    angle = np.deg2rad(degrees)
    middle = np.array([[1, 0, -size[0] / 2], [0, 1, -size[1] / 2], [0, 0, 1]])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn[:, 0] *= -1
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[2, :2] = 1e-5, -2e-5
    return np.linalg.inv(middle) @ matrix @ middle


def waves(rows: int, columns: int, size: float, seed: int = 0) -> np.ndarray:
    """A smooth random displacement of at most ``size`` px, float64 [rows, columns, 2]."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(rows, columns, 2)), (0, 0), 3)
    return field * size / np.abs(field).max()


def elastic(
    size: tuple[int, int] = (700, 600),
    degrees: float = 20,
    mirrored: bool = False,
    he_size: tuple[int, int] | None = None,
    mpp: tuple[float, float] = (0.5, 0.5),
    amplitude: float = 9.0,
) -> Transform:
    """IHC of ``size`` and ``mpp[1]``, H&E at ``mpp[0]``; nodes every 24 px, some inside and some outside the slide."""
    scale = mpp[1] / mpp[0]
    he_size = he_size or (round(size[0] * scale), round(size[1] * scale))
    matrix = np.diag([scale, scale, 1]) @ turned(degrees, size, mirrored=mirrored)
    displacement = waves(round(size[1] / 24) + 1, round(size[0] / 24) + 1, amplitude)
    return Transform(matrix, displacement, (-20.0, -16.0), 24.0, he_size, size, *mpp, "he.tif", "ihc.tif")


def by_scipy(transform: Transform, points: np.ndarray) -> np.ndarray:
    """T(p) = P(p + u(p)) with SciPy's bilinear interpolation and OpenCV's homography."""
    if transform.displacement is not None:
        rows, columns = transform.displacement.shape[:2]
        y = transform.origin[1] + transform.spacing * np.arange(rows)
        x = transform.origin[0] + transform.spacing * np.arange(columns)
        field = RegularGridInterpolator((y, x), transform.displacement.astype(float))
        inside = np.stack([np.clip(points[:, 1], y[0], y[-1]), np.clip(points[:, 0], x[0], x[-1])], axis=1)
        points = points + field(inside)
    return cv2.perspectiveTransform(points[None].astype(np.float64), transform.matrix)[0]
