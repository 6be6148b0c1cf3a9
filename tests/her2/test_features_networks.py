"""Encoders that are networks: CLIP from a folder, and the encoder half of every stainer."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.her2.encoders import Field, Stain, make_encoder
from restain.nn.encoders import load_encoder
from restain.stainers.base import STAINERS
from restain.stainers.pix2pix import Config, Generator, InferenceNorm, Pix2Pix
from restain.training.checkpoint import save_state
from restain.training.loop import FINAL
from restain.training.run import plain

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (128, 256, 3), dtype=np.uint8)
FIELD = Field(RGB, np.array([[0, 0], [128, 0]]), 128, 0.5)


def encode(text: str, field: Field = FIELD) -> np.ndarray:
    encoder = make_encoder(text)
    return encoder.of_slide(None, None)(field)  # type: ignore[arg-type]  # networks need nothing of the slide


def test_clip_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `encoders` (transformers) is not installed")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=12, **sizes)
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        torch.manual_seed(seed)
        transformers.CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / name)
    found = encode(f"clip:{tmp_path / 'one'}")
    assert np.array_equal(found, load_encoder(tmp_path / "one").features([RGB[:, :128], RGB[:, 128:]]))
    one, same, other = (make_encoder(f"clip:{tmp_path / name}") for name in ("one", "same", "other"))
    assert one.name == "clip"
    assert one.version == same.version != other.version


def write_run(path: Path, method: str, config: Any, mpp: float | None = 0.5) -> nn.Module:
    torch.manual_seed(0)
    run = RunFolder(path)
    run.start({"task": "stain", "method": method, "mpp": mpp}, {"stainer": plain(config)})
    stainer = STAINERS[method].item(config)
    save_state(run.checkpoints / FINAL, {"weights": stainer.state_dict()})
    return stainer


def small(kind: type) -> Any:
    """The settings of a thin network, with what a dataset would fill in."""
    config, filled = kind(), {"levels": 4, "images": 8, "slides": 2}
    changes: dict[str, Any] = {}
    for field in fields(kind):
        if field.name.endswith("_width"):
            changes[field.name] = 4
        elif field.name.endswith("_blocks"):
            changes[field.name] = 2
        elif field.name in filled and getattr(config, field.name) is None:
            changes[field.name] = filled[field.name]
    return replace(config, **changes)


@pytest.mark.parametrize("method", [entry.name for entry in STAINERS])
def test_the_encoder_half_of_every_stainer(tmp_path: Path, method: str) -> None:
    write_run(tmp_path / "run", method, small(STAINERS[method].info.config))
    found = encode(f"run:{tmp_path / 'run'}")
    assert found.ndim == 2
    assert len(found) == 2
    assert 8 <= found.shape[1] <= 4096
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-6, "two tiles are not the same"


def test_features_are_those_before_the_first_enlargement(tmp_path: Path) -> None:
    config = Config(
        generator=Generator.resnet_6blocks,
        generator_width=4,
        discriminator_width=4,
        inference_norm=InferenceNorm.running,
    )
    stainer = write_run(tmp_path / "run", "pix2pix", config).eval()
    assert isinstance(stainer, Pix2Pix)
    layers = list(stainer.G.model)
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.ConvTranspose2d))
    tile = torch.from_numpy(RGB[:, :128].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1

    with torch.no_grad():
        maps = nn.Sequential(*layers[:first])(tile)
    wanted = torch.cat([maps.mean((2, 3)), maps.flatten(2).std(2, correction=0)], 1)[0]
    assert np.allclose(encode(f"run:{tmp_path / 'run'}")[0], wanted.numpy(), atol=1e-4)


def test_a_run_without_um_per_px_is_refused_and_its_own_is_used(tmp_path: Path) -> None:
    config = Config(generator=Generator.resnet_6blocks, generator_width=4, discriminator_width=4)
    write_run(tmp_path / "blind", "pix2pix", config, mpp=None)
    with pytest.raises(RestainError, match=r"blind.*no um/px"):
        make_encoder(f"run:{tmp_path / 'blind'}")
    write_run(tmp_path / "fine", "pix2pix", config, mpp=0.25)
    write_run(tmp_path / "same", "pix2pix", config, mpp=0.25)
    fine, same = (make_encoder(f"run:{tmp_path / name}", Stain.he) for name in ("fine", "same"))
    assert fine.mpp == 0.25
    assert fine.version == same.version
    assert fine.version.startswith("pix2pix-")
