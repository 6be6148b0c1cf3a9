"""Cases of family cut."""

from __future__ import annotations

from typing import Any

import torch

from restain.losses.nce import patch_nce
from restain.nn.generators import ResnetGenerator
from restain.nn.norms import Norm
from restain.nn.patch_sampler import PatchSampler

from ..reading import (
    Answers,
    Arrays,
    Options,
    load,
    rgb,
    tensor,
)


def nce_loss(o: Options, x: Arrays) -> dict[str, Any]:
    query, key = tensor(x, "feat_q").requires_grad_(), tensor(x, "feat_k")
    across = o["nce_includes_all_negatives_from_minibatch"]
    loss = patch_nce(query, key, o["batch_size"], o["temperature"], across)
    return {"loss": loss, "grad_feat_q": torch.autograd.grad(loss.mean(), query)[0]}


def patch_sampler(o: Options, x: Arrays) -> dict[str, Any]:
    count = len(o["channels"])
    network = PatchSampler(o["channels"], o["nc"], o["use_mlp"])
    network.load_state_dict(
        {key: tensor(x, f"weights.sampler.{PatchSampler.reference_key(key)}") for key in network.state_dict()}
    )
    features, places = ([tensor(x, f"{name}.{i}") for i in range(count)] for name in ("feat", "patch_ids"))
    return {f"sample.{i}": sample for i, sample in enumerate(network(features, places))}


def cut_generator(o: Options, x: Arrays) -> dict[str, Any]:
    generator = ResnetGenerator(
        width=o["ngf"], blocks=o["n_blocks"], norm=Norm(o["norm"]), antialias_down=o["antialias_down"],
        antialias_up=o["antialias_up"],
    )  # fmt: skip
    load(generator, x, "generator", {"mode": "eval"})
    image = rgb(x, "image")
    features = zip(o["layers"], generator.encode(image, o["layers"]), strict=True)
    return {f"feat.{i}": feature for i, feature in features} | {"output": generator(image)}


KINDS: Answers = {
    "cut/patch_nce_loss": nce_loss,
    "cut/patch_sampler": patch_sampler,
    "cut/generator_features": cut_generator,
}
