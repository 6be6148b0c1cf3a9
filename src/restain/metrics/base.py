"""What a metric is: a function of a pair of images, registered with all that a reader of its numbers must know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.registry import Registry
from restain.metrics.dab_map import dab_map


class Direction(Enum):
    """Which values of a metric are better."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    NEITHER = "describes, does not judge"


@dataclass(frozen=True)
class MetricInfo:
    """What is known about a metric.

    Attributes:
        title: its name for people.
        unit: unit of its values; empty for a pure number.
        direction: which values are better.
        range: smallest and largest value it can take (infinite where unbounded).
        version: raised whenever the same images would give another value; protocols name the version they mean.
        definition: one sentence, or two, that a report prints beside the numbers.
        decimals: digits after the point that are worth printing.
        infinite_means: what an infinite value says of a pair; empty where values are always finite.
        weights: file names of network weights it needs; without them it is not computed.
        warn_below: a mean below this is warned of; None where no value is.
        warning: what the warning says the images are.
    """

    title: str
    unit: str
    direction: Direction
    range: tuple[float, float]
    version: int
    definition: str
    decimals: int = 3
    infinite_means: str = ""
    weights: tuple[str, ...] = ()
    warn_below: float | None = None
    warning: str = ""


@dataclass(frozen=True)
class ImagePair:
    """A real image and the one generated for it. Maps that several metrics need are computed once.

    Attributes:
        real: uint8 RGB [H, W, 3].
        fake: uint8 RGB [H, W, 3], the same size.

    Raises:
        ItemError: not uint8 RGB, or the sizes differ.
    """

    real: NDArray[np.uint8]
    fake: NDArray[np.uint8]

    def __post_init__(self) -> None:
        for name, image in (("real", self.real), ("fake", self.fake)):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ItemError(f"the {name} image is {image.dtype} {image.shape}; metrics take uint8 RGB [H, W, 3].")
        if self.real.shape != self.fake.shape:
            raise ItemError(
                f"the sizes differ: real {self.real.shape[1]}x{self.real.shape[0]} px, "
                f"fake {self.fake.shape[1]}x{self.fake.shape[0]} px. Metrics never rescale; give images of one size."
            )

    @cached_property
    def dab_real(self) -> NDArray[np.float32]:
        """DAB of the real image, float32 [H, W] in HED units, see ``dab_map``."""
        return dab_map(self.real)

    @cached_property
    def dab_fake(self) -> NDArray[np.float32]:
        """DAB of the generated image, float32 [H, W] in HED units, see ``dab_map``."""
        return dab_map(self.fake)


PairMetric = Callable[[ImagePair], float]
"""A number for a pair of images; never NaN."""

MetricBuilder = Callable[[Path | None], PairMetric]
"""Makes a metric ready, given the folder that network weights lie in (None: no folder was given)."""

METRICS: Registry[MetricBuilder, MetricInfo] = Registry("metric", "restain.metrics")


class WeightsMissingError(ItemError):
    """A metric cannot be computed because the weights it needs are absent; it is never replaced by another one."""


def pair_metric(name: str, info: MetricInfo) -> Callable[[PairMetric], PairMetric]:
    """A decorator that registers a plain function of a pair, which needs no weights, as metric ``name``.

    A metric with weights registers its class instead, ``@METRICS.add(name, info)``: its constructor takes the folder of
    weights, its instances are called with a pair.
    """

    def decorate(function: PairMetric) -> PairMetric:
        METRICS.add(name, info)(lambda _folder: function)
        return function

    return decorate


def load_metric(name: str, weights: Path | None = None) -> PairMetric:
    """Metric ``name``, ready to be called.

    Args:
        name: as registered.
        weights: folder with network weights, for metrics that need some.

    Raises:
        RestainError: there is no such metric.
        WeightsMissingError: it needs weights that are not there; the message names the files.
    """
    entry = METRICS[name]
    missing = [file for file in entry.info.weights if weights is None or not (weights / file).is_file()]
    if missing:
        where = "give the folder that holds it" if weights is None else f"not in {weights}"
        raise WeightsMissingError(f"{name} is not computed: it wants {', '.join(missing)} ({where}).")
    return entry.item(weights)
