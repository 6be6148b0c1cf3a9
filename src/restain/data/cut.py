"""Cut one aligned slide pair into patch pairs."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, NoTissueError
from restain.data.cohort_table import CohortRow
from restain.data.workers import cpu_threads
from restain.slides import Slide, open_slide, tile_grid, tissue_mask, write_image

_SAME_MPP = 1e-3
"""Slides whose um/px differ by less than this share count as equal (one pixel in a thousand)."""

_FINER = 0.95
"""Patches may be this much finer than the slide: scanners call 0.5034 um/px "20x". Below, pixels would be invented."""


@dataclass(frozen=True)
class Cutting:
    """Patches of ``size`` px at ``mpp`` um/px, ``stride`` px apart, with at least ``min_tissue`` (0 to 1) of tissue."""

    mpp: float
    size: int
    stride: int
    min_tissue: float


@dataclass(frozen=True)
class Cut:
    """One slide pair to be cut: its row, its split, the number of its first patch."""

    row: CohortRow
    split: str
    first: int
    cutting: Cutting


def count_patches(row: CohortRow, cutting: Cutting) -> int:
    """How many places for patches a slide pair has, glass included.

    Raises:
        ItemError: the slides are not aligned, cannot be read, or are too coarse.
        MissingResolutionError: no um/px.
    """
    he, ihc = open_pair(row, cutting.mpp)
    with he, ihc:
        return len(_places(he, cutting))


def open_pair(row: CohortRow, mpp: float) -> tuple[Slide, Slide]:
    """Both slides of a row, of which patches at ``mpp`` um/px are wanted.

    Raises:
        ItemError: their sizes or um/px differ, so that they cannot be aligned, or they are coarser than ``mpp``.
        MissingResolutionError: a slide has no um/px and the cohort gives none.
    """
    if row.ihc is None:
        raise ItemError(f"{row.he}: the cohort gives no IHC slide for {row.name}.")
    he = open_slide(row.he, row.he_mpp)
    try:
        ihc = open_slide(row.ihc, row.ihc_mpp)
    except Exception:
        he.close()
        raise
    try:
        he_mpp, ihc_mpp = he.require_mpp(), ihc.require_mpp()
        if he.size != ihc.size or abs(he_mpp / ihc_mpp - 1) > _SAME_MPP:
            raise ItemError(
                f"{row.he}: {_geometry(he)}, but {row.ihc}: {_geometry(ihc)}. Patches are cut from slides that lie "
                "pixel on pixel: align them first."
            )
        if mpp < _FINER * he_mpp:
            raise ItemError(
                f"{row.he}: {he_mpp:g} um/px is too coarse for patches at {mpp:g} um/px; choose {he_mpp:g} or more."
            )
    except Exception:
        he.close()
        ihc.close()
        raise
    return he, ihc


def cut_pair(cut: Cut, out: Path) -> list[dict[str, Any]]:
    """Write the patch pairs of one slide pair; returns their rows for ``pairs.csv``, those not kept too.

    Raises:
        NoTissueError: no patch has enough tissue; the thumbnails are saved.
        ItemError: as for ``open_pair``; or a file cannot be written.
    """
    row, cutting = cut.row, cut.cutting
    he, ihc = open_pair(row, cutting.mpp)
    with he, ihc:
        places = _places(he, cutting)
        side = cutting.size * cutting.mpp / he.require_mpp()
        tissue = np.stack([tissue_mask(slide).fraction(places[:, 0], places[:, 1], side, side) for slide in (he, ihc)])
        enough = (tissue.min(axis=0) >= cutting.min_tissue) & (tissue.min(axis=0) > 0)
        if not enough.any():
            raise _no_tissue(cut, (he, ihc), tissue, out)
        rows = [
            _table_row(cut, number, place, shares)
            for number, (place, shares) in enumerate(zip(places, tissue.T, strict=True), start=cut.first)
        ]
        kept = [entry for entry in rows if entry["kept"]]
        try:
            _write_patches(kept, (he, ihc), cutting, out)
        except (ItemError, OSError):
            for path in (path for entry in kept for path in patch_files(entry, out)):
                path.unlink(missing_ok=True)
            raise
    return rows


def patch_files(entry: Mapping[str, Any], out: Path) -> tuple[Path, Path]:
    """The H&E and the IHC file of a row of ``pairs.csv``."""
    he, ihc = (out / folder / entry["split"] / f"{entry['name']}.png" for folder in ("HE", "IHC"))
    return he, ihc


def _write_patches(
    entries: Sequence[Mapping[str, Any]], slides: tuple[Slide, Slide], cutting: Cutting, out: Path
) -> None:
    """Read patches one after the other and write them in threads; at most 32 are in memory."""
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(cpu_threads(4)) as pool:
        for entry in entries:
            for path, slide in zip(patch_files(entry, out), slides, strict=True):
                patch = slide.read(entry["x"], entry["y"], cutting.size, cutting.size, cutting.mpp)
                pending.append(pool.submit(write_image, path, patch))
            while len(pending) > 32:
                pending.popleft().result()
        for future in pending:
            future.result()


def _places(slide: Slide, cutting: Cutting) -> NDArray[np.int64]:
    """Top left corners of all whole patches, int [n, 2] in level-0 px, row by row."""
    scale = cutting.mpp / slide.require_mpp()
    grid = tile_grid(slide.size, cutting.size * scale, cutting.stride * scale, partial=False)
    return np.floor(grid).astype(np.int64)


def _table_row(cut: Cut, number: int, place: NDArray[np.int64], shares: NDArray[np.float64]) -> dict[str, Any]:
    least, where = float(shares.min()), "H&E" if shares[0] <= shares[1] else "IHC"
    kept = least >= cut.cutting.min_tissue and least > 0
    level = "" if cut.row.level is None else "_" + re.sub(r"[^A-Za-z0-9.+-]", "-", cut.row.level)
    return {
        "name": f"{number:05d}_{cut.split}{level}",
        "patient": cut.row.patient,
        "slide": cut.row.name,
        "level": cut.row.level,
        "split": cut.split,
        "x": int(place[0]),
        "y": int(place[1]),
        "mpp": cut.cutting.mpp,
        "tissue": round(least, 4),
        "kept": int(kept),
        "reason": "" if kept else f"little tissue in {where}",
    }


def _no_tissue(cut: Cut, slides: tuple[Slide, Slide], tissue: NDArray[np.float64], out: Path) -> NoTissueError:
    """The error for a slide pair without a single patch, after saving what the slides look like."""
    paths = [out / "thumbnails" / f"{cut.row.name}_{stain}.png" for stain in ("he", "ihc")]
    for path, slide in zip(paths, slides, strict=True):
        write_image(path, slide.thumbnail(1024))
    if not tissue.shape[1]:
        width, height = slides[0].size
        reason = f"{width}x{height} px are too small for a patch of {cut.cutting.size} px at {cut.cutting.mpp:g} um/px"
        return NoTissueError(f"{cut.row.he}: {reason}; choose a smaller patch.")
    best = f"{tissue.min(axis=0).max():.2f}"
    return NoTissueError(
        f"{cut.row.he}: no patch with a tissue share of {cut.cutting.min_tissue:g} in both stains, at most {best}. "
        f"Look at {paths[0]} and {paths[1].name}; a lower min_tissue keeps more."
    )


def _geometry(slide: Slide) -> str:
    return f"{slide.size[0]}x{slide.size[1]} px at {slide.require_mpp():g} um/px"
