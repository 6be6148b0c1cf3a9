"""Cases of family clam."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restain.her2.bag import Bag
from restain.her2.models.clam import CLAM, Config, MultiBranch, SingleBranch

from ..reading import Answers, Arrays, Options, tensor

ATTENTION_WIDTHS = {"small": 256, "big": 384}


def load_model(model: Any, x: Arrays, partly: bool = False) -> Any:
    """A slide model with the case's weights, by the names that ``restain import`` uses, in eval mode."""
    names = {ours: f"weights.model.{theirs}" for ours, theirs in model.reference_keys().items()}
    given = {ours: tensor(x, name) for ours, name in names.items() if name in x or not partly}
    model.load_state_dict(model.state_dict() | given)
    return model.eval()


def as_bag(features: Tensor) -> Bag:
    """Tiles [n, d] in a row."""
    return Bag(features, torch.arange(len(features)).float()[:, None].repeat(1, 2), 1.0)


def build(o: Options, x: Arrays, in_dim: int) -> CLAM:
    config = Config(
        attention_width=ATTENTION_WIDTHS[o.get("size", "small")], gated=o.get("gated", True),
        samples=o.get("k_sample", 8), subtyping=o.get("subtyping", False),
    )  # fmt: skip
    branch = MultiBranch if o["branch"] == "multi" else SingleBranch
    return load_model(branch(config, in_dim, o["n_classes"]), x, partly="k_sample" in o)


def forward(o: Options, x: Arrays) -> dict[str, Any]:
    model = build(o, x, o["embed_dim"])
    hidden, raw = model.attend(tensor(x, "features"))
    pooled = torch.softmax(raw, 1) @ hidden
    logits = model.scores(pooled)[None]
    return {
        "logits": logits,
        "probabilities": torch.softmax(logits, 1),
        "attention_raw": raw,
        "bag_features": pooled,
    }


def instance_loss(o: Options, x: Arrays) -> dict[str, Any]:
    model = build(o, x, 1)
    found = model.instances(tensor(x, "attention_raw"), tensor(x, "patches"), int(x["label"].reshape(-1)[0]))
    return {"instance_loss": found.loss[None], "targets": found.targets, "predictions": found.predictions}


KINDS: Answers = {
    "clam/single_branch": forward,
    "clam/multi_branch": forward,
    "clam/instance_loss": instance_loss,
}
