"""A trained run that needs no training, and an H&E slide with tissue and glass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restain.core.runs import RunFolder
from restain.slides import PyramidWriter
from restain.stainers.pix2pix import Config, Generator, Pix2Pix
from restain.training.checkpoint import save_state
from restain.training.loop import FINAL
from restain.training.run import plain

SMALL = Config(generator=Generator.resnet_6blocks, generator_width=4, discriminator_width=4)


def write_run(path: Path, config: Config = SMALL, mpp: float | None = 0.5) -> RunFolder:
    torch.manual_seed(0)
    run = RunFolder(path)
    run.start({"task": "stain", "method": "pix2pix", "mpp": mpp}, {"stainer": plain(config)})
    stainer = Pix2Pix(config)
    for module in stainer.G.modules():  # spread values, so that staining is not one grey
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.normal_(module.weight, 0, 0.15)
    save_state(run.checkpoints / FINAL, {"weights": stainer.state_dict()})
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_run(tmp_path_factory.mktemp("runs") / "bounded")


@pytest.fixture(scope="session")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A U-Net with instance norm: every pixel depends on the whole window."""
    config = replace(SMALL, generator=Generator.unet_128)
    return write_run(tmp_path_factory.mktemp("runs") / "unbounded", config)


def he_picture(width: int, height: int) -> np.ndarray:
    """Pink, textured tissue in the left two thirds, glass on the right."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(height, width, 1)).astype(np.float32), (0, 0), 2)[..., None] * 150
    tissue = np.array([190, 120, 170]) + noise * np.array([1.0, 1.3, 0.8])
    picture = np.full((height, width, 3), 243.0)
    picture[40:-40, 40 : 2 * width // 3] = tissue[40:-40, 40 : 2 * width // 3]
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_slide(path: Path, picture: np.ndarray, mpp: float | None) -> Path:
    with PyramidWriter(path, (picture.shape[1], picture.shape[0]), mpp, compression="deflate") as writer:
        for y in range(0, picture.shape[0], 512):
            for x in range(0, picture.shape[1], 512):
                writer.write(x, y, picture[y : y + 512, x : x + 512])
    return path


@pytest.fixture(scope="session")
def he_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "case 1.ome.tif", he_picture(1500, 1100), 0.5)
