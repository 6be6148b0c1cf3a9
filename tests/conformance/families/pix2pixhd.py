"""Cases of family pix2pixhd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restain.losses.feature_matching import feature_matching
from restain.losses.gan import GANLoss
from restain.nn.norms import Norm
from restain.stainers import pix2pixhd

from ..reading import (
    Answers,
    Arrays,
    Options,
    Recorded,
    judged,
    load_part,
    load_reference,
    pair_batch,
    tensor,
)


def scales_of(x: Arrays, prefix: str, count: int) -> list[list[Tensor]]:
    return [[tensor(x, f"{prefix}_s{k}_f{j}") for j in range(99) if f"{prefix}_s{k}_f{j}" in x] for k in range(count)]


def hd_generator(o: Options, x: Arrays) -> dict[str, Any]:
    local = "n_local_enhancers" in o
    suffix = "_global" if local else ""
    config = pix2pixhd.Config(
        generator_width=o["ngf"], norm=Norm(o["norm"]), generator_blocks=o[f"n_blocks{suffix}"],
        downsamplings=o["n_downsample_global" if local else "n_downsampling"],
        enhancers=o.get("n_local_enhancers", 0), enhancer_blocks=o.get("n_blocks_local", 3), vgg_weight=0.0,
    )  # fmt: skip
    return {"output": load_part(pix2pixhd.Pix2PixHD(config), "G", x, "G", o["mode"])(tensor(x, "input"))}


def hd_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    staged = o["intermediate_features"]
    config = pix2pixhd.Config(
        discriminator_width=o["ndf"], discriminator_layers=o["n_layers"], discriminator_scales=o["num_D"],
        norm=Norm(o["norm"]), feature_weight=float(staged), vgg_weight=0.0,
    )  # fmt: skip
    scales = load_part(pix2pixhd.Pix2PixHD(config), "D", x, "D", o["mode"]).features(tensor(x, "input"))
    if staged:  # as released, the sigmoid is then left out
        return {f"s{k}_f{j}": feature for k, scale in enumerate(scales) for j, feature in enumerate(scale)}
    return {f"s{k}_f0": scale[-1].sigmoid() if o["use_sigmoid"] else scale[-1] for k, scale in enumerate(scales)}


def hd_feature_matching(o: Options, x: Arrays) -> dict[str, Any]:
    fake, real = scales_of(x, "fake", o["num_D"]), scales_of(x, "real", o["num_D"])
    return {"g_gan_feat": o["lambda_feat"] * feature_matching(fake, real)}


def hd_gan_loss(o: Options, x: Arrays) -> dict[str, Any]:
    gan = GANLoss(o["gan_mode"])
    raw = torch.logit if gan is GANLoss.vanilla else torch.clone  # there, discriminators end in a sigmoid
    fake, real = ([raw(tensor(x, f"{side}_s{k}")) for k in range(o["num_D"])] for side in ("fake", "real"))
    return {
        "g_gan": gan(fake, real=True),
        "d_fake": gan(fake, real=False),
        "d_real": gan(real, real=True),
        "d": gan.discriminator(fake, real),
    }


def hd_losses(o: Options, x: Arrays) -> dict[str, Any]:
    config = pix2pixhd.Config(
        generator_width=o["G"]["ngf"], downsamplings=o["G"]["n_downsampling"], generator_blocks=o["G"]["n_blocks"],
        discriminator_width=o["ndf"], discriminator_layers=o["n_layers"], discriminator_scales=o["num_D"],
        norm=Norm(o["norm"]), gan=GANLoss(o["gan_mode"]), feature_weight=o["lambda_feat"], vgg_weight=0.0,
    )  # fmt: skip
    stainer = load_reference(pix2pixhd.Pix2PixHD(config), x)
    batch = pair_batch(x)
    losses = stainer.training_step(batch, Recorded(stainer))
    fake = stainer.G(batch.he)
    return {"g_gan": losses["G_GAN"], "g_gan_feat": losses["features"], "d": losses["D"], "fake_B": fake} | judged(
        stainer, config.gan, batch, fake
    )


KINDS: Answers = {
    "pix2pixhd/global_generator": hd_generator,
    "pix2pixhd/local_enhancer": hd_generator,
    "pix2pixhd/multiscale_discriminator": hd_discriminator,
    "pix2pixhd/feature_matching_loss": hd_feature_matching,
    "pix2pixhd/gan_loss": hd_gan_loss,
    "pix2pixhd/losses": hd_losses,
}
