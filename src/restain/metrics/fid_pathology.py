"""FID on an encoder that has seen pathology."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import METRICS, Direction, MetricInfo, Scope, WeightFiles, WeightsMissingError
from restain.metrics.fid import frechet_distance
from restain.nn.encoders import EncoderPackageError, load_encoder

ENCODER = "plip"
"""Name of the folder with the encoder: PLIP's, or another of the user's choice under this name."""


@METRICS.add(
    "fid_pathology",
    MetricInfo(
        title="FID, pathology encoder",
        unit="",
        direction=Direction.LOWER,
        range=(0.0, math.inf),
        version=1,
        definition=(
            f"Fréchet distance as for FID, but of the features of the vision encoder in the folder {ENCODER!r} (PLIP, "
            "a CLIP ViT-B/32 that has seen pathology: 512 features), each image's middle square taken to the "
            "encoder's side. Values of two encoders do not compare; biased as FID is."
        ),
        decimals=3,
        weights=(ENCODER,),
        scope=Scope.SET,
        fewest=512,
        of_fewer="biased upwards",
    ),
)
class FidPathology:
    """FID (Heusel 2017) of the features of an encoder that has seen stained tissue, not photographs."""

    def __init__(self, files: WeightFiles) -> None:
        try:
            self._encoder = load_encoder(files[ENCODER])
        except EncoderPackageError as error:
            raise WeightsMissingError(f"fid_pathology is not computed: {error}") from error

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [n, d] of images, uint8 RGB [H, W, 3] of any sizes."""
        return self._encoder.features(images)

    def distance(self, real: NDArray[np.float32], fake: NDArray[np.float32]) -> float:
        """``frechet_distance``."""
        return frechet_distance(real, fake)
