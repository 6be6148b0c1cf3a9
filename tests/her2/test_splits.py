"""Splits by patient."""

from __future__ import annotations

from collections import Counter

import pytest

from restain.core.errors import RestainError
from restain.her2.splits import make_plan, require_disjoint

CLASSES = ("0", "1+", "2+", "3+")


def test_seven_to_three_and_five_folds_with_every_class_in_equal_shares() -> None:
    labels = {f"p{n}": n % 4 for n in range(160)}
    plan = make_plan(labels, CLASSES, 5, 0.3, seed=3)
    assert len(plan.test) == 48
    assert set(Counter(labels[name] for name in plan.test).values()) == {12}
    everyone = [name for part in (plan.test, *plan.folds) for name in part]
    assert sorted(everyone) == sorted(labels)  # each patient once
    for fold in plan.folds:
        counts = Counter(labels[name] for name in fold)
        assert all(counts[k] in (5, 6) for k in range(4))
    assert not plan.warnings
    assert not set(plan.training(2)) & (set(plan.folds[2]) | set(plan.test))


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_patients() -> None:
    labels = {f"p{n:02d}": n % 4 for n in range(40)}
    backwards = dict(reversed(labels.items()))
    assert make_plan(labels, CLASSES, 5, 0.3, 1) == make_plan(backwards, CLASSES, 5, 0.3, 1)
    assert make_plan(labels, CLASSES, 5, 0.3, 1) != make_plan(labels, CLASSES, 5, 0.3, 2)


def test_a_class_that_is_missing_from_a_fold_is_said() -> None:
    labels = {f"p{n}": 0 if n < 20 else 1 for n in range(23)}  # three patients of class 1 for six parts
    plan = make_plan(labels, ("0", "1"), 5, 0.3, 0)
    assert any("no patient of class 1" in line for line in plan.warnings)


def test_a_fold_that_cannot_learn_a_class_is_said() -> None:
    labels = {f"p{n}": 0 if n < 10 else 1 if n < 20 else 2 for n in range(22)}  # two of class 2: one tests, one learns
    plan = make_plan(labels, ("0", "1", "2"), 3, 0.3, 0)
    assert sum("learns nothing of class 2" in line for line in plan.warnings) == 1


def test_the_cohorts_own_split_is_kept() -> None:
    labels = {f"p{n}": n % 2 for n in range(20)}
    given = {name: "test" if int(name[1:]) >= 14 else "train" for name in labels}
    plan = make_plan(labels, ("a", "b"), 3, 0.3, 0, given)
    assert set(plan.test) == {f"p{n}" for n in range(14, 20)}
    assert plan.given


def test_a_class_that_nobody_has_is_said_once() -> None:
    labels = {f"p{n}": n % 2 for n in range(40)}
    (warning,) = make_plan(labels, ("0", "1", "3+"), 3, 0.3, 0).warnings
    assert "no patient of the cohort is of class 3+" in warning
    assert "--classes" in warning


def test_the_cohorts_own_split_is_named_where_it_makes_no_plan() -> None:
    labels = {f"p{n}": n % 2 for n in range(20)}
    with pytest.raises(RestainError, match=r"column split: names 0 patients to test"):
        make_plan(labels, ("a", "b"), 3, 0.3, 0, dict.fromkeys(labels, "train"))
    given = {name: "test" if labels[name] else "train" for name in labels}
    given["p1"] = given["p3"] = given["p5"] = given["p7"] = "val"
    (warning,) = make_plan(labels, ("a", "b"), 3, 0.3, 0, given).warnings
    assert "the final test: no patient of class a (column split has it so)" in warning


def test_a_patient_in_two_splits_is_refused_by_name() -> None:
    with pytest.raises(RestainError, match=r"anna \(train and test\)"):
        require_disjoint({"train": ["anna", "bert"], "val": ["carl"], "test": ["anna"]})


@pytest.mark.parametrize(("patients", "folds"), [(5, 5), (40, 1), (3, 2)])
def test_what_cannot_be_split_is_refused(patients: int, folds: int) -> None:
    with pytest.raises(RestainError):
        make_plan({f"p{n}": 0 if n else 1 for n in range(patients)}, ("a", "b"), folds, 0.3, 0)
