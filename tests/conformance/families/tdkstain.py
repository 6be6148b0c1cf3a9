"""Cases of family tdkstain."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from restain.data import PairBatch
from restain.losses.gan import GANLoss
from restain.nn.norms import Norm
from restain.stainers import tdkstain
from restain.stains import dab_only, density_map, haematoxylin_mask, membrane_mask, membrane_ratio

from ..reading import (
    Answers,
    Arrays,
    Options,
    Recorded,
    judged,
    load,
    load_part,
    load_reference,
    pair_batch,
    tensor,
)


def tdk_config(o: Options) -> tdkstain.Config:
    names = {
        "ngf": "generator_width", "n_blocks": "generator_blocks", "n_downsampling": "downsamplings",
        "ndf": "discriminator_width", "n_layers": "discriminator_layers", "num_D": "discriminator_scales",
        "nef": "estimator_width", "n_estimator_blocks": "estimator_blocks", "lambda_L1": "l1_weight",
        "lambda_mask": "membrane_weight", "lambda_E": "estimator_weight", "lambda_nuclei": "nuclei_weight",
    }  # fmt: skip
    chosen = {ours: o[theirs] for theirs, ours in names.items() if theirs in o}
    return tdkstain.Config(norm=Norm(o["norm"]), gan=GANLoss(o.get("gan_mode", "lsgan")), **chosen)


def tdk_step(o: Options, x: Arrays) -> tuple[Any, PairBatch, dict[str, Tensor], dict[str, Tensor]]:
    stainer = load_reference(tdkstain.TDKStain(tdk_config(o)), x)
    batch = pair_batch(x, dab="real_B_dab", dab_mask="dab_mask", nuclei_map="nuclei_map")
    recorded = Recorded(stainer)
    return stainer, batch, stainer.training_step(batch, recorded), recorded.gradients


def tdk_generator(o: Options, x: Arrays) -> dict[str, Any]:
    generator = load_part(tdkstain.TDKStain(tdk_config(o)), "G", x, "G", o["mode"])
    image = tensor(x, "input")
    features = generator.encode(image, o["feature_layers"])
    return {"output": generator(image)} | {f"feat{i}": feature for i, feature in enumerate(features)}


def tdk_discriminator(o: Options, x: Arrays) -> dict[str, Any]:
    logits = load_part(tdkstain.TDKStain(tdk_config(o)), "D", x, "D", o["mode"])(tensor(x, "input"))
    return {f"s{k}": scale for k, scale in enumerate(logits)}


def tdk_estimator(o: Options, x: Arrays) -> dict[str, Any]:
    network = load(tdkstain.DensityEstimator(o["input_nc"], o["nef"], o["n_blocks"], Norm(o["norm"])), x, "E", o)
    features = [tensor(x, f"feat{i}") for i in range(o["n_feats"])]
    return {
        "density": network(features, features[0].shape[2:]),
        "density_full": network(features, o["full_size"]),
    }


def tdk_losses(o: Options, x: Arrays) -> dict[str, Any]:
    stainer, batch, losses, _ = tdk_step(o, x)
    fake, size = stainer.G(batch.he), batch.he.shape[2:]
    answer = {"E": losses["E"], "D": losses["D"], "G_GAN": losses["G_GAN"], "G_L1": losses["L1"]}
    answer |= {"G_mask": losses["membrane"], "nuclei": losses["nuclei"], "fake_B": fake}
    answer["G"] = losses["G_GAN"] + losses["L1"] + losses["membrane"] + losses["nuclei"]
    answer["fake_B_dab"] = stainer.G(batch.he * batch.extras["dab_mask"])
    answer["real_B_nuclei"] = stainer.E(stainer.G.encode(batch.ihc, stainer.layers), size)
    answer["fake_B_nuclei"] = stainer.E(stainer.G.encode(fake, stainer.layers), size)
    return answer | judged(stainer, stainer.config.gan, batch, fake, "D")


def tdk_gradients(o: Options, x: Arrays) -> dict[str, Any]:
    stainer, _, _, gradients = tdk_step(o, x)
    return {stainer.reference_keys()[key]: gradient for key, gradient in gradients.items()}


def dab_mask(o: Options, x: Arrays) -> dict[str, Any]:
    rgb = x["ihc_rgb"]
    return {
        "dab_rgb": (dab_only(rgb) * 255).astype(np.uint8),
        "mask": membrane_mask(rgb, o["threshold"], o["blur"]),
    }


def hematoxylin_segmentation(o: Options, x: Arrays) -> dict[str, Any]:
    mask = haematoxylin_mask(x["ihc_rgb"], o["percentile"], o["hole_area"], o["connectivity"], o["dilation_radius"])
    return {"mask": mask}


def nuclei_density_map(o: Options, x: Arrays) -> dict[str, Any]:
    centroids = x["centroids"].reshape(-1, 2)[:, ::-1]
    return {"density_map": density_map(centroids, (o["width"], o["height"]), o["sigma"])}


def membrane_profile(o: Options, x: Arrays) -> dict[str, Any]:
    return {"ratios": membrane_ratio(x["ihc_rgb"], o["thresholds"])}


KINDS: Answers = {
    "tdkstain/dab_mask": dab_mask,
    "tdkstain/hematoxylin_segmentation": hematoxylin_segmentation,
    "tdkstain/density_map": nuclei_density_map,
    "tdkstain/membrane_ratio": membrane_profile,
    "tdkstain/generator": tdk_generator,
    "tdkstain/discriminator": tdk_discriminator,
    "tdkstain/density_estimator": tdk_estimator,
    "tdkstain/losses": tdk_losses,
    "tdkstain/loss_gradients": tdk_gradients,
}
