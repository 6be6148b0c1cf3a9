"""``restain dataset check|stats``: validate a patch-pair dataset, or print its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.data import check_dataset, dataset_stats
from restain.report import draw_levels


def check(folder: Path, json: bool = False) -> int:
    """Look into every image of a dataset: partners, sizes, readability, levels. Exit code 1 where an item is bad.

    Args:
        folder: the dataset, in any of the layouts that restain reads.
        json: print one JSON document.
    """
    report = check_dataset(folder)
    if json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            console.print(f"{problem.severity}: {problem.file}: {problem.message}", markup=False, soft_wrap=True)
        print(f"{report.root}: layout {report.layout}, fingerprint {report.fingerprint}")
        print(f"good pairs: {_counts(report.splits)}; by level: {_counts(report.levels)}; dropped: {report.dropped}")
        print(f"errors: {len(report.errors)}; warnings: {len(report.problems) - len(report.errors)}")
    return report.exit_code


def stats(folder: Path, out: Path | None = None, json: bool = False) -> int:
    """Figures of a dataset: pairs by split and level, slides, patients, sizes, mean colours.

    Args:
        folder: the dataset, in any of the layouts that restain reads.
        out: draw slides and patches by level, as the BCI paper's figure 8, to this .png, .svg or .pdf.
        json: print one JSON document.
    """
    figures = dataset_stats(folder)
    if out is not None:
        draw_levels(figures, out)
        console.print(f"chart: {out}", markup=False, soft_wrap=True)
    if json:
        print_json(figures)
        return 0
    print(
        f"{figures['root']}: layout {figures['layout']}, {figures['pairs']} pairs, {figures['bytes'] / 2**20:.1f} MiB"
    )
    print("um/px: unknown" if figures["mpp"] is None else f"um/px: {figures['mpp']:g}")
    print(f"sizes: {_counts(figures['sizes'])}; dropped: {figures['dropped']}; without partner: {figures['lone']}")
    levels = figures["levels"]
    rows = [
        [name, split["pairs"], split["slides"], split["patients"], *(split["levels"].get(level, 0) for level in levels)]
        for name, split in figures["splits"].items()
    ]
    print_table("Pairs", ["split", "pairs", "slides", "patients", *levels], rows)
    colours = [[s.upper(), *figures[s]["mean"], *figures[s]["std"]] for s in ("he", "ihc") if figures[s]]
    print_table("Colour (0 to 255)", ["", "mean R", "G", "B", "deviation R", "G", "B"], colours)
    return report_failures({row["file"]: row["reason"] for row in figures["unreadable"]})


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


VERBS: dict[str, Callable[..., int]] = {"check": check, "stats": stats}


def run(argv: Sequence[str]) -> int:
    """The command."""
    if not argv or argv[0] in ("-h", "--help"):
        print(
            "usage: restain dataset check|stats FOLDER [--json] [--out CHART]\n\n"
            "  check  look into every image\n  stats  print figures; with --out, draw slides and patches by level"
        )
        return 0 if argv else 2
    if argv[0] not in VERBS:
        raise RestainError(f"restain dataset has no verb {argv[0]!r}; there are {', '.join(VERBS)}.")
    return call(VERBS[argv[0]], f"restain dataset {argv[0]}", argv[1:], positional=("folder",))
