"""A trained run as a function from uint8 H&E to float IHC."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from jsonargparse import ArgumentError, ArgumentParser
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.runs import RunFolder
from restain.infer.tiling import Overlap, Tiling
from restain.infer.views import VIEWS, average_of_views
from restain.nn.devices import Accelerator, Precision, make_fabric
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
    if (method := run.config.get("method", entry.name)) != entry.name:
        raise RestainError(f"{run.path}: run.json is of {entry.name}, config.yaml of {method}. Restore one of them.")
    settings = run.config.get("stainer", {})
    known = {field.name for field in fields(entry.info.config)}
    # A run may come from elsewhere: only plain values of known fields reach the parser, which could import by name.
    unknown = sorted(map(str, settings.keys() - known)) if isinstance(settings, dict) else []
    if unknown:
        raise RestainError(
            f"{run.path}/config.yaml: does not fit {entry.name}, which has no setting {', '.join(unknown[:5])} in this "
            "restain. Correct the file, or use the restain that trained the run (run.json says which)."
        )
    if not isinstance(settings, dict) or not all(map(_plain, settings.values())):
        raise RestainError(f"{run.path}/config.yaml: its section stainer does not fit {entry.name}. Restore the file.")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--stainer", type=entry.info.config, default=entry.info.config())
    try:
        config = parser.instantiate(parser.parse_object({"stainer": settings})).stainer
    except (ArgumentError, RestainError, ValueError, TypeError) as error:
        raise RestainError(f"{run.path}/config.yaml: does not fit {entry.name} ({error}).") from error
    return load_weights(run, entry.item(config), checkpoint)


def _plain(value: object) -> bool:
    """Whether a value is a scalar, or a list of numbers."""
    if isinstance(value, list):
        return all(isinstance(item, int | float) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


class Network:
    """A stainer on a device.

    Args:
        stainer: with its weights.
        accelerator: the device.
        precision: the arithmetic.
        tta: average the seven views of ``restain.infer.views``: seven times as slow, smoother.
    """

    def __init__(
        self,
        stainer: Stainer,
        accelerator: Accelerator = Accelerator.auto,
        precision: Precision = Precision.full,
        tta: bool = False,
    ) -> None:
        self._tta = tta
        self._fabric = make_fabric(accelerator, precision)
        self.stainer = channels_last(stainer.to(self._fabric.device)).eval()

    @property
    def views(self) -> int:
        """Test-time views that are averaged."""
        return len(VIEWS) if self._tta else 1

    @torch.inference_mode()
    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stain one image.

        Args:
            rgb: uint8 H&E [H, W, 3]; it is padded to the method's multiple by reflection and cropped back.

        Returns:
            float32 IHC [H, W, 3] in [0, 255], not rounded.

        Raises:
            ItemError: it does not fit into the device's memory.
        """
        height, width = rgb.shape[:2]
        multiple, least = self.stainer.multiple, self.stainer.least
        pad = [-(-max(side, least) // multiple) * multiple - side for side in (height, width)]
        padded = np.pad(rgb, ((0, pad[0]), (0, pad[1]), (0, 0)), mode="symmetric")
        tensor = torch.from_numpy(padded).to(self._fabric.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        try:
            with self._fabric.autocast():
                # Views of the padded image: its sides are multiples, so strides keep their phase in every view.
                out = average_of_views(self._stain, tensor) if self._tta else self._stain(tensor)
        except torch.OutOfMemoryError as error:
            raise ItemError(
                f"A window of {width} x {height} px does not fit into the memory of {self._fabric.device}. Give a "
                "smaller --tile, or --accelerator cpu."
            ) from error
        values = (out[0].clamp(-1, 1) + 1) * 127.5
        result: NDArray[np.float32] = values.permute(1, 2, 0).cpu().numpy()
        return result[:height, :width]

    def _stain(self, he: torch.Tensor) -> torch.Tensor:
        """The stainer's answer, in float32 whatever the precision."""
        return self.stainer.stain(he).float()

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
