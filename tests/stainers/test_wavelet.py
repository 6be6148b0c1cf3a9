"""Wavelet pix2pix: its losses by hand, its sizes, the weights that its encoder begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pywt
import torch
import torch.nn.functional as F

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.infer.network import load_stainer
from restain.nn.resnet import RESNET18_FILE, ResNet18Stages
from restain.stainers.base import build
from restain.stainers.wavelet_pix2pix import Config, WaveletGenerator, WaveletPix2Pix

from ..pairs import write_pairs
from .test_steps import Noted, batch

THIN = Config(generator_width=4, discriminator_width=4)


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_losses_are_equations_19_and_20(factor: float) -> None:
    torch.manual_seed(0)
    stainer = WaveletPix2Pix(replace(THIN, fake_factor=factor)).eval()
    step, pairs = Noted(), batch(32)
    losses = stainer.training_step(pairs, step)
    assert list(step.minimised) == ["D", "G"]
    fake = stainer.G(pairs.he)
    of_real = torch.sigmoid(stainer.D(torch.cat([pairs.he, pairs.ihc], 1)))
    of_fake = torch.sigmoid(stainer.D(torch.cat([pairs.he, fake], 1)))
    discriminator = -of_real.log().mean() - factor * (1 - of_fake).log().mean()
    generator = -of_fake.log().mean() + 100 * F.l1_loss(fake, pairs.ihc)
    assert step.minimised["D"] == pytest.approx(discriminator.item(), rel=1e-5)
    assert step.minimised["G"] == pytest.approx(generator.item(), rel=1e-5)
    assert losses["L1"].item() == pytest.approx(100 * (fake - pairs.ihc).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"level": 2}, {"strided_stage": 4}, {"wavelet": "db4"}, {"more_residual": 3}])
def test_images_keep_their_size(changes: dict[str, object]) -> None:
    network = WaveletGenerator(replace(THIN, **changes)).eval()  # type: ignore[arg-type]
    for height, width in ((network.least, network.least), (32, 44)):
        out = network(torch.rand(1, 3, height, width) * 2 - 1)
        assert out.shape == (1, 3, height, width)
        assert out.abs().max() <= 1


def test_the_encoder_sees_the_bands_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of longer wavelets the bands are cropped to lie where the image lies."""
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64) * 2 - 1
    for wavelet in ("haar", "db3"):
        network = WaveletGenerator(replace(THIN, wavelet=wavelet)).double()
        seen = []
        network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))  # noqa: B023
        network(image)
        grey = (image[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
        low = pywt.dwt2(grey.numpy(), wavelet)[0]
        more = (low.shape[0] - 32) // 2
        assert seen[0].shape == (1, 4, 32, 32)
        expected = torch.from_numpy(low[more : more + 32, more : more + 32])
        assert torch.allclose(seen[0][0, 0], expected, atol=1e-6)


def test_nine_blocks_and_five_convolutions_as_published() -> None:
    stainer = WaveletPix2Pix(Config())
    keys = list(stainer.G.state_dict())
    blocks = [key for key in keys if key.endswith("conv1.weight")]
    assert len(blocks) == 9
    assert stainer.G.stem[1].weight.shape == (64, 4, 7, 7)
    assert sum(isinstance(layer, torch.nn.ConvTranspose2d) for layer in stainer.G.modules()) == 2
    convolutions = [layer for layer in stainer.D.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.kernel_size, c.stride) for c in convolutions] == [((4, 4), (2, 2))] * 5
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in stainer.D.modules()) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"wavelet": "mexh"}, {"level": 3}, {"strided_stage": 1}, {"discriminator_layers": 1}, {"fake_factor": 0.0},
        {"encoder_weights": Path("resnet18.pth")}, {"l1_weight": -1.0},
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(RestainError):
        replace(THIN, **changes)  # type: ignore[arg-type]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(7)
    torch.save(ResNet18Stages().state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def test_the_encoder_begins_with_the_weights_at_hand(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    assert build("wavelet_pix2pix").begin() == {"encoder_weights": "random"}
    assert RESNET18_FILE in " ".join(capsys.readouterr().err.split())
    given = WaveletPix2Pix(Config(encoder_weights=weights))
    said = given.begin()["encoder_weights"]
    assert said.startswith("mine.pth, ")
    expected = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in given.G.encoder.state_dict().items())
    cached = tmp_path / "cache" / "hub" / "checkpoints" / RESNET18_FILE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights.read_bytes())
    assert build("wavelet_pix2pix").begin()["encoder_weights"].split(", ")[1] == said.split(", ")[1]
    assert WaveletPix2Pix(THIN).begin() == {"encoder_weights": "random"}, "ImageNet's are for 64 channels"


def test_run_json_says_what_the_encoder_began_with(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs", train=2, val=0, side=32)
    words = [
        "train", "wavelet_pix2pix", "--data", str(data), "--out", str(tmp_path / "run"), "--training.epochs", "1",
        "--training.epochs_decay", "0", "--training.convention", "end", "--stainer.encoder_weights", str(weights),
        "--stainer.discriminator_width", "4", "--training.sample_every", "0", "--batches.workers", "0",
    ]  # fmt: skip
    assert main(words) == 0
    run = RunFolder(tmp_path / "run")
    assert run.info["encoder_weights"].startswith("mine.pth")
    torch.save(ResNet18Stages().state_dict(), weights)
    assert main(words) == 2, "other weights of the same name"
    assert "encoder_weights: was" in capsys.readouterr().err
    weights.unlink()
    assert main(words) == 1
    assert "mine.pth" in capsys.readouterr().err
    load_stainer(run)  # the file is not needed to stain
