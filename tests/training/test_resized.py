"""arptidec5's way: trained on shrunken images, stained at full size."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.cli.main import main
from restain.core.runs import RunFolder
from restain.infer.network import Network, load_stainer
from restain.slides import open_slide, read_image

from ..infer.conftest import he_picture, write_slide
from ..pairs import write_pairs


def test_arptidec5_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_pairs(tmp_path / "pairs", train=4, side=128)
    run, out = tmp_path / "run", tmp_path / "out"
    words = [
        "train", "pyramid_pix2pix", "--config", "arptidec5_small", "--data", str(data), "--out", str(run),
        "--stainer.generator_width", "4", "--stainer.discriminator_width", "4", "--batches.augmentation.resize", "32",
        "--training.epochs", "1", "--training.epochs_decay", "0", "--training.convention", "end", "--mpp", "0.5",
    ]  # fmt: skip
    assert main(words) == 2, "the recipe leaves out the worst tenth, so quality must be known"
    assert "--qc" in capsys.readouterr().err
    assert main(["dataset", "check", str(data), "--qc"]) in (0, 1)
    assert main([*words, "--batches.quality.fraction", "0.25"]) == 0
    info = RunFolder(run).info
    assert (info["scale"], info["mpp"]) == (0.25, 2.0)
    assert info["quality"]["dropped"] == 1
    assert main(["stain", str(run), str(data / "HE" / "val"), "--out", str(out), "--tta"]) == 0
    name = "00001_val_1+.png"
    he, virtual = read_image(data / "HE" / "val" / name), read_image(out / name)
    seen = cv2.resize(he, (32, 32), interpolation=cv2.INTER_AREA)
    network = Network(load_stainer(RunFolder(run)), tta=True)
    expected = cv2.resize(np.rint(network(seen)).astype(np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(virtual, expected)
    judged = tmp_path / "judged"
    assert main(["evaluate", "--real", str(data / "IHC" / "val"), "--fake", f"a={out}", "--out", str(judged)]) == 0
    document = json.loads((judged / "summary.json").read_text())
    assert document["methods"]["a"]["test_time_views"] == 7
    assert document["methods"]["a"]["overall"]["sharpness_ratio"]["mean"] is not None
    slide = write_slide(tmp_path / "slide.ome.tif", he_picture(600, 500), 0.5)
    assert main(["stain", str(run), str(slide), "--out", str(out)]) == 0
    with open_slide(out / "slide.ome.tif") as stained:
        assert (stained.size, round(stained.mpp or 0, 6)) == ((600, 500), 0.5)
    assert json.loads((out / "stain.json").read_text())["last_call"]["mpp"] == 2.0
    assert json.loads((out / "stain.json").read_text())["outputs"]["slide.ome.tif"]["views"] == 1
