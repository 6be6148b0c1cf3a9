"""Slide models' checkpoints as authors release them: a state dict, or one inside what a training saves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from restain.core.errors import ItemError, RestainError
from restain.her2.base import SlideModel
from restain.nn.weights import named_tensors, read_safely

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
OURS = "standard."
"""What ``save_fitted`` writes beside a model; without it the model would predict something else."""
_WRAPPER = "module"
"""What DataParallel puts between the names of a network and of its layers."""


@dataclass(frozen=True)
class Released:
    """What a checkpoint holds of a network.

    Attributes:
        tensors: by the names of ``reference_keys`` without the parts ``module``; floats.
        others: names of tensors that lie outside the network (a weighted loss, an optimizer).
        digest: SHA-256 of the file.
    """

    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    digest: str


def read_released(path: Path, model: SlideModel) -> Released:
    """Read a checkpoint; nothing but tensors and plain containers is unpickled.

    The tensors may lie under names such as ``state_dict`` or ``model``, with a prefix that all of the network's share
    (``model.`` where Lightning wrapped it), and with ``module`` anywhere in their names.

    Args:
        path: ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors``.
        model: the one that it may be of, of any size; its names tell where the network lies in the file.

    Raises:
        RestainError: no such file or kind of file, or several networks of these names in it.
        ItemError: it is damaged, holds no tensors, or numbers that are not finite.
    """
    if not path.is_file():
        raise RestainError(f"{path}: no such file. Give a checkpoint ({', '.join(SUFFIXES)}).")
    if path.suffix not in SUFFIXES:
        raise RestainError(f"{path}: a checkpoint ends in {', '.join(SUFFIXES)}. Save a state dict as one of these.")
    held = dict(named_tensors(read_safely(path, skip_objects=True)))
    if any(name.startswith(OURS) for name in held):
        raise RestainError(f"{path}: is of a run of restain, with the standard of its features. Predict with that run.")
    if not held:
        raise ItemError(
            f"{path}: holds no tensors by name; other objects are never unpickled. Save `model.state_dict()`, not the "
            "whole model."
        )
    prefix = _prefix(path, held, model)
    tensors: dict[str, Tensor] = {}
    for name, tensor in held.items():
        own = model.released_name(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if own is None or not (tensor.is_floating_point() or tensor.is_quantized):
            continue  # counters and labels of losses are no weights
        if own in tensors:
            raise ItemError(f"{path}: holds {own} twice. Save one network alone.")
        _require_numbers(path, name, tensor)
        tensors[own] = tensor
    others = tuple(name for name in held if not name.startswith(prefix))
    return Released(tensors, others, hashlib.sha256(path.read_bytes()).hexdigest())


def without_wrapper(name: str) -> str:
    """``name`` without the parts that DataParallel leaves; a layer of ours may be called so, too, on both sides."""
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def _prefix(path: Path, held: Mapping[str, Tensor], model: SlideModel) -> str:
    """What stands before the names of the network's tensors: where most of them are found.

    Raises:
        RestainError: several networks of these names, whole or not.
    """
    wanted = {without_wrapper(name) for name in model.reference_keys().values()}
    found: Counter[str] = Counter()
    for name in held:
        parts = name.split(".")
        for start in range(len(parts)):
            if model.released_name(".".join(parts[start:])) in wanted:
                found[".".join([*parts[:start], ""])] += 1
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if len(best) > 1 and "" not in best and most > 1:
        raise RestainError(f"{path}: holds several such networks: {', '.join(sorted(best))}. Save one of them alone.")
    return "" if len(best) != 1 else best[0]


def _require_numbers(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse what is no plain array of finite floats.

    Raises:
        ItemError: quantised, sparse, without data, stretched from fewer numbers than it has, or not finite.
    """
    if tensor.is_meta or tensor.dtype not in _FLOATS or tensor.layout is not torch.strided:
        raise ItemError(f"{path}: {name!r} is {tensor.dtype} on {tensor.device}; weights are 16 to 64 bit floats.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ItemError(f"{path}: {name!r} claims {tuple(tensor.shape)} numbers, but the file does not hold as many.")
    if not torch.isfinite(tensor).all():
        raise ItemError(f"{path}: {name} holds numbers that are not finite; the training failed. Take another file.")
