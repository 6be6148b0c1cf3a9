"""Cases of family bcistainer, but for the test-time views."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import nn

from restain.data import to_network
from restain.losses.focal import focal_loss
from restain.losses.gan import GANLoss
from restain.nn.level_aware import Comparator, LevelAwareGenerator
from restain.nn.modulated import ModulatedConv, simam
from restain.nn.norms import Norm
from restain.stainers import bcistainer
from restain.training.schedules import Convention, RateSchedule

from ..reading import Answers, Arrays, Options, load_part, tensor


def images(x: Arrays, name: str = "image") -> torch.Tensor:
    """One image [H, W, 3] or several [B, H, W, 3] as a batch for a network."""
    return to_network(x[name] if x[name].ndim == 4 else [x[name]])


def stainer(**settings: Any) -> bcistainer.BCIStainer:
    levels = settings.pop("levels", 4)
    alpha = tuple(1.0 for _ in range(levels))
    return bcistainer.BCIStainer(bcistainer.Config(side=64, levels=levels, focal_alpha=alpha, **settings))


def generator(o: Options, x: Arrays) -> dict[str, Any]:
    p, whole = o["params"], stainer()
    whole.G = LevelAwareGenerator(
        p["levels"], p["init_channels"], p["full_size"], p["encoder1_blocks"], p["style_blocks"], Norm(p["norm_type"]),
        p["dropout"], p["attention"], p["style_linear"],
    )  # fmt: skip
    return load_part(whole, "G", x, "generator")(images(x))._asdict()


def discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    p = o["params"]
    whole = stainer(
        discriminator_width=p["init_channels"], discriminator_layers=p["num_layers"],
        discriminator_scales=p["num_depths"], norm=Norm(p["norm_type"]),
    )  # fmt: skip
    scales = load_part(whole, "D", x, "discriminator", o["mode"])(images(x))
    return {f"scale.{i}": logits for i, logits in enumerate(scales)}


def comparator(o: Options, x: Arrays) -> dict[str, Any]:
    p, whole = o["params"], stainer()
    whole.C = Comparator(
        p["levels"], p["init_channels"], p["full_size"], p["max_channels"], Norm(p["norm_type"]), p["dropout"]
    )
    level, latent = load_part(whole, "C", x, "comparator")(images(x))
    return {"level": level, "latent": latent}


def focal(o: Options, x: Arrays) -> dict[str, Any]:
    loss = focal_loss(tensor(x, "logits"), tensor(x, "target"), o["alpha"], o["gamma"], reduction=o["reduction"])
    return {"loss": loss}


def losses(o: Options, x: Arrays) -> dict[str, Any]:
    w, scales = o["weights"], range(o["scales"])
    config = bcistainer.Config(
        level_weight=w["cls"], l1_weight=w["rec"], low_l1_weight=w["low"] * w["rec"], ssim_weight=w["sim"],
        gan_weight=w["gan"], similarity_weight=w["cmp"], levels=4, side=64, gan=GANLoss(o["gan"]),
    )  # fmt: skip
    assert (o["rec"], o["sim"], o["cls"], o["cmp"]) == ("mae", "ssim", "focal", "csim")
    whole = bcistainer.BCIStainer(config)

    def gan(logits: str, noise: str, real: bool) -> torch.Tensor:
        draws = [tensor(x, f"{noise}.{i}") for i in scales]
        with mock.patch("torch.rand_like", side_effect=draws):
            return whole.adversarial([tensor(x, f"{logits}.{i}") for i in scales], real)

    latents = iter([tensor(x, "latent_real"), tensor(x, "latent_fake")])
    whole.C = Fixed(latents)
    ihc = images(x, "ihc")
    content = whole.content_losses(tensor(x, "ihc_full"), tensor(x, "ihc_low"), ihc)
    found = {
        "rec_full": content["L1"],
        "rec": content["L1"] + content["low_L1"],
        "sim": content["SSIM"],
        "gan_g": config.gan_weight * gan("d_fake_for_g", "noise_g", real=True),
        "d_fake": gan("d_fake", "noise_fake", real=False),
        "d_real": gan("d_real", "noise_real", real=True),
        "cls": whole.level_loss(tensor(x, "level_logits"), tensor(x, "level")),
        "cmp": whole.similarity_loss(ihc, ihc),
    }
    before = found["gan_g"] + found["rec"] + found["sim"] + found["cls"]
    return found | {
        "d_total": (found["d_fake"] + found["d_real"]) / 2,
        "g_total_before_cmp": before,
        "g_total_after_cmp": before + found["cmp"],
    }


class Fixed(nn.Module):
    """A comparator whose features are those of the case."""

    def __init__(self, latents: Any) -> None:
        super().__init__()
        self.latents = latents

    def forward(self, _images: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, next(self.latents)


def attention(o: Options, x: Arrays) -> dict[str, Any]:
    return {"output": simam(tensor(x, "x"), o["e_lambda"])}


def mod_conv(o: Options, x: Arrays) -> dict[str, Any]:
    conv = ModulatedConv(o["in_dim"], o["out_dim"], o["kernel_size"], o["demodulate"], o["use_bias"], o["eps"])
    names = {"weight": "weight.data", "bias": "bias"}
    conv.load_state_dict({key: tensor(x, f"weights.conv.{names[key]}") for key in conv.state_dict()})
    return {"output": conv(tensor(x, "x"), tensor(x, "style"))}


def schedule(o: Options, x: Arrays) -> dict[str, Any]:
    rates = RateSchedule(o["warmup"], o["epochs"] - o["warmup"], Convention.cosine, o["min_lr"] / o["lr"])
    return {"lr": [o["lr"] * rates.multiplier(int(e) + 1, e - int(e)) for e in x["epoch"].astype(float)]}


KINDS: Answers = {
    "bcistainer/generator": generator,
    "bcistainer/discriminator": discriminator,
    "bcistainer/comparator": comparator,
    "bcistainer/focal_loss": focal,
    "bcistainer/losses": losses,
    "bcistainer/simam": attention,
    "bcistainer/mod_conv": mod_conv,
    "bcistainer/lr_schedule": schedule,
}
