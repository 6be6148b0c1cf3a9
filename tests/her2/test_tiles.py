"""Which tiles of a slide are taken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.core.errors import ItemError, MissingResolutionError, NoTissueError, RestainError
from restain.her2.tiles import TileOptions, plan_tiles
from restain.slides import open_slide, write_image


def picture(width: int, height: int, tissue: tuple[int, int, int, int]) -> np.ndarray:
    """Glass with a box (left, top, right, bottom) of pink tissue."""
    rng = np.random.default_rng(0)
    out = np.full((height, width, 3), 243.0)
    left, top, right, bottom = tissue
    noise = cv2.GaussianBlur(rng.normal(size=(bottom - top, right - left)), (0, 0), 2)[..., None] * 120
    out[top:bottom, left:right] = np.array([190, 120, 170]) + noise
    return np.clip(out, 0, 255).astype(np.uint8)


def written(path: Path, image: np.ndarray) -> Path:
    write_image(path, image)
    return path


def test_tiles_lie_on_tissue_and_nowhere_else(tmp_path: Path) -> None:
    file = written(tmp_path / "a.png", picture(1500, 1200, (100, 256, 800, 1024)))
    with open_slide(file, 0.5) as slide:
        plan = plan_tiles(slide, TileOptions(min_tissue=0.5))
        strict = plan_tiles(slide, TileOptions(min_tissue=0.95))
    assert plan.side == 256
    wanted = [[x, y] for y in (256, 512, 768) for x in (0, 256, 512)]  # first column 61 % tissue, fourth 12 %
    assert plan.coords.tolist() == wanted, "raster order"
    assert strict.coords.tolist() == [place for place in wanted if place[0]]


@pytest.mark.parametrize(("mpp", "side"), [(0.25, 512), (0.2527, 507), (1.0, 128)])
def test_the_side_is_whole_at_every_resolution(tmp_path: Path, mpp: float, side: int) -> None:
    file = written(tmp_path / "a.png", picture(1100, 1100, (0, 0, 1100, 1100)))
    with open_slide(file, mpp) as slide:
        plan = plan_tiles(slide, TileOptions())
    assert plan.side == side
    assert (plan.coords % side == 0).all()
    assert plan.coords.max() + side >= 1100 - side, "up to the far edge"


def test_ink_is_left_out(tmp_path: Path) -> None:
    image = picture(1024, 1024, (0, 0, 1024, 1024))
    image[600:760, 0:600] = (20, 120, 60)  # green pen over tissue
    with open_slide(written(tmp_path / "a.png", image), 0.5) as slide:
        coords = plan_tiles(slide, TileOptions()).coords
    inked = {(x, y) for x, y in coords.tolist() if y == 512 and x < 512}
    assert not inked
    assert [0, 0] in coords.tolist()


def test_strips_hold_every_tile_once(tmp_path: Path) -> None:
    image = picture(1800, 1600, (0, 0, 1800, 1600))
    image[600:1100, 500:1300] = 243
    with open_slide(written(tmp_path / "a.png", image), 0.5) as slide:
        plan = plan_tiles(slide, TileOptions())
    seen = []
    for strip, fields in plan.strips():
        assert sorted(np.concatenate(fields)) == sorted(strip)
        for field in fields:
            assert np.ptp(plan.cells[field], axis=0).max() < 4
        seen += strip.tolist()
    assert seen == list(range(len(plan.cells))), "in raster order"


def test_no_tile_says_which_setting(tmp_path: Path) -> None:
    small = written(tmp_path / "small.png", picture(1024, 1024, (300, 300, 400, 400)))
    glass = written(tmp_path / "glass.png", np.full((600, 600, 3), 240, np.uint8))
    with (
        open_slide(small, 0.5) as slide,
        pytest.raises(NoTissueError, match=r"small\.png.*50%.*--min-tissue.*--tile-px"),
    ):
        plan_tiles(slide, TileOptions())
    with open_slide(glass, 0.5) as slide, pytest.raises(NoTissueError, match="no tissue was found"):
        plan_tiles(slide, TileOptions())
    with open_slide(glass) as slide, pytest.raises(MissingResolutionError, match="--mpp"):
        plan_tiles(slide, TileOptions())
    with open_slide(glass, 1.5) as slide, pytest.raises(ItemError, match=r"1\.5 um/px.*--tile-mpp"):
        plan_tiles(slide, TileOptions())


@pytest.mark.parametrize("wrong", [{"tile_mpp": 0.0}, {"tile_px": 8}, {"min_tissue": 0.0}, {"min_tissue": 1.5}])
def test_settings_that_cannot_be_meant(wrong: dict[str, float]) -> None:
    with pytest.raises(RestainError, match=next(iter(wrong)).replace("_", "-")):
        TileOptions(**wrong)  # type: ignore[arg-type]
