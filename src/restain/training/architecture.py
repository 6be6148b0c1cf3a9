"""Which settings of a method give the network that a checkpoint holds: compared by names and shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from itertools import product
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from restain.core.errors import RestainError
from restain.nn.norms import COUNTER
from restain.stainers.base import STAINERS, Stainer, build

Shapes = Mapping[str, tuple[int, ...]]
"""Tensors by the authors' names (``<network>.<key>``), with their shapes."""

CARRIES_NOTHING = (COUNTER, "filt", "running_mean", "running_var")
"""Last parts of keys that a network of ours may lack: constant filters, and statistics that old versions of PyTorch
wrote for instance norms, which do not use them."""
DEEPEST = 12
"""Largest number of blocks, layers or scales that the search tries."""
IMAGE_SIDES = (64, 128, 256, 512, 1024)
"""Sides of images, which networks that are tied to one size take."""


@dataclass(frozen=True)
class Mismatch:
    """One tensor that is not the same on both sides.

    Attributes:
        key: the authors' name.
        theirs: its shape in the checkpoint; None where it is not there.
        ours: its shape in the network as it is set; None where it has none.
    """

    key: str
    theirs: tuple[int, ...] | None
    ours: tuple[int, ...] | None

    @property
    def network(self) -> str:
        """The network that it belongs to."""
        return self.key.split(".", 1)[0]

    def __str__(self) -> str:
        """For a message."""
        theirs, ours = ("none" if side is None else list(side) for side in (self.theirs, self.ours))
        return f"{self.key}: checkpoint {theirs}, network as set {ours}"


def wanted(stainer: Stainer, networks: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What ``networks`` of ``stainer`` need, by the authors' names."""
    state, names = stainer.state_dict(), set(networks)
    return {
        theirs: tuple(state[ours].shape) for ours, theirs in stainer.reference_keys().items() if _first(theirs) in names
    }


def mismatches(theirs: Shapes, ours: Shapes) -> list[Mismatch]:
    """Where a checkpoint and a network differ, in the order of the names; what carries nothing is passed over."""
    found = []
    for key in sorted(theirs.keys() | ours.keys(), key=_natural):
        leaf = key.rsplit(".", 1)[-1]
        if leaf == COUNTER or (leaf in CARRIES_NOTHING and key not in ours) or theirs.get(key) == ours.get(key):
            continue
        found.append(Mismatch(key, theirs.get(key), ours.get(key)))
    return found


def misfit(theirs: Shapes, ours: Shapes | None) -> tuple[float, int]:
    """How many names only one side has, and how many shapes differ; infinite where ours cannot be built."""
    if ours is None:
        return math.inf, 0
    differ = mismatches(theirs, ours)
    lone = sum(one.theirs is None or one.ours is None for one in differ)
    return lone, len(differ) - lone


def shapes_of(method: str, config: Any) -> dict[str, tuple[int, ...]] | None:
    """What all networks of a method need, without making them; None where these settings cannot be built.

    Args:
        method: a registered name.
        config: its settings; None for the published ones.
    """
    try:
        with torch.device("meta"), _ShapesOnly():
            stainer = build(method, config)
        return wanted(stainer, [name for name, _ in stainer.named_children()])
    except (RestainError, RuntimeError, ValueError, IndexError, TypeError):
        return None


def fitting(method: str, config: Any, theirs: Shapes) -> Any:
    """The settings nearest to ``config`` whose networks fit ``theirs`` best.

    From each combination of the kinds (enumerations, yes or no, weights that may be 0) that change the networks, those
    nearest to ``config`` first, coordinate descent over the numbers: first on how many names only one side has (they
    follow from depths), then on how many shapes differ (they follow from widths). At last pairs of depths change
    together: a stride-2 convolution more and three blocks fewer leave most names as they are.

    Args:
        method: a registered name.
        config: where the search starts.
        theirs: what the checkpoint holds; networks that it does not hold are not compared.

    Returns:
        A Config; ``config`` itself where nothing fits better.
    """
    search = _Search(method, theirs)
    kinds = {field.name: _kinds(config, field.name) for field in fields(config)}
    kinds = {name: values for name, values in kinds.items() if search.matters(config, name, values)}
    best = config
    combinations = product(*kinds.values())
    for values in sorted(
        combinations, key=lambda combination: _changes(config, dict(zip(kinds, combination, strict=True)))
    ):
        start = replaced(config, dict(zip(kinds, values, strict=True)))
        if start is not None:
            best = min(best, search.descend(start), key=search.cost)
        if search.cost(best) == (0, 0):
            break
    best = search.descend_in_pairs(best)
    for field in fields(config):  # what needs no change keeps its value
        undone = replaced(best, {field.name: getattr(config, field.name)})
        if undone is not None and search.cost(undone) <= search.cost(best):
            best = undone
    return best


class _Search:
    """Costs of settings, each built once.

    Args:
        method: a registered name.
        theirs: what the checkpoint holds.
    """

    def __init__(self, method: str, theirs: Shapes) -> None:
        self._method, self._theirs = method, theirs
        self._given = {_first(key) for key in theirs}
        self._sizes = sorted({side for shape in theirs.values() for side in shape})
        self._built: dict[Any, dict[str, tuple[int, ...]] | None] = {}

    def network(self, config: Any) -> dict[str, tuple[int, ...]] | None:
        """What the networks that the checkpoint holds need; None where these settings cannot be built."""
        if config not in self._built:
            found = shapes_of(self._method, config)
            kept = None if found is None else {key: shape for key, shape in found.items() if _first(key) in self._given}
            self._built[config] = kept
        return self._built[config]

    def cost(self, config: Any) -> tuple[float, int]:
        """How many names only one side has, and how many shapes differ."""
        return misfit(self._theirs, self.network(config))

    def matters(self, config: Any, field: str, values: list[Any]) -> bool:
        """Whether another of ``values`` changes the networks."""
        others = (replaced(config, {field: value}) for value in values if value != getattr(config, field))
        return any(other is not None and self.network(other) != self.network(config) for other in others)

    def descend(self, config: Any) -> Any:
        """Change one number at a time, to its best value, until nothing gets better."""
        before = None
        while before != self.cost(config) and self.cost(config) > (0, 0):
            before = self.cost(config)
            for field in fields(config):
                tried = (replaced(config, {field.name: value}) for value in self._numbers(config, field.name))
                config = min([config, *(one for one in tried if one is not None)], key=self.cost)
        return config

    def descend_in_pairs(self, config: Any) -> Any:
        """``descend`` again from wherever two depths, changed together, lead to fewer lone names."""
        while self.cost(config)[0]:
            better = next((one for one in self._pairs(config) if self.cost(one) < self.cost(config)), None)
            if better is None:
                break
            config = self.descend(better)
        return config

    def _pairs(self, config: Any) -> Iterator[Any]:
        names = [field.name for field in fields(config)]
        for first, step in product(names, (1, -1, 2, -2)):
            if isinstance(self._numbers(config, first), range):
                moved = replaced(config, {first: getattr(config, first) + step})
                if moved is not None and self.network(moved) is not None:
                    for second in names:
                        values = self._numbers(moved, second) if second != first else []
                        if isinstance(values, range):
                            yield from (
                                one for value in values if (one := replaced(moved, {second: value})) is not None
                            )

    def _numbers(self, config: Any, field: str) -> Sequence[int]:
        """What is tried for a field: depths where it changes names, the checkpoint's sizes where it changes shapes."""
        value = getattr(config, field)
        if not isinstance(value, int) or isinstance(value, bool):
            return []
        now, more = self.network(config), replaced(config, {field: value + 1}) or replaced(config, {field: 2 * value})
        changed = self.network(more) if more is not None else None
        if now is None or changed is None or changed.keys() != now.keys():
            return range(DEEPEST + 1)
        return sorted({*self._sizes, *IMAGE_SIDES}) if changed != now else []


def nearest_methods(theirs: Shapes, other_than: str) -> list[tuple[str, int]]:
    """How many tensors of a network differ from the one that stains in each other method, as published; best first.

    Args:
        theirs: the network's tensors, without its name before them.
        other_than: a method that is left out.
    """
    found = []
    for entry in STAINERS:
        ours = shapes_of(entry.name, None) if entry.name != other_than else None
        if ours is not None:
            prefix = f"{entry.item.stains}."
            staining = {key.removeprefix(prefix): shape for key, shape in ours.items() if key.startswith(prefix)}
            found.append((entry.name, len(mismatches(theirs, staining))))
    return sorted(found, key=lambda pair: pair[1])


def replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """``config`` with other values; None where the method refuses them."""
    try:
        return replace(config, **values)
    except RestainError:
        return None


def _kinds(config: Any, field: str) -> list[Any]:
    """The values of a field that is no number of layers or channels; a weight of 0 may leave a network out."""
    value = getattr(config, field)
    if isinstance(value, bool):
        return [False, True]
    if isinstance(value, Enum):
        return list(type(value))
    if isinstance(value, float):
        return [value, 0.0]
    return []


def _changes(config: Any, values: Mapping[str, Any]) -> int:
    return sum(getattr(config, name) != value for name, value in values.items())


def _first(key: str) -> str:
    return key.split(".", 1)[0]


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts ``model.10`` after ``model.2``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")]


class _ShapesOnly(TorchFunctionMode):
    """Leaves out what fills tensors in place: their shapes are known without it.

    Spectral norms begin with hundreds of power iterations, which take a second even where there is nothing to compute.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Skip initialisation, and products whose value nobody sees."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if kwargs.get("out") is not None:
            return kwargs["out"]
        if name.endswith("_") and not name.startswith("_") and name != "requires_grad_":
            return args[0] if args else kwargs["tensor"]
        if func is torch.mv:
            return args[0].new_empty(args[0].shape[0])
        return func(*args, **kwargs)
