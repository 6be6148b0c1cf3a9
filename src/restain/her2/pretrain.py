"""Pretrain PAMA's encoder without labels: hide tiles, reconstruct their features (Wu 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from restain.core.errors import RestainError
from restain.core.files import atomic_path, remove_stale, write_csv
from restain.core.items import lock
from restain.core.runs import RunFolder
from restain.her2.bag import Bag
from restain.her2.models.pama_pretraining import Config, MaskedAutoencoder
from restain.her2.optimisers import Updater
from restain.her2.slide_set import SlideSet, drawn
from restain.her2.standard import Standard
from restain.her2.train_options import Updates
from restain.nn.devices import Precision, make_fabric
from restain.training.checkpoint import load_state, save_state
from restain.training.run import plain

ENCODER, STATE = "encoder.safetensors", "last.safetensors"


@dataclass(frozen=True)
class PretrainEpoch:
    """An epoch: mean squared errors of hidden tiles, in squared deviations of the training tiles.

    Attributes:
        epoch: number, from 1.
        loss: on the training patients.
        held_out: on the held-out patients.
        mean_feature: what the mean of the training tiles would err by on the same hidden tiles.
    """

    epoch: int
    loss: float
    held_out: float
    mean_feature: float


def pretrain(
    data: SlideSet,
    train: Sequence[str],
    val: Sequence[str],
    config: Config,
    options: Updates,
    out: Path,
    done: Callable[[PretrainEpoch], None] = lambda _: None,
) -> RunFolder:
    """Pretrain into a run folder, or go on there; the epoch with the smallest held-out error is kept.

    Args:
        data: the patients; labels are not looked at.
        train: who is learned from.
        val: who is held out.
        config: of the autoencoder.
        options: epochs, batch, rate, tiles, seed.
        out: run folder; ``checkpoints/encoder.safetensors`` is what ``--init`` takes.
        done: called after each epoch.

    Raises:
        RestainError: a run of other settings in ``out``, or a training that diverged.
    """
    run = RunFolder(out)
    info = {
        "task": "her2-pretraining",
        "method": "pama",
        "mpp": data.kind.mpp,
        "features": data.kind.document(),
        "data": data.fingerprint([*train, *val], ihc=False),
        "split": {"train": list(train), "val": list(val)},
        "seed": options.seed,
    }
    with lock(out / ".lock"):
        run.start(info, {"model": plain(config), "training": plain(options)}, free=("config.training.accelerator",))
        remove_stale(out)
        if run.info["status"] != "done":
            _pretrain(run, data, train, val, config, options, done)
    return run


def _pretrain(
    run: RunFolder,
    data: SlideSet,
    train: Sequence[str],
    val: Sequence[str],
    config: Config,
    options: Updates,
    done: Callable[[PretrainEpoch], None],
) -> None:
    device = make_fabric(options.accelerator, Precision.full).device
    standard = Standard.over(replace(data.bag(name), ihc=None) for name in train)
    bags = {name: standard.apply(replace(data.bag(name), ihc=None, label=None)) for name in (*train, *val)}
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        network = MaskedAutoencoder(config, data.kind.width).to(device)
        updater = Updater(network.parameters(), options)
        epochs: list[PretrainEpoch] = []
        best: dict[str, Any] = {}
        file = run.checkpoints / STATE
        if file.exists():
            state = load_state(file)
            network.load_state_dict(state["network"])
            updater.load(state["updater"])
            epochs, best = [PretrainEpoch(**one) for one in state["epochs"]], state["best"]
        for number in range(len(epochs) + 1, options.epochs + 1):
            rng = np.random.default_rng([options.seed, number])
            torch.manual_seed(int(rng.integers(2**62)))
            updater.begin_epoch(number)
            loss = _pass(network, updater, [bags[name] for name in train], options, rng, device)
            held_out, mean_feature = reconstruction_error(network, [bags[name] for name in val], options.seed, device)
            if not math.isfinite(loss + held_out):
                raise RestainError(f"The pretraining diverged in epoch {number}; give a smaller --training.rate.")
            found = PretrainEpoch(number, loss, held_out, mean_feature)
            if not epochs or held_out < min(one.held_out for one in epochs):
                best = {key: value.detach().cpu().clone() for key, value in network.encoder_state().items()}
            epochs.append(found)
            updater.end_epoch(held_out)
            done(found)
            if number % options.checkpoint_every == 0:
                state = {"network": network.state_dict(), "updater": updater.state(), "best": best}
                save_state(file, {**state, "epochs": [vars(one) for one in epochs]})
    write_csv(run.metrics, tuple(vars(epochs[0])), [vars(one) for one in epochs])
    with atomic_path(run.checkpoints / ENCODER) as temporary:
        save_file({key: value.contiguous() for key, value in best.items()}, temporary)
    chosen = min(epochs, key=lambda one: one.held_out)
    run.set_status(status="done", best_epoch=chosen.epoch, held_out=chosen.held_out, mean_feature=chosen.mean_feature)
    file.unlink(missing_ok=True)


def _pass(
    network: MaskedAutoencoder,
    updater: Updater,
    bags: Sequence[Bag],
    options: Updates,
    rng: np.random.Generator,
    device: torch.device,
) -> float:
    """One pass over the training patients; the mean loss."""
    network.train()
    order = rng.permutation(len(bags))
    total = 0.0
    for start in range(0, len(order), options.batch):
        part = order[start : start + options.batch]
        for index in part:
            loss = network(drawn(bags[index], options.tiles, rng).to(device)).loss
            (loss / len(part)).backward()
            total += float(loss.detach())
        updater.step()
    return total / len(order)


def reconstruction_error(
    network: MaskedAutoencoder, bags: Sequence[Bag], seed: int, device: torch.device
) -> tuple[float, float]:
    """Mean squared error over the hidden tiles of ``bags``, and that of the training tiles' mean on the same tiles.

    Args:
        network: the autoencoder.
        bags: on the standard of the training tiles, whose mean is then 0.
        seed: of what is hidden: the same tiles in every epoch.
        device: where the network is.
    """
    network.eval()
    errors, means, count = 0.0, 0.0, 0
    with torch.no_grad(), torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for bag in bags:
            moved = bag.to(device)
            found = network(moved)
            truth = moved.features[found.hidden]
            errors += float(((found.features - truth) ** 2).sum())
            means += float((truth**2).sum())
            count += truth.numel()
    if not count:
        raise RestainError("No held-out slide has enough tiles to hide some of them.")
    return errors / count, means / count
