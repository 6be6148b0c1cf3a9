"""Cases of family ipca."""

from __future__ import annotations

from typing import Any

from restain.her2.models.ipca import IPCA, Config, PromptedBlock

from ..reading import Answers, Arrays, Options, load
from .clam import load_model
from .pama import positions, sizes, valid


def block(o: Options, x: Arrays) -> dict[str, Any]:
    network = PromptedBlock(o["dim"], o["heads"], o["mlp_ratio"], o["n_prompts"])
    load(network, x, "block", {"mode": "eval"})
    tiles, anchors, _ = network(valid(x, "patches", "token_mask"), valid(x, "anchors", "anchor_mask"), positions(x))
    ihc, prompts = network.read_ihc(valid(x, "ihc_patches", "ihc_token_mask"))
    return {"patches": tiles[None], "anchors": anchors[None], "ihc_patches": ihc[None], "ihc_prompts": prompts[None]}


def model(o: Options, x: Arrays) -> IPCA:
    return load_model(IPCA(Config(**sizes(o), prompts=o["n_prompts"]), o["in_dim"], o["n_classes"]), x)


def he_only(o: Options, x: Arrays) -> dict[str, Any]:
    network = model(o, x)
    slide, _, _ = network.encode(valid(x, "features", "token_mask"), positions(x))
    return {"logits": network.head(slide)[None]}


def both(o: Options, x: Arrays) -> dict[str, Any]:
    ihc = model(o, x).ihc_logits(valid(x, "ihc_features", "ihc_token_mask"))
    return he_only(o, x) | {"ihc_logits": ihc[None]}


KINDS: Answers = {"ipca/block": block, "ipca/model": both, "ipca/he_only": he_only}
