"""``restain her2 mil``: models on a classic multiple-instance set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import progress_bar
from restain.her2.mil_sets import mil_accuracy, mil_recipe, read_mil


def command(
    file: Path, models: str = "abmil,clam_sb", folds: int = 10, runs: int = 3, seed: int = 0, json: bool = False
) -> int:
    """Cross-validate slide models on a classic multiple-instance set (Musk, Elephant, Fox, Tiger).

    A check that the models are right: their accuracy is known from the literature. Small networks, features
    standardised over the training bags, a fixed number of epochs: nothing is chosen on held-out bags.

    Args:
        file: CSV without a header: bag label, bag id, then the features of an instance.
        models: slide models, such as abmil,clam_sb.
        folds: of the bags, stratified by label.
        runs: repetitions with other divisions and seeds.
        seed: of the first.
        json: print one JSON document.
    """
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise RestainError(f"--models {models}: name one model or more, each once.")
    recipes = [mil_recipe(name) for name in names]
    data = read_mil(file)
    with progress_bar(file.stem, len(recipes) * folds * runs) as bar:
        results = [mil_accuracy(data, recipe, folds, runs, seed, bar.advance) for recipe in recipes]
    if json:
        found = {
            one.model: {"accuracy": one.mean, "runs": list(one.runs), "fold_deviation": one.folds} for one in results
        }
        print_json({"set": file.stem, "bags": len(data.bags), "folds": folds, "models": found})
    else:
        rows = [[one.model, f"{one.mean:.3f}", f"{np.std(one.runs):.3f}", f"{one.folds:.3f}"] for one in results]
        columns = ["model", "accuracy", "deviation of runs", "of folds"]
        print_table(f"{file.stem}: {folds}-fold accuracy, mean of {runs} runs", columns, rows)
    return 0


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain her2 mil", argv, positional=("file",))
