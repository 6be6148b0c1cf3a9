"""Evaluations from folders to files."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tests.evaluate.conftest import NAMES, MakeFolder

from restain.core.errors import ItemError, RestainError
from restain.evaluate import evaluate
from restain.evaluate.measure import bounded_map
from restain.metrics import METRICS, Direction, MetricInfo
from restain.slides import read_image, write_image


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_files_of_an_evaluation(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake, out = folder("real"), folder("fake", brown=0.4, seed=1), tmp_path / "out"
    summary = evaluate(real, fake, out)
    rows = read(out / "metrics.csv")
    assert list(rows[0])[:4] == ["image", "level", "psnr", "ssim"]
    assert [(row["image"], row["level"]) for row in rows] == list(zip(NAMES, ["0", "1+", "1+", "3+"], strict=True))
    psnr, ssim = [], []
    for row in rows:
        images = [read_image(path / f"{row['image']}.png") for path in (real, fake)]
        psnr.append(peak_signal_noise_ratio(*images))
        ssim.append(structural_similarity(*images, channel_axis=-1))
        assert float(row["psnr"]) == pytest.approx(psnr[-1])
        assert float(row["ssim"]) == pytest.approx(ssim[-1], abs=1e-6)
    document = json.loads((out / "summary.json").read_text())
    overall = document["methods"]["fake"]["overall"]
    assert overall["psnr"]["mean"] == pytest.approx(np.mean(psnr))
    assert overall["psnr"]["low"] < overall["psnr"]["mean"] < overall["psnr"]["high"]
    levels = document["methods"]["fake"]["levels"]
    assert list(levels) == document["levels"] == ["0", "1+", "3+"]
    assert levels["1+"]["ssim"]["mean"] == pytest.approx(np.mean(ssim[1:3]), abs=1e-6)
    assert levels["1+"]["ssim"]["n"] == 2
    assert document["protocol"]["hash"] == summary.protocol.hash
    assert document["n"] == 4
    assert document["test_time_views"] is None
    assert document["interval"]["resampled"] == "image"
    assert {"restain", "numpy"} <= document["versions"].keys()
    assert summary.exit_code == 0
    assert summary.problems() == []


def test_the_reference_is_the_same_mean_over_the_same_images(folder: MakeFolder) -> None:
    real = folder("real")
    constant = real.parent / "constant"
    summary = evaluate(real, folder("fake", brown=0.1, seed=1))
    for name in NAMES:
        write_image(constant / f"{name}.png", np.full((24, 24, 3), (235, 230, 225), np.uint8))
    of_a_constant = evaluate(real, constant).tables["constant"].overall["dab_od_error"].mean
    assert 0 < summary.reference.overall["dab_od_error"].mean < of_a_constant
    assert summary.beats_constant("fake") is False
    assert evaluate(real, folder("good", seed=2)).beats_constant("good") is False  # noise alone is no better
    assert evaluate(real, real).beats_constant("real") is True


def test_what_cannot_be_measured_is_named_and_the_rest_goes_on(
    folder: MakeFolder, image: Callable[..., np.ndarray]
) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    (fake / f"{NAMES[0]}.png").write_bytes(b"not an image")
    write_image(fake / f"{NAMES[1]}.png", image(0, side=30))
    (fake / f"{NAMES[2]}.png").rename(fake / "stray_test_0.png")
    summary = evaluate(real, fake)
    assert summary.exit_code == 1
    assert summary.images == [NAMES[3]]
    assert [failure.image for failure in summary.failures] == [NAMES[0], NAMES[1]]
    assert f"{NAMES[0]}.png" in summary.failures[0].reason
    assert "real 24x24 px, fake 30x30 px" in summary.failures[1].reason
    assert summary.unpaired["fake"].without_fake == (NAMES[2],)
    assert summary.unpaired["fake"].without_real == ("stray_test_0",)
    text = "\n".join(summary.problems())
    assert all(name in text for name in (NAMES[0], NAMES[1], NAMES[2], "stray_test_0"))
    assert summary.tables["fake"].overall["psnr"].low is None


def test_an_unreadable_real_image(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    path = real / f"{NAMES[1]}.png"
    path.write_bytes(path.read_bytes()[:300])
    summary = evaluate(real, fake)
    assert [(failure.image, failure.method) for failure in summary.failures] == [(NAMES[1], None)]
    assert len(summary.rows) == 3


def test_images_smaller_than_the_window(folder: MakeFolder, image: Callable[..., np.ndarray]) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    for root in (real, fake):
        write_image(root / f"{NAMES[0]}.png", image(0, side=5))
    summary = evaluate(real, fake)
    assert "at least 7x7 px, these have 5x5" in summary.failures[0].reason
    assert str(fake) in summary.failures[0].reason
    assert "are not what it takes" in summary.not_computed["ms_ssim"]  # they are all too small for its five scales
    assert summary.tables["fake"].overall["psnr"].n == 3


def test_metrics_that_take_no_image(folder: MakeFolder, image: Callable[..., np.ndarray], tmp_path: Path) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    for root in (real, fake):
        for name in NAMES:
            write_image(root / f"{name}.png", image(0, side=5))
    summary = evaluate(real, fake)
    assert {"ssim", "ms_ssim"} <= set(summary.not_computed)
    assert summary.exit_code == 0
    assert "psnr" in summary.metrics
    protocol = tmp_path / "mine.yaml"
    protocol.write_text(
        "{name: mine, version: 3, metrics: {ssim: 1, ms_ssim: 1}, mean_over: images, pictures_by: ssim, "
        "interval: {confidence: 0.9, resamples: 100, seed: 5}}"
    )
    with pytest.raises(ItemError, match="No metric of the protocol"):
        evaluate(real, fake, protocol=protocol)


def test_folders_that_do_not_match_show_both_lists(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake", names=[f"x{number}" for number in range(14)])
    with pytest.raises(RestainError) as caught:
        evaluate(real, fake)
    assert caught.value.exit_code == 2
    assert NAMES[0] in str(caught.value)
    assert "x0" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_nothing_measurable(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake")
    for path in fake.iterdir():
        path.write_bytes(b"no")
    with pytest.raises(ItemError, match=r"No image could be measured(.|\n)*00000_test_0"):
        evaluate(real, fake)


def test_identical_images(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    shutil.copy(real / f"{NAMES[1]}.png", fake / f"{NAMES[1]}.png")
    summary = evaluate(real, fake, tmp_path / "out")
    rows = read(tmp_path / "out" / "metrics.csv")
    assert rows[1]["psnr"] == "inf"
    assert float(rows[1]["psnr"]) == np.inf
    finite = [float(row["psnr"]) for row in rows if row["psnr"] != "inf"]
    overall = json.loads((tmp_path / "out" / "summary.json").read_text())["methods"]["fake"]["overall"]["psnr"]
    assert overall["mean"] == pytest.approx(np.mean(finite))
    assert (overall["n"], overall["infinite"]) == (3, 1)
    assert any("1 of 4 pairs have infinite PSNR" in note for note in summary.notes())
    nothing = evaluate(real, real).tables["real"].overall["psnr"]
    assert (nothing.mean, nothing.infinite) == (None, 4)


def test_several_methods_share_their_images(folder: MakeFolder, tmp_path: Path) -> None:
    real = folder("real")
    methods = {"a": folder("a", brown=0.4, seed=1), "b": folder("b", brown=0.8, seed=2)}
    (methods["b"] / f"{NAMES[0]}.png").write_bytes(b"no")
    summary = evaluate(real, methods, tmp_path / "out")
    rows = read(tmp_path / "out" / "metrics.csv")
    assert [(row["method"], row["image"]) for row in rows] == [
        *(("a", name) for name in NAMES),
        *(("b", name) for name in NAMES[1:]),
    ]
    assert list(rows[0])[:3] == ["image", "level", "method"]
    assert summary.images == list(NAMES[1:])
    for method in methods:
        expected = np.mean([float(row["psnr"]) for row in rows if row["method"] == method and row["image"] != NAMES[0]])
        assert summary.tables[method].overall["psnr"].mean == pytest.approx(expected)
        assert summary.tables[method].overall["psnr"].n == 3
    assert any("every method" in note for note in summary.notes())
    alone = evaluate(real, methods["b"])
    assert alone.fingerprint == summary.fingerprint
    assert alone.tables["b"].overall["psnr"] == summary.tables["b"].overall["psnr"]


def test_methods_without_a_common_image(folder: MakeFolder) -> None:
    methods = {"a": folder("a", names=NAMES[:2]), "b": folder("b", names=NAMES[2:])}
    with pytest.raises(ItemError, match="for every method"):
        evaluate(folder("real"), methods)


def test_patients_are_resampled_where_all_are_known(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    lines = "".join(f"{name},P{number // 2}\n" for number, name in enumerate(NAMES))
    (real / "pairs.csv").write_text("name,patient\n" + lines)
    summary = evaluate(real, fake)
    assert (summary.resampled, summary.units) == ("patient", 2)
    (real / "pairs.csv").write_text("name,patient\n" + lines.replace("P1", ""))
    summary = evaluate(real, fake)
    assert (summary.resampled, summary.units) == ("image", 4)
    assert any("Patients are unknown" in note for note in summary.notes())


def test_pairs_that_were_dropped_are_not_missed(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    (real / "pairs.csv").write_text(f"name,kept\n{NAMES[0]},0\n")
    summary = evaluate(real, fake)
    assert summary.images == list(NAMES[1:])
    assert summary.exit_code == 0


def test_nothing_to_evaluate(folder: MakeFolder) -> None:
    with pytest.raises(RestainError, match="at least one folder"):
        evaluate(folder("real"), {})


def test_the_number_of_workers_changes_nothing(folder: MakeFolder) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    one, three = evaluate(real, fake, workers=1), evaluate(real, fake, workers=3)
    assert one.document() == three.document()
    assert one.rows == three.rows


def test_the_fingerprint_is_of_names_and_contents(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    first = evaluate(real, fake).fingerprint
    shutil.copytree(real, tmp_path / "elsewhere")
    assert evaluate(tmp_path / "elsewhere", fake).fingerprint == first
    shutil.copy(real / f"{NAMES[0]}.png", real / f"{NAMES[1]}.png")
    assert evaluate(real, fake).fingerprint != first


def test_pictures_are_best_median_and_worst(folder: MakeFolder, image: Callable[..., np.ndarray]) -> None:
    real = folder("real")
    fake = real.parent / "fake"
    browns = (0.8, 0.5, 0.6, 0.7)
    for number, (name, brown) in enumerate(zip(NAMES, browns, strict=True)):
        write_image(fake / f"{name}.png", image(number, brown))
    summary = evaluate(real, fake, he=real, test_time_views=7)
    chosen = {example.role: example.image for example in summary.pictures.extremes["fake"]}
    assert chosen == {"best": NAMES[1], "median": NAMES[2], "worst": NAMES[0]}
    assert [example.role for example in summary.pictures.gallery] == ["0", "1+", "3+"]
    worst = summary.pictures.extremes["fake"][-1]
    assert worst.differences["fake"].mean() > 0
    assert worst.he is not None
    assert summary.document()["test_time_views"] == 7


def test_metrics_whose_weights_are_absent(folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = MetricInfo("Learned", "", Direction.LOWER, (0, 1), 1, "A test.", weights=("net.safetensors",))
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.add("learned", info)(lambda weights: lambda pair: 0.5)
    protocol = tmp_path / "mine.yaml"
    protocol.write_text(
        "{name: mine, version: 3, metrics: {psnr: 1, learned: 1}, mean_over: images, pictures_by: learned, "
        "interval: {confidence: 0.9, resamples: 100, seed: 5}}"
    )
    real, fake = folder("real"), folder("fake", seed=1)
    summary = evaluate(real, fake, tmp_path / "out", protocol)
    assert list(read(tmp_path / "out" / "metrics.csv")[0]) == ["image", "level", "psnr"]
    assert "net.safetensors" in summary.document()["not_computed"]["learned"]
    assert summary.beats_constant("fake") is None
    assert not summary.pictures.gallery
    assert summary.exit_code == 0
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.safetensors").touch()
    summary = evaluate(real, fake, protocol=protocol, weights=tmp_path / "weights")
    assert summary.tables["fake"].overall["learned"].mean == 0.5
    assert summary.pictures.gallery


def test_file_names_of_any_bytes(folder: MakeFolder, tmp_path: Path) -> None:
    hostile = b"\xff<b>\n,\"'_test_0.png"
    real, fake = folder("real"), folder("fake", seed=1)
    for root in (real, fake):
        shutil.copy(root / f"{NAMES[0]}.png", bytes(root) + b"/" + hostile)
    summary = evaluate(real, fake, tmp_path / "out")
    assert len(read(tmp_path / "out" / "metrics.csv")) == 5
    assert sum("<b>" in name for name in summary.images) == 1


def test_bounded_map_keeps_order_and_bound() -> None:
    lock = threading.Lock()
    started, taken, ahead = 0, 0, []

    def work(item: int) -> int:
        nonlocal started
        with lock:
            started += 1
            ahead.append(started - taken)
        time.sleep(0.001 * (item % 3))
        return item

    results = []
    for result in bounded_map(work, range(40), workers=3):
        results.append(result)
        with lock:
            taken += 1
    assert results == list(range(40))
    assert max(ahead) <= 7


def test_published_images_of_bci(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "bci-pairs"
    summary = evaluate(root / "IHC" / "test", root / "generated", tmp_path)
    assert all(example.he is not None for example in summary.pictures.gallery)
    rows = {row["image"]: row for row in read(tmp_path / "metrics.csv")}
    row = rows["00820_test_2+"]
    assert row["level"] == "2+"
    assert round(float(row["psnr"]), 4) == 17.2774
    assert round(float(row["ssim"]), 5) == 0.26601
