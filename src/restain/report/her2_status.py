"""Page of a cross-validation of slide models: Tables 1 and 2, Fig. 3 (Wang 2024), confusion and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from restain.evaluate import Estimate
from restain.her2.crossval_results import Crossval
from restain.her2.crossval_scores import CONFIDENCE, FEWEST, GRID, TESTED, Difference, Entry, McNemar, Spread
from restain.her2.status_scores import SCORES
from restain.report.charts import COLOURS, LINE
from restain.report.confusion import confusions
from restain.report.html import write_report
from restain.report.pictures import chart, save_chart
from restain.report.sections import Block, Facts, Figure, Listing, Note, Section, Table, Text

ACROSS = 4
SIDE = 2.6
IN_PANEL = 4
"""Curves whose legend has room in each panel."""


def write_crossval_report(result: Crossval, out: Path) -> None:
    """Write ``report.html`` and the figures ``roc`` and ``confusion`` as PNG and SVG into folder ``out``.

    Args:
        result: the cross-validation.
        out: the folder.

    Raises:
        ItemError: something could not be written.
    """
    for name, (draw, width, height) in {"roc": _roc(result), "confusion": _confusions(result)}.items():
        for suffix in (".png", ".svg"):
            save_chart(out / f"{name}{suffix}", draw, width, height)
    write_report(
        out / "report.html",
        "HER2 status from H&E: models compared",
        crossval_sections(result),
        f"{result.settings['patients']} patients, {len(result.plan.test)} in the final test · classes "
        f"{', '.join(result.classes)} · protocol of Wang 2024 · research use only",
    )


def crossval_sections(result: Crossval) -> list[Section]:
    """The sections of the page, so that another report can take them in."""
    draw, width, height = _roc(result)
    caption = (
        "One class against the rest and their mean (macro), on the test patients; curves of a model's trainings are "
        "averaged at equal false positive rates, areas are their mean."
    )
    curves = Figure(chart(draw, "ROC curves of all models by class.", width, height), caption)
    draw, width, height = _confusions(result)
    matrices = Figure(
        chart(draw, "Confusion matrices of all models.", width, height),
        "Test patients by true and predicted class, mean over trainings; coloured by the share of the true class.",
    )
    sections = [
        Section("Models compared", _comparison(result)),
        Section("Cross-validation", [_validation(result)]),
        Section("ROC curves", [curves, _areas(result)]),
        Section("Confusion", [matrices]),
    ]
    if result.differences:
        sections.insert(1, Section("Paired tests", _tests(result)))
    if result.failures:
        sections.append(Section("Failed", [Listing(list(result.failures.items()), "Trainings that failed:")]))
    return [*sections, Section("How it was made", [_trainings(result), _facts(result)])]


def _comparison(result: Crossval) -> list[Block]:
    columns = ["Model", "Train", "Inference", *(f"{title}\u00a0↑" for title in SCORES.values())]
    rows = [
        [entry.name, entry.learns, entry.inference, *(_cell(entry, key) for key in SCORES)] for entry in result.entries
    ]
    caption = (
        f"Final test: mean over trainings ± their deviation, with the {CONFIDENCE:.0%} interval over test patients "
        "and, of several, seeds (trainings averaged within each bootstrap sample). Kappa has quadratic weights."
    )
    if result.gains or any(entry.learns.startswith("stainer") for entry in result.entries):
        caption += (
            " Virtual IHC is what a stainer, trained on H&E and IHC of other patients, makes of a patient's H&E: a new "
            "patient needs H&E alone. NAME_rule is the guideline's level of it, NAME a regression on its percentages, "
            "MODEL+NAME that joined with the model's answer."
        )
    blocks: list[Block] = [Table(columns, rows, caption, labels=3)]
    rows = [[entry.name, *(_text(entry.together[key]) for key in SCORES)] for entry in result.entries]
    caption = "The same of the mean of all trainings' probabilities."
    blocks.append(Table(["Model", *SCORES.values()], rows, caption))
    if result.warnings:
        blocks.append(Note("\n\n".join(result.warnings), warning=True))
    return blocks


def _tests(result: Crossval) -> list[Block]:
    rows = _differences(result.differences, result.mcnemar)
    heading = f"Model minus {result.reference}"
    blocks: list[Block] = [Table([heading, *(SCORES[score] for score in TESTED), "McNemar"], rows, "")]
    text = (
        "Differences on the same test patients, with the interval of a paired bootstrap over patients and, of several, "
        "seeds (trainings averaged). p is two-sided and corrected by Holm over the models of a column; with fewer than "
        f"{FEWEST} test patients in a class it is not computed. McNemar's exact test counts "
        "patients that only the model : only the reference gets right (mean of the trainings' probabilities). The "
        "intervals do not contain what another split or another cohort would change."
    )
    blocks.append(Text(text))
    if result.gains:
        rows = _differences(result.gains, result.gain_mcnemar)
        rows = [
            [f"{name} minus {one.against}", *cells]
            for (name, *cells), one in zip(rows, result.gain_mcnemar, strict=True)
        ]
        caption = "What joining brings: each fusion against the model and the reading of the virtual IHC that it joins."
        blocks.append(Table(["Fusion minus part", *(SCORES[score] for score in TESTED), "McNemar"], rows, caption))
    return blocks


def _differences(differences: Sequence[Difference], mcnemar: Sequence[McNemar]) -> list[list[str]]:
    """A row for each pair that was tested."""
    found = {(one.name, one.against, one.score): one for one in differences}
    rows = []
    for test in mcnemar:
        cells = []
        for score in TESTED:
            one = found[test.name, test.against, score]
            if one.difference is None or one.low is None or one.high is None:
                cells.append("not defined")
                continue
            cells.append(f"{one.difference:+.3f}\n{one.low:+.3f} to {one.high:+.3f}, {_p(one.p_holm)}")
        counts = f"{test.only_model} : {test.only_reference}"
        rows.append([test.name, *cells, f"{counts}\n{_p(test.p_holm)}"])
    return rows


def _validation(result: Crossval) -> Table:
    rows = [
        [entry.name, *(_spread(entry.val_spread.get(key)) for key in SCORES)]
        for entry in result.entries
        if entry.val_spread
    ]
    caption = (
        "Mean ± deviation over the validation folds, as Table 1 of the paper compares settings. The epoch was chosen "
        "on the same patients: these numbers are too good and serve to choose settings alone."
    )
    return Table(["Model", *SCORES.values()], rows, caption)


def _areas(result: Crossval) -> Table:
    columns = ["Model", *(f"AUC {name}" for name in result.classes)]
    rows = [[entry.name, *(_spread(one) for one in entry.class_aucs)] for entry in result.entries]
    return Table(columns, rows, "Area of each class against the rest on the test patients, mean ± deviation.")


def _trainings(result: Crossval) -> Table:
    rows = []
    for entry in result.entries:
        if not entry.method:
            continue
        epochs = [training.best_epoch for training in entry.trainings]
        seconds = result.seconds(entry)
        warmth = [training.temperature for training in entry.trainings]
        rows.append(
            [
                entry.name,
                entry.method,
                str(len(entry.trainings)),
                ", ".join(map(str, epochs[:5])) + (", ..." if len(epochs) > 5 else ""),
                f"{np.mean(warmth):.2f}",
                _spread(entry.calibration),
                "" if seconds is None else f"{seconds / 60:.1f}",
            ]
        )
    columns = ["Model", "Method", "Trainings", "Best epochs", "Temperature\nmean", "ECE", "Minutes\nall trainings"]
    caption = "Each training; ECE is the expected calibration error on the test patients after the temperature."
    return Table(columns, rows, caption, labels=2)


def _facts(result: Crossval) -> Facts:
    settings, features = result.settings, result.settings["features"]
    split = (
        "as the cohort's column split names them" if result.plan.given else f"{settings['test_share']:.0%} by chance"
    )
    stainers = {
        f"Virtual IHC {name}": f"{one['method'] or 'stainer unknown'}, weights {str(one['weights'] or 'unknown')[:12]}"
        for name, one in settings.get("virtual", {}).items()
    }
    return Facts(
        {
            "Split": (
                f"by patient, classes in equal shares: final test {split}; {settings['folds']} folds of the others, "
                f"each of which validates once (seed {settings['seed']})"
            ),
            "Epoch and temperature": "chosen on the validation fold alone: macro AUC, then the smaller loss",
            "Features": (
                f"{features['encoder'] or 'encoder unknown'} {features['version']}, {features['width']} columns, "
                f"um/px {features['mpp'] or 'unknown'}"
            ),
            "Intervals": (
                f"{CONFIDENCE:.0%}, percentile bootstrap over patients and seeds, {settings['resamples']} samples"
            ),
            "Seeds": f"{settings['seeds']} training(s) of each fold",
            **stainers,
        }
    )


def _cell(entry: Entry, key: str) -> str:
    value, deviation = entry.test[key], entry.test_spread[key].deviation
    if value.mean is None:
        return "not defined"
    shown = f"{value.mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
    return shown if value.low is None or value.high is None else f"{shown}\n{value.low:.3f} to {value.high:.3f}"


def _text(value: Estimate) -> str:
    if value.mean is None:
        return "not defined"
    interval = "" if value.low is None or value.high is None else f"\n{value.low:.3f} to {value.high:.3f}"
    return f"{value.mean:.3f}{interval}"


def _spread(value: Spread | None) -> str:
    if value is None or value.mean is None:
        return "not defined"
    return f"{value.mean:.3f}" + ("" if value.deviation is None else f" ± {value.deviation:.3f}")


def _p(value: float | None) -> str:
    if value is None:
        return "p not computed"
    return "p < 0.001" if value < 0.001 else f"p\u00a0{value:.3f}"


def _roc(result: Crossval) -> tuple[Callable[[Canvas], None], float, float]:
    """How the curves are drawn (a panel a class and one for the macro mean), and the figure's size in inches."""
    panels = len(result.classes) + 1
    rows = -(-panels // 3)

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots(rows, min(3, panels), squeeze=False)
        for index, panel in enumerate(axes.flat):
            if index >= panels:
                panel.set_visible(False)
                continue
            name = result.classes[index] if index < len(result.classes) else "macro"
            _curves(panel, result.entries, index if index < len(result.classes) else None, name)
        if len(result.entries) > IN_PANEL:  # one legend for all; the areas are in the table below
            handles, labels = axes.flat[panels - 1].get_legend_handles_labels()
            names = [label.rsplit(" ", 1)[0] for label in labels]
            canvas.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8)

    return draw, 9.0 if len(result.entries) <= IN_PANEL else 11.5, 3.1 * rows


def _curves(axes: Axes, entries: Sequence[Entry], index: int | None, name: str) -> None:
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
    for place, entry in enumerate(entries):
        curve = entry.macro_curve if index is None else entry.curves[index]
        area = entry.test_spread["macro_auc"] if index is None else entry.class_aucs[index]
        if curve is None or area.mean is None:
            continue
        style = "-" if place < len(COLOURS) else "--" if place < 2 * len(COLOURS) else ":"
        label = f"{entry.name} {area.mean:.3f}"
        axes.plot(GRID, curve, color=COLOURS[place % len(COLOURS)], linestyle=style, linewidth=1.4, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal", xlabel="false positive rate", ylabel="true positive rate")
    axes.set_title(name if index is None else f"{name} against the rest", fontsize=9)
    if len(entries) <= IN_PANEL and len(axes.lines) > 1:
        axes.legend(loc="lower right", frameon=False, fontsize=6, title="AUC", title_fontsize=6)


def _confusions(result: Crossval) -> tuple[Callable[[Canvas], None], float, float]:
    rows, columns = -(-len(result.entries) // ACROSS), min(ACROSS, len(result.entries))

    matrices = {entry.name: entry.confusion for entry in result.entries}
    return confusions(matrices, result.classes, columns), 0.4 + SIDE * columns, 0.3 + SIDE * rows
