"""What `stain` is pointed at: images, slides, folders of them, a cohort's CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.core.resolution import parse_mpp

PLAIN = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes of plain images, which may carry no um/px."""
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".dcm")
SUFFIXES = PLAIN + SLIDES
"""Files of a folder that are taken; others are left alone."""


@dataclass(frozen=True)
class Input:
    """One file to stain.

    Attributes:
        path: the file.
        mpp: um/px that the user gave for it; None leaves it to the file.
        title: what comes out of it is called so; None: the file's name without its suffixes of format.
    """

    path: Path
    mpp: float | None = None
    title: str | None = None

    @property
    def name(self) -> str:
        """The name of what comes out of it."""
        if self.title is not None:
            return self.title
        stem = self.path.name
        for suffix in (".ome.tiff", ".ome.tif"):
            if stem.lower().endswith(suffix):
                return stem[: -len(suffix)]
        return self.path.stem


def collect(paths: Sequence[Path], mpp: float | None = None) -> list[Input]:
    """The files that ``paths`` stand for.

    Args:
        paths: files, folders (their images and slides, not those of folders inside), or CSVs of a cohort (column
            ``he``, paths from the CSV's folder, and ``mpp`` or ``he_mpp`` where given).
        mpp: um/px for all files whose CSV gives none.

    Raises:
        RestainError: nothing there, or two files whose results would have the same name.
    """
    found: list[Input] = []
    for path in paths:
        if path.is_dir():
            visible = (file for file in path.iterdir() if not file.name.startswith("."))
            files = sorted(file for file in visible if file.suffix.lower() in SUFFIXES and file.is_file())
            if not files:
                raise RestainError(f"{path}: holds no images or slides ({', '.join(SUFFIXES)}).")
            found += [Input(file, mpp) for file in files]
        elif path.suffix.lower() == ".csv":
            for row in read_csv(path, ["he"]):
                column = "he_mpp" if row.get("he_mpp") else "mpp"
                given = parse_mpp(row.get(column), f"{path}: {row['he']}: {column}")
                found.append(Input(path.parent / row["he"], mpp if given is None else given))
        elif path.exists():
            found.append(Input(path, mpp))
        else:
            raise RestainError(f"{path}: no such file or folder.")
    seen: dict[str, Path] = {}
    for item in found:
        if item.name in seen:
            raise RestainError(
                f"{seen[item.name]} and {item.path} would both be written as {item.name!r}; "
                "stain them into two folders."
            )
        seen[item.name] = item.path
    return found
