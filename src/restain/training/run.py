"""From settings to a trained run folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, fields, is_dataclass, replace
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
    Sampling,
    dataset_fingerprint,
    knowledge_fingerprint,
    read_dataset,
    slides_of,
    without_bad_images,
)
from restain.stainers.base import STAINERS, build
from restain.training.batches import Batches, BatchOptions
from restain.training.loop import Trainer
from restain.training.options import Keep, TrainingOptions
from restain.training.validation import Validation

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
    folder, quality = batches.quality.apply(folder, batches.split)
    if quality is not None:
        console.print(f"Quality: {quality['dropped']} of {quality['of']} pairs of split {batches.split} are left out.")
    torch.manual_seed(training.seed)
    stainer = build(method, _completed(method, config, folder, batches.split))
    if "levels" in stainer.needs or batches.sampling is Sampling.balanced:
        _tell_of_levels(folder, batches.split)
    feed = Batches(folder if mpp is None else replace(folder, mpp=mpp), batches, training.seed, stainer.needs)
    feed.require_sides(stainer.multiple, stainer.smallest)
    validation = Validation(folder, batches, stainer) if training.keep is Keep.best_psnr else None
    if feed.mpp is None:
        console.print(
            "The dataset has no um/px: this run will stain patches, but no slide. Give --mpp if you know it.",
            soft_wrap=True,
        )
    info: dict[str, Any] = {
        "task": "stain",
        "method": method,
        "mpp": feed.mpp,
        "scale": feed.scale,
        "levels": list(folder.levels),
        "data": dataset_fingerprint(folder),
        "seed": training.seed,
    }
    if quality is not None:
        info["quality"] = quality
    info |= stainer.begin()
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
            Trainer(stainer, feed, training, run, fabric, validation).train()
    return run


def _completed(method: str, config: Any, folder: PairFolder, split: str) -> Any:
    """The config of a method with what only the dataset knows: settings ``levels``, ``images`` and ``slides``.

    ``levels`` are those of the whole dataset, ``images`` the pairs of the training split, ``slides`` those that these
    were cut from. What the dataset does not know stays as it is; the method says whether it needs it.

    Raises:
        RestainError: a setting names another number than the dataset has.
    """
    config = config if config is not None else STAINERS[method].info.config()
    records = folder.split(split)
    there = {"levels": len(folder.levels), "images": len(records), "slides": len(slides_of(records))}
    for name in sorted(there.keys() & {field.name for field in fields(config)}):
        asked, found = getattr(config, name), there[name]
        if asked is None and found:
            config = replace(config, **{name: found})
        elif asked and found and asked != found:
            which = f" ({', '.join(folder.levels)})" if name == "levels" else f" in split {split}"
            raise RestainError(
                f"{folder.root}: has {found} {name}{which}, --stainer.{name} says {asked}. Leave it out."
            )
    return config


def _tell_of_levels(folder: PairFolder, split: str) -> None:
    """On the console: levels that no pair shows, and how many pairs have none."""
    levels = [record.level for record in folder.split(split)]
    levels += [image.level for image in folder.lone if image.split == split and image.side == "he"]
    absent = [level for level in folder.levels if level not in levels]
    if absent and len(absent) < len(folder.levels):
        console.print(
            f"warning: split {split} has no example of level {', '.join(absent)}, of which nothing is learned. Give "
            "examples, or split the dataset anew.",
            markup=False,
            soft_wrap=True,
        )
    unknown = sum(level is None for level in levels)
    if 0 < unknown < len(levels):
        console.print(
            f"{unknown} of {len(levels)} pairs of split {split} have no level: the losses of levels pass over them.",
            markup=False,
            soft_wrap=True,
        )


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
