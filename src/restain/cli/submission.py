"""``restain submission``: is a challenge submission complete and well-formed?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.evaluate.submission import Submission, check_submission, expected_of_folder, expected_of_table

SHOWN = 10


def command(
    folder: Path,
    real: Path | None = None,
    expected: Path | None = None,
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Check the images of a challenge submission: names, count, size, 8-bit RGB, readable, no duplicates.

    Each problem is named; the exit code is 0 if there is none, else 1.

    Args:
        folder: the images to submit.
        real: folder of the real IHC, or of the H&E that was stained: its names and sizes are wanted.
        expected: instead of it, a CSV name[,width,height] (px).
        workers: images read at a time; as many as cores if not given.
        json: print one JSON document.
    """
    if (real is None) == (expected is None):
        raise RestainError("Give either --real FOLDER or --expected CSV, which says what the submission should hold.")
    wanted = expected_of_folder(real) if real is not None else expected_of_table(expected or Path())
    found = check_submission(folder, wanted, workers)
    if json:
        print_json(found.document())
    _report(found)
    return 1 if found.problems else 0


def _report(found: Submission) -> None:
    """The problems for people: missing and unexpected names as two lists, the others one by one."""
    lists = {kind: [p.file for p in found.problems if p.kind == kind] for kind in ("missing", "unexpected")}
    if lists["missing"] or lists["unexpected"]:
        for kind, names in lists.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            text = f"{kind} ({len(names)}): {', '.join(names[:SHOWN]) or 'none'}{more}"
            console.print(text, markup=False, soft_wrap=True)
    for problem in found.problems:
        if problem.kind not in lists:
            text = problem.message if problem.kind == "unreadable" else f"{problem.file}: {problem.message}"
            console.print(text, markup=False, soft_wrap=True)
    verdict = f"{len(found.problems)} problems" if found.problems else "no problem"
    console.print(f"{found.images} images, {found.expected} wanted: {verdict}.", markup=False, soft_wrap=True)


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain submission", argv, ["folder"])
