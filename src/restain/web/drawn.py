"""What can be drawn on slides, and which slide each file means: scored cells, attention, patches of a dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from restain.core.errors import ItemError
from restain.her2.heat_map import POLYGONS
from restain.web.cases import LARGEST_RECORD, Stamp
from restain.web.matching import SlideIndex
from restain.web.outside import own_file, small_object, text
from restain.web.scan import Found, SlideFile, title_of

SizeOf = Callable[[Path], "tuple[int, int] | None"]


class SourceKind(StrEnum):
    """What a file holds."""

    CELLS = "cells"
    """``cells.geojson`` of ``her2 score``: outlines, nuclei and classes of counted tumour cells."""
    CELL_TABLE = "cell_table"
    """``cells.csv`` of ``her2 score``: a row for each cell, also those not counted."""
    ATTENTION = "attention"
    """``attention.geojson`` of ``her2 predict``."""
    PATCHES = "patches"
    """``pairs.csv`` of ``restain pairs``; a slide's rows are those whose column ``slide`` is the item's name."""


@dataclass(frozen=True)
class Drawn:
    """Files of one slide, and what is known of that slide.

    Attributes:
        files: with their kinds.
        typed: the slide's path as somebody typed it.
        size: (width, height) of the slide in level-0 px; None where the files do not say.
        label: for people.
    """

    files: tuple[tuple[SourceKind, Path], ...]
    typed: str
    size: tuple[int, int] | None
    label: str


@dataclass(frozen=True)
class Patches:
    """Patches of one slide pair in a dataset; their places are in px of the IHC.

    Attributes:
        path: ``pairs.csv``.
        item: the pair's name in its column ``slide``.
        he: the H&E as it was.
        ihc: the IHC as it was.
        aligned: whether the H&E lies on the IHC's pixels by itself.
    """

    path: Path
    item: str
    he: Stamp
    ihc: Stamp
    aligned: bool


class DrawnIndex:
    """All that can be drawn, to be found by slide.

    Args:
        found: by the walk; what cannot be read is added to its problems.
    """

    def __init__(self, found: Found) -> None:
        self.slides = SlideIndex(found.slides.values())
        self.patches = list(_patches(found))
        self._by_title: dict[str, list[Drawn]] = defaultdict(list)
        for one in (*_scores(found), *_predictions(found)):
            self._by_title[title_of(PurePosixPath(one.typed.replace("\\", "/")).name)].append(one)

    def of(self, slide: SlideFile, size_of: SizeOf) -> list[Drawn]:
        """What was made of a slide; nothing that could as well be of another one.

        Args:
            slide: the file.
            size_of: (width, height) of a slide in level-0 px; None where it cannot be read.
        """
        found = []
        for one in self._by_title.get(slide.title, []):
            meant = [other.path for other in self.slides.named(one.typed)]
            if slide.path in meant and one.size is not None:
                meant = [path for path in meant if size_of(path) == one.size]
            if meant == [slide.path]:
                found.append(one)
        return found

    def stamped(self, stamp: Stamp, near: Path) -> SlideFile | None:
        """The slide that a stamp means; of several copies the one that lies nearest to ``near``."""
        return self.slides.stamped(stamp.name, stamp.bytes, stamp.mtime_ns, near)


def _scores(found: Found) -> Iterator[Drawn]:
    """What ``her2 score`` wrote."""
    for path in found.in_time(found.scores):
        try:
            document = small_object(path)
            width, height = document["size"]
            size = int(width), int(height)
            files = {SourceKind.CELLS: path.parent / "cells.geojson", SourceKind.CELL_TABLE: path.parent / "cells.csv"}
            there = tuple((kind, file) for kind, file in files.items() if own_file(file))
            label = text(f"HER2 {document['score'] or 'without a score'} ({path.parent.parent.name})", 120)
            yield Drawn(there, str(document["image"]), size, label)
        except ItemError as error:
            found.problems.append(str(error))
        except (KeyError, TypeError, ValueError, OverflowError):
            found.problems.append(f"{path}: not what `restain her2 score` writes.")


def _predictions(found: Found) -> Iterator[Drawn]:
    """What ``her2 predict`` wrote, of a slide or of all slides of a patient."""
    for path in found.in_time(found.predictions):
        try:
            document = small_object(path)
            label = text(f"{document['model']}: {document['status']}", 120)
            if "slides" in document:
                typed = [str(one["slide"]) for one in document["slides"]]
                folders = [path.parent / title_of(PurePosixPath(name).name) for name in typed]
            else:
                typed, folders = [str(document["slide"])], [path.parent]
            for name, folder in zip(typed, folders, strict=True):
                if own_file(folder / POLYGONS):
                    yield Drawn(((SourceKind.ATTENTION, folder / POLYGONS),), name, None, label)
        except ItemError as error:
            found.problems.append(str(error))
        except (KeyError, TypeError, ValueError):
            found.problems.append(f"{path}: not what `restain her2 predict` writes.")


def _patches(found: Found) -> Iterator[Patches]:
    """The slide pairs of patch datasets; slides that were cut by themselves have no pair to be shown on."""
    for folder in found.in_time(found.builds):
        path = folder / "build.json"
        try:
            document = small_object(path, LARGEST_RECORD)
            aligned = bool(document["settings"]["config"]["aligned"])
            entries: dict[str, Any] = document["plan"]
            for item, entry in entries.items():
                stamp = entry["stamp"]
                if {"he", "ihc"} <= stamp.keys():
                    he, ihc = Stamp.of(stamp["he"]), Stamp.of(stamp["ihc"])
                    yield Patches(folder / "pairs.csv", item, he, ihc, aligned)
        except ItemError as error:
            found.problems.append(str(error))
        except (AttributeError, KeyError, TypeError, ValueError):
            found.problems.append(f"{path}: not what `restain pairs` writes.")
