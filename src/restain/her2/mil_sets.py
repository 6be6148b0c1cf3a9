"""Classic multiple-instance sets (Musk, Elephant ...): do the models do on them what the literature says?

A CSV without a header: column 0 the bag's label, column 1 the bag's id, then features of an instance.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from restain.core.errors import ItemError, RestainError
from restain.her2.bag import Bag
from restain.her2.base import MODELS
from restain.her2.recipes import Recipe, load_recipe, shipped
from restain.her2.train import fit


@dataclass(frozen=True, eq=False)
class MilSet:
    """Bags of instances.

    Attributes:
        bags: by id; an instance's place is its row (there is no other order).
        classes: labels as the file has them, in order.
    """

    bags: Mapping[str, Bag]
    classes: Sequence[str]

    @property
    def labels(self) -> dict[str, int]:
        """Class number by bag."""
        return {name: int(bag.label or 0) for name, bag in self.bags.items()}

    def bag(self, name: str) -> Bag:
        """A bag."""
        return self.bags[name]


@dataclass(frozen=True)
class MilResult:
    """Accuracy of one model.

    Attributes:
        model: recipe.
        runs: accuracy over all bags of each run, each bag predicted by the fold that did not learn from it.
        folds: deviation of the accuracy over the folds of all runs.
    """

    model: str
    runs: Sequence[float]
    folds: float

    @property
    def mean(self) -> float:
        """Mean over runs."""
        return float(np.mean(self.runs))


def read_mil(path: Path) -> MilSet:
    """The bags of a file.

    Raises:
        ItemError: it cannot be read, or holds what is no number.
        RestainError: a bag of two labels, or a single class.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
        values = np.array([[float(cell) for cell in row[2:]] for row in rows], np.float32)
    except (OSError, ValueError, csv.Error) as error:
        raise ItemError(f"{path}: not a table of instances: bag label, bag id, features ({error}).") from error
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ItemError(f"{path}: instances need at least one feature, all finite, as many in each row.")
    classes = sorted({row[0].strip() for row in rows}, key=lambda label: (len(label), label))
    if len(classes) < 2:
        raise RestainError(f"{path}: all bags have label {classes[0]}; there is nothing to tell apart.")
    members: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(row[1].strip(), []).append(index)
    bags = {}
    for name, own in members.items():
        labels = {rows[index][0].strip() for index in own}
        if len(labels) > 1:
            raise RestainError(f"{path}: bag {name} has labels {', '.join(sorted(labels))}; a bag has one.")
        places = torch.stack([torch.arange(len(own)), torch.zeros(len(own), dtype=torch.int64)], 1).float()
        label = classes.index(labels.pop())
        bags[name] = Bag(torch.from_numpy(values[own]), places, 1.0, None, label, name=name)
    return MilSet(bags, classes)


def mil_recipe(name: str) -> Recipe:
    """The recipe of a model for sets of this size: ``NAME_mil`` where it is shipped, else ``NAME_small``, else its own.

    Raises:
        RestainError: no such model, or one that needs IHC.
    """
    found = next((full for full in (f"{name}_mil", f"{name}_small") if full in shipped()), name)
    recipe = load_recipe(found, title=name)
    if "ihc" in MODELS[recipe.method].info.needs:
        raise RestainError(f"{name}: learns from IHC, which these sets do not have.")
    return recipe


def mil_accuracy(
    data: MilSet,
    recipe: Recipe,
    folds: int = 10,
    runs: int = 3,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> MilResult:
    """Accuracy of ``runs`` times ``folds``-fold cross-validation, stratified by label, each run another division.

    No bag of the held-out fold chooses anything: a training has a fixed length. Features are standardised over the
    training bags.

    Raises:
        RestainError: fewer bags of a class than folds.
    """
    names = list(data.bags)
    labels = np.array([data.labels[name] for name in names])
    fewest = int(np.bincount(labels).min())
    if folds < 2 or runs < 1 or fewest < folds:
        raise RestainError(
            f"{folds} folds and {runs} runs: give 2 folds and 1 run at least; a class has {fewest} bags."
        )
    accuracies, by_fold = [], []
    for run in range(seed, seed + runs):
        right = np.zeros(len(names), bool)
        division = StratifiedKFold(folds, shuffle=True, random_state=run).split(names, labels)
        own = replace(recipe, training=replace(recipe.training, seed=run))
        for learn, test in division:
            fitted = fit(own, data, [names[index] for index in learn], [], len(data.classes))
            logits = fitted.logits(data.bag(names[index]) for index in test)
            right[test] = logits.argmax(1) == labels[test]
            by_fold.append(float(right[test].mean()))
            done()
        accuracies.append(float(right.mean()))
    return MilResult(recipe.name, accuracies, float(np.std(by_fold, ddof=1)))
