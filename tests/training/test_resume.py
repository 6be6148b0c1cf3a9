"""A training that is really killed, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from restain.core.runs import RunFolder
from restain.training.loop import FINAL, LAST

from ..pairs import write_pairs


def command(data: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "restain.cli.main", "train", "pyramid_pix2pix", "--config", "pyramid_pix2pix_small",
        "--data", str(data), "--out", str(out), "--stainer.generator_width", "4", "--stainer.discriminator_width", "4",
        "--stainer.dropout", "true", "--batches.batch_size", "1", "--batches.augmentation.crop", "64",
        "--training.epochs", "2", "--training.epochs_decay", "2", "--training.checkpoint_every", "5",
        "--training.sample_every", "0", "--training.log_every", "1", "--training.ema", "0.9",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), train=12)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(data, out), check=True, env=environment(), capture_output=True)
    return out


def interrupt(words: list[str], out: Path, number: int, group: bool = False) -> int:
    """Start, wait for the first checkpoint and a little longer, send the signal (to the whole group); the exit code."""
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (out / "checkpoints" / LAST).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it was over before it could be interrupted"
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_interrupted_and_started_again_ends_bit_identical(
    data: Path, whole: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "run"
    assert interrupt(command(data, out), out, number) == code
    assert not (out / "checkpoints" / FINAL).exists()
    subprocess.run(command(data, out), check=True, env=environment(), capture_output=True)
    ours, theirs = (load_file(folder / "checkpoints" / FINAL) for folder in (out, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (out / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_stops_as_ctrl_c_does(data: Path, tmp_path: Path, number: int) -> None:
    """As a cluster or a terminal sends it: the processes that read images leave it to the one that trains."""
    out = tmp_path / "run"
    assert interrupt([*command(data, out), "--batches.workers", "2"], out, number, group=True) == 130
    assert (out / "checkpoints" / LAST).exists()


def test_two_processes_train_together(data: Path, tmp_path: Path) -> None:
    """DDP on two CPU processes: half as many steps, one run folder, finite weights."""
    words = [*command(data, tmp_path / "run"), "--training.devices", "2", "--training.strategy", "ddp"]
    words += ["--training.accelerator", "cpu", "--training.sample_every", "4", "--batches.augmentation.crop", "32"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").info["steps"] == 4 * 12 // 2
    weights = load_file(tmp_path / "run" / "checkpoints" / FINAL)
    assert all(value.isfinite().all() for value in weights.values())
