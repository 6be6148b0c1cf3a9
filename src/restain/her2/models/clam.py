"""CLAM: attention pooling that also learns, without labels of tiles, to tell what it attends to from what it does not.

Paper: Lu et al., "Data-efficient and weakly supervised computational pathology on whole-slide images", Nature
Biomedical Engineering 2021.
Authors' code: GPL-3.0 (mahmoodlab/CLAM). None of it is here.
Differs: bags with fewer tiles than ``samples`` sample all of them (the released code fails on them). Order of tiles is
of no account.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restain.her2.attention import GatedAttention
from restain.her2.bag import Bag
from restain.her2.base import SlideConfig, SlideModel, SlideOutput, register_model


@dataclass(frozen=True)
class Config(SlideConfig):
    """Settings of CLAM.

    Attributes:
        width: of the hidden features, 512 (Lu 2021, Methods; released sizes small and big).
        attention_width: of the attention, 256 (small) or 384 (big).
        gated: attention with the sigmoid gate (released default).
        dropout: 0.25 in all layers of the attention (as trained for HER2: METHODS; released option drop_out).
        samples: tiles of highest and of lowest attention that the instance classifiers learn from, 8 each.
        bag_weight: share of the slide's cross entropy in the loss, 0.7; the rest is the instances'.
        subtyping: the most attended tiles are also negatives of every other class (classes exclude each other). Off, as
            in the released class.
    """

    width: int = 512
    attention_width: int = 256
    gated: bool = True
    dropout: float = 0.25
    samples: int = 8
    bag_weight: float = 0.7
    subtyping: bool = False


class Instances(NamedTuple):
    """The instance loss of one bag (0-d), and the pseudo-labels and predictions it compares, in order of classes."""

    loss: Tensor
    targets: Tensor
    predictions: Tensor


class CLAM(SlideModel):
    """What both branches share: hidden features, attention, classifiers of tiles."""

    def __init__(self, config: Config, in_dim: int, classes: int, branches: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        self.hidden = nn.Linear(in_dim, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.attention = GatedAttention(config.width, config.attention_width, branches, config.gated, config.dropout)
        self.instance_classifiers = nn.ModuleList(nn.Linear(config.width, 2) for _ in range(classes))

    def attend(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [n, d] to hidden features [n, width] and raw attention [branches, n]."""
        hidden = self.dropout(torch.relu(self.hidden(features)))
        return hidden, self.attention(hidden)

    @abstractmethod
    def scores(self, pooled: Tensor) -> Tensor:
        """Pooled features [branches, width] to logits [C]."""

    def classify(self, bag: Bag) -> SlideOutput:
        """Attention-weighted mean of the hidden features, classified; in training the instance loss as well."""
        hidden, raw = self.attend(bag.features)
        shares = torch.softmax(raw, 1)
        logits = self.scores(shares @ hidden)
        extra = None
        if self.training and bag.label is not None:
            extra = self.instances(raw, hidden, bag.label).loss
        chosen = int(logits.argmax()) if len(shares) > 1 else 0
        return SlideOutput(logits, shares[chosen].detach(), extra)

    def instances(self, raw: Tensor, hidden: Tensor, label: int) -> Instances:
        """Cluster the tiles by attention (Lu 2021, "Instance-level clustering").

        The bag's own class learns its most attended tiles as positive and its least attended as negative; with
        ``subtyping`` every other class learns its most attended as negative.

        Args:
            raw: attention [branches, n].
            hidden: features [n, width].
            label: the bag's class.
        """
        count = min(self.config.samples, raw.shape[1])
        losses, targets, predictions = [], [], []
        for number, classifier in enumerate(self.instance_classifiers):
            own = number == label
            if not (own or self.config.subtyping):
                continue
            scores = raw[number if len(raw) > 1 else 0]
            most = scores.topk(count).indices
            chosen = torch.cat([most, (-scores).topk(count).indices]) if own else most
            target = torch.zeros_like(chosen)
            if own:
                target[:count] = 1
            logits = classifier(hidden[chosen])
            losses.append(F.cross_entropy(logits, target))
            targets.append(target)
            predictions.append(logits.argmax(1))
        loss = torch.stack(losses).sum() / (self.classes if self.config.subtyping else 1)
        return Instances(loss, torch.cat(targets), torch.cat(predictions))

    def loss(self, output: SlideOutput, label: int | Tensor) -> Tensor:
        """``bag_weight`` of the slide's cross entropy, the rest of the instances'."""
        loss = self.cross_entropy(output.logits, label)
        if output.extra_loss is None:
            return loss
        weight = self.config.bag_weight
        return weight * loss + (1 - weight) * output.extra_loss

    def reference_keys(self) -> dict[str, str]:
        """Our keys to the released ones."""
        attention = "attention_net.3."
        if self.config.gated:
            names = {"tanh": "attention_a.0", "gate": "attention_b.0", "score": "attention_c"}
        else:
            names = {"tanh": "module.0", "score": "module.3"}
        parts = {f"attention.{ours}.": f"{attention}{theirs}." for ours, theirs in names.items()}
        parts |= {"hidden.": "attention_net.0."}
        keys = {}
        for key in self.state_dict():
            found = next((part for part in parts if key.startswith(part)), "")
            keys[key] = parts.get(found, "") + key.removeprefix(found)
        return keys

    def released_name(self, name: str) -> str | None:
        """Layers count one less where there was no dropout; losses of instances have buffers."""
        if name.startswith("instance_loss_fn."):
            return None
        name = re.sub(r"^attention_net\.2\.", "attention_net.3.", name)
        return re.sub(r"^attention_net\.3\.2\.", "attention_net.3.3.", name)


@register_model("clam_sb", paper="Lu et al., Nature Biomedical Engineering 2021", code_licence="GPL-3.0")
class SingleBranch(CLAM):
    """CLAM with one attention for all classes."""

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes, branches=1)
        self.classifiers = nn.Linear(config.width, classes)

    def scores(self, pooled: Tensor) -> Tensor:
        """Pooled features [1, width] to logits [C]."""
        logits: Tensor = self.classifiers(pooled[0])
        return logits


@register_model("clam_mb", paper="Lu et al., Nature Biomedical Engineering 2021", code_licence="GPL-3.0")
class MultiBranch(CLAM):
    """CLAM with an attention and a classifier for each class."""

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes, branches=classes)
        self.classifiers = nn.ModuleList(nn.Linear(config.width, 1) for _ in range(classes))

    def scores(self, pooled: Tensor) -> Tensor:
        """Pooled features [C, width] to logits [C]."""
        return torch.cat([classifier(own) for classifier, own in zip(self.classifiers, pooled, strict=True)])
