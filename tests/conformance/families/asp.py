"""Cases of family asp."""

from __future__ import annotations

from typing import Any

import torch

from restain.losses.adaptive_nce import Schedule, WeightFunction, adaptive_weights
from restain.losses.gaussian_pyramid import gaussian_pyramid, gaussian_pyramid_l1
from restain.losses.nce import patch_nce
from restain.nn.generators import ResnetGenerator
from restain.nn.norms import Norm
from restain.nn.spectral import normalise_spectra
from restain.stainers import asp
from restain.training.schedules import Convention, RateSchedule

from ..reading import (
    Answers,
    Arrays,
    Options,
    load_part,
    rgb,
    tensor,
)


def asp_generator(o: Options, x: Arrays) -> dict[str, Any]:
    config = asp.Config(
        generator_width=o["ngf"], generator_blocks=int(o["netG"].split("_")[1].removesuffix("blocks")),
        spectral_norm=o["weight_norm"] == "spectral",
    )  # fmt: skip
    stainer = asp.Asp(config)
    stainer.G = ResnetGenerator(
        width=o["ngf"], blocks=config.generator_blocks, downsamplings=o["n_downsampling"], norm=Norm(o["norm"]),
        antialias_down=o["antialias_down"], antialias_up=o["antialias_up"],
    )  # fmt: skip
    if config.spectral_norm:
        normalise_spectra(stainer.G)
    return {"output": load_part(stainer, "G", x, "generator")(rgb(x, "image"))}


def asp_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    config = asp.Config(
        discriminator_width=o["ndf"], discriminator_layers=o["n_layers"] if o["netD"] == "n_layers" else 3,
        spectral_norm=o["weight_norm"] == "spectral", antialias=o["antialias_down"],
    )  # fmt: skip
    return {"output": load_part(asp.Asp(config), "D", x, "discriminator")(rgb(x, "image"))}


def asp_loss(o: Options, x: Arrays) -> dict[str, Any]:
    query, key = tensor(x, "feat_q").requires_grad_(), tensor(x, "feat_k")
    total = o["n_epochs"] + o["n_epochs_decay"]
    schedule, function = Schedule(o["scheduler"]), WeightFunction(o["weight_function"])
    constant = 1 - o["n_epochs_decay"] / total
    nce = patch_nce(query, key, o["batch_size"], o["temperature"], o["nce_includes_all_negatives_from_minibatch"])
    weights = [adaptive_weights(query, key, schedule, function, (e - 1) / total, constant) for e in o["epochs"]]
    losses = [nce * weight for weight in weights]
    gradient = torch.autograd.grad(losses[-1].mean(), query)[0]
    return {"weight": torch.stack(weights), "loss": torch.stack(losses), "grad_feat_q_last_epoch": gradient}


def asp_pyramid(o: Options, x: Arrays) -> dict[str, Any]:
    fake, real = rgb(x, "fake"), rgb(x, "real")
    levels, truth = gaussian_pyramid(fake, o["num_high"]), gaussian_pyramid(real, o["num_high"])
    return {
        "level_loss": [float((a - b).abs().mean()) for a, b in zip(levels, truth, strict=True)],
        "total": o["lambda_gp"] * gaussian_pyramid_l1(fake, real, o["weights"]),
        "fake_level_2": levels[2],
        "fake_last_level": levels[-1],
    }


def asp_schedule(o: Options, x: Arrays) -> dict[str, Any]:
    schedule = RateSchedule(o["n_epochs"], o["n_epochs_decay"], Convention.end)
    epochs = list(range(o["epoch_count"], schedule.epochs + 1))
    return {"epoch": epochs, "lr": [o["lr"] * schedule.multiplier(epoch) for epoch in epochs]}


KINDS: Answers = {
    "asp/generator": asp_generator,
    "asp/discriminator": asp_discriminator,
    "asp/asp_loss": asp_loss,
    "asp/gaussian_pyramid_loss": asp_pyramid,
    "asp/lr_schedule": asp_schedule,
}
