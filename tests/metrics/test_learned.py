"""Metrics of networks: against their formulas on networks with made weights, and what they do with wrong files."""

from __future__ import annotations

import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from restain.core.errors import ItemError
from restain.metrics import METRICS, ImagePair, Scope, WeightsMissingError, load_metric, load_set_metric
from restain.metrics.dists import CHANNELS, dists_score, learned_weights, resized
from restain.metrics.lpips import LPIPS_FILE, linear_layers, lpips_score
from restain.metrics.phv import phv_of_layers
from restain.nn.backbones import ALEXNET_FILE, VGG16_FILE, VggFeatures, alexnet_features, imagenet_normalised
from restain.nn.inception import INCEPTION_FID_FILE, inception_features
from restain.nn.resnet import RESNET50_FILE, ResNet50

LEARNED = [entry.name for entry in METRICS if entry.info.weights]


def image(seed: int, height: int = 64, width: int = 70) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def load(name: str, weights: Path | None) -> object:
    return (load_metric if METRICS[name].info.scope is Scope.PAIR else load_set_metric)(name, weights)


def skip_without_encoders(name: str) -> None:
    if name == "fid_pathology" and not find_spec("transformers"):
        pytest.skip("the extra `encoders` (transformers) is not installed")


@pytest.mark.parametrize("name", LEARNED)
def test_absent_files_are_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    for folder in (None, tmp_path):
        with pytest.raises(WeightsMissingError) as caught:
            load(name, folder)
        assert all(file in str(caught.value) for file in METRICS[name].info.weights)
        assert f"{name} is not computed" in str(caught.value)


@pytest.mark.parametrize("name", LEARNED)
def test_files_in_torchs_cache_are_found(
    name: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_encoders(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "checkpoints").symlink_to(weights)
    assert load(name, None) is not None


@pytest.mark.parametrize("name", [name for name in LEARNED if name != "fid_pathology"])
def test_wrong_files_are_named_with_key_and_shapes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file in turn holds the right names with other shapes, other names, or code; the rest are never reached."""
    monkeypatch.chdir(tmp_path)
    first = METRICS[name].info.weights[0]
    key = {VGG16_FILE: "features.0.weight", ALEXNET_FILE: "features.0.weight", RESNET50_FILE: "conv1.weight"}.get(
        first, "Conv2d_1a_3x3.conv.weight"
    )
    for file in METRICS[name].info.weights:
        torch.save({"other": torch.zeros(1)}, tmp_path / file)
    with pytest.raises(ItemError, match=rf"{first}.*{key}"):
        load(name, tmp_path)
    torch.save({key: torch.zeros(2, 3, 1, 1)}, tmp_path / first)
    with pytest.raises(ItemError, match=rf"{first}.*{key} is \[2, 3, 1, 1\], not \["):
        load(name, tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (Path("executed"),))

    (tmp_path / first).write_bytes(pickle.dumps({key: Evil()}))
    with pytest.raises(ItemError, match=first):
        load(name, tmp_path)
    assert not (tmp_path / "executed").exists()


def test_wrong_learned_layers_are_named(weights: Path, tmp_path: Path) -> None:
    torch.save({"alpha": torch.ones(1475), "beta": torch.ones(3)}, tmp_path / "weights.pt")
    with pytest.raises(ItemError, match=r"weights\.pt.*beta is \[3\], not \[1, 1475, 1, 1\]"):
        learned_weights(tmp_path / "weights.pt")
    torch.save({"alpha": torch.ones(1475)}, tmp_path / "weights.pt")
    with pytest.raises(ItemError, match="beta is absent"):
        learned_weights(tmp_path / "weights.pt")
    torch.save({"lin0.model.1.weight": torch.ones(1, 128, 1, 1)}, tmp_path / "vgg.pth")
    with pytest.raises(ItemError, match=r"vgg\.pth.*lin0\.model\.1\.weight is \[1, 128, 1, 1\], not \[1, 64, 1, 1\]"):
        linear_layers(tmp_path / "vgg.pth")


@pytest.mark.parametrize("name", ["dists_full", "lpips", "phv"])
def test_identical_is_nothing_and_further_is_more(name: str, weights: Path) -> None:
    metric = load_metric(name, weights)
    real = image(0)
    noise = np.random.default_rng(1).normal(0, 1, real.shape)
    values = [metric(ImagePair(real, np.clip(real + s * noise, 0, 255).astype(np.uint8))) for s in (0, 5, 20, 80)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[1] > 0
    flat = [np.full_like(real, value) for value in (0, 255)]
    assert np.isfinite(metric(ImagePair(*flat)))
    assert metric(ImagePair(flat[0], flat[0])) == 0


def thin_vgg() -> VggFeatures:
    torch.manual_seed(0)
    return VggFeatures((4, 0, 5), (1, 4), l2_pooling=True).eval()


def test_dists_is_its_formula() -> None:
    vgg, x, y = thin_vgg(), *batch(image(0), image(1))[:, None]
    random = np.random.default_rng(0)
    alpha, beta = random.random((2, 12))
    with torch.no_grad():
        found = dists_score(vgg, x, y, torch.from_numpy(alpha), torch.from_numpy(beta))
        stages = [(x, y), *zip(vgg(imagenet_normalised(x)), vgg(imagenet_normalised(y)), strict=True)]
    assert [a.shape[1] for a, _ in stages] == [3, 4, 5]
    similarity, channel = 0.0, 0
    for first, second in stages:
        for p, q in zip(first[0].numpy().astype(float), second[0].numpy().astype(float), strict=True):
            covariance = np.cov(p.ravel(), q.ravel(), bias=True)
            texture = (2 * p.mean() * q.mean() + 1e-6) / (p.mean() ** 2 + q.mean() ** 2 + 1e-6)
            structure = (2 * covariance[0, 1] + 1e-6) / (covariance[0, 0] + covariance[1, 1] + 1e-6)
            similarity += alpha[channel] * texture + beta[channel] * structure
            channel += 1
    assert found == pytest.approx(1 - similarity / (alpha.sum() + beta.sum()), abs=1e-6)


def test_dists_of_what_is_the_other_way_round_is_near_2() -> None:
    """Structure alone, and of the image alone: s is -1 for a negative, which the range of the metric must allow."""
    x = batch(image(0))[:, None][0]
    beta = torch.tensor([1.0] * 3 + [0.0] * 9)
    with torch.no_grad():
        found = dists_score(thin_vgg(), x, 1 - x, torch.zeros(12), beta)
    assert found == pytest.approx(2, abs=1e-3)
    assert all(found <= METRICS[name].info.range[1] for name in ("dists", "dists_full"))


def test_dists_takes_the_short_side_to_256(weights: Path) -> None:
    picture = image(0, 300, 450)
    assert np.array_equal(resized(picture, 256), np.asarray(Image.fromarray(picture).resize((384, 256), 2)))
    assert resized(image(0, 90, 60), 256).shape == (384, 256, 3)
    small = [resized(image(seed, 300, 300), 256) for seed in (0, 1)]
    pair = ImagePair(image(0, 300, 300), image(1, 300, 300))
    full = load_metric("dists_full", weights)
    assert load_metric("dists", weights)(pair) == pytest.approx(full(ImagePair(*small)), rel=1e-6)
    assert sum(CHANNELS) == 1475


def test_lpips_is_its_formula(weights: Path) -> None:
    pair = ImagePair(image(0), image(1))
    network = alexnet_features(weights / ALEXNET_FILE)
    layers = list(torch.load(weights / LPIPS_FILE, weights_only=True).values())
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    scaled = [((picture / 127.5 - 1 - shift) / scale).transpose(2, 0, 1) for picture in (pair.real, pair.fake)]
    with torch.no_grad():
        stages = network(torch.from_numpy(np.stack(scaled)).float())
    expected = 0.0
    for stage, layer in zip(stages, layers, strict=True):
        x, y = (s / np.sqrt((s**2).sum(0) + 1e-20) for s in stage.double().numpy())
        expected += np.einsum("chw,c->hw", (x - y) ** 2, layer.double().numpy().ravel()).mean()
    assert load_metric("lpips", weights)(pair) == pytest.approx(expected, rel=1e-4)
    assert lpips_score(network, linear_layers(weights / LPIPS_FILE).weights(), batch(pair.real, pair.real)) == 0


def test_lpips_says_the_least_size(weights: Path) -> None:
    metric = load_metric("lpips", weights)
    for side in (30, 31):
        pair = ImagePair(image(0, side, 60), image(1, side, 60))
        if side == 31:
            assert metric(pair) > 0
            continue
        with pytest.raises(ItemError, match="at least 31x31 px, these have 60x30"):
            metric(pair)


def test_phv_counts_channels() -> None:
    torch.manual_seed(0)
    network = ResNet50(width=4).eval()
    images = batch(image(0), image(1))
    with torch.no_grad():
        found = phv_of_layers(network, images, 0.01)
        mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        stages = network.stages(((images + 1) / 2 - mean) / deviation)
    expected = [np.mean(np.abs(np.diff(s.numpy().mean((2, 3)), axis=0)) > 0.01) for s in stages]
    assert found == pytest.approx(expected)
    assert 0 < np.mean(found) <= 1


@pytest.mark.parametrize("name", ["fid", "kid", "fid_pathology"])
def test_sets_that_differ_more_are_further_apart(name: str, weights: Path) -> None:
    skip_without_encoders(name)
    metric = load_set_metric(name, weights)
    real = [image(seed, 40 + seed, 60) for seed in range(6)]
    features = metric.features(real)
    assert features.dtype == np.float32
    assert len(features) == 6
    dimmed = [metric.features([(picture * share).astype(np.uint8) for picture in real]) for share in (0.6, 0.3, 0.1)]
    values = [metric.distance(features, other) for other in [features, *dimmed]]
    assert values == sorted(values)
    assert values[0] < 1e-6
    assert values[-1] > 10 * abs(values[0])
    shuffled = metric.distance(features[::-1].copy(), dimmed[1][[3, 1, 0, 2, 5, 4]])
    assert shuffled == pytest.approx(values[2], rel=1e-6)


def test_fid_features_are_those_of_its_network(weights: Path) -> None:
    network = inception_features(weights / INCEPTION_FID_FILE, fid=True)
    picture = image(0, 90, 60)
    large = torch.nn.functional.interpolate(batch(picture), (299, 299), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = network(large * 2 - 1)
    found = load_set_metric("fid", weights).features([picture])
    assert np.allclose(found, expected.numpy(), atol=1e-4)


def test_a_pathology_encoder_without_the_package_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    (tmp_path / "plip").mkdir()
    for file in ("config.json", "model.safetensors"):
        (tmp_path / "plip" / file).touch()
    with pytest.raises(WeightsMissingError, match=r"fid_pathology is not computed.*restain\[encoders\]"):
        load_set_metric("fid_pathology", tmp_path)
    shutil.rmtree(tmp_path / "plip")
    (tmp_path / "plip").mkdir()
    with pytest.raises(ItemError, match=r"plip/config\.json: no such file"):
        load_set_metric("fid_pathology", tmp_path)
