"""The report of an evaluation says what the evaluation found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.test_report import Page

from restain.evaluate import Summary, evaluate
from restain.report import photo, write_evaluation_report
from restain.slides import write_image

NAMES = ("00000_test_0", "00001_test_1+", "00002_test_1+", "00003_test_3+")


def make(root: Path, brown: float, seed: int, names: tuple[str, ...] = NAMES) -> Path:
    for number, name in enumerate(names):
        noise = np.random.default_rng(100 * seed + number).normal(0, 12, (32, 40, 3))
        colour = np.array([235, 230, 225]) * (1 - brown) + np.array([120, 70, 30]) * brown
        write_image(root / f"{name}.png", np.clip(colour + noise, 1, 254).astype(np.uint8))
    return root


def report(summary: Summary, folder: Path) -> Path:
    path = folder / "report.html"
    write_evaluation_report(summary, path)
    return path


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    real = make(tmp_path / "real", 0.5, 0)
    one, two = make(tmp_path / "one", 0.4, 1), make(tmp_path / "two", 0.9, 2)
    (two / f"{NAMES[1]}.png").write_bytes(b"broken")
    make(two, 0.9, 2, ("stray_test_0",))
    return evaluate(real, {"one": one, "two <i>$": two}, tmp_path / "out", he=real)


def test_report_of_several_methods(summary: Summary, tmp_path: Path) -> None:
    path = report(summary, tmp_path / "out")
    page = Page(path.read_text(encoding="utf-8"))
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    for method in ("one", "two <i>$"):
        means = document["methods"][method]["overall"]
        assert f"{means['psnr']['mean']:.3f}" in page.text
        assert f"{means['dab_od_error']['low']:.5f} to {means['dab_od_error']['high']:.5f}" in page.text
    reference = document["references"]["best constant image"]["overall"]["dab_od_error"]["mean"]
    for text in (
        f"{reference:.5f}",
        document["protocol"]["hash"],
        "stray_test_0",
        "could not",
        "Protocol bci v3",
        "seed 0",
    ):
        assert text.lower() in page.text.lower()
    images = page.attributes("img")
    assert (
        len(images) == 9 + 1 + 4 * 3 + (4 + 5) * 3 * 2
    )  # charts, scale, gallery of three levels, three extremes of two methods, each with maps
    assert all(image["alt"] for image in images)


def test_comparison_is_a_grid_of_all_methods(summary: Summary, tmp_path: Path) -> None:
    report(summary, tmp_path / "out")
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > picture.height  # H&E, real and two methods for three levels
        assert picture.width > 1500


def test_the_same_evaluation_gives_the_same_report(summary: Summary, tmp_path: Path) -> None:
    first = report(summary, tmp_path / "a").read_bytes()
    assert report(summary, tmp_path / "b").read_bytes() == first


def test_a_single_pair_without_level_and_identical(tmp_path: Path) -> None:
    real = make(tmp_path / "real", 0.5, 0, ("picture",))
    shutil.copytree(real, tmp_path / "same")
    result = evaluate(real, tmp_path / "same", tmp_path / "out")
    page = Page(report(result, tmp_path / "out").read_text(encoding="utf-8"))
    assert "∞" in page.text
    assert "By level" not in page.text
    assert "Left out" not in page.text
    assert "A single image allows no interval" in page.text


def test_white_and_black_images(tmp_path: Path) -> None:
    for number, value in enumerate((0, 255)):
        write_image(tmp_path / "real" / f"{number}.png", np.full((16, 16, 3), value, np.uint8))
        write_image(tmp_path / "fake" / f"{number}.png", np.full((16, 16, 3), 255, np.uint8))
    result = evaluate(tmp_path / "real", tmp_path / "fake", tmp_path / "out")
    page = Page(report(result, tmp_path / "out").read_text(encoding="utf-8"))
    assert "nan" not in page.text.lower()
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text()


def test_a_protocol_without_dab(tmp_path: Path) -> None:
    protocol = tmp_path / "mine.yaml"
    protocol.write_text(
        "{name: mine, version: 3, metrics: {psnr: 1}, mean_over: images, pictures_by: psnr, "
        "interval: {confidence: 0.9, resamples: 100, seed: 5}}"
    )
    real, fake = make(tmp_path / "real", 0.5, 0), make(tmp_path / "fake", 0.4, 1)
    result = evaluate(real, {"one": fake, "two": fake}, tmp_path / "out", protocol)
    page = Page(report(result, tmp_path / "out").read_text(encoding="utf-8"))
    assert "90% intervals" in page.text
    assert "beat" not in page.text


def test_tables_may_wrap_to_fit_the_page(summary: Summary, tmp_path: Path) -> None:
    """Only intervals keep to one line, and in narrow windows and in print not even these; arrows stay with titles."""
    text = report(summary, tmp_path / "out").read_text(encoding="utf-8")
    rules = [line.split("{")[0].strip() for line in text.splitlines() if "white-space: nowrap" in line]
    assert rules == [".range"]
    assert text.count(".range { white-space: normal; }") == 1
    assert ".range { font-size: 7pt; white-space: normal; }" in text.split("@media print")[1]
    assert "PSNR\N{NO-BREAK SPACE}↑" in text


def test_a_photo_of_noise_can_be_written() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert photo(noise, "noise").width == 512
