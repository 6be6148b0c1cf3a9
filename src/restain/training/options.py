"""Settings of a training that do not depend on the method."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lightning_fabric import Fabric

from restain.core.errors import RestainError
from restain.training.schedules import Convention, LinearSchedule


class Precision(StrEnum):
    """Arithmetic of the networks, by Fabric's names; ``full`` is float32 throughout."""

    full = "32-true"
    bf16 = "bf16-mixed"
    fp16 = "16-mixed"


@dataclass(frozen=True)
class TrainingOptions:
    """How long, how exactly and on what to train.

    Attributes:
        epochs: epochs at the full learning rate.
        epochs_decay: epochs of linear decay to zero after them.
        convention: when the released code steps its schedule (see ``restain.training.schedules``).
        seed: of the initial weights, the order of the pairs, the augmentation and the dropout.
        precision: float32, or mixed with bfloat16 or float16.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps`` (Lightning Fabric).
        devices: how many, on each node.
        nodes: how many machines.
        strategy: ``auto`` (one device: none; several: ``ddp``) or another of Fabric's.
        ema: decay of an exponential moving average of the weights, which then stains; None for none.
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
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    ema: float | None = None
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
        if self.log_every < 1 or self.checkpoint_every < 1 or self.sample_every < 0 or self.keep_every < 0:
            raise RestainError("log_every and checkpoint_every are at least 1; sample_every and keep_every at least 0.")

    def fabric(self) -> Fabric:
        """Devices, strategy and precision, not launched."""
        return Fabric(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=self.strategy,
            precision=self.precision.value,
        )

    @property
    def schedule(self) -> LinearSchedule:
        """The learning-rate schedule."""
        return LinearSchedule(self.epochs, self.epochs_decay, self.convention)
