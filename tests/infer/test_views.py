"""Test-time views, patches of resized trainings, and the record of a staining."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.core.runs import RunFolder
from restain.infer.apply import StainOptions, stain
from restain.infer.inputs import Input
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_image, stain_patch
from restain.infer.record import Origin, recorded_origins, write_record
from restain.infer.views import VIEWS, average_of_views
from restain.slides import open_slide, read_image, write_image
from restain.training.loop import weights_file

from .conftest import he_picture, write_run, write_slide


def test_views_are_seven_symmetries_of_the_square_and_come_back() -> None:
    image = np.random.default_rng(0).random((5, 5, 2))
    expected = [np.rot90(image, turns) for turns in range(4)]
    expected += [np.fliplr(image), np.flipud(image), image.transpose(1, 0, 2)]
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    for (there, back), view in zip(VIEWS, expected, strict=True):
        assert torch.equal(there(tensor)[0].permute(1, 2, 0), torch.from_numpy(view.copy()))
        assert torch.equal(back(there(tensor)), tensor)
    oblong = torch.rand(1, 3, 4, 9)
    assert all(torch.equal(back(there(oblong)), oblong) for there, back in VIEWS)


def test_the_average_is_over_the_views() -> None:
    """Of a generator that shifts by one pixel to the right, around the border: each view shifts another way."""

    def shift(x: Tensor) -> Tensor:
        return x.roll(1, 3)

    image = torch.rand(1, 3, 6, 6)
    ways = [(1, 3), (1, 2), (-1, 3), (-1, 2), (-1, 3), (1, 3), (1, 2)]
    expected = sum(image.roll(by, axis) for by, axis in ways) / 7
    assert torch.allclose(average_of_views(shift, image), expected, atol=1e-6)


def test_averaged_before_rounding(run: RunFolder) -> None:
    image = he_picture(96, 80)
    stainer = load_stainer(run)
    single, averaged = Network(stainer), Network(stainer, tta=True)
    assert (single.views, averaged.views) == (1, 7)
    turned = [np.rot90(single(np.ascontiguousarray(np.rot90(image, turns))), -turns) for turns in range(4)]
    mirrored = [single(image[:, ::-1].copy())[:, ::-1], single(image[::-1].copy())[::-1]]
    transposed = single(image.transpose(1, 0, 2).copy()).transpose(1, 0, 2)
    expected = np.mean([*turned, *mirrored, transposed], 0)
    assert np.abs(averaged(image) - expected).max() < 0.01
    assert np.abs(averaged(image) - single(image)).max() > 1
    assert np.array_equal(stain_image(averaged, image), np.rint(averaged(image)).astype(np.uint8))


def test_windows_of_views_are_exact(run: RunFolder) -> None:
    network = Network(load_stainer(run), tta=True)
    image = he_picture(403, 322)  # no multiple of the strides
    whole, tiled = (stain_image(network, image, core=core).astype(int) for core in (512, 128))
    margin = network.stainer.margin
    assert margin is not None
    inside = slice(margin, 322 - margin), slice(margin, 403 - margin)
    assert np.abs(whole - tiled)[inside].max() <= 1  # rounding


def test_a_patch_is_resized_as_in_training_and_back(run: RunFolder) -> None:
    network = Network(load_stainer(run))
    image = he_picture(320, 256)
    small = cv2.resize(image, (80, 64), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(stain_image(network, small), (320, 256), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(stain_patch(network, image, 0.25), expected)
    assert np.array_equal(stain_patch(network, image, 1.0), stain_image(network, image))
    assert stain_patch(network, image[:3, :2], 0.25).shape == (3, 2, 3)
    assert stain_patch(network, image[:40, :30], 2.0).shape == (40, 30, 3)


@pytest.fixture
def resized_run(tmp_path: Path) -> RunFolder:
    """A run whose training shrank its images of 0.5 um/px to a quarter."""
    run = write_run(tmp_path / "resized", mpp=2.0)
    run.set_status(scale=0.25)
    return run


def test_scale_is_honoured_on_patches_and_slides(
    resized_run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = he_picture(512, 400)
    write_image(tmp_path / "patch.png", picture)
    slide = write_slide(tmp_path / "slide.ome.tif", picture, 0.5)
    out = tmp_path / "out"
    options = StainOptions(tissue_only=False, quality=100)
    outcome = stain(resized_run, [Input(tmp_path / "patch.png"), Input(slide)], out, options)
    assert "patches of 0.5 um/px" in capsys.readouterr().err
    assert outcome.results["patch"]["mpp"] == 0.5
    assert outcome.results["slide"]["run_mpp"] == 2.0
    patch = read_image(out / "patch.png")
    with open_slide(out / "slide.ome.tif") as virtual:
        level0 = virtual.read(0, 0, 512, 400)
    unscaled = stain_image(Network(load_stainer(resized_run)), picture)
    middle = [image[100:300, 100:300].ravel() for image in (level0, patch, unscaled)]
    alike, unlike = np.corrcoef(middle)[0, 1:]
    assert alike > 0.9, "the same network on the same size of things"
    assert unlike < 0.8


def test_run_mpp_is_that_of_the_training_images(resized_run: RunFolder, tmp_path: Path) -> None:
    resized_run.set_status(mpp=None)
    slide = write_slide(tmp_path / "slide.ome.tif", he_picture(512, 400), 0.5)
    outcome = stain(resized_run, [Input(slide)], tmp_path / "out", StainOptions(), run_mpp=0.5)
    assert outcome.results["slide"]["run_mpp"] == 2.0


@pytest.mark.parametrize("value", [0, -1, True, "half", 1e9, None])
def test_a_scale_that_is_none_is_refused(resized_run: RunFolder, value: object) -> None:
    resized_run.set_status(scale=value)
    with pytest.raises(RestainError, match=r"run\.json: scale .* is no factor"):
        _ = resized_run.scale


def origins(*files: Path) -> list[Origin]:
    return [origin for origin in recorded_origins(files) if origin is not None]


def test_the_record_says_what_was_done(run: RunFolder, tmp_path: Path) -> None:
    source, out = tmp_path / "images", tmp_path / "out"
    for name in ("a", "b", "c"):
        write_image(source / f"{name}.png", he_picture(120, 100))
    (source / "c.png").write_bytes(b"no picture")
    words = ["stain", str(run.path), "--out", str(out)]
    assert main([*words, str(source / "a.png")]) == 0
    plain = (out / "a.png").read_bytes()
    record = json.loads((out / "stain.json").read_text())
    last = record["last_call"]
    assert (last["scale"], last["mpp"], last["options"]["tta"]) == (1.0, 0.5, False)
    weights = hashlib.sha256(weights_file(run, None).read_bytes()).hexdigest()
    made = {"views": 1, "method": "pix2pix", "run": str(run.path), "weights": weights}
    assert record["outputs"] == {"a.png": made}
    assert main([*words, str(source / "b.png"), str(source / "c.png"), "--tta"]) == 1
    record = json.loads((out / "stain.json").read_text())
    assert record["last_call"]["options"]["tta"] is True
    assert record["outputs"] == {"a.png": made, "b.png": made | {"views": 7}}, "of two calls; c failed"
    assert [origin.views for origin in origins(out / "a.png", out / "b.png")] == [1, 7]
    assert main([*words, "--tta", str(source / "a.png")]) == 0
    assert (out / "a.png").read_bytes() != plain, "other options stain anew"
    averaged = Origin(**made | {"views": 7})
    assert recorded_origins([out / "a.png", out / "b.png"]) == (averaged,)
    assert recorded_origins([out / "a.png", source / "a.png"]) == (averaged, None)


def test_two_runs_in_one_folder_are_kept_apart(run: RunFolder, tmp_path: Path) -> None:
    other, out = write_run(tmp_path / "other", mpp=0.5), tmp_path / "out"
    for name, used in (("a", run), ("b", other)):
        write_image(tmp_path / f"{name}.png", he_picture(120, 100))
        stain(used, [Input(tmp_path / f"{name}.png")], out, StainOptions())
    outputs = json.loads((out / "stain.json").read_text())["outputs"]
    assert [outputs[name]["run"] for name in ("a.png", "b.png")] == [str(run.path), str(other.path)]


def test_a_killed_call_leaves_no_claim(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", he_picture(120, 100))
    stain(run, [Input(tmp_path / "a.png")], tmp_path / "out", StainOptions())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("restain.infer.apply.process", killed)
    with pytest.raises(KeyboardInterrupt):
        stain(run, [Input(tmp_path / "a.png")], tmp_path / "out", StainOptions(tta=True))
    assert recorded_origins([tmp_path / "out" / "a.png"]) == (None,)


MADE = '{"outputs": {"a": {"views": %s, "method": "cut", "run": "/runs/a", "weights": %s}}}'
FOREIGN = ["", "{", "[]", "\xff", '{"outputs": 7}', '{"outputs": {"a.png": 7}}', '{"outputs": {"a": {"views": 1}}}']


@pytest.mark.parametrize("text", [*FOREIGN, MADE % ("0", '"c0"'), MADE % ('"7"', '"c0"'), MADE % ("7", "{}")])
def test_a_damaged_or_foreign_record_is_named_with_a_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "stain.json").write_text(text, encoding="latin-1")
    for use in (lambda: recorded_origins([tmp_path / "a.png"]), lambda: write_record(tmp_path, {}, {}, [])):
        with pytest.raises(RestainError, match=r"stain\.json: .*Remove it, or stain into another folder") as caught:
            use()
        assert caught.value.exit_code == 2
