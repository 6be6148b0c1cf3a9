"""Recipes of slide models: ``configs/her2/NAME.yaml`` names a method, its settings and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from restain.core.errors import RestainError
from restain.her2.base import MODELS
from restain.her2.train_options import StatusTraining

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "her2"
PARTS = ("method", "model", "training")
OF_RUNS = ("cohort", "features", "ihc_features", "init", "classes")
"""What a run's ``config.yaml`` says besides, of its data: a recipe may be read from there."""


@dataclass(frozen=True)
class Recipe:
    """A model with all settings.

    Attributes:
        name: of the recipe, such as ``ipca_released``; with what a sweep changed: ``ipca[mask_ratio=0.5]``.
        method: registered name of the model.
        model: the model's Config.
        training: how it is trained.
        overrides: settings that differ from the recipe's file, by dotted name.
    """

    name: str
    method: str
    model: Any
    training: StatusTraining
    overrides: Mapping[str, Any]


def shipped() -> list[str]:
    """Names of the recipes that come with restain."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None, title: str | None = None) -> Recipe:
    """A recipe by its name, a YAML file's path, or the name of a registered model (whose published settings it takes).

    Args:
        name: of the recipe.
        overrides: settings to change: ``mask_ratio`` or ``model.mask_ratio`` of the model, ``training.epochs``.
        title: what it is called in tables; its name if not given.

    Raises:
        RestainError: no such recipe or setting, or a value that a setting cannot have.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if path.is_file():
        document = _read(path)
    elif name.endswith((".yaml", ".yml")):
        raise RestainError(f"{name}: no such recipe. Shipped: {', '.join(shipped())}.")
    else:
        document = {"method": MODELS[name].name}
    method = str(document["method"])
    entry = MODELS[method]
    changed: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        part, dot, field = key.partition(".")
        part, field = (part, field) if dot else ("model", key)
        kind = {"model": entry.info.config, "training": StatusTraining}.get(part)
        known = [one.name for one in fields(kind)] if kind is not None else []
        if field not in known:
            raise RestainError(
                f"{name}: {method} has no setting {key}. It has {', '.join(known) or 'model, training'}."
            )
        document.setdefault(part, {})
        document[part] = {**document[part], field: value}
        changed[f"{part}.{field}"] = value
    source = str(path) if path.is_file() else name
    return recipe_of(document, title or (path.stem if path.is_file() else name), source, changed)


def recipe_of(document: Mapping[str, Any], name: str, source: str, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe that a document (of a file, or of a run's ``config.yaml``) describes.

    Raises:
        RestainError: a setting that there is not, or a value that it cannot have; ``source`` is named.
    """
    method = str(document["method"])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--method", type=str)
    parser.add_class_arguments(MODELS[method].info.config, "model")
    parser.add_class_arguments(StatusTraining, "training")
    given = {part: document[part] for part in PARTS if document.get(part) is not None}
    try:
        found = parser.instantiate(parser.parse_object(given))
    except (ArgumentError, TypeError, ValueError) as error:
        raise RestainError(f"{source}: {error}") from error
    return Recipe(name, method, found.model, found.training, dict(overrides))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RestainError(f"{path}: not a recipe that can be read ({error}).") from error
    if not isinstance(document, dict) or "method" not in document or set(document) - {*PARTS, *OF_RUNS}:
        raise RestainError(f"{path}: not a recipe of a slide model; it has {', '.join(PARTS)} and nothing else.")
    return {key: document[key] for key in PARTS if document.get(key) is not None}
