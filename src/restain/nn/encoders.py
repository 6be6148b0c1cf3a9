"""Vision encoders from a folder in Hugging Face's format: PLIP and other CLIPs, plain vision transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from restain.core.errors import ItemError
from restain.nn.measuring import features_of, ready, unit_images

CONFIG_FILE, WEIGHTS_FILE, PREPROCESSOR_FILE = "config.json", "model.safetensors", "preprocessor_config.json"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""What images are normalised with where a folder does not say (CLIP, Radford 2021)."""


class EncoderPackageError(ItemError):
    """The package that reads encoders, transformers, is not installed."""


@dataclass(frozen=True)
class Preprocessing:
    """How an encoder wants its images.

    Attributes:
        side: of the square it sees, px.
        mean: of each channel in [0, 1], taken off.
        deviation: of each channel, divided by.
        resample: Pillow's filter.
    """

    side: int
    mean: Sequence[float]
    deviation: Sequence[float]
    resample: Image.Resampling

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """An image, uint8 RGB [H, W, 3], to [1, 3, side, side]: its short side to ``side``, its middle, normalised."""
        height, width = image.shape[:2]
        crop = min(height, width)
        x, y = (width - crop) / 2, (height - crop) / 2
        square = Image.fromarray(image).resize((self.side, self.side), self.resample, box=(x, y, x + crop, y + crop))
        values = unit_images(np.asarray(square))
        mean, deviation = (values.new_tensor(constants)[:, None, None] for constants in (self.mean, self.deviation))
        return (values - mean) / deviation


class VisionEncoder:
    """A frozen encoder of images.

    Args:
        network: takes ``pixel_values`` [N, 3, side, side].
        preprocessing: what its images must go through.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        self._network = ready(network)
        self.preprocessing = preprocessing

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features [n, d] of images, uint8 RGB [H, W, 3] of any sizes: CLIP's projection, else the class token."""
        return features_of(images, self.preprocessing, self._encode)

    def _encode(self, batch: Tensor) -> Tensor:
        output = self._network(pixel_values=batch)
        projected: Tensor | None = getattr(output, "image_embeds", None)
        tokens: Tensor = output.last_hidden_state
        return tokens[:, 0] if projected is None else projected


def load_encoder(folder: Path) -> VisionEncoder:
    """The encoder in a folder with ``config.json`` and ``model.safetensors`` (and ``preprocessor_config.json``).

    A CLIP gives its vision half with the projection. Nothing is downloaded and no code from the folder is run.

    Raises:
        EncoderPackageError: transformers is not installed.
        ItemError: the folder lacks a file, or one cannot be read, or the weights are not those of the config; it names
            the file, the key and both shapes.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ItemError(
                f"{folder / name}: no such file. An encoder's folder holds {CONFIG_FILE} and {WEIGHTS_FILE} in Hugging "
                "Face's format (save_pretrained writes it; weights in other formats are not read: they could run code)."
            )
    try:
        import transformers  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise EncoderPackageError(
            f"{folder}: to read an encoder the package transformers is needed: pip install 'restain[encoders]'."
        ) from error
    with _quietly(transformers):
        try:
            network, found = _read(transformers, folder)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
            brief = " ".join(str(error).split())[:300]
            raise ItemError(f"{folder}: not an encoder that transformers can read ({brief}).") from error
    _check(folder / WEIGHTS_FILE, network, found)
    return VisionEncoder(network, _preprocessing(folder, network.config))


def _read(transformers: Any, folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """The network and what transformers says of loading it."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    kind = transformers.AutoModel
    if config.model_type in ("clip", "clip_vision_model"):
        kind = transformers.CLIPVisionModelWithProjection
        if config.model_type == "clip":
            config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
    network, found = kind.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    return network, found


def _check(file: Path, network: Any, found: Mapping[str, Any]) -> None:
    """Refuse weights that left a part of the network as it was made, at random."""
    what = f"{file}: not the weights of the {type(network).__name__} that {CONFIG_FILE} describes"
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    for key, theirs, ours in sorted(found["mismatched_keys"]):
        raise ItemError(f"{what}: {key} is {list(theirs)}, not {list(ours)}.")
    for key in sorted(found["missing_keys"]):
        if not key.startswith("pooler."):  # of plain transformers; it is not used
            raise ItemError(f"{what}: it has no {key} {shapes.get(key, '')}.")


def _preprocessing(folder: Path, config: Any) -> Preprocessing:
    file = folder / PREPROCESSOR_FILE
    try:
        said = json.loads(file.read_text()) if file.is_file() else {}
        return Preprocessing(
            side=int(config.image_size),
            mean=tuple(map(float, said.get("image_mean", CLIP_MEAN))),
            deviation=tuple(map(float, said.get("image_std", CLIP_DEVIATION))),
            resample=Image.Resampling(said.get("resample", Image.Resampling.BICUBIC)),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ItemError(f"{file}: does not say how images are to be prepared ({error}).") from error


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Without transformers' reports and progress bars: what matters becomes an error of ours."""
    level, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
