"""``restain her2 virtual``: the virtual IHC of patients, and its score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.progress import console
from restain.core.runs import RunFolder
from restain.her2.virtual import OTHERS, patient_slides, stain_and_score, training_patients
from restain.infer.apply import StainOptions
from restain.stains.her2_rule import LEVELS


def command(
    stainer: Path,
    inputs: list[Path],
    out: Path,
    mpp: float | None = None,
    run_mpp: float | None = None,
    keep_slides: bool = True,
    data: Path | None = None,
    other_patients: bool = False,
    options: StainOptions = StainOptions(),  # noqa: B008 (frozen)
    json: bool = False,
) -> int:
    """Stain the H&E slides of patients with a trained stainer and score the virtual IHC by the ASCO/CAP rule.

    Writes virtual/NAME.ome.tif, scores/NAME/ (what `restain her2 score` writes), virtual.csv (a row a patient) and
    virtual.json (the stainer, and whom it was trained on). `restain her2 crossval --virtual NAME=OUT` compares it with
    models of the H&E. The same command goes on where it was stopped; other slides may be added to the same --out. Exit
    code 1 where a slide failed or has no score. Research use only.

    Args:
        stainer: run folder of a trained stainer.
        inputs: a cohort's CSV with patient and he (and mpp or he_mpp), or H&E slides, or folders of them.
        out: folder of the results.
        mpp: um/px of the H&E slides, in place of what their files say.
        run_mpp: um/px of the stainer's training images, for a run that does not know it.
        keep_slides: keep the virtual slides; false deletes each as soon as it is scored.
        data: dataset that the stainer was trained on, where it has moved since: it says which patients these were.
        other_patients: the stainer was trained on none of these patients, though names may be the same (a cohort of its
            own); it goes on record.
        options: how the stainer is applied.
        json: print virtual.csv's rows, failures and the stainer.
    """
    run = RunFolder(stainer)
    slides = patient_slides(inputs, mpp)
    known = OTHERS if other_patients else training_patients(run, data)
    result = stain_and_score(run, slides, out, options, run_mpp, keep_slides, known)
    about = result.document["stainer"]
    for doubt in about["doubts"]:
        console.print(f"warning: whom the stainer was trained on: {doubt}", markup=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    seen = [str(row["patient"]) for row in result.rows if row["patient"] in (about["trained_on"] or ())]
    if seen:
        console.print(
            f"warning: the stainer was trained on {len(seen)} of these patients ({', '.join(seen[:5])}"
            f"{' ...' if len(seen) > 5 else ''}): their virtual IHC is a memory of the real one.",
            markup=False,
            soft_wrap=True,
        )
    report_failures(result.outcome.failures)
    if json:
        print_json({"patients": list(result.rows), "failures": result.outcome.failures, "stainer": about})
        return result.outcome.exit_code
    rows = [
        [
            row["patient"],
            row["score"] or "-",
            *(_percent(row[level]) for level in LEVELS),
            row["counted"],
            row["reason"],
        ]
        for row in result.rows
    ]
    title = "Virtual IHC: HER2, percent of tumour cells (research use only)"
    print_table(title, ["patient", "score", *LEVELS, "cells", "reason"], rows)
    return result.outcome.exit_code


def _percent(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else "-"


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain her2 virtual", argv, positional=("stainer", "inputs"), flat="options")
