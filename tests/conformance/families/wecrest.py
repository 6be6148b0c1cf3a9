"""Cases of family wecrest."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from restain.data.sampling import agreement_weights, colour_histogram, correlation
from restain.losses.style import style_loss
from restain.stainers.wecrest import MultiScaleStyles

from ..reading import (
    Answers,
    Arrays,
    Options,
    rgb,
    tensor,
)
from .ugatit import load_named


def sampling(o: Options, x: Arrays) -> dict[str, Any]:
    sources, targets = x["source"], x["target"]
    greys = 255 - sources if o["invert_source"] else sources
    correlations = np.array([correlation(one, two) for one, two in zip(greys, targets, strict=True)])
    histograms = np.array([colour_histogram(source) for source in sources])
    return {"correlation": correlations, "probability": agreement_weights(correlations, histograms)}


def style_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    network = MultiScaleStyles(64, 3, 3, o["n_images"] + 1)
    logits = load_named(network, x, "discriminator")(rgb(x, "image")).logits
    return {f"scale.{number}": scale for number, scale in enumerate(logits)}


def style_losses(o: Options, x: Arrays) -> dict[str, Any]:
    fake, real = ([tensor(x, f"{name}_logits.{i}") for i in range(o["scales"])] for name in ("fake", "real"))
    label = tensor(x, "label")
    discriminator = style_loss(fake, torch.zeros_like(label), o["gamma"]) + style_loss(real, label, o["gamma"])
    return {"discriminator_loss": discriminator, "generator_loss": style_loss(fake, label, o["gamma"])}


KINDS: Answers = {
    "wecrest/sampling": sampling,
    "wecrest/style_discriminator": style_discriminator,
    "wecrest/style_loss": style_losses,
}
