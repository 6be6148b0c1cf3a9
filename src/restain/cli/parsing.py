"""From a function's signature to a command: arguments, help and YAML come from the same place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from restain.core.errors import RestainError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
"""The recipes that come with restain."""


class Parser(ArgumentParser):
    """jsonargparse's parser, which takes and shows ``--two-words`` for ``two_words`` and bare flags for booleans."""

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """The help, with hyphens in option names and types by their names."""
        text = _hyphens(super().format_help(*args, **kwargs))
        text = re.sub(r"<class\s+'(?:\w+\.)*(\w+)'>", r"\1", text)
        title = (self.description or "").split("\n\n")[0].rstrip(".")
        return text.replace(f"\n{title}:\n", "\narguments:\n") if title else text

    def format_usage(self, *args: Any, **kwargs: Any) -> str:
        """The usage, with hyphens in option names."""
        return _hyphens(super().format_usage(*args, **kwargs))

    def normalised(self, argv: Sequence[str]) -> list[str]:
        """``argv`` with underscores in option names, and with the ``true`` that a bare boolean option means."""
        out: list[str] = []
        for index, token in enumerate(argv):
            if not token.startswith("--") or token == "--":
                out.append(token)
                continue
            name, equals, value = token.partition("=")
            name = "--" + name[2:].replace("-", "_")
            out.append(name + equals + value)
            following = argv[index + 1].lower() if index + 1 < len(argv) else ""
            action = self._option_string_actions.get(name)
            if not equals and _is_boolean(action) and following not in ("true", "false", "yes", "no"):
                out[-1] = f"{name}=true"
        return out


def _hyphens(text: str) -> str:
    return re.sub(r"(?<![\w/.])--[\w.]+", lambda option: option.group().replace("_", "-"), text)


def _is_boolean(action: Any) -> bool:
    return getattr(action, "_typehint", getattr(action, "type", None)) is bool


def parser_for(
    function: Callable[..., Any],
    prog: str,
    positional: Sequence[str] = (),
    recipe: str | None = None,
    flat: str | None = None,
) -> Parser:
    """A parser for the arguments of ``function``.

    Args:
        function: typed, with a Google docstring; a parameter without a default is required.
        prog: the command as the user types it.
        positional: parameters given without a name; a ``list`` takes one or more.
        recipe: adds ``--config``; the recipe of this name, if there is one, gives the defaults.
        flat: a parameter that is a dataclass and whose fields become options without a prefix.
    """
    doc = parse_docstring(function.__doc__ or "")
    text = "\n\n".join(part for part in (doc.short_description, doc.long_description) if part)
    defaults: list[str | PathLike[Any]] = (
        [str(CONFIGS / f"{recipe}.yaml")] if recipe and (CONFIGS / f"{recipe}.yaml").exists() else []
    )
    parser = Parser(prog=prog, description=text, default_config_files=defaults)
    if recipe is not None:
        parser.add_argument(
            "--config", action=ActionConfigFile, help="a recipe: a YAML file, or the name of a shipped one"
        )
    hints = get_type_hints(function)
    helps = {param.arg_name: param.description or "" for param in doc.params}
    for name in positional:
        kind, default = hints[name], inspect.signature(function).parameters[name].default
        extra: dict[str, Any] = {}
        if getattr(kind, "__origin__", None) is list:
            kind, extra = kind.__args__[0], {"nargs": "+"}
        elif default is not inspect.Parameter.empty:
            extra = {"nargs": "?", "default": default}
        parser.add_argument(name, type=kind, help=helps.get(name, ""), **extra)
    parser.add_function_arguments(function, skip={*positional, *([flat] if flat else [])})
    if flat:
        parser.add_class_arguments(hints[flat])
    return parser


def call(
    function: Callable[..., int],
    prog: str,
    argv: Sequence[str],
    positional: Sequence[str] = (),
    recipe: str | None = None,
    flat: str | None = None,
) -> int:
    """Parse ``argv`` and call ``function`` with it; its exit code."""
    parser = parser_for(function, prog, positional, recipe, flat)
    words = parser.normalised(argv)
    if recipe is not None:
        words = [_shipped(words[i - 1] if i else "", word, recipe) for i, word in enumerate(words)]
    parsed = parser.instantiate(parser.parse_args(words))
    arguments = {name: parsed[name] for name in inspect.signature(function).parameters if name != flat}
    if flat:
        kind = get_type_hints(function)[flat]
        arguments[flat] = kind(**{field.name: parsed[field.name] for field in fields(kind)})
    return function(**arguments)


def _shipped(previous: str, word: str, method: str) -> str:
    """The path of a shipped recipe where ``--config`` is given its name.

    Raises:
        RestainError: no such file or recipe, or a recipe of another method.
    """
    prefix, name = ("--config=", word.removeprefix("--config=")) if word.startswith("--config=") else ("", word)
    if not prefix and previous != "--config":
        return word
    path = Path(name) if Path(name).is_file() else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml") if _method(file) == method))
        raise RestainError(
            f"--config {name}: no such file, and no recipe of this name. Shipped for {method}: {shipped}."
        )
    found = _method(path) or method
    if found != method:
        raise RestainError(f"{path}: is a recipe of {found}, not of {method}.")
    return prefix + str(path)


def _method(recipe: Path) -> str | None:
    """The method that a recipe is of; None where it names none.

    Raises:
        RestainError: it cannot be read.
    """
    try:
        found: str | None = (yaml.safe_load(recipe.read_text(encoding="utf-8")) or {}).get("method")
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise RestainError(f"{recipe}: not a recipe that can be read ({error}).") from error
    return found
