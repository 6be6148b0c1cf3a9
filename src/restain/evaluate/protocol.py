"""Evaluation protocols: frozen, versioned, hashed. Numbers of different protocols are never mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from restain.core.errors import RestainError
from restain.core.items import fingerprint
from restain.metrics import METRICS, Scope

DEFAULT_PROTOCOL = "bci-3"
"""Of protocols that are released the newest; the others stay, so that old numbers can be made again."""


@dataclass(frozen=True)
class Interval:
    """How the intervals of the means are made.

    Attributes:
        confidence: share of resampled means that lies inside, between 0 and 1.
        resamples: number of bootstrap samples.
        seed: of the resampling.
    """

    confidence: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Protocol:
    """What is measured and how it is summed up.

    Attributes:
        name: the protocol's name.
        version: its version.
        hash: of all that the protocol's file says, comments apart.
        metrics: names of the metrics, in the order of the columns, with the version of each one's definition.
        interval: how intervals are made.
        pictures_by: the metric that orders the images for the pictures.
        mpp: um/px that images are taken to have where neither they nor the user say; None: none, and metrics whose
            lengths are in um are not computed for them.
    """

    name: str
    version: int
    hash: str
    metrics: Mapping[str, int]
    interval: Interval
    pictures_by: str
    mpp: float | None = None


def load_protocol(protocol: str | Path) -> Protocol:
    """The protocol of that name, or in that YAML file.

    Raises:
        RestainError: no such protocol (those that exist are named), the file is not a protocol, or it wants a version
            of a metric that this restain does not have.
    """
    folder = resources.files("restain") / "configs" / "protocols"
    if Path(protocol).suffix in {".yaml", ".yml"}:
        source, text = str(protocol), _read(Path(protocol))
    else:
        known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
        if str(protocol) not in known:
            raise RestainError(
                f"There is no protocol {str(protocol)!r}. Known: {', '.join(known)}; or give a YAML file."
            )
        source, text = f"protocol {protocol}", (folder / f"{protocol}.yaml").read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text)
        built = _build(document)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise RestainError(f"{source}: not a protocol ({error!r}). Start from a copy of bci.yaml.") from error
    for name, version in built.metrics.items():
        ours = METRICS[name].info.version
        if ours != version:
            raise RestainError(
                f"{source}: wants version {version} of {name}, this restain computes version {ours}. Install the "
                "restain that the protocol was written for, or write a new version of the protocol."
            )
    return built


def _build(document: Mapping[str, Any]) -> Protocol:
    expected = {"name", "version", "metrics", "mean_over", "interval", "pictures_by"}
    if set(document) - {"mpp"} != expected:
        raise ValueError(f"its keys are {sorted(document)}, should be {sorted(expected)}")
    metrics = {str(name): int(version) for name, version in document["metrics"].items()}
    if document["mean_over"] != "images":
        raise ValueError(f"mean_over is {document['mean_over']!r}, only 'images' is known")
    if document["pictures_by"] not in metrics:
        raise ValueError(f"pictures_by {document['pictures_by']!r} is none of its metrics")
    if METRICS[document["pictures_by"]].info.scope is Scope.SET:
        raise ValueError(f"pictures_by {document['pictures_by']!r} has no value for a single image")
    mpp = None if document.get("mpp") is None else float(document["mpp"])
    if mpp is not None and not mpp > 0:
        raise ValueError(f"mpp is {mpp}, should be um/px above 0")
    interval = Interval(**document["interval"])
    if not (0 < interval.confidence < 1 and interval.resamples >= 1):
        raise ValueError(f"{interval} makes no interval")
    return Protocol(
        name=str(document["name"]),
        version=int(document["version"]),
        hash=fingerprint(document),
        metrics=metrics,
        interval=interval,
        pictures_by=str(document["pictures_by"]),
        mpp=mpp,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RestainError(f"{path}: the protocol cannot be read ({error}).") from error
