"""Checkpoints: all state of a training in one safetensors file, written atomically, nothing pickled.

Tensors lie in the file under their path in the state (``weights.G.model.1.weight``,
``optimizers.G.state.0.exp_avg``); everything else is JSON in the file's metadata, where a tensor's place is held by its
key.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from restain.core.errors import ItemError
from restain.core.files import atomic_path

_TENSOR = "__tensor__"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a nested state of dicts, lists, tensors and plain values.

    Raises:
        ItemError: the file cannot be written; the checkpoint that was there stays.
    """
    tensors: dict[str, Tensor] = {}

    def split(value: Any, key: str) -> Any:
        if isinstance(value, Tensor):
            tensors[key] = value.detach().cpu().contiguous()
            return {_TENSOR: key}
        if isinstance(value, dict):
            return {str(name): split(child, f"{key}.{name}".lstrip(".")) for name, child in value.items()}
        if isinstance(value, list | tuple):
            return [split(child, f"{key}.{index}") for index, child in enumerate(value)]
        return value

    skeleton = split(state, "")
    # Storage shared between tensors (tied weights) is refused by safetensors: each gets its own.
    tensors = {key: value.clone() for key, value in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"state": json.dumps(skeleton)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_state(path: Path) -> dict[str, Any]:
    """The state that ``save_state`` wrote.

    Raises:
        ItemError: the file is missing, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            skeleton = json.loads((file.metadata() or {})["state"])
        tensors = load_file(path)

        def join(value: Any) -> Any:
            if isinstance(value, dict):
                held = _TENSOR in value
                return tensors[value[_TENSOR]] if held else {name: join(child) for name, child in value.items()}
            return [join(child) for child in value] if isinstance(value, list) else value

        state = join(skeleton)
        if not isinstance(state, dict):
            raise TypeError("its state is not a mapping")
    except KeyError as error:
        raise ItemError(
            f"{path}: lacks {error}, which belongs to it. Restore the file from a copy, take another checkpoint of the "
            "run, or train into another --out."
        ) from error
    except (OSError, SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise ItemError(f"{path}: not a readable checkpoint ({error}). Take another one of the run.") from error
    return state


def optimizer_state(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state as ``load_state_dict`` wants it: parameter numbers are ints again after JSON."""
    return state | {"state": {int(number): value for number, value in state["state"].items()}}
