"""Authors' slide models as runs: what is loaded, what predicts as recorded, what is refused and how."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.core.runs import RunFolder
from restain.her2.base import MODELS, SlideModel
from restain.her2.features_file import read_features
from restain.her2.importing import Origin, import_model
from restain.her2.labels import ClassSet
from restain.her2.models.pama_pretraining import Config, MaskedAutoencoder
from restain.her2.recipes import load_recipe
from restain.her2.slide_set import join
from restain.her2.train_run import load_fitted
from restain.nn.weights import read_state_dict
from restain.stainers.base import STAINERS, build

from .checkpoints import Evil, autoencoder, bare, chances, hiding, holding_itself, lightning, parallel, released
from .cohort import write, write_cohort
from .slide_models import CLASSES, DIM, SMALL, small_config, small_model

RELEASED = ("clam_sb", "clam_mb", "transmil", "pama", "ipca", "ipca_without_proxy", "heat", "slidegraph")
"""Models whose names follow a released code."""
published = cache(load_recipe)
UNSAID = Origin(encoder="plip", mpp=0.5, tile_px=256)


def bring(name: str, checkpoint: Path, out: Path, **given: Any) -> RunFolder:
    """Import with the small settings."""
    kind = MODELS[name].info.config
    recipe = replace(published(name), model=small_config(kind, **given.pop("settings", {})))
    return import_model(recipe, checkpoint, out, given.pop("origin", UNSAID), **given)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Features of a slide of 30 tiles."""
    path = tmp_path / "slide.h5"
    write(path, np.random.default_rng(3).normal(size=(30, DIM)).astype(np.float32), "plip", "")
    return path


def same_answer(run: RunFolder, model: SlideModel, features: Path) -> bool:
    fitted, _ = load_fitted(run.path)
    found = read_features(features)
    values = fitted.probabilities([join([found], found.slide)])[0]
    return bool(np.abs(values - chances(model, features)).max() < 1e-6)


# What is loaded


@pytest.mark.parametrize("name", RELEASED)
def test_a_model_comes_back_in_every_envelope_and_predicts_the_same(name: str, example: Path, tmp_path: Path) -> None:
    model = small_model(name)
    for form in (bare, parallel, lightning, autoencoder):
        torch.save(form(released(model)), tmp_path / f"{form.__name__}.pt")
        run = bring(name, tmp_path / f"{form.__name__}.pt", tmp_path / form.__name__)
        assert same_answer(run, model, example), form


@pytest.mark.parametrize("form", [hiding, holding_itself])
def test_odd_envelopes_spoil_nothing(form: Any, example: Path, tmp_path: Path) -> None:
    model = small_model("clam_sb")
    torch.save(form(released(model)), tmp_path / "odd.pt")
    assert same_answer(bring("clam_sb", tmp_path / "odd.pt", tmp_path / "run"), model, example)


def test_safetensors_and_halves_are_read_too(example: Path, tmp_path: Path) -> None:
    model = small_model("clam_sb")
    halves = {key: value.half() for key, value in released(model).items()}
    model.load_state_dict({ours: halves[theirs] for ours, theirs in model.reference_keys().items()})
    save_file(halves, tmp_path / "plain.safetensors")
    assert same_answer(bring("clam_sb", tmp_path / "plain.safetensors", tmp_path / "run"), model, example)


def test_the_run_says_what_it_was_made_of_and_is_calibrated_by_nothing(tmp_path: Path) -> None:
    torch.save(released(small_model("clam_sb")), tmp_path / "s_0_checkpoint.pt")
    run = bring("clam_sb", tmp_path / "s_0_checkpoint.pt", tmp_path / "run")
    info = run.info
    assert (info["task"], info["method"], info["recipe"], info["status"]) == ("her2", "clam_sb", "clam_sb", "done")
    assert info["classes"] == ["0", "1+", "2+", "3+"]
    assert (info["mpp"], info["data"], list(info["imported"])) == (0.5, None, ["s_0_checkpoint.pt"])
    kind = {
        "encoder": "plip",
        "version": "",
        "width": DIM,
        "mpp": 0.5,
        "tile_px": 256,
        "names": None,
    }
    assert info["features"] == kind
    fitted, _ = load_fitted(run.path)
    assert (fitted.standard, fitted.temperature) == (None, 1.0)
    assert load_recipe(str(run.path / "config.yaml")).model == small_config(MODELS["clam_sb"].info.config)


@pytest.mark.parametrize("gated", [True, False])
def test_clam_of_older_versions(gated: bool, example: Path, tmp_path: Path) -> None:
    """Without dropout its layers count one less; DataParallel around the attention alone; buffers of a loss."""
    model = small_model("clam_mb", gated=gated)
    state = released(model)
    older = {key.replace("attention_net.3.", "attention_net.2."): value for key, value in state.items()}
    older = {key.replace(".module.3.", ".module.2."): value for key, value in older.items()}
    older["instance_loss_fn.labels"] = torch.arange(2)
    assert any(key.startswith("attention_net.2.") for key in older)
    torch.save(older, tmp_path / "older.pt")
    wrapped = {key.replace("attention_net.", "attention_net.module."): value for key, value in state.items()}
    torch.save(wrapped, tmp_path / "wrapped.pt")
    for name in ("older", "wrapped"):
        run = bring("clam_mb", tmp_path / f"{name}.pt", tmp_path / name, settings={"gated": gated})
        assert same_answer(run, model, example), name


def test_what_predicting_does_not_need_may_be_missing(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ihc = r"cls_token_i|.*patch_embed_i\.|norm_i\.|head_i\.|.*(qkv_i2|proj_i|proj_i2|norm2_i|mlp_i)\."
    for name, left_out in (("clam_sb", r"instance_classifiers\."), ("ipca", ihc)):
        model = small_model(name)
        state = {key: value for key, value in released(model).items() if not re.match(left_out, key)}
        assert len(state) < len(model.state_dict())
        torch.save(state, tmp_path / f"{name}.pt")
        assert same_answer(bring(name, tmp_path / f"{name}.pt", tmp_path / name), model, example)
        assert "not needed to predict" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["clam_mb", "transmil", "pama", "ipca"])
def test_a_network_that_is_not_whole_is_refused(name: str, tmp_path: Path) -> None:
    model = small_model(name)
    needed = {"clam_mb": "attention_net.3.attention_c.bias", "transmil": "pos_layer.proj1.weight"}
    for key in (needed.get(name, "blocks.1.attn.polar_emb.weight"), next(iter(released(model)))):
        state = released(model)
        del state[key]
        torch.save(state, tmp_path / "part.pt")
        with pytest.raises(RestainError, match=rf"(?s){re.escape(key)}: checkpoint none.*not whole"):
            bring(name, tmp_path / "part.pt", tmp_path / "run")
    assert not (tmp_path / "run").exists()


# What is not as it is set


@pytest.mark.parametrize("name", ["clam_sb", "clam_mb", "transmil", "pama", "ipca", "heat", "nystromformer"])
def test_another_architecture_is_told_with_the_settings_that_fit(name: str, example: Path, tmp_path: Path) -> None:
    odd: dict[str, Any] = {"width": 24, "attention_width": 10, "gated": False, "heads": 6, "depth": 3, "prompts": 9}
    odd |= {"conv_kernel": 7, "mlp_times": 2.5}
    if name == "heat":
        odd["heads"] = 4  # as published: its shapes do not say them
    model = small_model(name, **odd)
    torch.save(lightning(released(model)), tmp_path / "odd.ckpt")
    with pytest.raises(RestainError, match="does not fit") as caught:
        import_model(load_recipe(name), tmp_path / "odd.ckpt", tmp_path / "run", UNSAID)
    assert "tensors differ" in str(caught.value)
    found = re.search(r"These settings fit; add:\n  --set (.*)", str(caught.value))
    assert found, caught.value
    options = found[1].split()
    default = MODELS[name].info.config()
    other = {key for key, value in odd.items() if getattr(default, key, value) != value}
    assert {one.split("=")[0] for one in options} == other
    traceless = [f"{key}={SMALL[key]}" for key in ("landmarks", "max_anchors") if hasattr(default, key)]
    words = ["import", name, str(tmp_path / "odd.ckpt"), "--out", str(tmp_path / "run"), "--features", str(example)]
    assert main([*words, "--set", *options, *traceless]) == 0
    assert same_answer(RunFolder(tmp_path / "run"), model, example)


def test_classes_are_named_or_refused(tmp_path: Path) -> None:
    for name in ("clam_mb", "transmil"):
        torch.save(released(small_model(name, classes=3)), tmp_path / "three.pt")
        with pytest.raises(RestainError, match="has 3 outputs, and does not say of which classes"):
            bring(name, tmp_path / "three.pt", tmp_path / "run")
        with pytest.raises(RestainError, match=r"has 3 outputs, but --classes names 2 classes \(low, high\)"):
            bring(name, tmp_path / "three.pt", tmp_path / "run", classes=ClassSet.parse("low,high"))
        run = bring(name, tmp_path / "three.pt", tmp_path / name, classes=ClassSet.parse("low=0|1+,2+,3+"))
        assert run.info["classes"] == ["low", "2+", "3+"]
        assert load_fitted(run.path)[0].model.classes == 3
    assert not (tmp_path / "run").exists()


def test_what_the_features_were_is_given_or_refused(example: Path, tmp_path: Path) -> None:
    torch.save(released(small_model("clam_sb")), tmp_path / "a.pt")

    def found(**origin: Any) -> dict[str, Any]:
        name = "run" + re.sub(r"\W", "", str(origin))[-60:]
        features: dict[str, Any] = bring("clam_sb", tmp_path / "a.pt", tmp_path / name, origin=Origin(**origin)).info[
            "features"
        ]
        return features

    with pytest.raises(RestainError, match=r"(?s)--encoder.*--mpp.*--tile-px.*--features"):
        found()
    with pytest.raises(RestainError, match="um/px at which tiles were cut") as caught:
        found(encoder="plip", tile_px=256)
    assert "which encoder" not in str(caught.value)
    assert found(example=example) == found(encoder="plip", mpp=0.5, tile_px=256)
    write(tmp_path / "wide.h5", np.zeros((4, 20), np.float32))
    with pytest.raises(RestainError, match=r"wide\.h5: 20 features a tile, but the network reads 12"):
        found(example=tmp_path / "wide.h5")
    with pytest.raises(RestainError, match="--encoder morphometry: 217 features a tile, but the network reads 12"):
        found(encoder="morphometry", mpp=0.5, tile_px=256)
    with h5py.File(tmp_path / "clam.h5", "w") as file:  # as CLAM writes them: nothing but the numbers
        file["features"], file["coords"] = np.zeros((4, 12), np.float32), np.zeros((4, 2), np.int64)
    with pytest.raises(RestainError, match=r"clam\.h5: does not say the um/px"):
        found(example=tmp_path / "clam.h5")
    with pytest.raises(RestainError, match=r"(?s)clam\.h5 does not say.*--encoder unknown.*--tile-px"):
        found(example=tmp_path / "clam.h5", mpp=0.5)
    said = found(example=tmp_path / "clam.h5", mpp=0.5, tile_px=224, encoder="unknown")
    assert (said["encoder"], said["mpp"], said["tile_px"], said["width"]) == ("unknown", 0.5, 224, 12)


def test_a_checkpoint_of_another_method_is_told_apart(tmp_path: Path) -> None:
    def said(method: str, state: Any) -> str:
        torch.save(state, tmp_path / "other.pt")
        with pytest.raises(RestainError) as caught:
            import_model(load_recipe(method), tmp_path / "other.pt", tmp_path / "run", UNSAID)
        return str(caught.value)

    text = said("clam_sb", released(small_model("clam_mb")))
    assert "It fits clam_mb: `restain import clam_mb`" in text
    assert "It fits ipca:" in said("pama", released(small_model("ipca")))
    config = STAINERS["cut"].info.config(generator_width=4, discriminator_width=4, embedding_width=4)
    stainer = build("cut", config).G.state_dict()
    assert "Is it a checkpoint of another method" in said("clam_sb", stainer)
    with torch.device("meta"):
        stainer = {key: torch.zeros(value.shape) for key, value in build("cut").G.state_dict().items()}
    shared = {key: torch.zeros(value.shape, device="cpu") for key, value in stainer.items()}
    assert "It fits cut" in said("pama", shared)
    torch.save(
        {"student": released(small_model("clam_sb")), "teacher": released(small_model("clam_sb"))}, tmp_path / "t.pt"
    )
    with pytest.raises(RestainError, match=r"several such networks: student\., teacher\."):
        bring("clam_sb", tmp_path / "t.pt", tmp_path / "run")


def test_weights_of_a_run_are_not_torn_from_their_standard(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "cohort", patients=12, width=DIM)
    words = ["her2", "train", "clam_sb", "--cohort", str(cohort), "--features", str(cohort.parent / "he")]
    words += ["--training.epochs", "1", "--training.min_epochs", "0", "--val", "0.34", "--out", str(tmp_path / "own")]
    assert main(words) == 0
    with pytest.raises(RestainError, match=r"best\.safetensors: is of a run of restain"):
        import_model(load_recipe("clam_sb"), tmp_path / "own/checkpoints/best.safetensors", tmp_path / "run", UNSAID)


def test_types_of_tiles_that_predicting_does_not_know_are_refused(tmp_path: Path) -> None:
    model = small_model("heat", node_types=3)
    state = released(model) | {"gcs.0.weight.weight": torch.zeros(16, 16), "gcs.0.weight.bias": torch.zeros(16)}
    torch.save(state, tmp_path / "types.pt")
    with pytest.raises(RestainError, match="node_types=3"):
        bring("heat", tmp_path / "types.pt", tmp_path / "run")
    with pytest.raises(RestainError, match="classifier of nuclei"):
        bring("heat", tmp_path / "types.pt", tmp_path / "run", settings={"node_types": 3})


def test_damaged_files_and_pickled_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = small_model("clam_sb")
    state = released(model)
    torch.save(model, tmp_path / "whole.pt")
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "nested.pt")
    torch.save({"state_dict": {"a": Evil()}}, tmp_path / "evil.pt")
    torch.save(state | {"classifiers.bias": torch.full((CLASSES,), torch.nan)}, tmp_path / "nan.pt")
    torch.save(state | {"classifiers.bias": torch.zeros(1).expand(1 << 30)}, tmp_path / "stretched.pt")
    torch.save(state | {"classifiers.bias": torch.zeros(CLASSES, dtype=torch.complex64)}, tmp_path / "complex.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "nan.pt").read_bytes()[:900])
    (tmp_path / "empty.pt").write_bytes(b"")
    told = {"whole": "not the whole model", "nested": "no tensors", "evil": "never unpickled", "nan": "not finite"}
    told |= {"stretched": "does not hold as many", "cut": "", "empty": ""}
    for name, words in told.items():
        with pytest.raises(ItemError, match=rf"(?s){name}\.pt.*{words}"):
            bring("clam_sb", tmp_path / f"{name}.pt", tmp_path / "run")
    with pytest.raises(RestainError, match=r"classifiers\.bias: checkpoint none"):
        bring("clam_sb", tmp_path / "complex.pt", tmp_path / "run")
    with pytest.raises(RestainError, match=r"none\.pt: no such file"):
        bring("clam_sb", tmp_path / "none.pt", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    torch.save({"model": state, "args": Evil()}, tmp_path / "beside.pt")
    assert bring("clam_sb", tmp_path / "beside.pt", tmp_path / "run").info["status"] == "done"
    assert not (tmp_path / "executed").exists()


# A pretrained encoder


def test_the_authors_pretraining_checkpoint_is_taken_by_init(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    network = MaskedAutoencoder(small_config(Config), DIM)
    state = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    torch.save(autoencoder(state), tmp_path / "checkpoint-99.pth")
    with pytest.raises(RestainError, match=r"(?s)no classifier.*restain her2 train pama --init"):
        bring("pama", tmp_path / "checkpoint-99.pth", tmp_path / "run")
    for name in ("pama", "ipca"):
        model = small_model(name)
        model.load_pretrained(read_state_dict(tmp_path / "checkpoint-99.pth"))
        own = model.state_dict()
        for key, value in network.encoder_state().items():
            assert torch.equal(own[key], value), key
    cohort = write_cohort(tmp_path / "cohort", patients=12, width=DIM)
    words = ["her2", "train", "pama", "--cohort", str(cohort), "--features", str(cohort.parent / "he"), "--model.width"]
    words += ["16", "--model.depth", "2", "--model.heads", "4", "--training.epochs", "1", "--val", "0.34"]
    assert main([*words, "--init", str(tmp_path / "checkpoint-99.pth"), "--out", str(tmp_path / "trained")]) == 0
