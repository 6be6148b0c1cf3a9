"""One picture for several methods, as in BCI's Fig. 11: a row for each image, a column for each method."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from restain.core.files import atomic_path
from restain.evaluate import Example, Summary
from restain.report.pictures import STYLE

INCHES, DPI = 2.0, 200


def write_comparison(summary: Summary, path: Path) -> None:
    """Write the gallery of an evaluation as one PNG for a paper: H&E if there is one, real, and each method.

    Args:
        summary: the evaluation, with pictures.
        path: the PNG, written atomically.
    """
    examples = summary.pictures.gallery
    he = any(example.he is not None for example in examples)
    columns = [*(["H&E"] if he else []), "real", *summary.tables]
    with mpl.rc_context(STYLE):
        size = (INCHES * len(columns) + 0.3, INCHES * len(examples) + 0.3)
        canvas = Canvas(figsize=size, layout="constrained")
        canvas.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
        grid = canvas.subplots(len(examples), len(columns), squeeze=False)
        for row, example in enumerate(examples):
            for column, image in enumerate(_images(example, he, list(summary.tables))):
                axes = grid[row, column]
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                if image is not None:
                    axes.imshow(image, interpolation="antialiased")
                if row == 0:
                    axes.set_title(columns[column])
            grid[row, 0].set_ylabel(example.role)
        with atomic_path(path) as temporary:
            canvas.savefig(temporary, dpi=DPI, facecolor="white")


def _images(example: Example, he: bool, methods: list[str]) -> list[NDArray[np.uint8] | None]:
    return [*([example.he] if he else []), example.real, *(example.fakes[method] for method in methods)]
