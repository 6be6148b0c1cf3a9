"""Backbones against what is known of them: numbers of parameters, torchvision's names, shapes, torch's own layers."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from restain.core.errors import ItemError
from restain.nn.backbones import (
    VGG16,
    AlexNetFeatures,
    L2Pooling,
    VggFeatures,
    alexnet_features,
    imagenet_normalised,
    vgg16_features,
)
from restain.nn.inception import DIMENSIONS, BlockA, InceptionFeatures, inception_features, inception_input
from restain.nn.layout import channels_last
from restain.nn.resnet import Bottleneck, ResNet50


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameters_are_as_many_as_torchvisions() -> None:
    """Totals of torchvision's documentation, less the classifiers that are not built here."""
    assert count(ResNet50()) == 25_557_032
    assert count(AlexNetFeatures()) == 61_100_840 - 58_631_144
    assert count(VggFeatures(VGG16, (30,))) == 138_357_544 - 123_642_856
    auxiliary = 768 * 128 + 2 * 128 + 128 * 768 * 25 + 2 * 768 + 768 * 1000 + 1000
    assert count(InceptionFeatures(fid=False)) == 27_161_264 - auxiliary - (2048 * 1000 + 1000)


def test_resnet50_has_torchvisions_names_and_shapes() -> None:
    shapes = {key: tuple(value.shape) for key, value in ResNet50().state_dict().items()}
    assert len(shapes) == 320
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer3.5.bn3.running_var"] == (1024,)
    assert shapes["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert shapes["fc.weight"] == (1000, 2048)


def test_resnet50_stages_and_logits() -> None:
    network = ResNet50(classes=4, width=4).eval()
    images = torch.rand(2, 3, 65, 64)
    stages = network.stages(images)
    assert [tuple(stage.shape[1:]) for stage in stages] == [(16, 17, 16), (32, 9, 8), (64, 5, 4), (128, 3, 2)]
    assert torch.allclose(network(images), network.fc(F.adaptive_avg_pool2d(stages[-1], 1).flatten(1)), atol=1e-5)


def test_a_bottleneck_with_a_stride_is_that_of_torchvision() -> None:
    """Against a shortcut whose 1x1 convolution has the stride itself."""
    torch.manual_seed(0)
    block = channels_last(Bottleneck(4, 2, 2)).eval()
    strided = nn.Conv2d(4, 8, 1, 2, bias=False)
    assert isinstance(block.downsample, nn.Sequential)
    strided.load_state_dict(block.downsample[0].state_dict())
    for side in (8, 9):
        x = torch.rand(2, 4, side, side)
        inner = torch.relu(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x))))))
        expected = torch.relu(block.bn3(block.conv3(inner)) + block.downsample[1](strided(x)))
        assert torch.allclose(block(x), expected, atol=1e-6)


def test_resnet50_trains_in_channels_last() -> None:
    torch.manual_seed(0)
    network = channels_last(ResNet50(classes=3, width=2)).train()
    images = torch.rand(4, 3, 33, 32).contiguous(memory_format=torch.channels_last)
    F.cross_entropy(network(images), torch.tensor([0, 1, 2, 0])).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


def test_imagenet_weights_leave_another_classifier_alone(tmp_path: Path) -> None:
    torch.save(ResNet50().state_dict(), tmp_path / "resnet50.pth")
    network = ResNet50(classes=4)
    before = network.fc.weight.clone()
    network.load_imagenet(tmp_path / "resnet50.pth")
    saved = torch.load(tmp_path / "resnet50.pth", weights_only=True)
    assert torch.equal(network.fc.weight, before)
    assert torch.equal(network.layer4[2].conv3.weight, saved["layer4.2.conv3.weight"])
    torch.save(ResNet50(width=4).state_dict(), tmp_path / "thin.pth")
    with pytest.raises(ItemError, match=r"thin\.pth.*ResNet-50.*conv1\.weight is \[4, 3, 7, 7\], not \[64, 3, 7, 7\]"):
        network.load_imagenet(tmp_path / "thin.pth")


def test_files_of_another_network_are_named_with_key_and_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(AlexNetFeatures().state_dict(), tmp_path / "alexnet.pth")
    alexnet_features(tmp_path / "alexnet.pth")
    with pytest.raises(
        ItemError, match=r"alexnet\.pth.*VGG16.*features\.0\.weight is \[64, 3, 11, 11\], not \[64, 3, 3"
    ):
        vgg16_features(tmp_path / "alexnet.pth")
    with pytest.raises(
        ItemError, match=r"alexnet\.pth.*Inception-v3.*it has no Conv2d_1a_3x3\.conv\.weight \[32, 3, 3"
    ):
        inception_features(tmp_path / "alexnet.pth", fid=True)
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path("executed"),))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"features.0.weight": Evil()}))
    with pytest.raises(ItemError, match=r"evil\.pth"):
        alexnet_features(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_the_two_inceptions_are_told_apart_by_their_classes(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in InceptionFeatures(fid=True).state_dict().items()}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}  # as old files
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, tmp_path / "fid.pth")
    network = inception_features(tmp_path / "fid.pth", fid=True)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(ItemError, match=r"fid\.pth.*torchvision.*fc\.weight is \[1008, 2048\], not \[1000, 2048\]"):
        inception_features(tmp_path / "fid.pth", fid=False)


def test_the_two_inceptions_differ_in_their_poolings_alone() -> None:
    torch.manual_seed(0)
    ours, theirs = InceptionFeatures(fid=True), InceptionFeatures(fid=False)
    theirs.load_state_dict(ours.state_dict())
    for network in (ours, theirs):
        assert isinstance(network.Mixed_5b, BlockA)
    x = torch.rand(1, 192, 5, 5) + 1
    with_padding = F.avg_pool2d(x, 3, 1, 1)
    assert torch.allclose(theirs.Mixed_5b.pool(x), with_padding)
    counts = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
    assert torch.allclose(ours.Mixed_5b.pool(x), with_padding / counts)
    assert torch.allclose(ours.Mixed_7b.pool(x), with_padding / counts)
    assert torch.equal(ours.Mixed_7c.pool(x), F.max_pool2d(x, 3, 1, 1))
    assert torch.allclose(theirs.Mixed_7c.pool(x), with_padding)


def test_inception_features_are_means_of_the_right_block() -> None:
    network = InceptionFeatures(fid=True).eval()
    images = inception_input(torch.rand(1, 3, 40, 56))
    assert images.shape == (1, 3, 299, 299)
    assert images.min() >= -1
    assert images.max() <= 1
    with torch.no_grad():
        assert [network(images, dimensions).shape for dimensions in DIMENSIONS] == [(1, d) for d in DIMENSIONS]
        with pytest.raises(ValueError, match="65"):
            network(images, 65)


def test_l2_pooling_is_a_hann_window_over_squares() -> None:
    x = torch.rand(1, 2, 9, 8)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    for channel, found in zip(x[0], L2Pooling(2)(x)[0], strict=True):
        mean = ndimage.convolve(channel.numpy() ** 2, torch.outer(kernel, kernel).numpy(), mode="constant")
        assert torch.allclose(found, torch.from_numpy(mean[::2, ::2]).sqrt(), atol=1e-5)


def test_imagenet_normalisation() -> None:
    image = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 2, 2)
    assert torch.allclose(imagenet_normalised(image), torch.zeros(1, 3, 2, 2), atol=1e-6)
    steps = (imagenet_normalised(image + 0.1) - imagenet_normalised(image))[0, :, 0, 0]
    assert torch.allclose(1 / steps, torch.tensor([2.29, 2.24, 2.25]), rtol=1e-4)
