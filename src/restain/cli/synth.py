"""``restain synth``: synthetic patients with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, report_failures
from restain.cli.parsing import call
from restain.core.progress import console
from restain.synthetic import SynthOptions, generate_cohort


def command(
    out: Path,
    patients: int,
    options: SynthOptions = SynthOptions(),  # noqa: B008 (frozen)
    workers: int = 1,
    json: bool = False,
) -> int:
    """Make synthetic breast-cancer patients: paired H&E and HER2-IHC slides, and the truth behind them.

    Writes slides/*.ome.tif, truth/ and cohort.csv. Patients that are there already are skipped.

    Args:
        out: folder of the cohort.
        patients: how many.
        options: what they are like.
        workers: processes, each at a patient of its own; the result does not depend on it.
        json: print the rows of cohort.csv as one JSON document.
    """
    outcome = generate_cohort(out, patients, options, workers=workers)
    console.print(f"{len(outcome.results)} synthetic patients: {out / 'cohort.csv'}", markup=False, soft_wrap=True)
    if json:
        print_json({"patients": list(outcome.results.values()), "failures": outcome.failures})
    report_failures(outcome.failures)
    return outcome.exit_code


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain synth", argv, positional=("out",), flat="options")
