"""Measure many pairs of images: streaming, several at a time, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.evaluate.folders import RealImage, printable
from restain.evaluate.reference import DabHistogram, dab_histogram
from restain.metrics import ImagePair, PairMetric
from restain.metrics.dab_map import dab_map
from restain.slides import read_image

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """An image that could not be measured.

    Attributes:
        image: its name.
        method: the method whose image is concerned; None where the real image is.
        reason: what is wrong, with the file, and what to do.
    """

    image: str
    method: str | None
    reason: str


@dataclass(frozen=True)
class Measured:
    """What one real image and all images generated for it gave.

    Attributes:
        image: the real image.
        values: metric to value, by method; only methods whose image could be measured.
        failures: those that could not.
        digest: SHA-256 of the real image's file; empty where it could not be read.
        dab: distribution of the real image's DAB; None where it could not be read.
    """

    image: RealImage
    values: Mapping[str, Mapping[str, float]]
    failures: Sequence[Failure] = ()
    digest: str = ""
    dab: DabHistogram | None = None


@dataclass(frozen=True)
class Job:
    """A real image with the files generated for it, by method."""

    image: RealImage
    fakes: Mapping[str, Path] = field(default_factory=dict)


def measure(job: Job, metrics: Mapping[str, PairMetric]) -> Measured:
    """All ``metrics`` of all methods for one real image; what goes wrong with a file is in the result's failures."""
    try:
        real = job.image.read()
        digest = hashlib.sha256(job.image.path.read_bytes()).hexdigest()
    except (ItemError, OSError) as error:
        return Measured(job.image, {}, [Failure(job.image.name, None, printable(str(error)))])
    values: dict[str, dict[str, float]] = {}
    failures: list[Failure] = []
    real_dab = dab_map(real)
    for method, path in job.fakes.items():
        try:
            pair = _pair(real, real_dab, path)
            values[method] = {name: metric(pair) for name, metric in metrics.items()}
        except (ItemError, OSError) as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            failures.append(Failure(job.image.name, method, printable(reason)))
    return Measured(job.image, values, failures, digest, dab_histogram(real_dab))


def _pair(real: NDArray[np.uint8], real_dab: NDArray[np.float32], path: Path) -> ImagePair:
    """The pair with the generated image in ``path``; the real image's DAB, the same for every method, is handed on."""
    pair = ImagePair(real, read_image(path))
    pair.__dict__["dab_real"] = real_dab
    return pair


def bounded_map(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """``function`` of every item, in order, ``workers`` at a time; at most twice as many wait, finished or not.

    Threads, not processes: decoding, NumPy and OpenCV let go of the interpreter lock, and nothing has to be copied.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
