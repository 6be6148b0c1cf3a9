"""Cellpose (Stringer et al. 2021), the cell segmentation that TDKstain takes its nuclei from, as an optional extra."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from restain.core.errors import RestainError
from restain.stains.nuclei import haematoxylin_mask


def _version() -> str:
    """Cellpose's version; empty where it has none."""
    try:
        return metadata.version("cellpose")
    except metadata.PackageNotFoundError:
        return ""


class CellposeNuclei:
    """Nuclei by Cellpose 3 from a model file on this machine.

    Cellpose predicts a flow field towards each cell's centre and groups the pixels that flow together. As in TDKstain's
    code it is given the mask of the haematoxylin, not the image.

    A Cellpose model file is a PyTorch file; Cellpose 3.1 opens it with ``torch.load(weights_only=True)``, which runs no
    code from it. Nothing is downloaded: Cellpose does that only where the file it is given does not exist.

    Args:
        model: the model file, e.g. ``cyto3`` or ``nuclei`` as Cellpose keeps them in ``~/.cellpose/models``.
        diameter: of a nucleus in um, 8 by default; Cellpose resizes images so that nuclei are as large as it learned.
        gpu: use CUDA if Cellpose finds it.

    Raises:
        RestainError: Cellpose is not installed, or is version 4; there is no such file.
    """

    name = "cellpose"

    def __init__(self, model: Path, diameter: float = 8.0, gpu: bool = True) -> None:
        self.diameter = diameter
        if not model.is_file():
            raise RestainError(f"{model}: no such Cellpose model file; give the path of one (nothing is downloaded).")
        try:
            from cellpose import models  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RestainError(
                f'Cellpose could not be imported ({error}). Install it with: pip install "restain[cellpose]"'
            ) from error
        if _version().startswith("4"):
            raise RestainError(
                f'Cellpose {_version()} is installed; restain works with version 3: pip install "restain[cellpose]"'
            )
        self._model = models.CellposeModel(gpu=gpu, pretrained_model=str(model))

    def __call__(self, rgb: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """See ``NucleusDetector``."""
        return self.in_mask(haematoxylin_mask(rgb), mpp)

    def in_mask(self, mask: NDArray[np.uint8], mpp: float) -> NDArray[np.float64]:
        """See ``NucleusDetector``."""
        labels: NDArray[Any] = self._model.eval(mask, channels=[0, 0], diameter=self.diameter / mpp)[0]
        found = np.unique(labels[labels > 0])
        centres = np.asarray(ndimage.center_of_mass(labels > 0, labels, found), np.float64).reshape(-1, 2)
        return np.ascontiguousarray(centres[:, ::-1] + 0.5)
