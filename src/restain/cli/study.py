"""``restain study``: blinded reading of real and generated images."""

from __future__ import annotations

from collections.abc import Sequence

from restain.cli.by_action import run_action

ACTIONS = {
    "new": "draw pairs, blind them, make the readers' codes",
    "results": "accuracy, agreement, tables and report, also while readers read",
}
"""Each is a module ``study_ACTION`` of this package with ``run(argv) -> exit code``."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    return run_action("study", ACTIONS, argv, note="; readers open the study with `restain serve`")
