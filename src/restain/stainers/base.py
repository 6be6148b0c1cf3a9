"""What a virtual stainer is: one published method, one file, in this contract."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from restain.core.errors import RestainError
from restain.core.registry import Registry
from restain.data import PairBatch
from restain.losses.gan import GANLoss


class Step(Protocol):
    """The mechanics of one training step, so that a method's file holds only the method.

    Attributes:
        epoch: counted from 1.
        epochs: all epochs of the training.
        epochs_decay: those of them in which the learning rate decays.
        progress: share of the training that is done, in [0, 1).
    """

    epoch: int
    epochs: int
    epochs_decay: int
    progress: float

    def update(self, name: str, loss: Tensor) -> None:
        """Zero the gradients of optimizer ``name``, backward of ``loss``, step, in the active precision."""

    def frozen(self, *networks: nn.Module) -> AbstractContextManager[None]:
        """Within the block ``networks`` pass gradients on but collect none."""


_SIZES = {("_width",): 2048, ("_blocks", "_layers"): 64, ("_scales", "downsamplings"): 8}
"""Endings of the names of settings that say how large a network is, and the most that can be meant."""


@dataclass(frozen=True)
class GanConfig:
    """What adversarial stainers share; a method's own Config changes what its authors chose otherwise.

    Attributes:
        generator_width: channels of the generator's first convolution (released codes: ngf 64).
        discriminator_width: channels of the discriminator's first convolution (ndf 64).
        discriminator_layers: stride-2 convolutions of the PatchGAN; 3 see 70 x 70 px (Isola 2017, 6.1.2).
        gan: lsgan (Mao 2017), as in all of them but pix2pix.
        learning_rate: of every Adam, 2e-4 (Isola 2017, 3.3).
        beta1: first momentum of every Adam, 0.5 (the second is 0.999).
    """

    generator_width: int = 64
    discriminator_width: int = 64
    discriminator_layers: int = 3
    gan: GANLoss = GANLoss.lsgan
    learning_rate: float = 2e-4
    beta1: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be built or trained."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float):
                continue
            for endings, most in _SIZES.items():
                if field.name.endswith(endings) and not 1 <= value <= most:
                    raise RestainError(f"{field.name} is {value}; it is 1 to {most}.")
            if field.name.endswith("_weight") and not 0 <= value < math.inf:
                raise RestainError(f"{field.name} is {value}; a weight is a number of at least 0.")
        if not (0 < self.learning_rate < math.inf and 0 <= self.beta1 < 1):
            raise RestainError("learning_rate is above 0, beta1 in [0, 1).")
        if self.gan is GANLoss.wgangp:
            raise RestainError("gan: there is no gradient penalty here, which wgangp needs; take vanilla or lsgan.")


class Stainer(nn.Module, ABC):
    """A method that turns H&E into IHC.

    A subclass takes its frozen ``Config`` dataclass, sets its networks as attributes (each is saved, moved and
    distributed on its own) and says how it learns and stains. Methods of a network other than ``forward`` that a step
    calls are named in the network's ``forward_methods``, so that precision and distributed strategies know of them.

    Attributes:
        needs: what a batch must carry beyond aligned pairs (see ``restain.data.NEEDS``): ``"levels"``, ``"unpaired"``,
            ...; of the class what the published settings need, of an instance what its config needs.
        stains: the network that an authors' checkpoint must hold for ``stain``.
        unscheduled: optimizers whose rate no schedule changes.
        config: the method's settings. Those named ``levels``, ``images`` or ``slides`` that are None are filled in with
            the dataset's numbers before a training (classes; pairs and slides of the training split).
        multiple: sides of what ``stain`` takes must be a multiple of this (``infer`` pads and crops back).
        least: least side of what ``stain`` takes, px (``infer`` pads and crops back).
        margin: receptive-field margin in px for tiling; None where the output depends on the whole image.
        smallest: least side, px, of the images that it can train on.
    """

    needs: frozenset[str] = frozenset()
    stains: ClassVar[str] = "G"
    unscheduled: ClassVar[frozenset[str]] = frozenset()
    multiple: int = 1
    least: int = 1
    margin: int | None = None
    smallest: int = 1

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def begin(self) -> dict[str, Any]:
        """Before a training, not before staining: take pretrained weights; facts about them for ``run.json``.

        A training resumes only where they are the same.
        """
        return {}

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """One optimizer a part, by the name that ``training_step`` updates it under."""

    @abstractmethod
    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """One update from ``batch``; the losses by name (0-d, detached or not)."""

    @abstractmethod
    def stain(self, he: Tensor) -> Tensor:
        """H&E [N, 3, H, W] in [-1, 1] to IHC, same shape and range."""

    def fit_sides(self, generator: Any, discriminator: Any) -> None:
        """Take ``multiple``, ``least``, ``margin`` and ``smallest`` from what a generator and a discriminator say."""
        self.multiple, self.least, self.margin = generator.multiple, generator.least, generator.margin
        self.smallest = max(discriminator.smallest, generator.least)

    def adam(self, *networks: nn.Module, weight_decay: float = 0.0) -> Optimizer:
        """One Adam for the parameters of ``networks``, with the rates of a ``GanConfig``."""
        parameters = [parameter for network in networks for parameter in network.parameters()]
        rates = (self.config.beta1, 0.999)
        return Adam(parameters, lr=self.config.learning_rate, betas=rates, weight_decay=weight_decay)

    def extra_state(self) -> dict[str, Tensor]:
        """State beyond weights and optimizers (an image pool), by name: resuming must be exact."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``extra_state`` gave."""

    def reference_keys(self) -> dict[str, str]:
        """Our state-dict keys to the authors' (``<network>.<key>``); the same where ours follow theirs."""
        return {key: key for key in self.state_dict()}


@dataclass(frozen=True)
class StainerInfo:
    """What is known about a method.

    Attributes:
        paper: authors, title or venue, and year.
        code_licence: of the authors' released code (none of which is here), or "none released".
        config: the method's settings, a frozen dataclass.
    """

    paper: str
    code_licence: str
    config: type


STAINERS: Registry[type[Stainer], StainerInfo] = Registry("stainer", "restain.stainers")
S = TypeVar("S", bound=type[Stainer])


def register(name: str, *, paper: str, code_licence: str) -> Callable[[S], S]:
    """Register a method under ``name``; its Config is the annotation of ``config`` in its ``__init__``."""

    def decorate(stainer: S) -> S:
        config = get_type_hints(stainer.__init__)["config"]
        STAINERS.add(name, StainerInfo(paper, code_licence, config))(stainer)
        return stainer

    return decorate


def build(name: str, config: Any = None) -> Stainer:
    """The stainer ``name`` with ``config`` (the published settings where None).

    Raises:
        RestainError: no such method; the nearest names are suggested.
    """
    entry = STAINERS[name]
    return entry.item(config if config is not None else entry.info.config())
