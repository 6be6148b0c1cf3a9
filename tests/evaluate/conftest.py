"""Small folders of images to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from restain.slides import write_image

NAMES = ("00000_test_0", "00001_test_1+", "00002_test_1+", "00003_test_3+")
SIDE = 24

Image = NDArray[np.uint8]
MakeFolder = Callable[..., Path]


@pytest.fixture
def image() -> Callable[..., Image]:
    """Makes a noisy image: ``image(seed, brown=0.5)``; the more brown, the more DAB."""

    def make(seed: int, brown: float = 0.5, side: int = SIDE) -> Image:
        noise = np.random.default_rng(seed).normal(0, 12, (side, side, 3))
        colour = np.array([235, 230, 225]) * (1 - brown) + np.array([120, 70, 30]) * brown
        return np.clip(colour + noise, 1, 254).astype(np.uint8)

    return make


@pytest.fixture
def folder(tmp_path: Path, image: Callable[..., Image]) -> MakeFolder:
    """Makes a folder of images: ``folder("real", brown=0.5, seed=0, pattern="{}.png")``."""

    def make(
        name: str, brown: float = 0.5, seed: int = 0, pattern: str = "{}.png", names: Sequence[str] = NAMES
    ) -> Path:
        for number, stem in enumerate(names):
            write_image(tmp_path / name / pattern.format(stem), image(1000 * seed + number, brown))
        return tmp_path / name

    return make
