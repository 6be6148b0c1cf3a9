"""The ``restain`` command: finds the command's file, runs it, turns errors into messages and exit codes."""

from __future__ import annotations

import difflib
import importlib
import keyword
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import write_error
from restain.core.progress import console

COMMANDS = {
    "demo": "the whole chain on a small synthetic cohort",
    "synth": "synthetic patients: paired slides with known truth",
    "info": "levels, um/px and tissue of a slide",
    "register": "align an H&E slide to its IHC",
    "warp": "carry points and shapes from IHC to H&E, or back",
    "pairs": "a cohort's slides to a dataset of patch pairs",
    "dataset": "check a patch-pair dataset, print its figures, make its knowledge maps",
    "models": "every method: paper, licence, needs",
    "train": "train a stainer, or resume",
    "import": "an authors' checkpoint becomes a run",
    "stain": "stain images, slides or a cohort with a trained run",
    "evaluate": "compare virtual with real IHC",
    "her2": "HER2 of slides: score IHC, real or virtual",
    "rank": "rank results as the BCI challenge did",
    "submission": "check a challenge submission: names, count, size, 8 bit",
    "domain": "compare nuclei and stained membranes of virtual and real IHC",
    "study": "blinded reading: real and generated images, graded by readers",
    "downstream": "train a classifier on virtual IHC, test it on real IHC",
    "serve": "viewer, landmarks, reading room, runs and reports in the browser",
    "doctor": "environment, devices, weights, readers",
}
"""Each is a module of this package with ``run(argv) -> exit code`` (a name that Python reserves ends in ``_``)."""


def usage() -> str:
    """What ``restain --help`` prints."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    head = "usage: restain COMMAND ...\n\nFrom an H&E slide to HER2.\n\ncommands:"
    return "\n".join([head, *lines, "", "`restain COMMAND --help` tells all about one; `restain --version`."])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: words after ``restain``; None for those of the process.

    Returns:
        0 done, 1 some items failed (each named), 2 wrong use, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"restain {__version__}")
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=2)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        console.print(f"restain: there is no command {command!r}.{hint} See `restain --help`.", markup=False)
        return 2
    try:
        module = f"{command}_" if keyword.iskeyword(command) else command
        code: int = importlib.import_module(f"restain.cli.{module}").run(rest)
    except RestainError as error:
        console.print(f"restain {command}: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = write_error(Path(error.filename or "output"), error)
        console.print(f"restain {command}: {place}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print(f"\nrestain {command}: interrupted. The same command goes on from here.", markup=False)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
