"""``restain train METHOD``: train a stainer, or go on where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from restain.cli.by_method import call_by_method, require_method
from restain.cli.output import print_json
from restain.core.progress import console
from restain.stainers.base import STAINERS
from restain.training.batches import BatchOptions
from restain.training.options import TrainingOptions
from restain.training.run import train


def command(named: str) -> Callable[..., int]:
    """The function whose signature is the configuration of method ``named``."""
    config = STAINERS[named].info.config

    def train_method(
        data: Path,
        out: Path,
        stainer: Any,
        batches: BatchOptions = BatchOptions(),  # noqa: B008 (frozen)
        training: TrainingOptions = TrainingOptions(),  # noqa: B008 (frozen)
        mpp: float | None = None,
        method: str = named,
        json: bool = False,
    ) -> int:
        """Train this method on a patch-pair dataset, or go on where an interrupted training stopped.

        Defaults are the published settings; --config takes another recipe, and single options win over both.

        Args:
            data: the dataset's folder, in any of the layouts that restain reads.
            out: the run folder; one of the same settings is resumed.
            stainer: settings of the method.
            batches: how pairs become batches.
            training: length, precision, devices, intervals.
            mpp: um/px of the images, for datasets that do not say it (needed to stain slides later).
            method: as named before; here because a run's config.yaml holds it.
            json: print the run's description as one JSON document.
        """
        require_method(method, named)
        run = train(method, stainer, data, out, batches, training, mpp)
        console.print(f"Trained: {run.path}")
        if json:
            print_json({"run": str(run.path), **run.info})
        return 0

    train_method.__annotations__.update(
        {"stainer": config, "data": Path, "out": Path, "batches": BatchOptions, "training": TrainingOptions}
    )
    train_method.__kwdefaults__ = None
    train_method.__defaults__ = (config(), BatchOptions(), TrainingOptions(), None, named, False)
    return train_method


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call_by_method("train", "METHOD --data DIR --out RUN", command, argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
