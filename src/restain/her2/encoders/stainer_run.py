"""The encoder half of a trained stainer: what its network knows of a tile before it begins to draw the IHC.

Whatever the method, the encoder half ends where the picture first gets larger again: at the input of the first module
to finish whose output's sides are at least 1.5 times those of its input. That module is looked for once, by staining a
tile and watching; no method needs to say anything. Features are the mean of each channel over space, and its deviation
where the map is larger than one position: under instance norm means say little.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.her2.encoders.base import Encode, Encoder, Features, Field, register_encoder
from restain.her2.encoders.stain_space import Stain
from restain.infer.network import Network, load_stainer
from restain.slides import Slide, TissueMask
from restain.training.loop import weights_file

_GROWS = 1.5


@register_encoder("run", "the encoder half of a trained stainer", "run")
def run(folder: str, _: Stain) -> Encoder:
    """The encoder half of the stainer in a run folder."""
    return StainerTiles(RunFolder(Path(folder).expanduser()))


class _ReachedError(Exception):
    """The encoder half is done; the rest need not be computed."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


class StainerTiles(Encoder):
    """The encoder half of a stainer on tiles, at the um/px that the run was trained at.

    Args:
        run: a stainer's run.

    Raises:
        RestainError: not a stainer's run, one without um/px, or nothing in its network enlarges.
    """

    name = "run"

    def __init__(self, run: RunFolder) -> None:
        self._network = Network(load_stainer(run))
        self.mpp = run.mpp
        if self.mpp is None:
            raise RestainError(
                f"{run.path}: the run knows no um/px, so tiles cannot be shown to it as its training images were. "
                "Train or import with --mpp."
            )
        with weights_file(run).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        digest.update(json.dumps(run.config.get("stainer", {}), sort_keys=True, default=str).encode())
        self.version = f"{run.info['method']}-{digest.hexdigest()[:16]}"
        side = max(256, self._network.stainer.least)
        found = _first_enlarging(self._network, np.full((side, side, 3), 200, np.uint8))
        if found is None:
            raise RestainError(
                f"{run.path}: its network {run.info['method']} never makes its picture smaller and larger again, so it "
                "has no encoder half. Take another run, or another encoder."
            )
        self._end = found

    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:  # noqa: ARG002 (needs nothing of the slide)
        """See ``Encoder``."""
        return self._encode

    def _encode(self, field: Field) -> Features:
        return np.stack([self._tile(image) for image in field.images()])

    def _tile(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        def reached(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            raise _ReachedError(inputs[0])

        handle = self._end.register_forward_pre_hook(reached)
        try:
            self._network(image)
        except _ReachedError as end:
            maps = end.features.float()
        finally:
            handle.remove()
        with torch.inference_mode():
            parts = [maps.mean(dim=(2, 3))]
            if maps.shape[2] * maps.shape[3] > 1:
                parts.append(maps.std(dim=(2, 3), correction=0))
            found: NDArray[np.float32] = torch.cat(parts, dim=1)[0].cpu().numpy()
        return found


def _first_enlarging(network: Network, image: NDArray[np.uint8]) -> nn.Module | None:
    """The first module of the stainer to finish, while it stains ``image``, that enlarges what it is given."""
    found: list[nn.Module] = []

    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not found and _sides(output) >= _GROWS * _sides(inputs[0] if inputs else None) > 0:
            found.append(module)

    with _hooked(network.stainer, watch):
        network(image)
    return found[0] if found else None


def _sides(value: Any) -> float:
    """The side of a map [N, C, H, W], 0 of anything else."""
    return float(min(value.shape[2:])) if isinstance(value, Tensor) and value.ndim == 4 else 0.0


@contextmanager
def _hooked(network: nn.Module, hook: Any) -> Iterator[None]:
    """Within the block every module calls ``hook`` when it is done."""
    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_hook(hook).remove)
        yield
