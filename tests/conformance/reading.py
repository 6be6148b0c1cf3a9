"""What answers to numeric cases share: inputs as tensors, networks with a case's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from restain.data import PairBatch, to_network
from restain.losses.gan import GANLoss
from restain.stainers.base import Stainer

Options = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
Answers = dict[str, Callable[[Options, Arrays], dict[str, Any]]]


def tensor(inputs: Arrays, name: str) -> Tensor:
    return torch.from_numpy(np.array(inputs[name]))


def load(network: nn.Module, inputs: Arrays, name: str, options: Options) -> nn.Module:
    """``network`` with the case's weights and mode."""
    prefix = f"weights.{name}."
    network.load_state_dict(
        {
            key.removeprefix(prefix): torch.from_numpy(np.array(value))
            for key, value in inputs.items()
            if key.startswith(prefix)
        }
    )
    return network.train(options["mode"] == "train")


class Recorded:
    """A step that updates nothing: all losses of a batch at fixed weights, with the gradients of each."""

    epoch, epochs, epochs_decay, progress = 1, 1, 0, 0.0

    def __init__(self, stainer: Stainer) -> None:
        self.stainer = stainer
        self.gradients: dict[str, Tensor] = {}

    def update(self, name: str, loss: Tensor) -> None:
        if hasattr(self.stainer, name):
            parameters = dict(getattr(self.stainer, name).named_parameters())
            gradients = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
            self.gradients |= {f"{name}.{key}": value for key, value in zip(parameters, gradients, strict=True)}

    def frozen(self, *networks: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()


def load_reference(stainer: Stainer, inputs: Arrays) -> Stainer:
    """``stainer`` with the case's weights, by the names that ``restain import`` uses."""
    stainer.load_state_dict(
        {ours: tensor(inputs, f"weights.{theirs}") for ours, theirs in stainer.reference_keys().items()}
    )
    return stainer


def load_part(stainer: Stainer, network: str, inputs: Arrays, name: str, mode: str = "eval") -> Any:
    """One network of ``stainer`` with the case's weights of network ``name``."""
    part = getattr(stainer, network)
    keys = {k: v for k, v in stainer.reference_keys().items() if k.startswith(f"{network}.")}
    part.load_state_dict(
        {
            ours[len(network) + 1 :]: tensor(inputs, f"weights.{name}.{theirs.split('.', 1)[1]}")
            for ours, theirs in keys.items()
        }
    )
    return part.train(mode == "train")


def rgb(inputs: Arrays, name: str) -> Tensor:
    """An image uint8 [H, W, 3] as a batch for a network."""
    return to_network([inputs[name]])


def pair_batch(x: Arrays, he: str = "real_A", ihc: str = "real_B", **extras: str) -> PairBatch:
    images = tensor(x, he)
    maps = {kind: tensor(x, name) for kind, name in extras.items()}
    return PairBatch(images, tensor(x, ihc), torch.full((len(images),), -1), ("",) * len(images), maps)


def judged(stainer: Any, gan: GANLoss, batch: PairBatch, fake: Tensor, names: str = "d") -> dict[str, Any]:
    return {
        f"{names}_fake": gan(stainer.D(torch.cat([batch.he, fake], 1)), real=False),
        f"{names}_real": gan(stainer.D(torch.cat([batch.he, batch.ihc], 1)), real=True),
    }
