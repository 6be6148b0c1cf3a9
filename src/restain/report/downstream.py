"""Figure and page of a downstream test (TDKstain's Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure as Canvas

from restain.evaluate import Estimate
from restain.evaluate.bootstrap import INTERVAL
from restain.evaluate.downstream_results import STAINING, Downstream, Scored
from restain.metrics import METRICS
from restain.report.confusion import confusions
from restain.report.html import write_report
from restain.report.pictures import chart, save_chart
from restain.report.sections import Block, Facts, Figure, Listing, Note, Section, Table, Text

ACROSS = 3
WIDTH = 8.0


def write_downstream_report(result: Downstream, out: Path) -> None:
    """Write ``downstream.html``, and the confusion matrices as PNG and SVG, into folder ``out``.

    Args:
        result: the test.
        out: the folder.

    Raises:
        ItemError: something could not be written.
    """
    draw, height = _confusions(result)
    for suffix in (".png", ".svg"):
        save_chart(out / f"confusion{suffix}", draw, WIDTH, height)
    write_report(
        out / "downstream.html",
        "Classifiers trained on virtual IHC, tested on real IHC",
        downstream_sections(result),
        f"{result.options.network} · levels {', '.join(result.classes)} · as in TDKstain (Peng 2024, Table 2)",
    )


def downstream_sections(result: Downstream) -> list[Section]:
    """The sections of the page, so that another report can take them in."""
    draw, height = _confusions(result)
    names = ", ".join(entry.name for entry in result.entries)
    caption = (
        "Test images by true and predicted level, mean over trainings; each row adds up to the images of its level."
    )
    figure = Figure(chart(draw, f"Confusion matrices of {names}.", WIDTH, height), caption)
    sections = [Section("Result", _result(result)), Section("Confusion", [figure])]
    if result.failures:
        items = [(f"{f.image} ({f.method or 'test set'})", f.reason) for f in result.failures]
        sections.append(Section("Left out", [Listing(items, "Could not be read, or told from others of their name:")]))
    return [*sections, Section("How it was made", [_trainings(result), _facts(result)])]


def _result(result: Downstream) -> list[Block]:
    columns = ["Trained on", "ACC\u00a0↑", "F1\u00a0↑\nmacro"]
    external = bool(result.staining.values)
    if external:
        columns += [f"{METRICS[name].info.title}\nexternal set" for name in STAINING]
    rows = []
    for entry in result.entries:
        own = result.staining.values.get(entry.name, {})
        cells = [_staining(name, own, result) for name in STAINING] if external else []
        rows.append([entry.name, _text(entry.accuracy), _text(entry.f1), *cells])
    count = f"{result.options.seeds} training{'' if result.options.seeds == 1 else 's'}"
    caption = f"Mean of {count} with {INTERVAL.confidence:.0%} intervals over the test images" + (
        ". SSIM ↑, FID ↓, DISTS ↓ are of what the stainer made of the external set's H&E." if external else "."
    )
    blocks: list[Block] = [
        Table(columns, rows, caption, strong=[i for i, e in enumerate(result.entries) if e.reference])
    ]
    if result.staining.reasons:
        blocks.append(Note("\n\n".join(f"{name.upper()}: {why}" for name, why in result.staining.reasons.items())))
    if result.warnings:
        blocks.append(Note("\n\n".join(result.warnings), warning=True))
    blocks.append(
        Text(
            "Rows that stand out are references: real IHC is trained on real images, H&E* is trained and tested on "
            "H&E. A score says how well generated images teach the levels, not that a single one of them is right."
        )
    )
    return blocks


def _staining(name: str, own: Mapping[str, float], result: Downstream) -> str:
    """A value of the external set; nothing for a reference, which stains nothing."""
    if name in own:
        return f"{own[name]:.{METRICS[name].info.decimals}f}"
    return "not computed" if own and name in result.staining.reasons else ""


def _trainings(result: Downstream) -> Table:
    rows = [
        [entry.name, str(seed), f"{accuracy:.4f}", f"{f1:.4f}", "" if auc is None else f"{auc:.4f}", str(epoch)]
        for entry in result.entries
        for seed, accuracy, f1, auc, epoch in zip(
            result.seeds, entry.accuracies, entry.f1s, entry.aucs, entry.best_epochs, strict=True
        )
    ]
    columns = ["Trained on", "Seed", "ACC", "F1\nmacro", "AUC\nmacro", "Best epoch"]
    return Table(columns, rows, "Each training; its epoch is the one with the best macro F1 on the validation images.")


def _facts(result: Downstream) -> Facts:
    options = result.options
    units = " or ".join(dict.fromkeys(f"{entry.resampled}s" for entry in result.entries))
    facts = {
        "Network": f"{options.network}, from {result.entries[0].begins}",
        "Training": (
            f"AdamW, learning rate {options.rate:g} down to 0 along half a cosine, {options.epochs} epochs, batches of "
            f"{options.batch}, quarter turns and mirrors, images scaled to {options.size} x {options.size} px. The "
            "paper states none of this: these are restain's."
        ),
        "Validation": f"{options.validation:.0%} of the patients, or of the images where patients are unknown",
        "Intervals": (
            f"{INTERVAL.confidence:.0%}, percentile bootstrap, {INTERVAL.resamples} samples, seed {INTERVAL.seed}, "
            f"over {units} of the test set; trainings are averaged within each sample"
        ),
        "SSIM, FID, DISTS": result.staining.protocol or "no images of the external set were given",
        **{entry.name: _images(entry) for entry in result.entries},
    }
    return Facts(facts)


def _images(entry: Scored) -> str:
    train, validation, test = entry.images
    return f"{train} + {validation} images of {entry.train}, tested on {test} of {entry.test}"


def _text(value: Estimate) -> str:
    if value.mean is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.mean:.4f}"
    return f"{value.mean:.4f}\n{value.low:.4f} to {value.high:.4f}"


def _confusions(result: Downstream) -> tuple[Callable[[Canvas], None], float]:
    """How the confusion matrices are drawn, and the figure's height in inches."""
    rows = -(-len(result.entries) // ACROSS)

    matrices = {entry.name: entry.confusion for entry in result.entries}
    return confusions(matrices, result.classes, min(ACROSS, len(matrices))), 0.3 + 2.6 * rows
