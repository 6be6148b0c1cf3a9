"""Tiles: where they lie, that they are the slide's own pixels, what reading them costs, and how they are answered."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from restain.registration import WarpedSlide
from restain.slides import Slide, open_slide, write_image
from restain.slides.tiff_source import TiffSource
from restain.web import tiles
from restain.web.tiles import TILE
from tests.web.slides import flat, pattern, pyramid, quartered, turned

W, H = 1301, 907


def stitched(read: Callable[[int, int], NDArray[np.uint8]], size: tuple[int, int], z: int) -> NDArray[np.uint8]:
    """All tiles of a z, put together."""
    columns, rows = (-(-side // (TILE << z)) for side in size)
    return np.concatenate([np.concatenate([read(x, y) for x in range(columns)], axis=1) for y in range(rows)])


@pytest.mark.parametrize(
    ("size", "last"),
    [
        ((1, 1), 0),
        ((256, 256), 0),
        ((257, 1), 1),
        ((512, 300), 1),
        ((513, 1), 2),
        ((20_000, 20_000), 7),
        ((100, 65_537), 9),
    ],
)
def test_the_coarsest_tile_shows_the_whole_slide(size: tuple[int, int], last: int) -> None:
    assert tiles.max_z(size) == last
    whole = tiles.box(size, last, 0, 0)
    assert (whole.x, whole.y) == (0, 0)
    assert whole.width * 2**last >= size[0]
    assert whole.height * 2**last >= size[1]
    if last:
        assert max(size) > TILE * 2 ** (last - 1)


@pytest.mark.parametrize("z", range(4))
def test_boxes_cover_the_slide_once(z: int) -> None:
    side = TILE * 2**z
    covered = np.zeros((-(-H // 2**z), -(-W // 2**z)), int)
    for y in range(-(-H // side)):
        for x in range(-(-W // side)):
            box = tiles.box((W, H), z, x, y)
            assert (box.x, box.y) == (x * side, y * side)
            covered[y * TILE : y * TILE + box.height, x * TILE : x * TILE + box.width] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("place", [(4, 0, 0), (0, 6, 0), (0, 0, 4), (2**40, 0, 0), (3, 1, 0), (-1, 0, 0), (0, -1, 0)])
def test_there_are_no_other_tiles(place: tuple[int, int, int]) -> None:
    with pytest.raises(tiles.NoTileError):
        tiles.box((W, H), *place)


def kinds(folder: Path) -> dict[str, Path]:
    pixels = pattern(W, H)
    return {
        "pyramid": pyramid(folder / "pyramid.ome.tif", pixels),
        "quartered": quartered(folder / "quartered.svs", pixels, levels=3),
        "tiled": flat(folder / "tiled.tif", pixels, tile=(240, 240), compression="deflate"),
        "strips": flat(folder / "strips.tif", pixels, rowsperstrip=7, compression="lzw"),
        "bare": flat(folder / "bare.tif", pixels),
        "plain": Path(folder / "plain.png"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("slides")
    write_image(kinds(made)["plain"], pattern(W, H))
    return made


@pytest.mark.parametrize("kind", ["pyramid", "quartered", "tiled", "strips", "bare", "plain"])
@pytest.mark.parametrize("z", range(4))
def test_tiles_are_what_the_slide_reads(folder: Path, kind: str, z: int) -> None:
    path = next(folder.glob(f"{kind}.*"))
    with open_slide(path, mpp=0.5) as slide:
        whole = slide.read(0, 0, -(-W // 2**z), -(-H // 2**z), 0.5 * 2**z)
        made = stitched(lambda x, y: tiles.render(slide, z, x, y), slide.size, z)
    assert np.array_equal(made, whole)


def test_where_the_pyramid_has_the_level_its_pixels_are_shown(folder: Path) -> None:
    path = folder / "pyramid.ome.tif"
    with tifffile.TiffFile(path) as tiff, open_slide(path) as slide:
        for z, level in enumerate(tiff.series[0].levels[:4]):
            stored, made = level.asarray(), stitched(lambda x, y, z=z: tiles.render(slide, z, x, y), slide.size, z)
            inside = np.s_[: H // 2**z, : W // 2**z]  # beyond, a pixel's middle may lie off the slide
            assert made.shape == stored.shape
            assert np.array_equal(made[inside], stored[inside])


def test_reading_costs_no_more_than_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, decoded = TiffSource._segment, 0

    def counted(self: TiffSource, level: int, number: int, plane: object, index: int) -> NDArray[np.uint8] | None:
        nonlocal decoded
        tile = read(self, level, number, plane, index)  # type: ignore[arg-type]
        decoded += 0 if tile is None else tile.shape[0] * tile.shape[1]
        return tile

    monkeypatch.setattr(TiffSource, "_segment", counted)
    for kind in ("pyramid.ome.tif", "tiled.tif", "strips.tif"):
        with open_slide(folder / kind) as slide:
            for z in range(4):
                for x, y in ((0, 0), (1, 1), (W // (TILE << z), H // (TILE << z))):
                    decoded = 0
                    try:
                        tiles.render(slide, z, x, y)
                    except tiles.NoTileError:
                        continue
                    assert 0 < decoded <= tiles.cost(slide, z)


class Flat:
    """A slide of one level that nobody needs to write."""

    def __init__(self, side: int, block: tuple[int, int], factors: tuple[int, ...] = (1,)) -> None:
        from restain.slides.sources import levels_of

        self.size = (side, side)
        self._levels = levels_of([(-(-side // factor), -(-side // factor)) for factor in factors])
        self._source = type("Blocks", (), {"blocks": [block] * len(factors)})()

    _level_for, cost = Slide._level_for, Slide.cost


@pytest.mark.parametrize(
    ("slide", "coarsest"),
    [
        (Flat(2**17, (256, 256), tuple(2**n for n in range(10))), 9),  # halves: everything
        (Flat(2**17, (256, 256), (1, 4, 16, 64)), 9),  # a scanner's: everything
        (Flat(2**17, (512, 512)), 4),  # one level: 4,096 px at most
        (Flat(2**16, (2**16, 1)), 0),  # strips as wide as the slide
        (Flat(2**17, (8192, 8192)), -1),  # tiles of 67 million px
        (Flat(2**17, (1, 1)), 4),  # samples as they are
        (Flat(4000, (4000, 4000)), 4),  # small enough to be read whole
    ],
)
def test_how_far_out_a_slide_can_be_seen(slide: Slide, coarsest: int) -> None:
    assert tiles.coarsest_z(slide) == coarsest


def test_thin_brown_lines_keep_their_colour() -> None:
    pixels = np.full((TILE, TILE, 3), (235, 232, 240), np.uint8)
    pixels[:, 3::8] = (120, 70, 40)  # one px wide
    shown = np.asarray(Image.open(io.BytesIO(tiles.encode(pixels)))).astype(int)
    assert np.abs(shown - pixels).mean() < 2
    line = shown[:, 3::8].reshape(-1, 3).mean(axis=0)
    assert np.abs(line - (120, 70, 40)).max() < 6


@pytest.mark.parametrize("z", range(3))
def test_tiles_through_a_registration_are_the_warped_slide(folder: Path, z: int) -> None:
    transform = turned((W, H))
    with open_slide(folder / "pyramid.ome.tif") as slide:
        warped = WarpedSlide(slide, transform)
        width, height = (-(-side // 2**z) for side in transform.ihc_size)
        whole, _ = warped.read(0, 0, width, height, 0.5 * 2**z)
        made = stitched(
            lambda x, y: tiles.render_warped(warped, transform, z, x, y),
            (transform.ihc_size[0], transform.ihc_size[1]),
            z,
        )
    assert made.shape == whole.shape
    # a block's extent decides from where bicubic weights are taken, so that a level may be off
    assert np.abs(made.astype(int) - whole).max() <= 1
