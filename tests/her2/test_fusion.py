"""Reading the percentages of a virtual IHC, and joining them with a model's answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from restain.core.errors import RestainError
from restain.her2.fusion import Pool, Reader, percent_rows

TYPICAL = np.array([[93, 5, 1.5, 0.5], [60, 33, 6, 1], [30, 35, 30, 5], [10, 15, 25, 50]])


def percentages(labels: np.ndarray, seed: int, noise: float = 1.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 100 * softmax(np.log(TYPICAL[labels]) + noise * rng.normal(size=(len(labels), 4)), axis=1)


def model_answer(labels: np.ndarray, seed: int, signal: float = 1.0) -> np.ndarray:
    """Calibrated: posteriors of a normal variable per class whose mean is raised for the true one."""
    raw = np.random.default_rng(seed).normal(size=(len(labels), 4))
    raw[np.arange(len(labels)), labels] += signal
    return softmax(signal * raw, axis=1)


def balanced(count: int) -> np.ndarray:
    return np.tile(np.arange(4), count // 4)


def auc(values: np.ndarray, labels: np.ndarray) -> float:
    return float(roc_auc_score(labels, values, multi_class="ovr"))


def loss(values: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(values[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("there", [(0, 1, 2, 3), (0, 2, 3), (1, 3)])
def test_a_reader_is_scikit_learns_regression(there: tuple[int, ...]) -> None:
    labels = np.array(there * 15)
    percent = percentages(labels, 0)
    reader = Reader.fit(percent, labels, 4)
    new = percentages(balanced(20), 1)
    wanted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(np.log(percent + 0.5), labels)
    found = reader.probabilities(new)
    np.testing.assert_allclose(found[:, there], wanted.predict_proba(np.log(new + 0.5)), atol=1e-4)
    assert not found[:, [k for k in range(4) if k not in there]].any()
    np.testing.assert_allclose(found.sum(1), 1)


def test_without_a_score_there_are_frequencies_and_no_evidence() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    percent = percentages(labels, 0)
    percent[1] = np.nan
    reader = Reader.fit(percent, labels, 4)
    mixed = np.vstack([percent[:1], np.full((1, 4), np.nan)])
    np.testing.assert_allclose(reader.probabilities(mixed)[1], [3 / 8, 2 / 8, 1 / 8, 2 / 8])
    assert not reader.evidence(mixed)[1].any()
    expected = np.log(reader.probabilities(mixed)[0] / reader.frequency)
    np.testing.assert_allclose(reader.evidence(mixed)[0], expected)
    own = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    joined = Pool(2.0, 1.0).join(own, reader.evidence(mixed))
    np.testing.assert_array_equal(joined[1], own[1])
    assert not np.allclose(joined[0], own[0])


def test_a_class_that_was_never_read_is_neither_favoured_nor_excluded() -> None:
    labels = np.array([0, 1, 3] * 10)
    reader = Reader.fit(percentages(labels, 0), labels, 4)
    assert not reader.evidence(percentages(balanced(8), 1))[:, 2].any()


def test_nothing_to_fit_is_refused() -> None:
    labels = np.array([0, 0, 1, 1])
    percent = percentages(labels, 0)
    percent[2:] = np.nan
    with pytest.raises(RestainError, match=r"2 of 4 patients .* of 1 class"):
        Reader.fit(percent, labels, 4)


def test_a_pool_has_the_most_likely_weights() -> None:
    labels = balanced(200)
    own, evidence = model_answer(labels, 0), np.log(model_answer(labels, 1) * 4)
    pool = Pool.fit(own, evidence, labels)

    def cost(a: float, b: float) -> float:
        logs = log_softmax(a * np.log(own) + b * evidence, axis=1)
        return -logs[np.arange(200), labels].sum() + ((a - 1) ** 2 + (b - 1) ** 2) / 2

    grid = np.linspace(0, 2.5, 51)
    best = min((cost(a, b), a, b) for a in grid for b in grid)
    assert (pool.own_weight, pool.read_weight) == pytest.approx(best[1:], abs=0.04)
    # Both are calibrated and independent given the class: Bayes' rule, whose weights are 1.
    assert (pool.own_weight, pool.read_weight) == pytest.approx((1, 1), abs=0.3)
    product = own * np.exp(evidence)
    np.testing.assert_allclose(Pool(1, 1).join(own, evidence), product / product.sum(1, keepdims=True))


@pytest.mark.parametrize("count", [40, 120])
def test_fusion_beats_both_parts_where_each_knows_something(count: int) -> None:
    labels, new = balanced(count), balanced(1000)
    reader = Reader.fit(percentages(balanced(count), 1), balanced(count), 4)
    evidence, own = reader.evidence(percentages(labels, 2)), model_answer(labels, 3)
    pool = Pool.fit(own, evidence, labels)
    ihc, answer = percentages(new, 4), model_answer(new, 5)
    read, fused = reader.probabilities(ihc), pool.join(answer, reader.evidence(ihc))
    assert auc(fused, new) > max(auc(read, new), auc(answer, new)) + 0.02
    assert loss(fused, new) < min(loss(read, new), loss(answer, new)) - 0.1


def test_a_virtual_ihc_that_says_nothing_changes_little() -> None:
    labels, new = balanced(120), balanced(1000)
    chance = np.random.default_rng(0).permutation
    reader = Reader.fit(percentages(chance(labels), 1), labels, 4)
    pool = Pool.fit(model_answer(labels, 3), reader.evidence(percentages(chance(labels), 2)), labels)
    answer = model_answer(new, 5)
    fused = pool.join(answer, reader.evidence(percentages(chance(new), 4)))
    assert auc(fused, new) == pytest.approx(auc(answer, new), abs=0.02)


def test_a_biased_model_gains_nothing_from_an_ihc_that_says_nothing() -> None:
    """Else every gain of a fusion could be that of drawing the model's limits anew."""
    labels, new = balanced(200), balanced(1000)
    bias = np.array([3.0, 0, 0, -3])
    own, answer = (softmax(np.log(model_answer(y, seed, 2)) + bias, axis=1) for y, seed in ((labels, 3), (new, 5)))
    chance = np.random.default_rng(0).permutation
    noise = [percentages(chance(y), seed) for y, seed in ((labels, 1), (labels, 2), (new, 4))]
    reader = Reader.fit(noise[0], labels, 4)
    fused = Pool.fit(own, reader.evidence(noise[1]), labels).join(answer, reader.evidence(noise[2]))
    right = [(values.argmax(1) == new).mean() for values in (answer, fused)]
    assert right[1] < right[0] + 0.02
    redrawn = LogisticRegression(max_iter=5000).fit(np.log(own), labels).predict(np.log(answer))
    assert (redrawn == new).mean() > right[0] + 0.1  # what a regression on log-probabilities would have claimed


def test_json_keeps_a_reader_and_damage_is_noticed() -> None:
    labels = balanced(40)
    reader = Reader.fit(percentages(labels, 0), labels, 4)
    document = json.loads(json.dumps(reader.document()))
    new = percentages(labels, 1)
    np.testing.assert_array_equal(Reader.of(document, 4).probabilities(new), reader.probabilities(new))
    for change in (
        {"mean": [1, 2]},
        {"classes": [0, 1, 2, 7]},
        {"weights": None},
        {"offsets": [0, 0, 0, float("nan")]},
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Reader.of(document | change, 4)
    with pytest.raises(ValueError, match="classes"):
        Reader.of(document, 3)


def test_rows_of_percentages() -> None:
    rows = percent_rows(["b", "a"], {"a": (90, 10, 0, 0), "b": None})
    assert np.isnan(rows[0]).all()
    np.testing.assert_array_equal(rows[1], [90, 10, 0, 0])
    assert percent_rows([], {}).shape == (0, 4)
