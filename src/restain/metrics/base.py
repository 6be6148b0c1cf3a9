"""What a metric is: a function of a pair of images, or of two sets; registered with all that a reader must know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.registry import Registry
from restain.metrics.dab_map import dab_map
from restain.nn.weights import find_weights


class Direction(Enum):
    """Which values of a metric are better."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    NEITHER = "describes, does not judge"


class Scope(Enum):
    """What one value of a metric is of."""

    PAIR = "a pair of images"
    SET = "a set of images against another"


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
        weights: names of the files (or folders) of network weights it needs; without them it is not computed.
        warn_below: a mean below this is warned of; None where no value is.
        warning: what the warning says the images are.
        scope: whether it is of pairs (``PairMetric``) or of sets (``SetMetric``).
        needs_mpp: its lengths are in um; not computed for images whose um/px nobody says.
        needs_he: it looks at the H&E image too; not computed where there is none.
        fewest: a value of fewer images is given with a warning.
        of_fewer: what the warning says of it.
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
    scope: Scope = Scope.PAIR
    needs_mpp: bool = False
    needs_he: bool = False
    fewest: int = 1
    of_fewer: str = ""


@dataclass(frozen=True)
class ImagePair:
    """A real image and the one generated for it. Maps that several metrics need are computed once.

    Attributes:
        real: uint8 RGB [H, W, 3].
        fake: uint8 RGB [H, W, 3], the same size.
        mpp: um/px of both, None where unknown.
        he: the H&E image they belong to, uint8 RGB [H, W, 3] of the same size; None where there is none.

    Raises:
        ItemError: not uint8 RGB, or the sizes differ.
    """

    real: NDArray[np.uint8]
    fake: NDArray[np.uint8]
    mpp: float | None = None
    he: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        images = {"real": self.real, "fake": self.fake} | ({} if self.he is None else {"H&E": self.he})
        for name, image in images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ItemError(f"the {name} image is {image.dtype} {image.shape}; metrics take uint8 RGB [H, W, 3].")
        if len({image.shape for image in images.values()}) > 1:
            sizes = ", ".join(f"{name} {image.shape[1]}x{image.shape[0]} px" for name, image in images.items())
            raise ItemError(f"the sizes differ: {sizes}. Metrics never rescale; give images of one size.")

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


class SetMetric(Protocol):
    """A number for two sets of images, which are seen once and need not be held: features of each, then a distance."""

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [n, d] of n images, uint8 RGB [H, W, 3] of any sizes; called from several threads at a time."""

    def distance(self, real: NDArray[np.float32], fake: NDArray[np.float32]) -> float:
        """The value for features [n, d] and [m, d] of the real and the generated images; never NaN."""


WeightFiles = Mapping[str, Path]
"""Where each of a metric's ``weights`` lies, by its name."""

METRICS: Registry[Callable[[WeightFiles], Any], MetricInfo] = Registry("metric", "restain.metrics")
"""Each entry makes a metric ready, given its weights: a ``PairMetric`` or a ``SetMetric``, as its ``scope`` says."""


class WeightsMissingError(ItemError):
    """A metric cannot be computed because the weights it needs are absent; it is never replaced by another one."""


def pair_metric(name: str, info: MetricInfo) -> Callable[[PairMetric], PairMetric]:
    """A decorator that registers a plain function of a pair, which needs no weights, as metric ``name``.

    A metric with weights registers its class instead, ``@METRICS.add(name, info)``: its constructor takes where each
    file of weights lies (``WeightFiles``); its instances are a ``PairMetric`` or a ``SetMetric``.
    """

    def decorate(function: PairMetric) -> PairMetric:
        METRICS.add(name, info)(lambda _files: function)
        return function

    return decorate


def load_metric(name: str, weights: Path | None = None) -> PairMetric:
    """Metric ``name`` of pairs, ready to be called.

    Args:
        name: as registered.
        weights: folder with network weights, looked at before torch's download cache.

    Raises:
        RestainError: there is no such metric.
        WeightsMissingError: it needs weights that are in neither; the message names the files.
        ItemError: a file of weights is none of that network.
    """
    metric: PairMetric = _load(name, weights, Scope.PAIR)
    return metric


def load_set_metric(name: str, weights: Path | None = None) -> SetMetric:
    """Metric ``name`` of sets of images, ready to be used; otherwise as ``load_metric``."""
    metric: SetMetric = _load(name, weights, Scope.SET)
    return metric


def weight_files(name: str, weights: Path | None = None) -> dict[str, Path | None]:
    """Where the weights of metric ``name`` lie, by file name: in the folder ``weights``, else in torch's cache."""
    return {file: find_weights(file, weights) for file in METRICS[name].info.weights}


def _load(name: str, weights: Path | None, scope: Scope) -> Any:
    entry = METRICS[name]
    if entry.info.scope is not scope:
        raise ValueError(f"{name} is a metric of {entry.info.scope.value}")
    files = weight_files(name, weights)
    if missing := [file for file, path in files.items() if path is None]:
        where = "give the folder that holds it with --weights" if weights is None else f"not in {weights}"
        raise WeightsMissingError(f"{name} is not computed: it wants {', '.join(missing)} ({where}).")
    return entry.item({file: path for file, path in files.items() if path is not None})
