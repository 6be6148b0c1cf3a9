from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from restain.core.errors import ItemError
from restain.losses.perceptual import LAYER_WEIGHTS, PerceptualLoss
from restain.nn.backbones import VggFeatures, vgg19_features
from restain.nn.weights import cached_weights, find_weights, read_state_dict

SMALL = (2, 2, 0, 3, 3, 0, 4, 4, 4, 4, 0, 5, 5, 5, 5, 0, 6, 6, 6, 6)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def test_state_dicts_are_read_from_each_format_and_nest(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.rand(2, 3), "a.bias": torch.rand(2)}
    prefixed = {f"module.{key}": value for key, value in tensors.items()}
    torch.save(prefixed, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "state_dict": prefixed}, tmp_path / "nested.pt")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "safe.safetensors")
    for name in ("plain.pth", "nested.pt", "old.pth", "safe.safetensors"):
        found = read_state_dict(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_nothing_is_executed_and_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}))
    torch.save({"a": Evil()}, tmp_path / "evil2.pth")
    torch.save({"note": "no tensors"}, tmp_path / "none.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("hello")
    whole = (tmp_path / "module.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name in (
        "module.pth",
        "evil.pth",
        "evil2.pth",
        "none.pth",
        "empty.pth",
        "text.safetensors",
        "cut.pth",
        "no.pth",
    ):
        with pytest.raises(ItemError, match=name):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_vgg_has_torchvisions_names_and_taps() -> None:
    network = VggFeatures(SMALL, (1, 6, 11, 20, 29))
    keys = {key for key in network.state_dict() if key.endswith("weight")}
    assert keys == {f"features.{n}.weight" for n in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)}
    shapes = [feature.shape[1:] for feature in network(torch.rand(1, 3, 32, 32))]
    assert shapes == [(2, 32, 32), (3, 16, 16), (4, 8, 8), (5, 4, 4), (6, 2, 2)]


def test_perceptual_loss_is_the_weighted_l1_of_five_activations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restain.nn.backbones._VGG19", SMALL)
    torch.manual_seed(0)
    network = VggFeatures(SMALL, (1, 6, 11, 20, 29))
    file = tmp_path / "vgg.pth"
    torch.save({**network.state_dict(), "classifier.0.weight": torch.rand(2, 2)}, file)
    fake, real = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    loss = PerceptualLoss(file)(fake, real)
    with torch.no_grad():
        pairs = zip(LAYER_WEIGHTS, network(fake), network(real), strict=True)
        want = sum(weight * (a - b).abs().mean() for weight, a, b in pairs)
    torch.testing.assert_close(loss.detach(), want)
    loss.backward()
    assert fake.grad is not None
    torch.save({"features.0.weight": torch.rand(1)}, tmp_path / "other.pth")
    with pytest.raises(ItemError, match="not the weights of a VGG19"):
        vgg19_features(tmp_path / "other.pth")


def test_cached_weights_are_those_of_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert cached_weights("vgg.pth") is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg.pth").touch()
    assert cached_weights("vgg.pth") == tmp_path / "hub" / "checkpoints" / "vgg.pth"
    assert find_weights("vgg.pth", tmp_path) == cached_weights("vgg.pth")
    (tmp_path / "vgg.pth").touch()
    assert find_weights("vgg.pth", tmp_path) == tmp_path / "vgg.pth"
