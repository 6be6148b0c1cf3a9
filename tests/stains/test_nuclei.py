"""The default detector on drawn discs, empty glass, synthetic truth and the real Ki67 tiles."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from skimage.measure import label, regionprops

from restain.slides import read_image
from restain.stains import ClassicalNuclei
from restain.synthetic import SynthOptions, generate_cohort

GLASS = (228, 226, 222)
BLUE = (105, 120, 170)
BROWN = (110, 65, 35)
DETECT = ClassicalNuclei()


def discs(centres: np.ndarray, mpp: float, colour: tuple[int, int, int], width: int, height: int) -> np.ndarray:
    """Nuclei of 3.5 um radius at centres in px, with soft edges."""
    y, x = np.mgrid[:height, :width] + 0.5
    nearest = np.min([np.hypot(x - cx, y - cy) for cx, cy in centres], axis=0) * mpp
    inside = np.clip((3.75 - nearest) / 0.5, 0, 1)[..., None]
    return np.rint(np.array(GLASS) * (1 - inside) + np.array(colour) * inside).astype(np.uint8)


def f1(found: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    distance = cdist(found, truth)
    pairs = linear_sum_assignment(np.where(distance <= tolerance, distance / tolerance, 1e4))
    return 2 * float((distance[pairs] <= tolerance).sum()) / (len(found) + len(truth))


@pytest.mark.parametrize("colour", [BLUE, BROWN], ids=["blue", "brown"])
@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.8])
def test_discs_are_found_where_they_are(mpp: float, colour: tuple[int, int, int]) -> None:
    x, y = np.meshgrid(np.arange(15.0, 130, 24), np.arange(12.0, 80, 20))
    truth = np.stack([x.ravel(), y.ravel()], axis=1) / mpp
    found = DETECT(discs(truth, mpp, colour, round(140 / mpp), round(85 / mpp)), mpp)
    assert found.dtype == np.float64
    assert len(found) == len(truth)
    assert cdist(found, truth).min(axis=1).max() * mpp < 0.75


def test_touching_nuclei_are_two() -> None:
    truth = np.array([[60.0, 50.0], [73.0, 50.0]])  # 6.5 um apart, radius 3.5 um
    found = DETECT(discs(truth, 0.5, BLUE, 130, 100), 0.5)
    assert len(found) == 2
    assert cdist(found, truth).min(axis=1).max() < 3


def test_nuclei_in_brown_membranes_are_one_each() -> None:
    y, x = np.mgrid[:180, :180] % 36 - 17.5
    radius = np.hypot(x, y)
    rgb = np.full((180, 180, 3), GLASS, np.uint8)
    rgb[radius < 7] = BLUE
    rgb[(radius > 12) & (radius < 16)] = BROWN
    found = DETECT(cv2.GaussianBlur(rgb, (0, 0), 1), 0.5)
    assert len(found) == 25
    assert np.abs(found % 36 - 18).max() < 2


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("value", [250, 180])
def test_empty_glass_has_none(value: int, noise: float) -> None:
    rgb = value + np.random.default_rng(0).normal(0, noise, (200, 300, 3))
    assert DETECT(np.clip(rgb, 0, 255).astype(np.uint8), 0.5).shape == (0, 2)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 5)])
def test_any_size(size: tuple[int, int]) -> None:
    found = DETECT(np.random.default_rng(1).integers(0, 255, (*size, 3)).astype(np.uint8), 0.25)
    assert (found >= 0).all()
    assert (found < [size[1], size[0]]).all()


def test_cells_of_a_mask() -> None:
    truth = np.array([[30.0, 40.0], [80.0, 55.0]])
    mask = (discs(truth, 0.5, (0, 0, 0), 120, 90)[..., 0] < 100).astype(np.uint8) * 255
    found = DETECT.in_mask(mask, 0.5)
    assert len(found) == 2
    assert cdist(found, truth).min(axis=1).max() < 1.5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nuclei")
    generate_cohort(folder, 2, SynthOptions(size=640, seed=11, levels=(1, 0, 0, 1)))
    return folder


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_synthetic_truth(cohort: Path, stain: str) -> None:
    """Nuclei of 12 um^2 and more in the section; benchmarks/nuclei.py has all of them and many patients."""
    with (cohort / "cohort.csv").open() as file:
        patients = list(csv.DictReader(file))
    reached = []
    for patient in patients:
        with (cohort / "truth" / patient["patient"] / "cells.csv").open() as file:
            cells = [cell for cell in csv.DictReader(file) if cell[f"x_{stain}"]]
        seen = [cell for cell in cells if float(cell[f"area_{stain}_um2"]) >= 12]
        truth = np.array([[float(cell[f"x_{stain}"]), float(cell[f"y_{stain}"])] for cell in seen])
        reached.append(f1(DETECT(read_image(cohort / patient[stain]), 0.5), truth, 8))
    assert np.mean(reached) > 0.72, reached


def test_real_ki67(shared: Path) -> None:
    """Brown and blue nuclei of both tiles together."""
    folder = shared / "data/nuclei/ihc-ki67"
    matched = np.zeros(2)
    for name in ("22_2", "34_3"):
        colours = read_image(folder / f"{name}_truth.png").astype(int)
        inside = ((colours[..., 0] > 100) | (colours[..., 2] > 100)) & (colours[..., 1] < 100)
        regions = [region for region in regionprops(label(inside, connectivity=1)) if region.area >= 15]
        truth = np.array([region.centroid[::-1] for region in regions]) + 0.5
        found = DETECT(read_image(folder / f"{name}.png"), 0.25)
        matched += np.array([f1(found, truth, 8), 1]) * (len(found) + len(truth))
    assert matched[0] / matched[1] >= 0.65
