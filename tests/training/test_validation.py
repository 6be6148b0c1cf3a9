"""The best epoch on split ``val`` is kept; the cosine schedule leaves the rates alone that it should."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.data import Augmentation, read_dataset
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_image
from restain.metrics import ImagePair, load_metric
from restain.stainers.pix2pix import Config, Generator, Pix2Pix
from restain.training.batches import BatchOptions
from restain.training.loop import FINAL
from restain.training.options import Keep, TrainingOptions
from restain.training.run import train
from restain.training.schedules import Convention, RateSchedule
from restain.training.validation import Validation

from ..pairs import write_pairs

SMALL = Config(generator=Generator.resnet_6blocks, generator_width=4, discriminator_width=4)
BATCHES = BatchOptions(batch_size=3, augmentation=Augmentation(crop=32))
BEST = TrainingOptions(
    epochs=4, epochs_decay=0, convention=Convention.end, sample_every=0, keep=Keep.best_psnr, keep_every=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def psnr_of(run: RunFolder, data: Path, checkpoint: str | None = None) -> float:
    """Mean PSNR on split val, by staining and measuring as the commands do."""
    network, metric = Network(load_stainer(run, checkpoint)), load_metric("psnr")
    pairs = [record.read() for record in read_dataset(data).split("val")]
    return float(np.mean([metric(ImagePair(ihc, stain_image(network, he))) for he, ihc in pairs]))


def test_the_weights_of_the_best_epoch_stain(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a learning rate that ruins the last epochs, an earlier one is kept; the log says what was measured."""
    original = Pix2Pix.training_step

    def ruined(self: Pix2Pix, batch: object, step: object) -> dict[str, torch.Tensor]:
        losses = original(self, batch, step)
        if step.epoch > 2:
            with torch.no_grad():
                self.G.model[-2].bias.add_(0.5)
        return losses

    monkeypatch.setattr(Pix2Pix, "training_step", ruined)
    run = train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, BEST)
    with (run.path / "validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    values = [float(row["psnr"]) for row in rows]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    best = int(np.argmax(values)) + 1
    assert best <= 2
    assert run.info["best_epoch"] == best
    assert run.info["best_psnr"] == pytest.approx(max(values), abs=1e-3)
    for epoch, value in enumerate(values, start=1):
        assert psnr_of(run, data, f"epoch_{epoch:04d}.safetensors") == pytest.approx(value, abs=1e-3)
    assert psnr_of(run, data) == pytest.approx(max(values), abs=1e-3)
    kept, final = (load_file(run.checkpoints / name) for name in (f"epoch_{best:04d}.safetensors", FINAL))
    assert all(torch.equal(final[key], kept[key]) for key in final)


def test_a_dataset_without_val_is_refused(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", val=0)
    with pytest.raises(RestainError, match=r"split val.*--training.keep last"):
        train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, BEST)
    assert not (tmp_path / "run").exists(), "nothing stands in the way of the command that is advised"


def test_images_that_are_too_small_are_named(data: Path) -> None:
    stainer = Pix2Pix(SMALL)
    stainer.least = 16
    with pytest.raises(RestainError, match="too small"):
        Validation(read_dataset(data), replace(BATCHES, augmentation=Augmentation(resize=8)), stainer)


def test_warm_up_and_cosine_by_hand() -> None:
    schedule = RateSchedule(2, 4, Convention.cosine, floor=0.1)
    times = [(1, 0.0), (1, 0.5), (2, 0.5), (3, 0.0), (5, 0.0), (6, 0.999999)]
    want = [0, 0.25, 0.75, 1.0, 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)), 0.1]
    assert [schedule.multiplier(*time) for time in times] == pytest.approx(want, abs=1e-5)


def test_rates_change_at_every_step_but_for_those_that_no_schedule_changes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    original = Pix2Pix.training_step
    optimizers = {}
    build = Pix2Pix.optimizers

    def noted(self: Pix2Pix) -> dict[str, torch.optim.Optimizer]:
        optimizers.update(build(self))
        return optimizers

    def watched(self: Pix2Pix, batch: object, step: object) -> dict[str, torch.Tensor]:
        seen.append(tuple(optimizers[name].param_groups[0]["lr"] for name in ("G", "D")))
        return original(self, batch, step)

    monkeypatch.setattr(Pix2Pix, "optimizers", noted)
    monkeypatch.setattr(Pix2Pix, "training_step", watched)
    monkeypatch.setattr(Pix2Pix, "unscheduled", frozenset({"D"}))
    options = TrainingOptions(epochs=1, epochs_decay=1, convention=Convention.cosine, sample_every=0)
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, options)
    assert [rate for rate, _ in seen] == pytest.approx([0, 1e-4, 2e-4, 1e-4])  # two steps an epoch
    assert {rate for _, rate in seen} == {2e-4}
