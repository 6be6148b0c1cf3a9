"""Cases of family pix2pix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from restain.losses.gan import GANLoss
from restain.losses.pyramid import octave, pyramid_l1
from restain.metrics import ImagePair
from restain.metrics.psnr import psnr
from restain.metrics.ssim import ssim
from restain.nn.discriminators import PatchDiscriminator, PixelDiscriminator
from restain.nn.generators import ResnetGenerator, UnetGenerator
from restain.nn.norms import Norm
from restain.training.schedules import RateSchedule

from ..reading import (
    Answers,
    Arrays,
    Options,
    load,
    tensor,
)


def resnet_generator(o: Options, x: Arrays) -> dict[str, Any]:
    network = ResnetGenerator(
        o["input_nc"], o["output_nc"], o["ngf"], o["n_blocks"], o["n_downsampling"], Norm(o["norm"]), o["use_dropout"]
    )
    return {"output": load(network, x, "G", o)(tensor(x, "input"))}


def unet_generator(o: Options, x: Arrays) -> dict[str, Any]:
    network = UnetGenerator(o["input_nc"], o["output_nc"], o["ngf"], o["num_downs"], Norm(o["norm"]), o["use_dropout"])
    return {"output": load(network, x, "G", o)(tensor(x, "input"))}


def patch_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    network = PatchDiscriminator(o["input_nc"], o["ndf"], o["n_layers"], Norm(o["norm"]))
    return {"logits": load(network, x, "D", o)(tensor(x, "input"))}


def pixel_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    network = PixelDiscriminator(o["input_nc"], o["ndf"], Norm(o["norm"]))
    return {"logits": load(network, x, "D", o)(tensor(x, "input"))}


def gan_loss(o: Options, x: Arrays) -> dict[str, Any]:
    loss, fake, real = GANLoss(o["gan_mode"]), tensor(x, "pred_fake"), tensor(x, "pred_real")
    return {
        "g_gan": loss(fake, real=True),
        "d_fake": loss(fake, real=False),
        "d_real": loss(real, real=True),
        "d": loss.discriminator(fake, real),
    }


def pyramid_loss(o: Options, x: Arrays) -> dict[str, Any]:
    weights = [o["lambda_L1"]]
    for scale in ("L2", "L3", "L4"):  # the released code nests its scales: one that is missing ends the list
        if scale not in o["pattern"]:
            break
        weights.append(o[f"weight_{scale}"])
    terms = pyramid_l1(tensor(x, "fake"), tensor(x, "real"), weights) if "L1" in o["pattern"] else []
    return {f"L{i}": term for i, term in enumerate(terms, 1)} | {"total": sum(terms, torch.zeros(()))}


def gaussian_octaves(o: Options, x: Arrays) -> dict[str, Any]:
    second = octave(tensor(x, "image"))
    third = octave(second)
    return {"octave2": second, "octave3": third, "octave4": octave(third)}


def linear_schedule(o: Options, x: Arrays) -> dict[str, Any]:
    schedule = RateSchedule(o["n_epochs"], o["n_epochs_decay"])
    epochs = range(o["epoch_count"], schedule.epochs + 1)
    return {
        "epoch_multiplier": [schedule.multiplier(epoch) for epoch in epochs],
        "initial": schedule.multiplier(o["epoch_count"] - 1),
    }


def evaluate(o: Options, x: Arrays) -> dict[str, Any]:
    pairs = [ImagePair(real, fake) for fake, real in zip(x["fake"], x["real"], strict=True)]
    psnrs, ssims = [psnr(pair) for pair in pairs], [ssim(pair) for pair in pairs]
    return {"psnr": psnrs, "ssim": ssims, "mean_psnr": np.mean(psnrs), "mean_ssim": np.mean(ssims)}


KINDS: Answers = {
    "pix2pix/resnet_generator": resnet_generator,
    "pix2pix/unet_generator": unet_generator,
    "pix2pix/patch_discriminator": patch_discriminator,
    "pix2pix/pixel_discriminator": pixel_discriminator,
    "pix2pix/gan_loss": gan_loss,
    "pix2pix/pyramid_loss": pyramid_loss,
    "pix2pix/gaussian_octaves": gaussian_octaves,
    "pix2pix/linear_schedule": linear_schedule,
    "pix2pix/evaluate": evaluate,
}
