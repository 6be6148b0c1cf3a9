"""Train one slide model: a batch is a list of bags whose gradients add up; the best epoch on validation is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.progress import console
from restain.evaluate.classification import classification_scores
from restain.her2.bag import Bag
from restain.her2.base import SlideModel, build_model
from restain.her2.calibration import fit_temperature, negative_log_likelihood, probabilities
from restain.her2.optimisers import Updater
from restain.her2.pretrained import Pretrained
from restain.her2.recipes import Recipe
from restain.her2.slide_set import drawn
from restain.her2.standard import Standard
from restain.nn.devices import Precision, make_fabric
from restain.training.checkpoint import load_state, save_state

KEPT_BYTES = 2 << 30
"""Standardised bags that a training keeps; beyond, they are made again in each epoch."""


class Bags(Protocol):
    """Whoever has bags by name."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Class number by name."""

    def bag(self, name: str) -> Bag:
        """The whole bag, with its label."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch left: its rate, mean training loss, and loss and macro AUC of validation (None: not defined)."""

    epoch: int
    rate: float
    loss: float
    val_loss: float | None
    val_auc: float | None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model, ready to predict.

    Attributes:
        model: with the weights of the best epoch, in evaluation mode, on the device.
        standard: of the features; None where they stay as they are.
        temperature: logits are divided by it.
        best_epoch: whose weights these are.
        epochs: what each epoch left.
        device: where the model is.
    """

    model: SlideModel
    standard: Standard | None
    temperature: float
    best_epoch: int
    epochs: Sequence[Epoch]
    device: torch.device

    def logits(self, bags: Iterable[Bag]) -> NDArray[np.float64]:
        """Logits of whole bags, from their H&E alone, float64 [N, C]."""
        return logits_of(self.model, (self.ready(bag) for bag in bags))

    def probabilities(self, bags: Iterable[Bag]) -> NDArray[np.float64]:
        """Calibrated probabilities [N, C]."""
        return probabilities(self.logits(bags), self.temperature)

    def ready(self, bag: Bag) -> Bag:
        """A bag as the model reads it: on its standard and device, without IHC."""
        alone = replace(bag, ihc=None, made={})
        return (self.standard.apply(alone) if self.standard else alone).to(self.device)


class _Source:
    """Bags of one training on their standard, kept in memory while there is room."""

    def __init__(self, bags: Bags, standard: Standard | None, device: torch.device, ihc: bool) -> None:
        self.bags, self.standard, self.device, self.ihc = bags, standard, device, ihc
        self.kept: dict[str, Bag] = {}
        self.room = KEPT_BYTES

    def whole(self, name: str, ihc: bool = False) -> Bag:
        if name not in self.kept:
            bag = self.bags.bag(name)
            bag = replace(bag, made={}) if self.ihc else replace(bag, ihc=None, made={})
            bag = self.standard.apply(bag) if self.standard else bag
            size = 4 * (bag.features.numel() + (0 if bag.ihc is None else bag.ihc.numel()))
            if size > self.room:
                return bag if ihc else replace(bag, ihc=None)
            self.room -= size
            self.kept[name] = bag
        return self.kept[name] if ihc else replace(self.kept[name], ihc=None)

    def training(self, name: str, tiles: int | None, rng: np.random.Generator) -> Bag:
        return drawn(self.whole(name, ihc=True), tiles, rng).to(self.device)

    def evaluated(self, names: Sequence[str]) -> Iterable[Bag]:
        return (self.whole(name).to(self.device) for name in names)


def fit(
    recipe: Recipe,
    bags: Bags,
    train: Sequence[str],
    val: Sequence[str],
    classes: int,
    needs_ihc: bool = False,
    state: Path | None = None,
    init: Pretrained | None = None,
    done: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Train a model on ``train``; keep the epoch with the best macro AUC (one class against the rest) on ``val``.

    Of epochs with the same AUC, the one with the smaller loss. Without ``val`` the last epoch is kept, or the mean of
    the last ones. Everything random follows from the seed and the number of the epoch, so that a training that goes on
    from ``state`` is the same as one that was never stopped.

    Args:
        recipe: model and training.
        bags: of all patients named.
        train: names.
        val: names; may be empty.
        classes: how many.
        needs_ihc: whether the bags' IHC goes to the model in training.
        state: file that a stopped training goes on from; None keeps none.
        init: pretrained weights to start from.
        done: called after each epoch.

    Raises:
        RestainError: the training diverged, or settings that cannot be built.
        ItemError: ``state`` is damaged or cannot be written.
    """
    options = recipe.training
    device = make_fabric(options.accelerator, Precision.full).device
    standard = None
    if options.standardise:
        chosen = (bags.bag(name) for name in train)
        standard = Standard.over(bag if needs_ihc else replace(bag, ihc=None) for bag in chosen)
    source = _Source(bags, standard, device, needs_ihc)
    with torch.random.fork_rng(devices=_devices(device)):
        torch.manual_seed(options.seed)
        model = build_model(recipe.method, bags.bag(train[0]).features.shape[1], classes, recipe.model)
        if init:
            console.print(f"{init.path}: {init.take(model)}", markup=False, soft_wrap=True)
        model.fit(source.whole(name, ihc=True) for name in train)
        model.to(device)
        course = _Course(recipe, model, source, train, val, classes)
        if state is not None and state.exists():
            course.load(load_state(state))
        while not course.over:
            done(course.epoch())
            if state is not None and (course.number % options.checkpoint_every == 0 or course.over):
                save_state(state, course.state())
        course.take_best()
    logits = logits_of(model, source.evaluated(val)) if val else np.zeros((0, classes))
    labels = np.array([bags.labels[name] for name in val], np.int64)
    return Fitted(model, standard, fit_temperature(logits, labels), course.best_epoch, course.epochs, device)


class _Course:
    """The state of a training between epochs."""

    def __init__(
        self, recipe: Recipe, model: SlideModel, source: _Source, train: Sequence[str], val: Sequence[str], classes: int
    ) -> None:
        self.recipe, self.options, self.model, self.source = recipe, recipe.training, model, source
        self.train, self.val, self.classes = list(train), list(val), classes
        self.updater = Updater(model.parameters(), self.options)
        self.number, self.best_epoch, self.averaged = 0, 0, 0
        self.best: tuple[float, float] = (-math.inf, -math.inf)
        self.best_weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self.epochs: list[Epoch] = []

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or no better one came for too long."""
        if self.number >= self.options.epochs:
            return True
        waited = self.number - self.best_epoch >= self.options.patience
        return bool(self.val) and self.number >= self.options.min_epochs and waited

    def epoch(self) -> Epoch:
        """One pass over the training patients, then validation."""
        self.number += 1
        rng = np.random.default_rng([self.options.seed, self.number])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout, masking
        rate = self.updater.begin_epoch(self.number)
        loss = self._pass(rng)
        val_loss, val_auc = self._validate()
        if not math.isfinite(loss) or (val_loss is not None and not math.isfinite(val_loss)):
            raise RestainError(
                f"{self.recipe.name}: the training diverged in epoch {self.number}; give a smaller rate than "
                f"{self.options.rate:g}, or --set training.clip=1."
            )
        self.updater.end_epoch(val_loss)
        found = Epoch(self.number, rate, loss, val_loss, val_auc)
        self.epochs.append(found)
        self._keep(found)
        return found

    def _pass(self, rng: np.random.Generator) -> float:
        self.model.train()
        labels = [self.source.bags.labels[name] for name in self.train]
        order = epoch_order(labels, self.options.weighted, rng)
        total = 0.0
        for start in range(0, len(order), self.options.batch):
            part = order[start : start + self.options.batch]
            for index in part:
                bag = self.source.training(self.train[index], self.options.tiles, rng)
                loss = self.model.loss(self.model(bag), labels[index])
                (loss / len(part)).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            self.updater.step()
        return total / len(order)

    def _validate(self) -> tuple[float | None, float | None]:
        if not self.val:
            return None, None
        logits = logits_of(self.model, self.source.evaluated(self.val))
        if not np.isfinite(logits).all():
            return math.inf, None
        labels = np.array([self.source.bags.labels[name] for name in self.val], np.int64)
        scores = classification_scores(probabilities(logits, 1.0), labels)
        return negative_log_likelihood(logits, labels), scores.auc.macro

    def _keep(self, found: Epoch) -> None:
        """Keep these weights where they are the best so far, or their share of the mean."""
        weights = self.model.state_dict()
        if not self.val:
            self.best_epoch = found.epoch
            fresh = found.epoch <= max(1, math.ceil(self.options.epochs * (1 - self.options.average)))
            self.averaged = 1 if fresh or not self.options.average else self.averaged + 1
            for key, value in weights.items():
                mean = self.best_weights[key]
                if self.averaged == 1 or not value.is_floating_point():
                    self.best_weights[key] = value.detach().clone()
                else:
                    self.best_weights[key] = mean + (value.detach() - mean) / self.averaged
            return
        score = (0.0 if found.val_auc is None else found.val_auc, -float(found.val_loss or 0.0))
        if score > self.best:
            self.best, self.best_epoch = score, found.epoch
            self.best_weights = {key: value.detach().clone() for key, value in weights.items()}

    def take_best(self) -> None:
        """Give the model the weights that are kept."""
        self.model.load_state_dict(self.best_weights)
        self.model.eval()

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        counts = {"number": self.number, "best_epoch": self.best_epoch, "averaged": self.averaged}
        best = None if math.isinf(self.best[0]) else list(self.best)
        return {
            "counts": counts,
            "best": best,
            "epochs": [vars(epoch) for epoch in self.epochs],
            "model": self.model.state_dict(),
            "best_weights": self.best_weights,
            "updater": self.updater.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        for name, value in state["counts"].items():
            setattr(self, name, value)
        self.best = (-math.inf, -math.inf) if state["best"] is None else (state["best"][0], state["best"][1])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.model.load_state_dict(state["model"])
        self.best_weights = {key: value.to(self.source.device) for key, value in state["best_weights"].items()}
        self.updater.load(state["updater"])


def epoch_order(labels: Sequence[int], weighted: bool, rng: np.random.Generator) -> list[int]:
    """Indices of an epoch, as many as there are labels.

    Args:
        labels: class numbers.
        weighted: every class equally often (to one); a class with too few patients repeats them, one with too many
            shows a part, another one in each epoch. Else everyone once.
        rng: of the order.
    """
    if not weighted:
        return [int(index) for index in rng.permutation(len(labels))]
    values = np.asarray(labels)
    there = rng.permutation(np.unique(values))  # who gets one more changes from epoch to epoch
    chosen: list[int] = []
    for place, label in enumerate(there):
        quota = len(values) // len(there) + (place < len(values) % len(there))
        members = np.flatnonzero(values == label)
        rounds = [rng.permutation(members) for _ in range(math.ceil(quota / len(members)))]
        chosen += [int(index) for index in np.concatenate(rounds)[:quota]] if rounds else []
    return [chosen[index] for index in rng.permutation(len(chosen))]


def logits_of(model: SlideModel, bags: Iterable[Bag]) -> NDArray[np.float64]:
    """Logits of bags in evaluation mode, float64 [N, C]; the model's mode is as before afterwards."""
    training = model.training
    model.eval()
    with torch.no_grad():  # inference_mode would spoil what bags remember for training
        rows = [model(bag).logits.double().cpu().numpy() for bag in bags]
    model.train(training)
    return np.stack(rows) if rows else np.zeros((0, model.classes))


def _devices(device: torch.device) -> list[int]:
    """Devices whose random state ``fork_rng`` must put back."""
    return [device.index or 0] if device.type == "cuda" else []
