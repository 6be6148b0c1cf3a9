"""Which cells are tumour, and the class of each one's membrane: decided over all cells of a slide at once.

A slide is its own reference. What unstained tumour cells have of brown (unspecific DAB, granular cytoplasm, the colour
of the section) differs between laboratories by more than faint staining adds, so that no fixed density can tell faint
from none. The unstained level is read off the tumour cells' own distribution: its lowest peak (``_unstained``). A place
of a membrane is stained where it exceeds that level by more than can be mistaken; a cell's completeness is the share of
its circumference that is stained, its intensity the mean density along it above the level.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from scipy.spatial import cKDTree

from restain.stains.her2_cells import Cells

Plane = NDArray[np.float64]

VERSION = 1
"""Raised whenever what is decided here may change: scores of another version are not taken for done."""

STAINED = 0.03
"""Optical density above the unstained level from which a place of a membrane is stained, at the least: what is barely
perceptible. Where the membranes of unstained cells are uneven it is ``_NOISE`` times that unevenness."""
_NOISE = (2.0, 1.2)
_MANY = (0.1, 0.25)
"""The first factor is for slides where at most the first share of the tumour cells is stained by it: there one of fifty
unstained cells taken for faint counts much. From the second share on the second factor holds: there faint cells that
are missed count more than unstained ones that are taken for faint. It cannot lift a slide over the cut-off of 10 %."""
FAINT_FROM = 0.25
"""Share of the circumference that is stained, from which on a cell is at least faint."""
COMPLETE_FROM = 0.8
"""Share of the circumference from which on staining is complete."""
WEAK_FROM = 0.15
"""Intensity from which on complete staining is weak to moderate; below it is barely perceptible."""
INTENSE_FROM = 0.65
"""Intensity from which on complete staining is intense: less than a quarter of the light passes."""
_INTENSE_RANGE = (0.4, 0.95)
_VALLEY, _VALLEY_WIDTH = 0.8, 0.08
"""Laboratories stain more or less deeply. Where a slide's complete cells make two groups, with a gap between them in
this range that has less than this share of the lower group's height, and most of the upper group is intense by the
fixed bound, the gap is where intense begins."""
CONTRAST = (0.2, 0.0)
"""How much more DAB there must be along the membrane than over the nucleus, as a share of the intensity, for faint and
for complete staining. With less it is cytoplasm or the nucleus that is stained, or a fold: faint brown is then none,
and a cell with more of it is not counted, for there is no membrane to judge."""
_STRONG, _BARE = 0.5, 0.4
"""A cell that is not completely stained, whose darkest fifth of the circumference has at least the first density and
whose median has less than the second share of that, has the edge of a stained nest on one side, and is beside it: nine
of ten such marks are stroma or no cell. It is not counted."""

_LEAST_AREA = 8.0
_LEAST_HAEMATOXYLIN, _LEAST_CONTRAST = 0.4, 0.15
"""Of a nucleus, relative to the slide's median nucleus: its core, and its core less what is around it."""
_DARK, _HOLE = 0.3, 0.75
"""Between membranes of such a density haematoxylin is not seen: there a nucleus is a hole with less than this share."""
_TWICE = 3.5
"""um: two centres closer than this are one nucleus."""

_WEIGHTS = {
    "area": (1.47, 4.83),
    "dense": (-1.88, -5.91),
    "cytoplasm": (1.08, 10.03),
    "brown": (3.76, 0.0),
    "elongated": (-0.44, -2.54),
    "hole": (-1.18, -6.42),
}
"""Log odds of being tumour: each feature of ``_features`` for the cell itself and for the mean of those around it.

Fitted on synthetic slides under the constraint that each sign is as the microscope has it."""
_BY_DAB = ("brown", "hole")
_INTERCEPT = -0.96
_AROUND, _AROUND_SIGMA, _AROUND_BROWN = 12, 14.0, 0.1
"""How many of the nearest cells are looked at, and the um over which they lose weight; they lose it too with the
difference in brown of their cytoplasm, so that stroma beside a stained nest does not count as part of it."""

_OFFSET = 0.03
_BANDWIDTH = 0.08
_FLANK = 0.14
"""The peak is looked for in the logarithm of density + ``_OFFSET``, where its width hardly depends on its place;
its lower flank is at half its height ``_FLANK`` below the unstained level: the upper one may hide in faint staining."""
_UNEVEN = 0.04
"""Optical density by which unstained cells lie above the least brown fifth of their border, at most. Where the lowest
peak lies higher, it is of cells that are stained in stretches, and the gaps between these are what is unstained."""
_BROWNER = 0.08
"""Optical density by which the border of unstained cells is browner than their nuclei, at most: in a field where every
cell is stained the lowest peak is of stained cells, and only what is over the nuclei tells."""
_ABOVE_OTHERS = 0.15
"""Optical density by which unstained tumour cells are browner than the other cells of the slide, at most."""


class Why(IntEnum):
    """Why a cell is counted as a tumour cell or not."""

    COUNTED = 0
    NO_NUCLEUS = 1
    SAME_NUCLEUS = 2
    NOT_TUMOUR = 3
    NO_MEMBRANE = 4
    NEIGHBOURS = 5


WHY = {
    Why.COUNTED: "tumour",
    Why.NO_NUCLEUS: "no clear nucleus",
    Why.SAME_NUCLEUS: "second mark on one nucleus",
    Why.NOT_TUMOUR: "like lymphocytes, stroma or normal tissue",
    Why.NO_MEMBRANE: "brown nucleus or cytoplasm, no membrane to judge",
    Why.NEIGHBOURS: "bare, beside a strongly stained neighbour",
}


@dataclass(frozen=True)
class Classes:
    """What became of n cells; arrays [n].

    Attributes:
        why: ``Why``, uint8.
        tumour: probability of being a tumour cell, 0 to 1.
        completeness: share of the circumference that is stained, 0 to 1.
        intensity: mean optical density of DAB along the membrane above the unstained level.
        membrane: class 0 to 3, uint8; of cells that are not counted it says what they look like.
        unstained: the level of unstained tumour cells, optical density of DAB.
        stained_from: what is stained has more than this above that level.
    """

    why: NDArray[np.uint8]
    tumour: NDArray[np.float32]
    completeness: NDArray[np.float32]
    intensity: NDArray[np.float32]
    membrane: NDArray[np.uint8]
    unstained: float
    stained_from: float

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Which cells are tumour cells that count."""
        return np.asarray(self.why == Why.COUNTED, np.bool_)

    def percent(self) -> tuple[float, float, float, float] | None:
        """Percent of the counted cells in class 0 to 3; None where there is none."""
        number = np.bincount(self.membrane[self.counted], minlength=4)
        if not number.sum():
            return None
        shares = 100 * number / number.sum()
        return float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Classes:
        """Those at ``chosen`` (a mask or indices)."""
        arrays = {column.name: getattr(self, column.name)[chosen] for column in fields(self)[:-2]}
        return replace(self, **arrays)


def classify(cells: Cells, mpp: float) -> Classes:
    """Tumour cells and membrane classes.

    Args:
        cells: all cells of an image or slide.
        mpp: um/px of their positions.

    Returns:
        What became of each cell.
    """
    place = np.column_stack([cells.x, cells.y]) * mpp
    why = _nuclei(cells, place)
    tumour, blind = np.zeros((2, len(cells)), np.float32)
    seen = np.flatnonzero(why == Why.COUNTED)
    if len(seen):
        tumour[seen], blind[seen] = _tumour(cells.take(seen), place[seen])
        why[seen[tumour[seen] <= 0.5]] = Why.NOT_TUMOUR
    level = _unstained(cells, why, blind)
    above = cells.membrane.astype(np.float32) - np.float32(level)
    stained_from = _stained_from(above[why == Why.COUNTED])
    completeness = (above > stained_from).mean(axis=1, dtype=np.float32)
    intensity = np.asarray(cells.level - np.float32(level), np.float32)
    contrast = cells.level - cells.nuclear_dab
    faint = (completeness >= FAINT_FROM) & (contrast >= CONTRAST[0] * intensity)
    complete = (completeness >= COMPLETE_FROM) & (intensity >= WEAK_FROM)
    why[complete & (contrast < CONTRAST[1] * intensity) & (why == Why.COUNTED)] = Why.NO_MEMBRANE
    darkest = np.percentile(above, 80, axis=1) if len(above) else np.zeros(0)
    beside = (darkest >= _STRONG) & (np.median(above, axis=1) < _BARE * darkest) & ~complete
    why[beside & (why == Why.COUNTED)] = Why.NEIGHBOURS
    intense_from = _intense_from(intensity[complete & (why == Why.COUNTED)])
    membrane = np.where(complete, np.where(intensity >= intense_from, 3, 2), faint).astype(np.uint8)
    return Classes(why, tumour, completeness, intensity, membrane, level, stained_from)


def _stained_from(above: NDArray[np.float32]) -> float:
    """From which density on a place of a membrane is stained.

    Args:
        above: density along the membranes of the tumour cells above the unstained level [n, RAYS].
    """
    level = above.mean(axis=1) if len(above) else np.zeros(0, np.float32)
    below = level[(level < 0) & (level > -0.06)]
    spread = float(np.sqrt(np.mean(below**2))) if len(below) > 5 else 0.01
    plain = level < spread
    noise = float(np.sqrt(np.mean((above[plain] - level[plain, None]) ** 2))) if plain.sum() > 5 else STAINED / 2
    few, many = _NOISE
    strict = max(STAINED, few * noise)
    stained = float(((above > strict).mean(axis=1) >= FAINT_FROM).mean()) if len(above) else 0.0
    weight = float(np.clip((stained - _MANY[0]) / (_MANY[1] - _MANY[0]), 0, 1))
    factor = few + weight * (many - few)
    return max(STAINED * factor / few, factor * noise)


def _intense_from(intensity: NDArray[np.float32]) -> float:
    """From which intensity on complete staining is intense: the gap between a slide's two groups, if it has them."""
    seen = np.log(intensity[(intensity > 0.15) & (intensity < 2)].astype(np.float64))
    if len(seen) < 40:
        return INTENSE_FROM
    grid = np.linspace(np.log(0.15), np.log(2), 240)
    number = np.histogram(seen, np.append(grid, grid[-1] + grid[1] - grid[0]))[0].astype(np.float64)
    height = gaussian_filter1d(number, _VALLEY_WIDTH / (grid[1] - grid[0]), mode="constant")
    low, high = (int(np.searchsorted(grid, np.log(bound))) for bound in _INTENSE_RANGE)
    gap = low + int(height[low:high].argmin())
    upper = gap + int(height[gap:].argmax())
    shallow = height[gap] > _VALLEY * min(height[:gap].max(), height[upper])
    if gap in (low, high - 1) or shallow or np.exp(grid[upper]) < INTENSE_FROM:
        return INTENSE_FROM
    return float(np.exp(grid[gap]))


def _nuclei(cells: Cells, place: Plane) -> NDArray[np.uint8]:
    """``Why`` of each cell, so far as it hangs on its nucleus."""
    why = np.zeros(len(cells), np.uint8)
    if not len(cells):
        return why
    typical = _typical(cells)
    contrast = cells.haematoxylin - cells.cytoplasm
    clear = (cells.haematoxylin > _LEAST_HAEMATOXYLIN * typical) & (contrast > _LEAST_CONTRAST * typical)
    hole = (cells.level > _DARK) & (cells.nuclear_dab < _HOLE * cells.level)
    why[~((clear | hole) & (cells.area > _LEAST_AREA))] = Why.NO_NUCLEUS
    pairs = cKDTree(place).query_pairs(_TWICE, output_type="ndarray")
    pairs = pairs[(why[pairs] == Why.COUNTED).all(axis=1)]
    fainter = np.where(contrast[pairs[:, 0]] < contrast[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    why[fainter] = Why.SAME_NUCLEUS
    return why


def _typical(cells: Cells) -> float:
    """Haematoxylin of the median nucleus."""
    stained = cells.haematoxylin[cells.haematoxylin > 0.02]
    return float(np.median(stained)) if len(stained) else 0.1


def _features(cells: Cells) -> dict[str, Plane]:
    """What tells tumour cells from others [n] each: larger and paler nuclei in denser, often browner cytoplasm."""
    typical = _typical(cells)
    hole = np.clip((cells.nuclear_dab - cells.level) / np.maximum(np.abs(cells.level), 0.1), -1, 1)
    cytoplasm = np.maximum(cells.cytoplasm, 0) / typical
    found = {
        "area": np.clip(np.log(np.maximum(cells.area, 3) / 30), -1.5, 1.2),
        "dense": np.clip(np.log(np.maximum(cells.haematoxylin, 0.01) / typical), -1, 1),
        "cytoplasm": np.clip(cytoplasm - np.median(cytoplasm), -0.5, 0.5),
        "brown": 10 * np.clip(cells.cytoplasmic_dab - np.median(cells.cytoplasmic_dab), -0.1, 0.1),
        "elongated": np.clip(np.log(cells.elongation), 0, 1.2),
        "hole": hole - np.median(hole),
    }
    return {name: values.astype(np.float64) for name, values in found.items()}


def _tumour(cells: Cells, place: Plane) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability of being tumour: a cell's own look and that of the cells around it, for tumour cells lie together.

    Returns:
        float32 [n], and the same without what DAB says: a sample of tumour that staining has no part in.
    """
    found = cKDTree(place).query(place, min(_AROUND + 1, len(cells)))
    distance, index = (np.asarray(part).reshape(len(cells), -1) for part in found)
    brown = np.minimum(cells.cytoplasmic_dab, 1)
    unlike = (brown[index] - brown[:, None]) / _AROUND_BROWN
    weight = np.exp(-((distance / _AROUND_SIGMA) ** 2 + unlike**2) / 2)
    weight /= weight.sum(axis=1, keepdims=True)
    blind, by_dab = np.full(len(cells), _INTERCEPT), np.zeros(len(cells))
    for name, values in _features(cells).items():
        own, around = _WEIGHTS[name]
        odds = by_dab if name in _BY_DAB else blind
        odds += own * values + around * (values[index] * weight).sum(axis=1)
    return _probability(blind + by_dab), _probability(blind)


def _probability(odds: Plane) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def _unstained(cells: Cells, why: NDArray[np.uint8], blind: NDArray[np.float32]) -> float:
    """DAB along the border of unstained tumour cells.

    Unstained tumour cells make the lowest peak of the tumour cells' levels. It is not searched farther than
    ``_ABOVE_OTHERS`` above the slide's other cells: where all of the tumour is stained there is none, and these tell.
    """
    others = cells.level[why == Why.NOT_TUMOUR]
    chosen = (why == Why.COUNTED) & (blind > 0.7)
    if chosen.sum() < 30:
        chosen = why == Why.COUNTED
    sure = cells.level[chosen]
    if not len(sure):
        return float(np.median(others)) if len(others) else 0.0
    over = cells.nuclear_dab[chosen]
    floor = min(
        float(np.median(others)) if len(others) >= 10 else float(np.percentile(sure, 5)),
        float(np.percentile(over, 10)) + _BROWNER / 2,
    )
    grid = np.linspace(np.log(0.01), np.log(3.0), 600)
    values = np.log(np.maximum(sure, -0.02) + _OFFSET)
    histogram = np.histogram(values, np.append(grid, grid[-1] + grid[1] - grid[0]))[0].astype(np.float64)
    height = gaussian_filter1d(histogram, _BANDWIDTH / (grid[1] - grid[0]), mode="constant")
    top = height.max()
    peaks, _ = find_peaks(height, prominence=0.08 * top, height=0.15 * top)
    low = [peak for peak in peaks if np.exp(grid[peak]) - _OFFSET < floor + _ABOVE_OTHERS]
    if not low:
        return floor + 0.03
    foot = low[0]
    while foot > 0 and height[foot] > height[low[0]] / 2:
        foot -= 1
    found = float(np.exp(grid[foot] + _FLANK) - _OFFSET)
    alike = np.abs(sure - found) < 0.3 * abs(found) + 0.01
    if not alike.any():
        return found
    gaps = np.percentile(cells.membrane[chosen][alike].astype(np.float32), 20, axis=1)
    return min(found, float(np.median(gaps)) + _UNEVEN, float(np.median(over[alike])) + _BROWNER)
