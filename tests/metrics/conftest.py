"""Made weights in the usual files, so that the metrics that need some can be run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from restain.metrics.dists import CHANNELS, DISTS_FILE
from restain.metrics.fid_pathology import ENCODER
from restain.metrics.lpips import LPIPS_FILE, LinearLayers
from restain.nn.backbones import ALEXNET_FILE, VGG16, VGG16_FILE, AlexNetFeatures, VggFeatures
from restain.nn.inception import INCEPTION_FID_FILE, INCEPTION_IMAGENET_FILE, InceptionFeatures
from restain.nn.resnet import RESNET50_FILE, ResNet50


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Random weights that keep a signal's strength; in half precision, for the files are large."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return {key: value.half() for key, value in network.state_dict().items() if value.is_floating_point()}


def write_encoder(folder: Path) -> None:
    """A tiny CLIP in Hugging Face's format."""
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"vocab_size": 8, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of made weights under each name that a metric wants."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(state(VggFeatures(VGG16, (30,))), folder / VGG16_FILE)
    torch.save({key: torch.rand(1, sum(CHANNELS), 1, 1) for key in ("alpha", "beta")}, folder / DISTS_FILE)
    torch.save(state(AlexNetFeatures()), folder / ALEXNET_FILE)
    torch.save({key: value.abs() for key, value in state(LinearLayers()).items()}, folder / LPIPS_FILE)
    torch.save(state(ResNet50()), folder / RESNET50_FILE)
    inception = state(InceptionFeatures(fid=True))
    for file, classes in ((INCEPTION_FID_FILE, 1008), (INCEPTION_IMAGENET_FILE, 1000)):
        classifier = {"fc.weight": torch.zeros(classes, 2048), "fc.bias": torch.zeros(classes)}
        torch.save(inception | classifier, folder / file)
    if find_spec("transformers"):
        write_encoder(folder / ENCODER)
    return folder
