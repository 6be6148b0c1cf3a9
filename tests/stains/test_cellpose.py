"""Cellpose behind our interface, with a stand-in of the same API as cellpose 3.1."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from restain.core.errors import RestainError
from restain.stains import Detector, haematoxylin_mask, make_detector

BLUE = (70, 80, 150)


class CellposeModel:
    """Labels connected components; keeps what it was given."""

    calls: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, gpu: bool = False, pretrained_model: str | bool = False, **rest: object) -> None:
        assert not rest
        self.path = pretrained_model

    def eval(self, x: np.ndarray, **options: Any) -> tuple[np.ndarray, list[object], np.ndarray]:
        self.calls.append({"x": x, "path": self.path, **options})
        return ndimage.label(x)[0].astype(np.uint16), [], np.zeros(256)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = ModuleType("cellpose")
    package.models = SimpleNamespace(CellposeModel=CellposeModel)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cellpose", package)
    CellposeModel.calls.clear()
    path = tmp_path / "cyto3"
    path.write_bytes(b"weights")
    return path


def test_centroids_are_those_of_its_labels(model: Path) -> None:
    rgb = np.full((100, 120, 3), 240, np.uint8)
    rgb[20:31, 40:51] = BLUE
    rgb[60:81, 90:101] = BLUE
    detector = make_detector(Detector.cellpose, model)
    found = detector(rgb, 0.5)
    np.testing.assert_allclose(sorted(found.tolist()), [[45.5, 25.5], [95.5, 70.5]])
    call = CellposeModel.calls[0]
    np.testing.assert_array_equal(call["x"], haematoxylin_mask(rgb))
    assert (call["path"], call["channels"], call["diameter"]) == (str(model), [0, 0], 16.0)


def test_nothing_found_is_an_empty_table(model: Path) -> None:
    found = make_detector(Detector.cellpose, model)(np.full((50, 60, 3), 255, np.uint8), 0.5)
    assert found.shape == (0, 2)


def test_model_is_needed() -> None:
    with pytest.raises(RestainError, match="model file"):
        make_detector(Detector.cellpose)


def test_missing_model_is_named(model: Path) -> None:
    with pytest.raises(RestainError, match="nowhere"):
        make_detector(Detector.cellpose, model.with_name("nowhere"))


def test_missing_package_says_how_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellpose", None)
    with pytest.raises(RestainError, match=r"pip install \"restain\[cellpose\]\""):
        make_detector(Detector.cellpose, model)
