"""Charts of a patch-pair dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from restain.core.errors import RestainError
from restain.report.charts import COLOURS, LINE
from restain.report.pictures import save_chart


def draw_levels(stats: Mapping[str, Any], path: Path) -> None:
    """Draw how many slides and how many patches a dataset has of each level, by split (the BCI paper's figure 8).

    Args:
        stats: as ``data.dataset_stats`` gives it.
        path: the file to write: .png, .svg or .pdf.

    Raises:
        RestainError: the dataset has no pairs, or another suffix.
        ItemError: the file cannot be written.
    """
    splits: Mapping[str, Mapping[str, Any]] = stats["splits"]
    if not stats["pairs"]:
        raise RestainError(f"{stats['root']}: no pairs to draw by level.")

    def draw(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2)
        order = [*stats["levels"], "unknown"]
        _bars(left, order, {name: split["slide_levels"] for name, split in splits.items()}, "slides (WSIs)")
        _bars(right, order, {name: split["levels"] for name, split in splits.items()}, "patch pairs")
        if len(splits) > 1:
            handles, labels = right.get_legend_handles_labels()
            canvas.legend(handles, labels, loc="outside upper left", frameon=False, ncols=len(splits))

    save_chart(path, draw)


def _bars(axes: Axes, order: Sequence[str], counts: Mapping[str, Mapping[str, int]], what: str) -> None:
    """A bar for each level, the splits on top of each other, the sum above."""
    levels = [level for level in order if any(level in split for split in counts.values())]
    sums = [0] * len(levels)
    for index, (name, split) in enumerate(counts.items()):
        heights = [split.get(level, 0) for level in levels]
        axes.bar(range(len(levels)), heights, 0.7, sums, color=COLOURS[index % len(COLOURS)], alpha=0.85, label=name)
        sums = [low + height for low, height in zip(sums, heights, strict=True)]
    for place, total in enumerate(sums):
        axes.annotate(f"{total:,}", (place, total), (0, 2), textcoords="offset points", ha="center", va="bottom")
    axes.set_title(f"{sum(sums):,} {what}" if levels else "")
    if levels:
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlabel("level")
        axes.set_ylabel(what)
        axes.set_ylim(0, max(sums) * 1.12 or 1)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_axis_off()
        text = f"{what}: not known\n(pairs.csv, column slide)"
        axes.text(0.5, 0.5, text, ha="center", va="center", color=LINE, transform=axes.transAxes)
