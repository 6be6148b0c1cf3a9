"""``restain import METHOD CHECKPOINT``: an authors' checkpoint becomes a run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from restain.cli.by_method import call_by_method, require_method
from restain.cli.her2_crossval import settings
from restain.cli.named import gathered
from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.her2.base import MODELS
from restain.her2.importing import Origin, import_model
from restain.her2.labels import ClassSet
from restain.her2.recipes import load_recipe
from restain.stainers.base import STAINERS
from restain.training.batches import BatchOptions
from restain.training.importing import import_checkpoint
from restain.training.options import TrainingOptions
from restain.training.run import plain

USAGE = "METHOD CHECKPOINT --out RUN"


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


def slide_model(named: str) -> Callable[..., int]:
    """The command for slide model ``named``."""

    def import_slide_model(
        checkpoint: Path,
        out: Path,
        features: Path | None = None,
        encoder: str | None = None,
        mpp: float | None = None,
        tile_px: int | None = None,
        classes: str | None = None,
        config: str | None = None,
        set: list[str] = [],  # noqa: B006 (the parser copies it)
        json: bool = False,
    ) -> int:
        recipe = load_recipe(config or named, settings(set))
        require_method(recipe.method, named)
        origin = Origin(features, encoder, mpp, tile_px)
        run = import_model(recipe, checkpoint, out, origin, None if classes is None else ClassSet.parse(classes))
        console.print(f"Imported: {run.path}", markup=False, soft_wrap=True)
        if json:
            print_json({"run": str(run.path), **run.info})
        return 0

    import_slide_model.__doc__ = _SLIDE_MODEL.format(settings=_published(named))
    return import_slide_model


_SLIDE_MODEL = """Make a run of a checkpoint that the authors' code of this slide model wrote, for `her2 predict`.

    Settings for --set, with the published values: {settings}. Where the checkpoint has another architecture, the
    message says which settings fit. Nothing but tensors is read from it.

    Args:
        checkpoint: a state dict (.pt, .pth, .ckpt, .safetensors), or what a training saved around it.
        out: the run folder.
        features: features of one slide (.h5), made as those that the network was trained on: says encoder, um/px, tile.
        encoder: that made the features (morphometry, clip:FOLDER, run:RUN, or any name), where the .h5 does not say it.
        mpp: um/px at which the tiles were cut, where the .h5 does not say it.
        tile_px: side of a tile in px at that um/px, where the .h5 does not say it.
        classes: of the outputs, in their order; 0,1+,2+,3+ where there are four and nothing is given.
        config: a recipe (a YAML file, or the name of a shipped one); the published settings if not given.
        set: SETTING=VALUE; several after one --set.
        json: print the run's description as one JSON document.
    """


def _published(named: str) -> str:
    config = MODELS[named].info.config()
    return ", ".join(f"{one.name}={plain(getattr(config, one.name))}" for one in fields(config))


def run(argv: Sequence[str]) -> int:
    """The command.

    Raises:
        RestainError: a method of no kind; the nearest of both kinds are named.
    """
    stainers, models = ([entry.name for entry in registry] for registry in (STAINERS, MODELS))
    method = argv[0] if argv else ""
    if method in models:
        words = gathered(argv[1:], ["--set"])
        return call(slide_model(method), f"restain import {method}", words, positional=("checkpoint",))
    if method and not method.startswith("-") and method not in stainers:
        raise RestainError(f"There is no method {method!r}. {_nearest(method, stainers, models)}")
    code = call_by_method("import", USAGE, command, argv, positional=("checkpoint",))
    if not argv or method in ("-h", "--help"):
        print("\nslide models:\n" + "\n".join(f"  {entry.name:<20} {entry.info.paper}" for entry in MODELS))
    return code


def _nearest(method: str, stainers: Iterable[str], models: Iterable[str]) -> str:
    """The names that may be meant, of both kinds."""
    kinds = {"stainers": list(stainers), "slide models": list(models)}
    near = {kind: difflib.get_close_matches(method, names, n=3, cutoff=0.4) for kind, names in kinds.items()}
    found = [f"{', '.join(names)} ({kind})" for kind, names in near.items() if names]
    if found:
        return f"Did you mean {' or '.join(found)}?"
    return " ".join(f"Known {kind}: {', '.join(names)}." for kind, names in kinds.items())
