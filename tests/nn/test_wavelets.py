"""The wavelet transform against PyWavelets, and the ResNet-18 against what is known of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
from torch import nn

from restain.core.errors import ItemError, RestainError
from restain.nn.layout import channels_last
from restain.nn.resnet import BasicBlock, ResNet18Stages
from restain.nn.wavelets import dwt, grey, known_wavelet


@pytest.mark.parametrize("shape", [(32, 48), (33, 41), (64, 7)])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2", "coif1"])
def test_bands_are_those_of_pywavelets(wavelet: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((2, *shape))
    for mode in pywt.Modes.modes:
        low, expected = image, []
        for level in (1, 2):
            low, (rows, columns, diagonal) = pywt.dwt2(low, wavelet, mode=mode)
            expected = np.stack([low, rows, columns, diagonal], 1)
            bands = dwt(torch.from_numpy(image)[:, None], wavelet, level, mode)
            assert bands.shape == expected.shape
            assert np.abs(bands.numpy() - expected).max() < 1e-12


def test_haar_of_one_block_by_hand() -> None:
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    bands = dwt(torch.tensor([[[[a, b], [c, d]]]]))
    low, rows, columns, diagonal = (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2
    assert bands.flatten().tolist() == pytest.approx([low, rows, columns, diagonal])


def test_grey_is_weighted() -> None:
    rgb = torch.rand(2, 3, 4, 5)
    assert torch.allclose(grey(rgb)[:, 0], 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2])
    assert torch.equal(grey(rgb, (0, 1, 0))[:, 0], rgb[:, 1])


def test_an_unknown_wavelet_is_named_with_the_known_ones() -> None:
    with pytest.raises(RestainError, match="haar"):
        known_wavelet("harr")


def imagenet_keys() -> dict[str, tuple[int, ...]]:
    """Names and shapes in torchvision's file of ResNet-18, from the table of the paper."""
    norm = ("weight", "bias", "running_mean", "running_var")
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512), "fc.bias": (1000,)}
    shapes |= {f"bn1.{leaf}": (64,) for leaf in norm} | {"bn1.num_batches_tracked": ()}
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (width, before, 3, 3)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3)
            norms = [f"{name}.bn1", f"{name}.bn2"]
            if before != width:
                shapes[f"{name}.downsample.0.weight"] = (width, before, 1, 1)
                norms.append(f"{name}.downsample.1")
            shapes |= {f"{norm_name}.{leaf}": (width,) for norm_name in norms for leaf in norm}
            shapes |= {f"{norm_name}.num_batches_tracked": () for norm_name in norms}
            before = width
    return shapes


def test_torchvisions_weights_load(tmp_path: Path) -> None:
    known = imagenet_keys()
    learned = [key for key in known if "running" not in key and "tracked" not in key]
    assert sum(int(np.prod(known[key])) for key in learned) == 11_689_512, "the parameters of a ResNet-18"
    weights = {key: torch.rand(shape) if shape else torch.tensor(3) for key, shape in known.items()}
    torch.save(weights, tmp_path / "resnet18.pth")
    stages = ResNet18Stages(strides=(1, 2, 1, 1))
    stages.load_imagenet(tmp_path / "resnet18.pth")
    state = stages.state_dict()
    assert state.keys() == {key for key in known if key.startswith("layer")}
    assert all(torch.equal(value, weights[key]) for key, value in state.items())
    torch.save({"a": torch.rand(2)}, tmp_path / "other.pth")
    with pytest.raises(ItemError, match="ResNet-18"):
        stages.load_imagenet(tmp_path / "other.pth")
    with pytest.raises(ItemError, match="no such file"):
        stages.load_imagenet(tmp_path / "gone.pth")


def test_strides_of_the_stages() -> None:
    features = torch.rand(1, 4, 32, 32)
    assert ResNet18Stages(4)(features).shape == (1, 32, 4, 4)
    assert ResNet18Stages(4, (1, 1, 2, 1))(features).shape == (1, 32, 16, 16)


def test_a_block_with_a_stride_is_that_of_the_paper() -> None:
    """Against a 1x1 convolution that has the stride itself."""
    torch.manual_seed(0)
    block = channels_last(BasicBlock(4, 8, 2)).eval()
    strided = nn.Conv2d(4, 8, 1, 2, bias=False)
    assert isinstance(block.downsample, nn.Sequential)
    strided.load_state_dict(block.downsample[0].state_dict())
    for side in (8, 9):
        x = torch.rand(2, 4, side, side)
        inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
        expected = torch.relu(inner + block.downsample[1](strided(x)))
        assert torch.allclose(block(x), expected, atol=1e-6)
