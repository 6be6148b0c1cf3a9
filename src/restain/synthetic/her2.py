"""HER2 by the ASCO/CAP rule: from the membrane classes of the tumour cells to the level, and back.

Wolff et al. 2018 (ASCO/CAP focused update, doi 10.1200/JCO.2018.77.8738) and its 2023 affirmation. Membrane classes
of a cell: 0 none, 1 faint or barely perceptible and incomplete, 2 weak to moderate and complete, 3 intense and
complete.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = ("0", "1+", "2+", "3+")
CUT_OFF = 0.10
"""A staining pattern counts when it is seen in more than this share of the invasive tumour cells."""


def asco_cap_level(shares: Sequence[float]) -> str:
    """The level of a tumour.

    Args:
        shares: share of tumour cells in membrane class 0, 1, 2 and 3; they add up to 1.

    Returns:
        "3+" where intense complete staining is in more than 10 % of the cells; "2+" where complete staining is in more
        than 10 % or intense complete staining in 10 % or fewer; "1+" where any staining is in more than 10 %; else "0".

    Raises:
        ValueError: ``shares`` are not four shares of a whole.
    """
    if len(shares) != 4 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares of the four membrane classes must add up to 1, got {list(shares)}")
    _, faint, complete, intense = shares
    if intense > CUT_OFF:
        return "3+"
    if complete + intense > CUT_OFF or intense > 0:
        return "2+"
    if faint + complete > CUT_OFF:
        return "1+"
    return "0"


def sample_shares(level: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Shares of the membrane classes for a level, spread over the range the rule allows.

    A margin of two points to each cut-off is kept, so that the shares counted on the finished slide give the level.

    Args:
        level: index into ``LEVELS``.
        rng: the patient's generator.

    Returns:
        Shares of class 0, 1, 2 and 3.
    """
    margin = 0.02
    intense = complete = 0.0
    if level == 0:
        faint = rng.uniform(0.0, CUT_OFF - margin)
    elif level == 1:
        faint = rng.uniform(CUT_OFF + margin, 0.75)
        complete = rng.uniform(0.0, min(CUT_OFF - margin, 0.12 * faint + 0.01))
    elif level == 2:
        complete = CUT_OFF + margin + (0.75 - CUT_OFF - margin) * rng.beta(1.4, 1.4)
        intense = rng.uniform(0.0, CUT_OFF - margin) * float(rng.random() < 0.5)
        faint = (1 - complete - intense) * rng.uniform(0.3, 0.8)
    else:
        intense = CUT_OFF + margin + (0.95 - CUT_OFF - margin) * rng.beta(2.2, 1.2)
        complete = (1 - intense) * rng.uniform(0.3, 0.7)
        faint = (1 - intense - complete) * rng.uniform(0.3, 0.8)
    return (1 - faint - complete - intense, faint, complete, intense)


def class_thresholds(scores: NDArray[np.float32], shares: Sequence[float]) -> tuple[float, float, float]:
    """Cut-offs of the expression score that give the membrane classes their shares on these cells.

    Args:
        scores: expression score of every tumour cell of the IHC slide.
        shares: wanted share of class 0, 1, 2, 3.

    Returns:
        Lowest score of class 1, 2 and 3 (infinite where a class is to stay empty).
    """
    bounds = np.cumsum(shares[:3])
    ordered = np.sort(scores)
    cuts = []
    for bound, above in zip(bounds, (shares[1:], shares[2:], shares[3:]), strict=True):
        rank = round(float(bound) * len(ordered))
        cuts.append(float(ordered[rank]) if sum(above) > 0 and rank < len(ordered) else float("inf"))
    return cuts[0], cuts[1], cuts[2]


def membrane_class(scores: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.uint8]:
    """The membrane class (0 to 3) of each score."""
    return np.searchsorted(np.asarray(thresholds, dtype=np.float64), scores, side="right").astype(np.uint8)
