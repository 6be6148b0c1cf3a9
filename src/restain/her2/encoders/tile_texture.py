"""Stain and texture of tiles: amounts, band energies, local binary patterns, grey-level co-occurrence, architecture."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.her2.encoders.stain_space import crowds_of
from restain.her2.encoders.tile_statistics import Plane, Tiles, Values, histograms, quantiles

MPP = 0.5
"""um/px of the fields."""

Columns = dict[str, Values]
"""Values [tiles] by the column's name."""

_LEVELS = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
_EMPTY = 0.06
"""Both amounts below this: glass, lumen, fat."""
_BANDS = ("1um", "2um", "4um", "8um", "16um")
_GREYS = 8
_DISTANCES = {"1um": 1, "2um": 2, "4um": 4}
"""Of co-occurrence, px at 1 um/px."""
_PATTERN_RADIUS, _PATTERN_STEP = 2, 0.02
"""px; and by how much a neighbour must have more stain, so that grain makes no pattern."""
_OPENINGS = (4.0, 6.0, 9.0)
"""um: radii of nests."""
_SCALES = (3.0, 6.0, 12.0, 24.0, 48.0)
"""um: sigmas between which an octave lies."""
_LITTLE = 0.02
_COARSE = 4
"""px of the field to a px of the maps of architecture."""


def amount_columns(tiles: Tiles, stains: dict[str, Plane]) -> Columns:
    """Mean, deviation and quantiles of each stain, how the two go together, how much is empty.

    Args:
        tiles: of the field.
        stains: the two stains [H, W] by name.
    """
    found: Columns = {}
    small = {
        name: cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for name, plane in stains.items()
    }
    cut = {name: np.asarray(tiles.of(plane, 2), np.float64) for name, plane in small.items()}
    for name, values in cut.items():
        found[f"{name}_mean"], found[f"{name}_deviation"] = values.mean(axis=1), values.std(axis=1)
        found |= dict(
            zip((f"{name}_{level}" for level in _LEVELS), quantiles(values, [*_LEVELS.values()]).T, strict=True)
        )
    first, second = cut.values()
    one, two = stains
    together = ((first - first.mean(axis=1)[:, None]) * (second - second.mean(axis=1)[:, None])).mean(axis=1)
    found["stain_correlation"] = together / (found[f"{one}_deviation"] * found[f"{two}_deviation"] + 1e-4)
    found["empty_share"] = ((first < _EMPTY) & (second < _EMPTY)).mean(axis=1)
    return found


def band_columns(tiles: Tiles, stains: dict[str, Plane]) -> Columns:
    """Strength of each stain's variation in bands an octave wide (Laplacian pyramid), and how evenly it is spread.

    ``band`` is the deviation; ``sparsity`` is the deviation over the mean absolute value, 1.25 of Gaussian grain and
    more of few strong details.
    """
    found: Columns = {}
    for name, plane in stains.items():
        for number, band in enumerate(_BANDS):
            coarser = cv2.pyrDown(plane)
            detail = plane - cv2.pyrUp(coarser, dstsize=plane.shape[::-1])
            cut = np.asarray(tiles.of(detail, 2**number), np.float32)
            deviation = np.sqrt((cut**2).mean(axis=1, dtype=np.float64))
            found[f"{name}_band_{band}"] = deviation
            found[f"{name}_sparsity_{band}"] = (deviation + 1e-4) / (np.abs(cut).mean(axis=1, dtype=np.float64) + 1e-4)
            plane = np.asarray(coarser, np.float32)
    return found


def pattern_columns(tiles: Tiles, haematoxylin: Plane) -> Columns:
    """Local binary patterns of haematoxylin, rotation-invariant and uniform (Ojala 2002), 8 neighbours at 1 um.

    Column i (0 to 8) is the share of pixels with i darker neighbours side by side; 9 the share of other patterns.
    """
    r = _PATTERN_RADIUS
    smooth = cv2.copyMakeBorder(cv2.GaussianBlur(haematoxylin, (0, 0), 1.0), r, r, r, r, cv2.BORDER_REFLECT)
    height, width = haematoxylin.shape
    centre = smooth[r : r + height, r : r + width] + np.float32(_PATTERN_STEP)
    diagonal = round(r / np.sqrt(2))
    ring = ((r, 0), (diagonal, diagonal), (0, r), (-diagonal, diagonal), (-r, 0), (-diagonal, -diagonal), (0, -r))
    codes = np.zeros(haematoxylin.shape, np.uint8)
    for bit, (x, y) in enumerate((*ring, (diagonal, -diagonal))):
        darker = smooth[r + y : r + y + height, r + x : r + x + width] > centre
        codes |= darker.view(np.uint8) << bit
    shares = histograms(np.asarray(tiles.of(cv2.LUT(codes, _uniform())), np.uint8), 10)
    return {f"pattern_{number}": share for number, share in enumerate(shares.T)}


def _uniform() -> NDArray[np.uint8]:
    """Of each code of 8 bits: how many are set where they lie side by side, else 9."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.uint8)


def cooccurrence_columns(tiles: Tiles, stains: dict[str, Plane]) -> Columns:
    """Haralick 1973's contrast, homogeneity, correlation and entropy of each stain, mean over rows and columns."""
    found: Columns = {}
    for name, plane in stains.items():
        small = cv2.resize(plane, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        side = max(1, tiles.side // 2)
        grey = np.asarray(tiles.of(np.clip(small * _GREYS, 0, _GREYS - 1).astype(np.uint8), 2), np.uint8)
        grey = grey.reshape(len(tiles), side, side)
        for distance, px in _DISTANCES.items():
            step = min(px, side - 1)
            pairs = (grey[:, :, :-step], grey[:, :, step:]), (grey[:, :-step], grey[:, step:])
            if step == 0:
                pairs = ((grey, grey), (grey, grey))
            shares = sum(histograms((a * np.uint8(_GREYS) + b).reshape(len(tiles), -1), _GREYS**2) for a, b in pairs)
            for kind, values in _haralick(np.asarray(shares) / 2).items():
                found[f"{name}_{kind}_{distance}"] = values
    return found


def _haralick(shares: Values) -> Columns:
    """Contrast, homogeneity, correlation, entropy (bits) of co-occurrences [n, greys^2]."""
    i, j = (index.ravel().astype(np.float64) for index in np.indices((_GREYS, _GREYS)))
    mean_i, mean_j = shares @ i, shares @ j
    spread = np.sqrt(np.maximum((shares @ i**2 - mean_i**2) * (shares @ j**2 - mean_j**2), 0))
    return {
        "contrast": shares @ (i - j) ** 2,
        "homogeneity": shares @ (1 / (1 + (i - j) ** 2)),
        "correlation": (shares @ (i * j) - mean_i * mean_j) / (spread + 1e-3),
        "entropy": -(shares * np.log2(np.maximum(shares, 1e-12))).sum(axis=1),
    }


def architecture_columns(tiles: Tiles, haematoxylin: Plane, plump: Plane, crowded: float) -> Columns:
    """How nuclei are crowded: solid nests, cords, glands, single cells.

    Where haematoxylin under a Gaussian of 5 um is above the slide's threshold nuclei crowd. ``depth`` is the distance
    to the border of such places, ``border`` how much border they have, ``nests_over`` how much of them is left of an
    opening with a disk. ``scale`` is the share of one octave in the variation of the cover by plump nuclei.

    Args:
        tiles: of the field.
        haematoxylin: [H, W].
        plump: the pixels of nuclei by how plump they are [H, W].
        crowded: the slide's threshold.
    """
    um = MPP * _COARSE
    map_, share = (
        np.asarray(cv2.resize(plane, None, fx=1 / _COARSE, fy=1 / _COARSE, interpolation=cv2.INTER_AREA), np.float32)
        for plane in (haematoxylin, plump)
    )
    crowd = (crowds_of(map_, um) > crowded).astype(np.uint8)
    depth = cv2.distanceTransform(np.pad(crowd, 1), cv2.DIST_L2, 5)[1:-1, 1:-1] * um
    rim = cv2.morphologyEx(crowd, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    deep = np.asarray(tiles.of(depth, _COARSE), np.float64)
    area = _mean(tiles, crowd)
    found = {
        "plump_cover": _mean(tiles, share),
        "crowded_share": area,
        "crowded_depth": _mean(tiles, depth * crowd) / (area + _LITTLE),
        "crowded_depth_p95": quantiles(deep, [0.95])[:, 0],
        "crowded_border": _mean(tiles, rim) / (area + _LITTLE),
    }
    for radius in _OPENINGS:
        side = 2 * round(radius / um) + 1
        opened = cv2.morphologyEx(crowd, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
        found[f"nests_over_{radius:g}um"] = _mean(tiles, opened) / (area + _LITTLE)
    layers = [cv2.GaussianBlur(share, (0, 0), scale / um) for scale in _SCALES]
    octaves = [np.asarray(tiles.of(a - b, _COARSE), np.float64).std(axis=1) for a, b in pairwise(layers)]
    total = np.sum(octaves, axis=0) + 1e-3
    found |= {f"scale_{scale:g}um": octave / total for scale, octave in zip(_SCALES, octaves, strict=False)}
    return found


def _mean(tiles: Tiles, plane: NDArray[np.generic]) -> Values:
    """Mean of each tile of a map of architecture."""
    return np.asarray(np.asarray(tiles.of(plane, _COARSE), np.float64).mean(axis=1), np.float64)
