"""From an authors' checkpoint to a run that stains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from restain.core.errors import RestainError
from restain.core.files import remove_stale
from restain.core.items import lock
from restain.core.progress import console
from restain.core.runs import RunFolder, checked_mpp
from restain.nn.norms import COUNTER
from restain.stainers.base import Stainer, build
from restain.training.architecture import (
    Mismatch,
    Shapes,
    fitting,
    mismatches,
    nearest_methods,
    shapes_of,
    wanted,
)
from restain.training.batches import BatchOptions
from restain.training.checkpoint import save_state
from restain.training.loop import FINAL
from restain.training.options import TrainingOptions
from restain.training.released import Released, read_released
from restain.training.run import plain

_SHOWN = 5
"""Mismatches that a message names."""


def import_checkpoint(
    method: str,
    config: Any,
    checkpoint: Path,
    out: Path,
    batches: BatchOptions,
    training: TrainingOptions,
    mpp: float | None = None,
    epoch: str | None = None,
) -> RunFolder:
    """Make a run of an authors' checkpoint.

    Networks that the checkpoint does not hold, or that fit with no settings, keep their initial weights, unless it is
    the one that stains. Nothing is written before everything fits.

    Args:
        method: its registered name.
        config: its Config; None for the published settings.
        checkpoint: see ``restain.training.released.read_released``.
        out: the run folder; the same import again changes nothing.
        batches: kept in the run's config.yaml, as a recipe has them.
        training: the same; its seed is that of the initial weights.
        mpp: um/px of the images that the network was trained on; without it the run stains patches, but no slide.
        epoch: of which epoch, where a folder has several.

    Returns:
        The run.

    Raises:
        RestainError: unknown method, another architecture (with the settings that would fit), a run of other settings
            in ``out``.
        ItemError: a file that cannot be read safely.
    """
    checked_mpp(mpp, "--mpp")
    torch.manual_seed(training.seed)
    stainer = build(method, config)
    networks = [name for name, _ in stainer.named_children()]
    released = read_released(checkpoint, networks, stainer.stains, epoch)
    loaded = _fitting_networks(method, stainer, released, checkpoint)
    info = {
        "task": "stain",
        "method": method,
        "mpp": mpp,
        "levels": [],
        "data": None,
        "seed": training.seed,
        "imported": released.files,
        "networks": loaded,
    }
    settings = {
        "method": method,
        "data": None,
        "mpp": mpp,
        "stainer": plain(stainer.config),
        "batches": plain(batches),
        "training": plain(training),
    }
    weights = _weights(stainer, released, loaded)
    run = RunFolder(out)
    with lock(out / ".lock"):
        begun = run.start(info, settings)
        remove_stale(out)
        if begun and run.info.get("status") == "done" and (run.checkpoints / FINAL).is_file():
            console.print(f"{out}: is imported already.", markup=False, soft_wrap=True)
            return run
        save_state(run.checkpoints / FINAL, {"weights": weights})
        run.set_status(status="done")
    _tell(released, loaded, networks, mpp)
    return run


def _weights(stainer: Stainer, released: Released, loaded: Iterable[str]) -> dict[str, torch.Tensor]:
    """The stainer's state, with the tensors of the networks in ``loaded`` from the checkpoint."""
    theirs = {f"{name}.{key}": tensor for name in loaded for key, tensor in released.networks[name].items()}
    ours = stainer.state_dict()
    taken = {key: theirs[name] for key, name in stainer.reference_keys().items() if name in theirs}
    # A counter of old checkpoints may have another shape; it moves nothing.
    usable = {key: value for key, value in taken.items() if value.shape == ours[key].shape}
    stainer.load_state_dict(ours | usable)
    return stainer.state_dict()


def _fitting_networks(method: str, stainer: Stainer, released: Released, checkpoint: Path) -> list[str]:
    """The networks of the checkpoint that can be loaded.

    Raises:
        RestainError: the one that stains does not fit, or others would with other settings.
    """
    theirs = {
        f"{name}.{key}": tuple(tensor.shape) for name, held in released.networks.items() for key, tensor in held.items()
    }
    differ = mismatches(theirs, wanted(stainer, released.networks))
    wrong = {one.network for one in differ}
    fine = [name for name in released.networks if name not in wrong]
    if not wrong:
        return fine
    with console.status("looking for settings that fit"):
        best = fitting(method, stainer.config, theirs)
    left = {one.network for one in _differ(method, best, theirs)}
    if stainer.stains in left or not wrong <= left:
        raise RestainError(_message(method, stainer, checkpoint, theirs, differ, best, left))
    for name in sorted(wrong):
        console.print(
            f"{name}: fits with no settings of {method} and was left out. {_listed(differ, name)}",
            markup=False,
            soft_wrap=True,
        )
    return fine


def _differ(method: str, config: Any, theirs: Shapes) -> list[Mismatch]:
    """Where the checkpoint and the networks of ``config`` differ, in the networks that it holds."""
    ours = shapes_of(method, config) or {}
    given = {key.split(".", 1)[0] for key in theirs}
    return mismatches(theirs, {key: shape for key, shape in ours.items() if key.split(".", 1)[0] in given})


def _message(
    method: str, stainer: Stainer, checkpoint: Path, theirs: Shapes, differ: list[Mismatch], best: Any, left: set[str]
) -> str:
    """What does not fit, and which settings or which other method would."""
    lines = [f"{checkpoint}: does not fit {method} as it is set."]
    lines += [_listed(differ, name) for name in dict.fromkeys(one.network for one in differ)]
    options = _options(stainer.config, best)
    staining = {key.split(".", 1)[1]: shape for key, shape in theirs.items() if key.split(".", 1)[0] == stainer.stains}
    others = nearest_methods(staining, method)
    same = [name for name, count in others if not count]
    if stainer.stains not in left:
        lines.append(f"These settings fit; add:\n  {options}")
        lines += [f"{name} would still not fit, and be left out." for name in sorted(left)]
    else:
        lines.append(f"No settings of {method} fit.")
        count = sum(one.network == stainer.stains for one in differ)
        if not same and others and others[0][1] < min(count, len(staining)):
            lines.append(f"Nearest is {others[0][0]} as published, where {others[0][1]} tensors differ.")
        lines.append("Is it a checkpoint of another method, or of changed code?")
    if same and any(one.network == stainer.stains for one in differ):
        lines.append(f"It fits {', '.join(same)} as published: `restain import {same[0]}`, if it is one of that.")
    return "\n".join(lines)


def _listed(differ: list[Mismatch], network: str) -> str:
    """The first mismatches of a network, and how many there are."""
    mine = [one for one in differ if one.network == network]
    count = f"{len(mine)} tensors differ" if len(mine) > 1 else "1 tensor differs"
    more = [f"  and {len(mine) - _SHOWN} more"] if len(mine) > _SHOWN else []
    return "\n".join([f"{network}: {count}:", *(f"  {one}" for one in mine[:_SHOWN]), *more])


def _options(before: Any, after: Any) -> str:
    """The settings in which ``after`` differs, as the command line takes them."""
    changed = [field.name for field in fields(after) if getattr(before, field.name) != getattr(after, field.name)]
    return " ".join(f"--stainer.{name} {_word(getattr(after, name))}" for name in changed)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(plain(value))


def _tell(released: Released, loaded: list[str], networks: list[str], mpp: float | None) -> None:
    """On the console: what was loaded and what was not."""
    console.print(f"Read {', '.join(released.files)}.", markup=False, soft_wrap=True)
    for name in loaded:
        count = sum(key.rsplit(".", 1)[-1] != COUNTER for key in released.networks[name])
        console.print(f"{name}: loaded, {count} tensors.", markup=False)
    fresh = [name for name in networks if name not in loaded]
    if fresh:
        console.print(f"{', '.join(fresh)}: not loaded; staining does not need them.", markup=False)
    if released.others:
        console.print(f"{', '.join(released.others)}: no network of this method as it is set; left out.", markup=False)
    if mpp is None:
        console.print(
            "No um/px was given: this run will stain patches, but no slide. Give --mpp if you know it.", soft_wrap=True
        )
