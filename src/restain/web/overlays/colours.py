"""Colour maps of overlays, told apart by the colour blind, and their legends."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from restain.web.overlays.base import Entry, hex_colour


def table(name: str, low: float = 0.0, high: float = 1.0) -> NDArray[np.uint8]:
    """256 colours of a map of matplotlib, between two of its places: uint8 [256, 3]."""
    return np.asarray(np.rint(255 * mpl.colormaps[name](np.linspace(low, high, 256))[:, :3]), np.uint8)


def ramp_legend(colours: NDArray[np.uint8], full: float, steps: list[float], unit: str) -> tuple[Entry, ...]:
    """Entries at some values of a map whose last colour means ``full`` or more."""
    entries = []
    for value in steps:
        colour = colours[min(len(colours) - 1, round(value / full * (len(colours) - 1)))]
        more = " and more" if value >= full else ""
        entries.append(Entry(f"{value:,g} {unit}{more}", hex_colour(colour)))
    return tuple(entries)
