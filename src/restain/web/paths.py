"""From a name in a request to a file: only what lies in the served folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from restain.core.errors import ItemError

STUDY_FILE = "study.sqlite"
"""Marks the folder of a reading study: nothing in it is served as a file, or readers could see the truth."""


def holds_study(folder: Path) -> bool:
    """Whether a folder is that of a reading study; not where it may not be entered: nothing in it can be opened."""
    try:
        return (folder / STUDY_FILE).is_file()
    except OSError:
        return False


class NotServedError(ItemError):
    """A request named what is not there, or lies outside of the served folder; which of both is not said."""


class Root:
    """The served folder.

    Args:
        folder: must exist.

    Raises:
        ItemError: it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = Path(folder).resolve(strict=True)
        except OSError as error:
            raise ItemError(f"{folder}: cannot be opened ({error.strerror}). Give a folder with slides.") from error
        if not self.folder.is_dir():
            raise ItemError(f"{folder}: is not a folder. Give the folder in which the slides lie.")

    def resolve(self, name: str) -> Path:
        """The file or folder that a request names.

        Args:
            name: relative to the served folder, parts separated by ``/``.

        Returns:
            An absolute path without symbolic links, inside the served folder.

        Raises:
            NotServedError: it is absolute, climbs (``..``), is hidden (a part begins with a dot), is absent, belongs to
                a reading study, or leads out of the folder by a symbolic link.
        """
        refused = NotServedError(f"{name[:300]!r}: no such file in the served folder. Reload the page; was it moved?")
        parts = PurePosixPath(name).parts
        if not name or "\0" in name or "\\" in name or name.startswith("/") or any(p.startswith(".") for p in parts):
            raise refused
        try:
            path = self.folder.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:  # absent, a loop of links, a name too long, or no name
            raise refused from error
        if not self.serves(path):
            raise refused
        return path

    def serves(self, path: Path) -> bool:
        """Whether a resolved path lies in the folder, is not hidden, and belongs to no reading study."""
        if not path.is_relative_to(self.folder):
            return False
        inside = path.relative_to(self.folder)
        if any(part.startswith(".") for part in inside.parts):
            return False
        return not any(holds_study(folder) for folder in (path, *path.parents))

    def relative(self, path: Path) -> str | None:
        """The name under which a file is served; None where it is not (see ``resolve``)."""
        try:
            resolved = Path(path).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return None
        return resolved.relative_to(self.folder).as_posix() if self.serves(resolved) else None
