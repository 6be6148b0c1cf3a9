"""What every registered method must do, small on the CPU: train, save, load, stain, resume exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from restain.cli.dataset import run as dataset_command
from restain.cli.parsing import CONFIGS
from restain.cli.train import run as train_command
from restain.core.runs import RunFolder
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_image
from restain.stainers.base import STAINERS
from restain.training.batches import Batches
from restain.training.loop import FINAL
from restain.training.schedules import RateSchedule

from ..pairs import write_pairs

METHODS = [entry.name for entry in STAINERS]


class Killed(BaseException):
    """Stands for a SIGKILL: nothing may run after it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with levels and knowledge maps: whatever a method needs."""
    root = write_pairs(tmp_path_factory.mktemp("pairs"), side=SIDE)
    assert dataset_command(["knowledge", str(root), "--mpp", "0.5"]) == 0
    return root


SIDE = 128
"""Pixels of a side: what the deepest discriminator needs."""


def words(method: str, data: Path, out: Path) -> list[str]:
    """The method's recipe, cut down to thin and shallow networks, three steps an epoch and two epochs."""
    config = STAINERS[method].info.config
    small = {"_width": "4", "_blocks": "2", "pool": "3", "side": str(SIDE)}
    settings = [
        word
        for field in fields(config)
        for suffix, value in small.items()
        if field.name.endswith(suffix)
        for word in (f"--stainer.{field.name}", value)
    ]
    return [
        method, "--config", method, "--data", str(data), "--out", str(out), *settings, "--batches.batch_size", "2",
        "--batches.augmentation.crop", str(SIDE), "--batches.workers", "0", "--training.epochs", "1",
        "--training.epochs_decay", "1", "--training.convention", "end", "--training.checkpoint_every", "2",
        "--training.log_every", "1", "--mpp", "0.5",
    ]  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / FINAL)


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("runs") / request.param
    assert train_command(words(request.param, data, out)) == 0
    return request.param, out


def test_the_run_folder_is_complete_and_losses_are_finite(trained: tuple[str, Path]) -> None:
    method, out = trained
    info = RunFolder(out).info
    assert (info["task"], info["method"], info["mpp"], info["status"]) == ("stain", method, 0.5, "done")
    table = np.genfromtxt(out / "metrics.csv", delimiter=",", names=True)
    assert list(table["step"]) == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(table[name]).all() for name in table.dtype.names)
    assert (out / "samples" / "epoch_0002.jpg").exists()


def test_stains_what_is_no_multiple_of_its_strides(trained: tuple[str, Path]) -> None:
    network = Network(load_stainer(RunFolder(trained[1])))
    image = np.random.default_rng(0).integers(0, 256, (75, 91, 3), dtype=np.uint8)
    out = stain_image(network, image)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert out.std() > 0
    assert np.array_equal(out, stain_image(network, image)), "staining the same image twice gives the same"


@pytest.mark.parametrize("step", [1, 3, 5])
def test_killed_and_resumed_ends_with_the_same_weights(
    trained: tuple[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed at a step without a checkpoint, at one with, and in the middle of the second epoch."""
    method, whole = trained
    passed = 0
    original = Batches.epoch

    def dying(self: Batches, *place: int) -> Iterator[Any]:
        nonlocal passed
        for batch in original(self, *place):
            if passed == step:
                raise Killed
            passed += 1
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "epoch", dying)
        with pytest.raises(Killed):
            train_command(words(method, data, tmp_path / "run"))
    assert not (tmp_path / "run" / "checkpoints" / FINAL).exists()
    assert train_command(words(method, data, tmp_path / "run")) == 0
    ours, theirs = weights(tmp_path / "run"), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / "run" / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


def test_training_from_its_config_repeats_the_run(trained: tuple[str, Path], data: Path, tmp_path: Path) -> None:
    method, whole = trained
    again = [method, "--config", str(whole / "config.yaml"), "--out", str(tmp_path / "run")]
    assert train_command(again) == 0
    ours, theirs = weights(tmp_path / "run"), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_reference_keys_cover_the_networks(trained: tuple[str, Path]) -> None:
    stainer = load_stainer(RunFolder(trained[1]))
    keys = stainer.reference_keys()
    assert keys.keys() == stainer.state_dict().keys()
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_read_whole(path: Path, data: Path, tmp_path: Path) -> None:
    """Each YAML names its method, fits that method's command and leaves nothing to defaults."""
    from restain.cli.parsing import parser_for
    from restain.cli.train import command

    document = yaml.safe_load(path.read_text())
    method = document["method"]
    parser = parser_for(command(method), "train", recipe=method)
    parsed = parser.parse_args(["--config", str(path), "--data", str(data), "--out", str(tmp_path)])
    complete = parser.instantiate(parsed)
    assert RateSchedule(complete.training.epochs, complete.training.epochs_decay).epochs > 0
    from restain.training.run import plain

    for section in ("stainer", "batches", "training"):
        assert document[section] == plain(complete[section]), section


@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_of_a_method_is_its_published_settings(method: str) -> None:
    document = yaml.safe_load((CONFIGS / f"{method}.yaml").read_text())
    from restain.training.run import plain

    assert document["stainer"] == plain(STAINERS[method].info.config())
