"""The folder layouts that patch-pair datasets come in. A new layout is one more entry of ``LAYOUTS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from restain.core.errors import RestainError, UnreadableImageError
from restain.slides import read_image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
SPLITS = ("train", "val", "test")
MAPS = ("dab", "dab_mask", "nuclei_map")
"""Kinds of knowledge maps: the IHC's DAB alone, its soft membrane mask, the density of its nuclei."""


@dataclass(frozen=True)
class SplitFolders:
    """Where the images of one split lie.

    Attributes:
        he: folder of the H&E images; it may be absent on disk.
        ihc: folder of the IHC images; the same as ``he`` where both partners are halves of one file.
        extras: folders of further images by kind; only those that are there.
    """

    he: Path
    ihc: Path
    extras: Mapping[str, Path] = field(default_factory=dict)

    @property
    def side_by_side(self) -> bool:
        """Both partners are halves of one file."""
        return self.he == self.ihc


class Layout(Protocol):
    """A way to lay out a dataset."""

    @property
    def name(self) -> str:
        """How the layout is called, and how it looks."""

    def find(self, root: Path) -> dict[str, SplitFolders]:
        """The splits under ``root`` that are in this layout; empty where none is."""


@dataclass(frozen=True)
class TwoFolders:
    """H&E and IHC in a folder each; both patterns contain ``{split}``."""

    name: str
    he: str
    ihc: str
    extras: Mapping[str, str] = field(default_factory=dict)

    def find(self, root: Path) -> dict[str, SplitFolders]:
        """The splits of which either folder is there, provided that a split has both."""
        found = {}
        for split in SPLITS:
            he, ihc = root / self.he.format(split=split), root / self.ihc.format(split=split)
            extras = {kind: root / pattern.format(split=split) for kind, pattern in self.extras.items()}
            if he.is_dir() or ihc.is_dir():
                extras = {kind: folder for kind, folder in extras.items() if folder.is_dir()}
                found[split] = SplitFolders(he, ihc, extras)
        complete = any(folders.he.is_dir() and folders.ihc.is_dir() for folders in found.values())
        return found if complete else {}


@dataclass(frozen=True)
class SideBySide:
    """Files that hold H&E in the left half and IHC in the right half, in a folder for each split."""

    name: str

    def find(self, root: Path) -> dict[str, SplitFolders]:
        """The split folders, provided that the first readable image in them is twice as wide as high."""
        folders = [root / split for split in SPLITS if (root / split).is_dir()]
        for path in (path for folder in folders for path in image_files(folder)):
            try:
                height, width = read_image(path).shape[:2]
            except UnreadableImageError:
                continue
            if width != 2 * height:
                return {}
            return {folder.name: SplitFolders(folder, folder) for folder in folders}
        return {}


LAYOUTS: tuple[Layout, ...] = (
    TwoFolders("bci: {HE,IHC}/{train,val,test}", "HE/{split}", "IHC/{split}"),
    TwoFolders("challenge: {train,val,test}/{HE,IHC}", "{split}/HE", "{split}/IHC"),
    TwoFolders("ab: trainA trainB", "{split}A", "{split}B"),
    TwoFolders(
        "he-ihc: train_HE train_IHC",
        "{split}_HE",
        "{split}_IHC",
        {kind: f"{{split}}_IHC_{kind}" for kind in MAPS},
    ),
    TwoFolders("llvip: {visible,infrared}/{train,test}", "visible/{split}", "infrared/{split}"),
    SideBySide("side-by-side: train/ val/ test/ of images twice as wide as high"),
)


def detect_layout(root: Path) -> tuple[Layout, dict[str, SplitFolders]]:
    """The layout of the dataset in ``root`` and where its splits lie.

    Raises:
        RestainError: ``root`` is not a folder, or is in none of the layouts (which are listed; a sub-folder that is in
            one is suggested).
    """
    if not root.is_dir():
        raise RestainError(f"{root}: no such folder. Give the folder of a patch-pair dataset.")
    for layout in LAYOUTS:
        if splits := layout.find(root):
            return layout, splits
    inside = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    nested = [folder for folder in inside if any(layout.find(folder) for layout in LAYOUTS)]
    if nested:
        hint = f"{nested[0]} is one: give that folder."
    else:
        known = "\n  ".join(layout.name for layout in LAYOUTS)
        here = ", ".join(folder.name for folder in inside[:10]) or "no folders"
        hint = f"It has {here}. Layouts that are read:\n  {known}"
    raise RestainError(f"{root}: not a patch-pair dataset in a known layout. {hint}")


def image_files(folder: Path) -> list[Path]:
    """The image files in ``folder`` (by suffix, hidden ones left out), sorted by name; empty where it is absent."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if not path.name.startswith(".") and path.is_file())
