"""What is computed once and kept, up to so many bytes: parsed files, masks, nuclei."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Protocol, TypeVar, cast

from restain.core.errors import RestainError, UnreadableImageError

BUDGET = 384 * 2**20
_LEAST = 1024
"""Bytes that every entry counts for, at least."""


class Sized(Protocol):
    """Something that knows how many bytes it takes."""

    @property
    def nbytes(self) -> int:
        """Of memory."""


T = TypeVar("T", bound=Sized)


class Kept:
    """Results by name; the least recently used go first. Safe to use from threads.

    Requests that want the same thing at the same time wait for the one that computes it. A damaged file is kept as its
    error, so that it is not parsed again for every tile: names must hold the file's stamp.

    Args:
        budget: bytes; the newest result is kept even where it alone takes more.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Future[Sized]] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}
        self._total = 0

    def get(self, name: Hashable, make: Callable[[], T]) -> T:
        """The result called ``name``, made where there is none.

        Raises:
            RestainError: it could not be made; nor could it when asked for earlier.
        """
        with self._lock:
            future = self._entries.get(name)
            mine = future is None
            if future is None:
                future = self._entries[name] = Future()
            self._entries.move_to_end(name)
        if mine:
            self._make(name, make, future)
        error = future.exception()
        if error is not None:
            raise error.with_traceback(None)  # or it would grow by every frame that it is raised through
        return cast("T", future.result())

    @property
    def nbytes(self) -> int:
        """Of all results."""
        return self._total

    def _make(self, name: Hashable, make: Callable[[], T], future: Future[Sized]) -> None:
        try:
            result = make()
        except RestainError as error:
            future.set_exception(error)
            if isinstance(error, UnreadableImageError):  # the slide may be opened anew
                self._forget(name)
            else:
                self._account(name, _LEAST)
        except BaseException as error:
            self._forget(name)  # may be otherwise next time
            future.set_exception(error)
            raise
        else:
            future.set_result(result)
            self._account(name, max(result.nbytes, _LEAST))

    def _forget(self, name: Hashable) -> None:
        with self._lock:
            del self._entries[name]

    def _account(self, name: Hashable, size: int) -> None:
        with self._lock:
            self._bytes[name] = size
            self._total += size
            while self._total > self._budget:
                old = next((key for key in self._entries if key in self._bytes and key != name), None)
                if old is None:
                    break
                del self._entries[old]
                self._total -= self._bytes.pop(old)
