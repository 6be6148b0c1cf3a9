from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from restain.losses.adaptive_nce import Schedule, WeightFunction, adaptive_weights
from restain.losses.classification import level_cross_entropy
from restain.losses.feature_matching import feature_matching
from restain.losses.gan import GANLoss
from restain.losses.gaussian_pyramid import LEVEL_WEIGHTS, gaussian_pyramid, gaussian_pyramid_l1
from restain.losses.nce import patch_nce


def _rows(count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator))


def test_patch_nce_is_cross_entropy_over_the_places_of_the_image() -> None:
    query, key = _rows(6), _rows(6, seed=1)
    loss = patch_nce(query, key, images=2, temperature=0.1)
    for image in (0, 1):
        part = slice(3 * image, 3 * image + 3)
        want = F.cross_entropy(query[part] @ key[part].T / 0.1, torch.arange(3), reduction="none")
        torch.testing.assert_close(loss[part], want)
    together = patch_nce(query, key, images=2, temperature=0.1, across_images=True)
    torch.testing.assert_close(together, F.cross_entropy(query @ key.T / 0.1, torch.arange(6), reduction="none"))


def test_keys_get_no_gradient() -> None:
    query, key = _rows(4).requires_grad_(), _rows(4, seed=1).requires_grad_()
    patch_nce(query, key, 1).sum().backward()
    assert query.grad is not None
    assert key.grad is None


def test_schedules_at_their_ends() -> None:
    constant = 0.75
    assert [Schedule.zero(t, constant) for t in (0, 0.5, 0.99)] == [1, 1, 1]
    assert Schedule.linear(0.25, constant) == 0.75
    assert Schedule.sigmoid(0.5, constant) == 0.5
    assert Schedule.lambda_(0.74, constant) == 1
    assert Schedule.lambda_(0.875, constant) == pytest.approx(0.5)
    assert Schedule.lambda_(0.99, 1.0) == 1, "without decay the weights never begin to count"


def test_weight_functions_against_their_formulas() -> None:
    x = torch.linspace(-1, 1, 9)
    np.testing.assert_allclose(WeightFunction.bell(x), norm.pdf(4 * (x.numpy() - 0.5)), rtol=1e-5)
    np.testing.assert_allclose(
        WeightFunction.top(x), [math.sqrt(1 - (max(v, 0) - 1) ** 2) for v in x.tolist()], atol=1e-6
    )
    assert WeightFunction.linear(x).tolist() == x.clamp_min(0).tolist()
    assert set(WeightFunction.uniform(x).tolist()) == {1.0}


def test_weights_have_mean_one_and_favour_what_agrees() -> None:
    query = _rows(50)
    key = torch.cat([query[:25], _rows(25, seed=2)])
    weights = adaptive_weights(query, key, Schedule.linear, WeightFunction.linear, 0.9, 0.75)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[:25].min() > weights[25:].max()
    assert not weights.requires_grad


def test_gaussian_pyramid_keeps_the_mean_and_halves() -> None:
    image = torch.rand(1, 3, 96, 128)
    levels = gaussian_pyramid(image, 5)
    assert [tuple(level.shape[2:]) for level in levels] == [(96, 128), (48, 64), (24, 32), (12, 16), (6, 8), (3, 4)]
    assert gaussian_pyramid_l1(image, image + 0.5).item() == pytest.approx(0.5 * sum(LEVEL_WEIGHTS) / 6, rel=1e-5)


def test_feature_matching_leaves_the_logits_out() -> None:
    real = [[torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 1, 1)]]
    fake = [[torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2), torch.full((1, 1, 1, 1), 99.0)]]
    assert feature_matching(fake, real).item() == pytest.approx(4)  # 2 stages x 4 / 2
    assert feature_matching(fake * 3, real * 3).item() == pytest.approx(4), "the mean over scales"


def test_scales_are_summed() -> None:
    scales = [torch.zeros(1, 1, 2, 2), torch.full((1, 1, 1, 1), 0.5)]
    assert GANLoss.lsgan(scales, True).item() == pytest.approx(1 + 0.25)


def test_unknown_levels_do_not_count() -> None:
    logits = torch.randn(3, 4)
    known = F.cross_entropy(logits[:2], torch.tensor([1, 3]))
    torch.testing.assert_close(level_cross_entropy(logits, torch.tensor([1, 3, -1])), known)
    assert level_cross_entropy(logits, torch.full((3,), -1)).item() == 0
