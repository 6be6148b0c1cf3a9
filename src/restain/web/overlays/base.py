"""What an overlay is: a picture with alpha, tile by tile, over a slide that is shown as it is or on the IHC's grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.registration import Transform
from restain.slides import Slide
from restain.web.overlays.kept import Kept
from restain.web.tiles import TILE

RGB = NDArray[np.uint8]
RGBA = NDArray[np.uint8]
Points = NDArray[np.float64]


class Frame(Enum):
    """In which slide's level-0 px coordinates are.

    ``own``: of the slide itself, whose part in a registration is not known or of no matter.
    """

    own = "own"
    he = "he"
    ihc = "ihc"


@dataclass(frozen=True)
class Tile:
    """A tile: level-0 px [x * 256 * 2^z, (x + 1) * 256 * 2^z) across, likewise down.

    Attributes:
        z: exponent of the downsample.
        x: column.
        y: row.
        width: px, at most 256; fewer at the slide's right edge.
        height: px, likewise.
    """

    z: int
    x: int
    y: int
    width: int = TILE
    height: int = TILE

    @property
    def scale(self) -> int:
        """Level-0 px per px."""
        return 1 << self.z

    def columns(self, margin: int = 0) -> Points:
        """Level-0 x of the px' centres, and of ``margin`` px more on both sides."""
        return np.asarray((self.x * TILE + np.arange(-margin, self.width + margin) + 0.5) * self.scale, np.float64)

    def rows(self, margin: int = 0) -> Points:
        """Level-0 y of the px' centres, likewise."""
        return np.asarray((self.y * TILE + np.arange(-margin, self.height + margin) + 0.5) * self.scale, np.float64)

    def box(self, margin: float = 0) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in level-0 px, grown by ``margin`` px of the tile."""
        left, top = self.x * TILE, self.y * TILE
        low, high = (left - margin, top - margin), (left + self.width + margin, top + self.height + margin)
        return low[0] * self.scale, low[1] * self.scale, high[0] * self.scale, high[1] * self.scale


@dataclass(frozen=True)
class Source:
    """A file that an overlay shows.

    Attributes:
        path: the file.
        frame: in which slide's px its coordinates are.
        stamp: changes when the file does.
        item: of a file about several slides, what it calls this one.
    """

    path: Path
    frame: Frame
    stamp: str
    item: str | None = None


@dataclass(frozen=True)
class Registered:
    """The registration that the shown slide has a part in.

    Attributes:
        transform: between the two slides.
        stamp: changes when its files do.
        name: of the folder it lies in, which is the row's name where ``restain pairs`` made it; empty for a preview.
    """

    transform: Transform
    stamp: str
    name: str = ""


Read = Callable[[float, float, int, int, float], RGB]
"""Shown pixels: left, top in level-0 px, width, height in px, level-0 px per px; what is outside is white."""


@dataclass(frozen=True)
class Scene:
    """A slide as it is shown, with all that an overlay may need.

    Attributes:
        slide: an open slide.
        stamp: changes when its file does.
        size: (width, height) in level-0 px of what is shown: of the slide, or of the IHC it is shown on.
        mpp: um/px of what is shown; None where it is not known.
        shown: whose px the tiles are on: the slide's own (``own`` where its part in a registration is not known).
        part: whose px the slide's own are; differs from ``shown`` where it is shown via the registration.
        read: shown pixels.
        coarsest_z: largest z at which pixels may be read.
        kept: what is computed once.
        registered: the registration, where one was named.
        source: the file that is shown, where one was named.
    """

    slide: Slide
    stamp: str
    size: tuple[int, int]
    mpp: float | None
    shown: Frame
    part: Frame
    read: Read
    coarsest_z: int
    kept: Kept
    registered: Registered | None = None
    source: Source | None = None

    @property
    def via(self) -> bool:
        """Whether the slide is shown on the other one's px."""
        return self.shown is not self.part

    def tile(self, tile: Tile) -> RGB:
        """The pixels of a tile, uint8 [height, width, 3]."""
        left, top, _, _ = tile.box()
        return self.read(left, top, tile.width, tile.height, tile.scale)

    def um_per_px(self, tile: Tile) -> float:
        """Of the tile.

        Raises:
            RestainError: the slide does not say its um/px.
        """
        if self.mpp is None:
            raise RestainError(f"{self.slide.path.name}: the file does not say its um/px, which this overlay needs.")
        return self.mpp * tile.scale

    def own_positions(self, tile: Tile, margin: int = 0) -> NDArray[np.float32]:
        """Where the tile's px lie on the slide's own px: float32 [height, width, 2] (x, y), with ``margin`` px more."""
        across, down = tile.columns(margin), tile.rows(margin)
        if self.via and self.registered is not None:
            return self.registered.transform.grid(across, down)
        return np.stack(np.meshgrid(across, down), axis=2).astype(np.float32)

    def to_shown(self, frame: Frame) -> Callable[[Points], Points] | None:
        """The map of points [n, 2] (px of ``frame``) to shown px; None where they are the same.

        Raises:
            RestainError: nothing says how the two slides lie on each other.
        """
        given = self.part if frame is Frame.own else frame
        if given is self.shown:
            return None
        if self.registered is None or Frame.own in (given, self.shown):
            raise RestainError(
                f"{self.slide.path.name}: this overlay is of the other slide; choose a registration of the two."
            )
        transform = self.registered.transform
        return transform.he_to_ihc if given is Frame.he else transform.ihc_to_he

    def key(self, *what: object) -> tuple[object, ...]:
        """The name of something computed from the slide, and from the registration where that has a part in it."""
        return (
            *what,
            self.slide.path,
            self.stamp,
            self.shown,
            self.part,
            self.registered.stamp if self.registered else "",
        )


@dataclass(frozen=True)
class Entry:
    """A line of a legend: ``color`` as ``#rrggbb``."""

    label: str
    color: str


@dataclass(frozen=True)
class Offer:
    """What ``/api/overlays`` says of an overlay.

    Attributes:
        legend: colours and their meaning.
        note: one or two sentences for people.
        coarsest_z: largest z at which there is something to see; None: any.
        more: further facts, by name.
    """

    legend: tuple[Entry, ...]
    note: str = ""
    coarsest_z: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


class Overlay(Protocol):
    """One kind of overlay.

    Attributes:
        kind: as requests name it.
        label: for people.
        needs_source: whether it shows nothing without a file.
    """

    kind: str
    label: str
    needs_source: bool

    def offer(self, scene: Scene) -> Offer | None:
        """What this overlay would show of the scene; None: nothing. It does not read the file if it need not.

        Raises:
            RestainError: the file or the slide is damaged.
        """

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """The tile, uint8 [tile.height, tile.width, 4] (alpha not multiplied in); None where it is empty.

        Raises:
            RestainError: the file or the slide is damaged, or the request makes no sense.
        """


def hex_colour(rgb: tuple[int, int, int] | NDArray[np.uint8]) -> str:
    """``#rrggbb``."""
    red, green, blue = (int(value) for value in rgb)
    return f"#{red:02x}{green:02x}{blue:02x}"
