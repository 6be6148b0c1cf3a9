"""Pyramids as other programs read them, blocks in any order, and nothing left after a failure."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from restain.core.errors import ItemError
from restain.slides import PyramidWriter, open_slide
from restain.slides.pyramid import level_sizes

RNG = np.random.default_rng(1)
W, H, TILE = 701, 530, 128
PIXELS = np.asarray(Image.fromarray(RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)).resize((W, H)))


def write(path: Path, pixels: np.ndarray = PIXELS, *, shuffle: bool = True, skip: int = 0, **options: object) -> Path:
    height, width = pixels.shape[:2]
    corners = [(x, y) for y in range(0, height, TILE) for x in range(0, width, TILE)]
    if shuffle:
        np.random.default_rng(2).shuffle(corners)
    with PyramidWriter(path, (width, height), options.pop("mpp", 0.4991), tile=TILE, **options) as writer:  # type: ignore[arg-type]
        for x, y in corners[skip:]:
            writer.write(int(x), int(y), pixels[y : y + TILE, x : x + TILE])
    return path


def halved(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 in floating point, an odd edge repeated, rounded to even."""
    padded = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge").astype(float)
    return np.rint((padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4).astype(np.uint8)


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_other_readers_see_the_same_picture(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / "x.ome.tif", compression=compression)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (W, H)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.4991, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.4991, rel=1e-6)
        by_openslide = np.asarray(slide.read_region((0, 0), 0, (W, H)))[..., :3].astype(int)
    by_tifffile = tifffile.imread(path).astype(int)
    by_pillow = np.asarray(Image.open(path).convert("RGB")).astype(int)
    with open_slide(path) as ours:
        assert ours.mpp == 0.4991
        by_us = ours.read(0, 0, W, H).astype(int)
    for other in (by_openslide, by_tifffile, by_pillow):
        assert np.abs(other - by_us).max() <= (3 if compression == "jpeg" else 0)  # decoders' colour rounding
    if compression == "jpeg":
        assert np.abs(by_us - PIXELS).mean() < 2
        for channel in range(3):  # no colour is swapped or shifted
            assert abs((by_us - PIXELS)[..., channel].mean()) < 0.5
    else:
        np.testing.assert_array_equal(by_us, PIXELS)


def test_levels_are_means_in_subifds(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ome.tif", compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert len(tiff.pages) == 1
        assert len(tiff.pages.first.subifds or ()) == 3
        series = tiff.series[0]
        expected = PIXELS
        for level in series.levels:
            np.testing.assert_array_equal(level.asarray(), expected)
            expected = halved(expected)
        assert [level.shape[:2] for level in series.levels] == [(530, 701), (265, 351), (133, 176), (67, 88)]
        xml = ET.fromstring(tiff.ome_metadata or "")
        pixels = next(node for node in xml.iter() if node.tag.endswith("Pixels"))
        assert (pixels.get("SizeX"), pixels.get("SizeY"), pixels.get("SizeC")) == (str(W), str(H), "3")
        assert float(pixels.get("PhysicalSizeX", 0)) == 0.4991


def test_order_does_not_matter_nor_does_memory_for_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "a.ome.tif", shuffle=False).read_bytes()
    monkeypatch.setattr("restain.slides.pyramid._PARENTS_IN_MEMORY", 2)
    (tmp_path / "other").mkdir()
    assert write(tmp_path / "other/a.ome.tif").read_bytes() == first


def test_what_is_never_written_is_fill_on_every_level(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ome.tif", compression="deflate", skip=20, fill=(200, 190, 180))
    expected = np.full_like(PIXELS, (200, 190, 180))
    corners = [(x, y) for y in range(0, H, TILE) for x in range(0, W, TILE)]
    np.random.default_rng(2).shuffle(corners)
    for x, y in corners[20:]:
        expected[y : y + TILE, x : x + TILE] = PIXELS[y : y + TILE, x : x + TILE]
    with tifffile.TiffFile(path) as tiff:
        for level in tiff.series[0].levels[:2]:
            np.testing.assert_array_equal(level.asarray(), expected)
            expected = halved(expected)
    with PyramidWriter(tmp_path / "empty.ome.tif", (300, 200), 0.5, tile=TILE):
        pass
    assert (tifffile.imread(tmp_path / "empty.ome.tif") == 255).all()


def test_masks_have_one_channel_and_no_loss(tmp_path: Path) -> None:
    mask = (PIXELS[..., 0] > 128).astype(np.uint8) * np.uint8(255)
    path = write(tmp_path / "mask.ome.tif", mask, skip=1)
    stored = tifffile.imread(path)
    assert stored.shape == (H, W)
    assert (stored != mask).mean() < 0.1
    assert ((stored == mask) | (stored == 0)).all()
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, W, H)[..., 0], stored)
        assert len(slide.levels) == 4
    with PyramidWriter(tmp_path / "empty.ome.tif", (300, 200), None, fill=7):
        pass
    assert (tifffile.imread(tmp_path / "empty.ome.tif") == 7).all()
    with pytest.raises(ValueError, match="without loss"):
        write(tmp_path / "lossy.ome.tif", mask, compression="jpeg")
    assert not (tmp_path / "lossy.ome.tif").exists()


@pytest.mark.parametrize("mpp", [0.2527, 1 / 3, 28.968, 0.0123456789, (0.25, 0.2502)])
def test_um_per_px_survives_in_both_places(tmp_path: Path, mpp: float | tuple[float, float]) -> None:
    path = write(tmp_path / "x.ome.tif", mpp=mpp)
    x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(x, rel=1e-8)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(y, rel=1e-8)
    with open_slide(path) as ours:
        assert ours.mpp_xy == (x, y)


def test_without_um_per_px_none_is_claimed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ome.tif", mpp=None, description="a <b> & c")
    with open_slide(path) as slide:
        assert slide.mpp is None
    assert "openslide.mpp-x" not in openslide.OpenSlide(path).properties
    with tifffile.TiffFile(path) as tiff:
        assert any(node.text == "a <b> & c" for node in ET.fromstring(tiff.ome_metadata or "").iter())


def test_large_files_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restain.slides.pyramid._CLASSIC_TIFF", 1000)
    path = write(tmp_path / "x.ome.tif", compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
    np.testing.assert_array_equal(tifffile.imread(path), PIXELS)


def test_level_sizes_halve_until_a_tile_holds_all() -> None:
    assert level_sizes((1025, 513), 512) == [(1025, 513), (513, 257), (257, 129)]
    assert level_sizes((512, 30), 512) == [(512, 30)]


@pytest.mark.parametrize(
    ("x", "y", "shape"),
    [
        (1, 0, (128, 128, 3)),
        (0, 0, (100, 128, 3)),
        (0, 0, (128, 800, 3)),
        (-128, 0, (128, 128, 3)),
        (640, 512, (128, 61, 3)),
        (0, 0, (128, 128, 4)),
        (0, 0, (0, 128, 3)),
    ],
)
def test_blocks_off_the_grid_are_refused(tmp_path: Path, x: int, y: int, shape: tuple[int, ...]) -> None:
    with (
        pytest.raises(ValueError, match=r"x\.ome\.tif"),
        PyramidWriter(tmp_path / "x.ome.tif", (W, H), 0.5, tile=TILE) as writer,
    ):
        writer.write(x, y, np.zeros(shape, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_tile_is_written_once_and_channels_stay(tmp_path: Path) -> None:
    block = np.zeros((TILE, TILE, 3), np.uint8)
    with PyramidWriter(tmp_path / "x.ome.tif", (W, H), 0.5, tile=TILE) as writer:
        writer.write(0, 0, block)
        with pytest.raises(ValueError, match="twice"):
            writer.write(0, 0, block)
        with pytest.raises(ValueError, match="channels"):
            writer.write(128, 0, block[..., 0])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_and_the_old_file_stays_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "x.ome.tif"
    path.write_text("old")
    with pytest.raises(error), PyramidWriter(path, (W, H), 0.5, tile=TILE) as writer:  # noqa: PT012 - what raises is ours
        writer.write(0, 0, PIXELS[:TILE, :TILE])
        raise error
    assert [item.name for item in tmp_path.iterdir()] == ["x.ome.tif"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("limit", [40_000, 400_000])
def test_a_full_disk_is_a_clear_message_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    code = f"""
        import resource, signal
        import numpy as np
        from restain.core.errors import ItemError
        from restain.slides import PyramidWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        noise = np.random.default_rng(0).integers(0, 256, (512, 384, 3)).astype(np.uint8)
        try:
            with PyramidWriter("{tmp_path}/x.ome.tif", (384, 512), 0.5, tile=128, compression="deflate") as writer:
                for y in range(0, 512, 128):
                    writer.write(0, y, noise[y : y + 128])
        except ItemError as error:
            print("message:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "x.ome.tif: could not be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ItemError, match="could not be written"):
        PyramidWriter(tmp_path / "file/x.ome.tif", (W, H), 0.5)
