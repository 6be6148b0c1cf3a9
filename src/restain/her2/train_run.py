"""Trained slide models on disk: a run folder with the weights, the patients of each split and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_csv, remove_stale, write_csv
from restain.core.items import lock
from restain.core.progress import progress_bar
from restain.core.runs import RunFolder
from restain.her2.base import MODELS, build_model
from restain.her2.labels import ClassSet
from restain.her2.pretrained import Pretrained, require_encoder_model
from restain.her2.recipes import Recipe, recipe_of
from restain.her2.slide_set import SlideSet
from restain.her2.splits import held_out, require_classes, require_disjoint
from restain.her2.standard import Standard
from restain.her2.train import Epoch, Fitted, fit
from restain.nn.devices import Accelerator, Precision, make_fabric
from restain.training.checkpoint import load_state, save_state
from restain.training.run import plain

TASK = "her2"
BEST, LAST, PREDICTIONS = "best.safetensors", "last.safetensors", "predictions.csv"
FREE = (
    "config.cohort",
    "config.features",
    "config.ihc_features",
    "config.init",
    "config.training.accelerator",
    "config.training.checkpoint_every",
    "recipe",
)
"""Settings that may differ when a run resumes: they change no weight (features are known by their fingerprint)."""
EPOCH_COLUMNS = ("epoch", "rate", "loss", "val_loss", "val_auc")


@dataclass(frozen=True)
class Predicted:
    """What a run said of one patient: calibrated probabilities [C]."""

    split: str
    patient: str
    label: int
    probabilities: tuple[float, ...]


def random_split(data: SlideSet, val: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Train, val and test patients: as the table says (column ``split``), val by chance where it names none.

    Raises:
        RestainError: no share, a patient in two splits, nobody to validate, or a single class to learn from.
    """
    parts = held_out(data.labels, data.given, val, seed)
    require_disjoint(parts)
    require_classes([data.labels[name] for name in parts["train"]], data.classes.names, "training split")
    return parts


def train_status(
    recipe: Recipe,
    data: SlideSet,
    split: Mapping[str, Sequence[str]],
    out: Path,
    paths: Mapping[str, str | None],
    init: Pretrained | None = None,
) -> RunFolder:
    """Train a slide model into a run folder, or resume or take the run that is there.

    Args:
        recipe: model and training.
        data: the patients.
        split: names by split; ``train`` and ``val`` are needed, ``test`` is predicted with the best epoch.
        out: the run folder.
        paths: of the cohort and the features, for ``config.yaml``.
        init: pretrained weights to start from.

    Returns:
        The finished run.

    Raises:
        RestainError: a patient in two splits, IHC that is needed and missing, a run of other settings in ``out``, or a
            training that diverged.
        ItemError: a file that cannot be written.
    """
    require_disjoint(split)
    needs_ihc = "ihc" in MODELS[recipe.method].info.needs
    if init:
        require_encoder_model(recipe.method)
    if needs_ihc and not any(data.patients[name].ihc for name in split["train"]):
        raise RestainError(
            f"{recipe.name}: learns from the patients' IHC, but no training patient has features of it. Give "
            "--ihc-features (and the column ihc in the cohort), or train a method that needs none."
        )
    info, config = describe(recipe, data, split, paths, init)
    run = RunFolder(out)
    with lock(out / ".lock"):
        run.start(info, config, free=FREE)
        remove_stale(out)
        if run.info.get("status") != "done":
            _train(run, recipe, data, split, needs_ihc, init)
    return run


def describe(
    recipe: Recipe,
    data: SlideSet,
    split: Mapping[str, Sequence[str]],
    paths: Mapping[str, str | None],
    init: Pretrained | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``run.json`` and ``config.yaml`` say of a training; see ``train_status``."""
    everyone = [name for names in split.values() for name in names]
    info: dict[str, Any] = {
        "task": TASK,
        "method": recipe.method,
        "recipe": recipe.name,
        "mpp": data.kind.mpp,
        "classes": list(data.classes.names),
        "features": data.kind.document(),
        "data": data.fingerprint(everyone, "ihc" in MODELS[recipe.method].info.needs),
        "split": {name: list(names) for name, names in split.items()},
        "seed": recipe.training.seed,
        "init": init.digest if init else None,
    }
    config = {
        "method": recipe.method,
        **paths,
        "init": str(init.path.resolve()) if init else None,
        "classes": data.classes.text,
        "model": plain(recipe.model),
        "training": plain(recipe.training),
    }
    return info, config


def _train(
    run: RunFolder,
    recipe: Recipe,
    data: SlideSet,
    split: Mapping[str, Sequence[str]],
    needs_ihc: bool,
    init: Pretrained | None,
) -> None:
    last = run.checkpoints / LAST
    with progress_bar(recipe.name, recipe.training.epochs) as bar:

        def note(epoch: Epoch) -> None:
            bar.advance(epoch.epoch if not seen else 1)
            seen.append(epoch)
            auc = "not defined" if epoch.val_auc is None else f"{epoch.val_auc:.3f}"
            bar.note(f"loss {epoch.loss:.3f}, validation AUC {auc}")

        seen: list[Epoch] = []
        fitted = fit(
            recipe, data, split["train"], split["val"], len(data.classes), needs_ihc, last, init=init, done=note
        )
    write_csv(run.metrics, EPOCH_COLUMNS, [vars(epoch) for epoch in fitted.epochs])
    save_fitted(run, fitted)
    rows = []
    for part in ("val", "test"):
        names = split.get(part, ())
        found = fitted.probabilities(data.bag(name) for name in names)
        rows += [
            Predicted(part, name, data.labels[name], tuple(map(float, values)))
            for name, values in zip(names, found, strict=True)
        ]
    write_predictions(run.path / PREDICTIONS, rows, data.classes)
    run.set_status(
        status="done",
        best_epoch=fitted.best_epoch,
        epochs=len(fitted.epochs),
        temperature=fitted.temperature,
        fewest_tiles=min(len(data.bag(name)) for name in split["train"]),
    )
    last.unlink(missing_ok=True)


def save_fitted(run: RunFolder, fitted: Fitted) -> None:
    """Write the weights, the features' standard and the temperature."""
    state = {
        "model": fitted.model.state_dict(),
        "standard": fitted.standard.state() if fitted.standard else None,
        "temperature": fitted.temperature,
        "best_epoch": fitted.best_epoch,
    }
    save_state(run.checkpoints / BEST, state)


def load_fitted(path: Path, accelerator: Accelerator = Accelerator.auto) -> tuple[Fitted, RunFolder]:
    """The model of a run folder, ready to predict.

    Raises:
        RestainError: no run, one of another task, or not finished.
        ItemError: its weights are damaged.
    """
    run = RunFolder(path)
    info, config = run.info, run.config
    if info.get("task") != TASK:
        raise RestainError(f"{path}: is a run of task {info.get('task')!r}, not one of `restain her2 train`.")
    if info.get("status") != "done":
        raise RestainError(f"{path}: its training is not finished; the same `restain her2 train` goes on with it.")
    recipe = recipe_of(config, str(info.get("recipe", info["method"])), f"{path}/config.yaml", {})
    file = run.checkpoints / BEST
    state = load_state(file)
    device = make_fabric(accelerator, Precision.full).device
    try:
        model = build_model(recipe.method, int(info["features"]["width"]), len(info["classes"]), recipe.model)
        model.load_state_dict(state["model"])
        standard = Standard(**state["standard"]) if state["standard"] else None
        temperature, best = float(state["temperature"]), int(state["best_epoch"])
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ItemError(f"{file}: does not fit the run's config.yaml ({error}). Restore both from a copy.") from error
    model.to(device).eval()
    return Fitted(model, standard, temperature, best, [], torch.device(device)), run


def write_predictions(path: Path, rows: Sequence[Predicted], classes: ClassSet) -> None:
    """Write ``split,patient,her2,predicted,p_<class>...``."""
    columns = ["split", "patient", "her2", "predicted", *(f"p_{name}" for name in classes.names)]
    write_csv(
        path,
        columns,
        (
            {
                "split": row.split,
                "patient": row.patient,
                "her2": classes.names[row.label],
                "predicted": classes.names[int(np.argmax(row.probabilities))],
                **{f"p_{name}": repr(p) for name, p in zip(classes.names, row.probabilities, strict=True)},
            }
            for row in rows
        ),
    )


def read_predictions(path: Path, classes: ClassSet) -> list[Predicted]:
    """What ``write_predictions`` wrote.

    Raises:
        ItemError: the file is missing or damaged.
    """
    columns = [f"p_{name}" for name in classes.names]
    try:
        return [
            Predicted(
                row["split"],
                row["patient"],
                classes.names.index(row["her2"]),
                tuple(float(row[column]) for column in columns),
            )
            for row in read_csv(path, ["split", "patient", "her2", *columns])
        ]
    except ValueError as error:
        raise ItemError(f"{path}: is damaged ({error}). Delete the run's folder; it is trained again.") from error


def matrix(rows: Sequence[Predicted]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities [N, C] and class numbers [N]."""
    return np.array([row.probabilities for row in rows]), np.array([row.label for row in rows], np.int64)
