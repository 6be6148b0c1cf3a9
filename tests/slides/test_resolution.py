"""um/px: taken where a file says it, never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from restain.core.errors import MissingResolutionError, RestainError
from restain.slides import open_slide

PIXELS = np.full((32, 48, 3), 200, np.uint8)


def _mpp(path: Path) -> float | None:
    with open_slide(path) as slide:
        return slide.mpp


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40_000, 40_000), "CENTIMETER", 0.25),
        ((50_800, 50_800), "INCH", 0.5),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "INCH", None),
        ((28.3465, 28.3465), "CENTIMETER", None),  # 72 dpi again
        ((2400, 2400), "INCH", None),
        ((1, 1), "NONE", None),
        ((40_000, 40_000), "NONE", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
def test_tiff_tags_count_only_where_they_can_be_a_microscopes(
    tmp_path: Path, resolution: tuple[float, float], unit: str, expected: float | None
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", PIXELS, photometric="rgb", resolution=resolution, resolutionunit=unit)
    assert _mpp(tmp_path / "x.tif") == (None if expected is None else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize(("value", "unit", "expected"), [(0.25, "µm", 0.25), (250, "nm", 0.25), (4.6e-4, "mm", 0.46)])
def test_ome_physical_size_with_its_unit(tmp_path: Path, value: float, unit: str, expected: float) -> None:
    sizes = {
        "PhysicalSizeX": value, "PhysicalSizeXUnit": unit, "PhysicalSizeY": value, "PhysicalSizeYUnit": unit,
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "x.ome.tif", PIXELS, photometric="rgb", metadata={"axes": "YXS", **sizes})
    assert _mpp(tmp_path / "x.ome.tif") == pytest.approx(expected, rel=1e-9)


def test_imagej_microns(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    tifffile.imwrite(tmp_path / "x.tif", grey, imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    assert _mpp(tmp_path / "x.tif") == pytest.approx(0.25)


def test_png_and_jpeg_are_unknown_even_with_dpi(tmp_path: Path) -> None:
    for name in ("x.png", "x.jpg"):
        Image.fromarray(PIXELS).save(tmp_path / name, dpi=(50_800, 50_800))
        assert _mpp(tmp_path / name) is None


def test_unknown_resolution_says_how_to_give_one(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    with open_slide(tmp_path / "x.png") as slide:
        with pytest.raises(MissingResolutionError, match=r"x\.png.*--mpp"):
            slide.read(0, 0, 8, 8, mpp=0.5)
        assert slide.read(0, 0, 8, 8).shape == (8, 8, 3)
    with open_slide(tmp_path / "x.png", mpp=0.25) as slide:
        assert slide.mpp == slide.require_mpp() == 0.25
        assert slide.read(0, 0, 8, 8, mpp=0.5).shape == (8, 8, 3)


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf")])
def test_an_impossible_override_is_refused(tmp_path: Path, mpp: float) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    with pytest.raises(RestainError, match="positive"):
        open_slide(tmp_path / "x.png", mpp=mpp)


def test_nearly_square_pixels_are_square_and_others_are_not_taken_for_it(tmp_path: Path) -> None:
    for name, per_cm in (("near", (20_000, 20_100)), ("far", (20_000, 40_000))):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", PIXELS, photometric="rgb", resolution=per_cm, resolutionunit="CENTIMETER"
        )
    with open_slide(tmp_path / "near.tif") as slide:
        assert slide.mpp_xy == pytest.approx((0.5, 0.497512), rel=1e-5)
        assert slide.mpp == pytest.approx((0.5 * 0.497512) ** 0.5, rel=1e-5)
    with open_slide(tmp_path / "far.tif") as slide:
        assert slide.mpp is None
        assert slide.mpp_xy == pytest.approx((0.5, 0.25))
        with pytest.raises(MissingResolutionError, match="not square"):
            slide.require_mpp()
