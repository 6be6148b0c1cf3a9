"""Choose the images that a report shows, and compute what it draws of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.data.levels import sorted_levels
from restain.evaluate.folders import RealImage
from restain.metrics import Direction, ImagePair
from restain.metrics.dab_map import dab_map
from restain.metrics.local_stain_error import COARSEST, local_stain_error_map
from restain.slides import read_image
from restain.stains import ClassicalNuclei
from restain.stains.nuclei import NUCLEI_MPP

MAX_SIDE = 512
MANY = 8
"""From so many images on, the three worst are shown."""

Values = TypeVar("Values", np.uint8, np.float32)


@dataclass(frozen=True)
class Example:
    """One image with what a report shows of it; pictures are scaled down to at most ``MAX_SIDE`` px a side.

    Attributes:
        image: its name.
        level: its level, None where unknown.
        role: why it was chosen: ``best``, ``median``, ``worst``, or the level it stands for.
        real: uint8 RGB [h, w, 3].
        fakes: uint8 RGB [h, w, 3] by method.
        dab: DAB by method and of the real image (None), float32 [h, w] in HED units.
        nuclei: centres (x, y) [n, 2] in px of the pictures, by method and of the real image (None); empty where the
            um/px is not known.
        errors: the local stain error at places all over the image, float32 in percent of the light, by method; empty
            where the um/px is not known.
        he: the H&E image, uint8 RGB; None where there is none.
        values: value by metric, by method.
    """

    image: str
    level: str | None
    role: str
    real: NDArray[np.uint8]
    fakes: Mapping[str, NDArray[np.uint8]]
    dab: Mapping[str | None, NDArray[np.float32]]
    nuclei: Mapping[str | None, NDArray[np.float64]]
    errors: Mapping[str, NDArray[np.float32]]
    he: NDArray[np.uint8] | None
    values: Mapping[str, Mapping[str, float]]

    @property
    def differences(self) -> dict[str, NDArray[np.float32]]:
        """DAB of the generated minus DAB of the real image, float32 [h, w] in HED units, by method."""
        return {method: self.dab[method] - self.dab[None] for method in self.fakes}


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report.

    Attributes:
        extremes: best, median and worst images of each method, in this order.
        gallery: one typical image of each level (or a few in order of quality where levels are unknown), with every
            method: the picture of BCI's Fig. 11.
        limit: a DAB difference, in HED units, that the colours of difference maps should span: the largest 99th
            percentile of |difference| among the pictures.
        dab_limit: the same for maps of DAB.
        error_limit: the same for maps of the local stain error, in percent of the light.
    """

    extremes: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    gallery: Sequence[Example] = ()
    limit: float = 0.0
    dab_limit: float = 0.0
    error_limit: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """An image that may be shown: where its files are and how each method did on it."""

    image: RealImage
    fakes: Mapping[str, Path]
    values: Mapping[str, Mapping[str, float]]


def choose_pictures(candidates: Sequence[Candidate], metric: str, direction: Direction) -> Pictures:
    """Best, median and worst ones of each method, and a gallery of all methods.

    Args:
        candidates: images that every method has.
        metric: the metric that orders them.
        direction: which of its values are better.
    """
    sign = -1.0 if direction is Direction.HIGHER else 1.0
    methods = list(candidates[0].fakes) if candidates else []
    extremes = {}
    for method in methods:
        ordered = _ordered(candidates, partial(_cost, method=method, metric=metric, sign=sign))
        extremes[method] = [example for role, item in _extremes(ordered) if (example := _example(item, role, [method]))]
    gallery = [
        example
        for role, item in _typical(candidates, lambda item: sign * _mean(item, metric))
        if (example := _example(item, role, methods))
    ]
    shown = [item for row in (gallery, *extremes.values()) for item in row]
    return Pictures(
        extremes,
        gallery,
        limit=_span(map_ for item in shown for map_ in item.differences.values()),
        dab_limit=_span(map_ for item in shown for map_ in item.dab.values()),
        error_limit=_span(map_ for item in shown for map_ in item.errors.values()),
    )


def _span(maps: Iterable[NDArray[np.float32]]) -> float:
    """The largest 99th percentile of absolute values among the maps."""
    return max((float(np.quantile(np.abs(map_), 0.99)) for map_ in maps), default=0.0)


def _ordered(candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[Candidate]:
    """From best to worst; ties by name, so that the choice does not depend on the order of files."""
    return sorted(candidates, key=lambda item: (cost(item), item.image.name))


def _cost(item: Candidate, method: str, metric: str, sign: float) -> float:
    return sign * item.values[method][metric]


def _mean(item: Candidate, metric: str) -> float:
    return sum(values[metric] for values in item.values.values()) / len(item.values)


def _extremes(ordered: Sequence[Candidate]) -> list[tuple[str, Candidate]]:
    """Best, median and worst, with many images the three worst; with fewer than three images, those that there are."""
    if len(ordered) == 1:
        return [("only image", ordered[0])]
    middle = [("median", ordered[(len(ordered) - 1) // 2])] if len(ordered) > 2 else []
    bad = [("third worst", ordered[-3]), ("second worst", ordered[-2])] if len(ordered) >= MANY else []
    return [("best", ordered[0]), *middle, *bad, ("worst", ordered[-1])]


def _typical(candidates: Sequence[Candidate], cost: Callable[[Candidate], float]) -> list[tuple[str, Candidate]]:
    """The median image of each level; without levels, up to four images spread evenly from best to worst."""
    levels = sorted_levels(item.image.level for item in candidates if item.image.level is not None)
    if levels:
        chosen = []
        for level in levels:
            ordered = _ordered([item for item in candidates if item.image.level == level], cost)
            chosen.append((level, ordered[(len(ordered) - 1) // 2]))
        return chosen
    ordered = _ordered(candidates, cost)
    places = sorted({round(place) for place in np.linspace(0, len(ordered) - 1, min(4, len(ordered)))})
    return [(f"rank {place + 1} of {len(ordered)}", ordered[place]) for place in places]


def _example(item: Candidate, role: str, methods: Sequence[str]) -> Example | None:
    """Read the images again and scale them down; None if they cannot be read any more."""
    try:
        real = item.image.read()
        fakes = {method: read_image(item.fakes[method]) for method in methods}
    except (ItemError, OSError):
        return None
    images: dict[str | None, NDArray[np.uint8]] = {None: real}
    images.update(fakes)
    pictures = {method: small(image) for method, image in images.items()}
    return Example(
        image=item.image.name,
        level=item.image.level,
        role=role,
        real=pictures[None],
        fakes={method: pictures[method] for method in methods},
        dab={method: small(dab_map(image)) for method, image in images.items()},
        errors=_errors(real, fakes, item.image.mpp),
        nuclei=_nuclei(images, item.image.mpp, pictures[None].shape[1] / real.shape[1]),
        he=_he(item.image),
        values={method: item.values[method] for method in methods},
    )


def _errors(
    real: NDArray[np.uint8], fakes: Mapping[str, NDArray[np.uint8]], mpp: float | None
) -> dict[str, NDArray[np.float32]]:
    """The local stain error by method; none where the um/px is not known or too coarse for it."""
    if mpp is None or mpp > COARSEST:
        return {}
    return {method: local_stain_error_map(ImagePair(real, fake, mpp)).total for method, fake in fakes.items()}


def _nuclei(
    images: Mapping[str | None, NDArray[np.uint8]], mpp: float | None, scale: float
) -> dict[str | None, NDArray[np.float64]]:
    """Centres of nuclei in the images, times ``scale``; none where nuclei of such um/px cannot be told."""
    if mpp is None or not NUCLEI_MPP[0] <= mpp <= NUCLEI_MPP[1]:
        return {}
    detector = ClassicalNuclei()
    return {method: detector(image, mpp) * scale for method, image in images.items()}


def _he(image: RealImage) -> NDArray[np.uint8] | None:
    """The H&E image scaled down; None where there is none or it cannot be read (the numbers do not depend on it)."""
    if image.read_he is None:
        return None
    try:
        return small(image.read_he())
    except (ItemError, OSError):
        return None


def small(image: NDArray[Values]) -> NDArray[Values]:
    """The image scaled down, by averaging, until its longer side is at most ``MAX_SIDE`` px; never enlarged."""
    height, width = image.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=image.dtype)
