"""``restain her2 train METHOD``: train a slide model, or go on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from restain.cli.output import print_json
from restain.cli.parsing import parser_for
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.her2.base import MODELS
from restain.her2.labels import HER2, ClassSet
from restain.her2.pretrained import read_pretrained
from restain.her2.recipes import Recipe, load_recipe, shipped
from restain.her2.slide_set import read_slide_set
from restain.her2.train_options import StatusTraining
from restain.her2.train_run import random_split, train_status


def command(recipe: Recipe) -> Callable[..., int]:
    """The function whose signature is the configuration of a recipe."""

    def train_model(
        cohort: Path,
        features: Path,
        out: Path,
        model: Any,
        training: StatusTraining,
        ihc_features: Path | None = None,
        classes: str = HER2.text,
        val: float = 0.2,
        init: Path | None = None,
        skip_missing: bool = False,
        cache_gib: float = 4.0,
        method: str = recipe.method,
        json: bool = False,
    ) -> int:
        """Train this slide model on the features of a cohort, or go on where an interrupted training stopped.

        The weights of the epoch with the best validation AUC are kept, with a temperature that calibrates their
        probabilities. Patients of split test are predicted in predictions.csv and used for nothing else.

        Args:
            cohort: CSV with patient, he, her2, ihc for models that learn from it, perhaps split (train, val, test).
            features: folder with the H&E's features, <slide>.h5.
            out: the run folder; one of the same settings is resumed.
            model: settings of the method.
            training: length, optimiser, sampling.
            ihc_features: folder with the IHC's features.
            classes: of the labels, in order; other sets such as negative=0|1+,positive=2+|3+.
            val: share of the training patients that validate, where the cohort names none.
            init: pretrained weights (safetensors, pth).
            skip_missing: leave patients out whose H&E has no features file (each is named) instead of refusing.
            cache_gib: features to keep in memory, GiB.
            method: as the recipe names it.
            json: print the run's description as one JSON document.
        """
        if method != recipe.method:
            raise RestainError(
                f"--method {method}: {recipe.name} is a recipe of {recipe.method}; name a recipe of {method} instead."
            )
        data = read_slide_set(cohort, features, ihc_features, ClassSet.parse(classes), skip_missing, cache_gib)
        for warning in data.warnings:
            console.print(f"warning: {warning}", markup=False, soft_wrap=True)
        paths = {
            "cohort": str(cohort.resolve()),
            "features": str(features.resolve()),
            "ihc_features": str(ihc_features.resolve()) if ihc_features else None,
        }
        pretrained = read_pretrained(init) if init else None
        split = random_split(data, val, training.seed)
        for warning in pretrained.warnings(split["test"]) if pretrained and split["test"] else []:
            console.print(f"warning: {warning}", markup=False, soft_wrap=True)
        run = train_status(
            replace(recipe, model=model, training=training),
            data,
            split,
            out,
            paths,
            pretrained,
        )
        console.print(f"Trained: {run.path}", markup=False, soft_wrap=True)
        if json:
            print_json({"run": str(run.path), **run.info})
        return 0

    train_model.__annotations__.update(
        {
            "model": type(recipe.model),
            "training": StatusTraining,
            "cohort": Path,
            "features": Path,
            "out": Path,
            "ihc_features": Path | None,
            "init": Path | None,
            "val": float,
            "cache_gib": float,
            "classes": str,
            "method": str,
            "json": bool,
            "skip_missing": bool,
        }
    )
    ends: tuple[Any, ...] = (None, HER2.text, 0.2, None, False, 4.0, recipe.method, False)
    train_model.__defaults__ = (recipe.model, recipe.training, *ends)
    return train_model


def run(argv: Sequence[str]) -> int:
    """The command.

    Raises:
        RestainError: the recipe is not named first.
    """
    if not argv or argv[0] in ("-h", "--help"):
        names = "\n".join(f"  {entry.name:<20} {entry.info.paper}" for entry in MODELS)
        print("usage: restain her2 train RECIPE --cohort CSV --features DIR --out RUN ...\n")
        print(f"models:\n{names}\n\nrecipes: {', '.join(shipped())}\n")
        print("`restain her2 train RECIPE --help` lists all settings of one with their defaults.")
        return 0 if argv else 2
    if argv[0].startswith("-"):
        raise RestainError("name the recipe first: restain her2 train RECIPE --cohort CSV --features DIR --out RUN.")
    function = command(load_recipe(argv[0]))
    parser = parser_for(function, f"restain her2 train {argv[0]}")
    parsed = parser.instantiate(parser.parse_args(parser.normalised(argv[1:])))
    return function(**{name: parsed[name] for name in function.__annotations__.keys() - {"return"}})
