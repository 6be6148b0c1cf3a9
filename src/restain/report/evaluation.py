"""The report of an evaluation: tables, distributions, pictures, what was left out, and the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restain.evaluate import REFERENCE, Estimate, Example, Summary
from restain.metrics import METRICS, Direction
from restain.report.charts import FEWEST, difference_scale, distribution, heading, staining
from restain.report.comparison import write_comparison
from restain.report.html import write_report
from restain.report.pictures import Picture, photo, signed_map
from restain.report.sections import (
    Block,
    Facts,
    Figure,
    Listing,
    Note,
    PictureRow,
    PictureTable,
    Section,
    Table,
    Text,
)

ARROWS = {Direction.HIGHER: "\N{NO-BREAK SPACE}↑", Direction.LOWER: "\N{NO-BREAK SPACE}↓", Direction.NEITHER: ""}
ROLES = {"best": "Best", "median": "Median", "worst": "Worst"}


def write_evaluation_report(summary: Summary, path: Path) -> None:
    """Write the report of an evaluation, and beside it ``comparison.png`` where there are pictures.

    Args:
        summary: the evaluation.
        path: the HTML file, written atomically.

    Raises:
        ItemError: it could not be written.
    """
    protocol = summary.protocol
    write_report(
        path,
        f"Virtual against real: {', '.join(summary.tables)}",
        evaluation_sections(summary),
        f"Protocol {protocol.name} v{protocol.version} ({protocol.hash}) · {_images(len(summary.images))}",
    )
    if summary.pictures.gallery:
        write_comparison(summary, path.with_name("comparison.png"))


def evaluation_sections(summary: Summary) -> list[Section]:
    """The sections of the report, so that another report can take them in."""
    sections = [Section("Result", _result(summary))]
    if summary.levels:
        sections.append(Section("By level", _by_level(summary)))
    sections.append(Section("Distributions", _distributions(summary)))
    if summary.pictures.gallery:
        sections.append(Section("Pictures", _gallery(summary)))
    if summary.pictures.extremes:
        sections.append(Section("Worst, median and best", _extremes(summary)))
    if summary.exit_code:
        sections.append(Section("Left out", _left_out(summary)))
    sections.append(Section("Protocol", _protocol(summary)))
    return sections


def _result(summary: Summary) -> list[Block]:
    confidence = f"{summary.protocol.interval.confidence:.0%}"
    rows = [
        [method, str(len(summary.images)), summary.views_text(method), *_cells(table.overall, summary.metrics)]
        for method, table in summary.tables.items()
    ]
    if _has_reference(summary):
        rows.append([REFERENCE, str(len(summary.images)), "", *_cells(summary.reference.overall, summary.metrics)])
    caption = (
        f"Means over images with {confidence} intervals. ↑ higher is better, ↓ lower is better. Views: how many "
        "test-time views were averaged for each image."
    )
    blocks: list[Block] = [Table(["Method", "Images", "Views", *_headings(summary)], rows, caption)]
    if warnings := summary.warnings():
        blocks.append(Note("\n\n".join(warnings), warning=True))
    if verdicts := _verdicts(summary):
        blocks.append(Text(verdicts))
    if notes := summary.notes():
        blocks.append(Note("\n\n".join(notes)))
    if summary.exit_code:
        blocks.append(Note("Some images were left out; they are listed below.", warning=True))
    return blocks


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


def _by_level(summary: Summary) -> list[Block]:
    several = len(summary.tables) > 1
    rows: list[list[str]] = []
    strong: list[int] = []
    for level in (None, *summary.levels):
        for method, table in summary.tables.items():
            values = table.overall if level is None else table.levels[level]
            if level is None:
                strong.append(len(rows))
            first = next(iter(values.values()))
            name = ["all" if level is None else level, *([method] if several else [])]
            rows.append([*name, str(first.n + first.infinite), *_cells(values, summary.metrics)])
        reference = summary.reference.overall if level is None else summary.reference.levels[level]
        if several and _has_reference(summary):
            first = next(iter(reference.values()))
            rows.append(
                [
                    "all" if level is None else level,
                    REFERENCE,
                    str(first.n + first.infinite),
                    *_cells(reference, summary.metrics),
                ]
            )
    columns = ["Level", *(["Method"] if several else []), "Images", *_headings(summary)]
    return [Table(columns, rows, labels=2 if several else 1, strong=strong)]


def _distributions(summary: Summary) -> list[Block]:
    judged = [name for name in summary.pair_metrics if METRICS[name].info.direction is not Direction.NEITHER]
    blocks: list[Block] = [
        Text(
            "Boxes reach from the first to the third quartile, with a line at the median and whiskers to 1.5 times the "
            f"box; fewer than {FEWEST} images are shown as points alone."
        )
    ]
    blocks += [Figure(distribution(summary, name), width=760) for name in judged]
    if {"dab_mean_real", "dab_mean_fake"} <= set(summary.metrics):
        text = "Mean DAB of each image, generated against real. Above the line: too much stain; below: too little."
        blocks.append(Figure(staining(summary), text, width=460 if len(summary.tables) == 1 else 600))
    return blocks


def _gallery(summary: Summary) -> list[Block]:
    examples = summary.pictures.gallery
    he = any(example.he is not None for example in examples)
    methods = list(summary.tables)
    rows = [
        PictureRow(
            f"Level {example.role}" if example.level == example.role else example.role,
            example.image,
            [
                *([_he(example)] if he else []),
                photo(example.real, f"Real image {example.image}"),
                *(photo(example.fakes[method], f"{example.image} generated by {method}") for method in methods),
            ],
        )
        for example in examples
    ]
    title = METRICS[summary.protocol.pictures_by].info.title
    which = "The median image of each level" if summary.levels else "Images spread evenly from best to worst"
    return [PictureTable([*(["H&E"] if he else []), "real", *methods], rows, f"{which} by {title}.")]


def _extremes(summary: Summary) -> list[Block]:
    title = METRICS[summary.protocol.pictures_by].info.title
    limit = summary.pictures.limit
    blocks: list[Block] = [
        Text(
            f"Images are ordered by {title}. The last column is DAB of the generated minus DAB of the real image: "
            "brown where there is too much, purple where there is too little."
        ),
        Figure(difference_scale(limit), width=380),
    ]
    for method, examples in summary.pictures.extremes.items():
        he = any(example.he is not None for example in examples)
        rows = [
            PictureRow(
                ROLES.get(example.role, example.role.capitalize()),
                _detail(example, method, summary),
                [
                    *([_he(example)] if he else []),
                    photo(example.fakes[method], f"{example.image} generated by {method}"),
                    photo(example.real, f"Real image {example.image}"),
                    signed_map(
                        example.differences[method], limit, f"DAB generated by {method} minus real, {example.image}"
                    ),
                ],
            )
            for example in reversed(examples)
        ]
        columns = [*(["H&E"] if he else []), method, "real", "DAB difference"]
        blocks.append(PictureTable(columns, rows))
    return blocks


def _detail(example: Example, method: str, summary: Summary) -> str:
    judged = [name for name in summary.pair_metrics if METRICS[name].info.direction is not Direction.NEITHER]
    values = example.values[method]
    numbers = (f"{METRICS[name].info.title} {_number(name, values[name])} {METRICS[name].info.unit}" for name in judged)
    level = [f"level {example.level}"] if example.level else []
    return " · ".join([example.image, *level, *(number.strip() for number in numbers)])


def _he(example: Example) -> Picture | None:
    return None if example.he is None else photo(example.he, f"H&E image {example.image}")


def _left_out(summary: Summary) -> list[Block]:
    blocks: list[Block] = []
    if summary.failures:
        items = [
            (f"{failure.image} ({failure.method})" if failure.method else failure.image, failure.reason)
            for failure in summary.failures
        ]
        blocks.append(Listing(items, "Could not be measured:"))
    missing = []
    for method, unpaired in summary.unpaired.items():
        for names, what in ((unpaired.without_fake, "real only"), (unpaired.without_real, "generated only")):
            if names:
                missing.append((f"{method}, {what} ({len(names)})", ", ".join(names)))
    if missing:
        blocks.append(Listing(missing, "Without a partner of the same name:"))
    return blocks


def _protocol(summary: Summary) -> list[Block]:
    protocol = summary.protocol
    interval = protocol.interval
    facts = {
        "Protocol": f"{protocol.name}, version {protocol.version}, hash {protocol.hash}",
        "Real images": str(summary.real),
        **{f"Generated: {method}": str(folder) for method, folder in summary.fakes.items()},
        "Fingerprint of the real images": summary.fingerprint,
        **{f"Test-time views averaged: {method}": summary.views_text(method) for method in summary.views},
        **{f"Stained by: {name}": "; ".join(made) for name in summary.tables if (made := summary.stainers(name))},
        "Mean": "over images" + (", those that every method has" if len(summary.tables) > 1 else ""),
        "Intervals": (
            f"{interval.confidence:.0%}, percentile bootstrap over {summary.units} "
            f"{summary.resampled}{'s' if summary.units != 1 else ''}, {interval.resamples} samples, "
            f"seed {interval.seed}"
        ),
        "Best constant image": f"DAB {summary.constant_dab:.5f} HED, the median over all pixels of the real images",
        **{heading(name): METRICS[name].info.definition for name in summary.metrics},
        "Versions": ", ".join(f"{name} {version}" for name, version in summary.versions.items()),
    }
    return [Facts(facts)]


def _has_reference(summary: Summary) -> bool:
    """Whether the best constant image has a value for a metric of the protocol."""
    return any(name in summary.reference.overall for name in summary.metrics)


def _headings(summary: Summary) -> list[str]:
    infos = [METRICS[name].info for name in summary.metrics]
    return [f"{info.title}{ARROWS[info.direction]}\n{info.unit}" for info in infos]


def _cells(values: Mapping[str, Estimate], metrics: Sequence[str]) -> list[str]:
    return [_cell(name, values[name]) if name in values else "" for name in metrics]


def _cell(metric: str, value: Estimate) -> str:
    """Mean and, on a line of its own, interval."""
    if value.mean is None:
        return "∞" if value.infinite else ""
    if value.low is None or value.high is None:
        return _number(metric, value.mean)
    return f"{_number(metric, value.mean)}\n{_number(metric, value.low)} to {_number(metric, value.high)}"


def _number(metric: str, value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.{METRICS[metric].info.decimals}f}"


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"
