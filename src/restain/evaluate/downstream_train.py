"""The downstream classifier of TDKstain (Peng 2024, Sec. 3, "Analysis on External Data"): train, choose an epoch, test.

The paper says a ResNet-50 (He 2016) and nothing of its training: the settings here are ours, and stated in the result.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from restain.core.errors import RestainError
from restain.evaluate.classification import classification_scores
from restain.nn.backbones import imagenet_normalised
from restain.nn.devices import Accelerator, Precision
from restain.nn.resnet import RESNET50_FILE, ResNet50
from restain.nn.weights import find_weights

FULL_WIDTH = 64
"""Channels of the ResNet-50 of the paper, the one that ImageNet weights fit."""
DECAY = 1e-4


@dataclass(frozen=True)
class ClassifierOptions:
    """How the classifier is trained; TDKstain's paper does not say.

    Attributes:
        size: side that images are scaled to, px.
        epochs: passes over the training images; the learning rate goes down to 0 along half a cosine.
        batch: images in a step.
        rate: learning rate of AdamW.
        validation: share of the patients (of the images, where patients are not known) that choose the epoch.
        seed: of the first training; the others have the next ones.
        seeds: how many trainings of each entry.
        width: channels of the network's first stage; 64 is the ResNet-50, fewer are for tests and CPUs.
        accelerator: auto takes the best there is.
        precision: float32, or mixed with bfloat16 or float16.
    """

    size: int = 512
    epochs: int = 30
    batch: int = 16
    rate: float = 1e-4
    validation: float = 0.2
    seed: int = 0
    seeds: int = 3
    width: int = FULL_WIDTH
    accelerator: Accelerator = Accelerator.auto
    precision: Precision = Precision.full

    def __post_init__(self) -> None:
        """Refuse numbers that make no training.

        Raises:
            RestainError: which one, and what it may be.
        """
        least = {"size": 64, "epochs": 1, "batch": 2, "seeds": 1, "width": 1, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise RestainError(f"--{name} {getattr(self, name)}: give {low} or more.")
        if not 0 < self.validation < 1:
            raise RestainError(f"--validation {self.validation:g}: give a share between 0 and 1.")
        if not 0 < self.rate < math.inf:
            raise RestainError(f"--rate {self.rate:g}: give a learning rate above 0.")

    @property
    def network(self) -> str:
        """The network in words."""
        return "ResNet-50" if self.width == FULL_WIDTH else f"ResNet-50 of width {self.width} instead of {FULL_WIDTH}"


def imagenet_weights(options: ClassifierOptions, folder: Path | None) -> tuple[Path | None, str]:
    """The file of ImageNet weights, if there is one that fits, and in words what the training begins with."""
    if options.width != FULL_WIDTH:
        return None, "random weights (ImageNet's fit the full width alone)"
    path = find_weights(RESNET50_FILE, folder)
    if path is None:
        return None, f"random weights ({RESNET50_FILE} is neither in --weights nor in the cache)"
    return path, f"ImageNet's weights ({RESNET50_FILE})"


@dataclass(frozen=True)
class Sample:
    """Images with the numbers of their classes: uint8 RGB [n, size, size, 3] and int64 [n]."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def train_and_test(
    train: Sample,
    validation: Sample,
    test: NDArray[np.uint8],
    classes: int,
    options: ClassifierOptions,
    seed: int,
    weights: Path | None,
    fabric: Fabric,
    done: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a classifier, keep the epoch with the best macro F1 on ``validation``, apply it to ``test``.

    Args:
        train: what it learns from.
        validation: what chooses the epoch; of epochs with the same F1, the one with the smaller loss, then the first.
        test: uint8 RGB [n, size, size, 3].
        classes: how many.
        options: length, rate, network.
        seed: of the initial weights, order and augmentation.
        weights: ImageNet's; None begins at random.
        fabric: devices and precision, launched.
        done: called after each epoch with a few words.

    Returns:
        JSON-able: ``probabilities`` [n][classes] of the test images, ``best_epoch`` (from 1) and ``epochs``, each with
        ``loss``, ``validation_loss``, ``validation_f1``.

    Raises:
        ItemError: the file of weights is none of a ResNet-50.
        RestainError: the training diverged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = ResNet50(classes, options.width)
    if weights is not None:
        plain.load_imagenet(weights)
    network, optimizer = fabric.setup(plain, torch.optim.AdamW(plain.parameters(), options.rate, weight_decay=DECAY))
    epochs: list[dict[str, float]] = []
    best, best_epoch, best_state = (-math.inf, -math.inf), 0, None
    for epoch in range(1, options.epochs + 1):
        rng = np.random.default_rng([seed, epoch])
        loss = _epoch(fabric, network, optimizer, train, options, epoch, rng)
        probabilities = predict(fabric, network, validation.pixels, options.batch)
        chosen = probabilities[np.arange(len(probabilities)), validation.labels]
        held_out = float(-np.log(np.maximum(chosen, 1e-12)).mean())
        if not math.isfinite(loss) or not math.isfinite(held_out):
            raise RestainError(f"The training diverged in epoch {epoch}; give a smaller --rate than {options.rate:g}.")
        f1 = classification_scores(probabilities, validation.labels).f1.macro or 0.0
        epochs.append({"loss": loss, "validation_loss": held_out, "validation_f1": f1})
        if (f1, -held_out) > best:
            best, best_epoch, best_state = (f1, -held_out), epoch, copy.deepcopy(plain.state_dict())
        done(f"epoch {epoch}: validation F1 {f1:.3f}")
    assert best_state is not None  # every epoch has a finite loss
    plain.load_state_dict(best_state)
    found = predict(fabric, network, test, options.batch)
    return {"probabilities": found.tolist(), "best_epoch": best_epoch, "epochs": epochs}


def _epoch(
    fabric: Fabric,
    network: Any,
    optimizer: Any,
    train: Sample,
    options: ClassifierOptions,
    epoch: int,
    rng: np.random.Generator,
) -> float:
    """One pass over the training images; the mean loss."""
    network.train()
    order = rng.permutation(len(train.labels))
    # Nearly equal parts: a last batch of one image would spoil batch norm's averages.
    parts = np.array_split(order, math.ceil(len(order) / options.batch))
    losses = []
    for number, part in enumerate(parts):
        progress = (epoch - 1 + number / len(parts)) / options.epochs
        for group in optimizer.param_groups:
            group["lr"] = options.rate * 0.5 * (1 + math.cos(math.pi * progress))
        images = np.stack([_turned(train.pixels[index], rng) for index in part])
        labels = torch.from_numpy(train.labels[part]).to(fabric.device)
        loss = F.cross_entropy(network(_input(images, fabric)), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()) * len(part))
    return sum(losses) / len(order)


def _turned(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the eight ways to lay a square: tissue has no upper side."""
    turned = np.rot90(image, int(rng.integers(4)))
    return turned[:, ::-1] if rng.integers(2) else turned


def _input(images: NDArray[np.uint8], fabric: Fabric) -> Tensor:
    """uint8 [n, size, size, 3] as the network takes it."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(fabric.device).permute(0, 3, 1, 2).float() / 255
    return imagenet_normalised(batch)


def predict(fabric: Fabric, network: Any, pixels: NDArray[np.uint8], batch: int) -> NDArray[np.float64]:
    """Probabilities of each class, float64 [n, classes]."""
    network.eval()
    with torch.no_grad():
        found = [F.softmax(network(_input(part, fabric)).double(), 1).cpu().numpy() for part in _parts(pixels, batch)]
    return np.concatenate(found)


def _parts(pixels: NDArray[np.uint8], batch: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(pixels), batch):
        yield pixels[start : start + batch]
