"""The report of a reading study."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np

from restain.evaluate.bootstrap import INTERVAL
from restain.report.confusion import confusions
from restain.report.html import write_report
from restain.report.pictures import chart
from restain.report.sections import Block, Facts, Figure, Note, Section, Table, Text
from restain.study.agreement import PERMUTATIONS
from restain.study.measures import ALL, Measure
from restain.study.results import Results

SIDE = 3.1
"""Inches of one matrix."""
ACROSS, MOST = 3, 12
"""Matrices side by side, and in one figure."""
UP = "\N{NO-BREAK SPACE}↑"


def write_study_report(results: Results, path: Path) -> None:
    """Write the report of a study, whole or under way.

    Args:
        results: of the study.
        path: the HTML file, written atomically.

    Raises:
        ItemError: it could not be written.
    """
    answers = results.answers
    state = "complete" if results.complete else "under way"
    subtitle = f"{len(answers.pairs)} pairs of real and generated images · {len(answers.readers)} readers · {state}"
    write_report(path, answers.terms.title, study_sections(results), subtitle)


def study_sections(results: Results) -> list[Section]:
    """The sections of the report."""
    sections = [Section("Result", _result(results))]
    if results.levels:
        sections.append(Section("By level", _by_level(results)))
    if len(results.answers.readers) > 1:
        sections.append(Section("Between readers", _between(results)))
    if results.levels:
        sections.append(Section("With truth", _truth(results)))
    if results.answers.terms.asks_origin:
        sections.append(Section("Real or generated", _origin(results)))
    sections += [Section("Confusion", _confusion(results)), Section("Not readable, and time", _rest(results))]
    return [*sections, Section("How it was made", [_facts(results)])]


def percent(value: float | None) -> str:
    """A share as a percentage; ``not computed`` where there is none."""
    return "not computed" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def decimal(value: float | None) -> str:
    """A number with three decimals; ``not computed`` where there is none."""
    return "not computed" if value is None else f"{value:.3f}"


def cell(measure: Measure, shown: Callable[[float | None], str] = decimal) -> str:
    """A number and, on a line of its own, its interval."""
    if measure.low is None or measure.high is None:
        return shown(measure.value)
    low = shown(measure.low).removesuffix("\N{NO-BREAK SPACE}%")
    return f"{shown(measure.value)}\n{low} to {shown(measure.high)}"


def _result(results: Results) -> list[Block]:
    columns = [
        "Reader", "Pairs", f"Accuracy{UP}", "By chance\nexpected", "Against chance\np, one-sided",
        f"Kappa{UP}", f"Quadratic kappa{UP}", "Accuracy\nboth readable", "Left out\nreal not readable",
    ]  # fmt: skip
    rows = []
    for name in results.everyone:
        own = {key: results.get(key, name, "pairs") for key in _PAIRED}
        rows.append(
            [
                _who(name),
                str(own["accuracy"].n),
                cell(own["accuracy"], percent),
                percent(own["accuracy_expected"].value),
                _p(own["accuracy"].p),
                cell(own["accuracy_kappa"]),
                cell(own["accuracy_kappa_quadratic"]),
                percent(own["accuracy_if_readable"].value),
                f"{own['pairs_left_out'].value or 0:.0f}",
            ]
        )
    caption = (
        f"Accuracy as in the BCI paper (Liu 2022, Sec. 5.5): the share of pairs whose generated image a reader graded "
        f"like its real partner, with {INTERVAL.confidence:.0%} intervals. Kappa is of the two grades of a pair."
    )
    blocks: list[Block] = []
    if notes := results.notes():
        blocks.append(Note("\n\n".join(notes), warning=not results.complete))
    blocks.append(Table(columns, rows, caption, strong=[len(rows) - 1] if len(rows) > 1 else []))
    text = (
        "The paper's two pathologists reached 37.5 % and 40.0 % on 40 pairs of BCI. How often a reader grades one "
        "image twice alike limits accuracy, and is not measured here."
    )
    return [*blocks, Text(text)]


_PAIRED = (
    "accuracy", "accuracy_expected", "accuracy_kappa", "accuracy_kappa_quadratic", "accuracy_if_readable",
    "pairs_left_out",
)  # fmt: skip


def _by_level(results: Results) -> list[Block]:
    rows = []
    for name in results.everyone:
        own = [results.get("accuracy", name, "pairs", level) for level in [ALL, *results.levels]]
        rows.append([_who(name), *(_counted(one) for one in own)])
    caption = "Accuracy by the level of the slide; pairs in brackets."
    return [Table(["Reader", ALL, *results.levels], rows, caption)]


def _between(results: Results) -> list[Block]:
    rows = []
    for a, b in combinations(results.answers.readers, 2):
        for images in (ALL, "real", "generated"):
            own = [results.get(key, f"{a} | {b}", images) for key in ("agreement", "kappa", "kappa_quadratic")]
            rows.append([f"{a} and {b}", images, str(own[0].n), cell(own[0], percent), *(cell(one) for one in own[1:])])
    columns = ["Readers", "Images", "Graded by both", f"Equal{UP}", f"Kappa{UP}", f"Quadratic kappa{UP}"]
    blocks: list[Block] = [Table(columns, rows, "Cohen's kappa of two readers.", labels=2)]
    if len(results.answers.readers) > 2:
        every = [results.get("fleiss_kappa", ALL, images) for images in (ALL, "real", "generated")]
        rows = [[one.images, str(one.n), cell(one)] for one in every]
        blocks.append(Table(["Images", "Graded by all", f"Fleiss' kappa{UP}"], rows, "All readers together."))
    return [*blocks, *_why(results, ("kappa", "kappa_quadratic", "fleiss_kappa"))]


def _truth(results: Results) -> list[Block]:
    rows, levels = [], []
    for name in results.everyone:
        for images in ("real", "generated"):
            own = [results.get(f"truth_{key}", name, images) for key in ("agreement", "kappa", "kappa_quadratic")]
            rows.append([_who(name), images, str(own[0].n), cell(own[0], percent), *(cell(one) for one in own[1:])])
            each = [results.get("truth_agreement", name, images, level) for level in results.levels]
            levels.append([_who(name), images, *(_counted(one) for one in each)])
    columns = ["Reader", "Images", "Graded", f"Equal{UP}", f"Kappa{UP}", f"Quadratic kappa{UP}"]
    caption = "Grades against the level of the slide. A field of a slide need not show the slide's level."
    blocks: list[Block] = [Table(columns, rows, caption, labels=2)]
    blocks.append(
        Table(["Reader", "Images", *results.levels], levels, "Equal, by level; images in brackets.", labels=2)
    )
    return [*blocks, *_why(results, ("truth_kappa", "truth_kappa_quadratic"))]


def _origin(results: Results) -> list[Block]:
    rows = []
    for name in results.everyone:
        right, found, kept = (results.get(f"origin_{key}", name) for key in ("accuracy", "sensitivity", "specificity"))
        rows.append(
            [_who(name), str(right.n), cell(right, percent), _p(right.p), cell(found, percent), cell(kept, percent)]
        )
    columns = [
        "Reader", "Answers", "Right", "Against 50\N{NO-BREAK SPACE}%\np, two-sided",
        "Sensitivity\ngenerated found", "Specificity\nreal kept",
    ]  # fmt: skip
    caption = (
        "Told apart: at 50 % a reader cannot. p is of an exact binomial test. While a study is under way, or where a "
        "reader did not always say, look at sensitivity and specificity."
    )
    return [Table(columns, rows, caption)]


def _confusion(results: Results) -> list[Block]:
    blocks: list[Block] = []
    kinds = {
        "real | generated": ("grade of the real image", "grade of the generated image"),
        "reader | reader": ("first reader", "second reader"),
    }
    for kind, labels in kinds.items():
        found = [one for one in results.confusions if one.matrix == kind][:MOST]
        if found:
            matrices = {one.readers: one.counts.astype(np.float64) for one in found}
            names = [name.replace("not readable", "n. r.") for name in found[0].rows]
            across = min(ACROSS, len(found))
            draw = confusions(matrices, names, across, labels)
            size = (0.4 + SIDE * across, 0.3 + SIDE * -(-len(found) // across))
            what = "pairs" if kind == "real | generated" else "images"
            caption = f"How many {what}: {labels[0]} (rows) against {labels[1]} (columns). n. r.: not readable."
            blocks.append(Figure(chart(draw, caption, *size), caption, width=round(96 * size[0])))
    for one in results.confusions:
        if one.matrix.startswith("truth"):
            rows = [[row, *map(str, counts)] for row, counts in zip(one.rows, one.counts.tolist(), strict=True)]
            images = one.matrix.removeprefix("truth | ")
            blocks.append(Table(["Level of slide", *one.columns], rows, f"{one.readers}: grades of {images} images."))
    return blocks


def _rest(results: Results) -> list[Block]:
    rows = []
    for name in results.everyone:
        done = results.get("answered", name)
        unreadable = [_counted(results.get("not_readable", name, images)) for images in ("real", "generated")]
        times = [results.get("seconds_median", name, images) for images in (ALL, "real", "generated")]
        seconds = ["" if one.value is None else f"{one.value:.0f}" for one in times]
        rows.append([_who(name), f"{done.value or 0:.0f} of {done.n}", *unreadable, *seconds])
    columns = [
        "Reader", "Answered", "Not readable\nreal", "Not readable\ngenerated", "Seconds\nmedian, all",
        "Seconds\nmedian, real", "Seconds\nmedian, generated",
    ]  # fmt: skip
    caption = "Seconds are from one answer to the next, first answers only; answered images in brackets."
    return [Table(columns, rows, caption)]


def _facts(results: Results) -> Facts:
    answers, (units, what) = results.answers, results.answers.units
    count = len(set(units))
    return Facts(
        {
            "Study": f"{answers.terms.id}, made {answers.made}, seed {answers.seed}",
            "Real images": answers.sources[0],
            "Generated images": answers.sources[1],
            "Grades": ", ".join(answers.terms.levels),
            "Accuracy": (
                "pairs whose real image has a grade and whose generated image is answered; accurate where both grades "
                "are equal. A generated image that is not readable is not accurate; a pair whose real image is not "
                "readable is left out. Both readable: pairs with two grades alone"
            ),
            "By chance": (
                "sum over levels of the share of real images with this grade times that of generated ones; p from "
                f"{PERMUTATIONS:,} random deals of generated to real images (the same for all readers), seed "
                f"{answers.seed}"
            ),
            "Kappa": (
                "1 - sum(w o) / sum(w e), with w = 1 off the diagonal, or the squared difference of levels "
                "(quadratic). Where all grades are one and the same it is not defined"
            ),
            "Intervals": (
                f"{INTERVAL.confidence:.0%}, percentile bootstrap over {count} {what}{'s' if count != 1 else ''}, "
                f"{INTERVAL.resamples} samples, seed {INTERVAL.seed}; readers are not resampled"
            ),
        }
    )


def _why(results: Results, measures: tuple[str, ...]) -> list[Block]:
    """Why some of the numbers are not computed."""
    lines = [
        f"{one.measure.replace('_', ' ').capitalize()} of {_who(one.readers)}, {one.images} images: {one.why}."
        for one in results.measures
        if one.measure in measures and one.value is None
    ]
    return [Note("\n\n".join(lines))] if lines else []


def _counted(measure: Measure) -> str:
    if measure.value is None:
        return "not computed"
    text = cell(measure, percent).split("\n")
    return "\n".join([f"{text[0]} ({measure.n})", *text[1:]])


def _who(name: str) -> str:
    return "all readers" if name == ALL else name.replace(" | ", " and ")


def _p(value: float | None) -> str:
    if value is None:
        return "not computed"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
