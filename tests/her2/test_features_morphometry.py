"""The default encoder: what its columns say of fields whose truth is known, and what they do not depend on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.her2.encoders import Field, Stain, make_encoder
from restain.her2.encoders.morphometry import Morphometry
from restain.her2.encoders.nuclear_shapes import MEASURES, find_nuclei
from restain.her2.encoders.stain_space import StainSpace, stain_space
from restain.her2.encoders.tile_statistics import NUCLEAR, Tiles, of_nuclei, quantiles
from restain.slides import open_slide, tissue_mask, write_image
from restain.synthetic import SlideRenderer, SynthOptions, World

CLEAN = {"pen": 0.0, "folds": 0.0, "bubbles": 0.0, "out_of_focus": 0.0}
MARGIN, SIDE = 64, 256


def drawn(ellipses: list[tuple[int, int, float, float, float]], side: int = 512) -> np.ndarray:
    """Haematoxylin 0.1 with nuclei (x, y, semi-axes in px, degrees) of 0.8, as sharp as a scanner sees them."""
    big = np.full((side * 4, side * 4), 0.1, np.float32)
    for x, y, a, b, angle in ellipses:
        cv2.ellipse(big, (4 * x, 4 * y), (round(4 * a), round(4 * b)), angle, 0, 360, 0.8, -1)
    return cv2.GaussianBlur(cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA), (0, 0), 1.0)


def test_shapes_of_nuclei_that_are_known() -> None:
    places = [(x, y) for y in range(40, 500, 60) for x in range(40, 500, 60)]
    ellipses = [(x, y, 10.0, 6.0, 20.0) if n % 2 else (x, y, 7.0, 7.0, 0.0) for n, (x, y) in enumerate(places)]
    nuclei = find_nuclei(drawn(ellipses), np.zeros((512, 512), np.float32), 0.4)
    assert len(nuclei) == len(places)
    nearest = np.abs(nuclei.centres[:, None] - (np.array(places) + 0.5)[None]).sum(axis=2).argmin(axis=1)
    long = nearest % 2 == 1
    area, elongation = nuclei.measures["area"], nuclei.measures["elongation"]
    assert np.allclose(area[long], np.pi * 60 * 0.25, rtol=0.08)
    assert np.allclose(area[~long], np.pi * 49 * 0.25, rtol=0.08)
    assert np.allclose(elongation[long], 10 / 6, atol=0.12)
    assert (elongation[~long] < 1.1).all()
    assert (nuclei.measures["irregularity"] < 0.08).all()
    assert np.allclose(nuclei.measures["spacing"], 30, atol=0.6)
    assert np.allclose(nuclei.measures["cytoplasm_haematoxylin"], 0.1, atol=0.05)
    size = np.abs(np.log(60 / 49))
    assert 0.3 * size < np.median(nuclei.measures["size_difference"]) < 1.5 * size


def test_touching_nuclei_are_told_apart() -> None:
    pairs = [(x + dx, y, 7.0, 7.0, 0.0) for y in range(50, 480, 80) for x in range(50, 480, 80) for dx in (0, 13)]
    nuclei = find_nuclei(drawn(pairs), np.zeros((512, 512), np.float32), 0.4)
    assert abs(len(nuclei) - len(pairs)) <= 2
    assert np.allclose(nuclei.measures["area"].mean(), np.pi * 49 * 0.25, rtol=0.1)


def test_statistics_by_tile_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    tile, values, weights = rng.integers(-1, 5, 200), rng.normal(size=200), rng.uniform(0.1, 1, 200)
    tile[tile == 3] = 2
    found = of_nuclei(tile, values, weights, 5)
    for number in (0, 1, 2, 4):
        own, weight = values[tile == number], weights[tile == number]
        plump = np.average(own, weights=weight)
        spread = np.sqrt(np.average((own - plump) ** 2, weights=weight))
        wanted = [own.mean(), own.std(), *np.quantile(own, [0.1, 0.5, 0.9]), plump, spread]
        assert np.allclose(found[number], wanted)
    assert (found[3] == 0).all(), "a tile without nuclei"
    assert found.shape == (5, len(NUCLEAR))
    assert np.isfinite(of_nuclei(np.full(3, -1), values[:3], weights[:3], 2)).all()
    assert quantiles(np.arange(101)[None], [0.05, 0.5])[0].tolist() == [5, 50]


def test_nuclei_belong_to_the_tile_of_their_centre() -> None:
    tiles = Tiles(np.array([[10, 10], [42, 10], [10, 42]]), 32)
    points = np.array([[10.0, 10.0], [41.9, 41.9], [42.0, 10.0], [41.0, 42.0], [9.9, 20], [43.0, 43.0], [300.0, 0.0]])
    assert tiles.containing(points).tolist() == [0, 0, 1, 2, -1, -1, -1]
    plane = np.arange(100 * 100).reshape(100, 100)
    assert np.array_equal(tiles.of(plane)[1].reshape(32, 32), plane[10:42, 42:74])


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    world = World(SynthOptions(size=1024, mpp=0.5, seed=5, **CLEAN), 2)  # type: ignore[arg-type]
    return SlideRenderer(world, "he").region(100, 100, 768, 768).rgb


def measured(path: Path, rgb: np.ndarray, stain: Stain = Stain.he) -> np.ndarray:
    """Features of the four tiles in the middle."""
    write_image(path, rgb)
    encoder = make_encoder("morphometry", stain)
    with open_slide(path, 0.5) as slide:
        encode = encoder.of_slide(slide, tissue_mask(slide))
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]]) + 128
    return encode(Field(rgb, corners, SIDE, 0.5))


def test_a_laboratory_of_other_strength_and_light_changes_little(tmp_path: Path, picture: np.ndarray) -> None:
    """Beer-Lambert: 1.3 times the stain, on glass that is darker and yellower."""
    density = -np.log10(np.maximum(picture, 1) / np.array([244.0, 244.0, 240.0]))
    other = np.array([225.0, 222.0, 210.0]) * 10 ** (-1.3 * np.maximum(density, 0))
    one = measured(tmp_path / "one.png", picture)
    two = measured(tmp_path / "two.png", np.clip(other.round(), 0, 255).astype(np.uint8))
    names = make_encoder("morphometry").names
    assert names is not None
    index = {name: number for number, name in enumerate(names)}
    for name in ("area_plump", "elongation_mean", "haematoxylin_mean", "spacing_mean_mean", "eosin_mean"):
        column = index[f"nuclei_{name}"]
        assert np.allclose(one[:, column], two[:, column], rtol=0.12), name
    for name in ("amount_haematoxylin_mean", "amount_eosin_mean", "nuclei_per_mm2"):
        assert np.allclose(one[:, index[name]], two[:, index[name]], rtol=0.12), name
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.99


def test_a_tile_is_the_same_whatever_lies_beside_it(picture: np.ndarray) -> None:
    space = StainSpace(np.full(3, 244, np.uint8), np.array([[1.6, -0.4], [-0.5, 3.0], [0.2, -0.3]], np.float32))
    encoder = Morphometry()
    corner = np.array([[256, 256]])
    whole = encoder._measure(space, Field(picture, corner, SIDE, 0.5))
    cut = picture[256 - MARGIN : 512 + MARGIN, 256 - MARGIN : 512 + MARGIN].copy()
    alone = encoder._measure(space, Field(cut, np.array([[MARGIN, MARGIN]]), SIDE, 0.5))
    different = [
        name
        for name in whole
        if not np.allclose(whole[name], alone[name], rtol=0.05, atol=0.02 + 0.02 * abs(whole[name]))
    ]
    assert len(different) <= 5, different


@pytest.mark.parametrize("stain", list(Stain))
def test_every_picture_has_finite_features(stain: Stain) -> None:
    encoder = Morphometry(stain)
    assert encoder.names is not None
    assert 100 <= len(encoder.names) == len(set(encoder.names)) <= 300
    assert any("dab" in name for name in encoder.names) == (stain is Stain.ihc)
    space = StainSpace(np.full(3, 244, np.uint8), np.array([[1.6, -0.4], [-0.5, 3.0], [0.2, -0.3]], np.float32))
    one = np.full((192, 192, 3), 230, np.uint8)
    cv2.circle(one, (96, 96), 9, (110, 70, 150), -1)
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    for rgb in (np.zeros((192, 192, 3), np.uint8), np.full((192, 192, 3), 255, np.uint8), one, noise):
        for side in (64, 60, 32):
            found = encoder._measure(space, Field(rgb, np.array([[64, 64], [64 + side, 64]]), side, 0.5))
            assert tuple(found) == encoder.names
            assert all(np.isfinite(values).all() and values.shape == (2,) for values in found.values())


def test_stain_vectors_of_a_slide_are_found(tmp_path: Path) -> None:
    """Stains mixed by Beer-Lambert from known directions."""
    rng = np.random.default_rng(0)
    directions = np.array([[0.60, 0.68, 0.42], [0.17, 0.83, 0.53]])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    blobs = cv2.GaussianBlur(rng.normal(size=(900, 900)), (0, 0), 4) * 20
    amounts = np.stack([np.clip(blobs, 0, 1.2), np.clip(0.5 - 0.4 * blobs, 0.02, 0.9)], axis=2)
    rgb = np.full((1000, 1000, 3), 243.0)
    rgb[50:950, 50:950] = 243 * 10 ** -(amounts @ directions)
    write_image(tmp_path / "a.png", rgb.round().astype(np.uint8))
    with open_slide(tmp_path / "a.png", 0.5) as slide:
        space = stain_space(slide, tissue_mask(slide), Stain.he)
    found = np.linalg.pinv(space.matrix)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.degrees(np.arccos((found * directions).sum(axis=1))).max() < 4
    own = space.amounts(rgb.round().astype(np.uint8))[100:900, 100:900]
    true = amounts[50:850, 50:850]
    for stain in (0, 1):
        assert np.corrcoef(own[..., stain].ravel(), true[..., stain].ravel())[0, 1] > 0.97


def test_the_documentation_knows_the_columns() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "her2-features.md").read_text(encoding="utf-8")
    names = Morphometry().names
    assert names is not None
    assert f"| {len(names)}, named |" in text
    for measure in MEASURES:
        assert measure.replace("counterstain", "eosin") in text, measure
    for name in names:
        if name.startswith("architecture_"):
            assert name.removeprefix("architecture_").split("_over_")[0].rsplit("_", 1)[0] in text, name
