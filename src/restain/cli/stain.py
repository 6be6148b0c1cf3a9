"""``restain stain``: a trained run on images, slides or a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, report_failures
from restain.cli.parsing import call
from restain.core.progress import console
from restain.core.runs import RunFolder
from restain.infer.apply import StainOptions, stain
from restain.infer.inputs import collect


def command(
    run: Path,
    inputs: list[Path],
    out: Path,
    mpp: float | None = None,
    run_mpp: float | None = None,
    options: StainOptions = StainOptions(),  # noqa: B008 (frozen)
    json: bool = False,
) -> int:
    """Stain images, slides, folders of them, or the H&E slides of a cohort's CSV with a trained run.

    Slides become pyramidal OME-TIFFs of the same size and um/px, on the H&E's own coordinates; plain images of at most
    2048 px a side without a um/px are patches and become PNGs. What an earlier call finished is skipped.

    Args:
        run: the run folder of a stainer.
        inputs: files, folders, or a CSV with a column he (and mpp).
        out: folder of the results.
        mpp: um/px of the inputs, in place of what their files say.
        run_mpp: um/px of the run's training images, for a run that does not know it.
        options: how the run is applied.
        json: print one JSON document with a row for each input.
    """
    outcome = stain(RunFolder(run), collect(inputs, mpp), out, options, run_mpp)
    for name, result in outcome.results.items():
        console.print(f"{name}: {result['output']}", markup=False, soft_wrap=True)
    if json:
        print_json({"results": outcome.results, "failures": outcome.failures})
    report_failures(outcome.failures)
    return outcome.exit_code


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain stain", argv, positional=("run", "inputs"), flat="options")
