"""Intervals against SciPy's bootstrap and against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from restain.evaluate import Interval, estimate

RULES = Interval(confidence=0.95, resamples=4000, seed=0)


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_agrees_with_scipy_over_images() -> None:
    values = np.random.default_rng(3).gamma(2.0, 1.0, 80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(9))
    ours = estimate(values, names(80), RULES)
    assert ours.mean == values.mean()
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_images_of_a_patient_are_drawn_together() -> None:
    patients = np.random.default_rng(0).normal(size=20)
    repeated = np.repeat(patients, 30)
    units = [str(number // 30) for number in range(600)]
    by_patient = estimate(repeated, units, RULES)
    of_patients = estimate(patients, names(20), RULES)
    by_image = estimate(repeated, names(600), RULES)
    assert (by_patient.low, by_patient.high) == pytest.approx((of_patients.low, of_patients.high))
    assert by_patient.high - by_patient.low > 4 * (by_image.high - by_image.low)


def test_a_patient_with_more_images_weighs_more() -> None:
    result = estimate(np.array([0.0, 0.0, 0.0, 1.0]), ["a", "a", "a", "b"], RULES)
    assert result.mean == 0.25
    assert (result.low, result.high) == (0, 1)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(1).normal(size=30)
    first, again = estimate(values, names(30), RULES), estimate(values, names(30), RULES)
    other = estimate(values, names(30), Interval(0.95, 4000, seed=1))
    assert first == again
    assert first.low != other.low
    narrow = estimate(values, names(30), Interval(0.5, 4000, seed=0))
    assert first.low < narrow.low < narrow.high < first.high


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=30)
    whole = estimate(values, names(30), RULES)
    monkeypatch.setattr("restain.evaluate.bootstrap.CHUNK", 100)
    assert estimate(values, names(30), RULES) == whole


def test_infinite_values_are_counted_not_averaged() -> None:
    result = estimate(np.array([20.0, np.inf, 30.0]), names(3), RULES)
    assert (result.mean, result.n, result.infinite) == (25.0, 2, 1)
    nothing = estimate(np.array([np.inf, np.inf]), names(2), RULES)
    assert (nothing.mean, nothing.low, nothing.high, nothing.n, nothing.infinite) == (None, None, None, 0, 2)


def test_one_image_has_no_interval() -> None:
    result = estimate(np.array([20.0]), ["a"], RULES)
    assert (result.mean, result.low, result.high, result.n) == (20.0, None, None, 1)
