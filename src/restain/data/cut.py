"""Cut the slides of one cohort row into patches."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, MissingResolutionError, NoTissueError
from restain.core.workers import cpu_threads
from restain.data.cohort_table import CohortRow
from restain.data.pairs_config import PairsConfig
from restain.data.patch_checks import NAMES, PatchChecks, Picture, Sheet, Stain
from restain.data.tumour import read_tumour
from restain.slides import Slide, open_slide, tile_grid, write_image

SAME_MPP = 1e-3
"""Slides whose um/px differ by less than this share count as equal (one pixel in a thousand)."""

_FINER = 0.95
"""Patches may be this much finer than the slide: scanners call 0.5034 um/px "20x". Below, pixels would be invented."""

BOTH: tuple[Stain, ...] = ("he", "ihc")


@dataclass(frozen=True)
class Cut:
    """What is cut together: both slides of a row, lying on each other, or one slide.

    Attributes:
        row: of the cohort; ``he`` is the registered slide where there is one.
        stains: ``BOTH``, or one of them.
        split: that its patches go to.
        first: number of its first patch.
        mpp: um/px of the patches.
        config: how to cut.
        filled: the mask of what registration filled in; None where the H&E is as it was scanned.
    """

    row: CohortRow
    stains: tuple[Stain, ...]
    split: str
    first: int
    mpp: float
    config: PairsConfig
    filled: Path | None = None


def count_patches(slide: Slide, config: PairsConfig, mpp: float) -> int:
    """How many places for patches at ``mpp`` um/px a slide has, glass included.

    Raises:
        ItemError: it is too coarse.
        MissingResolutionError: no um/px.
    """
    if mpp < _FINER * slide.require_mpp():
        raise ItemError(
            f"{slide.path}: at {slide.require_mpp():g} um/px it is too coarse for patches at {mpp:g} um/px. Give a "
            "larger um/px for the patches."
        )
    return len(_places(slide, config, mpp))


def require_aligned(he: Slide, ihc: Slide) -> None:
    """Refuse slides that cannot lie on each other pixel by pixel.

    Raises:
        ItemError: their sizes or um/px differ.
        MissingResolutionError: a slide has no um/px and the cohort gives none.
    """
    level0 = he.require_mpp(), ihc.require_mpp()
    if he.size != ihc.size or abs(level0[0] / level0[1] - 1) > SAME_MPP:
        raise ItemError(
            f"{he.path} has {_geometry(he)}, {ihc.path} {_geometry(ihc)}: these slides do not lie on each other; "
            "align them first (without --aligned, they are)."
        )


def open_stain(row: CohortRow, stain: Stain) -> Slide:
    """One of the slides of a row, with an um/px: that which the cohort gives, or its own.

    Raises:
        ItemError: the row has none, or it cannot be read.
        MissingResolutionError: it has no um/px and the cohort gives none.
    """
    path, mpp = (row.he, row.he_mpp) if stain == "he" else (row.ihc, row.ihc_mpp)
    if path is None:
        raise ItemError(f"{row.he}: the cohort gives no {NAMES[stain]} slide for {row.name}.")
    slide = open_slide(path, mpp)
    if slide.mpp is None:
        slide.close()
        raise MissingResolutionError(
            f"{path}: no um/px: the file does not say it, or its pixels are not square. Give it in the cohort's column "
            f"mpp, or {stain}_mpp where the stains differ."
        )
    return slide


def cut_patches(cut: Cut, out: Path) -> list[dict[str, Any]]:
    """Write the patches of ``cut``; returns their rows for ``pairs.csv``, those not kept too.

    Raises:
        NoTissueError: no patch has enough tissue; the thumbnails are saved.
        ItemError: the slides do not lie on each other or cannot be read, or a file cannot be written.
    """
    with _checks(cut) as checks:
        places = _places(checks.sheets[cut.stains[-1]].slide, cut.config, cut.mpp)
        entries = [
            {**_origin(cut, number, place), **scores}
            for number, (place, scores) in enumerate(zip(places, checks.coarse(places), strict=True), start=cut.first)
        ]
        tissue = np.array([entry["tissue"] for entry in entries])
        enough = (tissue >= cut.config.min_tissue) & (tissue > 0)
        if not enough.any():
            raise _no_tissue(cut, checks, tissue, out)
        try:
            _look_closely(checks, entries, checks.references(places[enough]), out)
        except (ItemError, OSError):
            for path in (path for entry in entries for path in patch_files(entry, out)):
                path.unlink(missing_ok=True)
            raise
    return [{**entry, "kept": int(not entry["reason"])} for entry in entries]


def patch_files(entry: Mapping[str, Any], out: Path) -> list[Path]:
    """The files of a row of ``pairs.csv``: H&E and IHC, or the one of a patch without a partner."""
    split, name = entry["split"], f"{entry['name']}.png"
    if entry.get("side"):
        return [out / f"{split}{'A' if entry['side'] == 'he' else 'B'}" / name]
    return [out / folder / split / name for folder in ("HE", "IHC")]


@contextmanager
def _checks(cut: Cut) -> Iterator[PatchChecks]:
    """The slides of ``cut``, open, and what is known of them."""
    with ExitStack() as stack:
        slides = {stain: stack.enter_context(open_stain(cut.row, stain)) for stain in cut.stains}
        if cut.stains == BOTH:
            require_aligned(slides["he"], slides["ihc"])
        stain = cut.stains[-1]
        tumour = None
        if cut.row.tumour is not None and cut.config.min_tumour > 0 and knows_tumour(cut.row, stain):
            tumour = read_tumour(cut.row.tumour, slides[stain], stain)
        filled = None if cut.filled is None else stack.enter_context(open_slide(cut.filled))
        sheets = {stain: Sheet.of(slide, cut.config.max_artefact < 1) for stain, slide in slides.items()}
        yield PatchChecks(sheets, cut.config, cut.mpp, filled, tumour)


def knows_tumour(row: CohortRow, stain: Stain) -> bool:
    """Whether the cohort says where the tumour is on a slide: polygons lie on the IHC, cells on both."""
    return row.tumour is not None and (stain == "ihc" or row.tumour.suffix.lower() == ".csv")


def _look_closely(
    checks: PatchChecks, entries: Sequence[dict[str, Any]], references: Mapping[Stain, float], out: Path
) -> None:
    """Read the patches that nothing spoke against, judge their pixels and write those that are kept.

    They are read one after the other and judged and written in threads; at most 16 are in memory.
    """
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(cpu_threads(4)) as pool:
        for entry in entries:
            x, y = entry["x"], entry["y"]
            if not entry["reason"]:
                entry["filled"] = checks.filled_share(x, y)
                if entry["filled"] is not None and entry["filled"] > checks.config.max_filled:
                    entry["reason"] = "filled border"
            if entry["reason"]:
                continue
            patches = {stain: checks.read(stain, x, y) for stain in checks.sheets}
            around = checks.surroundings(x, y)

            def judge(
                entry: dict[str, Any] = entry,
                patches: dict[Stain, Picture] = patches,
                around: tuple[Picture, Picture, NDArray[np.bool_]] | None = around,
            ) -> None:
                entry.update(checks.focus(patches, references))
                if not entry["reason"]:
                    entry.update(checks.alignment(around))
                if not entry["reason"]:
                    for path, patch in zip(patch_files(entry, out), patches.values(), strict=True):
                        write_image(path, patch)

            pending.append(pool.submit(judge))
            while len(pending) > 16:
                pending.popleft().result()
        for future in pending:
            future.result()


def _places(slide: Slide, config: PairsConfig, mpp: float) -> NDArray[np.int64]:
    """Top left corners of all whole patches, int [n, 2] in level-0 px, row by row."""
    scale = mpp / slide.require_mpp()
    grid = tile_grid(slide.size, config.size * scale, (config.stride or config.size) * scale, partial=False)
    return np.floor(grid).astype(np.int64)


def _origin(cut: Cut, number: int, place: NDArray[np.int64]) -> dict[str, Any]:
    level = "" if cut.row.level is None else "_" + re.sub(r"[^A-Za-z0-9.+-]", "-", cut.row.level)
    return {
        "name": f"{number:05d}_{cut.split}{level}",
        "side": None if cut.stains == BOTH else cut.stains[0],
        "patient": cut.row.patient,
        "slide": cut.row.name,
        "level": cut.row.level,
        "split": cut.split,
        "x": int(place[0]),
        "y": int(place[1]),
        "mpp": cut.mpp,
    }


def _no_tissue(cut: Cut, checks: PatchChecks, tissue: NDArray[np.float64], out: Path) -> NoTissueError:
    """The error for slides without a single patch, after saving what they look like."""
    paths = [out / "thumbnails" / f"{cut.row.name}_{stain}.png" for stain in cut.stains]
    slides = [checks.sheets[stain].slide for stain in cut.stains]
    for path, slide in zip(paths, slides, strict=True):
        write_image(path, slide.thumbnail(1024))
    if not len(tissue):
        width, height = slides[-1].size
        reason = f"{width}x{height} px are too small for a patch of {cut.config.size} px at {cut.mpp:g} um/px"
        return NoTissueError(f"{slides[-1].path}: {reason}; choose a smaller patch.")
    stains = "both stains" if cut.stains == BOTH else NAMES[cut.stains[0]]
    return NoTissueError(
        f"{slides[0].path}: no patch with a tissue share of {cut.config.min_tissue:g} in {stains}, at most "
        f"{tissue.max():.2f}. Look at {' and '.join(map(str, paths))}; a lower min_tissue keeps more."
    )


def _geometry(slide: Slide) -> str:
    return f"{slide.size[0]}x{slide.size[1]} px at {slide.require_mpp():g} um/px"
