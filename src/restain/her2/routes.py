"""Two more routes to a HER2 status in a cross-validation: the virtual IHC read, and joined with models of the H&E.

For each set of virtual IHC ``NAME`` (of ``restain her2 virtual``):

- ``NAME_rule``: the guideline's level of the virtual IHC as it is, as probabilities 0 and 1. Nothing is fitted.
- ``NAME``: the percentages read by a ``Reader`` that each fold fits on its training patients.
- ``MODEL+NAME``: an H&E model's answer and the reader's in a ``Pool``. Its two weights are fitted on what the folds'
  models and readers say of their *validation* patients, none of whom they have learned from, all folds of a seed
  together (stacking, Wolpert 1992); then each fold's model and reader answer for the test patients.

A stainer knows the real IHC of those it was trained on. Such patients are refused among the test patients, and left out
of all that is fitted here: there the virtual IHC would look better than it is for anybody else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.her2.crossval_scores import Training
from restain.her2.fusion import Array, Pool, Reader, percent_rows
from restain.her2.labels import ClassSet
from restain.her2.splits import Plan
from restain.her2.virtual_table import Virtual

FUSION = "fusion.json"
SHOWN = 5


@dataclass(frozen=True)
class HeModel:
    """What a model of the H&E said in a cross-validation.

    Attributes:
        learns: what its training reads.
        folder: with its runs, ``seed_S/fold_K`` below it.
        trainings: those that succeeded; ``val`` in the order of the plan's fold.
    """

    learns: str
    folder: str
    trainings: Sequence[Training]


@dataclass(frozen=True)
class Route:
    """One more row of the table.

    Attributes:
        name: ``NAME_rule``, ``NAME`` or ``MODEL+NAME``.
        learns: what was learned from.
        inference: what a new patient needs.
        trainings: by fold (and seed, where an H&E model takes part).
        parts: names of the rows that it joins.
        document: what ``her2 predict`` needs of a fusion; None for other routes.
    """

    name: str
    learns: str
    inference: str
    trainings: Sequence[Training]
    parts: tuple[str, ...] = ()
    document: Mapping[str, Any] | None = None


def route_names(virtual: Iterable[str], models: Sequence[str]) -> list[str]:
    """The names of all routes."""
    return [one for name in virtual for one in (f"{name}_rule", name, *(f"{model}+{name}" for model in models))]


def check_virtual(virtual: Mapping[str, Virtual], plan: Plan, labels: Mapping[str, int], classes: int) -> list[str]:
    """Refuse virtual IHC that cannot be judged on these patients; what else a reader must know, in words.

    Args:
        virtual: scores by name.
        plan: who trains, validates and tests.
        labels: class number by patient.
        classes: how many there are.

    Raises:
        RestainError: patients who are not in the table, test patients that the stainer was trained on, or too few with
            a score to fit on.
    """
    lines = []
    everyone = [name for fold in plan.folds for name in fold]
    for title, found in virtual.items():
        missing = [name for name in (*everyone, *plan.test) if name not in found.scores]
        if missing:
            raise RestainError(
                f"{found.path}: lacks {len(missing)} of the patients ({_some(missing)}). Run `restain her2 virtual` on "
                "all of the cohort; a patient without a score keeps a row whose score is empty."
            )
        known = found.trained_on or frozenset()
        leaked = [name for name in plan.test if name in known]
        if leaked:
            raise RestainError(
                f"{found.path}: the stainer ({found.stainer.get('run')}) was trained on {len(leaked)} of the test "
                f"patients ({_some(leaked)}); what it makes of them is a memory of their real IHC. Train it without "
                "them, or put the patients that it was trained on into split train of the cohort."
            )
        _View(title, found, plan, labels, classes)  # before the trainings, which may take hours
        if found.trained_on is None:
            why = " ".join(found.doubts) or f"there is no virtual.json beside {found.path}."
            lines.append(
                f"{title}: it is not known which patients the stainer was trained on: {why} If test patients are "
                f"among them, all scores with {title} are too good."
            )
        else:
            lines += [f"{title}: {doubt}" for doubt in found.doubts]
        if chosen := [name for name in plan.test if name in found.selected_on]:
            lines.append(f"{title}: the stainer's epoch was chosen on test patients ({_some(chosen)}).")
        if seen := [name for name in everyone if name in known]:
            lines.append(
                f"{title}: the stainer was trained on {len(seen)} patients of the folds ({_some(seen)}), whose virtual "
                f"IHC says too much; {title} and fusions with it are fitted and validated without them."
            )
        for where, names in (("test", plan.test), ("folds", everyone)):
            if blank := [name for name in names if found.scores[name] is None]:
                lines.append(
                    f"{title}: {len(blank)} of {len(names)} patients ({where}) have no score of their virtual IHC "
                    f"({_some(blank)}). {title} gives them the class frequencies of its training patients, a fusion "
                    "the H&E model's own answer."
                )
    return lines


def virtual_routes(
    virtual: Mapping[str, Virtual],
    models: Mapping[str, HeModel],
    plan: Plan,
    labels: Mapping[str, int],
    classes: ClassSet,
    seed: int,
) -> tuple[list[Route], list[str]]:
    """All routes of a cross-validation, and what a reader must know of them.

    Args:
        virtual: scores by name, as ``check_virtual`` passed them.
        models: H&E models by name.
        plan: who trains, validates and tests.
        labels: class number by patient.
        classes: of the labels.
        seed: noted for routes in which nothing is random.

    Raises:
        RestainError: too few patients with a score to fit on.
    """
    routes, warnings = [], []
    for name, found in virtual.items():
        view = _View(name, found, plan, labels, len(classes))
        rule, why = _rule(view, classes, seed)
        routes += [] if rule is None else [rule]
        warnings += [] if why is None else [why]
        read = [view.training(fold, seed, view.readers[fold].probabilities) for fold in range(len(plan.folds))]
        routes.append(Route(name, "stainer, labels", "virtual IHC", read))
        routes += [_fused(view, title, model, classes) for title, model in models.items() if model.trainings]
    return routes, warnings


class _View:
    """One set of virtual IHC as the folds see it."""

    def __init__(self, name: str, found: Virtual, plan: Plan, labels: Mapping[str, int], classes: int) -> None:
        self.name, self.found, self.plan, self._labels = name, found, plan, labels
        seen = found.trained_on or frozenset()
        self.kept = [np.array([name not in seen for name in fold], bool) for fold in plan.folds]
        """Validation patients of each fold that the stainer has not seen."""
        self.readers = []
        for fold in range(len(plan.folds)):
            learn = [name for name in plan.training(fold) if name not in seen]
            try:
                self.readers.append(Reader.fit(self.percent(learn), self.labels(learn), classes))
            except RestainError as error:
                raise RestainError(f"{found.path}: fold {fold + 1}: {error}") from error

    def percent(self, patients: Sequence[str]) -> Array:
        return percent_rows(patients, self.found.percent)

    def labels(self, patients: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self._labels[name] for name in patients], np.int64)

    def validation(self, fold: int) -> list[str]:
        return [name for name, kept in zip(self.plan.folds[fold], self.kept[fold], strict=True) if kept]

    def training(self, fold: int, seed: int, answer: Any) -> Training:
        """A fold of a route that reads percentages [N, 4] alone; ``answer`` gives probabilities."""
        val = self.validation(fold)
        found = answer(self.percent(self.plan.test)), answer(self.percent(val))
        return Training(fold + 1, seed, found[0], found[1], self.labels(val))


def _rule(view: _View, classes: ClassSet, seed: int) -> tuple[Route | None, str | None]:
    """The levels as they are; or why they cannot be classes of this cohort."""
    found, plan = view.found, view.plan
    scored = [name for name in (*plan.test, *(name for fold in plan.folds for name in fold)) if found.scores[name]]
    try:
        number = {name: classes.number(found.scores[name], f"patient {name}") for name in scored}
    except RestainError:
        levels = sorted({str(found.scores[name]) for name in scored})
        return None, (
            f"{view.name}_rule: not computed. The virtual IHC has levels {', '.join(levels)}, which are not all one of "
            f"the classes {', '.join(classes.names)}."
        )
    trainings = []
    for fold, reader in enumerate(view.readers):
        val = view.validation(fold)
        test, held = (
            np.array([np.eye(len(classes))[number[one]] if one in number else reader.frequency for one in names])
            for names in (plan.test, val)
        )
        trainings.append(Training(fold + 1, seed, test, held.reshape(-1, len(classes)), view.labels(val)))
    return Route(f"{view.name}_rule", "stainer", "virtual IHC", trainings), None


def _fused(view: _View, title: str, model: HeModel, classes: ClassSet) -> Route:
    """An H&E model joined with the reader of its fold."""
    by_seed: dict[int, list[Training]] = defaultdict(list)
    for one in model.trainings:
        by_seed[one.seed].append(one)
    test = [reader.evidence(view.percent(view.plan.test)) for reader in view.readers]
    trainings, notes = [], []
    for seed, folds in by_seed.items():
        held = {one.fold: _held_out(view, one) for one in folds}
        pool = _stacked(list(held.values()))
        for one in folds:
            own, evidence, labels = held[one.fold]
            # What validates a fold is weighted by the other folds (whose models learned from its patients, though).
            others = [parts for fold, parts in held.items() if fold != one.fold]
            val = _stacked(others).join(own, evidence) if others else None
            joined = pool.join(one.test, test[one.fold - 1])
            trainings.append(Training(one.fold, seed, joined, val, labels if others else None))
            notes.append(
                {
                    "run": f"seed_{seed}/fold_{one.fold}",
                    "reader": view.readers[one.fold - 1].document(),
                    "pool": vars(pool),
                }
            )
    stainer = {key: view.found.stainer.get(key) for key in ("method", "weights", "run_mpp", "options")}
    document = {
        "model": title,
        "folder": model.folder,
        "virtual": view.name,
        "classes": list(classes.names),
        "stainer": stainer if stainer["weights"] else None,
        "scorer": view.found.about.get("scorer"),
        "trainings": notes,
    }
    name, learns = f"{title}+{view.name}", f"{model.learns} + stainer"
    return Route(name, learns, "H&E + virtual IHC", trainings, (title, view.name), document)


def _held_out(view: _View, one: Training) -> tuple[Array, Array, NDArray[np.int64]]:
    """What a fold's model and reader say of its validation patients, and their classes."""
    fold = one.fold - 1
    names = view.validation(fold)
    assert one.val is not None and len(one.val) == len(view.kept[fold])  # noqa: PT018
    return one.val[view.kept[fold]], view.readers[fold].evidence(view.percent(names)), view.labels(names)


def _stacked(parts: Sequence[tuple[Array, Array, NDArray[np.int64]]]) -> Pool:
    own, evidence, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Pool.fit(own, evidence, labels)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
