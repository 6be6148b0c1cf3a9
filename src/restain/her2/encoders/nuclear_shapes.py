"""Each nucleus of a field: its outline, and what is measured on it; no loop over nuclei or pixels.

Seeds are maxima of a difference of Gaussians of a nucleus' size plus the distance to the edge of the stained area (the
evidence of ``restain.stains.blobs`` without its votes of gradients, which take most of the time). A nucleus is what is
nearer to its seed than to others, at most ``_REACH`` away, and darker than half-way between its own stain and what lies
around it: the half-way threshold goes along with blur and staining.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Plane = NDArray[np.float32]
Values = NDArray[np.float64]

MPP = 0.5
"""um/px of the fields; lengths below are in um."""

_BLOB = 1.8
_ACROSS = 12.0
_OTSU_SHARE = 0.5
_LEAST_STAIN = 0.12
"""Haematoxylin, as a share of the slide's strong stain, below which nothing is a nucleus."""
_LEAST_EVIDENCE = 0.22
_APART = 2.0
_REACH = 8.0
_SMALLEST, _LARGEST = 8.0, 200.0
"""um^2 of a nucleus."""
_PLUMP, _LONG = (30.0, 5.0), (2.0, 0.25)
"""Middle and width of the steps of ``Nuclei.plump``: area in um^2, ratio of the axes."""
_NEIGHBOURS = 5
_WITHIN = 20.0
_CROWDS = (10.0, 15.0, 20.0, 30.0)
_FAR = 40.0
"""um: spacing where there is no neighbour, and at most."""

MEASURES = {
    "area": "area in um^2",
    "elongation": "ratio of the axes of the ellipse with its second moments, from 1",
    "irregularity": "deviation of the outline from that ellipse, relative to its radius",
    "haematoxylin": "mean haematoxylin",
    "chromatin_deviation": "deviation of its haematoxylin, relative to the mean",
    "chromatin_skewness": "skewness of its haematoxylin: above 0 where few spots are dark",
    "chromatin_fine": "mean absolute haematoxylin in details under 1 um, relative to the mean",
    "chromatin_coarse": "the same in details of 1 to 2 um",
    "rim": "haematoxylin of the outer half of its area less that of the inner, relative to the mean",
    "contrast": "haematoxylin less that of what surrounds it",
    "counterstain": "mean {second}",
    "cytoplasm_haematoxylin": "haematoxylin of what surrounds it",
    "cytoplasm_counterstain": "{second} of what surrounds it",
    "spacing": "um to the nearest nucleus (centres)",
    "spacing_mean": "mean um to the five nearest nuclei",
    "neighbours": "nuclei within 20 um",
    "size_difference": "absolute difference of the logarithm of its area from that of its five nearest (plump ones)",
    "alignment": "how much the five nearest point into its direction, -1 to 1, times how elongated they are",
}
"""What is measured on each nucleus; {second} is eosin in H&E and DAB in IHC."""


@dataclass(frozen=True)
class Nuclei:
    """n nuclei of a field.

    Attributes:
        centres: (x, y) in px of the field [n, 2], pixel i covering i to i + 1.
        measures: by the names of ``MEASURES``, float64 [n], finite.
        mask: bool [H, W]: the pixels of nuclei.
        plump: how much each is large and round, as nuclei of epithelium are, above 0 to 1 [n].
        plump_mask: the pixels of nuclei by ``plump``, float32 [H, W].
        crowding: ``10um`` and so on: how dense plump nuclei lie within such a radius, relative to the next larger one
            (the largest: in thousands a mm2) [n].
    """

    centres: Values
    mask: NDArray[np.bool_]
    plump: Values
    plump_mask: Plane
    crowding: dict[str, Values]
    measures: dict[str, Values] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.centres)


def find_nuclei(haematoxylin: Plane, second: Plane, dark: float, brown: Plane | None = None) -> Nuclei:
    """The nuclei of a field at ``MPP`` and what is measured on them.

    Args:
        haematoxylin: [H, W], 1 where the slide is stained strongly.
        second: eosin or DAB [H, W].
        dark: the slide's threshold between nuclei and the rest.
        brown: DAB [H, W], whose edges are taken off before nuclei are looked for; None in H&E.
    """
    smooth = _smooth(haematoxylin, 0.5)
    stain = smooth if brown is None else smooth - np.float32(0.6) * (_smooth(brown, 0.4) - _smooth(brown, 3.0))
    labels, seeds = _labelled(stain, _dark(stain, dark))
    return _measured(labels, seeds, smooth, haematoxylin, second)


def _dark(stain: Plane, otsu: float) -> NDArray[np.uint8]:
    """What is stained more than the mean of its surroundings and the slide's threshold, 0 or 1."""
    wide = cv2.resize(stain, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    around = cv2.resize(_smooth(np.maximum(wide, 0), _ACROSS / 4), stain.shape[::-1], interpolation=cv2.INTER_LINEAR)
    limit = np.maximum(_OTSU_SHARE * otsu + (1 - _OTSU_SHARE) * around, _LEAST_STAIN)
    return np.asarray(cv2.morphologyEx((stain > limit).astype(np.uint8), cv2.MORPH_OPEN, _disk(0.5)), np.uint8)


def _labelled(stain: Plane, dark: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Nuclei [H, W], 0 where none is, numbered from 1, and the flat places of their seeds."""
    distance = cv2.distanceTransform(dark, cv2.DIST_L2, 3) * MPP
    narrow = _smooth(stain, _BLOB)
    evidence = (narrow - _smooth(narrow, _BLOB * 0.77)) / 0.26 + 0.12 * _smooth(np.minimum(distance, 4), 0.5)
    top = (evidence >= cv2.dilate(evidence, _disk(_APART))) & (evidence > _LEAST_EVIDENCE)
    number, marks, _, centres = cv2.connectedComponentsWithStats(top.astype(np.uint8), connectivity=8)
    del marks
    column, row = np.rint(centres[1:]).astype(np.int64).reshape(-1, 2).T
    seeds = row * stain.shape[1] + column
    if number < 2:
        return np.zeros(stain.shape, np.int32), seeds
    away = np.ones(stain.shape, np.uint8)
    away.ravel()[seeds] = 0
    reach, zone = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    order = np.zeros(number, np.int32)
    order[zone.ravel()[seeds]] = np.arange(1, len(seeds) + 1)
    zone = order[zone]
    zone[reach * MPP > _REACH] = 0
    return _half_way(stain, dark, zone, len(seeds)), seeds


def _half_way(stain: Plane, dark: NDArray[np.uint8], zone: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    """The part of each zone that is darker than half-way between its nucleus and what lies around."""
    flat, values, inside = zone.ravel(), stain.ravel(), dark.ravel() > 0
    own = np.where(inside, flat, 0)
    # Weighted by itself: the blurred edge, which is part of what is dark, would pull the mean down.
    core = _sums(own, values * values, number) / np.maximum(_sums(own, values, number), 1e-6)
    other = np.where(inside, 0, flat)
    around = _sums(other, values, number) / np.maximum(_sums(other, np.ones_like(values), number), 1)
    limit = ((core + around) / 2).astype(np.float32)
    limit[0] = np.inf
    raw = (stain > limit[zone]).astype(np.uint8)
    kept = cv2.morphologyEx(cv2.morphologyEx(raw, cv2.MORPH_CLOSE, _disk(1.0)), cv2.MORPH_OPEN, _disk(1.0))
    return np.where(kept > 0, zone, 0).astype(np.int32)


def _sums(labels: NDArray[np.int32], values: Plane, number: int) -> Values:
    """Sum of the values of each label from 0 to ``number``."""
    return np.asarray(np.bincount(labels, weights=values, minlength=number + 1), np.float64)


def _measured(
    labels: NDArray[np.int32], seeds: NDArray[np.int64], smooth: Plane, haematoxylin: Plane, second: Plane
) -> Nuclei:
    """What is measured on each labelled nucleus of a possible size."""
    places, number = np.flatnonzero(labels), len(seeds)
    label = labels.ravel()[places].astype(np.int64)
    count = np.bincount(label, minlength=number + 1)
    good = (count * MPP**2 >= _SMALLEST) & (count * MPP**2 <= _LARGEST)
    good[0] = False
    kept = good[label]
    places, label = places[kept], (np.cumsum(good) - 1)[label[kept]]
    number = int(good.sum())
    mask = np.zeros(labels.shape, np.bool_)
    mask.ravel()[places] = True
    if number == 0:
        none, nothing = np.zeros(0), np.zeros((0, 2))
        plump_mask = np.zeros(labels.shape, np.float32)
        return Nuclei(nothing, mask, none, plump_mask, _crowding(nothing, none), dict.fromkeys(MEASURES, none))
    pixels = _Pixels(places, label, number, labels.shape)
    measures = _shape(pixels) | _chromatin(pixels, smooth, haematoxylin, second)
    measures |= _surroundings(pixels, mask, haematoxylin, second, measures["haematoxylin"])
    plump = _plump(measures["area"], measures["elongation"])
    measures |= _neighbourhood(pixels, measures["area"], measures["elongation"], plump)
    plump_mask = np.zeros(labels.shape, np.float32)
    plump_mask.ravel()[places] = plump[label]
    crowding = _crowding(pixels.centres * MPP, plump)
    return Nuclei(pixels.centres, mask, plump, plump_mask, crowding, {name: measures[name] for name in MEASURES})


def _plump(area: Values, elongation: Values) -> Values:
    """Near 1 of nuclei that are larger than lymphocytes' and rounder than fibroblasts', above 0."""
    large, long = (area - _PLUMP[0]) / _PLUMP[1], (elongation - _LONG[0]) / _LONG[1]
    return np.asarray(1 / ((1 + np.exp(-large)) * (1 + np.exp(long))), np.float64)


class _Pixels:
    """Pixels of n nuclei: flat ``places``, the ``label`` of each from 0, and their nuclei's moments."""

    def __init__(
        self, places: NDArray[np.int64], label: NDArray[np.int64], number: int, shape: tuple[int, ...]
    ) -> None:
        self.places, self.label, self.number = places, label, number
        self.count = np.bincount(label, minlength=number)
        row, column = np.divmod(places, shape[1])
        x, y = self.mean(column), self.mean(row)
        self.centres = np.column_stack([x, y]) + 0.5
        self.dx, self.dy = column - x[label], row - y[label]
        # 1/12: the spread of a pixel itself
        self.xx, self.yy = self.mean(self.dx**2) + 1 / 12, self.mean(self.dy**2) + 1 / 12
        self.xy = self.mean(self.dx * self.dy)
        determinant = np.maximum(self.xx * self.yy - self.xy**2, 1e-9)
        self.determinant = determinant
        of = (self.yy / determinant)[label], (self.xx / determinant)[label], (self.xy / determinant)[label]
        # 1 on the outline of the ellipse with the same second moments
        self.radius = (
            np.sqrt(np.maximum(of[0] * self.dx**2 + of[1] * self.dy**2 - 2 * of[2] * self.dx * self.dy, 0)) / 2
        )
        self.shape = shape

    def mean(self, values: NDArray[np.floating] | NDArray[np.integer]) -> Values:
        """Mean over each nucleus of ``values`` of its pixels [n]."""
        return np.asarray(np.bincount(self.label, weights=values, minlength=self.number) / self.count)


def _shape(pixels: _Pixels) -> dict[str, Values]:
    """Area, elongation and irregularity."""
    spread = np.sqrt((pixels.xx - pixels.yy) ** 2 + 4 * pixels.xy**2)
    total = pixels.xx + pixels.yy
    elongation = np.sqrt((total + spread) / np.maximum(total - spread, 1e-3 * total))
    own = np.zeros(pixels.shape, np.int32)
    own.ravel()[pixels.places] = pixels.label + 1
    padded = np.pad(own, 1)
    inner = np.ones(own.shape, np.bool_)
    for rows, columns in ((slice(None, -2), slice(1, -1)), (slice(2, None), slice(1, -1))):
        inner &= (padded[rows, columns] == own) & (padded[columns, rows] == own)
    edge = ~inner.ravel()[pixels.places]
    label, radius = pixels.label[edge], pixels.radius[edge]
    count = np.maximum(np.bincount(label, minlength=pixels.number), 1)
    mean = np.bincount(label, weights=radius, minlength=pixels.number) / count
    square = np.bincount(label, weights=radius**2, minlength=pixels.number) / count
    irregularity = np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1e-6)
    return {"area": pixels.count * MPP**2, "elongation": np.minimum(elongation, 8), "irregularity": irregularity}


def _chromatin(pixels: _Pixels, smooth: Plane, haematoxylin: Plane, second: Plane) -> dict[str, Values]:
    """How much haematoxylin, and how it is spread."""
    coarse = _smooth(smooth, 1.0)
    raw, fine, wide = (plane.ravel()[pixels.places] for plane in (haematoxylin, smooth, coarse))
    mean = np.maximum(pixels.mean(fine), 1e-3)
    off = fine - mean[pixels.label]
    variance = pixels.mean(off**2)
    outer = pixels.radius > np.sqrt(0.5)
    outside = np.maximum(pixels.mean(outer), 1e-6)
    inside = np.maximum(1 - outside, 1e-6)
    rim = pixels.mean(np.where(outer, off, 0)) / outside - pixels.mean(np.where(outer, 0, off)) / inside
    return {
        "haematoxylin": mean,
        "chromatin_deviation": np.sqrt(variance) / mean,
        "chromatin_skewness": np.clip(pixels.mean(off**3) / np.maximum(variance, 1e-6) ** 1.5, -5, 5),
        "chromatin_fine": pixels.mean(np.abs(raw - fine)) / mean,
        "chromatin_coarse": pixels.mean(np.abs(fine - wide)) / mean,
        "rim": rim / mean,
        "counterstain": pixels.mean(second.ravel()[pixels.places]),
    }


def _surroundings(
    pixels: _Pixels, mask: NDArray[np.bool_], haematoxylin: Plane, second: Plane, own: Values
) -> dict[str, Values]:
    """Means over what lies within 4 um around each nucleus and is no nucleus (0 where all of it is)."""
    ring = 2 * round(4.0 / MPP) + 1
    free = (~mask).astype(np.float32)
    column, row = pixels.centres.astype(np.int64).T
    window = (ring + 8, ring + 8)
    share = np.maximum(cv2.blur(free, window)[row, column], 1e-3)
    found = {
        f"cytoplasm_{name}": np.asarray(cv2.blur(plane * free, window)[row, column] / share, np.float64)
        for name, plane in (("haematoxylin", haematoxylin), ("counterstain", second))
    }
    return found | {"contrast": own - found["cytoplasm_haematoxylin"]}


def _neighbourhood(pixels: _Pixels, area: Values, elongation: Values, plump: Values) -> dict[str, Values]:
    """How nuclei lie to each other."""
    number = pixels.number
    if number < 2:
        alone = {"spacing": np.full(number, _FAR), "spacing_mean": np.full(number, _FAR)}
        return alone | {name: np.zeros(number) for name in ("neighbours", "size_difference", "alignment")}
    um = pixels.centres * MPP
    tree = cKDTree(um)
    nearest = tree.query(um, min(_NEIGHBOURS, number - 1) + 1)
    distance, index = np.minimum(nearest[0], _FAR)[:, 1:], np.asarray(nearest[1])[:, 1:]
    size, weight = np.log(area), plump[index]
    usual = (size[index] * weight).sum(axis=1) / weight.sum(axis=1)
    angle = np.arctan2(2 * pixels.xy, pixels.xx - pixels.yy)  # twice the direction
    along = np.cos(angle[index] - angle[:, None]) * (1 - 1 / elongation[index])
    return {
        "spacing": distance[:, 0],
        "spacing_mean": distance.mean(axis=1),
        "neighbours": tree.query_ball_point(um, _WITHIN, return_length=True) - 1.0,
        "size_difference": np.abs(size - usual),
        "alignment": along.mean(axis=1),
    }


def _crowding(um: Values, plump: Values) -> dict[str, Values]:
    """See ``Nuclei``; from centres in um [n, 2]."""
    titles = [f"{radius:g}um" for radius in _CROWDS]
    if len(um) < 2:
        return {title: np.zeros(len(um)) for title in titles}
    pairs = cKDTree(um).query_pairs(_CROWDS[-1], output_type="ndarray")
    distance = np.hypot(*(um[pairs[:, 0]] - um[pairs[:, 1]]).T)
    density = []
    for radius in _CROWDS:
        one, two = pairs[distance <= radius].T
        weight = np.bincount(one, plump[two], len(um)) + np.bincount(two, plump[one], len(um))
        density.append(weight / (np.pi * (radius / 1000) ** 2) / 1000)
    relative = [near / (wide + 0.2) for near, wide in pairwise(density)]
    return dict(zip(titles, [*relative, density[-1]], strict=True))


def _smooth(plane: Plane, sigma: float) -> Plane:
    """Under a Gaussian of ``sigma`` um."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma / MPP), np.float32)


def _disk(radius: float) -> NDArray[np.uint8]:
    """A disk of ``radius`` um."""
    side = 2 * round(radius / MPP) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
