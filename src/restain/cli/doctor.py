"""``restain doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.runs import versions
from restain.metrics import METRICS, weight_files
from restain.nn.backbones import VGG19_FILE
from restain.nn.resnet import RESNET18_FILE
from restain.nn.weights import cached_weights
from restain.stainers.base import STAINERS
from restain.web.app import STATIC


def examine(weights: Path | None = None) -> list[dict[str, Any]]:
    """One row a check: ``check``, ``ok`` (None where it is only for information), ``finding``.

    Args:
        weights: folder with network weights, looked at before torch's cache.
    """
    rows: list[dict[str, Any]] = [
        {"check": name, "ok": version != "(absent)", "finding": version} for name, version in versions().items()
    ]
    for name, what in (
        ("openslide-python", "slides of scanners, DICOM"),
        ("openslide-bin", "OpenSlide itself"),
        ("tifffile", "OME-TIFF"),
        ("imagecodecs", "JPEG tiles in TIFF"),
        ("lightning-fabric", "training"),
        ("fastapi", "restain serve"),
    ):
        try:
            rows.append({"check": name, "ok": True, "finding": f"{metadata.version(name)} ({what})"})
        except metadata.PackageNotFoundError:
            rows.append({"check": name, "ok": False, "finding": f"missing ({what}): pip install {name}"})
    rows.append({"check": "cores", "ok": None, "finding": str(len(os.sched_getaffinity(0)))})
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(number)
            finding = f"{device.name}, {device.total_memory / 2**30:.0f} GiB"
            rows.append({"check": f"cuda:{number}", "ok": True, "finding": finding})
    else:
        rows.append({"check": "cuda", "ok": None, "finding": "none: training runs on the CPU, slowly"})
    rows.append({"check": "mps", "ok": None, "finding": "yes" if torch.backends.mps.is_available() else "none"})
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    rows.append({"check": "free disk here", "ok": free > 5, "finding": f"{free:.0f} GiB"})
    rows.append({"check": "stainers", "ok": True, "finding": ", ".join(entry.name for entry in STAINERS)})
    pages = (
        "built" if (STATIC / "index.html").is_file() else "not built: install Node.js 20.19 or later, run `make web`"
    )
    rows.append({"check": "pages of restain serve", "ok": None, "finding": pages})
    for network, file, without in (
        ("VGG19", VGG19_FILE, "pix2pixhd's VGG term is left out"),
        ("ResNet-18", RESNET18_FILE, "wavelet_pix2pix's encoder begins at random"),
    ):
        there = cached_weights(file)
        finding = str(there) if there else f"none ({file} in torch's cache): {without}"
        rows.append({"check": f"weights of {network}", "ok": None, "finding": finding})
    rows += [_weights_of(metric.name, weights) for metric in METRICS if metric.info.weights]
    return rows


def _weights_of(metric: str, folder: Path | None) -> dict[str, Any]:
    """The row of a metric that needs weights: where each file lies, or that it wants it."""
    found = weight_files(metric, folder)
    missing = [file for file, path in found.items() if path is None]
    finding = ", ".join(str(path) for path in found.values() if path is not None)
    if missing:
        wants = (
            f"{metric} is not computed: it wants {', '.join(missing)} in torch's cache or in evaluate's --weights DIR"
        )
        finding = f"{wants} (has {finding})" if finding else wants
    return {"check": f"weights of {metric}", "ok": None, "finding": finding}


def doctor(weights: Path | None = None, json: bool = False) -> int:
    """Check the environment: libraries, devices, disk, methods, weights. Exit code 1 where something is missing.

    Args:
        weights: folder with network weights for metrics, looked at before torch's download cache.
        json: print one JSON document.
    """
    rows = examine(weights)
    if json:
        print_json({"python": sys.executable, "checks": rows})
    else:
        marks = {True: "ok", False: "MISSING", None: ""}
        print_table(
            "restain doctor", ["check", "", "finding"], [[r["check"], marks[r["ok"]], r["finding"]] for r in rows]
        )
    return 1 if any(row["ok"] is False for row in rows) else 0


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(doctor, "restain doctor", argv)
