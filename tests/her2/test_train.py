"""Training slide models."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.her2.bag import Bag
from restain.her2.base import MODELS
from restain.her2.calibration import calibration_error, fit_temperature, negative_log_likelihood
from restain.her2.labels import HER2
from restain.her2.optimisers import Updater
from restain.her2.recipes import Recipe, load_recipe, shipped
from restain.her2.slide_set import SlideSet, read_slide_set
from restain.her2.standard import Standard
from restain.her2.train import epoch_order, fit
from restain.her2.train_options import Optimiser, Schedule, StatusTraining
from restain.her2.train_run import load_fitted, random_split, read_predictions, train_status
from restain.training.checkpoint import load_state
from tests.her2.cohort import write_cohort
from tests.her2.slide_models import small_config

FAST = StatusTraining(
    epochs=8, batch=4, rate=5e-3, patience=8, min_epochs=8, checkpoint_every=3, schedule=Schedule.constant
)


def small(method: str = "abmil", **training: object) -> Recipe:
    wide = {"width": 16} if method == "mean_pool" else {"width": 16, "attention_width": 8}
    if method == "ipca":
        wide = {"width": 16, "depth": 1, "heads": 2, "prompts": 4}
    found = load_recipe(method, {f"model.{key}": value for key, value in wide.items()} if wide else None)
    return replace(found, training=replace(FAST, **training))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SlideSet:
    root = tmp_path_factory.mktemp("cohort")
    write_cohort(root, 32, ihc=True)
    return read_slide_set(root / "cohort.csv", root / "he", root / "ihc", HER2)


def halves(data: SlideSet) -> tuple[list[str], list[str]]:
    names = list(data.patients)
    return names[:20], names[20:]


def test_every_shipped_recipe_is_complete_and_can_be_read() -> None:
    assert shipped()
    for name in shipped():
        recipe = load_recipe(name)
        assert recipe.method


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(RestainError, match="no setting colour"):
        load_recipe("abmil", {"colour": 3})
    with pytest.raises(RestainError, match="Did you mean"):
        load_recipe("abmill")
    with pytest.raises(RestainError, match="epochs"):
        load_recipe("abmil", {"training.epochs": "many"})


def test_it_learns_what_is_there_and_nothing_where_nothing_is(data: SlideSet, tmp_path: Path) -> None:
    train, val = halves(data)
    fitted = fit(small(epochs=20), data, train, val, 4)
    found = fitted.probabilities(data.bag(name) for name in val)
    labels = [data.labels[name] for name in val]
    assert roc_auc_score(labels, found, multi_class="ovr") > 0.9
    write_cohort(tmp_path, 40, signal=0.0, seed=1)
    noise = read_slide_set(tmp_path / "cohort.csv", tmp_path / "he", None, HER2)
    names = list(noise.patients)
    fitted = fit(small(epochs=20), noise, names[:16], names[16:24], 4)
    found = fitted.probabilities(noise.bag(name) for name in names[24:])
    assert roc_auc_score([noise.labels[name] for name in names[24:]], found, multi_class="ovr") < 0.75


def test_the_best_epoch_is_kept_by_auc_then_loss(data: SlideSet) -> None:
    train, val = halves(data)
    fitted = fit(small(), data, train, val, 4)
    ranked = max(fitted.epochs, key=lambda one: (one.val_auc, -float(one.val_loss or 0)))
    assert fitted.best_epoch == ranked.epoch
    logits = fitted.logits(data.bag(name) for name in val)
    labels = np.array([data.labels[name] for name in val])
    assert negative_log_likelihood(logits, labels) == pytest.approx(ranked.val_loss, rel=1e-5)  # its weights


def test_early_stopping(data: SlideSet) -> None:
    train, val = halves(data)
    fitted = fit(small(epochs=60, patience=3, min_epochs=5), data, train, val, 4)
    assert len(fitted.epochs) == max(5, fitted.best_epoch + 3) < 60


@pytest.mark.parametrize("method", ["abmil", "ipca"])
@pytest.mark.parametrize("optimizer", ["adam", "radam_lookahead"])
def test_a_training_that_was_stopped_goes_on_exactly(
    data: SlideSet, tmp_path: Path, method: str, optimizer: str
) -> None:
    train, val = halves(data)
    recipe = small(method, tiles=5, optimizer=Optimiser(optimizer), schedule=Schedule.plateau, plateau_patience=1)
    whole = fit(recipe, data, train, val, 4, needs_ihc=method == "ipca")
    torch.manual_seed(99)  # what happens outside of the training is of no account

    class StopError(Exception):
        pass

    def stop(epoch: object) -> None:
        if getattr(epoch, "epoch", 0) == 5:
            raise StopError

    state = tmp_path / "last.safetensors"
    with pytest.raises(StopError):
        fit(recipe, data, train, val, 4, needs_ihc=method == "ipca", state=state, done=stop)
    seen: list[int] = []
    again = fit(
        recipe, data, train, val, 4, needs_ihc=method == "ipca", state=state, done=lambda one: seen.append(one.epoch)
    )
    assert seen[0] == 4  # the checkpoint is of epoch 3
    assert [vars(one) for one in again.epochs] == [vars(one) for one in whole.epochs]
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[key], value, rtol=0, atol=0)


def test_a_batch_is_the_mean_of_its_bags_gradients() -> None:
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    updater = Updater([weights], replace(FAST, optimizer=Optimiser.adam, rate=0.1))
    updater.begin_epoch(1)
    for sample in (torch.tensor([1.0, 0.0]), torch.tensor([3.0, 2.0])):
        ((weights * sample).sum() / 2).backward()
    torch.testing.assert_close(weights.grad, torch.tensor([2.0, 1.0]))
    updater.step()
    torch.testing.assert_close(weights.data, torch.tensor([0.9, -2.1]), atol=1e-5, rtol=0)  # Adam's first step: rate


def test_lookahead_pulls_half_way_every_sixth_step() -> None:
    options = replace(FAST, optimizer=Optimiser.radam_lookahead, rate=0.01)
    weights, plain = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    updater, other = Updater([weights], options), torch.optim.RAdam([plain], lr=0.01)
    updater.begin_epoch(1)
    for _ in range(6):
        weights.sum().backward()
        plain.sum().backward()
        updater.step()
        other.step()
        other.zero_grad()
    torch.testing.assert_close(weights.data, plain.data / 2)


def test_the_cosine_goes_down_and_never_up() -> None:
    updater = Updater([torch.nn.Parameter(torch.zeros(1))], replace(FAST, schedule=Schedule.cosine, epochs=10))
    rates = [updater.begin_epoch(epoch) for epoch in range(1, 11)]
    assert rates[0] == FAST.rate
    assert all(b < a for a, b in itertools.pairwise(rates))
    assert rates[5] == pytest.approx(FAST.rate * 0.5 * (1 + math.cos(math.pi / 2)))


def test_classes_are_drawn_equally_often() -> None:
    labels = [0] * 20 + [1] * 5 + [2] * 5
    rng = np.random.default_rng(0)
    order = epoch_order(labels, True, rng)
    assert Counter(labels[index] for index in order) == {0: 10, 1: 10, 2: 10}
    seen = {index for _ in range(12) for index in epoch_order(labels, True, rng)}
    assert seen == set(range(30))
    assert sorted(epoch_order(labels, False, rng)) == list(range(30))
    balanced = [0, 1] * 8
    assert sorted(epoch_order(balanced, True, rng)) == list(range(16))  # everyone once


def test_the_standard_is_of_the_training_tiles_alone() -> None:
    rng = np.random.default_rng(0)
    bags = []
    for count in (5, 9):
        values = rng.normal(50, 3, (count, 3)).astype(np.float32)
        values[:, 2] = 7.25
        bags.append(Bag(torch.from_numpy(values), torch.zeros(count, 2), 1.0))
    standard = Standard.over(bags)
    every = torch.cat([bag.features for bag in bags]).double()
    torch.testing.assert_close(standard.mean, every.mean(0).float())
    torch.testing.assert_close(standard.scale[:2], (1 / every.std(0, correction=0)[:2]).float())
    assert standard.scale[2] == 0  # a constant column says nothing
    moved = torch.cat([standard.apply(bag).features for bag in bags])
    torch.testing.assert_close(moved.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 4))
    labels = np.array([rng.choice(4, p=softmax(row)) for row in truth])
    assert fit_temperature(truth * 3, labels) == pytest.approx(3, rel=0.1)
    assert calibration_error(softmax(truth, 1), labels) < 0.03 < calibration_error(softmax(truth * 3, 1), labels)
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1


def test_a_run_predicts_the_same_when_it_is_read_again(data: SlideSet, tmp_path: Path) -> None:
    split = random_split(data, 0.25, 0)
    run = train_status(small(tiles=6), data, split, tmp_path / "run", {"cohort": None})
    info = run.info
    assert (info["task"], info["method"], info["status"]) == ("her2", "abmil", "done")
    assert set(load_state(run.checkpoints / "best.safetensors")) >= {"model", "standard", "temperature"}
    fitted, _ = load_fitted(tmp_path / "run")
    rows = read_predictions(tmp_path / "run" / "predictions.csv", HER2)
    assert [row.patient for row in rows] == list(split["val"])
    found = fitted.probabilities(data.bag(row.patient) for row in rows)
    np.testing.assert_allclose(found, [row.probabilities for row in rows], atol=1e-6)
    assert len(read_csv(run.metrics)) == info["epochs"]
    again = load_recipe(str(tmp_path / "run" / "config.yaml"))
    assert (again.model, again.training) == (small(tiles=6).model, small(tiles=6).training)
    train_status(small(tiles=6), data, split, tmp_path / "run", {"cohort": None})  # is done: nothing happens
    with pytest.raises(RestainError, match=r"rate: was 0\.005, now 0\.001"):
        train_status(small(tiles=6, rate=1e-3), data, split, tmp_path / "run", {"cohort": None})


@pytest.mark.parametrize("method", [entry.name for entry in MODELS])
def test_every_model_trains_into_a_run_that_predicts(data: SlideSet, tmp_path: Path, method: str) -> None:
    training = replace(FAST, epochs=2, min_epochs=1)
    recipe = Recipe(method, method, small_config(MODELS[method].info.config), training, {})
    split = random_split(data, 0.25, 0)
    train_status(recipe, data, split, tmp_path / "run", {})
    fitted, _ = load_fitted(tmp_path / "run")
    rows = read_predictions(tmp_path / "run" / "predictions.csv", HER2)
    found = fitted.probabilities(data.bag(row.patient) for row in rows)
    np.testing.assert_allclose(found, [row.probabilities for row in rows], atol=1e-5)


def test_ihc_is_for_training_alone_and_must_be_there(data: SlideSet, tmp_path: Path) -> None:
    split = random_split(data, 0.25, 0)
    train_status(small("ipca", epochs=2), data, split, tmp_path / "run", {})
    fitted, _ = load_fitted(tmp_path / "run")
    bag = data.bag("p001")
    with_ihc, without = fitted.logits([bag]), fitted.logits([replace(bag, ihc=None, made={})])
    np.testing.assert_array_equal(with_ihc, without)
    alone = replace(data, patients={name: replace(one, ihc=()) for name, one in data.patients.items()}, _kept={})
    with pytest.raises(RestainError, match="--ihc-features"):
        train_status(small("ipca", epochs=2), alone, split, tmp_path / "other", {})


def test_a_training_that_diverges_says_so(data: SlideSet) -> None:
    train, val = halves(data)
    with pytest.raises(RestainError, match="diverged in epoch"):
        fit(small(rate=1e30), data, train, val, 4)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"tiles": 0}, {"clip": -1.0}, {"average": 1.0}]
)
def test_settings_that_make_no_training_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RestainError, match=next(iter(wrong))):
        replace(FAST, **wrong)  # type: ignore[arg-type]
