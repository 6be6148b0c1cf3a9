"""Commands whose first word is a method, which decides what their options are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.stainers.base import STAINERS


def call_by_method(
    verb: str,
    usage: str,
    command: Callable[[str], Callable[..., int]],
    argv: Sequence[str],
    positional: Sequence[str] = (),
) -> int:
    """Call what ``command`` makes for the method that ``argv`` names first, with the rest of ``argv``.

    Args:
        verb: the command's name.
        usage: what follows its name, for the help.
        command: from a method's name to a function whose signature is its configuration.
        argv: the words after the command's name.
        positional: parameters given without a name.

    Raises:
        RestainError: the method is not named first.
    """
    if not argv or argv[0] in ("-h", "--help"):
        names = "\n".join(f"  {entry.name:<20} {entry.info.paper}" for entry in STAINERS)
        print(f"usage: restain {verb} {usage} ...\n\nmethods:\n{names}\n")
        print(f"`restain {verb} METHOD --help` lists all settings of one with their defaults.")
        return 0 if argv else 2
    if argv[0].startswith("-"):
        raise RestainError(f"name the method first: restain {verb} {usage}.")
    method = argv[0]
    return call(command(method), f"restain {verb} {method}", argv[1:], positional, recipe=method)


def require_method(found: str, named: str) -> None:
    """Refuse a recipe of another method than the command names.

    Raises:
        RestainError: it is.
    """
    if found != named:
        raise RestainError(f"the recipe is one of {found}, the command names {named}.")
