"""Cases of family ugatit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from restain.data import PairBatch
from restain.losses.gan import GANLoss
from restain.nn.attention import AttentionDiscriminator, AttentionGenerator
from restain.nn.layer_instance import LIN, AdaLIN
from restain.stainers import ugatit

from ..reading import (
    Answers,
    Arrays,
    Options,
    Recorded,
    load_reference,
    rgb,
    tensor,
)


def load_named(network: Any, x: Arrays, name: str) -> Any:
    """A network with the case's weights, in eval mode."""
    network.load_state_dict(
        {key: tensor(x, f"weights.{name}.{network.reference_key(key)}") for key in network.state_dict()}
    )
    return network.eval()


def generator(o: Options, x: Arrays) -> dict[str, Any]:
    network = AttentionGenerator(o["ngf"], o["n_blocks"], None if o["light"] else o["img_size"])
    features, logits = load_named(network, x, "generator").attend(rgb(x, "image"))
    return {"output": network(rgb(x, "image")), "cam_logit": logits, "heatmap": features.sum(1, keepdim=True)}


def discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    network = load_named(AttentionDiscriminator(o["ndf"], o["n_layers"] - 2), x, "discriminator")
    features, logits = network.attend(rgb(x, "image"))
    output = network(rgb(x, "image")).logits
    return {"output": output, "cam_logit": logits, "heatmap": features.sum(1, keepdim=True)}


def norm(o: Options, x: Arrays) -> dict[str, Any]:
    adaptive = x["gamma"].ndim == 2
    network: nn.Module = (AdaLIN if adaptive else LIN)(o["channels"], eps=o["eps"])
    network.load_state_dict({key: tensor(x, key) for key in network.state_dict()})
    given = (tensor(x, "gamma"), tensor(x, "beta")) if adaptive else ()
    return {"output": network(tensor(x, "x"), *given)}


def losses(o: Options, x: Arrays) -> dict[str, Any]:
    config = ugatit.Config(
        generator_width=o["ch"], discriminator_width=o["ch"], generator_blocks=o["n_res"], light=o["light"],
        image_size=o["img_size"], adversarial_weight=o["adv_weight"], cycle_weight=o["cycle_weight"],
        identity_weight=o["identity_weight"], cam_weight=o["cam_weight"],
    )  # fmt: skip
    stainer: Any = load_reference(ugatit.UGATIT(config), x).eval()
    batch = PairBatch(rgb(x, "real_A"), rgb(x, "real_B"), torch.tensor([-1]), ("",))
    found = stainer.training_step(batch, Recorded(stainer))
    weights = ("adversarial_weight", "cycle_weight", "identity_weight", "cam_weight")
    stainer.config = replace(config, **dict.fromkeys(weights, 1.0))
    parts = stainer.training_step(batch, Recorded(stainer))
    answer: dict[str, Any] = {}
    for side, fake, real in (("A", stainer.genB2A(batch.ihc), batch.he), ("B", stainer.genA2B(batch.he), batch.ihc)):
        for reach in "GL":
            judge, lsgan = getattr(stainer, f"dis{reach}{side}"), GANLoss.lsgan
            for part, what in (("logits", "ad"), ("cam", "ad_cam")):
                false, true = getattr(judge(fake), part), getattr(judge(real), part)
                answer[f"D_{what}_loss_{reach}{side}"] = lsgan(false, real=False) + lsgan(true, real=True)
                answer[f"G_{what}_loss_{reach}{side}"] = lsgan(false, real=True)
        answer[f"G_recon_loss_{side}"] = parts[f"cycle_{side}"]
        answer[f"G_cam_loss_{side}"] = parts[f"cam_{side}"]
        answer[f"G_identity_loss_{side}"] = parts[f"idt_{side}"]
        answer[f"D_loss_{side}"] = found[f"D_{side}"]
        answer[f"G_loss_{side}"] = sum(found.get(f"{name}_{side}", 0.0) for name in ("G", "cycle", "idt", "cam"))
    answer["Discriminator_loss"] = answer["D_loss_A"] + answer["D_loss_B"]
    answer["Generator_loss"] = answer["G_loss_A"] + answer["G_loss_B"]
    return answer


KINDS: Answers = {
    "ugatit/generator": generator,
    "ugatit/discriminator": discriminator,
    "ugatit/adailn": norm,
    "ugatit/iln": norm,
    "ugatit/losses": losses,
}
