"""Cases of family pama."""

from __future__ import annotations

from typing import Any

import torch

from restain.her2.anchors import Positions, measure
from restain.her2.models.pama import PAMA, Block, Config

from ..reading import Answers, Arrays, Options, load, tensor
from .clam import load_model


def valid(x: Arrays, name: str, mask: str) -> torch.Tensor:
    """The valid rows of a batch of one."""
    return tensor(x, name)[0, tensor(x, mask)[0] > 0]


def positions(x: Arrays) -> Positions:
    """Bins of valid anchors and tiles."""
    anchors, tokens = (torch.nonzero(tensor(x, name)[0] > 0)[:, 0] for name in ("anchor_mask", "token_mask"))
    return Positions(tensor(x, "distance_bins")[0], tensor(x, "polar_bins")[0]).select(anchors, tokens)


def sizes(o: Options) -> dict[str, Any]:
    return {"width": o["dim"], "depth": o["depth"], "heads": o["heads"], "mlp_times": o["mlp_ratio"]}


def bins(o: Options, x: Arrays) -> dict[str, Any]:
    distance, polar = measure(x["patch_pos"].astype(float), x["anchors"], o["polar_bins"])
    return {"distance_bins": distance.astype("int64"), "polar_bins": polar.astype("int64")}


def block(o: Options, x: Arrays) -> dict[str, Any]:
    network = load(Block(o["dim"], o["heads"], o["mlp_ratio"]), x, "block", {"mode": "eval"})
    tiles, anchors, _ = network(valid(x, "patches", "token_mask"), valid(x, "anchors", "anchor_mask"), positions(x))
    return {"patches": tiles[None], "anchors": anchors[None]}


def classifier(o: Options, x: Arrays) -> dict[str, Any]:
    network = load_model(PAMA(Config(**sizes(o)), o["in_dim"], o["n_classes"]), x)
    slide, anchors, _ = network.encode(valid(x, "features", "token_mask"), positions(x))
    return {"logits": network.head(slide)[None], "embedding": slide[None], "anchors": anchors[None]}


KINDS: Answers = {"pama/positions": bins, "pama/block": block, "pama/classifier": classifier}
