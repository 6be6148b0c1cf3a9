"""Charts of an evaluation's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from restain.evaluate import Summary
from restain.metrics import METRICS
from restain.report.pictures import DIVERGING, Picture, chart

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
MARKERS = "os^Dv*P"
LINE = "#8a949c"

# Single values are drawn up to this many in a box; beyond, the box says more than a cloud.
POINTS = 60
# Fewer values than this have no quartiles worth drawing.
FEWEST = 5


def heading(metric: str) -> str:
    """Title and unit of a metric: ``PSNR (dB)``."""
    info = METRICS[metric].info
    return f"{info.title} ({info.unit})" if info.unit else info.title


def distribution(summary: Summary, metric: str) -> Picture:
    """Box plots of ``metric`` over all images and by level, one box for each method; infinite values are left out."""
    shown = set(summary.images)
    groups: list[tuple[str, Callable[[str | None], bool]]] = [("all", lambda _: True)]
    groups += [(level, _is(level)) for level in summary.levels]

    def values(method: str, wanted: Callable[[str | None], bool]) -> list[float]:
        rows = (row for row in summary.rows if row.method == method and row.image in shown and wanted(row.level))
        return [row.values[metric] for row in rows if np.isfinite(row.values[metric])]

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        step = 0.8 / len(summary.tables)
        for index, method in enumerate(summary.tables):
            offset = (index - (len(summary.tables) - 1) / 2) * step
            places = [place + offset for place in range(len(groups))]
            boxes = [values(method, wanted) for _, wanted in groups]
            _boxes(axes, boxes, places, step * 0.7, COLOURS[index % len(COLOURS)], method)
        if metric in summary.reference.overall:
            mean = summary.reference.overall[metric].mean
            if mean is not None:
                axes.axhline(mean, color="black", linewidth=1, linestyle="--", label="best constant image, mean")
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_xticks(range(len(groups)), [name for name, _ in groups])
        axes.set_xlabel("level" if summary.levels else "")
        axes.set_ylabel(heading(metric))
        _legend(canvas, axes, summary, metric)

    by = " by level" if summary.levels else ""
    return chart(draw, f"Box plots of {heading(metric)} over all images{by} for {', '.join(summary.tables)}.")


def staining(summary: Summary) -> Picture:
    """Mean DAB of the generated image against that of the real one, a point for each image; the line is equality."""
    shown = set(summary.images)

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        top = 0.0
        for index, method in enumerate(summary.tables):
            rows = [row for row in summary.rows if row.method == method and row.image in shown]
            real = [row.values["dab_mean_real"] for row in rows]
            fake = [row.values["dab_mean_fake"] for row in rows]
            top = max(top, *real, *fake)
            axes.scatter(
                real,
                fake,
                s=22,
                alpha=0.75,
                linewidths=0,
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                label=method,
            )
        end = top * 1.06 or 1.0
        axes.plot([0, end], [0, end], color=LINE, linewidth=1, zorder=0)
        axes.set(
            xlim=(0, end),
            ylim=(0, end),
            aspect="equal",
            xlabel="mean DAB, real (HED)",
            ylabel="mean DAB, generated (HED)",
        )
        if len(summary.tables) > 1:
            canvas.legend(loc="outside right upper", frameon=False)

    names = ", ".join(summary.tables)
    alt = f"Mean DAB of each generated image against its real image for {names}; points on the diagonal match."
    return chart(draw, alt, width=4.6 if len(summary.tables) == 1 else 6.2, height=4.0)


def difference_scale(limit: float) -> Picture:
    """The colours of DAB difference maps whose colour is full at ``limit`` HED units."""

    def draw(canvas: Canvas) -> None:
        colours = ScalarMappable(Normalize(-limit or -1, limit or 1), DIVERGING)
        bar = canvas.colorbar(colours, cax=canvas.add_subplot(), orientation="horizontal")
        bar.locator = MaxNLocator(5)
        bar.set_label("DAB, generated minus real (HED)")
        bar.outline.set_visible(False)

    alt = f"Colour scale of DAB differences: purple at {-limit:.3f}, white at 0, brown at {limit:.3f} HED."
    return chart(draw, alt, width=4.0, height=0.62)


def _is(level: str) -> Callable[[str | None], bool]:
    return lambda own: own == level


def _boxes(
    axes: Axes, boxes: Sequence[Sequence[float]], places: Sequence[float], width: float, colour: str, label: str
) -> None:
    """Boxes at ``places`` with their values beside the middle line where these are few."""
    axes.plot([], [], color=colour, linewidth=6, alpha=0.5, label=label)
    for box, place in zip(boxes, places, strict=True):
        if len(box) >= FEWEST:
            axes.boxplot(
                list(box),
                positions=[place],
                widths=width,
                manage_ticks=False,
                patch_artist=True,
                showfliers=len(box) > POINTS,
                boxprops={"facecolor": colour, "alpha": 0.22, "edgecolor": colour},
                medianprops={"color": colour, "linewidth": 2},
                whiskerprops={"color": colour},
                capprops={"color": colour},
                flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour, "markerfacecolor": colour},
            )
        if len(box) <= POINTS:
            # Spread evenly over the box's width, so that the same values always give the same picture.
            spread = ((np.arange(len(box)) * 0.618 + 0.5) % 1 - 0.5) * width * 0.6
            axes.plot(place + spread, box, ".", color=colour, markersize=4 if len(box) >= FEWEST else 7, alpha=0.8)


def _legend(canvas: Canvas, axes: Axes, summary: Summary, metric: str) -> None:
    """A legend above the axes, where there is more than one thing to tell apart."""
    if len(summary.tables) > 1 or metric in summary.reference.overall:
        handles, labels = axes.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper left", frameon=False, ncols=4)
