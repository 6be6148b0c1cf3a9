"""Plain images by content, in every sample format, and damaged ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from restain.core.errors import UnreadableImageError
from restain.slides import read_image, write_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 60, 3)).astype(np.uint8)
GREY = RGB[..., 0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_written_images_are_read_by_pillow_and_by_us(tmp_path: Path, suffix: str) -> None:
    smooth = np.asarray(Image.fromarray(RGB[:6, :9]).resize((60, 40), Image.Resampling.BICUBIC))
    path = tmp_path / f"new/image{suffix}"
    write_image(path, smooth)
    assert np.abs(np.asarray(Image.open(path)).astype(int) - smooth).max() <= (12 if suffix == ".jpg" else 0)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_grey_is_written_as_grey(tmp_path: Path) -> None:
    write_image(tmp_path / "mask.png", GREY)
    assert Image.open(tmp_path / "mask.png").mode == "L"


@pytest.mark.parametrize("bad", [RGB.astype(np.float32), RGB[..., :2], RGB[0, 0]])
def test_only_uint8_pictures_are_written(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        write_image(tmp_path / "x.png", bad)


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="suffix"):
        write_image(tmp_path / "x.bmp", RGB)


def test_content_decides_not_the_suffix(tmp_path: Path, shared: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, "TIFF")
    (tmp_path / "tiff.png").write_bytes(data.getvalue())
    np.testing.assert_array_equal(read_image(tmp_path / "tiff.png"), RGB)
    bci = shared / "data/bci-pairs/HE/test/00820_test_2+.png"  # JPEG inside
    np.testing.assert_array_equal(read_image(bci), np.asarray(Image.open(bci).convert("RGB")))


@pytest.mark.parametrize("suffix", ["bmp", "gif", "webp", "ppm"])
def test_other_formats_that_pillow_reads(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(GREY if suffix == "gif" else RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), RGB[..., :1] * np.ones(3, np.uint8) if suffix == "gif" else RGB)


def test_jpegs_under_another_name_and_of_cameras(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "jpeg.png", "JPEG")
    expected = np.asarray(Image.open(tmp_path / "jpeg.png"))
    np.testing.assert_array_equal(read_image(tmp_path / "jpeg.png"), expected)
    Image.fromarray(RGB).save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    np.testing.assert_array_equal(read_image(tmp_path / "two.jpg"), expected)


def test_garbage_is_said_to_be_none_of_the_kinds(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"garbage" * 20)
    with pytest.raises(UnreadableImageError, match=r"x.png: not a slide or image that can be read"):
        read_image(tmp_path / "x.png")


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_is_composited_on_white(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    alpha = GREY
    Image.fromarray(np.dstack([RGB, alpha]), "RGBA").save(path)
    assert np.abs(read_image(path) - _over_white(RGB, alpha)).max() <= 1
    if suffix == "png":
        Image.fromarray(np.dstack([GREY, alpha]), "LA").save(path)
        assert np.abs(read_image(path)[..., 2:] - _over_white(GREY[..., None], alpha)).max() <= 1


def test_sixteen_bits_are_scaled_from_their_full_range(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "rgb.tif", deep, photometric="rgb")
    assert np.abs(read_image(tmp_path / "rgb.tif") - deep / 257).max() <= 0.5
    Image.fromarray(deep[..., 0]).save(tmp_path / "grey.png")
    grey = read_image(tmp_path / "grey.png")
    assert np.abs(grey[..., 1] - deep[..., 0] / 257).max() <= 0.5
    assert (grey[..., 0] == grey[..., 2]).all()


def test_other_pixel_formats_match_pillow(tmp_path: Path) -> None:
    for name, image in {
        "palette.png": Image.fromarray(RGB).quantize(40),
        "palette.tif": Image.fromarray(RGB).quantize(40),
        "bits.png": Image.fromarray(GREY > 99),
        "bits.tif": Image.fromarray(GREY > 99),
        "cmyk.jpg": Image.fromarray(RGB).convert("CMYK"),
        "grey.png": Image.fromarray(GREY),
    }.items():
        image.save(tmp_path / name)
        expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        np.testing.assert_array_equal(read_image(tmp_path / name), expected, err_msg=name)


def test_planar_and_white_is_zero_tiffs(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif"), RGB)
    tifffile.imwrite(tmp_path / "white.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif")[..., 0], 255 - GREY)


def test_colours_as_planes_and_a_thumbnail_in_front(tmp_path: Path) -> None:
    planes = np.moveaxis(RGB, 2, 0)
    tifffile.imwrite(tmp_path / "c.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "c.ome.tif"), RGB)
    with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as tiff:
        tiff.write(RGB[::3, ::3], photometric="rgb", metadata=None)
        tiff.write(RGB, photometric="rgb", metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "thumbnail.tif"), RGB)


def test_byte_order_is_the_files(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (40, 60)).astype(np.uint16)
    for order in "<>":
        tifffile.imwrite(tmp_path / "x.tif", deep, byteorder=order)
        assert np.abs(read_image(tmp_path / "x.tif")[..., 0] - deep / 257).max() <= 0.5


def test_many_channels_and_floats_are_refused_with_the_file_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "channels.ome.tif", RNG.integers(0, 9, (5, 40, 60)).astype(np.uint8))
    tifffile.imwrite(tmp_path / "float.tif", np.ones((40, 60), np.float32))
    for name in ("channels.ome.tif", "float.tif"):
        with pytest.raises(UnreadableImageError, match=name):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_images_name_the_file(tmp_path: Path, suffix: str, share: float) -> None:
    write_image(tmp_path / f"whole{suffix}", np.tile(RGB, (8, 8, 1)))
    data = (tmp_path / f"whole{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImageError, match=cut.name):
        read_image(cut)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    for path in (tmp_path / "notes.png", tmp_path / "missing.png", tmp_path):
        with pytest.raises(UnreadableImageError, match=path.name):
            read_image(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UnreadableImageError, match="too many"):
        read_image(bomb)
    assert limit == Image.MAX_IMAGE_PIXELS
