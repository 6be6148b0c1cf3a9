"""The HER2 score of a tumour from the shares of its cells: ASCO/CAP 2018, affirmed in 2023.

Source: Wolff et al. 2018 (focused update, doi 10.1200/JCO.2018.77.8738) and 2023 (doi 10.1200/JCO.22.02864); the words
are our own. The classes of a cell are those of the guideline: 0 no staining; 1 faint, barely perceptible, incomplete;
2 weak to moderate, complete; 3 intense, complete. A pattern decides when more than 10 % of the invasive tumour cells
show it (exactly 10 % is not more). What follows from a score is the challenge review's Fig. 3 (BCI, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

LEVELS = ("0", "1+", "2+", "3+")

CUT_OFF = 10.0
"""Percent of the tumour cells that must be exceeded."""

INTENSE_FLOOR = 1.0
"""Percent of intense cells, of at most ``CUT_OFF``, from which on they make a 2+.

The guideline names no lower bound, but it speaks of what is seen: debris, pigment and a stained stromal cell that was
taken for tumour give up to so many."""

FAINT_FLOOR = 3.0
"""Percent of stained cells, of at most ``CUT_OFF``, from which on a 0 is ultralow: fewer are within the error."""


class Expression(Enum):
    """How much HER2 there is, finer than the score: what antibody-drug conjugates are given by."""

    null = "null"
    ultralow = "ultralow"
    low = "low"
    low_if_ish_negative = "low if ISH is negative"
    positive = "positive"


@dataclass(frozen=True)
class Her2Score:
    """A score and what follows from it.

    Attributes:
        score: "0", "1+", "2+" or "3+".
        status: "negative", "equivocal" or "positive".
        expression: HER2-null, -ultralow, -low, positive; a 2+ is low where ISH finds no amplification.
        reason: which share decided.
        next_step: what is done with such a score.
    """

    score: str
    status: str
    expression: Expression
    reason: str
    next_step: str


_NEXT = {
    "0": "HER2 negative: no ISH is asked for.",
    "1+": "HER2 negative: no ISH is asked for; counts as HER2-low.",
    "2+": "Equivocal: test by ISH (on the same specimen), or repeat IHC or ISH on a new specimen where there is one.",
    "3+": "HER2 positive: no ISH is asked for.",
}


def her2_score(percent: Sequence[float]) -> Her2Score:
    """The score of a tumour.

    Args:
        percent: of the invasive tumour cells in class 0, 1, 2 and 3; they add up to 100.

    Returns:
        3+ where intense complete staining is in more than 10 %; else 2+ where complete staining (weak to moderate, and
        intense with it) is in more than 10 %, or intense complete staining in ``INTENSE_FLOOR`` to 10 %; else 1+ where
        any staining is in more than 10 %; else 0.

    Raises:
        ValueError: ``percent`` are not four shares of 100.
    """
    if len(percent) != 4 or not min(percent) >= 0 or not abs(sum(percent) - 100) < 1e-3:
        raise ValueError(f"percentages of the four classes must add up to 100, got {list(percent)}")
    _, faint, complete, intense = (float(value) for value in percent)
    if _more(intense):
        return _result("3+", "positive", Expression.positive, f"{intense:.1f} % of cells intense and complete (> 10 %)")
    if _more(complete + intense):
        reason = f"{complete + intense:.1f} % of cells complete (> 10 %), {intense:.1f} % intense"
        return _result("2+", "equivocal", Expression.low_if_ish_negative, reason)
    if intense >= INTENSE_FLOOR:
        reason = f"{intense:.1f} % of cells intense and complete (at most 10 %)"
        return _result("2+", "equivocal", Expression.low_if_ish_negative, reason)
    stained = faint + complete + intense
    if _more(stained):
        reason = f"{stained:.1f} % of cells stained (> 10 %), {complete + intense:.1f} % complete"
        return _result("1+", "negative", Expression.low, reason)
    expression = Expression.ultralow if stained >= FAINT_FLOOR else Expression.null
    return _result("0", "negative", expression, f"{stained:.1f} % of cells stained (at most 10 %)")


def _more(percent: float) -> bool:
    """Whether it exceeds the cut-off; sums of shares that are 10 by arithmetic do not, whatever their last bit."""
    return percent > CUT_OFF + 1e-9


def _result(score: str, status: str, expression: Expression, reason: str) -> Her2Score:
    return Her2Score(score, status, expression, reason, _NEXT[score])
