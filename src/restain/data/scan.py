"""Decode every image of a dataset once, with several threads, and keep what checks and figures are made from."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.progress import track
from restain.core.workers import cpu_threads
from restain.data.records import LoneImage, PairFolder, PairRecord
from restain.slides import read_image


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of a decoded image.

    Attributes:
        path: its file.
        size: (width, height) in px; of the half where two images lie side by side.
        mean: mean of R, G, B, 0 to 255.
        std: standard deviation of R, G, B.
        digest: hash of the pixels: equal for equal pictures, whatever the file's format.
    """

    path: Path
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    digest: str


@dataclass(frozen=True)
class ScannedPair:
    """A pair (or an image without a partner) and its images' facts; None where there is no such image.

    Attributes:
        record: the pair.
        he: facts of the H&E image.
        ihc: facts of the IHC image.
        unreadable: file and reason for each image that could not be decoded.
    """

    record: PairRecord | LoneImage
    he: ImageFacts | None
    ihc: ImageFacts | None
    unreadable: tuple[tuple[Path, str], ...]


def scan(folder: PairFolder, description: str) -> list[ScannedPair]:
    """Decode all images of ``folder``, those without a partner too, under a progress bar; none is kept in memory."""
    items = [*folder.records, *folder.lone]
    with ThreadPoolExecutor(cpu_threads()) as pool:
        return list(track(pool.map(_scan_one, items), description, len(items)))


def _scan_one(record: PairRecord | LoneImage) -> ScannedPair:
    if isinstance(record, LoneImage):
        facts, reasons = _facts(record.path)
        return ScannedPair(
            record,
            he=facts if record.side == "he" else None,
            ihc=facts if record.side == "ihc" else None,
            unreadable=reasons,
        )
    if record.side_by_side:
        try:
            image = read_image(record.he)
        except ItemError as error:
            return ScannedPair(record, None, None, ((record.he, _reason(record.he, error)),))
        middle = image.shape[1] // 2
        return ScannedPair(record, _measure(record.he, image[:, :middle]), _measure(record.he, image[:, middle:]), ())
    (he, he_reasons), (ihc, ihc_reasons) = _facts(record.he), _facts(record.ihc)
    return ScannedPair(record, he, ihc, he_reasons + ihc_reasons)


def _facts(path: Path) -> tuple[ImageFacts | None, tuple[tuple[Path, str], ...]]:
    try:
        return _measure(path, read_image(path)), ()
    except ItemError as error:
        return None, ((path, _reason(path, error)),)


def _measure(path: Path, image: NDArray[np.uint8]) -> ImageFacts:
    height, width = image.shape[:2]
    image = np.ascontiguousarray(image)
    mean, std = (np.asarray(values, np.float64).ravel() for values in cv2.meanStdDev(image))
    digest = hashlib.sha1(f"{width}x{height}".encode() + image.tobytes(), usedforsecurity=False).hexdigest()
    return ImageFacts(path, (width, height), _three(mean), _three(std), digest)


def _reason(path: Path, error: ItemError) -> str:
    """The error's message without the file that it begins with."""
    return str(error).removeprefix(f"{path}: ")


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
