"""CLIP, PLIP and vision transformers from a local folder in Hugging Face's format.

PLIP is what the paper of ``ipca`` takes: ``clip:FOLDER`` with the folder of its checkpoint. Tiles go through the
folder's own preprocessing (short side to 224 px, its mean and deviation).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from restain.core.errors import RestainError
from restain.her2.encoders.base import Encode, Encoder, Features, Field, register_encoder
from restain.her2.encoders.stain_space import Stain
from restain.nn.encoders import CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE, load_encoder
from restain.nn.weights import cached_weights
from restain.slides import Slide, TissueMask


@register_encoder("clip", "CLIP, PLIP or a vision transformer from a local folder (transformers)", "folder")
def clip(folder: str, _: Stain) -> Encoder:
    """The encoder in a folder, or in the folder of that name in torch's download cache."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        cached = cached_weights(folder)
        if cached is None or not cached.is_dir():
            raise RestainError(
                f"encoder clip:{folder}: no such folder, here or in torch's download cache. Give the folder that holds "
                f"{CONFIG_FILE} and {WEIGHTS_FILE}; nothing is downloaded."
            )
        path = cached
    return VisionTiles(path)


class VisionTiles(Encoder):
    """A frozen vision encoder on tiles.

    Args:
        folder: as ``restain.nn.encoders.load_encoder`` reads it.
    """

    name = "clip"

    def __init__(self, folder: Path) -> None:
        self._encoder = load_encoder(folder)
        digest = hashlib.sha256()
        for name in (CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE):
            if (folder / name).is_file():
                with (folder / name).open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        self.version = digest.hexdigest()[:16]

    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:  # noqa: ARG002 (needs nothing of the slide)
        """See ``Encoder``."""
        return self._encode

    def _encode(self, field: Field) -> Features:
        return self._encoder.features(field.images())
