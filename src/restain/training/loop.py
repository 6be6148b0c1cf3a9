"""The training loop: the same for every stainer, exact after any interruption.

Everything random in step k follows from the seed and k alone (order and augmentation in ``restain.data``, dropout
here), so a run that was killed and started again ends with the weights of one that was not.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from restain.core.errors import ItemError
from restain.core.progress import console, progress_bar
from restain.core.runs import RunFolder
from restain.data import PairBatch
from restain.nn.layout import channels_last
from restain.slides import write_image
from restain.stainers.base import Stainer
from restain.training.batches import Batches
from restain.training.checkpoint import load_state, optimizer_state, save_state
from restain.training.log import LossLog
from restain.training.options import TrainingOptions
from restain.training.samples import sample_picture
from restain.training.schedules import RateSchedule
from restain.training.validation import Validation

LAST = "last.safetensors"
"""The checkpoint that a run resumes from: everything."""
FINAL = "final.safetensors"
"""The weights that stain, once the training is done."""
BEST = "best.safetensors"
"""Those of the epoch that was best on split ``val``, where that is looked at."""


class FabricStep:
    """One step's mechanics under Fabric's precision and strategy (the contract is ``restain.stainers.base.Step``)."""

    def __init__(self, fabric: Fabric, optimizers: dict[str, Any], schedule: RateSchedule) -> None:
        self._fabric, self._optimizers = fabric, optimizers
        self.epoch, self.progress = 1, 0.0
        self.epochs, self.epochs_decay = schedule.epochs, schedule.decay

    def update(self, name: str, loss: Tensor) -> None:
        """Zero, backward, step of optimizer ``name``."""
        self._optimizers[name].zero_grad()
        self._fabric.backward(loss)
        self._optimizers[name].step()

    @contextmanager
    def frozen(self, *networks: nn.Module) -> Iterator[None]:
        """Gradients pass through ``networks`` but are not collected in them."""
        parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)


@dataclass
class Position:
    """Where a training stands.

    Attributes:
        epoch: the current one, counted from 1.
        batch: batches of it that are done.
        step: all steps that are done.
        best_psnr: on split ``val`` so far, dB; None where that is not looked at.
        best_epoch: the epoch that reached it.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    best_psnr: float | None = None
    best_epoch: int | None = None


class Trainer:
    """Trains one stainer into one run folder.

    Args:
        stainer: freshly built; its weights are replaced when the run resumes.
        batches: the pairs, by epoch.
        options: length, intervals, average.
        run: where everything goes; its first process alone writes there.
        fabric: launched; devices, precision, strategy.
        validation: what tells the best epoch, whose weights are kept; None keeps the last.
    """

    def __init__(
        self,
        stainer: Stainer,
        batches: Batches,
        options: TrainingOptions,
        run: RunFolder,
        fabric: Fabric,
        validation: Validation | None = None,
    ) -> None:
        self.stainer, self.batches, self.options, self.run, self.fabric = stainer, batches, options, run, fabric
        self.validation = validation
        self.position = Position()
        self.average: AveragedModel | None = None
        self._stop = False

    def train(self) -> None:
        """Train to the end, from the last checkpoint where there is one.

        Raises:
            ItemError: a loss is not finite (the last good checkpoint stays), or a file cannot be written.
            KeyboardInterrupt: asked to stop; a checkpoint was written first.
        """
        self.batches.share(self.fabric.global_rank, self.fabric.world_size)
        self._prepare()
        schedule = self.options.schedule
        steps = len(self.batches)
        log = LossLog(self.run.metrics, self.position.step) if self.fabric.is_global_zero else None
        with (
            self._stop_on_signal(),
            progress_bar("train", schedule.epochs * steps, self.position.step) as bar,
        ):
            while self.position.epoch <= schedule.epochs:
                for batch in self.batches.epoch(self.position.epoch, self.position.batch):
                    self._set_rates(schedule.multiplier(self.position.epoch, self.position.batch / steps))
                    losses = self._step(batch.to(self.fabric.device))
                    bar.advance()
                    if self.position.step % self.options.log_every == 0 or self.position.batch == steps:
                        bar.note(" ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                        if log is not None:
                            rate = next(iter(self.optimizers.values())).param_groups[0]["lr"]
                            log.write({"epoch": self.position.epoch, "step": self.position.step, "lr": rate, **losses})
                    if self._stop or (
                        self.position.step % self.options.checkpoint_every == 0 and self.position.batch < steps
                    ):
                        self._save()
                    if self._stop:
                        raise KeyboardInterrupt
                self._end_epoch()
        self._finish()

    def _prepare(self) -> None:
        """Resume, then hand networks and optimizers to Fabric."""
        self.base_rates: dict[str, list[float]] = {}
        channels_last(self.stainer)  # convolutions run up to 1.5 times as fast
        optimizers = self.stainer.optimizers()
        for name, optimizer in optimizers.items():
            self.base_rates[name] = [group["lr"] for group in optimizer.param_groups]
        if self.options.ema is not None:
            self.average = AveragedModel(self.stainer, multi_avg_fn=get_ema_multi_avg_fn(self.options.ema))  # type: ignore[no-untyped-call]
        checkpoint = self.run.checkpoints / LAST
        resumed = self._restore(checkpoint) if checkpoint.exists() else None
        if self.average is not None:
            self.average.to(self.fabric.device)
        for name, network in list(self.stainer.named_children()):
            wrapped = self.fabric.setup_module(network)
            for method in getattr(network, "forward_methods", ()):
                wrapped.mark_forward_method(method)
            setattr(self.stainer, name, wrapped)
        if resumed is not None:
            # Only now: an optimizer takes its state to where its parameters lie at this moment.
            with _of_this_training(checkpoint):
                for name, optimizer in optimizers.items():
                    optimizer.load_state_dict(optimizer_state(resumed[name]))
            console.print(f"Resuming {self.run.path} at epoch {self.position.epoch}, step {self.position.step}.")
        self.optimizers: dict[str, Any] = {
            name: self.fabric.setup_optimizers(optimizer) for name, optimizer in optimizers.items()
        }
        self.step = FabricStep(self.fabric, self.optimizers, self.options.schedule)
        self.stainer.train()

    def _restore(self, checkpoint: Path) -> dict[str, Any]:
        """Take all state from ``checkpoint`` but that of the optimizers, which is returned by name.

        Raises:
            ItemError: it is not one of this training.
        """
        state = load_state(checkpoint)
        with _of_this_training(checkpoint):
            self.stainer.load_state_dict(state["weights"])
            self.stainer.load_extra_state(state["extra"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
            self.position = Position(**state["position"])
            optimizers: dict[str, Any] = state["optimizers"]
        return optimizers

    def _step(self, batch: PairBatch) -> dict[str, float]:
        """One training step; the losses as numbers."""
        place, schedule = self.position, self.options.schedule
        self.step.epoch = place.epoch
        self.step.progress = place.step / (schedule.epochs * len(self.batches))
        # Dropout of this step depends on the seed, the step and the process alone: resuming needs no generator state.
        torch.manual_seed(hash((self.options.seed, place.step, self.fabric.global_rank)) % 2**63)
        losses = self.stainer.training_step(batch, self.step)
        values = torch.stack([loss.detach().float() for loss in losses.values()]).tolist()
        place.batch += 1
        place.step += 1
        named = dict(zip(losses, values, strict=True))
        bad = [name for name, value in named.items() if not math.isfinite(value)]
        if self._anywhere(bool(bad)):
            bad = bad or ["of another process"]
            raise ItemError(
                f"{self.run.path}: loss {', '.join(bad)} is not finite at step {place.step} (epoch {place.epoch}). "
                f"{self._kept()} Lower the learning rate or use --training.precision full in a new --out."
            )
        if self.average is not None:
            self.average.update_parameters(self.stainer)
        return named

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so in any of the processes that train together."""
        flag = torch.tensor(float(here), device=self.fabric.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="sum"))

    def _end_epoch(self) -> None:
        """Move to the next epoch, write the checkpoint and the sample pictures."""
        self._require_finite()
        done = self.position.epoch
        every = self.options.sample_every
        last = done == self.options.schedule.epochs
        if every and (done % every == 0 or last):
            # All processes stain, one writes: strategies that share networks meet in every forward pass.
            picture = sample_picture(self._staining(), self.batches.samples(self.stainer.least))
            if self.fabric.is_global_zero:
                write_image(self.run.samples / f"epoch_{done:04d}.jpg", picture)
        if self.options.keep_every and done % self.options.keep_every == 0:
            self._save_weights(f"epoch_{done:04d}.safetensors")
        if self.validation is not None:
            self._validate(self.validation, done)
        self.position.epoch, self.position.batch = done + 1, 0
        self._save()  # last, so that a run killed before it writes the others again

    def _validate(self, validation: Validation, epoch: int) -> None:
        """Measure an epoch on split ``val`` and keep its weights where it is the best so far."""
        found, best = validation.mean_psnr(self._staining()), self.position.best_psnr
        better = best is None or found > best
        if better:
            self.position.best_psnr, self.position.best_epoch = found, epoch
            self._save_weights(BEST)
        if self.fabric.is_global_zero:
            row = {"epoch": epoch, "step": self.position.step, "psnr": found}
            LossLog(self.run.path / "validation.csv", self.position.step - 1).write(row)
            console.print(f"Epoch {epoch}: PSNR {found:.3f} dB on {len(validation)} pairs{' (best)' * better}.")

    def _staining(self) -> Stainer:
        """The stainer whose weights stain: the average where one is kept."""
        staining: Stainer = self.average.module if self.average is not None else self.stainer  # type: ignore[assignment]
        return staining

    def _kept(self) -> str:
        """What there is to go back to, in words."""
        there = (self.run.checkpoints / LAST).exists()
        return "The last good checkpoint was kept." if there else "No checkpoint had been written yet."

    def _require_finite(self) -> None:
        """Refuse to keep weights that a finite loss with another gradient has spoilt.

        Raises:
            ItemError: a weight is not finite; the last good checkpoint stays.
        """
        finite = all(bool(parameter.isfinite().all()) for parameter in self.stainer.parameters())
        if self._anywhere(not finite):
            raise ItemError(
                f"{self.run.path}: the weights are not finite after step {self.position.step}. {self._kept()} Lower "
                "the learning rate in a new --out."
            )

    def _save(self) -> None:
        self._require_finite()
        if not self.fabric.is_global_zero:
            return
        state = {
            "position": vars(self.position),
            "weights": self.stainer.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "extra": self.stainer.extra_state(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        save_state(self.run.checkpoints / LAST, state)

    def _save_weights(self, name: str) -> None:
        if self.fabric.is_global_zero:
            save_state(self.run.checkpoints / name, {"weights": self._staining().state_dict()})

    def _finish(self) -> None:
        best: dict[str, Any] = {}
        if self.validation is None:
            self._save_weights(FINAL)
        elif self.fabric.is_global_zero:
            save_state(self.run.checkpoints / FINAL, load_state(self.run.checkpoints / BEST))
            best = {"best_epoch": self.position.best_epoch, "best_psnr": self.position.best_psnr}
        if self.fabric.is_global_zero:
            steps = self.position.step
            self.run.set_status(status="done", epochs=self.options.schedule.epochs, steps=steps, **best)

    def _set_rates(self, multiplier: float) -> None:
        for name in self.optimizers.keys() - self.stainer.unscheduled:
            for group, rate in zip(self.optimizers[name].param_groups, self.base_rates[name], strict=True):
                group["lr"] = rate * multiplier

    @contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the training after the step at hand; a second one ends it at once."""

        def ask(_number: int, _frame: FrameType | None) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def weights_file(run: RunFolder, checkpoint: str | None = None) -> Path:
    """The file of a run's weights: ``checkpoint`` in its ``checkpoints``; None for the final ones, else the last.

    Raises:
        ItemError: there is none.
    """
    names = [checkpoint] if checkpoint else [FINAL, LAST]
    found = next((run.checkpoints / name for name in names if (run.checkpoints / name).is_file()), None)
    if found is None:
        there = ", ".join(sorted(file.name for file in run.checkpoints.glob("*.safetensors"))) or "none"
        raise ItemError(f"{run.checkpoints}: no {' or '.join(names)}; there are: {there}. Train the run, or take one.")
    return found


def load_weights(run: RunFolder, stainer: Stainer, checkpoint: str | None = None) -> Stainer:
    """Give ``stainer``, built from the run's config, the weights of ``run`` and put it in eval mode.

    Raises:
        ItemError: there is no checkpoint, or it does not fit.
    """
    file = weights_file(run, checkpoint)
    state = load_state(file)
    try:
        weights = state["weights"]
        if "average" in state:
            average = state["average"]
            weights = {key.removeprefix("module."): value for key, value in average.items() if key != "n_averaged"}
        stainer.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ItemError(f"{file}: does not fit the run's config.yaml ({_brief(error)}).") from error
    return stainer.eval()


@contextmanager
def _of_this_training(checkpoint: Path) -> Iterator[None]:
    """Turn what goes wrong when ``checkpoint`` is taken up into a message.

    Raises:
        ItemError: it is not one of this training.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ItemError(
            f"{checkpoint}: is no checkpoint of this training ({_brief(error)}). Begin again in another --out."
        ) from error


def _brief(error: Exception) -> str:
    """The beginning of a message that may list thousands of keys."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
