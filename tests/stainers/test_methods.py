"""What single methods promise beyond the contract that all keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.core.runs import RunFolder
from restain.losses.gan import GANLoss
from restain.nn.backbones import VggFeatures
from restain.slides import read_image, write_image
from restain.stainers import asp, cyclegan, fastcut, lifangda, pix2pixhd, tdkstain
from restain.stainers.base import STAINERS, build

from ..pairs import write_pairs

THIN = {"generator_width": 4, "discriminator_width": 4, "generator_blocks": 2}


def train(method: str, data: Path, out: Path, *more: str, code: int = 0) -> RunFolder:
    """Train thin networks for two epochs of three steps by the command."""
    thin = [word for name, value in THIN.items() for word in (f"--stainer.{name}", str(value))]
    words = [
        "train", method, "--data", str(data), "--out", str(out), *thin, "--batches.batch_size", "2",
        "--batches.augmentation.crop", "null", "--batches.workers", "0", "--training.epochs", "1",
        "--training.epochs_decay", "1", "--training.log_every", "1", "--mpp", "0.5", *more,
    ]  # fmt: skip
    assert main(words) == code
    return RunFolder(out)


def test_a_pool_gives_back_new_or_older_fakes_and_never_forgets_its_size() -> None:
    torch.manual_seed(0)
    pool = cyclegan.ImagePool(3)
    fakes = torch.arange(40.0).view(40, 1, 1, 1).expand(40, 3, 2, 2)
    shown = [int(pool(fake[None])[0, 0, 0, 0]) for fake in fakes]
    assert shown[:3] == [0, 1, 2]
    older = [a for a, b in zip(shown, range(40), strict=True) if a < b]
    assert 10 <= len(older) <= 27, "about every second one"
    assert len(set(older)) == len(older), "an older fake is shown once and then replaced"
    assert len(pool.images) == 3
    assert int(cyclegan.ImagePool(0)(fakes[:1])[0, 0, 0, 0]) == 0


def test_pools_are_kept_in_checkpoints() -> None:
    stainer = cyclegan.CycleGAN(cyclegan.Config(**THIN, pool=2))
    stainer.pools["ihc"](torch.rand(2, 3, 8, 8))
    other = cyclegan.CycleGAN(cyclegan.Config(**THIN, pool=2))
    other.load_extra_state(stainer.extra_state())
    assert torch.equal(torch.stack(other.pools["ihc"].images), torch.stack(stainer.pools["ihc"].images))
    assert other.pools["he"].images == []


def test_the_vgg_term_is_there_with_weights_and_said_to_be_left_out_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("restain.nn.backbones._VGG19", (2, 2, 0, 2, 2, 0, 2, 2, 2, 2, 0, 2, 2, 2, 2, 0, 2, 2, 2, 2))
    data = write_pairs(tmp_path / "pairs")
    run = train("pix2pixhd", data, tmp_path / "without")
    assert "trains without its VGG term" in " ".join(capsys.readouterr().err.split())
    assert "VGG" not in read_csv(run.metrics)[0]
    torch.save(
        VggFeatures((2, 2, 0, 2, 2, 0, 2, 2, 2, 2, 0, 2, 2, 2, 2, 0, 2, 2, 2, 2), (29,)).state_dict(),
        tmp_path / "v.pth",
    )
    run = train("pix2pixhd", data, tmp_path / "with", "--stainer.vgg_file", str(tmp_path / "v.pth"))
    assert float(read_csv(run.metrics)[0]["VGG"]) > 0
    stainer = pix2pixhd.Pix2PixHD(pix2pixhd.Config(**THIN))
    with pytest.raises(RestainError, match="begun with the VGG term"):
        stainer.load_extra_state({"vgg": torch.tensor(True)})


def test_pix2pixhd_with_enhancers_trains_and_stains(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", side=64)
    more = ["--stainer.enhancers", "1", "--stainer.downsamplings", "2", "--stainer.discriminator_scales", "1"]
    run = train("pix2pixhd", data, tmp_path / "run", *more)
    assert main(["stain", str(run.path), str(data / "HE" / "val"), "--out", str(tmp_path / "fake")]) == 0
    assert len(list((tmp_path / "fake").glob("*.png"))) == 2


def test_tdkstain_needs_the_maps_of_its_branches_only() -> None:
    maps = {"dab", "dab_mask", "nuclei_map"}
    config = tdkstain.Config(**THIN, estimator_width=4)
    assert tdkstain.TDKStain(config).needs == maps
    without = {
        "nuclei_weight": {"dab", "dab_mask"},
        "membrane_weight": {"nuclei_map"},
    }
    for name, needs in without.items():
        assert tdkstain.TDKStain(replace(config, **{name: 0.0})).needs == needs
    bare = tdkstain.TDKStain(replace(config, nuclei_weight=0.0, membrane_weight=0.0))
    assert bare.needs == frozenset()
    assert set(bare.optimizers()) == {"G", "D"}


def test_tdkstain_without_maps_says_which_command_makes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs", side=128)
    train("tdkstain", data, tmp_path / "run", code=2)
    assert f"restain dataset knowledge {data}" in " ".join(capsys.readouterr().err.split())
    run = train("tdkstain", data, tmp_path / "bare", "--config", "tdkstain_without_both", *_thin_again())
    assert set(read_csv(run.metrics)[0]) == {"epoch", "step", "lr", "D", "G_GAN", "L1"}
    assert "knowledge" not in run.info


def _thin_again() -> list[str]:
    """The thin settings once more, after a recipe."""
    return [word for name, value in THIN.items() for word in (f"--stainer.{name}", str(value))] + [
        "--training.epochs", "1", "--training.epochs_decay", "1", "--batches.workers", "0", "--training.log_every", "1",
    ]  # fmt: skip


def test_the_estimator_may_be_warmed_up_alone(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", side=128)
    assert main(["dataset", "knowledge", str(data), "--mpp", "0.5"]) == 0
    run = train(
        "tdkstain", data, tmp_path / "run", "--stainer.estimator_warmup_epochs", "1", "--stainer.estimator_width", "4"
    )
    rows = read_csv(run.metrics)
    assert [row["G_GAN"] == "" for row in rows] == [True] * 3 + [False] * 3
    assert all(float(row["E"]) > 0 for row in rows)
    assert len(run.info["knowledge"]) > 8


def test_levels_come_from_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    run = train("lifangda", data, tmp_path / "run")
    assert run.config["stainer"]["levels"] == 4
    assert float(read_csv(run.metrics)[0]["D_level"]) == pytest.approx(2 * np.log(4), rel=0.2)
    train("lifangda", data, tmp_path / "other", "--stainer.levels", "3", code=2)
    assert "has 4 levels (0, 1+, 2+, 3+), --stainer.levels says 3" in " ".join(capsys.readouterr().err.split())
    for side in ("HE", "IHC"):
        for number, file in enumerate(sorted((data / side / "train").iterdir())):
            file.rename(file.with_name(f"{number}.png"))
        for number, file in enumerate(sorted((data / side / "val").iterdir())):
            file.rename(file.with_name(f"v{number}.png"))
    train("lifangda", data, tmp_path / "without", code=2)
    assert "give levels in the dataset's pairs.csv" in " ".join(capsys.readouterr().err.split())
    train("lifangda", data, tmp_path / "off", "--stainer.level_weight", "0")


def test_unpaired_images_train_unpaired_methods_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    for split in ("train", "val"):
        for file in (data / "IHC" / split).iterdir():
            file.rename(file.with_name(f"other_{file.name}"))
    train("asp", data, tmp_path / "asp", "--stainer.discriminator_layers", "2", code=2)
    assert "only methods for unpaired images use" in " ".join(capsys.readouterr().err.split())
    run = train("cut", data, tmp_path / "cut")
    assert (run.samples / "epoch_0002.jpg").exists()
    cached = train("cut", data, tmp_path / "cached", "--batches.cache_gib", "0.1")
    assert (run.metrics).read_text() == cached.metrics.read_text(), "a cache changes no sample"


def test_sample_pictures_may_have_other_sizes(tmp_path: Path) -> None:
    """Validation images that are smaller than the networks take and no multiple of their strides."""
    data = write_pairs(tmp_path / "pairs")
    for side in ("HE", "IHC"):
        for file in (data / side / "val").iterdir():
            write_image(file, read_image(file)[:18, :30])
    run = train("pix2pixhd", data, tmp_path / "run", "--stainer.discriminator_scales", "1")
    assert (run.samples / "epoch_0002.jpg").exists()


def test_images_of_a_size_that_does_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs")
    for side in ("HE", "IHC"):
        file = sorted((data / side / "train").iterdir())[3]
        write_image(file, read_image(file)[:50, :50])
    more = ["--batches.batch_size", "1", "--stainer.discriminator_scales", "1"]
    train("pix2pixhd", data, tmp_path / "run", *more, code=1)
    assert "00003_train_3+ has 50 x 50 px, which does not fit the method" in " ".join(capsys.readouterr().err.split())


def test_images_smaller_than_the_networks_are_refused_with_the_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs", side=64)
    train("asp", data, tmp_path / "run", code=2)
    assert "at least 128 px" in " ".join(capsys.readouterr().err.split())


def test_features_of_mirrored_batches_are_mirrored_back() -> None:
    stainer = fastcut.FastCut(fastcut.Config(**THIN))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(stainer.features(x.flip(3), flipped=True)[0], stainer.features(x)[0])
    assert stainer.config.flip_equivariance
    assert not stainer.config.identity


def test_asp_weights_begin_to_count_when_the_rate_decays() -> None:
    stainer = asp.Asp(asp.Config(**THIN))
    query = torch.nn.functional.normalize(torch.randn(20, 8))
    key = torch.nn.functional.normalize(torch.randn(20, 8))
    assert stainer.agreement(query, key, 0.5, 0.75).tolist() == [1.0] * 20
    assert stainer.agreement(query, key, 0.9, 0.75).std() > 0.1


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("cut", {"nce_layers": (4, 0)}),
        ("cut", {"nce_layers": (0, 99)}),
        ("cut", {"patches": 0}),
        ("pix2pixhd", {"enhancers": -1}),
        ("pix2pixhd", {"feature_weight": -1.0}),
        ("cyclegan", {"pool": -1}),
        ("lifangda", {"levels": 1}),
        ("lifangda", {"scales": 4, "levels": 4}),
        ("lifangda", {"levels": None}),
        ("tdkstain", {"l1_weight": float("nan")}),
        ("tdkstain", {"estimator_warmup_epochs": 1, "nuclei_weight": 0.0}),
        ("asp", {"generator_width": 0}),
        ("cut", {"generator_width": 10**9}),
        ("cut", {"generator_blocks": 99_999_999}),
        ("tdkstain", {"downsamplings": 40}),
        ("tdkstain", {"estimator_weight": 0.0}),
        ("asp", {"gan": GANLoss.wgangp}),
    ],
)
def test_settings_that_cannot_be_are_refused(method: str, setting: dict[str, object]) -> None:
    with pytest.raises(RestainError):
        build(method, STAINERS[method].info.config(**setting))


def test_the_level_is_judged_beside_the_patches() -> None:
    stainer = lifangda.Lifangda(lifangda.Config(**THIN, levels=4)).eval()
    x = torch.rand(2, 3, 64, 64)
    logits, level = stainer.D.judge(x)
    assert level.shape == (2, 4)
    torch.testing.assert_close(logits, stainer.D(x))
