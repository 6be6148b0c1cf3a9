"""What every registered metric must keep to."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from restain.core.errors import ItemError, RestainError
from restain.metrics import (
    METRICS,
    Direction,
    ImagePair,
    MetricInfo,
    Scope,
    WeightFiles,
    WeightsMissingError,
    load_metric,
    load_set_metric,
)
from restain.metrics.fid_pathology import ENCODER

PAIRS = [entry.name for entry in METRICS if entry.info.scope is Scope.PAIR]
SETS = [entry.name for entry in METRICS if entry.info.scope is Scope.SET]
SHAPE = (176, 192, 3)
"""Large enough for MS-SSIM's five scales."""
NOISE = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), dtype=np.uint8)
BLACK, WHITE = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)


def folder_of(name: str, weights: Path) -> Path:
    """The folder of made weights, where it holds what the metric needs."""
    for file in METRICS[name].info.weights:
        if not (weights / file).exists():
            assert file == ENCODER, f"tests/metrics/conftest.py must make {file}"
            pytest.skip("the extra `encoders` (transformers) is not installed")
    return weights


def check(name: str, value: float) -> None:
    info = METRICS[name].info
    assert isinstance(value, float)
    assert info.range[0] - 1e-9 <= value <= info.range[1] + 1e-9, (name, value)
    assert math.isfinite(value) or info.infinite_means


@pytest.mark.parametrize("name", PAIRS)
def test_values_are_in_range_and_never_nan(name: str, weights: Path) -> None:
    metric = load_metric(name, folder_of(name, weights))
    pairs = [(real, fake) for real in (NOISE[0], BLACK, WHITE) for fake in (NOISE[1], BLACK, WHITE)]
    hes = [NOISE[2], WHITE, BLACK] if METRICS[name].info.needs_he else [NOISE[2]]
    for real, fake in pairs[::3] if METRICS[name].info.weights else pairs:  # networks are slow
        for he in hes:
            check(name, metric(ImagePair(real, fake, mpp=0.5, he=he)))


@pytest.mark.parametrize("name", PAIRS)
def test_identical_images_get_the_best_value(name: str, weights: Path) -> None:
    info = METRICS[name].info
    metric = load_metric(name, folder_of(name, weights))
    for image in (NOISE[0], BLACK, WHITE):
        value = metric(ImagePair(image, image.copy(), mpp=0.5, he=image.copy()))
        if info.direction is Direction.HIGHER:
            assert value == pytest.approx(info.range[1])
        elif info.direction is Direction.LOWER:
            assert value == pytest.approx(info.range[0], abs=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_sets_have_values_in_range_and_never_nan(name: str, weights: Path) -> None:
    metric = load_set_metric(name, folder_of(name, weights))
    features = metric.features([*NOISE, WHITE, WHITE[:50], WHITE[:, :60], BLACK])
    assert features.shape[0] == 7
    assert features.dtype == np.float32
    noise, plain = features[:3], features[3:6]
    check(name, metric.distance(noise, features[3:]))
    check(name, metric.distance(plain, plain))
    assert metric.distance(noise, noise) < metric.distance(noise, plain)
    with suppress(ItemError):  # a metric may refuse a single image, which is then not computed
        check(name, metric.distance(noise[:1], plain[:1]))


@pytest.mark.parametrize("name", PAIRS + SETS)
def test_what_a_report_prints_is_there(name: str) -> None:
    info = METRICS[name].info
    assert info.title
    assert info.definition.endswith((".", ")"))
    assert info.version >= 1
    assert info.range[0] < info.range[1]
    assert 0 <= info.decimals <= 6


def test_metrics_with_needs_are_told_what_is_missing() -> None:
    image = NOISE[0]
    for entry in METRICS:
        if (entry.info.needs_he or entry.info.needs_mpp) and not entry.info.weights:
            with pytest.raises(ItemError, match="H&E" if entry.info.needs_he else "um/px"):
                load_metric(entry.name)(ImagePair(image, image))


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


def test_the_page_on_metrics_has_each_metric_and_each_file() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for entry in METRICS:
        assert f"`{entry.name}`" in page
        assert all(f"`{file}" in page for file in entry.info.weights)
