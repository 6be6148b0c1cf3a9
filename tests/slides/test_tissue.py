"""Tissue on synthetic slides with known truth, and on real H&E, IHC, glass and pen marks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from restain.slides import (
    PyramidWriter,
    TissueMask,
    find_tissue,
    glass_colour,
    ink_coloured,
    open_slide,
    read_image,
    tile_grid,
    tissue_and_ink,
    tissue_mask,
    tissue_polygons,
)

RNG = np.random.default_rng(7)
HAEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)


def disc(side: int = 512, radius: int = 150) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2
    return x * x + y * y < radius * radius


def stained(
    truth: np.ndarray, white: tuple[int, int, int], *stains: tuple[tuple[float, float, float], float]
) -> np.ndarray:
    """Glass of a colour with mottled stain (Beer-Lambert) where the truth is, and a little noise."""
    density = np.zeros((*truth.shape, 3))
    for vector, amount in stains:
        mottle = cv2.GaussianBlur(RNG.normal(size=truth.shape), (0, 0), 2)
        density += (amount * np.clip(1 + 3 * mottle, 0, None) * truth)[..., None] * np.array(vector)
    picture = np.array(white) * 10**-density + RNG.normal(0, 1, (*truth.shape, 3))
    return np.clip(picture.round(), 0, 255).astype(np.uint8)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("white", [(245, 243, 246), (178, 177, 174), (236, 219, 235), (255, 255, 255)])
@pytest.mark.parametrize(
    "stains", [((HAEMATOXYLIN, 0.3), (EOSIN, 0.3)), ((HAEMATOXYLIN, 0.05), (DAB, 0.03))], ids=["H&E", "pale IHC"]
)
def test_tissue_is_found_on_glass_of_any_colour(white: tuple[int, int, int], stains: tuple) -> None:  # type: ignore[type-arg]
    truth = disc()
    picture = stained(truth, white, *stains)
    assert np.abs(glass_colour(picture).astype(int) - white).max() <= 4
    assert overlap(find_tissue(picture), truth) > 0.9


@pytest.mark.parametrize("ink", [(40, 160, 90), (30, 60, 180), (200, 20, 25), (25, 25, 25)])
def test_pen_marks_are_no_tissue(ink: tuple[int, int, int]) -> None:
    truth = disc(radius=110)
    picture = stained(truth, (244, 243, 245), (HAEMATOXYLIN, 0.3), (EOSIN, 0.3))
    cv2.circle(picture, (256, 256), 200, ink, 14)
    picture = cv2.GaussianBlur(picture, (0, 0), 1)
    assert overlap(find_tissue(picture), truth) > 0.85


@pytest.mark.parametrize("ink", [(20, 30, 200), (30, 50, 160)], ids=["royal", "marker"])
@pytest.mark.parametrize("stain", [((HAEMATOXYLIN, 0.3), (EOSIN, 0.3)), ((HAEMATOXYLIN, 0.15),)], ids=["H&E", "IHC"])
def test_blue_pen_that_lets_blue_alone_through(ink: tuple[int, int, int], stain: tuple, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """A stroke of the ink's transmitted colours, over glass and over tissue."""
    truth = disc(radius=130)
    stroke = cv2.line(np.zeros(truth.shape, np.uint8), (20, 60), (490, 440), 1, 26)
    light = np.where(stroke[..., None] > 0, np.array(ink) / 255, 1.0)
    picture = (stained(truth, (244, 243, 245), *stain) * cv2.GaussianBlur(light, (0, 0), 1)).astype(np.uint8)
    inked = stroke > 0
    assert find_tissue(picture)[inked].mean() < 0.1
    assert overlap(find_tissue(picture), truth & ~inked) > 0.75  # less a margin along the stroke
    Image.fromarray(picture).save(tmp_path / "slide.png")
    with open_slide(tmp_path / "slide.png", 8.0) as slide:
        found = tissue_and_ink(slide)[1].mask
    assert found[inked].mean() > 0.95
    assert found[cv2.dilate(stroke, np.ones((41, 41), np.uint8)) == 0].mean() < 0.001


@pytest.mark.parametrize(
    ("amounts", "bluish"),
    [((0.9, 0.1, 0.0), 0.05), ((0.7, 0.5, 0.0), 0.0), ((0.8, 0.0, 0.3), 0.05), ((0.3, 0.0, 0.9), 0)],
)
def test_dense_nuclei_and_dab_are_no_ink(amounts: tuple[float, float, float], bluish: float) -> None:
    """Also haematoxylin that absorbs more red and less blue than Ruifrok and Johnston's."""
    haematoxylin = np.add(HAEMATOXYLIN, (bluish, 0, -bluish / 2))
    density = np.array(amounts) @ np.stack([haematoxylin, EOSIN, DAB])
    assert not ink_coloured(np.full((4, 4, 3), density, np.float32)).any()


@pytest.mark.parametrize(
    "group",
    [
        "bci-pairs/*/test/*",
        "her2-ihc/*",
        "her2-cores/*",
        "qc/*nuclei-score-level*",
        "slides/*C?.jpg",
        "nuclei/he/*[0-9a-f].png",
    ],
)
def test_no_ink_is_seen_where_there_is_none(shared: Path, group: str) -> None:
    for path in sorted((shared / "data").glob(group)):
        with open_slide(path) as slide:
            assert tissue_and_ink(slide)[1].mask.mean() < 0.001, path.name


def test_black_borders_and_areas_never_scanned_are_neither_tissue_nor_glass() -> None:
    truth = disc()
    picture = stained(truth, (180, 179, 176), (HAEMATOXYLIN, 0.2), (DAB, 0.2))
    picture[:30] = 0
    picture[:, 470:] = 255
    assert np.abs(glass_colour(picture).astype(int) - (180, 179, 176)).max() <= 4
    assert overlap(find_tissue(picture), truth) > 0.9


def test_blank_glass_is_blank_and_a_field_of_tissue_is_full() -> None:
    everywhere = np.ones((300, 300), bool)
    assert not find_tissue(stained(~everywhere, (240, 240, 241))).any()
    assert find_tissue(stained(everywhere, (240, 240, 241), (HAEMATOXYLIN, 0.2), (EOSIN, 0.2))).mean() > 0.95
    assert find_tissue(np.zeros((3, 2, 3), np.uint8)).shape == (3, 2)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("qc/almost-white-1.png", 0, 0.001),
        ("qc/almost-white-ihc.png", 0, 0.001),
        ("qc/no-tissue.png", 0, 0.01),
        ("qc/no-tissue-line.png", 0, 0.1),
        ("qc/tissue-level0-4302-10273-4814-10785.png", 0.8, 1),
        ("qc/medium-nuclei-score-level1-2.png", 0.95, 1),
        ("qc/high-nuclei-score-level2.png", 0.1, 0.2),
        ("qc/low-nuclei-score-level0.png", 0.9, 1),
        ("her2-ihc/00000_test_1+.png", 0.9, 1),  # grey everywhere
        ("her2-ihc/00016_test_1+.png", 0.9, 1),
        ("her2-ihc/00008_test_3+.png", 0.35, 0.6),  # the left half, on grey
        ("her2-ihc/00012_test_1+.png", 0.65, 0.9),
        ("her2-cores/0_9b0f64d1-6785-49d9-b279-004b2deb8478.jpg", 0.35, 0.55),  # palest
        ("her2-cores/3_99b35026-3833-48c0-9b30-dcd151596f6d.jpg", 0, 0.005),  # an empty field
        ("slides/her2-positive-tumour-section-C2.jpg", 0.15, 0.22),
        ("slides/her2-positive-tumour-section-C3.jpg", 0.15, 0.22),
    ],
)
def test_real_pictures(shared: Path, name: str, low: float, high: float) -> None:
    with open_slide(shared / "data" / name) as slide:
        share = find_tissue(slide.thumbnail(1024)).mean()
    assert low <= share <= high


def test_real_pens(shared: Path) -> None:
    green = read_image(shared / "data/qc/medium-nuclei-score-green-pen-level1.png")
    found = find_tissue(green)
    assert found[:150].mean() < 0.15  # under the ink
    assert found[330:].mean() > 0.8
    red = find_tissue(read_image(shared / "data/qc/tcga-red-pen.png"))
    assert red[180:420, 20:110].mean() < 0.1
    assert red[:, 250:].mean() > 0.85


def _slide(path: Path, truth: np.ndarray, mpp: float | None) -> Path:
    with PyramidWriter(path, truth.shape[::-1], mpp, compression="deflate") as writer:
        writer.write(0, 0, stained(truth, (240, 239, 241), (HAEMATOXYLIN, 0.3), (EOSIN, 0.3)))
    return path


def test_the_mask_of_a_slide_has_its_area_and_place(tmp_path: Path) -> None:
    truth = np.zeros((1500, 2100), bool)
    cv2.circle(canvas := truth.astype(np.uint8), (1300, 700), 450, 1, -1)
    truth = canvas.astype(bool)
    with open_slide(_slide(tmp_path / "x.ome.tif", truth, 0.5)) as slide:
        tissue = tissue_mask(slide)
        assert tissue.area_um2 == pytest.approx(truth.sum() * 0.25, rel=0.06)
        assert tissue.share == pytest.approx(truth.mean(), rel=0.06)
        rows, columns = np.nonzero(tissue.mask)
        assert (columns.mean() + 0.5) * tissue.downsample == pytest.approx(1300, abs=6)
        assert (rows.mean() + 0.5) * tissue.downsample == pytest.approx(700, abs=6)
    with open_slide(_slide(tmp_path / "unknown.ome.tif", truth, None)) as slide:
        assert tissue_mask(slide).area_um2 is None
        assert tissue_mask(slide).share == pytest.approx(truth.mean(), rel=0.06)


def _mask(downsample: float = 7.3) -> TissueMask:
    mask = cv2.GaussianBlur(RNG.normal(size=(60, 80)), (0, 0), 3) > 0
    return TissueMask(mask, downsample, (580, 435), np.full(3, 240, np.uint8), 0.5)


def test_fraction_is_the_area_counted_pixel_by_pixel() -> None:
    tissue = _mask(7.0)
    fine = np.zeros((600, 700), bool)
    painted = tissue.mask.repeat(7, axis=0).repeat(7, axis=1)[:435, :580]
    fine[: painted.shape[0], : painted.shape[1]] = painted
    boxes = RNG.integers(0, 400, (50, 2)), RNG.integers(1, 200, (50, 2))
    found = tissue.fraction(boxes[0][:, 0], boxes[0][:, 1], boxes[1][:, 0], boxes[1][:, 1])
    for (x, y), (width, height), share in zip(*boxes, found, strict=True):
        assert share == pytest.approx(fine[y : y + height, x : x + width].sum() / (width * height), abs=1e-9)
    assert tissue.fraction(-50, -50, 50, 50) == 0
    assert tissue.fraction(900, 900, 50, 50) == 0


@pytest.mark.parametrize(("tile", "stride"), [(100, None), (64.5, 40.25), (580, None), (900, None)])
def test_tiles_cover_the_slide(tile: float, stride: float | None) -> None:
    width, height = 580, 435
    origins = tile_grid((width, height), tile, stride)
    covered = np.zeros((height, width), bool)
    for x, y in origins:
        covered[int(np.ceil(y)) : int(y + tile), int(np.ceil(x)) : int(x + tile)] = True
    step = stride or tile
    assert covered.all() if step < tile or tile == int(tile) else True
    assert len(origins) == len(np.unique(origins, axis=0))
    assert (origins[:, 0] < width).all()
    inside = tile_grid((width, height), tile, stride, partial=False)
    assert (inside + tile <= np.array([width, height]) + 1e-2).all()
    assert len(inside) == sum((x + tile <= width) and (y + tile <= height) for x, y in origins)


def test_tiles_of_rounded_um_per_px_make_no_sliver() -> None:
    assert len(tile_grid((1024, 1024), 512 * 0.4991 / 0.49910000001)) == 4
    assert len(tile_grid((1024, 1024), 512 * 0.4991 / 0.49910000001, partial=False)) == 4


def test_tiles_with_enough_tissue() -> None:
    tissue = _mask()
    every = tile_grid(tissue.size, 50)
    share = np.array([float(tissue.fraction(x, y, 50, 50)) for x, y in every])
    for least in (0.25, 0.9):
        np.testing.assert_array_equal(
            tile_grid(tissue.size, 50, tissue=tissue, min_tissue=least), every[share >= least]
        )
    np.testing.assert_array_equal(tile_grid(tissue.size, 50, tissue=tissue, min_tissue=0), every[share > 0])


@pytest.mark.parametrize(("tile", "stride"), [(0, None), (10, 0), (10, 20), (-1, None)])
def test_impossible_grids_are_refused(tile: float, stride: float | None) -> None:
    with pytest.raises(ValueError, match="stride"):
        tile_grid((100, 100), tile, stride)


def test_polygons_outline_the_mask() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:40, 10:60] = True
    mask[15:25, 20:40] = False  # a hole
    mask[50:60, 70:80] = True  # at the corner
    tissue = TissueMask(mask, 8.0, (637, 478), np.full(3, 240, np.uint8), 0.5)
    found = tissue_polygons(tissue)
    assert found["type"] == "FeatureCollection"
    assert sorted(len(feature["geometry"]["coordinates"]) for feature in found["features"]) == [1, 2]
    drawn = np.zeros((478, 637), bool)
    for feature in found["features"]:
        assert feature["properties"]["classification"]["name"] == "Tissue"
        for number, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            drawn[polygon2mask(drawn.shape, np.array(ring)[:, ::-1])] = number == 0
    truth = mask.repeat(8, axis=0).repeat(8, axis=1)[:478, :637]
    assert overlap(drawn, truth) > 0.96
    assert np.array(found["features"][0]["geometry"]["coordinates"][0]).max() <= 637


def test_thumbnails_larger_than_needed_give_masks_of_their_own_size() -> None:
    truth = disc(1500, 500)
    picture = stained(truth, (240, 240, 241), (HAEMATOXYLIN, 0.3), (EOSIN, 0.3))
    found = find_tissue(picture)
    assert found.shape == truth.shape
    assert overlap(found, truth) > 0.9
    half = np.asarray(Image.fromarray(picture).resize((750, 750)))
    assert overlap(find_tissue(half), truth[::2, ::2]) > 0.9
