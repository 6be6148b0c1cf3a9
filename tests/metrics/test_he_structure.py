"""The H&E's structure in the generated image: on drawn nuclei, and on BCI."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.core.errors import ItemError
from restain.metrics import ImagePair
from restain.metrics.he_structure import he_structure
from restain.slides import read_image

SIDE = 300
HAEMATOXYLIN, EOSIN, DAB = np.array([[0.65, 0.704, 0.286], [0.072, 0.99, 0.105], [0.268, 0.57, 0.776]])
"""Absorption of R, G and B (Ruifrok 2001)."""


def nuclei(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Amount of stain in nuclei and in the membranes around them, [SIDE, SIDE, 1]."""
    random = np.random.default_rng(seed)
    discs, rings = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for x, y, radius in random.integers((0, 0, 5), (SIDE, SIDE, 9), (90, 3)).tolist():
        cv2.circle(discs, (x, y), radius, random.uniform(0.4, 1), -1, cv2.LINE_AA)
        cv2.circle(rings, (x, y), radius + 4, 1, 2, cv2.LINE_AA)
    return discs[..., None], rings[..., None]


def stained(*amounts: np.ndarray) -> np.ndarray:
    return np.rint(255 * np.exp(-sum(amounts))).astype(np.uint8)


DISCS, RINGS = nuclei(0)
HE = stained(1.2 * DISCS * HAEMATOXYLIN, 0.4 * (1 - DISCS) * EOSIN)


def structure(fake: np.ndarray, he: np.ndarray = HE) -> float:
    return he_structure(ImagePair(np.zeros_like(fake), fake, he=he))


def test_nuclei_count_and_the_stain_does_not() -> None:
    unstained = stained(0.7 * DISCS * HAEMATOXYLIN)
    strong = stained(0.7 * DISCS * HAEMATOXYLIN, 1.5 * RINGS * DAB)
    assert structure(HE) == pytest.approx(1, abs=1e-12)
    assert structure(unstained) > 0.95
    assert structure(strong) > 0.85
    others = nuclei(1)[0]
    assert abs(structure(stained(0.7 * others * HAEMATOXYLIN))) < 0.15
    assert structure(stained(0.7 * (DISCS + others) * HAEMATOXYLIN)) < 0.85


def test_moved_nuclei_are_not_kept() -> None:
    values = [structure(np.roll(HE, shift, 0)) for shift in (0, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2


def test_flat_images() -> None:
    white, black = np.full_like(HE, 255), np.zeros_like(HE)
    assert structure(white) == structure(black) == structure(HE, white) == 0
    assert structure(white, white) == structure(black, white) == 1


def test_no_he_is_an_error() -> None:
    with pytest.raises(ItemError, match="H&E"):
        he_structure(ImagePair(HE, HE))


def test_a_published_model_keeps_what_the_neighbouring_section_has_not(shared: Path) -> None:
    folder = shared / "data" / "bci-pairs"
    for name in ("00820_test_2+.png", "00345_test_0.png"):
        he, real = read_image(folder / "HE" / "test" / name), read_image(folder / "IHC" / "test" / name)
        generated = read_image(folder / "generated" / name)
        assert he_structure(ImagePair(real, generated, he=he)) > 0.7
        assert abs(he_structure(ImagePair(real, real, he=he))) < 0.1
