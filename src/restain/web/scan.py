"""What lies in the served folder: one bounded walk that opens nothing."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from restain.infer.inputs import SUFFIXES
from restain.web.outside import text
from restain.web.paths import STUDY_FILE

DEEPEST = 12
"""Folders below each other that are looked into."""
ENTRIES = 300_000
"""Files and folders that are looked at, in all."""
SECONDS = 20.0
"""That a walk may take, and again that reading what it found may take."""
PATCHES = 60
"""PNG and JPEG files of one folder above which they are patches, not slides."""
SLIDES = 20_000
RASTER = (".png", ".jpg", ".jpeg")
PRODUCTS = frozenset({"overlay.png", "picture.png", "attention.png", "filled.ome.tif"})
"""What restain writes beside its results to be looked at."""
PATCH = re.compile(r"\d+_(train|val|test)[_.].*")
"""A patch's name in BCI's layout, which restain writes, too."""
PATCH_FOLDERS = (
    {"HE", "IHC"}, {"trainA", "trainB"}, {"testA", "testB"}, {"train_HE", "train_IHC"}, {"visible", "infrared"},
)  # fmt: skip
"""Folders of patches: where both are, neither is looked into."""
MARKS = {
    "quality.json": "registrations",
    "stain.json": "records",
    "virtual.json": "virtual",
    "score.json": "scores",
    "prediction.json": "predictions",
}
"""The file that says what a folder is, and where it is listed."""


@dataclass(frozen=True)
class SlideFile:
    """A slide or image that was found.

    Attributes:
        path: absolute.
        bytes: its size.
        mtime_ns: when it was last written.
    """

    path: Path
    bytes: int
    mtime_ns: int

    @property
    def title(self) -> str:
        """Its name without the suffixes of its format."""
        return title_of(self.path.name)


@dataclass
class Found:
    """What a walk came upon; all paths are absolute, without symbolic links, and in the served folder.

    Attributes:
        slides: by path, without patches.
        tables: CSVs.
        pages: HTML files.
        registrations: ``quality.json`` files.
        records: ``stain.json`` files.
        virtual: ``virtual.json`` files.
        scores: ``score.json`` files.
        predictions: ``prediction.json`` files.
        builds: folders with ``pairs.csv`` and ``build.json``.
        runs: folders with ``run.json``.
        studies: folders of reading studies.
        links: symbolic links that were not followed.
        problems: what could not be looked into, in words.
        truncated: whether there is more.
        until: when to stop reading them (``time.monotonic``).
    """

    slides: dict[Path, SlideFile] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)
    registrations: list[Path] = field(default_factory=list)
    records: list[Path] = field(default_factory=list)
    virtual: list[Path] = field(default_factory=list)
    scores: list[Path] = field(default_factory=list)
    predictions: list[Path] = field(default_factory=list)
    builds: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)
    studies: list[Path] = field(default_factory=list)
    links: int = 0
    problems: list[str] = field(default_factory=list)
    truncated: bool = False
    until: float = field(default_factory=lambda: time.monotonic() + 2 * SECONDS)

    def in_time(self, paths: Iterable[Path]) -> Iterator[Path]:
        """The paths, as long as there is time to read them."""
        for path in paths:
            if time.monotonic() > self.until:
                self.truncated = True
                return
            yield path


def title_of(name: str) -> str:
    """A slide's name without the suffixes of its format."""
    for suffix in (".ome.tiff", ".ome.tif"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem


def scan(folder: Path) -> Found:
    """Walk a folder, the near before the deep, so that what is left out when there is too much lies deep.

    Hidden files, symbolic links, the insides of runs and of reading studies, and patches are left out.

    Args:
        folder: absolute, without symbolic links.
    """
    found, until, left = Found(), time.monotonic() + SECONDS, ENTRIES
    pending: deque[tuple[Path, int]] = deque([(folder, 0)])
    while pending:
        here, depth = pending.popleft()
        if left <= 0 or time.monotonic() > until:
            found.truncated = True
            break
        entries = list(_entries(here, left, found))
        left -= len(entries) + 1
        below = _take(here, here == folder, entries, found)
        if depth < DEEPEST:
            pending.extend((path, depth + 1) for path in below)
        elif below:
            found.truncated = True
    if found.links:
        found.problems.append(
            f"{found.links} symbolic link{'s were' if found.links > 1 else ' was'} left out: serve the folder in which "
            "the files themselves lie."
        )
    return found


def _entries(here: Path, most: int, found: Found) -> Iterator[os.DirEntry[str]]:
    """At most ``most`` entries of a folder; none of one that cannot be read."""
    try:
        with os.scandir(here) as listing:
            for number, entry in enumerate(listing):
                if number >= most:
                    found.truncated = True
                    return
                yield entry
    except OSError as error:
        found.problems.append(f"{here}: cannot be looked into ({error.strerror}).")


def _take(here: Path, top: bool, entries: list[os.DirEntry[str]], found: Found) -> list[Path]:
    """Note what a folder holds; the folders in it that are to be looked into, by name."""
    files: dict[str, os.DirEntry[str]] = {}
    folders: set[str] = set()
    for entry in entries:
        name = entry.name
        if name.startswith(".") or "\\" in name:
            continue
        if text(name) != name:
            found.problems.append(f"{here}: the name {name!a} is no text that a page can show; rename the file.")
        elif entry.is_symlink():
            found.links += 1
        elif entry.is_dir(follow_symlinks=False):
            folders.add(name)
        elif entry.is_file(follow_symlinks=False):
            files[name] = entry
    if STUDY_FILE in files:
        found.studies.append(here)
        return []
    if "run.json" in files:
        if not top:
            found.runs.append(here)
            return []
        found.problems.append("the served folder is itself a run: serve the folder above it to see its curves.")
    _note(here, files, found)
    for patches in PATCH_FOLDERS:
        if patches <= folders:
            folders -= patches
    return [here / name for name in sorted(folders)]


def _note(here: Path, files: dict[str, os.DirEntry[str]], found: Found) -> None:
    """Sort the files of a folder by what they seem to be."""
    for mark, kind in MARKS.items():
        if mark in files:
            getattr(found, kind).append(here / mark)
    if {"pairs.csv", "build.json"} <= files.keys():
        found.builds.append(here)
    plain = sum(name.lower().endswith(RASTER) for name in files)
    for name in sorted(files):
        suffix = Path(name).suffix.lower()
        if suffix == ".csv":
            found.tables.append(here / name)
        elif suffix in (".html", ".htm"):
            found.pages.append(here / name)
        elif suffix in SUFFIXES and name not in PRODUCTS and "truth.json" not in files:
            if suffix in RASTER and (plain > PATCHES or PATCH.fullmatch(name)):
                continue
            if len(found.slides) >= SLIDES:
                found.truncated = True
                return
            try:
                status = files[name].stat(follow_symlinks=False)
            except PermissionError as error:
                found.problems.append(f"{here}: cannot be looked into ({error.strerror}).")
                continue
            except OSError:  # gone since
                continue
            found.slides[here / name] = SlideFile(here / name, status.st_size, status.st_mtime_ns)
