"""Cases of family cyclegan."""

from __future__ import annotations

from typing import Any

import torch

from restain.losses.gan import GANLoss
from restain.nn.discriminators import PatchDiscriminator
from restain.nn.generators import ResnetGenerator
from restain.nn.norms import Norm
from restain.stainers import cyclegan

from ..reading import (
    Answers,
    Arrays,
    Options,
    Recorded,
    load_reference,
    pair_batch,
)


def cyclegan_losses(o: Options, x: Arrays) -> dict[str, Any]:
    config = cyclegan.Config(
        gan=GANLoss(o["gan_mode"]), cycle_he_weight=o["lambda_A"], cycle_ihc_weight=o["lambda_B"],
        identity_weight=o["lambda_identity"], norm=Norm(o["norm"]), pool=0,
    )  # fmt: skip
    stainer = cyclegan.CycleGAN(config)
    for name in ("G_A", "G_B"):
        g = ResnetGenerator(width=o[name]["ngf"], blocks=o[name]["n_blocks"], norm=Norm(o["norm"]))
        setattr(stainer, name, g)
    for name in ("D_A", "D_B"):
        setattr(stainer, name, PatchDiscriminator(3, o[name]["ndf"], o[name]["n_layers"], Norm(o["norm"])))
    load_reference(stainer, x)
    batch = pair_batch(x)
    losses = {"idt_A": torch.zeros(()), "idt_B": torch.zeros(())} | stainer.training_step(batch, Recorded(stainer))
    total = sum(value for name, value in losses.items() if not name.startswith("D"))
    return losses | {"G": total, "fake_B": stainer.G_A(batch.he), "fake_A": stainer.G_B(batch.ihc)}


KINDS: Answers = {
    "cyclegan/generator_losses": cyclegan_losses,
}
