"""Settings of a training that do not depend on the method."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lightning_fabric import Fabric

from restain.core.errors import RestainError
from restain.nn.devices import Accelerator, Precision, Strategy, make_fabric
from restain.training.schedules import Convention, RateSchedule


class Keep(StrEnum):
    """Whose weights stain in the end: those of the last epoch, or of the one with the best PSNR on split ``val``."""

    last = "last"
    best_psnr = "best_psnr"


@dataclass(frozen=True)
class TrainingOptions:
    """How long, how exactly and on what to train.

    Attributes:
        epochs: epochs before the decay of the learning rate.
        epochs_decay: epochs of decay to zero; with 0 the rate stays as it is.
        convention: how the rate changes (see ``restain.training.schedules``).
        seed: of the initial weights, the order of the pairs, the augmentation and the dropout.
        precision: float32, or mixed with bfloat16 or float16.
        accelerator: auto takes the best there is.
        devices: how many, on each node.
        nodes: how many machines.
        strategy: auto (one device: none; several: ddp) or ddp.
        ema: decay of an exponential moving average of the weights, which then stains; None for none.
        keep: the weights that stain: of the last epoch, or of the one with the best mean PSNR on split ``val``.
        log_every: steps between two rows of ``metrics.csv``.
        checkpoint_every: steps between two checkpoints; one is also written after each epoch.
        sample_every: epochs between two sample pictures; 0 for none.
        keep_every: epochs between two checkpoints of the weights that are kept; 0 keeps the last only.
    """

    epochs: int = 50
    epochs_decay: int = 50
    convention: Convention = Convention.start
    seed: int = 0
    precision: Precision = Precision.full
    accelerator: Accelerator = Accelerator.auto
    devices: int = 1
    nodes: int = 1
    strategy: Strategy = Strategy.auto
    ema: float | None = None
    keep: Keep = Keep.last
    log_every: int = 20
    checkpoint_every: int = 500
    sample_every: int = 5
    keep_every: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        if self.epochs < 0 or self.epochs_decay < 0 or self.epochs + self.epochs_decay == 0:
            raise RestainError(f"epochs {self.epochs} + {self.epochs_decay}: give at least one epoch.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise RestainError(f"ema {self.ema}: a decay lies between 0 and 1, such as 0.999.")
        if self.devices < 1 or self.nodes < 1 or not 0 <= self.seed < 2**32:
            raise RestainError("devices and nodes are at least 1; the seed lies between 0 and 2^32 - 1.")
        if self.log_every < 1 or self.checkpoint_every < 1 or self.sample_every < 0 or self.keep_every < 0:
            raise RestainError("log_every and checkpoint_every are at least 1; sample_every and keep_every at least 0.")

    def fabric(self) -> Fabric:
        """Devices, strategy and precision, not launched.

        Raises:
            RestainError: this machine does not have them.
        """
        fabric = make_fabric(self.accelerator, self.precision, self.devices, self.nodes, self.strategy)
        if self.precision is Precision.fp16 and fabric.device.type == "cpu":
            raise RestainError("precision fp16 needs a GPU; on the CPU take full or bf16.")
        return fabric

    @property
    def schedule(self) -> RateSchedule:
        """The learning-rate schedule (without decay a constant one, whatever the convention)."""
        return RateSchedule(self.epochs, self.epochs_decay, self.convention if self.epochs_decay else Convention.end)
