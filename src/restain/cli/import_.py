"""``restain import METHOD CHECKPOINT``: an authors' checkpoint becomes a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from restain.cli.by_method import call_by_method, require_method
from restain.cli.output import print_json
from restain.core.progress import console
from restain.stainers.base import STAINERS
from restain.training.batches import BatchOptions
from restain.training.importing import import_checkpoint
from restain.training.options import TrainingOptions


def command(named: str) -> Callable[..., int]:
    """The function whose signature is the configuration of method ``named``."""
    config = STAINERS[named].info.config

    def import_method(
        checkpoint: Path,
        out: Path,
        stainer: Any,
        batches: BatchOptions = BatchOptions(),  # noqa: B008 (frozen)
        training: TrainingOptions = TrainingOptions(),  # noqa: B008 (frozen)
        mpp: float | None = None,
        epoch: str | None = None,
        data: Path | None = None,  # noqa: ARG001
        method: str = named,
        json: bool = False,
    ) -> int:
        """Make a run of a checkpoint that the authors' code of this method wrote, for `restain stain`.

        Defaults are the published settings. Where the checkpoint has another architecture, the message says which
        settings fit. Nothing but tensors is read from it.

        Args:
            checkpoint: a state dict (.pth, .pt, .safetensors) named like latest_net_G.pth, a folder of these, or one
                file of several networks.
            out: the run folder.
            stainer: settings of the method.
            batches: kept in the run's config.yaml, no more.
            training: kept in the run's config.yaml, no more; the seed is that of networks that are not loaded.
            mpp: um/px of the images that the network was trained on (needed to stain slides later).
            epoch: which epoch of a folder that has several; latest where it is not given.
            data: not used; here because recipes may hold it.
            method: as named before; here because recipes hold it.
            json: print the run's description as one JSON document.
        """
        require_method(method, named)
        run = import_checkpoint(named, stainer, checkpoint, out, batches, training, mpp, epoch)
        console.print(f"Imported: {run.path}", markup=False, soft_wrap=True)
        if json:
            print_json({"run": str(run.path), **run.info})
        return 0

    import_method.__annotations__.update({"stainer": config})
    import_method.__defaults__ = (config(), BatchOptions(), TrainingOptions(), None, None, None, named, False)
    return import_method


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call_by_method("import", "METHOD CHECKPOINT --out RUN", command, argv, positional=("checkpoint",))
