"""Cross-validation as in the IPCA paper (Wang 2024, Sec. 3): 7:3 by patient, five folds of the 70 %, a final test.

Each fold trains on four fifths of the 70 % and chooses its epoch and temperature on the fifth; that model, the fold's
best, predicts the 30 %. Everything is resumable by model, seed and fold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, remove_stale, write_json
from restain.core.items import fingerprint, lock
from restain.core.runs import flatten
from restain.her2.base import MODELS
from restain.her2.crossval_results import Crossval
from restain.her2.crossval_runs import Common, Job, do_trainings
from restain.her2.crossval_scores import Training, differences, paired, score_entry
from restain.her2.elsewhere import read_other
from restain.her2.pretrained import Pretrained, require_encoder_model
from restain.her2.recipes import Recipe, load_recipe
from restain.her2.routes import FUSION, HeModel, check_virtual, route_names, virtual_routes
from restain.her2.slide_set import SlideSet
from restain.her2.splits import Plan, make_plan
from restain.her2.status_scores import resamples
from restain.her2.virtual_table import Virtual


@dataclass(frozen=True)
class CrossvalOptions:
    """How a cohort is split and how often each model is trained.

    Attributes:
        folds: of the patients that are not in the final test.
        test_share: share of the patients in the final test; a column ``split`` in the cohort overrules it.
        seed: of the split; the first training's seed as well.
        seeds: trainings of each fold, with seeds that follow each other; the split stays.
        resamples: bootstrap samples of the test patients.
        workers: trainings at a time, each on one core where there are several. If not given: one where there is a GPU
            or more than 1 GiB of features, else as many as there are cores, at most 8.
    """

    folds: int = 5
    test_share: float = 0.3
    seed: int = 0
    seeds: int = 1
    resamples: int = 2000
    workers: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no cross-validation.

        Raises:
            RestainError: which.
        """
        least = {"seeds": 1, "seed": 0, "resamples": 100, "workers": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise RestainError(f"--{name} {value}: give {low} or more.")


def chosen_recipes(
    names: Sequence[str], overrides: Mapping[str, Any], sweeps: Mapping[str, Sequence[Any]]
) -> list[Recipe]:
    """The recipes of a cross-validation.

    Args:
        names: of recipes.
        overrides: settings changed in every recipe that has them.
        sweeps: values by setting; a recipe that has the setting is taken once with each value in place of once.

    Raises:
        RestainError: an unknown recipe or value, a name that comes twice, or a setting that no recipe has.
    """
    if not names or len(set(names)) < len(names):
        raise RestainError(f"--models {','.join(names)}: name one model or more, each once.")
    if seeded := [key for key in (*overrides, *sweeps) if key in ("training.seed", "seed")]:
        raise RestainError(f"{seeded[0]}: a cross-validation gives its trainings their seeds; use --seed and --seeds.")
    chosen: list[Recipe] = []
    used: set[str] = set()
    for name in names:
        plain = load_recipe(name)
        own = {key: value for key, value in overrides.items() if _has(plain, key)}
        used |= own.keys()
        swept = {key: values for key, values in sweeps.items() if _has(plain, key)}
        used |= swept.keys()
        if not swept:
            chosen.append(load_recipe(name, own))
        for key, values in swept.items():
            titles = [f"{plain.name}[{key}={value}]" for value in values]
            pairs = zip(titles, values, strict=True)
            chosen += [load_recipe(name, {**own, key: value}, title) for title, value in pairs]
    if unknown := sorted((overrides.keys() | sweeps.keys()) - used):
        raise RestainError(f"{', '.join(unknown)}: none of {', '.join(names)} has such a setting.")
    if len({recipe.name for recipe in chosen}) < len(chosen):
        raise RestainError(f"--models {','.join(names)}: two recipes would have the same name in the tables.")
    return chosen


def _has(recipe: Recipe, key: str) -> bool:
    part, dot, field = key.partition(".")
    part, field = (part, field) if dot else ("model", key)
    return part in ("model", "training") and hasattr(getattr(recipe, part), field)


def crossval(
    data: SlideSet,
    recipes: Sequence[Recipe],
    out: Path,
    options: CrossvalOptions = CrossvalOptions(),
    paths: Mapping[str, str | None] | None = None,
    init: Pretrained | None = None,
    others: Mapping[str, Path] | None = None,
    against: str | None = None,
    virtual: Mapping[str, Virtual] | None = None,
) -> Crossval:
    """Cross-validate and test models, and write all tables into ``out``.

    Args:
        data: the patients.
        recipes: the models.
        out: folder of the results; trainings that are there are taken from it.
        options: split and repetitions.
        paths: of cohort and features, for the runs' ``config.yaml``.
        init: pretrained weights, for the models that start from an encoder.
        others: CSVs with predictions of the test patients from elsewhere, by name: ``patient`` and ``p_<class>``
            columns, or ``predicted``.
        against: the model that the others are tested against; the first if not given.
        virtual: scores of the patients' virtual IHC, by name: routes of their own, and joined with each model.

    Returns:
        The result. A training that failed is named in ``failures``; its model is scored on the others.

    Raises:
        RestainError: patients or settings that make no cross-validation, or ``out`` holds another one.
    """
    plan = make_plan(data.labels, data.classes.names, options.folds, options.test_share, options.seed, data.given)
    titles = [recipe.name for recipe in recipes]
    names = [*titles, *(others or {}), *route_names(virtual or {}, titles)]
    if len(set(names)) < len(names) or (against is not None and against not in names):
        raise RestainError(f"Models {', '.join(names)}: names must differ, and --against be one of them.")
    doubts = check_virtual(virtual or {}, plan, data.labels, len(data.classes))
    doubts += [*_without_ihc(data, plan, recipes), *_from_init(init, plan, recipes)]
    labels = np.array([data.labels[name] for name in plan.test], np.int64)
    weights = resamples(len(labels), options.resamples, options.seed)
    entries = []
    with lock(out / ".lock"):
        _claim(out, data, plan, options)
        jobs = [
            Job(
                replace(recipe, training=replace(recipe.training, seed=seed)),
                fold,
                out / file_name(recipe.name) / f"seed_{seed}" / f"fold_{fold + 1}",
            )
            for recipe in recipes
            for seed in range(options.seed, options.seed + options.seeds)
            for fold in range(options.folds)
        ]
        done = do_trainings(jobs, Common(data, plan, paths or {}, init), options.workers)
        failures = {
            f"{job.recipe.name}, {job.folder.parent.name}, {job.folder.name}": str(found)
            for job, found in zip(jobs, done, strict=True)
            if isinstance(found, RestainError)
        }
        models: dict[str, HeModel] = {}
        for recipe in recipes:
            pairs = zip(jobs, done, strict=True)
            trainings = [one for job, one in pairs if job.recipe.name == recipe.name and isinstance(one, Training)]
            if trainings:
                learns = "H&E+IHC" if _needs_ihc(recipe) else "H&E"
                models[recipe.name] = HeModel(learns, file_name(recipe.name), trainings)
                entries.append(score_entry(recipe.name, recipe.method, learns, trainings, labels, weights))
        for name, file in (others or {}).items():
            found = read_other(file, plan.test, data.classes)
            entries.append(score_entry(name, "", "elsewhere", [Training(0, 0, found)], labels, weights, "elsewhere"))
        if not entries:
            raise RestainError(f"{out}: no training succeeded. " + "; ".join(failures.values()))
        routes, untold = virtual_routes(virtual or {}, models, plan, data.labels, data.classes, options.seed)
        entries += [
            score_entry(one.name, "", one.learns, one.trainings, labels, weights, one.inference) for one in routes
        ]
        for route in routes:
            if route.document is not None:
                write_json(out / file_name(route.name) / FUSION, route.document)
        reference = next((entry for entry in entries if entry.name == (against or entries[0].name)), None)
        if reference is None:
            raise RestainError(f"--against {against}: none of its trainings succeeded. " + "; ".join(failures.values()))
        tested, mcnemar = differences(entries, reference, labels, weights) if len(entries) > 1 else ([], [])
        by_name = {entry.name: entry for entry in entries}
        joined = [(by_name[route.name], by_name[part]) for route in routes for part in route.parts]
        gains, gain_mcnemar = paired(joined, labels, weights)
        warnings = [*data.warnings, *plan.warnings, *doubts, *untold]
        result = Crossval(
            classes=data.classes.names,
            plan=plan,
            labels={name: data.labels[name] for name in data.patients},
            entries=entries,
            reference=reference.name,
            differences=tested,
            mcnemar=mcnemar,
            settings={
                **{k: v for k, v in asdict(options).items() if k != "workers"},
                "features": data.kind.document(),
                "patients": len(data.patients),
                "virtual": {name: one.document() for name, one in (virtual or {}).items()},
            },
            failures=failures,
            warnings=warnings,
            gains=gains,
            gain_mcnemar=gain_mcnemar,
        )
        result.write(out)
    return result


def _without_ihc(data: SlideSet, plan: Plan, recipes: Sequence[Recipe]) -> list[str]:
    """What a reader must know where patients that are learned from have no IHC.

    Raises:
        RestainError: none of them has.
    """
    learning = [recipe.name for recipe in recipes if _needs_ihc(recipe)]
    folds = [name for fold in plan.folds for name in fold]
    lacking = [name for name in folds if not data.patients[name].ihc]
    if not learning or not lacking:
        return []
    shown = f"{len(lacking)} of {len(folds)} patients of the folds have no features of IHC ({', '.join(lacking[:5])})"
    if len(lacking) == len(folds):
        raise RestainError(
            f"{', '.join(learning)}: learns from IHC, but {shown}. Give --ihc-features (and the column ihc in the "
            "cohort), or leave the model out."
        )
    return [f"{', '.join(learning)}: {shown}; of these only the H&E is learned from."]


def _from_init(init: Pretrained | None, plan: Plan, recipes: Sequence[Recipe]) -> list[str]:
    """What a reader must know of models that start from pretrained weights.

    Raises:
        RestainError: no model does.
    """
    if init is None:
        return []
    able = [recipe.name for recipe in recipes if MODELS[recipe.method].item.starts_from_encoder]
    if not able:
        require_encoder_model(recipes[0].method)
    others = [recipe.name for recipe in recipes if recipe.name not in able]
    lines = [f"{init.path}: not used by {', '.join(others)}, which start as always."] if others else []
    return lines + init.warnings(plan.test)


def _claim(out: Path, data: SlideSet, plan: Plan, options: CrossvalOptions) -> None:
    """Note the split in the folder, or refuse a folder of another one.

    Raises:
        RestainError: what differs.
    """
    file = out / "plan.json"
    if not file.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise RestainError(f"{out}: is not empty and holds no cross-validation. Choose another --out.")
    remove_stale(out)
    now: dict[str, Any] = {
        "folds": options.folds,
        "test_share": options.test_share,
        "seed": options.seed,
        "classes": data.classes.text,
        "data": data.fingerprint(data.patients, ihc=False),
        "features": data.kind.document(),
        "plan": plan.document(),
    }
    if not file.exists():
        write_json(file, now)
        return
    document = read_json(file)
    if not isinstance(document, dict):
        raise ItemError(f"{file}: is damaged. Restore it, or choose another --out.")
    before, own = flatten(document), flatten(now)
    changed = [key for key in own if fingerprint(before.get(key)) != fingerprint(own[key])]
    if changed:
        lines = "\n".join(
            f"  {key}: was {before.get(key)!r}, now {own[key]!r}" for key in changed if not key.startswith("plan.")
        )
        raise RestainError(
            f"{out}: holds a cross-validation of other patients or settings; choose another --out.\n{lines}"
        )


def file_name(name: str) -> str:
    """A recipe's name as a folder may be called, another one for another name."""
    safe = re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "_"
    return safe if safe == name else f"{safe}_{fingerprint(name)[:4]}"


def _needs_ihc(recipe: Recipe) -> bool:
    return "ihc" in MODELS[recipe.method].info.needs
