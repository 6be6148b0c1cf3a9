"""Authors' checkpoints as runs: what is loaded, what stains as recorded, what is refused and how."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.core.runs import RunFolder
from restain.data import to_network
from restain.infer.network import load_stainer
from restain.stainers.base import STAINERS, Stainer, build
from restain.training.architecture import fitting, mismatches, shapes_of
from restain.training.batches import BatchOptions
from restain.training.importing import import_checkpoint
from restain.training.loop import FINAL
from restain.training.options import TrainingOptions

METHODS = [entry.name for entry in STAINERS]
THIN: dict[str, Any] = {"_width": 4, "_blocks": 1, "levels": 4, "images": 5, "slides": 2, "side": 64}


def thin(method: str, **settings: Any) -> Any:
    """The method's settings with thin and shallow networks."""
    config = STAINERS[method].info.config
    small = {
        field.name: value
        for field in fields(config)
        for end, value in THIN.items()
        if field.name == end or (end[0] == "_" and field.name.endswith(end))
    }
    if "nce_layers" in {field.name for field in fields(config)}:
        small["nce_layers"] = (0, 4)
    if "generator" in {field.name for field in fields(config)}:
        small["generator"] = type(config().generator).resnet_6blocks
    return config(**(small | settings))


def stainer_of(method: str, config: Any, seed: int = 7) -> Stainer:
    torch.manual_seed(seed)
    return build(method, config)


def released(stainer: Stainer) -> dict[str, dict[str, Tensor]]:
    """The state of each network by the authors' names."""
    state, networks = stainer.state_dict(), {}
    for ours, theirs in stainer.reference_keys().items():
        name, key = theirs.split(".", 1)
        networks.setdefault(name, {})[key] = state[ours].clone()
    return networks


def bring(method: str, config: Any, checkpoint: Path, out: Path, **options: Any) -> RunFolder:
    return import_checkpoint(method, config, checkpoint, out, BatchOptions(), TrainingOptions(), **options)


def same_state(run: RunFolder, stainer: Stainer) -> bool:
    ours, theirs = load_stainer(run).state_dict(), stainer.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# What is loaded


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_exports_comes_back_exactly_in_every_form(method: str, tmp_path: Path) -> None:
    config = thin(method)
    stainer = stainer_of(method, config)
    networks = released(stainer)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name, state in networks.items():
        torch.save({f"module.{key}": value for key, value in state.items()}, folder / f"latest_net_{name}.pth")
    torch.save({"epoch": 3, "state_dict": networks}, tmp_path / "nested.pt")
    torch.save({f"net{name}": state for name, state in networks.items()} | {"epoch": 3}, tmp_path / "net.pth")
    flat = {f"{name}.module.{key}": value for name, state in networks.items() for key, value in state.items()}
    save_file(flat, tmp_path / "flat.safetensors")
    for form in ("checkpoints", "nested.pt", "net.pth", "flat.safetensors"):
        assert same_state(bring(method, config, tmp_path / form, tmp_path / "runs" / form), stainer), form


@pytest.mark.parametrize("method", METHODS)
def test_the_network_that_stains_is_enough(method: str, tmp_path: Path) -> None:
    config = thin(method)
    stainer = stainer_of(method, config)
    torch.save(released(stainer)[stainer.stains], tmp_path / "generator.pth")
    run = bring(method, config, tmp_path / "generator.pth", tmp_path / "run", mpp=0.25)
    he = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        assert torch.equal(load_stainer(run).stain(he), stainer.eval().stain(he))
    fresh = stainer_of(method, config, seed=0).state_dict()  # the others: the initial weights of seed 0
    others = {key: value for key, value in load_stainer(run).state_dict().items() if not key.startswith(stainer.stains)}
    assert others
    assert all(torch.equal(value, fresh[key]) for key, value in others.items())
    info = run.info
    assert (info["task"], info["method"], info["mpp"], info["levels"]) == ("stain", method, 0.25, [])
    assert (info["data"], info["status"], info["networks"]) == (None, "done", [stainer.stains])
    assert list(info["imported"]) == ["generator.pth"]
    assert run.config.keys() == {"method", "data", "mpp", "stainer", "batches", "training"}


def test_what_carries_nothing_is_dropped_and_counters_may_be_missing(tmp_path: Path) -> None:
    """Filters, statistics that old versions of PyTorch wrote for instance norms, counters of batch norms."""
    config = thin("cut")
    stainer = stainer_of("cut", config)
    state = released(stainer)["G"]
    state |= {"model.7.filt": torch.ones(8, 1, 3, 3), "model.2.num_batches_tracked": torch.tensor(5)}
    state |= {"model.2.running_mean": torch.ones(4), "model.2.running_var": torch.ones(4)}
    torch.save(state, tmp_path / "latest_net_G.pth")
    run = bring("cut", config, tmp_path / "latest_net_G.pth", tmp_path / "run")
    assert torch.equal(load_stainer(run).state_dict()["G.model.1.weight"], stainer.state_dict()["G.model.1.weight"])

    config = thin("pix2pix")
    stainer = stainer_of("pix2pix", config)
    for layer in stainer.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_()
    state = {key: value for key, value in released(stainer)["G"].items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    run = bring("pix2pix", config, tmp_path / "old.pth", tmp_path / "batch")
    he = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_stainer(run).stain(he), stainer.eval().stain(he)), "batch norms keep their statistics"


def test_spectral_norms_are_read_in_both_spellings(tmp_path: Path) -> None:
    config = thin("asp")
    stainer = stainer_of("asp", config)
    old = released(stainer)["G"]
    assert "model.1.weight_orig" in old
    new = {key.removeprefix("G."): value for key, value in stainer.state_dict().items() if key.startswith("G.")}
    assert "model.1.parametrizations.weight.original" in new
    for name, state in (("old", old), ("new", new)):
        torch.save({"module": state}, tmp_path / f"{name}_net_G.pth")
        run = bring("asp", config, tmp_path / f"{name}_net_G.pth", tmp_path / name)
        ours = load_stainer(run).G.state_dict()
        assert all(torch.equal(value, ours[key]) for key, value in stainer.G.state_dict().items())


def test_the_epoch_of_a_folder(tmp_path: Path) -> None:
    config = thin("cyclegan")
    for seed, epoch in enumerate(("5", "10")):
        torch.save(released(stainer_of("cyclegan", config, seed))["G_A"], tmp_path / f"{epoch}_net_G_A.pth")
    with pytest.raises(RestainError, match=r"holds epochs 5, 10\. Choose one: --epoch 10"):
        bring("cyclegan", config, tmp_path, tmp_path / "run")
    with pytest.raises(RestainError, match="no epoch 7; it holds epochs 5, 10"):
        bring("cyclegan", config, tmp_path, tmp_path / "run", epoch="7")
    run = bring("cyclegan", config, tmp_path, tmp_path / "run", epoch="10")
    assert list(run.info["imported"]) == ["10_net_G_A.pth"]
    torch.save(released(stainer_of("cyclegan", config, 2))["G_A"], tmp_path / "latest_net_G_A.pth")
    run = bring("cyclegan", config, tmp_path, tmp_path / "latest")
    assert list(run.info["imported"]) == ["latest_net_G_A.pth"]


def test_a_network_that_fits_with_no_settings_is_left_out_unless_it_stains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The perceptrons of other layers than ours do not keep a generator from staining."""
    config = thin("cut")
    theirs = stainer_of("cut", replace(config, nce_layers=(0, 4, 8)))
    torch.save(released(theirs), tmp_path / "all.pth")
    run = bring("cut", config, tmp_path / "all.pth", tmp_path / "run")
    assert run.info["networks"] == ["G", "D"]
    said = capsys.readouterr().err
    assert "F: fits with no settings of cut and was left out" in said
    assert "F.mlp_2.0.weight: checkpoint [4, 16], network as set none" in said


# Recorded from the authors' code


def recorded(shared: Path, case: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("conformance_run", shared / "conformance" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_case(shared / "conformance" / "cases" / case)  # type: ignore[no-any-return]


CASES: dict[str, tuple[str, Mapping[str, str], Callable[[Mapping[str, Any]], dict[str, Any]], str]] = {
    "pix2pix/resnet9-batch-eval-dropout": (
        "pix2pix", {"G": "G"},
        lambda o: {"generator_width": o["ngf"], "norm": o["norm"], "dropout": o["use_dropout"]}, "output",
    ),
    "pix2pix/unet128-batch": (
        "pyramid_pix2pix", {"G": "G"},
        lambda o: {"generator": "unet_128", "generator_width": o["ngf"], "norm": o["norm"]}, "output",
    ),
    "cyclegan/cyclegan-lsgan": (
        "cyclegan", {"G_A": "G_A", "D_A": "D_A"},
        lambda o: {
            "generator_width": o["G_A"]["ngf"], "generator_blocks": o["G_A"]["n_blocks"],
            "discriminator_width": o["D_A"]["ndf"],
        }, "fake_B",
    ),
    "pix2pixhd/global-4down-instance": (
        "pix2pixhd", {"G": "G"},
        lambda o: {"generator_width": o["ngf"], "generator_blocks": o["n_blocks"]}, "output",
    ),
    "pix2pixhd/local-1": (
        "pix2pixhd", {"G": "G"},
        lambda o: {
            "generator_width": o["ngf"], "generator_blocks": o["n_blocks_global"], "enhancers": 1,
            "downsamplings": o["n_downsample_global"], "enhancer_blocks": o["n_blocks_local"],
        }, "output",
    ),
    "pix2pixhd/hd-losses": (
        "pix2pixhd", {"G": "G", "D": "D"},
        lambda o: {
            "generator_width": o["G"]["ngf"], "generator_blocks": o["G"]["n_blocks"],
            "downsamplings": o["G"]["n_downsampling"], "discriminator_width": o["ndf"],
        }, "fake_B",
    ),
    "cut/generator_9blocks": ("cut", {"generator": "G"}, lambda o: {"generator_width": o["ngf"]}, "output"),
    "cut/generator_9blocks_plain": (
        "fastcut", {"generator": "G"}, lambda o: {"generator_width": o["ngf"], "antialias": "false"}, "output",
    ),
    "asp/generator_6blocks_spectral": ("asp", {"generator": "G"}, lambda o: {"generator_width": o["ngf"]}, "output"),
    "asp/generator_6blocks_no_weight_norm": (
        "asp", {"generator": "G"}, lambda o: {"generator_width": o["ngf"], "spectral_norm": "false"}, "output",
    ),
    "bcistainer/generator_128": (
        "bcistainer", {"generator": "G"},
        lambda o: {
            "generator_width": o["params"]["init_channels"], "side": o["params"]["full_size"],
            "style_blocks": o["params"]["style_blocks"], "levels": o["params"]["levels"],
        }, "full",
    ),
    "tdkstain/generator-9blocks": ("tdkstain", {"G": "G"}, lambda o: {"generator_width": o["ngf"]}, "output"),
    "tdkstain/losses-batch": (
        "tdkstain", {"G": "G", "D": "D", "E": "E"},
        lambda o: {
            "generator_width": o["ngf"], "generator_blocks": o["n_blocks"], "discriminator_width": o["ndf"],
            "estimator_width": o["nef"],
        }, "fake_B",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_imported_checkpoint_stains_as_recorded(case: str, shared: Path, tmp_path: Path) -> None:
    """From the command line: networks named as the authors save them, with ``module.`` and without."""
    method, networks, settings, output = CASES[case]
    described, inputs, expected = recorded(shared, case)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for theirs, name in networks.items():
        prefix = f"weights.{theirs}."
        state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in inputs.items() if k.startswith(prefix)}
        before = "module." if len(case) % 2 else ""
        torch.save({before + key: value for key, value in state.items()}, folder / f"latest_net_{name}.pth")
    options = [word for k, v in settings(described["options"]).items() for word in (f"--stainer.{k}", str(v))]
    run = tmp_path / "run"
    assert main(["import", method, str(folder), "--out", str(run), *options]) == 0
    assert set(RunFolder(run).info["networks"]) == set(networks.values())

    image = inputs.get("image")
    he = torch.from_numpy(inputs["input" if "input" in inputs else "real_A"]) if image is None else to_network([image])
    with torch.no_grad():
        fake = load_stainer(RunFolder(run)).stain(he).numpy()
    tolerance = described["tolerance"]
    np.testing.assert_allclose(fake, expected[output], rtol=tolerance["rtol"], atol=tolerance["atol"])
    if image is not None:
        cv2.imwrite(str(tmp_path / "he.png"), image[..., ::-1])
        assert main(["stain", str(run), str(tmp_path / "he.png"), "--out", str(tmp_path / "fake")]) == 0
        stained = cv2.imread(str(tmp_path / "fake" / "he.png"))[..., ::-1].astype(int)
        truth = np.rint((expected[output][0].transpose(1, 2, 0) + 1) * 127.5)
        assert np.abs(stained - truth).max() <= 1


# Wrong architecture


FOUND = {
    "pix2pix": {"norm": "instance", "dropout": False, "generator_width": 8},
    "pyramid_pix2pix": {"generator": "unet_128"},
    "pix2pixhd": {"enhancers": 1, "downsamplings": 2, "norm": "batch"},
    "cyclegan": {"generator_blocks": 3, "norm": "batch", "discriminator_layers": 2},
    "cut": {"antialias": False, "generator_blocks": 4, "embedding_width": 12},
    "asp": {"spectral_norm": False, "generator_width": 6},
    "tdkstain": {"downsamplings": 2, "estimator_blocks": 2, "discriminator_scales": 2},
}


@pytest.mark.parametrize("method", FOUND)
def test_the_settings_that_fit_are_named_and_fit(method: str, tmp_path: Path) -> None:
    config = thin(method)
    values = {
        name: type(getattr(config, name))(value) if isinstance(value, str) else value
        for name, value in FOUND[method].items()
    }
    stainer = stainer_of(method, replace(config, **values))
    networks = released(stainer)
    if method == "asp":  # the search takes long where networks have spectral norms
        networks = {"G": networks["G"]}
    torch.save(networks, tmp_path / "all.pth")
    with pytest.raises(RestainError, match="does not fit") as caught:
        bring(method, config, tmp_path / "all.pth", tmp_path / "run")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists(), "nothing is written before it fits"
    text = str(caught.value)
    assert f"{stainer.stains}.model" in text
    assert "These settings fit; add:" in text
    named = text.split("add:\n", 1)[1].splitlines()[0].split()
    expected = [f"--stainer.{name} {str(value).lower()}" for name, value in FOUND[method].items()]
    assert sorted(expected) == sorted(" ".join(named[i : i + 2]) for i in range(0, len(named), 2))


@pytest.mark.parametrize("method", ["pix2pix", "cyclegan", "cut"])
def test_random_architectures_are_found_from_the_published_one(method: str) -> None:
    rng = np.random.default_rng(3)
    config = STAINERS[method].info.config()
    for _ in range(2):
        values = {
            name: int(rng.integers(low, high))
            for name, low, high in (
                ("generator_width", 4, 40), ("discriminator_width", 4, 40), ("discriminator_layers", 1, 6),
                ("generator_blocks", 1, 10),
            )
            if hasattr(config, name)
        }  # fmt: skip
        theirs = shapes_of(method, replace(config, **values))
        assert theirs is not None
        ours = shapes_of(method, fitting(method, config, theirs))
        assert ours is not None
        assert not mismatches(theirs, ours)


def test_depths_that_hide_each_other_are_found() -> None:
    """A stride-2 convolution takes as many places as three blocks: neither number alone leads from one to the other."""
    config = thin("tdkstain", generator_blocks=7, downsamplings=2, nuclei_weight=0.0)
    asked = replace(config, generator_blocks=4, downsamplings=3)
    theirs = {key: shape for key, shape in (shapes_of("tdkstain", asked) or {}).items() if key.startswith("G.")}
    assert theirs
    assert fitting("tdkstain", config, theirs) == asked


def test_a_discriminator_of_other_settings_is_named_too(tmp_path: Path) -> None:
    config = thin("pix2pixhd")
    torch.save(released(stainer_of("pix2pixhd", replace(config, feature_weight=0.0))), tmp_path / "all.pth")
    with pytest.raises(RestainError, match=r"--stainer.feature_weight 0.0") as caught:
        bring("pix2pixhd", config, tmp_path / "all.pth", tmp_path / "run")
    assert "G:" not in str(caught.value)


def test_another_method_is_recognised(tmp_path: Path) -> None:
    """What no settings of a method give may be another method's, as published."""
    with torch.device("meta"):
        state = released(build("tdkstain"))["G"]
    torch.save({key: torch.zeros(value.shape) for key, value in state.items()}, tmp_path / "latest_net_G.pth")
    with pytest.raises(RestainError, match=r"No settings of pix2pix fit\.") as caught:
        bring("pix2pix", thin("pix2pix"), tmp_path / "latest_net_G.pth", tmp_path / "run")
    assert "It fits tdkstain as published: `restain import tdkstain`" in str(caught.value)
    torch.save({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(RestainError, match="of another method, or of changed code") as caught:
        bring("cut", thin("cut"), tmp_path / "other.pth", tmp_path / "run")
    assert "G.encoder.weight: checkpoint [3, 3], network as set none" in str(caught.value)


# Bad input


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (Path("executed"),)


def test_bad_files_are_named_and_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stainer = stainer_of("cut", thin("cut"))
    state = released(stainer)["G"]
    torch.save(state, tmp_path / "good.pth")
    whole = (tmp_path / "good.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"G": Evil()}))
    torch.save({"G": state, "options": Evil()}, tmp_path / "evil2.pth")
    torch.save(stainer.G, tmp_path / "network.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    torch.save(state | {"model.1.bias": torch.full((4,), torch.nan)}, tmp_path / "nan.pth")
    odd = {
        "float8": torch.zeros(4).to(torch.float8_e4m3fn),
        "meta": torch.zeros(4, device="meta"),
        "expanded": torch.zeros(1).expand(1 << 30),
        "quantised": torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
        "complex": torch.zeros(4, dtype=torch.complex64),
        "integers": torch.zeros(4, dtype=torch.int64),
    }
    for name, tensor in odd.items():
        torch.save(state | {"model.1.bias": tensor}, tmp_path / f"{name}.pth")
    told = {"network": "not the whole network", "numbers": "no tensors by name", "nan": "model.1.bias holds numbers"}
    told |= dict.fromkeys(("evil", "evil2"), "never unpickled") | dict.fromkeys(odd, "'model.1.bias' is")
    told |= {"expanded": "does not hold as many", "truncated": "", "empty": ""}
    for name in told:
        with pytest.raises(ItemError, match=rf"{name}\.pth.*{told[name]}") as caught:
            bring("cut", thin("cut"), tmp_path / f"{name}.pth", tmp_path / "run")
        assert caught.value.exit_code == 1
        assert "weights_only" not in str(caught.value), "torch's own advice would be to unpickle it"
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_wrong_use_is_told_with_what_to_do(tmp_path: Path) -> None:
    config = thin("cyclegan")
    networks = released(stainer_of("cyclegan", config))
    torch.save(networks["D_A"], tmp_path / "latest_net_D_A.pth")
    torch.save({"D_A": networks["D_A"], "G_B": networks["G_B"]}, tmp_path / "some.pth")
    (tmp_path / "notes.ckpt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "unnamed").mkdir()
    torch.save(networks["G_A"], tmp_path / "unnamed" / "a.pth")
    (tmp_path / "twice").mkdir()
    torch.save(networks["G_A"], tmp_path / "twice" / "latest_net_G_A.pth")
    save_file(networks["G_A"], tmp_path / "twice" / "latest_net_G_A.safetensors")
    cases = {
        "absent.pth": "no such file or folder",
        "latest_net_D_A.pth": "holds D_A, but not G_A, the network that stains.*latest_net_G_A.pth",
        "some.pth": "holds D_A, G_B, but not G_A",
        "notes.ckpt": r"ends in \.pth, \.pt, \.safetensors",
        "empty": "is empty of checkpoints",
        "unnamed": "holds a.pth; no file of it says which network it holds",
        "twice": "both latest_net_G_A.pth and latest_net_G_A.safetensors hold G_A",
    }
    for name, message in cases.items():
        with pytest.raises(RestainError, match=message) as caught:
            bring("cyclegan", config, tmp_path / name, tmp_path / "run")
        assert caught.value.exit_code == 2
        assert name in str(caught.value)
    with pytest.raises(RestainError, match="chooses among the files of a folder"):
        bring("cyclegan", config, tmp_path / "some.pth", tmp_path / "run", epoch="5")
    with pytest.raises(RestainError, match="no um/px"):
        bring("cyclegan", config, tmp_path / "unnamed" / "a.pth", tmp_path / "run", mpp=-1.0)
    with pytest.raises(RestainError, match=r"levels.*not known"):
        bring("lifangda", STAINERS["lifangda"].info.config(), tmp_path / "some.pth", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_killed_before_the_weights_are_written_it_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    stainer = stainer_of("cut", thin("cut"))
    torch.save(released(stainer), tmp_path / "all.pth")
    with monkeypatch.context() as patch:
        patch.setattr("restain.training.importing.save_state", die)
        with pytest.raises(Killed):
            bring("cut", thin("cut"), tmp_path / "all.pth", tmp_path / "run")
    assert same_state(bring("cut", thin("cut"), tmp_path / "all.pth", tmp_path / "run"), stainer)
    assert load_file(tmp_path / "run" / "checkpoints" / FINAL).keys()
