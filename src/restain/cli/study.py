"""``restain study``: blinded reading of real and generated images."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from restain.core.errors import RestainError

ACTIONS = {
    "new": "draw pairs, blind them, make the readers' codes",
    "results": "accuracy, agreement, tables and report, also while readers read",
}
"""Each is a module ``study_ACTION`` of this package with ``run(argv) -> exit code``."""


def run(argv: Sequence[str]) -> int:
    """The command.

    Raises:
        RestainError: there is no such action.
    """
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10} {text}" for name, text in ACTIONS.items())
        print(
            f"usage: restain study ACTION ...\n\nactions:\n{lines}\n\n`restain study ACTION --help` tells all about "
            "one; readers open the study with `restain serve`."
        )
        return 0 if argv else 2
    if argv[0] not in ACTIONS:
        near = difflib.get_close_matches(argv[0], ACTIONS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(ACTIONS)}."
        raise RestainError(f"there is no action {argv[0]!r}; {hint} See `restain study --help`.")
    code: int = importlib.import_module(f"restain.cli.study_{argv[0]}").run(argv[1:])
    return code
