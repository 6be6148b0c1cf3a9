"""Around a cell's centre: the outline of its nucleus and the course of its membrane, along rays; no loop over cells.

A cell is looked at along ``RAYS`` rays of ``REACH`` um. Along each ray the nucleus ends where its haematoxylin has
fallen half-way to what surrounds it. The membrane is the closed line around the nucleus that follows most of a ridge of
DAB without jumping from ray to ray (dynamic programming), and that stays on the cell's side of the middle between it
and its neighbours but for ``_BEYOND`` um: what lies farther is the neighbours'. Where there is no ridge the line runs
through the cell's border all the same, and reads what unstained cytoplasm has.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float32]

RAYS = 32
REACH = 13.0
STEP = 0.5
"""um: length of the rays and distance of the samples on them."""

RADII = np.arange(0.0, REACH + STEP / 2, STEP, dtype=np.float32)
ANGLES = 2 * np.pi * np.arange(RAYS) / RAYS

_NEIGHBOURS = 8
_BEYOND = 1.5
"""um beyond the middle between two nuclei that a membrane may lie: cells are not equal."""
_LEAST_MEMBRANE = 2.0
"""um from the centre within which there is no membrane."""
_LARGEST_NUCLEUS = 7.0
"""um: no radius of a nucleus is longer."""
_JUMP = 0.02
"""Optical density of ridge that a step of ``STEP`` um from ray to ray must be worth."""


def polar(planes: Array, centres: NDArray[np.float64], mpp: float) -> Array:
    """Planes along the rays of cells, bilinear.

    Args:
        planes: float32 [H, W, C], C at most 4.
        centres: (x, y) in px [n, 2], pixel i covering i to i + 1.
        mpp: um/px.

    Returns:
        float32 [n, RAYS, len(RADII), C].
    """
    x = centres[:, 0, None, None] + np.cos(ANGLES)[None, :, None] * (RADII / mpp) - 0.5
    y = centres[:, 1, None, None] + np.sin(ANGLES)[None, :, None] * (RADII / mpp) - 0.5
    shape = (len(centres), RAYS * len(RADII))
    found = cv2.remap(
        planes,
        x.reshape(shape).astype(np.float32),
        y.reshape(shape).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.asarray(found, np.float32).reshape(len(centres), RAYS, len(RADII), -1)


def neighbours(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest other centres of each centre, [n, 8, 2]; infinitely far where there are fewer."""
    count = len(centres)
    index = np.asarray(cKDTree(centres).query(centres, _NEIGHBOURS + 1)[1])
    padded = np.concatenate([centres, np.full((1, 2), np.inf)])
    return np.asarray(padded[np.minimum(index[:, 1:], count)], np.float64)


def own_side(centres: NDArray[np.float64], others: NDArray[np.float64], mpp: float) -> NDArray[np.bool_]:
    """Which samples of the rays may be a cell's own membrane.

    Args:
        centres: (x, y) in px [n, 2].
        others: their ``neighbours`` [n, 8, 2].
        mpp: um/px.

    Returns:
        bool [n, RAYS, len(RADII)]: far enough from the centre, and not far into a neighbour.
    """
    x = centres[:, 0, None, None] + np.cos(ANGLES)[None, :, None] * (RADII / mpp)
    y = centres[:, 1, None, None] + np.sin(ANGLES)[None, :, None] * (RADII / mpp)
    nearest = np.full(x.shape, np.inf)
    for number in range(others.shape[1]):
        other = others[:, number]
        finite = np.where(np.isfinite(other), other, 1e9)
        np.minimum(nearest, np.hypot(x - finite[:, 0, None, None], y - finite[:, 1, None, None]), out=nearest)
    return np.asarray((nearest * mpp + 2 * _BEYOND >= RADII) & (RADII >= _LEAST_MEMBRANE), np.bool_)


def nucleus_outline(haematoxylin: Array) -> tuple[Array, Array, Array]:
    """Where nuclei end.

    Args:
        haematoxylin: along the rays [n, RAYS, len(RADII)].

    Returns:
        Radius of the nucleus along each ray in um [n, RAYS], haematoxylin at its core [n] and around it [n].
    """
    core = haematoxylin[:, :, :4].mean(axis=(1, 2))
    around = np.median(haematoxylin[:, :, 10:17].min(axis=2), axis=1)  # 5 to 8 um away
    ended = haematoxylin < ((core + around) / 2)[:, None, None]
    ended[:, :, :2], ended[:, :, -1] = False, True
    radius = np.minimum(RADII[ended.argmax(axis=2)], _LARGEST_NUCLEUS)
    smooth = np.median(np.stack([np.roll(radius, turn, axis=1) for turn in (-1, 0, 1)]), axis=0)
    return smooth.astype(np.float32), core.astype(np.float32), around.astype(np.float32)


def shape(radius: Array) -> tuple[Array, Array]:
    """Area in um^2 and elongation (ratio of the axes, from 1) of star-shaped outlines [n, RAYS] in um."""
    area = (radius**2).sum(axis=1) * np.pi / RAYS
    weight = radius**4
    cosine, sine = np.cos(ANGLES), np.sin(ANGLES)
    across, down = (weight * cosine**2).sum(axis=1), (weight * sine**2).sum(axis=1)
    mixed = (weight * cosine * sine).sum(axis=1)
    total, spread = across + down, np.sqrt((across - down) ** 2 + 4 * mixed**2)
    ratio = np.sqrt((total + spread) / np.maximum(total - spread, 1e-6))
    return area.astype(np.float32), ratio.astype(np.float32)


def membrane_course(ridge: Array, own: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The closed line around each centre that follows most of a ridge.

    Args:
        ridge: how much of a ridge of DAB there is along the rays [n, RAYS, len(RADII)].
        own: samples that may be the cell's own membrane.

    Returns:
        int64 [n, RAYS]: the sample of each ray that lies on the line; neighbours differ by at most one.
    """
    score = np.where(own, ridge, np.float32(-1.0))
    rounds = np.concatenate([score, score[:, : RAYS // 2]], axis=1)  # half a round more, so that the ends meet
    count, turns, _ = rounds.shape
    best = rounds[:, 0].copy()
    came_from = np.zeros(rounds.shape, np.int8)
    for turn in range(1, turns):
        padded = np.pad(best, ((0, 0), (1, 1)), constant_values=-1e6)
        options = np.stack([padded[:, :-2] - _JUMP, padded[:, 1:-1], padded[:, 2:] - _JUMP])
        choice = options.argmax(axis=0)
        came_from[:, turn] = choice - 1
        best = np.take_along_axis(options, choice[None], axis=0)[0] + rounds[:, turn]
    place = best.argmax(axis=1)
    line = np.zeros((count, turns), np.int64)
    every = np.arange(count)
    for turn in range(turns - 1, -1, -1):
        line[:, turn] = place
        place = place + came_from[every, turn, place]
    middle = np.arange(RAYS // 4, RAYS // 4 + RAYS)
    course = np.zeros((count, RAYS), np.int64)
    course[:, middle % RAYS] = line[:, middle]
    return course
