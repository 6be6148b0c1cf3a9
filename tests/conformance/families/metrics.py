"""Cases of family metrics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from restain.metrics import ImagePair
from restain.metrics.dists import dists_score
from restain.metrics.fid import frechet_distance
from restain.metrics.kid import squared_mmd
from restain.metrics.phv import phv_of_layers
from restain.metrics.psnr import peak_signal_to_noise
from restain.metrics.ssim import ssim
from restain.metrics.ssim_gaussian import ssim_gaussian
from restain.metrics.ssim_grey import ssim_grey
from restain.metrics.ssim_local_map import ssim_local_map
from restain.metrics.ssim_map import Window, local_ssim
from restain.nn.backbones import VGG16, VggFeatures
from restain.nn.inception import InceptionFeatures, inception_input
from restain.nn.resnet import ResNet50

from ..reading import Answers, Arrays, Options, load, tensor

EVAL = {"mode": "eval"}


def dists(o: Options, x: Arrays) -> dict[str, Any]:
    network = load(VggFeatures(VGG16, (3, 8, 15, 22, 29), l2_pooling=True), x, "vgg16", EVAL)
    with torch.no_grad():
        score = dists_score(network, *(tensor(x, name) for name in ("x", "y", "alpha", "beta")))
    return {"score": [score]}


def frechet(o: Options, x: Arrays) -> dict[str, Any]:
    return {"distance": [frechet_distance(x["features_a"], x["features_b"])]}


def kid(o: Options, x: Arrays) -> dict[str, Any]:
    subsets = zip(x["subsets_a"], x["subsets_b"], strict=True)
    values = [
        squared_mmd(x["features_a"][a], x["features_b"][b], o.get("degree", 3), o.get("coef0", 1.0)) for a, b in subsets
    ]
    return {"mmd": values, "mean": [np.mean(values)], "std": [np.std(values)]}


def inception(o: Options, x: Arrays) -> dict[str, Any]:
    network = InceptionFeatures(fid=True)
    network.fc = torch.nn.Linear(2048, 1008)
    load(network, x, "inception", EVAL)
    images = tensor(x, "images").permute(0, 3, 1, 2).float() / 255 * o.get("gain", 1)
    with torch.no_grad():
        return {"features": network(inception_input(images), o["dims"])}


def phv(o: Options, x: Arrays) -> dict[str, Any]:
    network = load(ResNet50(), x, "resnet50", EVAL)
    images = torch.stack([tensor(x, name) for name in ("real", "fake")]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return {"phv": phv_of_layers(network, images, o["threshold"])}


def ssim_variants(o: Options, x: Arrays) -> dict[str, Any]:
    real, fake, span = x["real"], x["fake"], o["data_range"]
    if real.dtype == np.uint8 and span == 255:
        pair = ImagePair(real, fake)
        values = [ssim(pair), ssim_gaussian(pair), ssim_grey(pair), ssim_local_map(pair)]
    else:
        grey = [cv2.cvtColor(_readable(image), cv2.COLOR_RGB2GRAY)[..., None] for image in (real, fake)]
        found = [
            local_ssim(real, fake, Window.UNIFORM, span),
            local_ssim(real, fake, Window.GAUSSIAN, span),
            local_ssim(*grey, Window.UNIFORM, span),
            local_ssim(real, fake, Window.UNIFORM, span, border=True),
        ]
        values = [local.ssim.mean() for local in found]
    names = ("uniform7_colour", "gaussian11_colour", "grey_uniform7", "local_map_mean")
    return {name: [value] for name, value in zip(names, values, strict=True)}


def _readable(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) if image.dtype == np.float64 else image


def psnr(o: Options, x: Arrays) -> dict[str, Any]:
    pairs = zip(x["real"], x["fake"], strict=True)
    values = [peak_signal_to_noise(real, fake, o["data_range"]) for real, fake in pairs]
    return {"per_image": values, "mean": [np.mean(values)]}


KINDS: Answers = {
    "metrics/dists": dists,
    "metrics/frechet_distance": frechet,
    "metrics/kid": kid,
    "metrics/inception_features": inception,
    "metrics/phv": phv,
    "metrics/ssim_variants": ssim_variants,
    "metrics/psnr": psnr,
}
