from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.core.runs import RunFolder
from restain.infer.apply import StainOptions, stain
from restain.infer.inputs import Input, collect
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_image
from restain.infer.tiling import Overlap
from restain.infer.whole_slide import stain_slide
from restain.slides import open_slide, read_image, write_image
from restain.training.checkpoint import save_state

from .conftest import he_picture, write_run, write_slide


def test_discarded_halos_are_exact(run: RunFolder) -> None:
    """Batch norm in eval mode and a bounded receptive field: windows give the pixels of the whole image."""
    network = Network(load_stainer(run))
    image = he_picture(500, 420)
    whole = stain_image(network, image, core=512).astype(int)
    tiled = stain_image(network, image, core=128).astype(int)
    margin = network.stainer.margin
    assert margin is not None
    inside = slice(margin, 420 - margin), slice(margin, 500 - margin)
    assert np.abs(whole - tiled)[inside].max() <= 1  # rounding


def test_a_slide_keeps_size_resolution_and_place(run: RunFolder, he_slide: Path, tmp_path: Path) -> None:
    outcome = stain(run, [Input(he_slide)], tmp_path, StainOptions(tile=512, quality=100))
    out = Path(outcome.results["case 1"]["output"])
    with openslide.OpenSlide(str(out)) as other:
        assert other.dimensions == (1500, 1100)
        assert float(other.properties["openslide.mpp-x"]) == pytest.approx(0.5, rel=1e-6)
    with tifffile.TiffFile(out) as tiff:
        assert len(tiff.series[0].levels) > 1
    with open_slide(out) as virtual, open_slide(he_slide) as he:
        assert virtual.mpp == pytest.approx(he.mpp, rel=1e-6)
        stained, source = virtual.read(0, 0, 1500, 1100), he.read(0, 0, 1500, 1100)
    expected = stain_image(Network(load_stainer(run)), source[300:700, 200:700]).astype(int)
    difference = np.abs(stained[400:600, 300:600].astype(int) - expected[100:300, 100:400])
    assert difference.mean() < 1.5, "the tissue is stained in its place (JPEG aside)"
    assert np.abs(stained[:, 1200:].astype(int) - source[:, 1200:]).max() <= 4, "glass stays glass"


class WindowMean(Network):
    """The worst of networks for tiling: it answers each window with the window's mean colour."""

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        return np.broadcast_to(rgb.mean((0, 1)), rgb.shape).astype(np.float32)


def test_blended_windows_leave_no_seam(unbounded: RunFolder, tmp_path: Path) -> None:
    """A picture that grows darker from left to right: thrown-away halos give steps of a window, blended ones a ramp."""
    ramp = np.broadcast_to(np.linspace(230, 60, 2200)[None, :, None], (600, 2200, 3)).astype(np.uint8)
    network = WindowMean(load_stainer(unbounded))
    steps = {}
    with open_slide(write_slide(tmp_path / "ramp.ome.tif", ramp, 0.5)) as slide:
        for overlap in Overlap:
            out = tmp_path / f"{overlap.value}.ome.tif"
            stain_slide(network, slide, 0.5, out, overlap=overlap, tissue_only=False, quality=100)
            with open_slide(out) as virtual:
                row = virtual.read(200, 100, 1700, 300).mean((0, 2))
            steps[overlap] = np.abs(np.diff(row)).max()
    assert steps[Overlap.discard] > 25
    assert steps[Overlap.blend] < 3


def test_a_slide_at_another_resolution_is_read_at_the_runs(run: RunFolder, tmp_path: Path) -> None:
    """A slide at 0.25 um/px is stained as its half-size picture at 0.5 um/px, and comes back at 0.25."""
    half = he_picture(800, 700)
    fine = np.repeat(np.repeat(half, 2, 0), 2, 1)
    slide = write_slide(tmp_path / "fine.ome.tif", fine, 0.25)
    stain(run, [Input(slide)], tmp_path / "out", StainOptions(tissue_only=False, quality=100))
    with open_slide(tmp_path / "out" / "fine.ome.tif") as virtual:
        assert virtual.size == (1600, 1400)
        assert virtual.mpp == pytest.approx(0.25, rel=1e-6)
        coarse = virtual.read(400, 400, 200, 200, mpp=0.5).astype(int)
    expected = stain_image(Network(load_stainer(run)), half).astype(int)[200:400, 200:400]
    centred = coarse - coarse.mean(), expected - expected.mean()
    correlation = (centred[0] * centred[1]).sum() / np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    shifted = np.roll(centred[1], 2, 0)
    assert correlation > 0.9
    assert correlation > (centred[0] * shifted).sum() / np.sqrt((centred[0] ** 2).sum() * (shifted**2).sum())


def test_one_bad_file_does_not_stop_the_others_and_again_resumes(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a", "c"):
        write_image(images / f"{name}.png", he_picture(200, 160))
    (images / "b.png").write_bytes(b"not a picture")
    words = ["stain", str(run.path), str(images), "--out", str(tmp_path / "out"), "--suffix", "_fake_B"]
    assert main(words) == 1
    assert "failed: b: " in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a_fake_B.png", "c_fake_B.png"]
    assert read_image(tmp_path / "out" / "a_fake_B.png").shape == (160, 200, 3)
    before = (tmp_path / "out" / "a_fake_B.png").stat().st_mtime_ns
    write_image(images / "b.png", he_picture(200, 160))
    assert main(words) == 0
    assert (tmp_path / "out" / "a_fake_B.png").stat().st_mtime_ns == before, "what was done is not done again"


def test_resolution_is_never_guessed(
    run: RunFolder, he_slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = tmp_path / "section.jpg"
    write_image(big, he_picture(3000, 400))
    out = ["--out", str(tmp_path / "out")]
    assert main(["stain", str(run.path), str(big), *out]) == 2
    assert "--mpp" in capsys.readouterr().err
    assert main(["stain", str(run.path), str(big), *out, "--mpp", "0.5"]) == 0
    assert (tmp_path / "out" / "section.ome.tif").exists()
    nameless = write_run(tmp_path / "nameless", mpp=None)
    assert main(["stain", str(nameless.path), str(he_slide), *out]) == 2
    assert "the run knows no um/px" in capsys.readouterr().err
    assert main(["stain", str(nameless.path), str(he_slide), *out, "--run-mpp", "0.5"]) == 0
    assert main(["stain", str(run.path), str(he_slide), *out, "--mpp", "5"]) == 1
    assert "cells cannot be seen" in capsys.readouterr().err


def test_no_tissue_saves_a_thumbnail_and_names_the_setting(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = write_slide(tmp_path / "empty.ome.tif", np.full((600, 700, 3), 240, np.uint8), 0.5)
    words = ["stain", str(run.path), str(slide), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "--tissue-only false" in capsys.readouterr().err
    assert (tmp_path / "out" / "empty_thumbnail.png").exists()
    assert not (tmp_path / "out" / "empty.ome.tif").exists()
    assert main([*words, "--tissue-only", "false"]) == 0


def test_inputs_are_found_and_named(tmp_path: Path) -> None:
    for name in ("x.ome.tif", "y.svs", "notes.txt"):
        (tmp_path / name).touch()
    assert [item.name for item in collect([tmp_path])] == ["x", "y"]
    (tmp_path / "cohort.csv").write_text("patient,he,mpp\np,x.ome.tif,0.25\n")
    assert collect([tmp_path / "cohort.csv"]) == [Input(tmp_path / "x.ome.tif", 0.25)]
    with pytest.raises(RestainError, match="both be written as 'x'"):
        collect([tmp_path, tmp_path / "x.ome.tif"])
    with pytest.raises(RestainError, match="no such file"):
        collect([tmp_path / "gone"])
    (tmp_path / "cohort.csv").write_text("patient,he,mpp\np,x.ome.tif,twenty\n")
    with pytest.raises(RestainError, match="not a number"):
        collect([tmp_path / "cohort.csv"])


def test_a_damaged_or_missing_checkpoint_is_named(tmp_path: Path, he_slide: Path) -> None:
    run = write_run(tmp_path / "run")
    (run.checkpoints / "final.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ItemError, match=r"final\.safetensors: not a readable checkpoint"):
        load_stainer(run)
    (run.checkpoints / "final.safetensors").unlink()
    with pytest.raises(ItemError, match="there are: none"):
        load_stainer(run)
    with pytest.raises(ItemError, match=r"nothing\.safetensors"):
        load_stainer(run, "nothing.safetensors")


def test_an_input_is_never_overwritten(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png", he_picture(200, 160))
    before = (tmp_path / "a.png").read_bytes()
    assert main(["stain", str(run.path), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "overwritten" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before
    assert main(["stain", str(run.path), str(tmp_path), "--out", str(tmp_path), "--suffix", "_virtual"]) == 0


def test_a_slide_missing_from_a_cohort_does_not_stop_it(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "a.png", he_picture(200, 160))
    write_image(tmp_path / "b.png", he_picture(90, 80))
    (tmp_path / "cohort.csv").write_text("patient,he\n1,a.png\n2,gone.svs\n3,b.png\n")
    words = ["stain", str(run.path), str(tmp_path / "cohort.csv"), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 1
    document = json.loads(capsys.readouterr().out)
    assert set(document["results"]) == {"a", "b"}
    assert "no such file" in document["failures"]["gone"]


def test_one_bad_input_still_prints_its_json(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert main(["stain", str(run.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["failures"]) == ["a"]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (200, 2), (2, 200)])
def test_tiny_images_are_stained(run: RunFolder, width: int, height: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    assert stain_image(Network(load_stainer(run)), image).shape == image.shape


def test_a_run_that_changed_stains_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    write_image(tmp_path / "a.png", he_picture(120, 100))
    words = ["stain", str(run.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = (tmp_path / "out" / "a.png").read_bytes()
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("inference_norm: running", "inference_norm: image"))
    assert main(words) == 0
    assert (tmp_path / "out" / "a.png").read_bytes() != before


def test_nothing_of_a_foreign_run_is_imported_or_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    write_image(tmp_path / "a.png", he_picture(120, 100))
    words = ["stain", str(run.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    config, info = (run.path / "config.yaml").read_text(), (run.path / "run.json").read_text()
    for hostile in ("stainer: {class_path: this.Thing, init_args: {}}", "stainer: /etc/passwd", "stainer: [1]"):
        (run.path / "config.yaml").write_text(hostile)
        assert main(words) == 2
        assert "does not fit pix2pix" in capsys.readouterr().err
    (run.path / "config.yaml").write_text(config)
    for hostile in ('"abc"', "0", "-1", "true"):
        (run.path / "run.json").write_text(info.replace('"mpp": 0.5', f'"mpp": {hostile}'))
        assert main(words) == 2
        assert "is no um/px" in capsys.readouterr().err
    (run.path / "run.json").write_text(info)
    (run.path / "config.yaml").write_text(f"{config}\nmethod: cut\n")
    assert main(words) == 2
    assert "run.json is of pix2pix, config.yaml of cut" in " ".join(capsys.readouterr().err.split())
    (run.path / "config.yaml").write_text(config)
    assert main([*words, "--run-mpp", "-1"]) == 2


@pytest.mark.parametrize("state", [{}, {"weights": [1]}, {"weights": {"__tensor__": "gone"}}, {"weights": {"a": 1}}])
def test_a_foreign_checkpoint_is_an_error_and_no_crash(tmp_path: Path, state: dict[str, object]) -> None:
    run = write_run(tmp_path / "run")
    save_state(run.checkpoints / "final.safetensors", state)
    with pytest.raises(ItemError, match=r"final\.safetensors"):
        load_stainer(run)


def test_memory_is_bounded_where_the_run_is_much_coarser(run: RunFolder, tmp_path: Path) -> None:
    """At 16 times the slide's um/px windows still contribute at most 2048 level-0 px."""
    sides = []

    class Watching(Network):
        def __call__(self, rgb: np.ndarray) -> np.ndarray:
            sides.append(rgb.shape[0])
            return super().__call__(rgb)

    slide = write_slide(tmp_path / "s.ome.tif", he_picture(3000, 700), 0.25)
    with open_slide(slide) as opened:
        stain_slide(Watching(load_stainer(run)), opened, 4.0, tmp_path / "o.ome.tif", tissue_only=False)
    margin = load_stainer(run).margin
    assert margin is not None
    assert max(sides) <= 2048 / 16 + 2 * (margin + 4)
