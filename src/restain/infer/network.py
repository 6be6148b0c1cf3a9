"""A trained run as a function from uint8 H&E to float IHC."""

from __future__ import annotations

import numpy as np
import torch
from jsonargparse import ArgumentParser
from lightning_fabric import Fabric
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.infer.tiling import Overlap, Tiling
from restain.nn.layout import channels_last
from restain.stainers.base import STAINERS, Stainer
from restain.training.loop import load_weights

BLEND_HALO = 64
"""Halo of blended windows, px of the run, where the receptive field has no bound."""


def load_stainer(run: RunFolder, checkpoint: str | None = None) -> Stainer:
    """The stainer of a run, with its weights, in eval mode, on the CPU.

    Raises:
        RestainError: not a run of a stainer, or its configuration does not fit the method.
        ItemError: no weights, or damaged ones.
    """
    info = run.info
    if info.get("task") != "stain":
        raise RestainError(f"{run.path}: a run of task {info.get('task')!r}; staining needs a stainer's run.")
    entry = STAINERS[str(info["method"])]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--stainer", type=entry.info.config, default=entry.info.config())
    try:
        parsed = parser.parse_object({"stainer": run.config.get("stainer", {})})
        config = parser.instantiate(parsed).stainer
    except Exception as error:
        raise RestainError(f"{run.path}/config.yaml: does not fit {entry.name} ({error}).") from error
    return load_weights(run, entry.item(config), checkpoint)


class Network:
    """A stainer on a device.

    Args:
        stainer: with its weights.
        accelerator: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: Fabric's name; ``32-true`` or ``bf16-mixed``.
    """

    def __init__(self, stainer: Stainer, accelerator: str = "auto", precision: str = "32-true") -> None:
        self._fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
        self.stainer = channels_last(stainer.to(self._fabric.device)).eval()

    @torch.inference_mode()
    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stain one image.

        Args:
            rgb: uint8 H&E [H, W, 3]; it is padded to the method's multiple by reflection and cropped back.

        Returns:
            float32 IHC [H, W, 3] in [0, 255], not rounded.
        """
        height, width = rgb.shape[:2]
        pad = [-side % self.stainer.multiple for side in (height, width)]
        padded = np.pad(rgb, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="symmetric")
        tensor = torch.from_numpy(padded).to(self._fabric.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with self._fabric.autocast():
            out = self.stainer.stain(tensor)
        values = (out[0].float().clamp(-1, 1) + 1) * 127.5
        result: NDArray[np.float32] = values.permute(1, 2, 0).cpu().numpy()
        return result[:height, :width]

    def tiling(self, core: int, overlap: Overlap | None = None) -> Tiling:
        """How a large field is cut for this network.

        Args:
            core: side of the squares that a window contributes, px of the run.
            overlap: None for the exact one where the receptive field is bounded, else blending.
        """
        margin, multiple = self.stainer.margin, self.stainer.multiple
        if overlap is None:
            overlap = Overlap.blend if margin is None else Overlap.discard
        halo = min(BLEND_HALO, core // 2) if overlap is Overlap.blend or margin is None else margin
        return Tiling(core, -(-halo // multiple) * multiple if overlap is Overlap.discard else halo, overlap)
