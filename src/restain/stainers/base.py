"""What a virtual stainer is: one published method, one file, in this contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from torch import Tensor, nn
from torch.optim import Optimizer

from restain.core.registry import Registry
from restain.data import PairBatch


class Step(Protocol):
    """The mechanics of one training step, so that a method's file holds only the method.

    Attributes:
        epoch: counted from 1.
        progress: share of the training that is done, in [0, 1).
    """

    epoch: int
    progress: float

    def update(self, name: str, loss: Tensor) -> None:
        """Zero the gradients of optimizer ``name``, backward of ``loss``, step, in the active precision."""

    def frozen(self, *networks: nn.Module) -> AbstractContextManager[None]:
        """Within the block ``networks`` pass gradients on but collect none."""


class Stainer(nn.Module, ABC):
    """A method that turns H&E into IHC.

    A subclass takes its frozen ``Config`` dataclass, sets its networks as attributes (each is saved, moved and
    distributed on its own) and says how it learns and stains.

    Attributes:
        needs: what a batch must carry beyond aligned pairs (see ``restain.data``): ``"levels"``, ``"unpaired"``, ...
        config: the method's settings.
        multiple: sides of what ``stain`` takes must be a multiple of this (``infer`` pads and crops back).
        margin: receptive-field margin in px for tiling; None where the output depends on the whole image.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    multiple: int = 1
    margin: int | None = None

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """One optimizer a part, by the name that ``training_step`` updates it under."""

    @abstractmethod
    def training_step(self, batch: PairBatch, step: Step) -> dict[str, Tensor]:
        """One update from ``batch``; the losses by name (0-d, detached or not)."""

    @abstractmethod
    def stain(self, he: Tensor) -> Tensor:
        """H&E [N, 3, H, W] in [-1, 1] to IHC, same shape and range."""

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
