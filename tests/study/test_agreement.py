from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from restain.study.agreement import (
    cohen_kappa,
    confusion,
    expected_agreement,
    fleiss_kappa,
    fleiss_parts,
    interval,
    p_value,
    permuted_agreement,
)

FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""Ten subjects, fourteen raters, five categories: the textbook example, kappa 0.210."""


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_cohens_kappa_is_scikit_learns(quadratic: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    a = random.integers(0, 4, 40)
    b = np.where(random.random(40) < 0.6, a, random.integers(0, 4, 40))
    wanted = cohen_kappa_score(a, b, labels=range(4), weights="quadratic" if quadratic else None)
    assert cohen_kappa(confusion(a, b, 4).sum(0), quadratic) == pytest.approx(wanted)


def test_cohens_kappa_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    assert cohen_kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx(0.4)


@pytest.mark.parametrize("quadratic", [False, True])
def test_kappa_of_one_grade_alone_is_not_defined(quadratic: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(cohen_kappa(np.diag([0.0, 7.0, 0.0]), quadratic))
        assert np.isnan(cohen_kappa(np.zeros((3, 3)), quadratic))
    # One reader who gives one grade, another who does not: agreement is exactly what chance gives.
    assert cohen_kappa(np.array([[3.0, 2.0], [0.0, 0.0]]), quadratic) == pytest.approx(0)


def test_entries_without_a_grade_are_in_no_confusion() -> None:
    counts = confusion(np.array([0, -1, 2, 1]), np.array([0, 1, -2, 0]), 3)
    assert counts.shape == (4, 3, 3)
    assert counts.sum(0).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_fleiss_kappa_of_the_textbook() -> None:
    grades = np.array([np.repeat(np.arange(5), row) for row in FLEISS]).T
    assert fleiss_kappa(fleiss_parts(grades, 5).sum(0)) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_takes_images_that_all_graded() -> None:
    grades = np.array([np.repeat(np.arange(5), row) for row in FLEISS]).T
    more = np.concatenate([grades, np.full((14, 2), 1)], axis=1)
    more[3, -2] = -1
    more[5, -1] = -2
    assert fleiss_kappa(fleiss_parts(more, 5).sum(0)) == fleiss_kappa(fleiss_parts(grades, 5).sum(0))
    assert np.isnan(fleiss_kappa(fleiss_parts(np.ones((3, 6), np.int64), 4).sum(0)))


def test_intervals_draw_whole_units() -> None:
    random = np.random.default_rng(1)
    a = random.integers(0, 4, 60)
    b = np.where(random.random(60) < 0.5, a, random.integers(0, 4, 60))
    parts = confusion(a, b, 4)
    alone = interval(parts, [str(i) for i in range(60)], cohen_kappa)
    twice = interval(np.concatenate([parts, parts]), [str(i % 60) for i in range(120)], cohen_kappa)
    assert alone == pytest.approx(twice)  # a copy of each entry in its own unit says nothing new
    own = []
    for _ in range(600):
        drawn = random.integers(0, 60, 60)
        own.append(cohen_kappa_score(a[drawn], b[drawn], labels=range(4)))
    assert alone == pytest.approx(np.quantile(own, [0.025, 0.975]), abs=0.04)


def test_no_interval_of_a_single_unit_or_of_what_is_often_undefined() -> None:
    parts = confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    assert interval(parts, ["p", "p", "p"], cohen_kappa) is None
    rare = confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1]), 2)  # a third of the resamples has one grade alone
    assert interval(rare, ["a", "b", "c", "d"], cohen_kappa) is None


def test_expected_agreement_by_hand() -> None:
    # real: half 0, half 1; generated: a quarter 0, half 1, a quarter not readable
    found = expected_agreement(np.array([0, 0, 1, 1]), np.array([0, 1, 1, -1]), 2)
    assert found == pytest.approx(0.5 * 0.25 + 0.5 * 0.5)
    assert expected_agreement(np.array([], np.int64), np.array([], np.int64), 4) is None


def test_dealing_at_random_gives_what_is_expected() -> None:
    random = np.random.default_rng(3)
    real, generated = random.integers(0, 4, (2, 40)), random.integers(-1, 4, (2, 40))
    chance = permuted_agreement(real, generated, 0)
    wanted = np.mean([expected_agreement(real[r], generated[r], 4) for r in range(2)])
    assert chance.mean() == pytest.approx(wanted, abs=0.002)
    assert np.array_equal(chance, permuted_agreement(real, generated, 0))
    assert not np.array_equal(chance, permuted_agreement(real, generated, 1))


def test_p_is_exact_where_all_deals_can_be_counted() -> None:
    # Four pairs, four grades, all equal: one deal of 24 is as good.
    real = np.array([[0, 1, 2, 3]])
    assert p_value(1.0, permuted_agreement(real, real, 0)) == pytest.approx(1 / 24, abs=0.006)
    assert p_value(0.5, np.array([np.nan])) is None
