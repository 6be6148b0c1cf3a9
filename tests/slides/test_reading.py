"""Regions at any um/px: positions, antialiasing, and that parts equal the whole."""

from __future__ import annotations

import multiprocessing
import pickle
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import psutil
import pytest
import tifffile
from PIL import Image
from skimage.transform import resize

from restain.core.errors import UnreadableImageError
from restain.slides import PyramidWriter, open_slide

W, H = 1501, 1103
RNG = np.random.default_rng(3)


def ramp(width: int = W, height: int = H) -> np.ndarray:
    """Red says x, green says y (0 to 255 over the slide)."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x / width * 255, y / height * 255, x * 0], axis=2).round().astype(np.uint8)


def noise(width: int = W, height: int = H) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3)).astype(np.uint8)


def write_tiff(path: Path, pixels: np.ndarray, mpp: float = 0.5, **options: Any) -> Path:
    per_cm = (1e4 / mpp, 1e4 / mpp)
    tifffile.imwrite(
        path, pixels, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER", metadata=None, **options
    )
    return path


def write_pyramid(path: Path, pixels: np.ndarray, mpp: float = 0.5, tile: int = 128) -> Path:
    height, width = pixels.shape[:2]
    with PyramidWriter(path, (width, height), mpp, tile=tile, compression="deflate") as writer:
        writer.write(0, 0, pixels)
    return path


def write_aperio(path: Path, pixels: np.ndarray, mpp: float = 0.5) -> Path:
    """An Aperio file as OpenSlide reads it: levels cut to whole pixels, so that the factors are broken (4.004)."""
    text = f"Aperio Image Library v11.2.1 \r\n{pixels.shape[1]}x{pixels.shape[0]} Q=30|AppMag = 20|MPP = {mpp}"
    height, width = pixels.shape[0] // 4 * 4, pixels.shape[1] // 4 * 4
    small = pixels[:height, :width].reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3)).round()
    common: dict[str, Any] = {"photometric": "rgb", "compression": "lzw", "description": text, "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, tile=(240, 240), **common)
        tiff.write(pixels[:64, :64], rowsperstrip=16, **common)  # Aperio's thumbnail
        tiff.write(small.astype(np.uint8), tile=(240, 240), **common)
    return path


KINDS: dict[str, dict[str, Any]] = {
    "tiled": {"tile": (128, 144), "compression": "deflate", "predictor": True},
    "striped": {"rowsperstrip": 7, "compression": "lzw"},
    "one strip": {},
    "bigtiff": {"bigtiff": True, "tile": (64, 64), "compression": "zstd"},
    "planar": {"planarconfig": "separate", "tile": (128, 128)},
}


@pytest.mark.parametrize("kind", [*KINDS, "png", "pyramid", "aperio"])
def test_level_0_comes_back_as_it_is(tmp_path: Path, kind: str) -> None:
    pixels = noise(701, 503)
    if kind in KINDS:
        stored = np.moveaxis(pixels, 2, 0) if kind == "planar" else pixels
        path = write_tiff(tmp_path / "x.tif", stored, **KINDS[kind])
    elif kind == "png":
        path = tmp_path / "x.png"
        Image.fromarray(pixels).save(path)
    else:
        path = {"pyramid": write_pyramid, "aperio": write_aperio}[kind](tmp_path / "x.ome.tif", pixels)
    with open_slide(path) as slide:
        assert slide.size == slide.levels[0] == (701, 503)
        assert slide.offset == (0, 0)
        assert (slide.mpp is None) if kind == "png" else (slide.mpp == pytest.approx(0.5, rel=1e-6))
        np.testing.assert_array_equal(slide.read(0, 0, 701, 503), pixels)
        np.testing.assert_array_equal(slide.read(333, 217, 150, 129), pixels[217:346, 333:483])
        outside = slide.read(-10, 490, 30, 40)
        assert (outside[:, :10] == 255).all()
        assert (outside[13:] == 255).all()
        np.testing.assert_array_equal(outside[:13, 10:], pixels[490:, :20])
        assert (slide.read(5000, 5000, 4, 4) == 255).all()


def test_plain_pyramids_in_further_pages_are_found(tmp_path: Path) -> None:
    pixels = ramp(1024, 768)
    with tifffile.TiffWriter(tmp_path / "x.tif") as tiff:
        for level, step in enumerate((1, 2, 4)):
            tiff.write(
                pixels[::step, ::step], tile=(128, 128), photometric="rgb", subfiletype=int(level > 0), metadata=None
            )
    with open_slide(tmp_path / "x.tif") as slide:
        assert slide.levels == [(1024, 768), (512, 384), (256, 192)]


PERIOD = 97.0


def waves(width: int = W, height: int = H) -> np.ndarray:
    """Sines of x (red) and y (green): their phase in what is read tells position to a hundredth of a pixel."""
    y, x = np.mgrid[:height, :width] + 0.5
    sines = [128 + 120 * np.sin(2 * np.pi * axis / PERIOD) for axis in (x, y, x + y)]
    return np.stack(sines, axis=2).round().astype(np.uint8)


def shift(profile: np.ndarray, start: float, factor: float) -> float:
    """By how many level-0 pixels a profile of the sine lies beside where it should, by least squares."""
    phase = 2 * np.pi * (start + (np.arange(profile.size) + 0.5) * factor) / PERIOD
    basis = np.stack([np.sin(phase), np.cos(phase), np.ones_like(phase)], axis=1)
    sine, cosine, _ = np.linalg.lstsq(basis, profile, rcond=None)[0]
    return float(np.arctan2(cosine, sine) * PERIOD / (2 * np.pi))


@pytest.mark.parametrize("kind", ["pyramid", "flat", "aperio"])
@pytest.mark.parametrize("factor", [0.5, 1, 2, 3.7, 4, 9.3])
def test_pixels_lie_where_they_should(tmp_path: Path, kind: str, factor: float) -> None:
    write = {"pyramid": write_pyramid, "flat": write_tiff, "aperio": write_aperio}[kind]
    path = write(tmp_path / "x.tif", waves())
    # OpenSlide's corner is a whole level-0 pixel, so its coarser levels are up to half of one off
    tolerance = 0.5 if kind == "aperio" and factor >= 4 else 0.05
    with open_slide(path) as slide:
        for x, y in ((300, 200), (301.25, 199.5), (517.9, 333.3)):
            region = slide.read(x, y, 100, 80, mpp=0.5 * factor).astype(float)
            assert abs(shift(region[..., 0].mean(axis=0), x, factor)) < tolerance
            assert abs(shift(region[..., 1].mean(axis=1), y, factor)) < tolerance


@pytest.mark.parametrize("kind", ["pyramid", "flat", "aperio"])
@pytest.mark.parametrize("factor", [0.6, 1, 1.7, 2, 3.7, 8])
def test_parts_equal_the_whole(tmp_path: Path, kind: str, factor: float) -> None:
    write = {"pyramid": write_pyramid, "flat": write_tiff, "aperio": write_aperio}[kind]
    path = write(tmp_path / "x.tif", noise())
    with open_slide(path) as slide:
        x, y, mpp = 13.37, -20.0, 0.5 * factor
        width, height = 150, 100
        whole = slide.read(x, y, width, height, mpp=mpp).astype(int)
        for cut in (1, 64, 77):
            left = slide.read(x, y, cut, height, mpp=mpp)
            right = slide.read(x + cut * factor, y, width - cut, height, mpp=mpp)
            assert np.abs(np.hstack([left, right]) - whole).max() <= 1
            upper = slide.read(x, y, width, cut, mpp=mpp)
            lower = slide.read(x, y + cut * factor, width, height - cut, mpp=mpp)
            assert np.abs(np.vstack([upper, lower]) - whole).max() <= 1


def test_large_regions_are_read_in_blocks_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "x.tif", noise())
    with open_slide(path) as slide:
        at_once = slide.thumbnail(300).astype(int)
        monkeypatch.setattr("restain.slides.slide._BLOCK", 200 * 200)
        assert np.abs(slide.thumbnail(300) - at_once).max() <= 1


@pytest.mark.parametrize("factor", [1.9, 3.7])
def test_resampling_agrees_with_skimage_and_pillow(tmp_path: Path, factor: float) -> None:
    pixels = np.asarray(Image.fromarray(noise(60, 44)).resize((W, H), Image.Resampling.BICUBIC))
    width, height = int(W / factor), int(H / factor)
    with open_slide(write_tiff(tmp_path / "x.tif", pixels)) as slide:
        ours = slide.read(0, 0, width, height, mpp=0.5 * factor).astype(float)
    box = (0, 0, width * factor, height * factor)
    lanczos = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS, box=box), float)
    assert np.abs(ours - lanczos).mean() < 2
    whole = round(width * factor), round(height * factor)
    other = resize(pixels[: whole[1], : whole[0]], (height, width), order=1, anti_aliasing=True, preserve_range=True)
    assert np.abs(ours - other).mean() < 2


def test_what_is_too_fine_becomes_grey_and_not_a_pattern(tmp_path: Path) -> None:
    checkers = np.indices((H, W)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(255)
    with open_slide(write_tiff(tmp_path / "x.tif", checkers.astype(np.uint8))) as slide:
        for factor in (2, 3.7, 6.1):
            region = slide.read(100, 100, 100, 80, mpp=0.5 * factor).astype(float)
            assert np.abs(region - 127.5).max() < (2 if factor != 2 else 24)


def test_thumbnail_and_overview_show_the_whole_slide(tmp_path: Path) -> None:
    pixels = ramp()
    with open_slide(write_pyramid(tmp_path / "x.ome.tif", pixels)) as slide:
        thumbnail = slide.thumbnail(200)
        assert thumbnail.shape == (147, 200, 3)
        expected = (np.arange(200) + 0.5) / 200 * 255
        assert np.abs(thumbnail[70, :, 0] - expected).max() < 2
        assert slide.thumbnail(10_000).shape == pixels.shape
        assert slide.overview(10.0).shape == (111, 151, 3)


class Bounded(openslide.OpenSlide):
    """A slide whose scanner names the scanned area."""

    @property
    def properties(self) -> dict[str, str]:
        bounds = {"x": 101, "y": 53, "width": 900, "height": 700}
        return {**super().properties, **{f"openslide.bounds-{key}": str(value) for key, value in bounds.items()}}


def test_level_0_begins_at_the_scanned_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = waves()
    path = write_aperio(tmp_path / "x.svs", pixels)
    monkeypatch.setattr("openslide.OpenSlide", Bounded)
    with open_slide(path) as slide:
        assert (slide.size, slide.offset, slide.levels) == ((900, 700), (101, 53), [(900, 700), (225, 175)])
        np.testing.assert_array_equal(slide.read(0, 0, 60, 50), pixels[53:103, 101:161])
        assert (slide.read(-20, -20, 20, 20) == 255).all()
        coarse = slide.read(80, 40, 100, 80, mpp=2.0).astype(float)
        assert abs(shift(coarse[..., 0].mean(axis=0), 101 + 80, 4)) < 0.5
        assert abs(shift(coarse[..., 1].mean(axis=1), 53 + 40, 4)) < 0.5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_slides_work_in_other_processes(tmp_path: Path, method: str) -> None:
    path = write_pyramid(tmp_path / "x.ome.tif", noise(300, 300))
    with open_slide(path, mpp=0.3) as slide:
        copy = pickle.loads(pickle.dumps(slide))  # noqa: S301 - our own bytes
        assert (copy.mpp, copy.path) == (0.3, path)
        copy.close()
        read = methodcaller("read", 100, 100, 8, 8)
        with multiprocessing.get_context(method).Pool(2) as pool:
            for region in pool.map(read, [slide] * 4):
                np.testing.assert_array_equal(region, read(slide))


def test_a_closed_slide_says_so_and_frees_the_file(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "x.ome.tif", noise(300, 300))
    before = psutil.Process().num_fds()
    slides = [open_slide(path) for _ in range(5)]
    for slide in slides:
        slide.read(0, 0, 10, 10)
        slide.close()
    assert psutil.Process().num_fds() == before
    with pytest.raises(ValueError, match="closed"):
        slides[0].read(0, 0, 10, 10)


def test_memory_is_that_of_tiles_not_of_the_slide(tmp_path: Path) -> None:
    side = 12_000  # 432 MB
    with PyramidWriter(tmp_path / "x.ome.tif", (side, side), 0.5) as writer:
        for y in range(0, side, 512):
            writer.write(0, y, np.full((min(512, side - y), side, 3), y % 251, np.uint8))
    process = psutil.Process()
    with open_slide(tmp_path / "x.ome.tif") as slide:
        slide.read(0, 0, 512, 512)
        before = process.memory_info().rss
        peak = 0
        for y in range(0, side, 1024):
            for x in range(0, side, 1024):
                slide.read(x, y, 1024, 1024)
                peak = max(peak, process.memory_info().rss)
    assert peak - before < 120 * 2**20


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95, 0.999])
def test_truncated_slides_are_never_read_silently(tmp_path: Path, shared: Path, share: float) -> None:
    slides = shared / "data/slides"
    own = write_pyramid(tmp_path / "own.ome.tif", noise(600, 500))
    whole = [slides / "cmu-1-small-region.svs", slides / "camelyon-overview.dcm", own]
    for path in whole:
        data = path.read_bytes()
        cut = tmp_path / f"cut-{path.name}"
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UnreadableImageError, match=cut.name), open_slide(cut) as slide:
            slide.read(0, 0, *slide.size)


def test_broken_missing_and_empty_files_are_named(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "empty.svs").write_bytes(b"")
    for path in (shared / "data/slides/broken.svs", tmp_path / "missing.svs", tmp_path / "empty.svs", tmp_path):
        with pytest.raises(UnreadableImageError, match=path.name):
            open_slide(path)


def test_a_damaged_tile_is_reported_when_it_is_read(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "x.ome.tif", noise(600, 500))
    data = bytearray(path.read_bytes())
    data[3000:30_000] = bytes(27_000)
    path.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(UnreadableImageError, match=r"x\.ome\.tif"):
        slide.read(0, 0, 600, 500)
