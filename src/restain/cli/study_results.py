"""``restain study results``: what readers said, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.progress import console
from restain.report.study import cell, percent, write_study_report
from restain.study.answers import read_answers
from restain.study.files import keep_apart, write_results
from restain.study.results import study_results


def command(study: Path, out: Path, json: bool = False) -> int:
    """Sum up a reading study: accuracy as in the BCI paper, agreement between readers, with truth and with chance.

    Works while readers read. Writes results.csv, confusions.csv, answers.csv (every answer beside the truth),
    summary.json and report.html.

    Args:
        study: folder of the study.
        out: folder of the results; must not lie where readers can open it.
        json: print summary.json.
    """
    keep_apart(out, study)
    results = study_results(read_answers(study))
    (out / "report.html").unlink(missing_ok=True)  # that of other numbers, should this one fail
    write_results(results, out)
    write_study_report(results, out / "report.html")
    for note in results.notes():
        console.print(note, markup=False, soft_wrap=True)
    if json:
        print_json(results.document())
    else:
        rows = []
        for name in results.everyone:
            accuracy = results.get("accuracy", name, "pairs")
            chance = results.get("accuracy_expected", name, "pairs")
            kappa = results.get("accuracy_kappa_quadratic", name, "pairs")
            cells = [cell(accuracy, percent), percent(chance.value), cell(kappa)]
            rows.append([name, str(accuracy.n), *(text.replace("\n", ", ") for text in cells)])
        columns = ["reader", "pairs", "accuracy", "by chance", "kappa (quadratic)"]
        print_table(f"{results.answers.terms.title}: generated graded like real", columns, rows)
    console.print(f"Report: {out / 'report.html'}", markup=False, soft_wrap=True)
    return 0


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain study results", argv, ["study"])
