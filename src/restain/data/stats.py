"""Figures of a patch-pair dataset: how many pairs of which split, level, slide and patient, their sizes and colours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restain.data.reading import read_dataset
from restain.data.records import PairFolder, PairRecord, dataset_fingerprint
from restain.data.scan import ImageFacts, ScannedPair, scan


def dataset_stats(root: str | Path) -> dict[str, Any]:
    """Figures of the dataset in ``root``, as a JSON document; every image is decoded.

    Keys: ``root``, ``layout``, ``fingerprint``, ``pairs``, ``dropped``, ``lone`` (images without a partner), ``mpp``,
    ``levels``, ``splits`` (by split: pairs, pairs and slides by level, number of slides and patients), ``slides`` and
    ``patients`` (pairs by name), ``sizes`` (images by ``WxH``), ``he`` and ``ihc`` (images, mean and standard
    deviation of R, G, B, 0 to 255, over all pixels, smallest and largest image mean), ``ihc_by_level`` and
    ``he_by_level`` (mean R, G, B by level), ``bytes`` on disk, ``unreadable`` (file and reason).

    Raises:
        RestainError: the folder is no dataset.
    """
    folder = read_dataset(root)
    scanned = scan(folder, "reading pairs")
    he = [pair.he for pair in scanned if pair.he is not None]
    ihc = [pair.ihc for pair in scanned if pair.ihc is not None]
    files = {path for record in folder.records for path in (record.he, record.ihc)}
    return {
        "root": str(folder.root),
        "layout": folder.layout,
        "fingerprint": dataset_fingerprint(folder),
        "pairs": len(folder.records),
        "dropped": folder.dropped,
        "lone": len(folder.lone),
        "mpp": folder.mpp,
        "levels": list(folder.levels),
        "splits": {split: _split(folder, folder.split(split)) for split in folder.splits},
        "slides": _count([record.slide for record in folder.records]),
        "patients": _count([record.patient for record in folder.records]),
        "sizes": _count([f"{width}x{height}" for width, height in (image.size for image in he + ihc)]),
        "he": _colours(he),
        "ihc": _colours(ihc),
        "he_by_level": _by_level(folder, scanned, "he"),
        "ihc_by_level": _by_level(folder, scanned, "ihc"),
        "bytes": sum(path.stat().st_size for path in files | {image.path for image in folder.lone}),
        "unreadable": [{"file": str(path), "reason": reason} for pair in scanned for path, reason in pair.unreadable],
    }


def _split(folder: PairFolder, records: Sequence[PairRecord]) -> dict[str, Any]:
    levels = Counter(record.level for record in records)
    by_level = {level: levels[level] for level in folder.levels}
    if levels[None]:
        by_level["unknown"] = levels[None]
    slides: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record.slide is not None:
            slides[record.slide].append(record.level or "unknown")
    of_slides = Counter(Counter(levels_of).most_common(1)[0][0] for levels_of in slides.values())
    return {
        "pairs": len(records),
        "levels": by_level,
        "slide_levels": {level: of_slides[level] for level in [*folder.levels, "unknown"] if of_slides[level]},
        "slides": len({record.slide for record in records} - {None}),
        "patients": len({record.patient for record in records} - {None}),
    }


def _count(values: Sequence[str | None]) -> dict[str, int]:
    counts = Counter(value for value in values if value is not None)
    return dict(sorted(counts.items()))


def _colours(images: Sequence[ImageFacts]) -> dict[str, Any] | None:
    """Pooled over all pixels: an image weighs as much as it has pixels."""
    if not images:
        return None
    weights = np.array([image.size[0] * image.size[1] for image in images], np.float64)
    means = np.array([image.mean for image in images])
    squares = np.array([image.std for image in images]) ** 2 + means**2
    mean = np.average(means, axis=0, weights=weights)
    std = np.sqrt(np.maximum(np.average(squares, axis=0, weights=weights) - mean**2, 0))
    return {
        "images": len(images),
        "mean": _rounded(mean),
        "std": _rounded(std),
        "darkest": _rounded(means.min(axis=0)),
        "lightest": _rounded(means.max(axis=0)),
    }


def _by_level(folder: PairFolder, scanned: Sequence[ScannedPair], side: str) -> dict[str, list[float]]:
    table = {}
    for level in folder.levels:
        images = [getattr(pair, side) for pair in scanned if pair.record.level == level]
        if colours := _colours([image for image in images if image is not None]):
            table[level] = colours["mean"]
    return table


def _rounded(values: np.ndarray[Any, Any]) -> list[float]:
    return [round(float(value), 3) for value in values]
