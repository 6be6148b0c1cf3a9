"""Commands whose first word is an action, each with a module of its own."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence

from restain.core.errors import RestainError


def run_action(command: str, actions: Mapping[str, str], argv: Sequence[str], note: str = "") -> int:
    """Run the action that ``argv`` names first, with the rest of ``argv``.

    Args:
        command: its name; the action's module is ``COMMAND_ACTION`` of this package, with ``run(argv) -> exit code``.
        actions: what each does, in a line.
        argv: the words after the command's name.
        note: ends the help.

    Returns:
        The action's exit code; 0 for help, 2 where nothing is named.

    Raises:
        RestainError: there is no such action.
    """
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10} {text}" for name, text in actions.items())
        more = f"`restain {command} ACTION --help` tells all about one{note}."
        print(f"usage: restain {command} ACTION ...\n\nactions:\n{lines}\n\n{more}")
        return 0 if argv else 2
    if argv[0] not in actions:
        near = difflib.get_close_matches(argv[0], actions, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(actions)}."
        raise RestainError(f"there is no action {argv[0]!r}; {hint} See `restain {command} --help`.")
    code: int = importlib.import_module(f"restain.cli.{command}_{argv[0]}").run(argv[1:])
    return code
