"""U-GAT-IT and WeCREST: losses by their formulas written out, what they need, released checkpoints."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.core.runs import RunFolder
from restain.data import PairBatch, to_network
from restain.infer.network import load_stainer
from restain.losses.style import style_classes, style_loss
from restain.nn.attention import AttentionDiscriminator
from restain.nn.layer_instance import LayerInstanceNorm
from restain.stainers import ugatit, wecrest
from restain.training.architecture import fitting, mismatches, shapes_of

from ..pairs import write_pairs
from .test_steps import Noted

THIN: dict[str, Any] = {
    "generator_width": 4, "discriminator_width": 4, "generator_blocks": 2, "discriminator_layers": 3, "local_layers": 2,
}  # fmt: skip
TOLD: dict[str, Any] = {"levels": 4, "images": 7, "slides": 3}


def batch(side: int = 32, level: tuple[int, ...] = (1, 3)) -> PairBatch:
    generator = torch.Generator().manual_seed(0)
    he, ihc = (torch.rand(len(level), 3, side, side, generator=generator) * 2 - 1 for _ in range(2))
    names = tuple(map(str, range(len(level))))
    numbers = torch.arange(len(level))
    return PairBatch(he, ihc, torch.tensor(level), names, image=numbers + 4, slide=2 - numbers)


def least_squares(judged: Any, real: float) -> Tensor:
    return ((judged.logits - real) ** 2).mean() + ((judged.cam - real) ** 2).mean()


def both_ways(stainer: ugatit.UGATIT, pairs: PairBatch) -> dict[str, tuple[Tensor, Tensor, Any, Any, Tensor]]:
    """Of each side: real, fake, the generator that makes it, the one that undoes it, and the other side's image."""
    return {
        "A": (pairs.he, stainer.genB2A(pairs.ihc), stainer.genB2A, stainer.genA2B, pairs.ihc),
        "B": (pairs.ihc, stainer.genA2B(pairs.he), stainer.genA2B, stainer.genB2A, pairs.he),
    }


@torch.no_grad()
def test_ugatit_is_least_squares_cycle_identity_and_cam() -> None:
    stainer, pairs, step = ugatit.UGATIT(ugatit.Config(**THIN)).eval(), batch(), Noted()
    losses = stainer.training_step(pairs, step)
    d = g = 0.0
    for side, (real, fake, makes, _, other) in both_ways(stainer, pairs).items():
        undone = stainer.genB2A(stainer.genA2B(real)) if side == "A" else stainer.genA2B(stainer.genB2A(real))
        same, own = makes.judge(real)
        _, foreign = makes.judge(other)
        for reach in "GL":
            judge = getattr(stainer, f"dis{reach}{side}")
            d += least_squares(judge(fake), 0) + least_squares(judge(real), 1)
            g += least_squares(judge(fake), 1)
        cam = F.softplus(-foreign).mean() + F.softplus(own).mean()  # binary cross entropy against 1 and against 0
        g += 10 * (undone - real).abs().mean() + 10 * (same - real).abs().mean() + 1000 * cam
    assert step.minimised == {"D": pytest.approx(float(d), rel=1e-4), "G": pytest.approx(float(g), rel=1e-4)}
    assert list(step.minimised) == ["D", "G"]
    assert len(losses) == 10


@torch.no_grad()
@pytest.mark.parametrize("styles", list(wecrest.Styles))
def test_wecrest_is_equations_15_to_18(styles: wecrest.Styles) -> None:
    config = wecrest.Config(**THIN, **TOLD, styles=styles, level_weight=3.0, adversarial_weight=2.0)
    stainer, pairs, step = wecrest.WeCREST(config).eval(), batch(), Noted()
    losses = stainer.training_step(pairs, step)
    classes = {"image": [5, 6], "level": [2, 4], "slide": [3, 2]}[styles.value]
    fakes, count = [0, 0], {"image": 7, "level": 4, "slide": 3}[styles.value]
    d = g = 0.0
    for side, (real, fake, makes, undoes, other) in both_ways(stainer, pairs).items():
        for reach in "GL":
            judge = getattr(stainer, f"dis{reach}{side}")
            false, true = judge(fake), judge(real)
            assert false.logits.shape[1] == count + 1
            for judged, wanted, is_real in ((false, fakes, 0.0), (true, classes, 1.0)):
                d += 2 * (likelihood(judged.logits, wanted) + ((judged.cam - is_real) ** 2).mean())
            g += 2 * (likelihood(false.logits, classes) + ((false.cam - 1) ** 2).mean())
            if reach == "G":
                d += 3 * F.cross_entropy(true.level, pairs.level)
                g += 3 * F.cross_entropy(false.level, pairs.level)
            assert (true.level is None) == (reach == "L")
        g += 10 * (makes(undoes(real)) - real).abs().mean()
        g += 1000 * (F.softplus(-makes.judge(other)[1]).mean() + F.softplus(makes.judge(real)[1]).mean())
    assert step.minimised == {"D": pytest.approx(float(d), rel=1e-4), "G": pytest.approx(float(g), rel=1e-4)}
    assert not {"idt_A", "idt_B"} & losses.keys()


def likelihood(logits: Tensor, classes: list[int]) -> Tensor:
    """Minus the mean logarithm of the softmax at these classes."""
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -torch.stack([shares[i, c].log().mean() for i, c in enumerate(classes)]).mean()


def test_what_is_unknown_is_masked() -> None:
    logits = torch.randn(3, 5, 4, 4, requires_grad=True)
    assert style_classes(torch.tensor([0, -1, 3])).tolist() == [1, -1, 4]
    known = style_loss(logits, torch.tensor([1, -1, 4]))
    torch.testing.assert_close(known, likelihood(logits[[0, 2]], [1, 4]))
    (gradient,) = torch.autograd.grad(known, logits)
    assert gradient[1].abs().sum() == 0
    assert style_loss(logits, torch.tensor([-1, -1, -1])) == 0
    focal = style_loss([logits, logits], torch.tensor([1, 0, 4]), gamma=2.0)
    p = logits.softmax(1)[[0, 1, 2], [1, 0, 4]]
    torch.testing.assert_close(focal, 2 * (-((1.01 - p) ** 2) * p.log()).mean())


@torch.no_grad()
def test_an_unknown_level_teaches_nothing_but_the_rest_is_learned() -> None:
    stainer = wecrest.WeCREST(wecrest.Config(**THIN, **TOLD)).eval()
    losses = stainer.training_step(batch(level=(-1, 3)), Noted())
    level = stainer.disGA(batch().he).level
    torch.testing.assert_close(losses["D_level_A"], F.cross_entropy(level[1:], torch.tensor([3])))
    none = stainer.training_step(batch(level=(-1, -1)), Noted())
    assert [float(none[name]) for name in ("D_level_A", "D_level_B", "level_A", "level_B")] == [0, 0, 0, 0]
    assert all(value.isfinite() for value in none.values())


@torch.no_grad()
def test_shares_of_norms_stay_in_their_range() -> None:
    stainer = ugatit.UGATIT(ugatit.Config(**THIN))
    shares = [layer.rho for layer in stainer.modules() if isinstance(layer, LayerInstanceNorm)]
    assert len(shares) == 2 * (2 * 2 + 2)
    for number, rho in enumerate(shares):
        rho.fill_(1.2 if number % 2 else -0.1)
    stainer.training_step(batch(), Noted())
    assert [float(rho.unique()) for rho in shares] == [float(number % 2) for number in range(len(shares))]


def test_weight_decay_is_of_both_optimizers() -> None:
    for optimizer in ugatit.UGATIT(ugatit.Config(**THIN)).optimizers().values():
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 1e-4)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 3, 5])
def test_the_smallest_side_is_the_smallest(layers: int) -> None:
    network = AttentionDiscriminator(4, layers).eval()
    side = network.smallest
    assert network(torch.rand(1, 3, side, side)).logits.shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 3, side - 2**layers, side - 2**layers))


@torch.no_grad()
def test_wecrests_own_discriminator_has_scales_and_no_attention() -> None:
    config = wecrest.Config(**THIN, **TOLD, discriminator=wecrest.Discriminator.multi_scale, discriminator_scales=2)
    stainer, pairs = wecrest.WeCREST(config).eval(), batch()
    assert [name for name, _ in stainer.named_children()] == ["genA2B", "genB2A", "disGA", "disGB"]
    judged = stainer.disGB(pairs.ihc)
    assert [scale.shape[1] for scale in judged.logits] == [8, 8]
    assert judged.level.shape == (2, 4)
    losses = stainer.training_step(pairs, Noted())
    expected = sum(likelihood(logits, [5, 6]) for logits in stainer.disGB(stainer.genA2B(pairs.he)).logits)
    torch.testing.assert_close(losses["G_B"], expected)


def test_needs_follow_the_settings() -> None:
    config = wecrest.Config(**THIN, **TOLD)
    assert wecrest.WeCREST(config).needs == {"levels"}
    assert wecrest.WeCREST(replace(config, level_weight=0.0)).needs == frozenset()
    assert wecrest.WeCREST(replace(config, level_weight=0.0, styles=wecrest.Styles.level)).needs == {"levels"}
    assert wecrest.WeCREST(replace(config, level_weight=0.0, levels=None)).disGA.level is None
    with pytest.raises(RestainError, match="number of HER2 levels is not known"):
        wecrest.WeCREST(replace(config, levels=None))
    with pytest.raises(RestainError, match="number of slides is not known"):
        wecrest.WeCREST(replace(config, slides=None, styles=wecrest.Styles.slide))


@pytest.mark.parametrize(
    "setting",
    [{"weight_decay": -1.0}, {"light": False, "image_size": 30}, {"local_layers": 9}, {"cam_weight": -1.0}],
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(RestainError):
        ugatit.Config(**(THIN | setting))


@pytest.mark.parametrize("setting", [{"images": 0}, {"levels": 1}, {"focal_gamma": -1.0}, {"discriminator_scales": 0}])
def test_wecrest_settings_that_cannot_be_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(RestainError):
        wecrest.Config(**(THIN | TOLD | setting))


@torch.no_grad()
def test_the_full_network_takes_its_own_size_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stainer = ugatit.UGATIT(ugatit.Config(**THIN, light=False, image_size=32)).eval()
    assert stainer.stain(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert (stainer.multiple, stainer.least) == (32, 32)
    with pytest.raises(RestainError, match="takes images of 32 px a side, not 64 x 32"):
        stainer.stain(torch.rand(1, 3, 32, 64))


def words(data: Path, out: Path, *more: str) -> list[str]:
    thin = [word for name, value in THIN.items() for word in (f"--stainer.{name}", str(value))]
    return [
        "train", "wecrest", "--data", str(data), "--out", str(out), *thin, "--batches.batch_size", "2",
        "--batches.augmentation.crop", "null", "--batches.workers", "0", "--training.epochs", "1",
        "--training.epochs_decay", "0", "--training.log_every", "1", *more,
    ]  # fmt: skip


def test_the_dataset_says_how_many_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Levels, images and slides; a level without example and pairs without level are named, and train."""
    data = write_pairs(tmp_path / "pairs")
    rows = ["name,slide,level"]
    for split, levels in (("train", ["", "0", "0", "3+", "3+", "3+"]), ("val", ["2+", "2+"])):
        for number, level in enumerate(levels):
            rows.append(f"{split}{number},{split}{number % 3},{level}")
            for side in ("HE", "IHC"):
                (file,) = (data / side / split).glob(f"{number:05d}_*")
                file.rename(file.with_stem(f"{split}{number}"))
    (data / "pairs.csv").write_text("\n".join(rows) + "\n")

    assert main(words(data, tmp_path / "run", "--batches.sampling", "balanced")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "split train has no example of level 2+" in said
    assert "1 of 6 pairs of split train have no level" in said
    run = RunFolder(tmp_path / "run")
    assert {name: run.config["stainer"][name] for name in TOLD} == {"levels": 3, "images": 6, "slides": 3}
    assert run.config["batches"]["sampling"] == "balanced"
    assert np.isfinite([float(value) for row in read_csv(run.metrics) for value in row.values()]).all()

    assert main(words(data, tmp_path / "wrong", "--stainer.images", "5")) == 2
    assert "has 6 images in split train, --stainer.images says 5" in " ".join(capsys.readouterr().err.split())


# Released checkpoints


def recorded(shared: Path, case: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    spec = importlib.util.spec_from_file_location("conformance_run", shared / "conformance" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_case(shared / "conformance" / "cases" / case)  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", ["generator_light", "generator_full", "losses_light"])
def test_a_params_file_stains_as_recorded(case: str, shared: Path, tmp_path: Path) -> None:
    """One file of all networks under their names, spectral norms and raw weights of the attention in it."""
    described, inputs, expected = recorded(shared, f"ugatit/{case}")
    networks: dict[str, dict[str, Tensor]] = {}
    for key, value in inputs.items():
        if key.startswith("weights."):
            _, name, rest = key.split(".", 2)
            networks.setdefault("genA2B" if name == "generator" else name, {})[rest] = torch.from_numpy(value)
    torch.save(networks, tmp_path / "he2ihc_params_0100000.pt")
    o = described["options"]
    width = o.get("ngf", o.get("ch"))
    settings = {
        "generator_width": width, "discriminator_width": width, "generator_blocks": o.get("n_blocks", o.get("n_res")),
        "light": str(o["light"]).lower(), "image_size": o["img_size"],
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in (f"--stainer.{name}", str(value))]
    run = tmp_path / "run"
    file = str(tmp_path / "he2ihc_params_0100000.pt")
    assert main(["import", "ugatit", file, "--out", str(run), *options]) == 0
    assert set(RunFolder(run).info["networks"]) == set(networks)
    stainer = load_stainer(RunFolder(run))
    with torch.no_grad():
        if case == "losses_light":
            he, ihc = (to_network([inputs[name]]) for name in ("real_A", "real_B"))
            judged = stainer.disGB(stainer.stain(he))
            found = {
                "G_ad_loss_GB": ((judged.logits - 1) ** 2).mean(),
                "G_ad_cam_loss_GB": ((judged.cam - 1) ** 2).mean(),
            }
            found["G_recon_loss_A"] = (stainer.genB2A(stainer.stain(he)) - he).abs().mean()
            found["G_identity_loss_B"] = (stainer.stain(ihc) - ihc).abs().mean()
        else:
            found = {"output": stainer.stain(to_network([inputs["image"]]))}
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [{"generator_width": 24, "generator_blocks": 6}, {"light": False, "image_size": 128}],
    ids=["light", "full"],
)
def test_the_search_finds_width_blocks_and_light(settings: dict[str, Any]) -> None:
    released = ugatit.Config(**settings)
    theirs = {key: shape for key, shape in shapes_of("ugatit", released).items() if key.startswith("genA2B.")}
    # Thin discriminators, which the checkpoint does not hold, are built faster.
    found = fitting("ugatit", ugatit.Config(discriminator_layers=1, local_layers=1), theirs)
    assert {name: getattr(found, name) for name in settings} == settings
    ours = {key: shape for key, shape in shapes_of("ugatit", found).items() if key.startswith("genA2B.")}
    assert not mismatches(theirs, ours)
