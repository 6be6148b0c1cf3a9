"""The numbers of an evaluation as tables: metrics below each other, methods or levels side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from restain.evaluate import REFERENCE, Estimate, Summary
from restain.metrics import METRICS, Direction
from restain.report.sections import Block, Note, Table, Text

ARROWS = {Direction.HIGHER: "\N{NO-BREAK SPACE}↑", Direction.LOWER: "\N{NO-BREAK SPACE}↓", Direction.NEITHER: ""}


def result(summary: Summary) -> list[Block]:
    """Means over all images, what they say, and what must be known of them."""
    confidence = f"{summary.protocol.interval.confidence:.0%}"
    tables = {method: table.overall for method, table in summary.tables.items()}
    if any(name in summary.reference.overall for name in summary.metrics):
        tables[REFERENCE] = summary.reference.overall
    views = [summary.views_text(name) if name in summary.views else "" for name in tables]
    rows = [
        ["Images", "", *[str(len(summary.images))] * len(tables)],
        ["Test-time views", "", *views],
        *_rows(list(tables.values()), summary.metrics),
    ]
    caption = (
        f"Means over images with {confidence} intervals; metrics of whole sets of images have one value and no "
        "interval. ↑ higher is better, ↓ lower is better. Test-time views: how many were averaged for each image."
    )
    blocks: list[Block] = [Table(["Metric", "Unit", *tables], rows, caption, labels=2)]
    if warnings := summary.warnings():
        blocks.append(Note("\n\n".join(warnings), warning=True))
    if verdicts := _verdicts(summary):
        blocks.append(Text(verdicts))
    if notes := summary.notes():
        blocks.append(Note("\n\n".join(notes)))
    if summary.exit_code:
        blocks.append(Note("Some images were left out; they are listed below.", warning=True))
    return blocks


def by_level(summary: Summary) -> list[Block]:
    """A table for each method: all images and each level side by side."""
    blocks: list[Block] = []
    for method, table in summary.tables.items():
        names = ["all", *table.levels]
        columns = [table.overall, *table.levels.values()]
        counts = [next(iter(values.values())) for values in columns]
        rows = [
            ["Images", "", *(str(first.n + first.infinite) for first in counts)],
            *_rows(columns, summary.metrics),
        ]
        if "dab_od_error" in summary.metrics:
            constant = [summary.reference.overall, *summary.reference.levels.values()]
            rows.append(
                [
                    f"{METRICS['dab_od_error'].info.title} of the {REFERENCE}",
                    METRICS["dab_od_error"].info.unit,
                    *(_cell("dab_od_error", values["dab_od_error"]) for values in constant),
                ]
            )
        blocks.append(Table(["Metric", "Unit", *names], rows, method, labels=2))
    return blocks


def number(metric: str, value: float) -> str:
    """A metric's value with as many digits as are worth printing."""
    return "∞" if value == float("inf") else f"{value:.{METRICS[metric].info.decimals}f}"


def _rows(columns: Sequence[Mapping[str, Estimate]], metrics: Sequence[str]) -> list[list[str]]:
    """A row for each metric: its name, its unit, and its value in each column that has one."""
    return [
        [
            f"{METRICS[name].info.title}{ARROWS[METRICS[name].info.direction]}",
            METRICS[name].info.unit,
            *(_cell(name, values[name]) if name in values else "" for values in columns),
        ]
        for name in metrics
    ]


def _cell(metric: str, value: Estimate) -> str:
    """Mean and, on a line of its own, interval."""
    if value.mean is None:
        return "∞" if value.infinite else "no value"
    if value.low is None or value.high is None:
        return number(metric, value.mean)
    return f"{number(metric, value.mean)}\n{number(metric, value.low)} to {number(metric, value.high)}"


def _verdicts(summary: Summary) -> str:
    """For each method, whether it passes the bar that a single colour sets."""
    lines = []
    for method in summary.tables:
        beats = summary.beats_constant(method)
        if beats is not None:
            verdict = "beats the best constant image" if beats else "does not beat the best constant image"
            lines.append(f"{method} {verdict} on DAB error.")
    if not lines:
        return ""
    return f"{' '.join(lines)} That image has one colour everywhere, the best one for these real images."
