from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from restain.synthetic.hashing import hash_normal, hash_uniform, subseed
from restain.synthetic.noise import LatticeNoise, textures


def test_hashed_numbers_are_uniform_and_normal() -> None:
    sites = np.arange(-5000, 5000)
    assert kstest(hash_uniform(3, sites), "uniform").pvalue > 0.001
    assert kstest(hash_normal(3, sites), "norm").pvalue > 0.001
    neighbours = np.corrcoef(hash_uniform(3, sites), hash_uniform(3, sites + 1))[0, 1]
    assert abs(neighbours) < 0.04


def test_a_hashed_number_depends_on_its_site_alone() -> None:
    rows, columns = np.mgrid[-3:9, 5:20]
    whole = hash_uniform(8, rows, columns)
    assert hash_uniform(8, 4, 11)[()] == pytest.approx(whole[7, 6], abs=0)
    assert not np.allclose(whole, hash_uniform(9, rows, columns))


def test_subseeds_differ_by_name_and_order() -> None:
    seeds = {subseed(0), subseed(1), subseed(0, "a"), subseed(0, "b"), subseed(0, "a", "b"), subseed(0, "b", "a")}
    seeds |= {subseed(0, 1), subseed(0, 2), subseed(0, "a name longer than eight bytes")}
    assert len(seeds) == 9


def test_lattice_noise_is_one_field_whatever_window_is_asked_for() -> None:
    noise = LatticeNoise(5, 37.0)
    x, y = np.arange(-200.0, 300.0, 2.5), np.arange(1000.0, 1400.0, 2.5)
    whole = noise.on_grid(x, y)
    part = noise.on_grid(x[60:90], y[30:100])
    np.testing.assert_allclose(part, whole[30:100, 60:90], atol=1e-5)


def test_lattice_noise_has_unit_variance() -> None:
    axis = np.arange(0.0, 4000.0, 7.0)
    values = LatticeNoise(2, 15.0).on_grid(axis, axis)
    assert values.mean() == pytest.approx(0.0, abs=0.02)
    assert values.std() == pytest.approx(1.0, abs=0.03)


def test_textures_repeat_without_a_seam() -> None:
    for texture in textures().values():
        rows, columns = texture.values.shape[0] - 1, texture.values.shape[1] - 1
        along = np.linspace(-3, 3, 50, dtype=np.float32)[None, :] * np.float32(texture.texel[1])
        across = np.full_like(along, 2.2 * texture.texel[0])
        here = texture.sample(along, across)
        there = texture.sample(along + columns * texture.texel[1], across - rows * texture.texel[0])
        np.testing.assert_allclose(here, there, atol=0.15)
        assert texture.values.std() == pytest.approx(1.0, abs=0.05)
