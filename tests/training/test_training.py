from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.core.runs import RunFolder
from restain.data import Augmentation
from restain.stainers.pix2pix import Config, Generator, Pix2Pix
from restain.training import loop
from restain.training.batches import BatchOptions
from restain.training.checkpoint import load_state, save_state
from restain.training.log import LossLog
from restain.training.options import TrainingOptions
from restain.training.run import train
from restain.training.schedules import Convention, RateSchedule

from ..pairs import write_pairs

SMALL = Config(generator=Generator.resnet_6blocks, generator_width=4, discriminator_width=4)
BATCHES = BatchOptions(batch_size=3, augmentation=Augmentation(crop=32))
SHORT = TrainingOptions(epochs=1, epochs_decay=0, convention=Convention.end, log_every=1, sample_every=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_schedules_as_printed_in_the_papers_codes() -> None:
    """2 + 2 epochs by hand: at the start of each epoch, after it, and by subtraction."""
    want = {
        Convention.start: [1, 2 / 3, 1 / 3, 0],
        Convention.end: [1, 1, 2 / 3, 1 / 3],
        Convention.subtract: [1, 1, 1, 1 / 2],
    }
    for convention, multipliers in want.items():
        schedule = RateSchedule(2, 2, convention)
        assert [schedule.multiplier(epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(multipliers)


def test_state_round_trips_without_pickle(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"a": {"b": shared, "c": [shared, 1, None, "x"]}, "n": torch.tensor(3), "flag": True}
    save_state(tmp_path / "s.safetensors", state)
    again = load_state(tmp_path / "s.safetensors")
    assert torch.equal(again["a"]["b"], shared)
    assert torch.equal(again["a"]["c"][0], shared)
    assert again["a"]["c"][1:] == [1, None, "x"]
    assert again["n"].item() == 3
    assert again["flag"] is True
    (tmp_path / "s.safetensors").write_bytes((tmp_path / "s.safetensors").read_bytes()[:-8])
    with pytest.raises(ItemError, match="not a readable checkpoint"):
        load_state(tmp_path / "s.safetensors")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = Pix2Pix.content_losses

    def exploding(self: Pix2Pix, fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        losses = original(self, fake, real)
        return losses if calls < 4 else {"L1": losses["L1"] * float("nan")}

    monkeypatch.setattr(Pix2Pix, "content_losses", exploding)
    options = replace(SHORT, epochs=3)
    with pytest.raises(ItemError, match=r"loss L1 is not finite at step 4 \(epoch 2\)"):
        train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, options)
    state = load_state(tmp_path / "run" / "checkpoints" / loop.LAST)
    assert state["position"] == {"epoch": 2, "batch": 0, "step": 2, "best_psnr": None, "best_epoch": None}
    assert all(value.isfinite().all() for value in state["weights"].values())


def test_weights_that_are_not_finite_are_never_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finite loss whose gradient is not: the step's checkpoint would have lost the run."""
    calls = 0
    original = Pix2Pix.content_losses

    def exploding(self: Pix2Pix, fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        losses = original(self, fake, real)
        return losses if calls < 2 else losses | {"root": ((fake - fake.detach()) ** 2).sum().sqrt()}

    monkeypatch.setattr(Pix2Pix, "content_losses", exploding)
    with pytest.raises(ItemError, match="weights are not finite after step 2"):
        train("pix2pix", SMALL, data, tmp_path / "bad", BATCHES, SHORT)
    assert not (tmp_path / "bad" / "checkpoints" / loop.LAST).exists()


def test_optimizers_take_up_their_state_where_the_networks_are(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their state goes to the device that their parameters are on at that moment: the networks are moved before."""
    order: list[str] = []
    setup, load = Fabric.setup_module, torch.optim.Adam.load_state_dict
    monkeypatch.setattr(Fabric, "setup_module", lambda self, *a, **k: order.append("setup") or setup(self, *a, **k))
    monkeypatch.setattr(
        torch.optim.Adam, "load_state_dict", lambda self, state: order.append("load") or load(self, state)
    )
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT)
    run = RunFolder(tmp_path / "run")
    run.set_status(status="running")
    (run.checkpoints / loop.FINAL).unlink()
    order.clear()
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT)
    assert order == ["setup", "setup", "load", "load"]


def test_a_run_of_other_settings_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT, mpp=0.5)
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT, mpp=0.5)
    with pytest.raises(RestainError, match=r"config\.stainer\.l1_weight: was 100\.0, now 7\.0"):
        train("pix2pix", replace(SMALL, l1_weight=7.0), data, tmp_path / "run", BATCHES, SHORT, mpp=0.5)
    with pytest.raises(RestainError, match="mpp"):
        train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT, mpp=0.25)
    other = write_pairs(tmp_path / "other", seed=1)
    with pytest.raises(RestainError, match="data: was"):
        train("pix2pix", SMALL, other, tmp_path / "run", BATCHES, SHORT, mpp=0.5)


def test_wrong_use_is_told_with_exit_code_2(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "pyramid_pix2px", "--data", str(data), "--out", str(tmp_path / "r")]) == 2
    assert "Did you mean pyramid_pix2pix" in capsys.readouterr().err
    assert main(["train", "pix2pix", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "r")]) == 2
    with pytest.raises(SystemExit) as stop:
        main(["train", "pix2pix", "--data", str(data), "--out", str(tmp_path / "r"), "--stainer.generator", "resnet"])
    assert stop.value.code == 2
    words = ["train", "pyramid_pix2pix", "--data", str(data), "--out", str(tmp_path / "r"), "--stainer.scales", "4"]
    assert main(words) == 2
    assert not (tmp_path / "r").exists()


def test_a_full_disk_keeps_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint cannot be written: the first one stays, and the same command goes on from it."""
    options = replace(SHORT, epochs=2)
    written = 0
    original = save_state

    def filling(path: Path, state: dict[str, object]) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise ItemError(f"{path}: could not be written (No space left on device).")
        original(path, state)

    monkeypatch.setattr(loop, "save_state", filling)
    with pytest.raises(ItemError, match="No space left"):
        train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, options)
    monkeypatch.setattr(loop, "save_state", original)
    run = train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, options)
    assert run.info["status"] == "done"


def test_it_learns(data: Path, tmp_path: Path) -> None:
    """The L1 of a colour map that a 1x1 convolution could do falls to less than half."""
    config = replace(SMALL, generator_width=8, learning_rate=5e-3, dropout=False)
    options = replace(SHORT, epochs=40, log_every=1)
    train("pix2pix", config, data, tmp_path / "run", BATCHES, options)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("L1")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_images_that_do_not_fit_are_refused_before_the_run_begins(tmp_path: Path) -> None:
    odd = write_pairs(tmp_path / "odd", side=90)
    whole = replace(BATCHES, augmentation=Augmentation())
    with pytest.raises(RestainError, match=r"90 x 90 px do not fit .* multiples of 4 .*crop 88"):
        train("pix2pix", SMALL, odd, tmp_path / "run", whole, SHORT)
    with pytest.raises(RestainError, match="multiples of 256"):
        train("pix2pix", replace(SMALL, generator=Generator.unet_256), odd, tmp_path / "run", whole, SHORT)
    assert not (tmp_path / "run").exists()


def test_without_decay_the_rate_stays(data: Path, tmp_path: Path) -> None:
    train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, replace(SHORT, epochs=2, convention=Convention.start))
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    assert {row[rows[0].index("lr")] for row in rows[1:]} == {"0.0002"}


def test_steps_past_a_million_survive_a_resume(tmp_path: Path) -> None:
    log = LossLog(tmp_path / "m.csv", 0)
    log.write({"epoch": 9, "step": 1_234_567, "lr": 0.0002, "D": 0.5})
    LossLog(tmp_path / "m.csv", 2_000_000)
    assert "1234567" in (tmp_path / "m.csv").read_text()


def test_what_a_kill_at_the_first_moment_leaves_is_no_obstacle(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".tmp-abc-config.yaml").touch()
    assert train("pix2pix", SMALL, data, tmp_path / "run", BATCHES, SHORT).info["status"] == "done"


@pytest.mark.parametrize(
    "words",
    [
        ["--training.accelerator", "mps"],
        ["--training.devices", "0"],
        ["--training.seed", "-1"],
        ["--training.precision", "fp16", "--training.accelerator", "cpu"],
        ["--stainer.generator_width", "0"],
        ["--stainer.learning_rate", "-1"],
        ["--stainer.gan", "wgangp"],
        ["--mpp", "-1"],
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(
    words: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["train", "pix2pix", "--data", str(data), "--out", str(tmp_path / "run")]
    try:
        code = main([*base, *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "run" / "run.json").exists()
