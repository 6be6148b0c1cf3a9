from __future__ import annotations

import numpy as np
import pytest

from restain.synthetic.her2 import LEVELS, asco_cap_level, class_thresholds, membrane_class, sample_shares


@pytest.mark.parametrize(
    ("shares", "level"),
    [
        ((1.0, 0.0, 0.0, 0.0), "0"),
        ((0.9, 0.1, 0.0, 0.0), "0"),  # faint staining in 10 % or fewer
        ((0.89, 0.11, 0.0, 0.0), "1+"),
        ((0.2, 0.75, 0.05, 0.0), "1+"),
        ((0.5, 0.39, 0.11, 0.0), "2+"),
        ((0.5, 0.4, 0.0, 0.1), "2+"),  # intense and complete, but in 10 % or fewer
        ((0.5, 0.2, 0.19, 0.11), "3+"),
        ((0.0, 0.0, 0.0, 1.0), "3+"),
    ],
)
def test_the_rule_at_its_cut_offs(shares: tuple[float, ...], level: str) -> None:
    assert asco_cap_level(shares) == level


def test_shares_that_are_no_whole_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        asco_cap_level((0.5, 0.1, 0.0, 0.0))


@pytest.mark.parametrize("level", range(4))
def test_sampled_shares_give_their_level_and_vary(level: int) -> None:
    rng = np.random.default_rng(1)
    drawn = np.array([sample_shares(level, rng) for _ in range(400)])
    assert {asco_cap_level(shares) for shares in drawn} == {LEVELS[level]}
    assert drawn.min() >= 0
    assert drawn.std(axis=0).max() > 0.01


@pytest.mark.parametrize("level", range(4))
def test_classes_by_threshold_have_the_wanted_shares(level: int) -> None:
    rng = np.random.default_rng(level)
    scores = rng.standard_normal(700).astype(np.float32)
    shares = sample_shares(level, rng)
    classes = membrane_class(scores, class_thresholds(scores, shares))
    np.testing.assert_allclose(np.bincount(classes, minlength=4) / 700, shares, atol=2 / 700)
