"""Checkpoints shaped as authors' trainings save them, made of our models."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restain.her2.base import SlideModel
from restain.her2.features_file import read_features
from restain.her2.slide_set import join


class Options(dict[str, Any]):
    """A dictionary of a library that restain does not know, pickled as these are."""

    def __getstate__(self) -> Options:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


class Hiding(dict[str, Any]):
    """Pickled as an ordered dictionary in which attributes stand before the methods."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), {"items": 1, "get": 1, "keys": 1, "values": 1}, None, iter(self.items())


def released(model: SlideModel) -> dict[str, Tensor]:
    """The state by the authors' names."""
    return {theirs: model.state_dict()[ours].clone() for ours, theirs in model.reference_keys().items()}


def chances(model: SlideModel, features: Path) -> np.ndarray:
    """What a model says of a slide, without what a run adds."""
    found = read_features(features)
    with torch.no_grad():
        logits: Tensor = model.eval()(join([found], found.slide)).logits
    return torch.softmax(logits.double(), 0).numpy()


def bare(state: Mapping[str, Tensor]) -> Any:
    return dict(state)


def parallel(state: Mapping[str, Tensor]) -> Any:
    return {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}


def lightning(state: Mapping[str, Tensor]) -> Any:
    """With the loss beside the network, and objects of other libraries as keys and values."""
    held = {f"model.{key}": value for key, value in state.items()} | {"loss.weight": torch.ones(4)}
    return {
        "state_dict": held,
        "callbacks": {Evil: {"best_score": torch.tensor(0.8)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "hyper_parameters": Options(model=Options(name="TransMIL", n_classes=4)),
    }


def autoencoder(state: Mapping[str, Tensor]) -> Any:
    """As scripts descended from those of MAE save it."""
    arguments = argparse.Namespace(lr=1e-4, device=torch.device("cpu"), output=Path("out"), best=np.float64(0.7))
    return {"model": dict(state), "optimizer": {"state": {}}, "epoch": 9, "scaler": {}, "args": arguments}


def hiding(state: Mapping[str, Tensor]) -> Any:
    """By no training: ``items`` and ``get`` of its mappings are no methods, nor is ``numel`` of its tensors."""
    held = {key: torch.nn.Parameter(value.clone()) for key, value in state.items()}
    for tensor in held.values():
        tensor.is_floating_point = tensor.numel = tensor.untyped_storage = 1  # type: ignore[method-assign,assignment]
    return Hiding(state_dict=Hiding(held), options=Hiding())


def holding_itself(state: Mapping[str, Tensor]) -> Any:
    """By no training: a mapping that lies 20 times in itself, so that there is no end of ways through it."""
    held: dict[str, Any] = dict(state)
    held.update((f"again_{number}", held) for number in range(20))
    return held
