"""Make a protocol's metrics ready, or say what each of them wants."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from restain.core.errors import RestainError
from restain.evaluate.folders import RealImage
from restain.evaluate.measure import Ready
from restain.evaluate.protocol import Protocol
from restain.metrics import METRICS, MetricInfo, Scope, WeightsMissingError, load_metric, load_set_metric, weight_files


def ready_metrics(rules: Protocol, images: Collection[RealImage], weights: Path | None) -> tuple[Ready, dict[str, str]]:
    """The metrics of a protocol that can be computed for these images, and the reason for each that cannot.

    Args:
        rules: the protocol.
        images: the real images to be measured, with um/px and H&E where these are known.
        weights: folder of network weights.

    Raises:
        RestainError: there is no such folder.
        ItemError: a file of weights is none of the network that it is named after.
    """
    if weights is not None and not weights.is_dir():
        raise RestainError(f"{weights}: no such folder. --weights wants the folder that holds the files of weights.")
    pairs, sets, absent = {}, {}, {}
    he: set[str] = set()
    digests: dict[str, str] = {}
    for name in rules.metrics:
        info = METRICS[name].info
        if wanted := _wanted(info, images):
            absent[name] = f"{name} is not computed: it wants {wanted}."
            continue
        try:
            if info.scope is Scope.SET:
                sets[name] = load_set_metric(name, weights)
            else:
                pairs[name] = load_metric(name, weights)
        except WeightsMissingError as error:
            absent[name] = str(error)
        else:
            he |= {name} if info.needs_he else set()
            digests |= {file: _digest(path) for file, path in weight_files(name, weights).items() if path is not None}
    return Ready(pairs, sets, frozenset(he), digests), absent


def _digest(path: Path) -> str:
    """SHA-256 of a file, or over the files of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _wanted(info: MetricInfo, images: Collection[RealImage]) -> str:
    """What the images lack for a metric; empty where they lack nothing."""
    if info.needs_mpp and (without := [image.name for image in images if image.mpp is None]):
        return f"the um/px of the images, which {without[0]} lacks (--mpp, or the mpp column of a pairs.csv)"
    if info.needs_he and (without := [image.name for image in images if image.read_he is None]):
        return f"the H&E images, which {without[0]} lacks (--he)"
    return ""
