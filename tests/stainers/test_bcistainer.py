"""BCIStainer's training step against its formulas, its comparator's two phases, levels that are not known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.ndimage import correlate1d

from restain.cli.main import main
from restain.cli.train import run as train_command
from restain.core.errors import RestainError
from restain.data import PairBatch
from restain.losses.focal import FocalTerms, focal_loss
from restain.losses.ssim import ssim_loss
from restain.nn.modulated import ModulatedConv
from restain.stainers.bcistainer import BCIStainer, Config

from ..pairs import write_pairs
from .test_steps import Noted

THIN: dict[str, Any] = {
    "generator_width": 4, "discriminator_width": 4, "comparator_width": 4, "comparator_widest": 16, "style_blocks": 2,
    "side": 64, "levels": 4, "dropout": 0.0, "label_noise": 0.0,
}  # fmt: skip


def batch(level: tuple[int, ...] = (1, 3), side: int = 64) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    he, ihc = (torch.rand(len(level), 3, side, side, generator=generator) * 2 - 1 for _ in range(2))
    return PairBatch(he, ihc, torch.tensor(level), ("",) * len(level))


def focal(logits: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The image's own level alone, image by image."""
    alpha, losses = (0.5, 0.2, 0.2, 0.1), []
    for row, own in zip(logits.softmax(1), level.tolist(), strict=True):
        losses.append(-alpha[own] * (1 - row[own]) ** 2 * row[own].log())
    return torch.stack(losses).mean()


def ssim_by_scipy(fake: torch.Tensor, real: torch.Tensor) -> float:
    taps = np.exp(-0.5 * (np.arange(-4, 5) / 2.375) ** 2)
    taps /= taps.sum()

    def windowed(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, taps, 2), taps, 3)[..., 4:-4, 4:-4]

    x, y = ((image.double().numpy() + 1) / 2 for image in (fake, real))
    mx, my = windowed(x), windowed(y)
    vx, vy, c = windowed(x * x) - mx**2, windowed(y * y) - my**2, windowed(x * y) - mx * my
    return float(((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))).mean())


@torch.no_grad()
@pytest.mark.parametrize("epoch", [50, 51])
def test_the_step_is_equation_12(epoch: int) -> None:
    """While the comparator learns, and once it compares."""
    stainer, pairs, step = BCIStainer(Config(**THIN)).eval(), batch(), Noted(epoch)
    comparing = epoch > 50
    stainer.C.train = lambda *_: stainer.C  # type: ignore[method-assign, assignment]  # its batch norms stay as they are
    losses = stainer.training_step(pairs, step)
    full, low, level, _ = stainer.G(pairs.he)
    fakes, reals = stainer.D(full), stainer.D(pairs.ihc)
    gan = sum(((scale - 1) ** 2).mean() for scale in fakes) / 2
    small = F.interpolate(pairs.ihc, (8, 8), mode="bilinear", align_corners=True)
    total = (
        gan + 10 * (full - pairs.ihc).abs().mean() + 10 * (low - small).abs().mean()
        + 1 - ssim_by_scipy(full, pairs.ihc) + 5 * focal(level, pairs.level)
    )  # fmt: skip
    ours, theirs = stainer.C(full)[1], stainer.C(pairs.ihc)[1]
    if comparing:
        total += 1 - ((ours * theirs).sum(1) / (ours.norm(dim=1) * theirs.norm(dim=1))).mean()
    d = sum((f**2).mean() + ((r - 1) ** 2).mean() for f, r in zip(fakes, reals, strict=True)) / 4
    assert step.minimised["G"] == pytest.approx(total.item(), rel=1e-4)
    assert step.minimised["D"] == pytest.approx(d.item(), rel=1e-4)
    assert list(step.minimised) == (["D", "G"] if comparing else ["C", "D", "G"])
    if not comparing:
        assert step.minimised["C"] == pytest.approx(5 * focal(stainer.C(pairs.ihc)[0], pairs.level).item(), rel=1e-4)
    assert ("similarity" in losses) is comparing


def test_labels_are_noisy_on_both_sides() -> None:
    stainer = BCIStainer(Config(**(THIN | {"label_noise": 0.1})))
    ones = [torch.ones(200, 1, 8, 8)] * 2
    real, fake = (stainer.adversarial(ones, real=real) for real in (True, False))
    assert real.item() == pytest.approx(0.01 / 3, rel=0.05), "mean of U(0, .1)^2"
    assert fake.item() == pytest.approx(1 - 0.1 + 0.01 / 3, rel=0.02), "mean of (1 - U(0, .1))^2"


def test_focal_loss_over_all_levels_is_equations_5_to_7() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 3.0, -2.0]])
    level, alpha = torch.tensor([0, 1]), (0.5, 0.2, 0.2, 0.1)
    expected = 0.0
    for row, own in zip(logits.softmax(1).tolist(), level.tolist(), strict=True):
        for n, p in enumerate(row):
            p_t = p if n == own else 1 - p
            expected += -alpha[n] * (1 - p_t) ** 2 * math.log(p_t) / 4 / 2
    assert focal_loss(logits, level, alpha, terms=FocalTerms.all_levels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("terms", list(FocalTerms))
def test_unknown_levels_enter_no_classifier(terms: FocalTerms) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    known = focal_loss(logits[:1], torch.tensor([2]), (0.5, 0.2, 0.2, 0.1), terms=terms)
    masked = focal_loss(logits, torch.tensor([2, -1, -1]), (0.5, 0.2, 0.2, 0.1), terms=terms)
    torch.testing.assert_close(masked, known)
    (gradient,) = torch.autograd.grad(masked, logits)
    assert not gradient[1:].any()
    none = focal_loss(logits, torch.tensor([-1, -1, -1]), (0.5, 0.2, 0.2, 0.1), terms=terms)
    assert none.item() == 0


def test_a_certain_logit_gives_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0, 0.0]], requires_grad=True)
    for terms in FocalTerms:
        loss = focal_loss(logits, torch.tensor([1]), (0.5, 0.2, 0.2, 0.1), terms=terms)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_a_demodulated_kernel_has_length_one() -> None:
    """Modulating channels instead of kernels is the same as Karras' Eq. 1 to 3 for each image by itself."""
    conv, generator = ModulatedConv(5, 3), torch.Generator().manual_seed(0)
    x, style = torch.randn(2, 5, 6, 7, generator=generator), torch.randn(2, 5, generator=generator)
    for image, s, ours in zip(x, style, conv(x, style), strict=True):
        kernel = conv.weight / math.sqrt(45) * (s + 1)[None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        torch.testing.assert_close(ours, F.conv2d(F.pad(image[None], (1, 1, 1, 1), mode="reflect"), kernel)[0])


def test_ssim_of_an_image_with_itself_costs_nothing() -> None:
    image = batch().he
    assert ssim_loss(image, image).item() == pytest.approx(0, abs=1e-6)


def test_levels_and_their_weights_must_agree() -> None:
    with pytest.raises(RestainError, match="focal_alpha"):
        Config(levels=3)
    with pytest.raises(RestainError, match="levels"):
        BCIStainer(Config())


def words(data: Path, out: Path) -> list[str]:
    """Two epochs; the comparator is frozen after the first."""
    thin = {**THIN, "comparator_epochs": 1, "label_noise": 0.1} | {"levels": "null"}
    settings = [word for name, value in thin.items() for word in (f"--stainer.{name}", str(value))]
    return [
        "bcistainer", "--config", "bcistainer_small", "--data", str(data), "--out", str(out), *settings,
        "--batches.batch_size", "2", "--batches.augmentation.resize", "null", "--batches.augmentation.crop", "64",
        "--training.epochs", "1", "--training.epochs_decay", "1", "--training.keep", "best_psnr", "--mpp", "0.5",
        "--training.checkpoint_every", "2", "--training.log_every", "1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bcistainer"
    assert train_command(words(data, out)) == 0
    return out


def test_the_comparator_is_frozen_after_its_epochs(trained: Path) -> None:
    table = np.genfromtxt(trained / "metrics.csv", delimiter=",", names=True)
    assert np.isfinite(table["C"][:3]).all()
    assert np.isnan(table["C"][3:]).all()
    assert np.isnan(table["similarity"][:3]).all()
    assert np.isfinite(table["similarity"][3:]).all()


def test_a_frozen_comparator_that_is_missing_is_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "run.json").write_text((run / "run.json").read_text().replace('"done"', '"running"'))
    last = run / "checkpoints" / "last.safetensors"
    with safe_open(last, "pt") as file:
        metadata = file.metadata()
    state = load_file(last)
    kept = {key: value for key, value in state.items() if not key.startswith("weights.C.")}
    assert len(kept) < len(state)
    save_file(kept, last, metadata)
    assert main(["train", *words(data, run)]) == 1
    error = capsys.readouterr().err
    assert "last.safetensors: lacks 'weights.C." in error
    assert "another --out" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("precision", [torch.bfloat16])
def test_ssim_keeps_its_precision_under_mixed_precision(precision: torch.dtype) -> None:
    """A pale image, as of IHC: in half precision its variance would be noise."""
    generator = torch.Generator().manual_seed(0)
    real = 0.8 + 0.02 * torch.randn(1, 3, 64, 64, generator=generator)
    fake = (real + 0.01 * torch.randn(1, 3, 64, 64, generator=generator)).to(precision).requires_grad_()
    whole = fake.detach().float().requires_grad_()
    with torch.autocast("cpu", precision):
        mixed = ssim_loss(fake, real)
    exact = ssim_loss(whole, real)
    torch.testing.assert_close(mixed, exact)
    ours, theirs = torch.autograd.grad(mixed, fake)[0].float(), torch.autograd.grad(exact, whole)[0]
    assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_a_root_of_what_is_left_has_a_derivative() -> None:
    logits = torch.tensor([[80.0, -80.0, 0.0, 0.0]], requires_grad=True)
    for terms in FocalTerms:
        loss = focal_loss(logits, torch.tensor([0]), 1, gamma=0.5, terms=terms)
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()
