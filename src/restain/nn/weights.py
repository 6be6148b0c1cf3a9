"""Weight files from outside: read without running anything that lies in them, found where they usually are."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from restain.core.errors import ItemError
from restain.nn.norms import COUNTER

_NESTS = ("state_dict", "model_state_dict", "model", "params", "weights")
"""Names under which checkpoints of other projects keep a network's tensors."""
_WRAPPER = "module"
"""What DataParallel puts between the names of a network and of its layers."""
_DEEPEST = 8
"""Parts of a name under which mappings are still looked into."""


def read_safely(path: Path, skip_objects: bool = False) -> Any:
    """What a ``.safetensors``, ``.pth`` or ``.pt`` file holds, on the CPU; nothing but tensors and containers is read.

    Args:
        path: the file.
        skip_objects: other objects beside the tensors (the options of a training, a library's own dictionaries) do not
            spoil the file. They are not made and their code is not looked for: something empty stands in their place.

    Returns:
        Its tensors, in plain dictionaries and lists (also of what was a tuple). Where the file puts one container at
        several places, or into itself, so does this.

    Raises:
        ItemError: the file is missing or damaged, or holds other objects that are not skipped.
    """
    if not path.is_file():
        raise ItemError(f"{path}: no such file. Give a state dict (.pth, .pt or .safetensors).")
    try:
        if path.suffix == ".safetensors":
            return _plain(load_file(path))
        with warnings.catch_warnings(), _blanks(path) if skip_objects else nullcontext():
            warnings.simplefilter("ignore")  # of how the file was pickled
            return _plain(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:  # torch's own message would advise to unpickle it after all
        raise ItemError(
            f"{path}: is damaged, or holds objects other than tensors, which are never unpickled. It must hold tensors "
            "alone: save `network.state_dict()`, not the whole network."
        ) from error
    except (
        OSError,
        SafetensorError,
        zipfile.BadZipFile,
        struct.error,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        IndexError,
        AssertionError,
    ) as error:
        brief = " ".join(str(error).split())[:200]
        why = brief if " " in brief else "not a file of PyTorch's"
        raise ItemError(
            f"{path}: not a state dict that can be read safely ({why}). It must hold tensors alone: save "
            "`network.state_dict()`, not the whole network."
        ) from error


def _plain(content: Any) -> Any:
    """``content`` anew: a file may give containers and tensors attributes in place of their methods (``items = 1``).

    Each container is visited once, and without recursion: a file may put it into itself, or very deep.

    Raises:
        ValueError: a nested tensor, which is no array of numbers.
    """
    made: dict[int, Any] = {}
    waiting: list[Any] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            tensor = Tensor.detach(value)
            if tensor.is_nested:
                raise ValueError("it holds a nested tensor, of several sizes at once")
            return tensor
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in made:
            made[id(value)] = {} if isinstance(value, dict) else []
            waiting.append(value)
        return made[id(value)]

    found = plain(content)
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            made[id(value)].update((key, plain(one)) for key, one in dict.items(value))
        else:
            made[id(value)].extend(plain(one) for one in value)
    return found


class _AnythingKind(type):
    def __call__(cls, *_: Any, **__: Any) -> Any:
        """What a function of another library was to make: again anything."""
        return cls

    def __setstate__(cls, state: object) -> None:
        """Keep nothing."""


class _Anything(metaclass=_AnythingKind):
    """Stands for every class and function that the unpickler does not know, and for what they were to make."""

    def __new__(cls, *_: Any) -> Any:
        """An object that is filled afterwards, perhaps like a dictionary."""
        return OrderedDict()


def _blanks(path: Path) -> AbstractContextManager[object]:
    """While it holds, torch's own unpickler reads the unknown names in ``path`` as ``_Anything``."""
    try:
        names = get_unsafe_globals_in_checkpoint(str(path))
    except ValueError:  # torch's format before 1.6
        return nullcontext()
    # torch wants a name for the kind, too; no file may say it, and a name in a file ends with its line.
    return safe_globals([(_AnythingKind, "the kind\nof anything"), *((_Anything, name) for name in names)])


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors in a ``.safetensors``, ``.pth`` or ``.pt`` file, by name, on the CPU.

    Nothing but tensors and plain containers is unpickled; other objects beside them are skipped. A nested
    ``state_dict`` is looked for; the prefix ``module.`` that ``DataParallel`` leaves is taken off.

    Raises:
        ItemError: the file is missing or damaged, or holds no tensors by name (it may be a pickled network).
    """
    content = unwrapped(read_safely(path, skip_objects=True))
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ItemError(
            f"{path}: holds no tensors by name; other objects are never unpickled. Save `network.state_dict()`, not "
            "the whole network."
        )
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def load_weights(network: nn.Module, path: Path, what: str, skip: Sequence[str] = ()) -> None:
    """Give ``network`` the tensors of its names that a file holds; what else the file holds is left.

    Args:
        network: takes them; unchanged where an error is raised.
        path: a ``.safetensors``, ``.pth`` or ``.pt`` file.
        what: the network in words, for errors: "a VGG16 (FILE is one)".
        skip: beginnings of names that keep their values.

    Raises:
        ItemError: the file cannot be read, lacks a tensor (batch norms' counters, which old files have not, may lack),
            or holds one of another shape; it names the file, the key and both shapes.
    """
    found = read_state_dict(path)
    chosen: dict[str, Tensor] = {}
    for key, own in network.state_dict().items():
        value = own if key.startswith(tuple(skip)) else found.get(key, own if key.endswith(COUNTER) else None)
        if value is None:
            raise ItemError(f"{path}: not the weights of {what}: it has no {key} {_shape(own)}.")
        if value.shape != own.shape:
            raise ItemError(f"{path}: not the weights of {what}: {key} is {_shape(value)}, not {_shape(own)}.")
        chosen[key] = value
    network.load_state_dict(chosen)


def _shape(value: Tensor) -> str:
    return str(list(value.shape))


def unwrapped(content: Any) -> Any:
    """``content`` without the mapping around it, where it lies under a name such as ``state_dict``."""
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    return content


def named_tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the nested mappings in ``content``, the outermost first.

    A name says the mappings around the tensor, but for those of ``unwrapped`` and the parts ``module``. A mapping that
    lies at several places, or in itself, is visited once, where it lies outermost.
    """
    waiting: deque[tuple[tuple[str, ...], Any]] = deque([((), unwrapped(content))])
    visited: set[int] = set()
    while waiting:
        above, held = waiting.popleft()
        if not isinstance(held, Mapping) or id(held) in visited or len(above) > _DEEPEST:
            continue
        visited.add(id(held))
        for key, value in held.items():
            parts = (*above, *(part for part in str(key).split(".") if part != _WRAPPER))
            if isinstance(value, Tensor):
                yield ".".join(parts), value
            else:
                waiting.append((parts, unwrapped(value)))


def cached_weights(name: str) -> Path | None:
    """The file or folder ``name`` in torch's usual download cache; None where there is none. Nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return path if path.exists() else None


def find_weights(name: str, folder: Path | None) -> Path | None:
    """The file or folder ``name`` in ``folder``, else in torch's cache; None where there is none."""
    own = None if folder is None else folder / name
    return own if own is not None and own.exists() else cached_weights(name)


def content_hash(path: Path) -> int:
    """A number from 1 that is another for another file."""
    with path.open("rb") as stream:
        return 1 + int(hashlib.file_digest(stream, "sha256").hexdigest()[:12], 16)
