"""Slides of several files: those that a hostile one names must not lie outside of the served folder.

OpenSlide joins the names in MIRAX's ``Slidedat.ini`` and Hamamatsu's ``.vms`` to the slide's folder as they are, and
reads every file beside a DICOM file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from restain.core.errors import UnreadableImageError
from restain.slides.decoding import is_tiff

_LARGEST_INDEX = 2**20
"""Bytes of such an index; OpenSlide reads no larger ones."""
_MIRAX = (b"INDEXFILE", b"FILE_")
_HAMAMATSU = (b"ImageFile", b"MapFile", b"OptimisationFile", b"MacroImage")


def check_companions(path: Path, vendor: str | None, serves: Callable[[Path], bool]) -> None:
    """Refuse a slide that leads OpenSlide out of the served folder.

    Args:
        path: the slide.
        vendor: as OpenSlide names it; None: it does not read this file.
        serves: whether a resolved path may be read.

    Raises:
        UnreadableImageError: a file that belongs to the slide lies elsewhere, or its index cannot be read.
    """
    folder, names = path.parent, []
    if vendor == "mirax":
        folder = path.with_suffix("")
        names = ["Slidedat.ini", *_named(folder / "Slidedat.ini", _MIRAX)]
    elif vendor == "hamamatsu" and not is_tiff(path):  # NDPI is one file
        names = list(_named(path, _HAMAMATSU))
    elif vendor == "trestle":
        names = [f"{path.stem}.Full"]
    elif vendor == "dicom":
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_symlink()]
    for name in names:
        if "/" in name or "\\" in name or name == ".." or not serves((folder / name).resolve()):
            raise UnreadableImageError(
                f"{path}: the slide's file {name[:100]!r} lies outside of the served folder. Put all files of a slide "
                "side by side."
            )


def _named(index: Path, keys: tuple[bytes, ...]) -> Iterator[str]:
    """The files that an index (``key = value``, a line each) names under keys that begin so."""
    try:
        with index.open("rb") as stream:
            text = stream.read(_LARGEST_INDEX + 1)
    except OSError as error:
        raise UnreadableImageError(f"{index}: cannot be opened ({error.strerror}). Copy the slide again.") from error
    if len(text) > _LARGEST_INDEX:
        raise UnreadableImageError(f"{index}: is too large for the index of a slide. Copy the slide again.")
    for line in text.split(b"\n"):  # as GLib splits, and nowhere else
        key, _, value = line.partition(b"=")
        if not key.strip().startswith(keys) or key.strip() == b"FILE_COUNT":
            continue
        # GLib keeps blanks at the end
        yield from {name for name in (os.fsdecode(value.strip()), os.fsdecode(value.lstrip().rstrip(b"\r"))) if name}
