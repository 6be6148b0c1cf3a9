"""Registrations that all requests share: each file is read once, and only if it is of a sane size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from restain.core.errors import ItemError
from restain.core.files import read_json
from restain.registration import Transform
from restain.web.stamps import stamp

_LARGEST_FILE = 2**20
"""Bytes of a transform.json; restain's have some hundred."""
_LARGEST_FIELD = 2**24
"""Nodes of a displacement field (128 MiB): 65,000 px square at a spacing of 16 px."""

_LARGEST_SIDE, _MPP = 2**24, (1e-3, 1e3)
"""px, and um/px: beyond these is no slide, and numbers no longer fit."""


class Transforms:
    """The registrations used last.

    Args:
        serves: whether a resolved path may be read.
        most: how many are kept.
    """

    def __init__(self, serves: Callable[[Path], bool], most: int = 4) -> None:
        self._serves, self._most = serves, most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, str], Transform] = OrderedDict()

    def load(self, path: Path) -> Transform:
        """The registration in ``path``; the same object until the file changes or others push it out.

        Raises:
            NotServedError: there is no such file.
            ItemError: it is none, damaged, too large, or its field lies outside of the served folder.
        """
        key = (path, stamp(path))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._read(path)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _read(self, path: Path) -> Transform:
        """The registration in a file that anyone may have written."""
        try:
            self._check(path)
            transform = Transform.load(path)
        except (OSError, RuntimeError, ValueError, OverflowError, MemoryError) as error:  # names that no file can have,
            # loops of links, a field that says it is of any size
            raise ItemError(f"{path}: damaged ({type(error).__name__}). Register the slides again.") from error
        sides, mpp = (*transform.he_size, *transform.ihc_size), (transform.he_mpp, transform.ihc_mpp)
        if max(sides) > _LARGEST_SIDE or min(mpp) < _MPP[0] or max(mpp) > _MPP[1]:
            raise ItemError(f"{path}: its sizes or um/px are those of no slide. Register the slides again.")
        return transform

    def _check(self, path: Path) -> None:
        """Refuse what is too large to be read, before it is."""
        if path.stat().st_size > _LARGEST_FILE:
            raise ItemError(f"{path}: too large for a transform.json of restain.")
        document = read_json(path)
        field = document.get("field") if isinstance(document, dict) else None
        if not isinstance(field, dict):
            return  # Transform.load says what is wrong, if anything is
        name, shape = field.get("file"), field.get("shape")
        if not isinstance(name, str) or "/" in name or "\0" in name or not self._serves((path.parent / name).resolve()):
            raise ItemError(f"{path}: its field must be a file beside it. Copy the whole folder of the registration.")
        if not isinstance(shape, list) or len(shape) != 3 or not all(isinstance(side, int) for side in shape):
            raise ItemError(f"{path}: damaged (the shape of its field). Register the slides again.")
        if shape[0] * shape[1] > _LARGEST_FIELD:
            raise ItemError(f"{path}: its field of {shape[1]} x {shape[0]} nodes is too large to be shown.")
