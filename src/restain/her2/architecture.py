"""Which settings of a slide model give the network that a checkpoint holds: read from its names and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import Enum
from itertools import product
from typing import Any

import torch

from restain.core.errors import RestainError
from restain.her2.bag import Bag
from restain.her2.base import MODELS, SlideModel, build_model
from restain.her2.released import without_wrapper
from restain.training.architecture import Shapes, misfit

PROBE = 48
"""Tiles of a bag that shows which tensors predicting needs."""
ANY = (7, 3)
"""A width of features and a number of classes to start from; the checkpoint's own are read."""
_OUTER = ("in_dim", "classes")
_AKIN = 0.3
"""Share of the names that networks of one method have in common, whatever their depths."""


@dataclass(frozen=True)
class Sizes:
    """What a slide model is built of.

    Attributes:
        in_dim: width of the features.
        classes: number of classes.
        config: the method's settings.
    """

    in_dim: int
    classes: int
    config: Any

    def numbers(self) -> list[str]:
        """Names of all that is a number."""
        return [*_OUTER, *(one.name for one in fields(self.config) if type(self.value(one.name)) in (int, float))]

    def value(self, name: str) -> Any:
        """One of the sizes or settings."""
        return getattr(self if name in _OUTER else self.config, name)

    def having(self, **values: Any) -> Sizes | None:
        """With other values; None where the method refuses them."""
        outer = {name: value for name, value in values.items() if name in _OUTER}
        inner = {name: value for name, value in values.items() if name not in _OUTER}
        try:
            return replace(self, **outer, config=replace(self.config, **inner))
        except RestainError:
            return None


def outline(method: str, sizes: Sizes) -> SlideModel:
    """The model without memory for its numbers.

    Raises:
        RestainError: sizes that cannot be built.
    """
    with torch.device("meta"):
        return build_model(method, sizes.in_dim, sizes.classes, sizes.config)


def shapes_of(model: SlideModel) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by the authors' names, without ``module``; counters and masks are no weights."""
    state = model.state_dict()
    return {
        without_wrapper(theirs): tuple(state[ours].shape)
        for ours, theirs in model.reference_keys().items()
        if state[ours].is_floating_point()
    }


class Search:
    """Compares one checkpoint with a method at many sizes.

    Args:
        method: a registered name.
        theirs: what the checkpoint holds.
    """

    def __init__(self, method: str, theirs: Shapes) -> None:
        self._method, self._theirs = method, theirs
        self._built: dict[Sizes, dict[str, tuple[int, ...]] | None] = {}

    def shapes(self, sizes: Sizes | None) -> dict[str, tuple[int, ...]] | None:
        """What the model needs; None where these sizes cannot be built."""
        if sizes is None:
            return None
        if sizes not in self._built:
            try:
                self._built[sizes] = shapes_of(outline(self._method, sizes))
            except (RestainError, RuntimeError, ValueError, TypeError):
                self._built[sizes] = None
        return self._built[sizes]

    def cost(self, sizes: Sizes) -> tuple[float, int]:
        """How many names only one side has, and how many shapes differ."""
        return misfit(self._theirs, self.shapes(sizes))

    def best(self, sizes: Sizes) -> Sizes:
        """The sizes that fit best, with all else as in ``sizes``; the config of ``sizes`` where none fits better."""
        found = [self._reading(sizes, _OUTER)]
        if self.cost(found[0]) == (0, 0):
            return found[0]
        switches = [one.name for one in fields(sizes.config) if self._switches(sizes, one.name)]
        for values in product((False, True), repeat=len(switches)):
            start = sizes.having(**dict(zip(switches, values, strict=True)))
            if start is not None:
                found.append(self._read(self._deepen(self._read(start))))
        return min(found, key=self.cost)

    def traceless(self, sizes: Sizes) -> list[str]:
        """The settings that no name or shape depends on: a checkpoint cannot say them."""
        ours = self.shapes(sizes)
        left = []
        for one in fields(sizes.config):
            value = sizes.value(one.name)
            others: list[Any] = []
            if isinstance(value, bool):
                others = [not value]
            elif isinstance(value, int | float):
                others = [2 * value, value / 2 if isinstance(value, float) else 1]
            elif not isinstance(value, Enum):  # none of whose values changes a layer, unlike those of a tuple of widths
                continue
            probed = [self.shapes(sizes.having(**{one.name: other})) for other in others if other != value]
            if all(found is None or found == ours for found in probed):
                left.append(one.name)
        return left

    def _switches(self, sizes: Sizes, name: str) -> bool:
        value = sizes.value(name)
        return isinstance(value, bool) and self.shapes(sizes.having(**{name: not value})) != self.shapes(sizes)

    def _read(self, sizes: Sizes) -> Sizes:
        """Take the numbers that stand in the checkpoint's shapes: first the whole ones, then what multiplies them."""
        for kind in (int, float):
            sizes = self._reading(sizes, [name for name in sizes.numbers() if type(sizes.value(name)) is kind])
        return sizes

    def _reading(self, sizes: Sizes, names: Iterable[str]) -> Sizes:
        said = {name: self._said(sizes, name) for name in names}
        return sizes.having(**{name: value for name, value in said.items() if value is not None}) or sizes

    def _said(self, sizes: Sizes, name: str) -> int | float | None:
        """The number ``name`` as most of the checkpoint's shapes say it; None where they do not."""
        value, ours = sizes.value(name), self.shapes(sizes)
        for other in (2 * value, 1) if isinstance(value, int) else (2 * value,):
            probed = self.shapes(sizes.having(**{name: other})) if other != value else None
            if ours is None or probed is None:
                continue
            votes: Counter[int | float] = Counter()
            for key in ours.keys() & probed.keys() & self._theirs.keys():
                for own, moved, theirs in zip(ours[key], probed[key], self._theirs[key], strict=False):
                    if isinstance(value, int) and (own, moved) == (value, other):
                        votes[theirs] += 1
                    elif isinstance(value, float) and moved == 2 * own:
                        votes[theirs / own * value] += 1
            return votes.most_common(1)[0][0] if votes else None
        return None

    def _deepen(self, sizes: Sizes) -> Sizes:
        """Choose the depths: numbers that add names."""
        for name in sizes.numbers():
            value, ours = sizes.value(name), self.shapes(sizes)
            if name in _OUTER or not isinstance(value, int) or ours is None or not self.cost(sizes)[0]:
                continue
            more = self.shapes(sizes.having(**{name: value + 1}))
            if more is not None and more.keys() != ours.keys():
                sizes = self._step(self._step(sizes, name, 1), name, -1)
        return sizes

    def _step(self, sizes: Sizes, name: str, step: int) -> Sizes:
        """Change a depth as long as it fits better: fewer names are alone with each step."""
        while (moved := sizes.having(**{name: sizes.value(name) + step})) and self.cost(moved) < self.cost(sizes):
            sizes = moved
        return sizes


def needless(model: SlideModel) -> set[str]:
    """Names, as ``shapes_of`` has them, of tensors that no prediction from H&E depends on."""
    used = _used(model, None)
    return {without_wrapper(theirs) for ours, theirs in model.reference_keys().items() if ours not in used}


def tells_types(model: SlideModel) -> bool:
    """Whether a classifier of nuclei would move the model's answers (``Bag.kinds``)."""
    return _used(model, None) != _used(model, torch.arange(PROBE) % 2)


def _used(model: SlideModel, kinds: torch.Tensor | None) -> set[str]:
    """Parameters that the logits of a made-up bag have a gradient for, and all buffers."""
    chance = torch.Generator().manual_seed(0)
    place = torch.arange(PROBE)
    coords = torch.stack([place % 7, place // 7], 1).float()
    bag = Bag(torch.randn(PROBE, model.in_dim, generator=chance), coords, 1.0, kinds=kinds)
    model.eval()
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        model(bag).logits.sum().backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    return found | {name for name, _ in model.named_buffers()}


def class_names(search: Search, sizes: Sizes) -> set[str]:
    """The tensors that depend on the number of classes."""
    ours, more = (search.shapes(one) or {} for one in (sizes, sizes.having(classes=sizes.classes + 1)))
    return {key for key in ours.keys() | more.keys() if ours.get(key) != more.get(key)}


def fitting_methods(theirs: Shapes, other_than: str) -> list[str]:
    """The other slide models that fit at some sizes, all else as published."""
    found = []
    for entry in MODELS:
        search, sizes = Search(entry.name, theirs), Sizes(*ANY, entry.info.config())
        ours = search.shapes(sizes) or {}
        akin = len(ours.keys() & theirs.keys()) >= _AKIN * min(len(ours), len(theirs))
        if entry.name != other_than and akin and search.cost(search.best(sizes)) == (0, 0):
            found.append(entry.name)
    return found
