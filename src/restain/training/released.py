"""Checkpoints as authors release them: a file a network, a folder of such files, or one file of several networks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from restain.core.errors import ItemError, RestainError
from restain.nn.norms import COUNTER
from restain.nn.spectral import reference_spectral
from restain.nn.weights import named_tensors, read_safely

SUFFIXES = (".pth", ".pt", ".safetensors")
_NAMED = re.compile(r"(?:(?P<epoch>.+)_)?net_(?P<network>\w+)")
"""What the released codes call a file: ``latest_net_G.pth``, ``200_net_G_A.pth``."""
_LATEST = "latest"


@dataclass(frozen=True)
class Released:
    """What a checkpoint holds.

    Attributes:
        networks: tensors by the authors' names, of each network.
        files: SHA-256 of the files that were read, by their names.
        others: networks that the method, as it is set, does not have.
    """

    networks: dict[str, dict[str, Tensor]]
    files: dict[str, str]
    others: tuple[str, ...]


def read_released(path: Path, networks: Collection[str], stains: str, epoch: str | None = None) -> Released:
    """Read a checkpoint; nothing but tensors and plain containers is unpickled.

    Args:
        path: a file, whose name says which network it holds (``..._net_<network>``; without that, or where the method
            has no such network, the one that stains), or a folder of such files. A file of several networks holds
            their tensors under the networks' names.
        networks: those of the method.
        stains: the one that stains.
        epoch: of which epoch, where a folder has several; None takes ``latest``.

    Raises:
        RestainError: nothing there, several epochs, or no network of the method.
        ItemError: a file is damaged, holds other objects or numbers that are not finite.
    """
    if path.is_dir():
        files = _files(path, epoch)
    elif not path.exists():
        raise RestainError(f"{path}: no such file or folder. Give a checkpoint ({', '.join(SUFFIXES)}), or its folder.")
    elif path.suffix not in SUFFIXES:
        raise RestainError(f"{path}: a checkpoint ends in {', '.join(SUFFIXES)}. Save a state dict as one of these.")
    elif epoch is not None:
        raise RestainError(f"--epoch {epoch} chooses among the files of a folder, but {path} is a file. Leave it out.")
    else:
        named = _NAMED.fullmatch(path.stem)
        files = {named["network"] if named and named["network"] in networks else stains: path}
    found: dict[str, dict[str, Tensor]] = {}
    for name, file in files.items():
        held = _networks(file, name, networks)
        twice = sorted(found.keys() & held.keys())
        if twice:
            raise RestainError(f"{file}: holds {', '.join(twice)}, and so does another file of {path}. Keep one.")
        found |= held
    mine = {name: found[name] for name in networks if name in found}
    if stains not in mine:
        raise RestainError(
            f"{path}: holds {', '.join(found)}, but not {stains}, the network that stains (the method has "
            f"{', '.join(networks)}). Give the file that holds it, such as latest_net_{stains}.pth."
        )
    used = {file.name: _sha256(file) for name, file in files.items() if name in mine or len(files) == 1}
    return Released(mine, used, tuple(name for name in found if name not in mine))


def _files(folder: Path, epoch: str | None) -> dict[str, Path]:
    """The files of one epoch, by network.

    Raises:
        RestainError: there are none, several epochs without ``latest``, or two files of one network.
    """
    there = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    named = [(match["epoch"] or "", match["network"], file) for file in there if (match := _NAMED.fullmatch(file.stem))]
    if not named:
        listed = f"holds {', '.join(file.name for file in there[:5])}" if there else "is empty of checkpoints"
        raise RestainError(
            f"{folder}: {listed}; no file of it says which network it holds, like latest_net_G.pth. Give one file."
        )
    epochs = sorted(
        {one[0] for one in named}, key=lambda text: (not text.isdigit(), int(text or 0) if text.isdigit() else 0, text)
    )
    chosen = epoch if epoch is not None else epochs[0] if len(epochs) == 1 else _LATEST
    if chosen not in epochs:
        wrong = f"no epoch {epoch}; it" if epoch is not None else "it"
        raise RestainError(f"{folder}: {wrong} holds epochs {', '.join(epochs)}. Choose one: --epoch {epochs[-1]}.")
    files: dict[str, Path] = {}
    for of, network, file in named:
        if of == chosen and network in files:
            raise RestainError(
                f"{folder}: both {files[network].name} and {file.name} hold {network}. Keep one of them."
            )
        if of == chosen:
            files[network] = file
    return files


def _networks(file: Path, name: str, networks: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each network in a file; all are of network ``name`` where the file does not name any.

    Raises:
        ItemError: damaged, other objects, no tensors, or a number that is not finite.
    """
    named = named_tensors(read_safely(file))
    tensors = {reference_spectral(key): tensor for key, tensor in named if tensor.layout is torch.strided}
    if not tensors:
        raise ItemError(f"{file}: holds no tensors by name. Give a network's state dict.")
    for key, tensor in tensors.items():
        _require_plain(file, key, tensor)
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ItemError(f"{file}: {key} holds numbers that are not finite; the training failed. Take another file.")
    aliases = {prefix + network: network for network in networks for prefix in ("", "net", "net_")}
    if not any(key.split(".", 1)[0] in aliases for key in tensors):
        return {name: tensors}
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        network, _, rest = key.partition(".")
        found.setdefault(aliases.get(network, network), {})[rest] = tensor
    return found


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _require_plain(file: Path, key: str, tensor: Tensor) -> None:
    """Refuse a tensor that is no plain array of weights.

    Raises:
        ItemError: quantised, complex, without data, stretched from fewer numbers than it has, or integers that are not
            a counter.
    """
    counter = key.rsplit(".", 1)[-1] == COUNTER and tensor.dtype is torch.int64
    if tensor.is_quantized or tensor.is_meta or not (counter or tensor.dtype in _FLOATS):
        raise ItemError(f"{file}: {key!r} is {tensor.dtype} on {tensor.device}; weights are 16 to 64 bit floats.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ItemError(f"{file}: {key!r} claims {tuple(tensor.shape)} numbers, but the file does not hold as many.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
