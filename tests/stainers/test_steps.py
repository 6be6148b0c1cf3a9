"""The losses of a training step, against their formulas written out by hand."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.data import PairBatch
from restain.losses.gaussian_pyramid import LEVEL_WEIGHTS, gaussian_pyramid
from restain.losses.pyramid import octave
from restain.stainers import asp, cut, fastcut, lifangda, tdkstain
from restain.stainers.base import Stainer

THIN: dict[str, Any] = {"generator_width": 4, "discriminator_width": 4, "generator_blocks": 2, "patches": 16}


class Noted:
    """A step that updates nothing and notes what would have been minimised, in order."""

    def __init__(self, epoch: int = 1, epochs: int = 40, epochs_decay: int = 10) -> None:
        self.epoch, self.epochs, self.epochs_decay, self.progress = epoch, epochs, epochs_decay, 0.0
        self.minimised: dict[str, float] = {}

    def update(self, name: str, loss: Tensor) -> None:
        self.minimised[name] = loss.item()

    def frozen(self, *networks: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()


def batch(side: int = 32, count: int = 2) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    he, ihc = (torch.rand(count, 3, side, side, generator=generator) * 2 - 1 for _ in range(2))
    return PairBatch(he, ihc, torch.tensor([1, 3])[:count], ("a", "b")[:count])


def layers(stainer: cut.Cut, image: Tensor) -> list[Tensor]:
    """The compared features, layer by layer."""
    found, x = [], image
    for number, module in enumerate(stainer.G.model):
        x = module(x)
        if number in stainer.config.nce_layers:
            found.append(x.clone())
    return found


def embedding(stainer: cut.Cut, features: list[Tensor], places: list[Tensor]) -> list[Tensor]:
    triples = zip(stainer.F.mlps, features, places, strict=True)
    raw = [mlp(feature.flatten(2).transpose(1, 2)[:, place]) for mlp, feature, place in triples]
    return [x / (x.norm(dim=2, keepdim=True) + 1e-7) for x in raw]  # the released epsilon: first embeddings are tiny


def info_nce(stainer: cut.Cut, source: Tensor, output: Tensor, weights: Any = None) -> Tensor:
    """PatchNCE at places drawn as the method draws them, image by image as cross entropy."""
    queries, keys = layers(stainer, output), layers(stainer, source)
    places = [torch.randperm(q.shape[2] * q.shape[3])[: stainer.config.patches] for q in queries]
    losses = []
    pairs = zip(embedding(stainer, queries, places), embedding(stainer, keys, places), strict=True)
    for query, key in pairs:
        each = torch.stack(
            [
                F.cross_entropy(q @ k.T / stainer.config.temperature, torch.arange(len(q)), reduction="none")
                for q, k in zip(query, key, strict=True)
            ]
        )
        weight = torch.ones_like(each) if weights is None else weights((query * key).sum(2))
        losses.append((each * weight / weight.mean()).mean())
    return torch.stack(losses).mean()


def run(stainer: Stainer, pairs: PairBatch, step: Noted) -> dict[str, Tensor]:
    torch.manual_seed(5)
    losses = stainer.training_step(pairs, step)
    torch.manual_seed(5)
    return losses


@torch.no_grad()
def test_cut_is_gan_and_the_mean_of_both_contrasts() -> None:
    stainer, pairs, step = cut.Cut(cut.Config(**THIN)), batch(), Noted()
    losses = run(stainer, pairs, step)
    fake, same = stainer.G(pairs.he), stainer.G(pairs.ihc)
    gan = ((stainer.D(fake) - 1) ** 2).mean()
    nce = (info_nce(stainer, pairs.he, fake) + info_nce(stainer, pairs.ihc, same)) / 2
    torch.testing.assert_close(losses["G_GAN"], gan)
    torch.testing.assert_close(losses["NCE"], nce)
    assert step.minimised["G"] == pytest.approx((gan + nce).item(), rel=1e-4)
    d = ((stainer.D(fake) ** 2).mean() + ((stainer.D(pairs.ihc) - 1) ** 2).mean()) / 2
    assert step.minimised["D"] == pytest.approx(d.item(), rel=1e-4)
    assert list(step.minimised) == ["D", "G"]


@torch.no_grad()
def test_asp_weights_its_paired_contrast_and_adds_the_pyramid() -> None:
    stainer, pairs = asp.Asp(asp.Config(**(THIN | {"discriminator_layers": 2}))).eval(), batch(64)
    step = Noted(epoch=36)
    losses = run(stainer, pairs, step)
    fake, same = stainer.G(pairs.he), stainer.G(pairs.ihc)
    nce = 10 * (info_nce(stainer, pairs.he, fake) + info_nce(stainer, pairs.ihc, same)) / 2
    t = 35 / 40
    p = (1 - t) / 0.25
    supervised = 10 * info_nce(stainer, pairs.ihc, fake, lambda cosine: p + (1 - p) * cosine.relu())
    levels = zip(gaussian_pyramid(fake, 5), gaussian_pyramid(pairs.ihc, 5), LEVEL_WEIGHTS, strict=True)
    pyramid = 10 * sum(weight * (a - b).abs().mean() for a, b, weight in levels) / 6
    torch.testing.assert_close(losses["NCE"], nce)
    torch.testing.assert_close(losses["ASP"], supervised)
    torch.testing.assert_close(losses["pyramid"], pyramid)
    assert step.minimised["G"] == pytest.approx((losses["G_GAN"] + nce + supervised + pyramid).item(), rel=1e-4)


@torch.no_grad()
def test_lifangda_is_equation_13() -> None:
    stainer, pairs, step = lifangda.Lifangda(lifangda.Config(**THIN, levels=4)), batch(), Noted()
    losses = run(stainer, pairs, step)
    fake = stainer.G(pairs.he)
    nce = info_nce(stainer, pairs.he, fake)
    paired = info_nce(stainer, pairs.ihc, fake)
    logits, level = stainer.D.judge(fake)
    scales, a, b = [], fake, pairs.ihc
    for _ in range(3):
        a, b = octave(a), octave(b)
        scales.append((a - b).abs().mean())
    total = (
        ((logits - 1) ** 2).mean() + 10 * nce + 10 * paired + 2 * F.cross_entropy(level, pairs.level) + 20 * sum(scales)
    )
    assert step.minimised["G"] == pytest.approx(total.item(), rel=1e-4)
    real, known = stainer.D.judge(pairs.ihc)
    d = ((stainer.D(fake) ** 2).mean() + ((real - 1) ** 2).mean()) / 2 + 2 * F.cross_entropy(known, pairs.level)
    assert step.minimised["D"] == pytest.approx(d.item(), rel=1e-4)
    assert set(losses) == {"D", "D_level", "G_GAN", "level", "NCE", "pNCE", "multi_scale"}


@torch.no_grad()
def test_fastcut_mirrors_half_of_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    stainer, pairs = fastcut.FastCut(fastcut.Config(**THIN)), batch(count=1)
    seen: list[bool] = []
    original = stainer.G.forward

    def forward(x: Tensor) -> Tensor:
        seen.append(torch.equal(x, pairs.he.flip(3)))
        assert seen[-1] or torch.equal(x, pairs.he)
        return original(x)

    monkeypatch.setattr(stainer.G, "forward", forward)
    for seed in range(24):
        torch.manual_seed(seed)
        stainer.training_step(pairs, Noted())
    assert 6 <= sum(seen) <= 18


@torch.no_grad()
def test_a_mirrored_fake_is_turned_back_before_it_meets_its_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    stainer = lifangda.Lifangda(lifangda.Config(**THIN, flip_equivariance=True, level_weight=0.0))
    pairs, met = batch(), []
    monkeypatch.setattr(stainer, "paired_losses", lambda fake, *_: met.append(fake) or {})
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(()))  # always mirrored
    stainer.training_step(pairs, Noted())
    torch.testing.assert_close(met[0], stainer.G(pairs.he.flip(3)).flip(3))


def test_tdkstain_begins_alike_with_and_without_its_estimator() -> None:
    """Ablations of one seed differ in their losses, not in their first weights."""
    config = {"generator_width": 4, "discriminator_width": 4, "generator_blocks": 2, "estimator_width": 4}
    states = []
    for weight in (10.0, 0.0):
        torch.manual_seed(0)
        states.append(tdkstain.TDKStain(tdkstain.Config(**config, nuclei_weight=weight)).state_dict())
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())
