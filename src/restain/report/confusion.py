"""Confusion matrices side by side, one for each classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

COLOURS = "cividis"
"""Dark blue at 0 to yellow at 1: told apart by colour-blind readers and in grey print."""


def confusions(
    matrices: Mapping[str, NDArray[np.float64]],
    classes: Sequence[str],
    columns: int,
    labels: tuple[str, str] = ("true level", "predicted level"),
) -> Callable[[Canvas], None]:
    """What draws the matrices on an empty figure.

    Args:
        matrices: counts [true, predicted] by the classifier's name; means over trainings need not be whole.
        classes: names of the classes.
        columns: how many matrices stand side by side.
        labels: what the rows and the columns are.
    """
    rows = -(-len(matrices) // columns)

    def draw(canvas: Canvas) -> None:
        panels = canvas.subplots(rows, columns, squeeze=False)
        for panel, (name, counts) in zip(panels.flat, matrices.items(), strict=False):
            _matrix(panel, name, counts, classes, labels)
        for panel in panels.flat[len(matrices) :]:
            panel.set_visible(False)

    return draw


def _matrix(
    axes: Axes, name: str, counts: NDArray[np.float64], classes: Sequence[str], labels: tuple[str, str]
) -> None:
    """One matrix: coloured by the share of each true class, with the counts."""
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "black" if shares[row, column] > 0.6 else "white"
        text = f"{count:.1f}".removesuffix(".0")
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel(labels[1])
    axes.set_ylabel(labels[0])
    axes.set_title(name, fontsize=9)
    axes.spines[:].set_visible(False)
