"""What every registered metric must keep to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from restain.core.errors import ItemError, RestainError
from restain.metrics import METRICS, Direction, ImagePair, MetricInfo, WeightFiles, WeightsMissingError, load_metric

NAMES = [entry.name for entry in METRICS]


@pytest.mark.parametrize("name", NAMES)
def test_values_are_in_range_and_never_nan(name: str) -> None:
    info = METRICS[name].info
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    black, white = np.zeros_like(noise[0]), np.full_like(noise[0], 255)
    metric = load_metric(name)
    for real in (noise[0], black, white):
        for fake in (noise[1], black, white):
            value = metric(ImagePair(real, fake))
            assert isinstance(value, float)
            assert info.range[0] - 1e-9 <= value <= info.range[1] + 1e-9, (name, value)
            assert math.isfinite(value) or info.infinite_means


@pytest.mark.parametrize("name", NAMES)
def test_identical_images_get_the_best_value(name: str) -> None:
    info = METRICS[name].info
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    value = load_metric(name)(ImagePair(image, image.copy()))
    if info.direction is Direction.HIGHER:
        assert value == pytest.approx(info.range[1])
    elif info.direction is Direction.LOWER:
        assert value == info.range[0]


def test_unknown_metric_suggests_names() -> None:
    with pytest.raises(RestainError, match="psnr"):
        load_metric("pnsr")


def test_missing_weights_are_named_and_present_ones_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Learned:
        def __init__(self, files: WeightFiles) -> None:
            self.value = float(files["net.safetensors"].read_text())

        def __call__(self, pair: ImagePair) -> float:
            return self.value

    info = MetricInfo("Learned", "", Direction.LOWER, (0, 1), 1, "A test.", weights=("net.safetensors",))
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.add("learned", info)(Learned)
    with pytest.raises(WeightsMissingError, match=r"net\.safetensors"):
        load_metric("learned")
    with pytest.raises(WeightsMissingError, match=r"net\.safetensors.*not in"):
        load_metric("learned", tmp_path)
    (tmp_path / "net.safetensors").write_text("0.25")
    image = np.zeros((8, 8, 3), np.uint8)
    assert load_metric("learned", tmp_path)(ImagePair(image, image)) == 0.25


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.zeros((8, 9, 3), np.uint8), np.zeros((9, 8, 3), np.uint8), "real 9x8 px, fake 8x9 px"),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), r"real image is uint8 \(8, 8\)"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32), "fake image is float32"),
        (np.zeros((0, 8, 3), np.uint8), np.zeros((0, 8, 3), np.uint8), "real image is"),
    ],
)
def test_pairs_that_cannot_be_compared(real: np.ndarray, fake: np.ndarray, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        ImagePair(real, fake)
