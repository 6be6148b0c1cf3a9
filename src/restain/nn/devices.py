"""Where networks run and in which arithmetic."""

from __future__ import annotations

from enum import StrEnum

import torch
from lightning_fabric import Fabric

from restain.core.errors import RestainError


class Accelerator(StrEnum):
    """Kinds of devices; ``auto`` takes the best there is."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Arithmetic of the networks; ``full`` is float32 throughout, the others are mixed."""

    full = "full"
    bf16 = "bf16"
    fp16 = "fp16"


class Strategy(StrEnum):
    """How several devices share a training; ``auto`` is ``ddp`` where there are several."""

    auto = "auto"
    ddp = "ddp"


FABRIC_PRECISION = {Precision.full: "32-true", Precision.bf16: "bf16-mixed", Precision.fp16: "16-mixed"}


def make_fabric(
    accelerator: Accelerator,
    precision: Precision,
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = Strategy.auto,
) -> Fabric:
    """Lightning Fabric for these devices, not launched.

    Raises:
        RestainError: this machine does not have them.
    """
    try:
        return Fabric(
            accelerator=accelerator.value,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy.value,
            precision=FABRIC_PRECISION[precision],  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise RestainError(
            f"{devices} x {accelerator.value} with precision {precision.value} cannot be had here ({error}). "
            "`restain doctor` lists the devices."
        ) from error


def measuring_device() -> torch.device:
    """Where frozen networks compute features: the first GPU of CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
