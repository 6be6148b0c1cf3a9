"""um/px as users write them in tables."""

from __future__ import annotations

import math

from restain.core.errors import RestainError


def parse_mpp(text: str | None, source: str) -> float | None:
    """The um/px in a table's cell; None where it is empty or missing.

    Args:
        text: the cell.
        source: file, line and column, for the message.

    Raises:
        RestainError: not a finite number above 0.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise RestainError(f"{source} {text!r} is not a number of um/px, such as 0.5.")
    return value
