"""Staining whole slides: window by window at the run's um/px, written on the H&E's own level-0 coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, NoTissueError, RestainError
from restain.core.progress import progress_bar
from restain.infer.network import Network
from restain.infer.tiling import Overlap, Tiling
from restain.slides import PyramidWriter, Slide, TissueMask, tissue_mask, write_image

WRITER_TILE = 512
TISSUE_MARGIN_UM = 12.0
"""What lies nearer than this to tissue is stained too, so that no cell is cut off at the rim."""
LARGEST_CORE = 4
"""Windows contribute at most this many writer's tiles on a side, however much coarser the run is than the slide."""
COARSEST = 2.0
"""A slide may be coarser than the run's um/px by this factor at most; beyond, there is nothing to stain from."""


@dataclass(frozen=True)
class SlideResult:
    """What staining a slide came to.

    Attributes:
        output: the OME-TIFF.
        mpp: um/px of the slide and of the output.
        run_mpp: um/px at which the network worked.
        tissue_fraction: share of the slide that was stained.
    """

    output: Path
    mpp: float
    run_mpp: float
    tissue_fraction: float


def stain_slide(
    network: Network,
    slide: Slide,
    run_mpp: float,
    out: Path,
    *,
    core: int = 512,
    overlap: Overlap | None = None,
    tissue_only: bool = True,
    quality: int = 90,
) -> SlideResult:
    """Stain one slide into a pyramidal OME-TIFF of the same size and um/px.

    Where there is no tissue the output has the slide's own glass colour. Memory is bounded by a row of windows in a
    band of fixed width.

    Args:
        network: the run.
        slide: the H&E; it must have a um/px.
        run_mpp: um/px that the network works at.
        out: the OME-TIFF to write.
        core: side of the squares that a window contributes, px of the run, rounded to 512 level-0 px.
        overlap: what becomes of the windows' overlap; None for the network's own choice.
        tissue_only: stain tissue and leave glass; False stains everything.
        quality: of the JPEG tiles, 1 to 100.

    Raises:
        NoTissueError: there is nothing to stain; a thumbnail is written beside ``out``.
        RestainError: the slide has no um/px.
        ItemError: the slide is too coarse for the run, or cannot be read or written.
    """
    mpp = slide.require_mpp()
    if mpp > COARSEST * run_mpp:
        raise ItemError(
            f"{slide.path}: has {mpp:g} um/px, the run was trained at {run_mpp:g}; cells cannot be seen. Give a finer "
            "scan, or train a run at this um/px."
        )
    ratio = run_mpp / mpp  # level-0 px in one px of the run
    tissue = tissue_mask(slide)
    keep = _grown(tissue, mpp) if tissue_only else np.ones_like(tissue.mask, dtype=np.float32)
    if not keep.any():
        thumbnail = out.with_name(f"{out.name.removesuffix('.ome.tif')}_thumbnail.png")
        write_image(thumbnail, slide.thumbnail(1024))
        raise NoTissueError(
            f"{slide.path}: no tissue found; see {thumbnail}. If there is tissue, stain everything with "
            "--tissue-only false."
        )
    # Cores lie on the writer's tiles; the halo keeps the network's strides in phase from window to window.
    core0 = WRITER_TILE * min(max(1, round(core * ratio / WRITER_TILE)), LARGEST_CORE)
    plan = network.tiling(max(1, round(core0 / ratio)), overlap)
    halo0 = min(math.ceil(plan.halo * ratio), core0 // 2 if plan.overlap is Overlap.blend else 1 << 30)
    tiling = Tiling(core0, halo0, plan.overlap)
    width, height = slide.size
    scale = 1 / tissue.downsample
    red, green, blue = (int(value) for value in tissue.white)
    white = (red, green, blue)

    with (
        progress_bar(f"stain {slide.path.name}", math.ceil(width / core0) * math.ceil(height / core0)) as bar,
        PyramidWriter(out, slide.size, slide.mpp_xy, quality=quality, fill=white) as writer,
    ):

        def window(x: int, y: int, side: int) -> NDArray[np.float32] | None:
            bar.advance()
            low = np.floor(np.maximum([x, y], 0) * scale).astype(int)
            high = np.ceil((np.array([x, y]) + side) * scale).astype(int)
            if not keep[low[1] : max(high[1], low[1] + 1), low[0] : max(high[0], low[0] + 1)].any():
                return None
            pixels = math.ceil(side / ratio)
            stained = network(slide.read(x, y, pixels, pixels, run_mpp))
            return _to_level0(stained, side, ratio)

        for x, y, piece in tiling.run(slide.size, window, tissue.white):
            for left in range(0, piece.shape[1], core0):
                block = piece[:, left : left + core0]
                alpha = _alpha(keep, scale, x + left, y, block.shape)
                if alpha.any():
                    writer.write(x + left, y, _over(block, tissue.white, alpha))
    return SlideResult(out, mpp, run_mpp, float((keep > 0).mean()))


def _grown(tissue: TissueMask, mpp: float) -> NDArray[np.float32]:
    """The tissue mask with a margin, float32 in {0, 1}."""
    radius = max(1, round(TISSUE_MARGIN_UM / (mpp * tissue.downsample)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(tissue.mask.astype(np.uint8), kernel).astype(np.float32)


def _to_level0(stained: NDArray[np.float32], side: int, ratio: float) -> NDArray[np.float32]:
    """Window at the run's um/px to [side, side, 3] level-0 px; both begin at the same corner."""
    if abs(ratio - 1) * side < 0.05:
        return stained[:side, :side]
    to_run = np.array([[1 / ratio, 0, 0.5 / ratio - 0.5], [0, 1 / ratio, 0.5 / ratio - 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(stained, to_run, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(np.asarray(warped, np.float32), 0, 255)


def _alpha(keep: NDArray[np.float32], scale: float, x: int, y: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The mask over the level-0 block at (x, y), linearly interpolated, float32 [h, w, 1] in [0, 1]."""
    to_mask = np.array([[scale, 0, (x + 0.5) * scale - 0.5], [0, scale, (y + 0.5) * scale - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    alpha = cv2.warpAffine(keep, to_mask, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(alpha[..., None], np.float32)


def _over(block: NDArray[np.uint8], white: NDArray[np.uint8], alpha: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The stained block where alpha is 1, glass where it is 0."""
    if alpha.all() and float(alpha.min()) == 1.0:
        return block
    return np.rint(white + alpha * (block - white.astype(np.float32))).astype(np.uint8)


def require_run_mpp(run_mpp: float | None, run: Path) -> float:
    """The um/px of a run, for slides.

    Raises:
        RestainError: the run has none.
    """
    if run_mpp is None:
        raise RestainError(
            f"{run}: the run knows no um/px, so it cannot stain a slide. Train or import with --mpp (or train on "
            "data whose pairs.csv has mpp), or pass --run-mpp with the um/px of its training images."
        )
    return run_mpp
