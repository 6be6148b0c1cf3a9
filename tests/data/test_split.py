"""Splits by patient and slide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from restain.core.errors import RestainError
from restain.data import PairRecord, split_groups, split_records

FRACTIONS = {"train": 0.7, "val": 0.1, "test": 0.2}


def record(name, patient=None, slide=None, level=None, split="train"):
    return PairRecord(name, Path("he"), Path("ihc"), level, split, slide, patient)


@pytest.fixture
def cohort():
    return [record(f"{p}-{i}", f"p{p}", f"p{p}s{i % 2}", str(p % 4)) for p in range(40) for i in range(5)]


def test_no_patient_is_torn_apart_and_levels_are_spread(cohort):
    result = split_records(cohort, "patient", FRACTIONS, seed=1)
    assert result.by == "patient"
    assert result.warnings == ()
    splits = {}
    for entry in result.records:
        assert splits.setdefault(entry.patient, entry.split) == entry.split
    assert Counter(splits.values()) == {"train": 28, "val": 4, "test": 8}
    for level in "0123":
        counts = Counter(splits[f"p{p}"] for p in range(40) if str(p % 4) == level)
        assert counts == {"train": 7, "val": 1, "test": 2}


def test_same_seed_same_split_whatever_the_order(cohort):
    one = split_records(cohort, "patient", FRACTIONS, seed=1).records
    two = split_records(cohort[::-1], "patient", FRACTIONS, seed=1).records
    other = split_records(cohort, "patient", FRACTIONS, seed=2).records
    assert {r.name: r.split for r in one} == {r.name: r.split for r in two}
    assert {r.name: r.split for r in one} != {r.name: r.split for r in other}
    assert [r.name for r in one] == [r.name for r in cohort]


def test_by_slide_may_divide_patients(cohort):
    result = split_records(cohort, "slide", FRACTIONS)
    slides = {}
    for entry in result.records:
        assert slides.setdefault(entry.slide, entry.split) == entry.split
    assert len(slides) == 80


def test_unknown_origin_keeps_the_given_split_and_warns(capsys):
    records = [record(str(i), split="test" if i % 2 else "train") for i in range(6)]
    result = split_records(records, "patient", FRACTIONS)
    assert result.by == "given"
    assert list(result.records) == records
    assert "cannot be told apart" in result.warnings[0]
    assert "cannot be told apart" in " ".join(capsys.readouterr().err.split())


def test_slides_stand_in_for_patients():
    records = [record(str(i), slide=f"s{i // 2}") for i in range(20)]
    result = split_records(records, "patient", FRACTIONS)
    assert result.by == "slide"
    assert "patients are not known" in result.warnings[0]


def test_by_patch_warns(cohort):
    result = split_records(cohort, "patch", FRACTIONS)
    assert Counter(entry.split for entry in result.records) == {"train": 140, "val": 20, "test": 40}
    assert "by patch" in result.warnings[0]


def test_few_groups_leave_no_split_empty_where_possible():
    for count in (3, 4, 5, 8):
        chosen = split_groups({f"p{i}": str(i % 4) for i in range(count)}, FRACTIONS)
        assert set(chosen.values()) == {"train", "val", "test"}
    for levels in (("0", "0"), ("0", "1")):
        result = split_records(
            [record("a", "p1", None, levels[0]), record("b", "p2", None, levels[1])], "patient", FRACTIONS
        )
        assert {entry.split for entry in result.records} == {"train", "test"}
        assert result.warnings == ("2 patients are too few for split val, which is empty.",)


@pytest.mark.parametrize("fractions", [{"train": 0.7, "test": 0.7}, {"train": 1.5, "test": -0.5}, {}])
def test_fractions_must_add_up(fractions):
    with pytest.raises(RestainError, match="add up to 1"):
        split_groups({"p": "0"}, fractions)
