"""Registries: a decorator gives a class or function a name, so that adding one touches no other code."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from restain.core.errors import RestainError

T = TypeVar("T")
Info = TypeVar("Info")


@dataclass(frozen=True)
class Entry(Generic[T, Info]):
    """One registered thing with what is known about it."""

    name: str
    item: T
    info: Info


class Registry(Generic[T, Info]):
    """Names to things of one kind (stainers, metrics), each with an ``Info``.

    The modules of ``package`` are imported at the first look-up, so a file dropped into the package is found without
    being named anywhere.

    Args:
        kind: what the entries are, in words, for messages: ``"stainer"``.
        package: the package whose modules register themselves.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry[T, Info]] = {}
        self._loaded = False

    def add(self, name: str, info: Info) -> Callable[[T], T]:
        """A decorator that registers what it decorates under ``name``."""

        def decorate(item: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, item, info)
            return item

        return decorate

    def __getitem__(self, name: str) -> Entry[T, Info]:
        """The entry called ``name``.

        Raises:
            RestainError: there is none; the nearest names are suggested.
        """
        self._load()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.4)
            hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(sorted(self._entries))}."
            raise RestainError(f"There is no {self.kind} {name!r}. {hint}")
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry[T, Info]]:
        """All entries in the order of their names."""
        self._load()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__, f"{self._package}."):
                importlib.import_module(module.name)
