"""What a slide model is: one published method that reads a bag of tiles and gives the status, in this contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.core.registry import Registry
from restain.her2.bag import Bag


@dataclass(frozen=True)
class SlideOutput:
    """What a model says about one bag.

    Attributes:
        logits: float32 [C], before the softmax.
        attention: float32 [n], how much each tile weighs, at least 0, sums to 1 (for heat maps); None where the model
            gives none (some do not while training).
        extra_loss: 0-d, what is learned besides the status (instances of CLAM, the IHC of IPCA); None at inference.
    """

    logits: Tensor
    attention: Tensor | None = None
    extra_loss: Tensor | None = None


@dataclass(frozen=True)
class Loaded:
    """What became of the tensors of a pretrained network.

    Attributes:
        taken: names that were taken over.
        other_shape: names with both shapes in words, which were not.
        missing: names of the model that the pretrained network does not hold (they keep their initial values).
        unused: names of the pretrained network that the model has no place for.
    """

    taken: list[str]
    other_shape: list[str]
    missing: list[str]
    unused: list[str]

    def __str__(self) -> str:
        """One line for the log."""
        parts = [f"{len(self.taken)} tensors taken"]
        for what in ("other_shape", "missing", "unused"):
            names = getattr(self, what)
            if names:
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                parts.append(f"{len(names)} {what.replace('_', ' ')} ({shown})")
        return "; ".join(parts)


@dataclass(frozen=True)
class SlideConfig:
    """Settings of a slide model; a method's own Config has its settings, each default with its source."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built: shares outside [0, 1), sizes below 1."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if one.name.endswith(("dropout", "_ratio", "_drop")):
                if not 0 <= value < 1:
                    raise RestainError(f"{one.name} is {value}; it is at least 0 and below 1.")
            elif isinstance(value, int) and value < 1:
                raise RestainError(f"{one.name} is {value}; it is at least 1.")
            elif isinstance(value, float) and not value > 0:
                raise RestainError(f"{one.name} is {value}; it is above 0.")


def divides(width: int, heads: int) -> None:
    """Refuse a width that the heads cannot share."""
    if width % heads:
        raise RestainError(f"width {width} is no multiple of heads {heads}.")


class SlideModel(nn.Module, ABC):
    """A model that reads the tiles of a slide.

    A subclass takes its frozen ``Config`` dataclass and implements ``classify``. One bag at a time; a batch is a list
    of bags whose gradients accumulate.

    Attributes:
        ordered: whether the order of the tiles means something to the model. Where it does not, ``classify`` gets them
            sorted by their coordinates, so that the order in which they were read changes nothing.
        starts_from_encoder: whether a masked autoencoder's encoder (``restain her2 pretrain``) is one of this model.
        config: the method's settings.
        in_dim: width of the features.
        classes: number of classes.
    """

    ordered: ClassVar[bool] = False
    starts_from_encoder: ClassVar[bool] = False

    def __init__(self, config: Any, in_dim: int, classes: int) -> None:
        super().__init__()
        if in_dim < 1 or classes < 2:
            raise RestainError(f"A slide model reads at least 1 feature and tells 2 classes, not {in_dim}, {classes}.")
        self.config = config
        self.in_dim = in_dim
        self.classes = classes

    def forward(self, bag: Bag) -> SlideOutput:
        """Logits [C] and attention [n] of one bag.

        Raises:
            RestainError: features of another width than the model's, or a label that is no class.
        """
        self.check(bag)
        if self.ordered:
            return self.classify(bag)
        ordered, places = bag.sorted()
        output = self.classify(ordered)
        return output if output.attention is None else replace(output, attention=output.attention[places])

    @abstractmethod
    def classify(self, bag: Bag) -> SlideOutput:
        """The model's answer for a bag that was checked (and sorted, unless ``ordered``)."""

    def loss(self, output: SlideOutput, label: int | Tensor) -> Tensor:
        """What training lowers, 0-d: cross entropy, and ``extra_loss`` where there is one."""
        loss = self.cross_entropy(output.logits, label)
        return loss if output.extra_loss is None else loss + output.extra_loss

    @staticmethod
    def cross_entropy(logits: Tensor, label: int | Tensor) -> Tensor:
        """Cross entropy of logits [C] for one label, 0-d."""
        target = torch.as_tensor(label, device=logits.device, dtype=torch.int64).reshape(())
        return F.cross_entropy(logits, target)

    def fit(self, bags: Iterable[Bag]) -> None:
        """Before a training: take from the training split what is fixed afterwards (SlideGraph: constant columns)."""

    def reference_keys(self) -> dict[str, str]:
        """Our state-dict keys to the authors'; the same where ours follow theirs."""
        return {key: key for key in self.state_dict()}

    def released_name(self, name: str) -> str | None:
        """The name in ``reference_keys`` of what a released checkpoint calls ``name``, for other versions of its code.

        Args:
            name: without the parts ``module`` that DataParallel leaves.

        Returns:
            Also without ``module``; None for tensors that carry nothing (of a loss, unused, there twice).
        """
        return name

    def load_pretrained(self, state: dict[str, Tensor]) -> Loaded:
        """Take over the tensors of ``state`` that fit by name and shape (a masked autoencoder's, an authors').

        Args:
            state: by our names or the authors'.

        Returns:
            What was taken and what was not.

        Raises:
            RestainError: nothing fits.
        """
        own = self.state_dict()
        theirs = {name: ours for ours, name in self.reference_keys().items()}
        given = {theirs.get(name, name): value for name, value in state.items()}
        fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
        shapes = [
            f"{name} {list(value.shape)} instead of {list(own[name].shape)}"
            for name, value in given.items()
            if name in own and name not in fitting
        ]
        if not fitting:
            raise RestainError(
                f"Nothing of the pretrained weights fits {type(self).__name__}: of {len(given)} tensors "
                + (f"{len(shapes)} have another shape ({shapes[0]})." if shapes else "none has a name of this model.")
            )
        self.load_state_dict(own | fitting)
        return Loaded(
            sorted(fitting), sorted(shapes), sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
        )

    def check(self, bag: Bag) -> None:
        """Refuse a bag that is not for this model (see ``forward``)."""
        what = bag.name or "bag"
        for values, name in ((bag.features, "features"), (bag.ihc, "features of the IHC")):
            if values is not None and values.shape[1] != self.in_dim:
                raise RestainError(
                    f"{what}: {name} are {values.shape[1]} wide, the model reads {self.in_dim}. Take the encoder that "
                    "the model was trained with."
                )
        if bag.label is not None and not 0 <= bag.label < self.classes:
            raise RestainError(f"{what}: label {bag.label}, but the model tells {self.classes} classes (from 0).")


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a slide model.

    Attributes:
        paper: authors, venue and year.
        code_licence: of the authors' released code (none of which is here), or "none released".
        config: the method's settings, a frozen dataclass.
        needs: what a training's bags must carry beyond features and coordinates: ``"ihc"``.
    """

    paper: str
    code_licence: str
    config: type
    needs: frozenset[str] = frozenset()


MODELS: Registry[type[SlideModel], ModelInfo] = Registry("slide model", "restain.her2.models")
S = TypeVar("S", bound=type[SlideModel])


def register_model(name: str, *, paper: str, code_licence: str, needs: Sequence[str] = ()) -> Callable[[S], S]:
    """Register a model under ``name``; its Config is the annotation of ``config`` in its ``__init__``."""

    def decorate(model: S) -> S:
        config = get_type_hints(model.__init__)["config"]
        MODELS.add(name, ModelInfo(paper, code_licence, config, frozenset(needs)))(model)
        return model

    return decorate


def build_model(name: str, in_dim: int, classes: int, config: Any = None) -> SlideModel:
    """The slide model ``name`` with ``config`` (the published settings where None); the same for the same seed.

    Raises:
        RestainError: no such model (the nearest names are suggested), or settings that cannot be built.
    """
    entry = MODELS[name]
    return entry.item(config if config is not None else entry.info.config(), in_dim, classes)


def share_by_score(scores: Tensor) -> Tensor:
    """A heat map [n] that sums to 1, of tiles' scores [n] for the class that was chosen (models that pool scores)."""
    return torch.softmax(scores.float(), 0)
