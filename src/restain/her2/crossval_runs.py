"""The trainings of a cross-validation: side by side on a CPU, each taken from its folder where it was done before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import torch

from restain.core.errors import ItemError, RestainError
from restain.core.pool import in_processes
from restain.core.runs import RunFolder
from restain.core.workers import cpu_threads
from restain.her2.base import MODELS
from restain.her2.crossval_scores import Training
from restain.her2.pretrained import Pretrained
from restain.her2.recipes import Recipe
from restain.her2.slide_set import GIB, SlideSet
from restain.her2.splits import Plan
from restain.her2.train_run import FREE, PREDICTIONS, describe, matrix, read_predictions, train_status


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        recipe: the model, with the training's seed.
        fold: number, from 0.
        folder: its run.
    """

    recipe: Recipe
    fold: int
    folder: Path


@dataclass(frozen=True)
class Common:
    """What all trainings share.

    Attributes:
        data: the patients.
        plan: who trains, validates and tests.
        paths: of cohort and features, for the runs' ``config.yaml``.
        init: pretrained weights for models that start from an encoder.
    """

    data: SlideSet
    plan: Plan
    paths: Mapping[str, str | None]
    init: Pretrained | None


def do_trainings(jobs: Sequence[Job], common: Common, workers: int | None) -> list[Training | RestainError]:
    """Do the trainings, in the order of the jobs; one that failed gives its error.

    Raises:
        RestainError: a folder holds a training of other settings.
        ItemError: a worker was killed.
    """
    for job in jobs:
        run = RunFolder(job.folder)
        if (job.folder / "run.json").exists():
            run.require_same(
                *describe(job.recipe, common.data, _split(job, common), common.paths, _init(job, common)), FREE
            )
    unfinished = [job for job in jobs if not _finished(job.folder)]
    workers = workers or _workers(common.data)
    if workers == 1 or len(unfinished) < 2:
        return [_training(job, common) for job in jobs]
    try:
        return in_processes(_in_worker, [(job,) for job in jobs], workers, "trainings", _begin_worker, (common,))
    except BrokenProcessPool as error:
        raise ItemError("A worker was killed, perhaps for want of memory. Run again, with --workers 1.") from error


def _workers(data: SlideSet) -> int:
    """Trainings at a time where the user does not say: each has its own copy of the features."""
    size = sum(path.stat().st_size for one in data.patients.values() for path in (*one.he, *one.ihc))
    return 1 if torch.cuda.is_available() or size > GIB else cpu_threads()


_COMMON: list[Common] = []
"""In a worker: what its trainings share, sent once."""


def _begin_worker(common: Common) -> None:
    torch.set_num_threads(1)
    _COMMON.append(common)


def _in_worker(job: Job) -> Training | RestainError:
    return _training(job, _COMMON[0])


def _training(job: Job, common: Common) -> Training | RestainError:
    """One fold of one model, trained or taken from its folder; or why it failed."""
    try:
        return _trained(job, common)
    except RestainError as error:
        return error


def _trained(job: Job, common: Common) -> Training:
    data, folder, split = common.data, job.folder, _split(job, common)
    begun = (folder / "run.json").exists()
    began = time.monotonic()
    run = train_status(job.recipe, data, split, folder, common.paths, _init(job, common))
    if not begun:  # of one that went on, nobody knows how long it took before
        run.set_status(seconds=round(time.monotonic() - began, 2))
    rows = read_predictions(run.path / PREDICTIONS, data.classes)
    by_split = {part: {row.patient: row for row in rows if row.split == part} for part in ("val", "test")}
    lacking = [name for part, found in by_split.items() for name in split[part] if name not in found]
    if lacking:
        raise ItemError(
            f"{run.path / PREDICTIONS}: lacks {len(lacking)} patients ({', '.join(lacking[:5])}). Delete the run's "
            "folder; it is trained again."
        )
    val, val_labels = matrix([by_split["val"][name] for name in split["val"]])
    test, _ = matrix([by_split["test"][name] for name in split["test"]])
    info = run.info
    return Training(
        fold=job.fold + 1,
        seed=job.recipe.training.seed,
        test=test,
        val=val,
        val_labels=val_labels,
        best_epoch=int(info["best_epoch"]),
        epochs=int(info["epochs"]),
        temperature=float(info["temperature"]),
        seconds=info.get("seconds"),
    )


def _split(job: Job, common: Common) -> dict[str, tuple[str, ...]]:
    plan = common.plan
    return {"train": plan.training(job.fold), "val": plan.folds[job.fold], "test": plan.test}


def _init(job: Job, common: Common) -> Pretrained | None:
    return common.init if MODELS[job.recipe.method].item.starts_from_encoder else None


def _finished(folder: Path) -> bool:
    return (folder / "run.json").exists() and RunFolder(folder).info.get("status") == "done"
