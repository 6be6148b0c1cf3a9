"""Figures and page of a domain analysis (TDKstain's Fig. 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas

from restain.evaluate import Estimate
from restain.evaluate.bootstrap import INTERVAL
from restain.evaluate.domain_results import Domain
from restain.report.charts import COLOURS, LINE
from restain.report.html import write_report
from restain.report.pictures import chart, save_chart
from restain.report.sections import Block, Facts, Figure, Listing, Note, Section, Table, Text
from restain.stains.membrane import THRESHOLDS

DASHES = ("-", "--", "-.", ":")
"""Lines are told apart without colour too."""
PRINTED = (0.10, 0.20, 0.30, 0.40, 0.50)
"""Thresholds of the page's tables; the CSV has all."""
WIDTH = 8.0


def write_domain_report(domain: Domain, out: Path) -> None:
    """Write ``domain.html``, and the figures as PNG and SVG, into folder ``out``.

    Args:
        domain: the analysis.
        out: the folder.

    Raises:
        ItemError: something could not be written.
    """
    for name, (draw, height) in _figures(domain).items():
        for suffix in (".png", ".svg"):
            save_chart(out / f"{name}{suffix}", draw, WIDTH, height)
    count = f"{len(domain.images)} image{'' if len(domain.images) == 1 else 's'}"
    write_report(
        out / "domain.html",
        f"Nuclei and membranes: {', '.join(domain.methods)}",
        domain_sections(domain),
        f"Real minus generated IHC · {count} · analysis of TDKstain (Peng 2024, Fig. 3)",
    )


def domain_sections(domain: Domain) -> list[Section]:
    """The sections of the page, so that another report can take them in."""
    figures = _figures(domain)
    nuclei: list[Block] = []
    if domain.counts:
        draw, height = figures["nuclei"]
        alt = f"Histogram of the difference of nuclei, real minus generated, for {', '.join(domain.methods)}."
        caption = (
            "Share of images by the difference of their nuclei. A method that is right has all of it at 0. "
            "The outermost bars hold what lies beyond, too."
        )
        nuclei = [Figure(chart(draw, alt, WIDTH, height), caption, width=760), _nuclei_table(domain)]
    draw, height = figures["membranes"]
    alt = (
        "Share of stained pixels, real minus generated, against the threshold on DAB saturation, a panel for each "
        f"level, for {', '.join(domain.methods)}."
    )
    caption = "Means over images; bands are their intervals. Above 0 the generated image lacks stain."
    membranes: list[Block] = [Figure(chart(draw, alt, WIDTH, height), caption), _membrane_table(domain)]
    sections = [
        Section("Nuclei", [*([Note("\n\n".join(domain.notes))] if domain.notes else []), *nuclei]),
        Section("Stained membranes", membranes),
    ]
    if domain.failures:
        items = [(f"{f.image} ({f.method})" if f.method else f.image, f.reason) for f in domain.failures]
        sections.append(Section("Left out", [Listing(items, "Could not be compared:")]))
    return [*sections, Section("How it was measured", _facts(domain))]


def _figures(domain: Domain) -> dict[str, tuple[Callable[[Canvas], None], float]]:
    """How each figure is drawn, and its height in inches, by the name of its file."""
    found: dict[str, tuple[Callable[[Canvas], None], float]] = {}
    if domain.counts:
        found["nuclei"] = (lambda canvas: _draw_nuclei(canvas, domain), 3.4)
    rows = -(-len(domain.groups) // 3)
    found["membranes"] = (lambda canvas: _draw_membranes(canvas, domain), 0.5 + 2.4 * rows)
    return found


def _draw_nuclei(canvas: Canvas, domain: Domain) -> None:
    axes = canvas.add_subplot()
    edges = domain.edges()
    for index, method in enumerate(domain.methods):
        found = domain.histogram(method)
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        axes.stairs(found / found.sum(), edges, linewidth=1.8, color=colour, linestyle=dash, label=method)
    axes.axvline(0, color=LINE, linewidth=1, zorder=0)
    axes.set_xlabel("nuclei in an image, real minus generated")
    axes.set_ylabel("share of images")
    axes.set_ylim(bottom=0)
    axes.set_xlim(edges[0], edges[-1])
    canvas.legend(loc="outside upper left", frameon=False, ncols=4)


def _draw_membranes(canvas: Canvas, domain: Domain) -> None:
    groups = domain.groups
    columns = min(3, len(groups))
    panels = canvas.subplots(-(-len(groups) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for number, (panel, level) in enumerate(zip(panels.flat, groups, strict=False)):
        panel.axhline(0, color=LINE, linewidth=1, zorder=0)
        for index, method in enumerate(domain.methods):
            curve = domain.membranes[method, level]
            colour = COLOURS[index % len(COLOURS)]
            means, low, high = (np.array(values) for values in zip(*map(_bounds, curve.estimates), strict=True))
            panel.fill_between(THRESHOLDS, low, high, color=colour, alpha=0.15, linewidth=0)
            label = method if number == 0 else None
            panel.plot(THRESHOLDS, means, DASHES[index % len(DASHES)], color=colour, linewidth=1.8, label=label)
        n = domain.membranes[domain.methods[0], level].estimates[0].n
        panel.set_title(f"{_level(level)}, {n} image{'' if n == 1 else 's'}", fontsize=9)
        panel.set_xlim(THRESHOLDS[0] - 0.01, THRESHOLDS[-1] + 0.01)
        panel.set_xticks(PRINTED)
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
        # The panel above an empty place is the last of its column.
        panels[-2, list(panels[-1]).index(panel)].tick_params(labelbottom=True)
    canvas.supxlabel("threshold on DAB saturation", fontsize=9)
    for panel in panels[:, 0]:
        panel.set_ylabel("share of pixels above it,\nreal minus generated")
    canvas.legend(loc="outside upper left", frameon=False, ncols=4)


def _bounds(value: Estimate) -> tuple[float, float, float]:
    """Mean and interval; a single image has none, and its band no width."""
    mean = value.mean or 0.0
    return mean, mean if value.low is None else value.low, mean if value.high is None else value.high


def _nuclei_table(domain: Domain) -> Table:
    rows = []
    for level in domain.groups:
        for method in domain.methods:
            count = domain.counts.get((method, level))
            if count is None:
                rows.append([_level(level), method, "0", "not counted", ""])
                continue
            mean = _text(count.difference, 1, 1)
            rows.append([_level(level), method, str(count.difference.n), mean, f"{count.absolute:.1f}"])
    columns = ["Level", "Method", "Images", "Nuclei in an image\nreal minus generated", "Mean absolute\ndifference"]
    return Table(columns, rows, "Means over images with intervals.", labels=2, strong=_strong(domain))


def _membrane_table(domain: Domain) -> Table:
    places = [THRESHOLDS.index(threshold) for threshold in PRINTED]
    rows = []
    for level in domain.groups:
        for method in domain.methods:
            curve = domain.membranes[method, level]
            cells = [_text(curve.estimates[place], 100, 2) for place in places]
            rows.append([_level(level), method, str(curve.estimates[0].n), *cells])
    columns = ["Level", "Method", "Images", *(f"above {threshold:.2f}\n% of pixels" for threshold in PRINTED)]
    caption = "Pixels above a threshold in % of the image, real minus generated: means over images with intervals."
    return Table(columns, rows, caption, labels=2, strong=_strong(domain))


def _strong(domain: Domain) -> Sequence[int]:
    """The rows of all levels together, where there are others."""
    return range(len(domain.methods)) if domain.levels else ()


def _text(value: Estimate, factor: float, digits: int) -> str:
    if value.mean is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.mean * factor:.{digits}f}"
    return f"{value.mean * factor:.{digits}f}\n{value.low * factor:.{digits}f} to {value.high * factor:.{digits}f}"


def _level(level: str | None) -> str:
    return "all" if level is None else f"level {level}"


def _facts(domain: Domain) -> list[Block]:
    resolutions = sorted({row.mpp for row in domain.rows if row.mpp is not None})
    facts = {
        "Difference": "real minus generated, image by image",
        "Nuclei": f"detector {domain.detector}, in both images alike" if domain.counts else "not counted",
        "um/px": ", ".join(f"{value:g}" for value in resolutions) or "not known",
        "Membranes": (
            "share of pixels whose saturation (HSV, of the picture with its DAB alone) is above a threshold, "
            f"{THRESHOLDS[0]:.2f} to {THRESHOLDS[-1]:.2f} in steps of 0.02"
        ),
        "Intervals": (
            f"{INTERVAL.confidence:.0%}, percentile bootstrap over {domain.resampled}s, {INTERVAL.resamples} samples, "
            f"seed {INTERVAL.seed}"
        ),
        **{f"Folder: {name}": folder for name, folder in domain.folders.items()},
    }
    caution = (
        "Levels are as the dataset names them, often the slide's and not the patch's. A mean near 0 may be errors that "
        "cancel: look at the mean absolute difference, and at images.csv."
    )
    return [Facts(facts), Text(caution)]
