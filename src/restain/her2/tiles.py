"""Which tiles of a slide have features, and how they are read: many at a time, in fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, NoTissueError, RestainError
from restain.slides import Slide, TissueMask, tile_grid, tissue_and_ink

FIELD = 4
"""Tiles along a side of a field: what is read and encoded at once."""

MOST_INK = 0.1
"""A tile with a larger share of pen marks or black border is left out."""

COARSEST = 2.0
"""A slide may be coarser than the tiles by this factor at most: cells cannot be seen beyond."""


class NoTilesError(NoTissueError):
    """No tile of a slide has enough tissue.

    Args:
        what: is wrong, with the slide's path.
        advice: for those who can choose the tiles.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} {advice}".strip())
        self.what = what


@dataclass(frozen=True)
class TileOptions:
    """What a tile is.

    Attributes:
        tile_mpp: um/px at which tiles are cut.
        tile_px: their side at that um/px.
        min_tissue: least share of a tile that is tissue, above 0 to 1.
    """

    tile_mpp: float = 0.5
    tile_px: int = 256
    min_tissue: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0.05 <= self.tile_mpp <= 10:
            raise RestainError(f"tile-mpp {self.tile_mpp:g}: give 0.05 to 10 um/px.")
        if not 32 <= self.tile_px <= 4096:
            raise RestainError(f"tile-px {self.tile_px}: give 32 to 4096 px.")
        if not 0 < self.min_tissue <= 1:
            raise RestainError(f"min-tissue {self.min_tissue:g}: give a share above 0, at most 1.")


@dataclass(frozen=True)
class Plan:
    """The tiles of a slide.

    Attributes:
        cells: (column, row) of each on the grid of tiles [n, 2], in raster order.
        side: of a tile in level-0 px, whole, so that corners are whole too.
        tissue: of the slide.
    """

    cells: NDArray[np.int64]
    side: int
    tissue: TissueMask

    @property
    def coords(self) -> NDArray[np.int64]:
        """(x, y) of the upper left corners in level-0 px [n, 2], in raster order."""
        return self.cells * self.side

    def strips(self) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.int64]]]]:
        """The tiles in strips of ``FIELD`` rows, from above.

        Yields:
            Which tiles (numbers, ascending) the strip has, and the same by fields of ``FIELD`` columns.
        """
        strip = self.cells[:, 1] // FIELD
        column = self.cells[:, 0] // FIELD
        for number in np.unique(strip):
            inside = np.flatnonzero(strip == number)
            yield inside, [inside[column[inside] == field] for field in np.unique(column[inside])]


def plan_tiles(slide: Slide, options: TileOptions) -> Plan:
    """The tiles of a slide that lie on tissue, on a grid from its corner.

    The side in level-0 px is rounded to a whole number, so that tiles have whole coordinates and neither overlap nor
    gap. This changes their um/px by at most half a level-0 px of their side: 0.4 % for tiles of 256 px and 3 % for
    those of 32 px on the coarsest slide that is taken (``COARSEST``), a quarter of that on one of 0.25 um/px.

    Raises:
        MissingResolutionError: the slide has no um/px.
        NoTissueError: no tile has enough tissue.
        ItemError: the slide is too coarse.
    """
    mpp = slide.require_mpp()
    if mpp > COARSEST * options.tile_mpp:
        raise ItemError(
            f"{slide.path}: has {mpp:g} um/px, tiles are cut at {options.tile_mpp:g}; cells cannot be seen. Give a "
            "finer scan, or a coarser --tile-mpp."
        )
    side = max(1, round(options.tile_px * options.tile_mpp / mpp))
    tissue, ink = tissue_and_ink(slide)
    grid = tile_grid(slide.size, side)
    share = tissue.fraction(grid[:, 0], grid[:, 1], side, side)
    clean = ink.fraction(grid[:, 0], grid[:, 1], side, side) <= MOST_INK
    enough = share >= options.min_tissue
    if not (enough & clean).any():
        raise _nothing(slide, options, share, int((enough & ~clean).sum()))
    cells = np.rint(grid[enough & clean] / side).astype(np.int64)
    return Plan(cells, side, tissue)


def _nothing(slide: Slide, options: TileOptions, share: NDArray[np.float64], inked: int) -> NoTilesError:
    um = options.tile_px * options.tile_mpp
    text = f"{slide.path}: no tile of {options.tile_px} px ({um:g} um) has {options.min_tissue:.0%} of tissue"
    if inked:
        what = f"{text} and at most {MOST_INK:.0%} of ink; {inked} have too much ink."
        return NoTilesError(what, "Scan it without pen marks.")
    if share.max() == 0:
        return NoTilesError(f"{text}: no tissue was found.", "Leave the slide out, or look at it with `restain info`.")
    return NoTilesError(
        f"{text}; the best has {share.max():.0%}.", "Lower --min-tissue, or give smaller tiles with --tile-px."
    )
