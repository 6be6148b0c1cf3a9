"""The ASCO/CAP rule against a table of cases worked out by hand from the guideline's text."""

from __future__ import annotations

import pytest

from restain.stains.her2_rule import CUT_OFF, FAINT_FLOOR, INTENSE_FLOOR, Expression, her2_score

CASES = [
    # 0, faint, complete, intense -> score, expression
    ((100, 0, 0, 0), "0", Expression.null),
    ((98, 2, 0, 0), "0", Expression.null),
    ((97, 3, 0, 0), "0", Expression.ultralow),
    ((91, 9, 0, 0), "0", Expression.ultralow),
    ((90, 10, 0, 0), "0", Expression.ultralow),  # exactly 10 % is not more than 10 %
    ((89.9, 10.1, 0, 0), "1+", Expression.low),
    ((0, 100, 0, 0), "1+", Expression.low),
    ((94, 0, 6, 0), "0", Expression.ultralow),
    ((90, 0, 10, 0), "0", Expression.ultralow),
    ((88, 4, 8, 0), "1+", Expression.low),  # neither alone exceeds the cut-off, all staining together does
    ((40, 50, 10, 0), "1+", Expression.low),
    ((40, 49.9, 10.1, 0), "2+", Expression.low_if_ish_negative),
    ((0, 0, 100, 0), "2+", Expression.low_if_ish_negative),
    ((85, 5, 0, 10), "2+", Expression.low_if_ish_negative),  # intense in 10 % or fewer
    ((99, 0, 0, 1), "2+", Expression.low_if_ish_negative),
    ((99.5, 0, 0, 0.5), "0", Expression.null),  # below what can be told from debris
    ((80, 19.5, 0, 0.5), "1+", Expression.low),
    ((80, 10, 5, 5), "2+", Expression.low_if_ish_negative),
    ((89.9, 0, 0, 10.1), "3+", Expression.positive),
    ((50, 20, 19, 11), "3+", Expression.positive),
    ((0, 0, 0, 100), "3+", Expression.positive),
]


@pytest.mark.parametrize(("percent", "score", "expression"), CASES)
def test_table_of_cases(percent: tuple[float, ...], score: str, expression: Expression) -> None:
    found = her2_score(percent)
    assert (found.score, found.expression) == (score, expression)


def test_the_cut_offs_are_the_guidelines() -> None:
    assert CUT_OFF == 10
    assert INTENSE_FLOOR <= 1
    assert FAINT_FLOOR < CUT_OFF


def test_what_follows() -> None:
    assert "ISH" in her2_score((40, 30, 30, 0)).next_step
    assert "new specimen" in her2_score((40, 30, 30, 0)).next_step
    assert her2_score((40, 30, 30, 0)).status == "equivocal"
    assert her2_score((40, 30, 0, 30)).status == "positive"
    assert her2_score((40, 60, 0, 0)).status == her2_score((100, 0, 0, 0)).status == "negative"


def test_the_reason_names_the_share_that_decided() -> None:
    assert "31.5 %" in her2_score((40, 28.5, 0, 31.5)).reason
    assert "12.0 %" in her2_score((80, 8, 4, 8)[:4]).reason  # 4 + 8 complete


def test_more_of_a_stronger_class_never_lowers_the_score() -> None:
    order = ["0", "1+", "2+", "3+"]
    for weaker in range(3):
        scores = []
        for moved in range(0, 101, 5):
            percent = [0.0, 0.0, 0.0, 0.0]
            percent[weaker], percent[weaker + 1] = 100 - moved, moved
            scores.append(order.index(her2_score(percent).score))
        assert scores == sorted(scores)


@pytest.mark.parametrize(
    "percent", [(50, 50), (50, 20, 20, 20), (-1, 101, 0, 0), (float("nan"), 50, 25, 25), (0.5, 0.5, 0, 0)]
)
def test_shares_that_are_none_are_refused(percent: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="100"):
        her2_score(percent)
