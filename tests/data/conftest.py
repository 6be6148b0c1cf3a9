"""Small datasets for the tests of ``restain.data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _picture(seed: int, width: int = 24, height: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _save(path: Path, image: np.ndarray, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, kind)
    return path


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """``picture(seed, width, height)``: noise, uint8 RGB."""
    return _picture


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """``save(path, image, kind)``: the image on disk, its folder made."""
    return _save


@pytest.fixture
def bci(tmp_path: Path) -> Callable[..., Path]:
    """``bci({split: [names]}, size)``: a dataset in BCI's layout."""

    def make(splits: dict[str, list[str]] | None = None, size: int = 24) -> Path:
        root = tmp_path / "bci"
        wanted = splits or {
            "train": ["00000_train_0", "00001_train_2+", "00002_train_3+"],
            "test": ["00000_test_1+", "00001_test_0"],
        }
        seed = 0
        for split, names in wanted.items():
            for name in names:
                for folder in ("HE", "IHC"):
                    seed += 1
                    _save(root / folder / split / f"{name}.png", _picture(seed, size, size))
        return root

    return make
