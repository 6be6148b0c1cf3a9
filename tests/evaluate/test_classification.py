"""Scores of a classifier agree with scikit-learn, and say what is not defined."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from sklearn.preprocessing import label_binarize
from tests.conformance.families import her2

from restain.core.errors import RestainError
from restain.evaluate.classification import classification_scores, macro_f1


def draw(seed: int, classes: int, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(seed)
    raw = rng.random((len(labels), classes)) + 0.6 * (labels[:, None] == np.arange(classes))
    return raw / raw.sum(1, keepdims=True)


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_scores_are_scikit_learns(classes: int) -> None:
    labels = np.random.default_rng(classes).integers(0, classes, 90)
    probabilities = draw(1, classes, labels)
    found = classification_scores(probabilities, labels)
    predicted = probabilities.argmax(1)
    assert found.accuracy == pytest.approx((predicted == labels).mean())
    wanted = label_binarize(labels, classes=range(classes))
    for kind in ("micro", "macro", "weighted"):
        assert getattr(found.f1, kind) == pytest.approx(f1_score(labels, predicted, average=kind))
        assert getattr(found.auc, kind) == pytest.approx(roc_auc_score(wanted, probabilities, average=kind))
    assert found.class_accuracy == pytest.approx(recall_score(labels, predicted, average=None))
    assert found.confusion.sum() == 90
    assert found.confusion[1, 2] == ((labels == 1) & (predicted == 2)).sum()


def test_an_absent_class_is_left_out() -> None:
    labels = np.array([0, 0, 1, 1, 3, 3])  # nobody is 2
    probabilities = draw(0, 4, labels)
    found = classification_scores(probabilities, labels)
    present = [0, 1, 3]
    areas = [roc_auc_score(labels == k, probabilities[:, k]) for k in present]
    assert found.auc.macro == pytest.approx(np.mean(areas))
    assert found.auc.weighted == pytest.approx(np.mean(areas))  # two images each
    assert found.auc.micro == pytest.approx(
        roc_auc_score(label_binarize(labels, classes=range(4)).ravel(), probabilities.ravel())
    )
    assert found.class_accuracy[2] is None
    assert found.confusion.shape == (4, 4)
    assert found.f1.macro == pytest.approx(f1_score(labels, probabilities.argmax(1), average="macro"))


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.0, 0.9]])
    found = classification_scores(probabilities, [0, 0, 1])
    assert found.f1.macro == pytest.approx(1 / 3)  # F1 of 1, 0, 0
    assert found.f1.macro == pytest.approx(f1_score([0, 0, 1], [0, 0, 2], average="macro"))


def test_one_class_alone_has_no_area() -> None:
    found = classification_scores(np.array([[0.7, 0.3], [0.2, 0.8]]), [0, 0])
    assert (found.auc.macro, found.auc.weighted) == (None, None)
    assert found.accuracy == 0.5
    assert classification_scores(np.array([[1.0]]), [0]).auc.micro is None


def test_many_confusions_at_once() -> None:
    rng = np.random.default_rng(3)
    confusions = rng.integers(0, 4, (5, 4, 4)).astype(float)
    confusions[0, 2], confusions[0, :, 2] = 0, 0
    for own, value in zip(confusions, macro_f1(confusions), strict=True):
        truth, predicted = (np.repeat(index, own.astype(int).ravel()) for index in np.indices((4, 4)).reshape(2, -1))
        assert value == pytest.approx(f1_score(truth, predicted, average="macro"))


@pytest.mark.parametrize(
    ("probabilities", "labels", "word"),
    [
        (np.zeros((0, 4)), [], "want probabilities"),
        (np.ones((2, 4)), [0], "want probabilities"),
        (np.array([[np.nan, 1.0]]), [0], "not finite"),
        (np.ones((1, 2)), [2], "2 classes"),
        (np.ones((1, 2)), [-1], "2 classes"),
    ],
)
def test_what_has_no_scores(probabilities: np.ndarray, labels: list[int], word: str) -> None:
    with pytest.raises(RestainError, match=word):
        classification_scores(probabilities, labels)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.float32, np.float64])
def test_recorded_cases_may_have_labels_of_any_kind(shape: tuple[int, ...], kind: type) -> None:
    labels = np.array([0, 1, 2, 2, 1, 0])
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 6)
    expected = classification_scores(probabilities, labels)
    found = her2.scores({}, {"probabilities": probabilities, "labels": labels.astype(kind).reshape(shape)})
    assert (found["confusion"] == expected.confusion).all()
    assert found["macro_auc"] == expected.auc.macro
