"""Labels are mapped or refused."""

from __future__ import annotations

import pytest

from restain.core.errors import RestainError
from restain.her2.labels import HER2, ClassSet, her2_level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0", "0"),
        ("1", "1+"),
        ("2", "2+"),
        ("3", "3+"),
        ("1+", "1+"),
        (" 2+ ", "2+"),
        ("2 +", "2+"),
        ("HER2 2+", "2+"),
        ("her2: 3+", "3+"),
        ("IHC 2+", "2+"),
        ("HER-2 IHC 0", "0"),
        ("IHC=1", "1+"),
    ],
)
def test_a_level_in_any_usual_form_is_read(text: str, level: str) -> None:
    assert her2_level(text) == level
    assert HER2.names[HER2.number(text, "here")] == level


@pytest.mark.parametrize(
    "text", ["equivocal", "positive", "low", "", "  ", "4+", "0+", "2+/3+", "2.5", "++", "12", "-1", "ISH 2", "nan"]
)
def test_what_is_no_level_is_refused_and_named(text: str) -> None:
    with pytest.raises(RestainError, match=r"cohort\.csv: line 7"):
        HER2.number(text, "cohort.csv: line 7, patient p")


def test_other_classes_are_named_explicitly() -> None:
    classes = ClassSet.parse("negative=0|1+,positive=2|HER2 3+")
    assert [classes.number(text, "") for text in ("0", "1", "2+", "3")] == [0, 0, 1, 1]
    assert ClassSet.parse(classes.text) == classes
    words = ClassSet.parse("Low,High")
    assert [words.number(text, "") for text in ("low", " HIGH ")] == [0, 1]
    with pytest.raises(RestainError, match="equivocal"):
        words.number("equivocal", "")


@pytest.mark.parametrize("text", ["", "a", "a,a", "a=0|1,b=1|2", "a,,b", "a=0|,b"])
def test_classes_that_cannot_be_told_apart_are_refused(text: str) -> None:
    with pytest.raises(RestainError, match="--classes"):
        ClassSet.parse(text)
