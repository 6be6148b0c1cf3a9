"""Stamps: a short text that says which version of a file was seen."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from restain.web.paths import NotServedError


def stamp(path: Path) -> str:
    """A text that changes when the file does: from its size, the time it was written, and its place on the disk.

    Raises:
        NotServedError: there is no such file (a folder, a pipe or a device is none).
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise _gone(path) from error
    if not stat.S_ISREG(found.st_mode):
        raise _gone(path)
    text = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


def _gone(path: Path) -> NotServedError:
    return NotServedError(f"{path.name!r}: no such file in the served folder. Reload the page; was it moved?")
