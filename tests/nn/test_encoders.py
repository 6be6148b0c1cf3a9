"""Encoders in Hugging Face's format, made tiny here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restain.core.errors import ItemError
from restain.nn.encoders import EncoderPackageError, load_encoder

IMAGES = [np.random.default_rng(n).integers(0, 256, (32, 32 + 8 * n, 3), dtype=np.uint8) for n in range(3)]


def write_clip(folder: Path, **vision: int) -> Path:
    transformers = pytest.importorskip("transformers", reason="the extra `encoders` (transformers) is not installed")
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"vocab_size": 8, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": 32, "patch_size": 8} | vision
    config = transformers.CLIPConfig(text_config=text, vision_config=sizes, projection_dim=12)
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    return folder


def test_a_clip_gives_its_image_embeddings(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    encoder = load_encoder(folder)
    found = encoder.features(IMAGES)
    assert found.shape == (3, 12)
    import transformers

    whole = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval()
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    pixels = torch.from_numpy(((IMAGES[0] / 255 - mean) / deviation).transpose(2, 0, 1)).float()[None]
    with torch.no_grad():
        vision = whole.vision_model(pixel_values=pixels)
        expected = whole.visual_projection(vision.pooler_output)[0]
    assert np.allclose(found[0], expected.numpy(), atol=1e-4)
    assert np.array_equal(found, encoder.features(IMAGES))
    middle = encoder.features([IMAGES[2][:, 8:40]])
    assert np.allclose(found[2], middle[0], atol=1e-5), "the middle square of a wide image"


def test_a_plain_vision_transformer_gives_its_class_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `encoders` (transformers) is not installed")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2})
    )
    encoder = load_encoder(tmp_path / "vit")
    assert encoder.features(IMAGES).shape == (3, 16)
    pixels = encoder.preprocessing(np.full((20, 20, 3), 255, np.uint8))
    assert torch.allclose(pixels, torch.ones(1, 3, 32, 32)), "white is 1 with mean and deviation 0.5"


def test_what_is_no_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"config\.json: no such file"):
        load_encoder(tmp_path)
    folder = write_clip(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["intermediate_size"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ItemError, match=r"clip/model\.safetensors.*mlp\.fc1\.bias is \[24\], not \[32\]"):
        load_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ItemError, match="clip: not an encoder"):
        load_encoder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ItemError, match="clip: not an encoder"):
        load_encoder(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ItemError, match=r"model\.safetensors: no such file"):
        load_encoder(folder)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderPackageError, match=r"restain\[encoders\]"):
        load_encoder(tmp_path)
