"""``NAME=PATH`` on the command line, and options that take several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from restain.core.errors import RestainError


def named_path(word: str) -> tuple[str | None, Path]:
    """``NAME=PATH`` with its name, or a path without one; a path that exists is taken as it is."""
    name, equals, path = word.partition("=")
    return (name, Path(path)) if equals and name and not Path(word).exists() else (None, Path(word))


def named_folders(words: Sequence[str], option: str) -> dict[str, Path]:
    """Folders by name; one without a name is called like itself.

    Raises:
        RestainError: two have the same name.
    """
    found = [named_path(word) for word in words]
    folders = {name if name is not None else path.resolve().name: path for name, path in found}
    if len(folders) < len(words):
        raise RestainError(f"{option}: two methods have the same name; give NAME=FOLDER.")
    return folders


def named_numbers(words: Sequence[str], option: str) -> Mapping[str, int]:
    """Whole numbers by name, from ``NAME=N``.

    Raises:
        RestainError: another form, or a name twice.
    """
    numbers: dict[str, int] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not name or not number.isascii() or not number.isdigit() or name in numbers:
            raise RestainError(f"{option} {word}: give NAME=N, each name once.")
        numbers[name] = int(number)
    return numbers


def gathered(argv: Sequence[str], options: Sequence[str]) -> list[str]:
    """``argv`` with the words after each of ``options`` (which may be repeated) as the lists that the parser takes."""
    rest: list[str] = []
    lists: dict[str, list[str]] = {option: [] for option in options}
    words = rest
    for word in argv:
        name, equals, value = word.partition("=")
        if name in lists:
            words = lists[name]
            words += [value] if equals else []
        elif word.startswith("-"):
            words = rest
            rest.append(word)
        else:
            words.append(word)
    return [*rest, *(f"{option}+={value}" for option, values in lists.items() for value in values)]
