"""``restain evaluate``: virtual against real IHC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.named import gathered, named_folders
from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.evaluate import REFERENCE, Summary, Table, evaluate
from restain.evaluate.protocol import DEFAULT_PROTOCOL
from restain.metrics import METRICS
from restain.report import write_evaluation_report


def command(
    real: Path,
    fake: list[str],
    out: Path,
    he: Path | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    split: str = "test",
    pairs: Path | None = None,
    mpp: float | None = None,
    weights: Path | None = None,
    tta: int | None = None,
    mixed: bool = False,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Measure virtual IHC against real IHC, pair by pair, under a named protocol.

    Writes metrics.csv (a row for each pair), tables.csv (means by level), summary.json and report.html.

    Args:
        real: folder of the real IHC, or a patch-pair dataset.
        fake: folder of the virtual IHC, or NAME=FOLDER; several, after one --fake or each after its own, come into one
            table.
        out: folder of the results.
        he: folder of the H&E, for the pictures and for metrics that look at it.
        protocol: bci-3 (what docs/metrics.md recommends), bci-2 (with sharpness), bci (as published with BCI),
            tdkstain, asp, or a YAML file with one.
        split: split to evaluate where real is a dataset.
        pairs: a pairs.csv with level and patient of each image.
        mpp: um/px of the images; as pairs.csv says, else as the protocol takes it, if not given.
        weights: folder of network weights (Inception, VGG16, ...), looked at before torch's download cache; metrics
            whose weights are in neither are not computed.
        tta: test-time views that were averaged for each image of another program, to be printed beside the numbers; of
            images that restain stained, their stain.json says it.
        mixed: average the images of a method that do not match (other stainers, test-time views or um/px) all the same.
        workers: images measured at a time; as many as cores if not given.
        json: print summary.json.
    """
    fakes = named_folders(fake, "--fake")
    summary = evaluate(
        real,
        fakes,
        out,
        protocol,
        he=he,
        split=split,
        pairs=pairs,
        mpp=mpp,
        weights=weights,
        test_time_views=tta,
        mixed=mixed,
        workers=workers,
    )
    (out / "report.html").unlink(missing_ok=True)  # that of other numbers, should this one fail
    write_evaluation_report(summary, out / "report.html")
    for line in [*summary.problems(), *summary.warnings(), *summary.notes()]:
        console.print(line, markup=False, soft_wrap=True)
    if json:
        print_json(summary.document())
    else:
        tables = {**summary.tables, REFERENCE: summary.reference}
        rows = [[name, *(_mean(table, name) for table in tables.values())] for name in summary.metrics]
        rows.append(["test-time views", *(_views(summary, name) for name in tables)])
        protocol_name = f"{summary.protocol.name} v{summary.protocol.version}"
        title = f"Protocol {protocol_name}, {len(summary.images)} images; mean over images"
        print_table(title, ["metric", *tables], rows)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
    return summary.exit_code


def _mean(table: Table, metric: str) -> str:
    """A mean as it is printed; empty where there is none."""
    found = table.overall.get(metric)
    if found is None or found.mean is None:
        return "infinite" if found is not None and found.infinite else ""
    return f"{found.mean:.{METRICS[metric].info.decimals}f}"


def _views(summary: Summary, name: str) -> str:
    """Test-time views averaged for a method's images; empty for what is no method."""
    return summary.views_text(name) if name in summary.views else ""


def run(argv: Sequence[str]) -> int:
    """The command; ``--fake`` takes several words and may be repeated."""
    return call(command, "restain evaluate", gathered(argv, ["--fake"]))
