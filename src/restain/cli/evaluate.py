"""``restain evaluate``: virtual against real IHC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.errors import RestainError
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

    Writes metrics.csv (a row for each pair), summary.json and report.html.

    Args:
        real: folder of the real IHC, or a patch-pair dataset.
        fake: folder of the virtual IHC, or NAME=FOLDER; several, after one --fake or each after its own, come into one
            table.
        out: folder of the results.
        he: folder of the H&E, for the pictures and for metrics that look at it.
        protocol: bci-3 (all metrics), bci-2 (with sharpness), bci (as published with BCI), or a YAML file with one.
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
    fakes = dict(_named(word) for word in fake)
    if len(fakes) < len(fake):
        raise RestainError("--fake: two methods have the same name; give NAME=FOLDER.")
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
    write_evaluation_report(summary, out / "report.html")
    for line in [*summary.problems(), *summary.warnings(), *summary.notes()]:
        console.print(line, markup=False, soft_wrap=True)
    if json:
        print_json(summary.document())
    else:
        tables = {**summary.tables, REFERENCE: summary.reference}
        rows = [
            [name, _views(summary, name), *(_mean(table, metric) for metric in summary.metrics)]
            for name, table in tables.items()
        ]
        protocol_name = f"{summary.protocol.name} v{summary.protocol.version}"
        title = f"Protocol {protocol_name}, {len(summary.images)} images; mean over images"
        print_table(title, ["method", "views", *summary.metrics], rows)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
    return summary.exit_code


def _mean(table: Table, metric: str) -> str:
    """A mean as it is printed; empty where there is none."""
    found = table.overall.get(metric)
    return "" if found is None or found.mean is None else f"{found.mean:.{METRICS[metric].info.decimals}f}"


def _views(summary: Summary, name: str) -> str:
    """Test-time views averaged for a method's images; empty for what is no method."""
    return summary.views_text(name) if name in summary.views else ""


def _named(word: str) -> tuple[str, Path]:
    """``NAME=FOLDER``, or a folder named after itself."""
    name, equals, folder = word.partition("=")
    return (
        (name, Path(folder)) if equals and name and not Path(word).exists() else (Path(word).resolve().name, Path(word))
    )


def run(argv: Sequence[str]) -> int:
    """The command; ``--fake`` takes several words and may be repeated."""
    return call(command, "restain evaluate", _gathered(argv))


def _gathered(argv: Sequence[str]) -> list[str]:
    """The words after each ``--fake`` as the one list that the parser takes."""
    rest: list[str] = []
    fakes: list[str] = []
    words = rest
    for word in argv:
        name, equals, value = word.partition("=")
        if name == "--fake":
            words = fakes
            fakes += [value] if equals else []
        elif word.startswith("-"):
            words = rest
            rest.append(word)
        else:
            words.append(word)
    return [*rest, *(f"--fake+={fake}" for fake in fakes)]
