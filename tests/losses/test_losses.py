from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from restain.losses.gan import GANLoss
from restain.losses.pyramid import octave, pyramid_l1


def test_vanilla_loss_at_zero_logits_is_log_2() -> None:
    logits = torch.zeros(2, 1, 3, 3)
    for real in (True, False):
        assert GANLoss.vanilla(logits, real).item() == pytest.approx(math.log(2))
    assert GANLoss.lsgan(logits + 0.25, True).item() == pytest.approx(0.75**2)
    assert GANLoss.lsgan.discriminator(logits, logits + 1).item() == 0


def test_an_octave_is_four_binned_blurs_and_every_second_pixel() -> None:
    """Against scipy's separable correlation with mirrored border."""
    image = np.random.default_rng(0).normal(size=(2, 3, 21, 30))
    taps = np.exp(-0.5 * np.arange(-1, 2) ** 2)
    taps /= taps.sum()
    want = image
    for _ in range(4):
        for axis in (2, 3):
            want = correlate1d(want, taps, axis=axis, mode="mirror")
    np.testing.assert_allclose(octave(torch.from_numpy(image)).numpy(), want[..., ::2, ::2], atol=1e-12)


def test_pyramid_terms_are_weighted_and_count_scales() -> None:
    fake, real = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    terms = pyramid_l1(fake, real, [25.0, 10.0])
    assert len(terms) == 2
    assert terms[0].item() == pytest.approx(25 * (fake - real).abs().mean().item(), rel=1e-5)
    assert terms[1] < terms[0] * 10 / 25, "coarser scales average noise away"
