"""The cells of an IHC: what is measured at each one, before anything is decided.

White is what the glass has (estimated, never assumed). Stain is measured in decadic optical density along two unit
vectors: haematoxylin's, estimated from the image itself (nuclei against what surrounds them, where that is least
brown), because counterstains differ and their blue would pass for faint DAB; and DAB's, as Ruifrok and Johnston 2001
give it, for it is one pigment. All is done at ``MPP`` um/px.

Nuclei are looked for in haematoxylin less the local contrast of DAB: between dark membranes a nucleus is a pale hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.slides import glass_colour
from restain.stains.blobs import ClassicalNuclei
from restain.stains.her2_membrane import (
    RADII,
    RAYS,
    membrane_course,
    neighbours,
    nucleus_outline,
    own_side,
    polar,
    shape,
)

Array = NDArray[np.float32]

MPP = 0.5
MPP_RANGE = (0.05, 1.0)
"""um/px that images may have: membranes, about 1 um wide, are not seen in coarser ones."""

DAB = np.array([0.27, 0.57, 0.78], np.float32) / np.float32(np.sqrt(0.27**2 + 0.57**2 + 0.78**2))
"""Optical density of DAB in red, green, blue (Ruifrok and Johnston 2001), length 1."""
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32) / np.float32(np.sqrt(0.65**2 + 0.70**2 + 0.29**2))
"""The same of haematoxylin: only where an image has too few nuclei to say."""

_LEAST_NUCLEI = 20
_CHUNK = 1000
"""Cells sampled at once: bounds the memory."""


@dataclass(frozen=True)
class Cells:
    """n cells; arrays [n] or [n, RAYS]. Lengths in um, stain in decadic optical density.

    Attributes:
        x: centre of the nucleus in px of the image (or level-0 pixels of a slide).
        y: as x.
        area: of the nucleus in um^2.
        elongation: ratio of the nucleus' axes, from 1.
        haematoxylin: of the nucleus' core.
        cytoplasm: haematoxylin around the nucleus, where it is least.
        nuclear_dab: DAB over the nucleus.
        cytoplasmic_dab: DAB just outside the nucleus, where it is least along each ray.
        level: mean DAB along the membrane's course.
        membrane: DAB along the membrane's course [n, RAYS], float16.
        course: um from the centre to the membrane [n, RAYS], float16.
        outline: um from the centre to the nucleus' edge [n, RAYS], float16.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: Array
    elongation: Array
    haematoxylin: Array
    cytoplasm: Array
    nuclear_dab: Array
    cytoplasmic_dab: Array
    level: Array
    membrane: NDArray[np.float16]
    course: NDArray[np.float16]
    outline: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Cells:
        """The cells at ``chosen`` (a mask or indices)."""
        return Cells(*(getattr(self, column.name)[chosen] for column in fields(self)))

    @staticmethod
    def joined(tables: Sequence[Cells]) -> Cells:
        """One table from several; from none an empty one."""
        tables = tables or [_empty()]
        return Cells(*(np.concatenate([getattr(table, column.name) for table in tables]) for column in fields(Cells)))


def measure_cells(
    rgb: NDArray[np.uint8],
    mpp: float,
    white: NDArray[np.uint8] | None = None,
    haematoxylin: Array | None = None,
) -> Cells:
    """Every nucleus of an IHC image with its membrane, whatever kind of cell it is.

    Args:
        rgb: uint8 [H, W, 3].
        mpp: its um/px.
        white: the glass's colour uint8 [3]; None: estimated from the image.
        haematoxylin: its unit vector [3]; None: estimated from the image.

    Returns:
        The cells, positions in px of ``rgb``.

    Raises:
        RestainError: ``mpp`` is out of range.
    """
    check_mpp(mpp)
    density = optical_density_at(rgb, mpp, glass_colour(rgb) if white is None else white)
    if haematoxylin is None:
        haematoxylin = haematoxylin_vector([nuclear_colour(density)])
    cells = _measure(density, haematoxylin)
    across, down = rgb.shape[1] / density.shape[1], rgb.shape[0] / density.shape[0]
    return Cells(cells.x * across, cells.y * down, *(getattr(cells, column.name) for column in fields(Cells)[2:]))


def check_mpp(mpp: float, name: str = "image") -> None:
    """Refuse um/px at which cells cannot be measured.

    Raises:
        RestainError: ``mpp`` is out of range.
    """
    low, high = MPP_RANGE
    if not low <= mpp <= high:
        raise RestainError(
            f"{name}: HER2 can be scored at {low:g} to {high:g} um/px, not at {mpp:g}: membranes are not seen in "
            "coarser images, and finer ones do not exist. Is --mpp right?"
        )


def optical_density_at(rgb: NDArray[np.uint8], mpp: float, white: NDArray[np.uint8]) -> Array:
    """Decadic optical density against ``white``, float32 [h, w, 3] at ``MPP``, at least 1 px; a little below 0 too."""
    pixels = np.maximum(rgb, 1).astype(np.float32)
    if abs(mpp / MPP - 1) > 0.02:
        size = max(1, round(rgb.shape[1] * mpp / MPP)), max(1, round(rgb.shape[0] * mpp / MPP))
        method = cv2.INTER_AREA if mpp < MPP else cv2.INTER_CUBIC
        pixels = np.maximum(cv2.resize(pixels, size, interpolation=method), np.float32(1))
    return np.asarray(-np.log10(pixels / np.maximum(white, 1).astype(np.float32)), np.float32)


def nuclear_colour(density: Array) -> Array:
    """What nuclei absorb more than their surroundings, and how brown these are, for ``haematoxylin_vector``.

    Args:
        density: optical density [h, w, 3] at ``MPP``.

    Returns:
        float32 [n, 4]: red, green, blue of the nucleus less those around, blue less red around.
    """
    dark = np.clip(255 * np.maximum(density[..., 0], 0), 0, 255).astype(np.uint8)
    centres = ClassicalNuclei().in_mask(dark, MPP)
    if len(centres) < 2:
        return np.zeros((0, 4), np.float32)
    smooth = np.asarray(cv2.GaussianBlur(density, (0, 0), 1.0 / MPP), np.float32)
    found = []
    for start in range(0, len(centres), _CHUNK):
        rays = polar(smooth, centres[start : start + _CHUNK], MPP)
        core, ring = rays[:, :, :4].mean(axis=(1, 2)), rays[:, :, 12:17].mean(axis=(1, 2))
        found.append(np.column_stack([core - ring, ring[:, 2] - 0.6 * ring[:, 0]]))
    return np.concatenate(found).astype(np.float32)


def haematoxylin_vector(colours: Sequence[Array]) -> Array:
    """Haematoxylin's unit vector [3] from the ``nuclear_colour`` of some fields; the textbook's where they are few."""
    table = np.concatenate(list(colours)) if colours else np.zeros((0, 4), np.float32)
    if len(table) < _LEAST_NUCLEI:
        return HAEMATOXYLIN
    pale = table[:, 3] < np.percentile(table[:, 3], 40)
    dark = (table[:, 0] > np.percentile(table[:, 0], 40)) & (table[:, 0] > 0.02)
    chosen = table[pale & dark, :3]
    if len(chosen) < _LEAST_NUCLEI // 2:
        return HAEMATOXYLIN
    vector = np.median(chosen / np.linalg.norm(chosen, axis=1, keepdims=True), axis=0)
    vector = np.maximum(vector, 0.02)
    vector /= np.linalg.norm(vector)
    # Brown nuclei everywhere (no counterstain): what was measured is DAB, and tells nothing.
    return HAEMATOXYLIN if float(vector @ DAB) > 0.95 else vector.astype(np.float32)


def _measure(density: Array, vector: Array) -> Cells:
    """The cells of a field [h, w, 3] at ``MPP``."""
    unmix = np.linalg.pinv(np.stack([vector, DAB])).astype(np.float32)
    amounts = density @ unmix
    blue, brown = np.ascontiguousarray(amounts[..., 0]), np.ascontiguousarray(amounts[..., 1])
    fine = _smooth(brown, 0.5)
    centres = _find_nuclei(blue, brown)
    if len(centres) < 2:
        return _empty()
    planes = np.dstack([fine, fine - _smooth(brown, 1.8), _smooth(blue, 0.5)])
    others = neighbours(centres)
    parts = [
        _along_rays(planes, centres[start : start + _CHUNK], others[start : start + _CHUNK])
        for start in range(0, len(centres), _CHUNK)
    ]
    return Cells.joined(parts)


def _find_nuclei(blue: Array, brown: Array) -> NDArray[np.float64]:
    """Centres (x, y) [n, 2]."""
    contrast = _smooth(brown, 0.4) - _smooth(brown, 3.0)
    nuclear = np.maximum(blue, 0) - np.float32(0.6) * contrast
    return ClassicalNuclei().in_mask(np.clip(255 * nuclear, 0, 255).astype(np.uint8), MPP)


def _along_rays(planes: Array, centres: NDArray[np.float64], others: NDArray[np.float64]) -> Cells:
    rays = polar(planes, centres, MPP)
    brown, ridge, blue = rays[..., 0], rays[..., 1], rays[..., 2]
    outline, core, around = nucleus_outline(blue)
    area, elongation = shape(outline)
    line = membrane_course(ridge, own_side(centres, others, MPP))
    membrane = np.take_along_axis(brown, line[..., None], axis=2)[..., 0]
    beyond = RADII - outline[..., None]
    near = (beyond >= 0.75) & (beyond <= 2.5)
    least = np.where(near, brown, np.float32(9)).min(axis=2)
    inside = ((beyond <= -0.5) | (RADII <= 1)) * np.maximum(RADII, 0.25)
    nuclear = (brown * inside).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))
    return Cells(
        centres[:, 0],
        centres[:, 1],
        area,
        elongation,
        core,
        around,
        nuclear.astype(np.float32),
        np.median(least, axis=1).astype(np.float32),
        membrane.mean(axis=1).astype(np.float32),
        membrane.astype(np.float16),
        RADII[line].astype(np.float16),
        outline.astype(np.float16),
    )


def _smooth(plane: Array, sigma: float) -> Array:
    """Under a Gaussian of ``sigma`` um."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma / MPP), np.float32)


def _empty() -> Cells:
    none, rays = np.zeros(0, np.float32), np.zeros((0, RAYS), np.float16)
    return Cells(np.zeros(0), np.zeros(0), none, none, none, none, none, none, none, rays, rays, rays)
