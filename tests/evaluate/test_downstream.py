"""The downstream test: what it trains on, what it tells apart, and what it keeps."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from tests.report.test_report import Page

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.evaluate import load_protocol
from restain.evaluate.bootstrap import INTERVAL, estimate
from restain.evaluate.downstream import HE, PROTOCOL, REAL, Sources, downstream
from restain.evaluate.downstream_data import labelled_folder, load_images, split_for_validation
from restain.evaluate.downstream_results import STAINING, LabelledImages, score
from restain.evaluate.downstream_train import ClassifierOptions, imagenet_weights
from restain.evaluate.folders import FAKE, SOURCE
from restain.evaluate.folders import REAL as REAL_IHC
from restain.nn.devices import Accelerator
from restain.nn.resnet import RESNET50_FILE, ResNet50
from restain.slides import write_image

BLANK = np.full((64, 64, 3), 240, np.uint8)
COLOURS = {"neg": (235, 230, 225), "pos": (120, 70, 30)}
SMALL = ClassifierOptions(
    size=64, epochs=2, batch=4, rate=5e-3, validation=0.25, seeds=1, width=2, accelerator=Accelerator.cpu
)


def write(root: Path, split: str, seed: int, count: int = 12, noise: float = 12, level: str | None = None) -> Path:
    """Images of two levels that their colour tells, or all of one colour whatever their level."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        own = ("neg", "pos")[number % 2]
        pixels = np.array(COLOURS[level or own]) + rng.normal(0, noise, (70, 64, 3))
        write_image(root / f"{number:05}_{split}_{own}.png", np.clip(pixels, 0, 255).astype(np.uint8))
    return root


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(train={"good": write(tmp_path / "good", "train", 1)}, test=write(tmp_path / "test", "test", 2))


def test_levels_that_colour_tells_are_learned(sources: Sources, tmp_path: Path) -> None:
    options = ClassifierOptions(**{**SMALL.__dict__, "epochs": 12, "batch": 3, "width": 4})
    result = downstream(sources, tmp_path / "out", options)
    assert result.classes == ("neg", "pos")
    (entry,) = result.entries
    assert entry.images == (9, 3, 12)
    assert entry.accuracy.mean is not None
    assert entry.accuracy.mean > 0.9
    assert entry.confusion.sum() == 12
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open(encoding="utf-8")))
    right = np.mean([row["level"] == row["predicted"] for row in rows])
    assert entry.accuracy.mean == pytest.approx(right)


def test_references_and_the_external_set(sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))  # nobody's cache
    external = write(tmp_path / "external", "test", 3)
    more = Sources(
        train=sources.train,
        test=sources.test,
        real=write(tmp_path / "real", "train", 4),
        he=write(tmp_path / "he", "train", 5, noise=0, level="neg"),
        he_test=write(tmp_path / "he_test", "test", 6, noise=0, level="neg"),
        external={"good": external},
    )
    result = downstream(more, tmp_path / "out", SMALL)
    assert [(entry.name, entry.reference) for entry in result.entries] == [("good", False), (REAL, True), (HE, True)]
    assert result.entries[2].test == str(tmp_path / "he_test")
    assert result.entries[2].accuracy.mean == 0.5  # its images are all alike, half of them of each level
    assert set(result.staining.values["good"]) == {"ssim"}
    assert result.warnings[0] == "Trained from random weights (ImageNet's fit the full width alone)."
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / RESNET50_FILE).write_bytes(b"none")
    with pytest.raises(ItemError, match=RESNET50_FILE):  # at full width ImageNet's are taken, and these are none
        downstream(sources, tmp_path / "out", ClassifierOptions(**{**SMALL.__dict__, "width": 64}))
    assert set(result.staining.reasons) == {"fid", "dists"}
    document = result.document()
    assert document["entries"][1]["staining"] is None
    json.dumps(document, allow_nan=False)


def test_finished_trainings_are_kept(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = downstream(sources, out, SMALL)
    (record,) = (out / "trainings").iterdir()
    stamp = record.stat().st_mtime_ns
    again = downstream(sources, out, SMALL)
    assert record.stat().st_mtime_ns == stamp
    assert again.document() == first.document()
    record.unlink()
    assert downstream(sources, out, SMALL).document() == first.document()  # the same seed gives the same training
    write_image(tmp_path / "good" / "00000_train_neg.png", np.full((64, 64, 3), 200, np.uint8))
    stamp = record.stat().st_mtime_ns
    downstream(sources, out, SMALL)
    assert record.stat().st_mtime_ns != stamp


def images(levels: list[str], patients: list[str | None]) -> LabelledImages:
    names = tuple(f"i{number}" for number in range(len(levels)))
    pixels = np.zeros((len(levels), 1, 1, 3), np.uint8)
    return LabelledImages(pixels, names, tuple(levels), tuple(patients), "", {})


def test_a_patient_is_on_one_side() -> None:
    patients = [f"P{number // 3}" for number in range(36)]
    levels = [("0", "1+", "2+")[number // 3 % 3] for number in range(36)]
    found = images(levels, list(patients))
    train, validation = split_for_validation(found, 0.25, 0)
    assert not {patients[k] for k in train} & {patients[k] for k in validation}
    assert {levels[k] for k in validation} == {"0", "1+", "2+"}
    assert sorted([*train, *validation]) == list(range(36))
    unknown = images(levels, [None] * 36)
    train, validation = split_for_validation(unknown, 0.25, 0)
    assert len(validation) == 9
    with pytest.raises(RestainError, match="too few"):
        split_for_validation(images(["0", "1+"], ["P", "P"]), 0.25, 0)


def test_scores_are_scikit_learns_and_intervals_the_bootstraps() -> None:
    rng = np.random.default_rng(0)
    levels = [str(k) for k in rng.integers(0, 3, 80)]
    patients = [f"P{number // 4}" for number in range(80)]
    trainings = []
    for _ in range(2):
        raw = rng.random((80, 3)) + 0.5 * (np.array(levels, int)[:, None] == np.arange(3))
        trainings.append({"probabilities": (raw / raw.sum(1, keepdims=True)).tolist(), "best_epoch": 1})
    test = images(levels, list(patients))
    found = score("a", False, ("train", "test"), (3, 1), test, trainings, ("0", "1", "2"), "random")
    predicted = [np.argmax(training["probabilities"], 1).astype(str) for training in trainings]
    assert found.accuracy.mean == pytest.approx(np.mean([accuracy_score(levels, own) for own in predicted]))
    assert found.f1.mean == pytest.approx(np.mean([f1_score(levels, own, average="macro") for own in predicted]))
    assert found.resampled == "patient"
    # Accuracy is a mean over images: the intervals of means, made otherwise, agree within the bootstrap's own noise.
    right = np.mean([own == np.array(levels) for own in predicted], 0)
    other = estimate(right, patients, INTERVAL)
    assert found.accuracy.low == pytest.approx(other.low, abs=0.015)
    assert found.accuracy.high == pytest.approx(other.high, abs=0.015)
    assert found.f1.low is not None
    assert found.f1.low < found.f1.mean < found.f1.high
    one = score("a", False, ("train", "test"), (3, 1), images(levels, ["P"] * 80), trainings, ("0", "1", "2"), "")
    assert (one.accuracy.low, one.accuracy.high) == (None, None)


def test_imagenet_weights_are_taken_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    full = ClassifierOptions()
    path, words = imagenet_weights(full, None)
    assert path is None
    assert "random" in words
    (tmp_path / RESNET50_FILE).touch()
    assert imagenet_weights(full, tmp_path)[0] == tmp_path / RESNET50_FILE
    assert imagenet_weights(SMALL, tmp_path)[0] is None  # another width
    assert ResNet50(4, full.width).fc.out_features == 4


def test_folders_of_other_programs(tmp_path: Path) -> None:
    for name in ("1_test_0", "2_test_1+"):
        for role in ("fake_B", "real_A", "real_B"):
            write_image(tmp_path / "images" / f"{name}_{role}.png", np.full((8, 8, 3), 100, np.uint8))
    found = labelled_folder(tmp_path, "train", None, FAKE)
    assert [(image.name, image.level) for image in found.images] == [("1_test_0", "0"), ("2_test_1+", "1+")]
    assert all(image.path.stem.endswith("fake_B") for image in found.images)
    (tmp_path / "pairs.csv").write_text("name,level,patient\n1_test_0,3+,P1\n")
    for role in (SOURCE, REAL_IHC):
        sides = labelled_folder(tmp_path, "train", None, role).images
        assert [image.path.stem for image in sides] == [f"1_test_0_{role}", f"2_test_1+_{role}"]
    found = labelled_folder(tmp_path, "train", tmp_path / "pairs.csv", FAKE)
    assert (found.images[0].level, found.images[0].patient) == ("3+", "P1")
    loaded = load_images(found, 64)
    assert loaded.pixels.shape == (2, 64, 64, 3)
    assert loaded.units == loaded.names  # one patient is not known


def test_unreadable_images_are_named(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "good" / "00000_train_neg.png").write_bytes(b"broken")
    result = downstream(sources, tmp_path / "out", SMALL)
    assert [(failure.image, failure.method) for failure in result.failures] == [("00000_train_neg", "good")]
    assert sum(result.entries[0].images[:2]) == 11
    # Stainers share names: each failure is kept, and who learned from fewer images is said.
    more = Sources(train={**sources.train, "other": write(tmp_path / "other", "train", 3)}, test=sources.test)
    for name in ("other/00000_train_neg.png", "other/00001_train_pos.png", "test/00002_test_neg.png"):
        (tmp_path / name).write_bytes(b"broken")
    result = downstream(more, tmp_path / "out", SMALL)
    assert [(failure.image, failure.method) for failure in result.failures] == [
        ("00002_test_neg", None), ("00000_train_neg", "good"), ("00000_train_neg", "other"),
        ("00001_train_pos", "other"),
    ]  # fmt: skip
    assert [failure["entry"] for failure in result.document()["failures"]] == [None, "good", "other", "other"]
    assert any("only good: 00001_train_pos; only other: none" in line for line in result.warnings)
    for path in (tmp_path / "good").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ItemError, match="none of its images"):
        downstream(sources, tmp_path / "out", SMALL)


def dataset(root: Path) -> Path:
    """Pairs of two splits: the IHC tells the levels, the H&E is the same everywhere."""
    for seed, split in enumerate(("train", "test")):
        write(root / "IHC" / split, split, 10 + seed)
        write(root / "HE" / split, split, 20 + seed, noise=0, level="neg")
    return root


def test_he_of_a_dataset_is_its_he(sources: Sources, tmp_path: Path) -> None:
    data = dataset(tmp_path / "data")
    labelled = labelled_folder(data, "test", None, SOURCE)
    assert {image.path.parent for image in labelled.images} == {data / "HE" / "test"}
    assert (load_images(labelled, 64).pixels == COLOURS["neg"]).all()
    result = downstream(Sources(train={}, test=data, real=data, he=data, he_test=data), tmp_path / "out", SMALL)
    spread = {
        name: np.ptp([p.probabilities for p in result.predictions if p.entry == name], 0).max() for name in (REAL, HE)
    }
    assert spread[HE] < 1e-6 < spread[REAL]


def test_levels_and_patients_of_the_split_that_is_asked_for(tmp_path: Path) -> None:
    """Both splits have images of one name, and the folder of the generated ones is called as it likes."""
    folder = tmp_path / "mine" / "images"
    for name in ("a", "b"):
        write_image(folder / f"{name}_fake_B.png", np.full((8, 8, 3), 100, np.uint8))
    table = tmp_path / "pairs.csv"
    rows = ["a,train,0,P1", "b,train,1+,P2", "a,test,2+,P3", "b,test,3+,P4"]
    table.write_text("name,split,level,patient\n" + "\n".join(rows) + "\n")
    for split, levels in (("train", ["0", "1+"]), ("test", ["2+", "3+"])):
        found = labelled_folder(tmp_path / "mine", split, table, FAKE).images
        assert [image.level for image in found] == levels
        assert [image.patient for image in found] == (["P1", "P2"] if split == "train" else ["P3", "P4"])


def test_test_images_among_those_to_train_on(sources: Sources, tmp_path: Path) -> None:
    for kind in ("train", "test"):  # blank images may be the same
        for level in ("neg", "pos"):
            write_image(tmp_path / ("good" if kind == "train" else kind) / f"99_{kind}_{level}.png", BLANK)
    result = downstream(sources, tmp_path / "out", SMALL)
    assert not any("both in training" in line for line in result.warnings)
    made = tmp_path / "made"
    for number, path in enumerate(sorted(sources.test.iterdir())):  # what was generated for the test images
        write_image(made / path.name, np.full((64, 64, 3), 10 * number, np.uint8))
    result = downstream(Sources(train={"made": made}, test=sources.test), tmp_path / "out", SMALL)
    assert any("made: 14 image names are both in training and in test (00000_test_neg" in w for w in result.warnings)
    shutil.copy(sources.test / "00003_test_pos.png", tmp_path / "good" / "77_train_pos.png")
    with pytest.raises(RestainError, match=r"good: 1 test images are trained on .*77_train_pos.png = .*00003_test_pos"):
        downstream(sources, tmp_path / "out", SMALL)


def test_wrong_use(sources: Sources, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = write(tmp_path / "plain", "train", 0, count=2)
    for number, path in enumerate(sorted(plain.iterdir())):
        path.rename(plain / f"{'ab'[number]}.png")
    for changed, word in (
        ({"he": sources.test}, "--he-test"),
        ({"external": {"bad": sources.test}}, "no --train of this name"),
        ({"train": {REAL: sources.test}}, "choose another name"),
        ({"train": {}}, "nothing to train on"),
        ({"train": {"a": plain}}, "no image's level"),
        ({"train": {"a": tmp_path / "absent"}}, "no such folder"),
        ({"train": {"a": dataset(tmp_path / "data")}}, "no generated images in it"),
        ({"real": sources.test}, r"real IHC: 12 test images are trained on .*00000_test_neg.png"),
    ):
        with pytest.raises(RestainError, match=word):
            downstream(Sources(**{"train": sources.train, "test": sources.test, **changed}), out, SMALL)
    with pytest.raises(RestainError, match="Choose another --out"):
        downstream(sources, sources.test, SMALL)
    for name, value in (("epochs", 0), ("validation", 1.0), ("rate", -1.0), ("size", 8)):
        with pytest.raises(RestainError, match=name):
            ClassifierOptions(**{name: value})


def test_the_command(sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "test.csv"
    pairs.write_text("name,patient\n" + "".join(f"{path.stem},P1\n" for path in sources.test.iterdir()))
    words = [
        "downstream",
        "--train",
        f"<i>={tmp_path / 'good'}",
        "--test",
        str(sources.test),
        "--test-pairs",
        str(pairs),
    ]
    words += ["--size", "64", "--epochs", "1", "--batch", "4", "--width", "2", "--seeds", "2", "--accelerator", "cpu"]
    out = tmp_path / "out"
    assert main([*words, "--out", str(out), "--json"]) == 0
    streams = capsys.readouterr()
    found = json.loads(streams.out)
    assert found == json.loads((out / "downstream.json").read_text())
    assert found["network"] == "ResNet-50 of width 2 instead of 64"
    assert [training["seed"] for training in found["entries"][0]["trainings"]] == [0, 1]
    assert "random weights" in streams.err
    assert {path.name for path in out.glob("confusion.*")} == {"confusion.png", "confusion.svg"}
    page = Page((out / "downstream.html").read_text(encoding="utf-8"))
    assert "<i>" in page.text
    assert f"{found['entries'][0]['f1']['mean']:.4f}" in page.text
    assert main(["downstream", "--test", str(sources.test), "--out", str(out), "--train", "a=x", "a=y"]) == 2


def test_the_protocol_of_the_external_set_is_frozen() -> None:
    protocol = load_protocol(PROTOCOL)
    # A change of this hash makes published numbers incomparable: it needs a new version of the protocol.
    assert (protocol.name, protocol.version, protocol.hash) == ("tdkstain", 1, "92bfb1d8fe6c9cbc")
    assert tuple(protocol.metrics) == STAINING
