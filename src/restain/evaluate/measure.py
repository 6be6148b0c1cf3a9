"""Measure many pairs of images: streaming, several at a time, in bounded memory."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.evaluate.folders import RealImage, printable
from restain.evaluate.reference import DabHistogram, dab_histogram
from restain.metrics import ImagePair, PairMetric, SetMetric
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
        refused: metric to the reason why it takes no such image, by method.
        failures: those that could not.
        digest: SHA-256 of the real image's file; empty where it could not be read.
        dab: distribution of the real image's DAB; None where it could not be read.
        features: of the images, float32 [d], by metric of sets and by method (None: of the real image).
    """

    image: RealImage
    values: Mapping[str, Mapping[str, float]]
    failures: Sequence[Failure] = ()
    digest: str = ""
    dab: DabHistogram | None = None
    features: Mapping[str, Mapping[str | None, NDArray[np.float32]]] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A real image with the files generated for it, by method."""

    image: RealImage
    fakes: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """The metrics to compute, with all that they need.

    Attributes:
        pairs: those of a pair of images, by name.
        sets: those of sets of images, by name.
        he: names of those that look at the H&E.
        weights: SHA-256 of each file of weights in use, by its name.
    """

    pairs: Mapping[str, PairMetric]
    sets: Mapping[str, SetMetric] = field(default_factory=dict)
    he: frozenset[str] = frozenset()
    weights: Mapping[str, str] = field(default_factory=dict)


def measure(jobs: Sequence[Job], metrics: Ready) -> list[Measured]:
    """All ``metrics`` of all methods for some real images; what goes wrong with a file is in the results' failures.

    The images of all ``jobs`` are held at a time, so that networks see them as one batch.
    """
    held = [_pair_metrics(job, metrics) for job in jobs]
    flat = [(index, method, image) for index, (_, images) in enumerate(held) for method, image in images.items()]
    features: list[dict[str, dict[str | None, NDArray[np.float32]]]] = [{} for _ in jobs]
    for name, metric in metrics.sets.items():
        if not flat:
            break
        for (index, method, _), own in zip(flat, metric.features([image for *_, image in flat]), strict=True):
            features[index].setdefault(name, {})[method] = own
    return [replace(measured, features=own) for (measured, _), own in zip(held, features, strict=True)]


def _pair_metrics(job: Job, metrics: Ready) -> tuple[Measured, dict[str | None, NDArray[np.uint8]]]:
    """The metrics of pairs for one real image, and, where metrics of sets are wanted, its images (None: the real)."""
    try:
        real = job.image.read()
        digest = hashlib.sha256(job.image.path.read_bytes()).hexdigest()
    except (ItemError, OSError) as error:
        return Measured(job.image, {}, [Failure(job.image.name, None, printable(str(error)))]), {}
    values: dict[str, dict[str, float]] = {}
    refused: dict[str, dict[str, str]] = {}
    failures: list[Failure] = []
    images: dict[str | None, NDArray[np.uint8]] = {}
    real_dab = dab_map(real)
    he, without_he = _he(job.image, real.shape) if metrics.he else (None, "")
    for method, path in job.fakes.items():
        try:
            pair = ImagePair(real, read_image(path), job.image.mpp, he)
            pair.__dict__["dab_real"] = real_dab  # the same for every method
        except (ItemError, OSError) as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            failures.append(Failure(job.image.name, method, printable(reason)))
            continue
        possible = {name: metric for name, metric in metrics.pairs.items() if not (without_he and name in metrics.he)}
        values[method], refused[method] = _values(pair, possible, path)
        if without_he:
            refused[method] |= dict.fromkeys(metrics.he, without_he)
        images[method] = pair.fake
    kept = {None: real, **images} if metrics.sets and images else {}
    return Measured(job.image, values, failures, digest, dab_histogram(real_dab), refused=refused), kept


def _he(image: RealImage, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8] | None, str]:
    """The H&E of an image, or why it cannot be used; the other metrics do without it."""
    if image.read_he is None:
        return None, f"{image.name}: there is no H&E image."
    try:
        he = image.read_he()
    except (ItemError, OSError) as error:
        return None, printable(f"{image.name}: {error}")
    if he.shape != shape:
        sizes = f"H&E {he.shape[1]}x{he.shape[0]} px, real {shape[1]}x{shape[0]} px"
        return None, f"{image.name}: the sizes differ: {sizes}."
    return he, ""


def _values(pair: ImagePair, metrics: Mapping[str, PairMetric], path: Path) -> tuple[dict[str, float], dict[str, str]]:
    """The values of a pair, and why a metric does not take it (too small an image)."""
    values, refused = {}, {}
    for name, metric in metrics.items():
        try:
            values[name] = metric(pair)
        except ItemError as error:
            refused[name] = printable(f"{path}: {error}")
    return values, refused


def without_refused(measured: Sequence[Measured], he: Collection[str]) -> tuple[list[Measured], dict[str, str]]:
    """What can be averaged where metrics did not take some pairs.

    A metric that took no pair at all (MS-SSIM of small patches) is left out, and one that looks at the H&E where any
    H&E is missing; a pair that any other metric did not take is left out, and is a failure.

    Args:
        measured: the images.
        he: names of the metrics that look at the H&E.

    Returns:
        The images with what is left, and the reason for each metric that is left out.
    """
    pairs = [(item, method) for item in measured for method in item.values]
    names = {name for item, method in pairs for name in item.refused.get(method, {})}
    refusals = {name: [item.refused.get(method, {}).get(name) for item, method in pairs] for name in names}
    never = {name for name, reasons in refusals.items() if name in he or all(reasons)}
    reasons = {name: next(reason for reason in refusals[name] if reason) for name in sorted(never)}
    return [_kept(item, never) for item in measured], reasons


def _kept(item: Measured, never: Collection[str]) -> Measured:
    failures = list(item.failures)
    for method, refused in item.refused.items():
        failures += [Failure(item.image.name, method, why) for name, why in refused.items() if name not in never]
    failed = {failure.method for failure in failures}
    values = {
        method: {name: value for name, value in own.items() if name not in never}
        for method, own in item.values.items()
        if method not in failed
    }
    return replace(item, values=values, failures=failures)


def bounded_map(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """``function`` of every item, in order, ``workers`` at a time; at most twice as many wait, finished or not.

    Threads, not processes: decoding, NumPy and OpenCV let go of the interpreter lock, and nothing has to be copied.

    Raises:
        RestainError: fewer than one worker.
    """
    if workers < 1:
        raise RestainError(f"--workers {workers}: give how many images are looked at at a time, 1 or more.")
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
