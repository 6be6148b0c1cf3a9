from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import _weights_only_unpickler as unpickler
from torch import nn

from restain.core.errors import ItemError
from restain.losses.perceptual import LAYER_WEIGHTS, PerceptualLoss
from restain.nn.backbones import VggFeatures, vgg19_features
from restain.nn.weights import cached_weights, find_weights, named_tensors, read_safely, read_state_dict

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
    sizes = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.strided)
    torch.save({"a": sizes}, tmp_path / "nested.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("hello")
    whole = (tmp_path / "module.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name in (
        "module.pth",
        "evil.pth",
        "evil2.pth",
        "none.pth",
        "nested.pth",
        "empty.pth",
        "text.safetensors",
        "cut.pth",
        "no.pth",
    ):
        with pytest.raises(ItemError, match=name):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def spell(path: Path, pickled: bytes) -> Path:
    """A file of torch's whose pickle is ``pickled``."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in records.items():
            file.writestr(name, pickled if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["kind", "_AnythingKind", "read_safely"])
def test_names_of_restain_in_a_file_make_nothing(
    name: str, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch keeps what may be unpickled in a set; of two that have one name, its order chooses."""

    def allowed() -> dict[str, object]:
        pairs = (one for one in unpickler._marked_safe_globals_set if isinstance(one, tuple))
        return {said: made for made, said in sorted(pairs, key=lambda one: one[0].__name__, reverse=last)}

    monkeypatch.setattr(unpickler, "_get_user_allowed_globals", allowed)
    word = b"X\4\0\0\0Evil"
    ours = b"crestain.nn.weights\n" + name.encode() + b"\n" + word + b")}\x87R"  # called with ("Evil", (), {})
    path = spell(tmp_path / "evil.pt", b"\x80\2}(K\1" + ours + b"K\2cother.library\nThing\nu.")
    content = read_safely(path, skip_objects=True)
    assert content[1] is content[2]  # what stands for everything unknown


def test_containers_are_plain_whatever_a_file_hides_their_methods_behind(tmp_path: Path) -> None:
    weight = b"X\6\0\0\0weight"
    hiding = b"ccollections\nOrderedDict\n)R" + weight + b"K\1s}X\5\0\0\0itemsK\1sb"
    path = spell(tmp_path / "hiding.pt", b"\x80\2}(K\1" + hiding + b"K\2](" + hiding + hiding + b"\x86eu.")
    content = read_safely(path)
    assert content == {1: {"weight": 1}, 2: [[{"weight": 1}, {"weight": 1}]]}
    assert type(content[1]) is type(content[2][0][1]) is dict


def test_containers_in_themselves_are_read_and_visited_once(tmp_path: Path) -> None:
    tensor = torch.rand(2)
    held: dict[str, object] = {"a": {"b": tensor}}
    held |= {"module": held, "list": [held], "tuple": (held, [])}
    torch.save({"late": {"later": held}, "net": held}, tmp_path / "itself.pt")
    content = read_safely(tmp_path / "itself.pt")
    assert content["net"] is content["late"]["later"]
    assert content["net"]["module"] is content["net"]["list"][0] is content["net"]["tuple"][0] is content["net"]
    found = dict(named_tensors(content))
    assert list(found) == ["net.a.b"]
    assert torch.equal(found["net.a.b"], tensor)
    read_safely(spell(tmp_path / "deep.pt", b"\x80\2" + b"]" * 100_000 + b"a" * 99_999 + b"."))


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
