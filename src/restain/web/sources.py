"""Which files overlays can show on a slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restain.core.errors import RestainError
from restain.web.cases import Registered, Stamp, read_registered
from restain.web.context import Context
from restain.web.drawn import DrawnIndex, SourceKind
from restain.web.library import library_of
from restain.web.outside import own_file
from restain.web.scan import SlideFile

__all__ = ["Frame", "Source", "SourceKind", "sources_for"]

Frame = Literal["own", "he", "ihc"]


@dataclass(frozen=True)
class Source:
    """A file that an overlay can show.

    Attributes:
        kind: what it holds.
        path: the file, in the served folder.
        frame: on whose level-0 pixels its coordinates are: "own" on those of the slide that was asked for; "he" or
            "ihc" on those of the H&E or the IHC of the registration that was named.
        item: for patches, what ``pairs.csv`` calls the slide pair in its column ``slide``; else None.
        label: for people, such as the score or the model.
    """

    kind: SourceKind
    path: Path
    frame: Frame
    item: str | None = None
    label: str = ""


def sources_for(context: Context, path: Path, role: str | None, registration: Path | None) -> list[Source]:
    """The files that overlays can show on a slide.

    Args:
        context: of the server.
        path: the slide, as ``Root.resolve`` gives it.
        role: what the slide is in the registration: "he" or "ihc" (a virtual IHC has the role of the slide on whose
            pixels it lies); None: it is in none.
        registration: ``transform.json`` of the slide's pair, as ``Root.resolve`` gives it; None without. With it, what
            belongs to the slides of the pair is given too, in their frames.

    Returns:
        The slide's own first. None of them was opened here: a file may be damaged or gone.
    """
    index = library_of(context).drawn
    slide = _file(path)
    if slide is None:
        return []
    sources = _own(context, index, slide, "own")
    sources += [
        Source(SourceKind.PATCHES, one.path, "own", one.item, one.path.parent.name)
        for one in index.patches
        for stamp in (one.ihc, *((one.he,) if one.aligned else ()))
        if (stamp.name, stamp.bytes) == (path.name, slide.bytes)
    ]
    pair = registered_beside(registration) if registration is not None and role in ("he", "ihc") else None
    if pair is not None:
        sources += _of_pair(context, index, slide, pair)
    return list({(one.path, one.item): one for one in reversed(sources)}.values())[::-1]


def registered_beside(transform: Path) -> Registered | None:
    """What the ``quality.json`` beside a ``transform.json`` says of the slides; None where none says anything."""
    quality = transform.with_name("quality.json")
    try:
        return read_registered(quality) if own_file(quality) else None
    except RestainError:
        return None


def _of_pair(context: Context, index: DrawnIndex, slide: SlideFile, pair: Registered) -> list[Source]:
    """What belongs to both slides of a registration."""
    sources: list[Source] = []
    frames: tuple[tuple[Frame, Stamp], ...] = (("he", pair.he), ("ihc", pair.ihc))
    for frame, stamp in frames:
        other = index.stamped(stamp, pair.folder)
        if other is not None and other.path != slide.path:
            sources += _own(context, index, other, frame)
    sources += [
        Source(SourceKind.PATCHES, one.path, "ihc", one.item, one.path.parent.name)
        for one in index.patches
        if (one.ihc.name, one.ihc.bytes, one.he.name) == (pair.ihc.name, pair.ihc.bytes, pair.he.name)
    ]
    return sources


def _own(context: Context, index: DrawnIndex, slide: SlideFile, frame: Frame) -> list[Source]:
    def size_of(path: Path) -> tuple[int, int] | None:
        try:
            with context.pool.open(path) as opened:
                return opened.size
        except RestainError:
            return None

    return [Source(kind, file, frame, label=one.label) for one in index.of(slide, size_of) for kind, file in one.files]


def _file(path: Path) -> SlideFile | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return SlideFile(path, status.st_size, status.st_mtime_ns)
