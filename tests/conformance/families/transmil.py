"""Cases of family transmil."""

from __future__ import annotations

from typing import Any

import torch

from restain.her2.models.transmil import PPEG, Config, PaddedAttention, TransMIL, Unpad

from ..reading import Answers, Arrays, Options, load, tensor
from .clam import as_bag, load_model


def attention(o: Options, x: Arrays) -> dict[str, Any]:
    config = Config(
        width=o["dim"], heads=o["heads"], landmarks=o["landmarks"], pinv_iterations=o["pinv_iterations"],
        conv_kernel=o["residual_conv_kernel"] if o["residual"] else 1, unpad=Unpad(o["unpad"]),
    )  # fmt: skip
    network = PaddedAttention(o["dim"], o["heads"], config, o["heads"] * o["dim_head"])
    if not o["residual"]:
        network.res_conv = None
    return {"out": load(network, x, "attention", {"mode": "eval"})(tensor(x, "x"))}


def ppeg(o: Options, x: Arrays) -> dict[str, Any]:
    network = load(PPEG(o["dim"]), x, "ppeg", {"mode": "eval"})
    return {"out": network(tensor(x, "tokens"), o["height"], o["width"])}


def model(o: Options, x: Arrays) -> dict[str, Any]:
    network = load_model(TransMIL(Config(unpad=Unpad(o["unpad"])), o["in_dim"], o["n_classes"]), x)
    logits = network(as_bag(tensor(x, "features"))).logits[None]
    return {"logits": logits, "probabilities": torch.softmax(logits, 1)}


KINDS: Answers = {
    "transmil/nystrom_attention": attention,
    "transmil/ppeg": ppeg,
    "transmil/model": model,
}
