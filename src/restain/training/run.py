"""From settings to a trained run folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from restain.core.errors import RestainError
from restain.core.files import remove_stale
from restain.core.items import lock
from restain.core.progress import console
from restain.core.runs import RunFolder, checked_mpp
from restain.data import (
    MAPS,
    PairFolder,
    dataset_fingerprint,
    knowledge_fingerprint,
    read_dataset,
    without_bad_images,
)
from restain.stainers.base import STAINERS, build
from restain.training.batches import Batches, BatchOptions
from restain.training.loop import Trainer
from restain.training.options import TrainingOptions

FREE = (
    "config.data",
    "config.batches.workers",
    "config.batches.cache_gib",
    "config.training.accelerator",
    "config.training.log_every",
    "config.training.checkpoint_every",
    "config.training.sample_every",
    "config.training.keep_every",
)
"""Settings that may differ when a run resumes: they change no weight (the data are known by their fingerprint)."""


def train(
    method: str,
    config: Any,
    data: Path,
    out: Path,
    batches: BatchOptions,
    training: TrainingOptions,
    mpp: float | None = None,
) -> RunFolder:
    """Train a stainer into a run folder, or resume the run that is there.

    Args:
        method: its registered name.
        config: its Config; None for the published settings.
        data: a patch-pair dataset.
        out: the run folder.
        batches: how pairs become batches.
        training: length, precision, devices, intervals.
        mpp: um/px of the dataset's images where it does not say it.

    Returns:
        The finished run.

    Raises:
        RestainError: unknown method, a dataset that lacks what the method needs, a run of other settings in ``out``.
        ItemError: a loss that is not finite, or a file that cannot be written.
        KeyboardInterrupt: asked to stop; a checkpoint was written.
    """
    fabric = training.fabric()
    fabric.launch()  # several devices: each process goes through all that follows
    console.quiet = not fabric.is_global_zero
    checked_mpp(mpp, "--mpp")
    folder = without_bad_images(read_dataset(data))
    if mpp is not None and folder.mpp is not None and abs(mpp / folder.mpp - 1) > 1e-3:
        raise RestainError(
            f"{data}: says {folder.mpp:g} um/px, --mpp says {mpp:g}. Leave --mpp out, or mend the dataset."
        )
    for problem in folder.problems:
        console.print(f"{problem.file}: {problem.message}", markup=False, soft_wrap=True)
    torch.manual_seed(training.seed)
    stainer = build(method, _with_levels(method, config, folder))
    feed = Batches(folder if mpp is None else replace(folder, mpp=mpp), batches, training.seed, stainer.needs)
    feed.require_sides(stainer.multiple, stainer.smallest)
    if feed.mpp is None:
        console.print(
            "The dataset has no um/px: this run will stain patches, but no slide. Give --mpp if you know it.",
            soft_wrap=True,
        )
    info = {
        "task": "stain",
        "method": method,
        "mpp": feed.mpp,
        "levels": list(folder.levels),
        "data": dataset_fingerprint(folder),
        "seed": training.seed,
    }
    if stainer.needs.intersection(MAPS):
        info["knowledge"] = knowledge_fingerprint(folder, batches.split)
    settings = {
        "method": method,
        "data": str(data.resolve()),
        "mpp": mpp,
        "stainer": plain(stainer.config),
        "batches": plain(batches),
        "training": plain(training),
    }
    run = RunFolder(out)
    if (out / "run.json").exists() and "imported" in run.info:
        raise RestainError(f"{out}: was imported. It stains, but no training goes on from it; choose another --out.")
    with lock(out / ".lock") if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            run.start(info, settings, free=FREE)
            remove_stale(out)
        fabric.barrier()
        if run.info.get("status") == "done":
            console.print(f"{out}: is trained already.")
        else:
            Trainer(stainer, feed, training, run, fabric).train()
    return run


def _with_levels(method: str, config: Any, folder: PairFolder) -> Any:
    """The config of a method that tells levels apart, with the number that the dataset has.

    Raises:
        RestainError: it names another number than the dataset has.
    """
    config = config if config is not None else STAINERS[method].info.config()
    asked, there = getattr(config, "levels", 0), len(folder.levels)
    if asked is None and there:
        return replace(config, levels=there)
    if asked and there and asked != there:
        raise RestainError(
            f"{folder.root}: has {there} levels ({', '.join(folder.levels)}), --stainer.levels says {asked}. Leave it "
            "out."
        )
    return config


def plain(value: Any) -> Any:
    """Dataclasses, enums and paths as what YAML holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Enum):
        return value.name  # what the command line and YAML take
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
