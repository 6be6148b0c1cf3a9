"""Prediction as it is typed: patients with several slides, what slides are read with, what is refused and how."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from restain.cli import her2_predict, her2_train
from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json
from restain.core.runs import RunFolder
from restain.her2.encoders import Stain, make_encoder
from restain.her2.extract import extract_slide
from restain.her2.features_file import FeatureSet, read_features, write_features
from restain.her2.labels import HER2
from restain.her2.peak import peak_mib
from restain.her2.predict import answers, load_predictor
from restain.her2.recipes import load_recipe
from restain.her2.slide_set import kind_of
from restain.her2.tiles import TileOptions
from restain.her2.train import Fitted
from restain.her2.train_run import TASK, save_fitted
from restain.slides import open_slide
from restain.synthetic import SlideRenderer, SynthOptions, World
from restain.training.run import plain
from tests.her2.cohort import LEVELS, write, write_rows
from tests.her2.slide_models import small_model

from ..infer.conftest import write_slide

PATIENTS = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients with two slides each, and a model that learned from them."""
    root = tmp_path_factory.mktemp("patients")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(PATIENTS):
        for part in "ab":
            values = rng.normal(size=(int(rng.integers(6, 12)), 8)).astype(np.float32)
            values[:3, number % 4] += 3
            name = f"p{number:02d}{part}"
            write(root / "he" / f"{name}.h5", values)
            rows.append({"patient": f"p{number:02d}", "he": f"{name}.svs", "her2": LEVELS[number % 4]})
    write_rows(root / "cohort.csv", rows)
    words = ["abmil", "--cohort", root / "cohort.csv", "--features", root / "he", "--out", root / "run"]
    more = ["--model.width", "16", "--training.epochs", "2", "--training.min_epochs", "1", "--val", "0.3"]
    assert her2_train.run([*map(str, words), *more]) == 0
    return root


def predict(*words: object) -> int:
    return her2_predict.run([str(word) for word in words])


def shown(capsys: pytest.CaptureFixture[str]) -> dict:
    document: dict = json.loads(capsys.readouterr().out)
    return document


# A patient with several slides


def test_a_patient_gets_the_answer_that_training_gave(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's own predictions.csv was written by training, from its bags of whole patients."""
    said = next(row for row in read_csv(root / "run" / "predictions.csv") if row["split"] == "val")
    slides = [root / "he" / f"{said['patient']}{part}.h5" for part in "ab"]
    assert predict(root / "run", *slides, "--patient", said["patient"], "--out", tmp_path, "--json") == 0
    found = shown(capsys)
    wanted = {name: float(said[f"p_{name}"]) for name in LEVELS}
    assert found["probabilities"] == pytest.approx(wanted, abs=1e-6)
    assert (found["patient"], found["status"]) == (said["patient"], said["predicted"])
    counts = [len(read_features(slide)) for slide in slides]
    assert [one["tiles"] for one in found["slides"]] == counts
    assert found["tiles"] == sum(counts)
    assert sum(one["attention"] for one in found["slides"]) == pytest.approx(1, abs=1e-3)
    tiles = []
    for one, count in zip(found["slides"], counts, strict=True):
        folder = tmp_path / said["patient"] / Path(one["slide"]).stem
        assert (folder / "attention.png").exists()
        own = [tile["properties"]["measurements"] for tile in read_json(folder / "attention.geojson")["features"]]
        assert len(own) == count
        assert sum(tile["attention"] for tile in own) == pytest.approx(one["attention"], abs=1e-4)
        tiles += own
    order = np.argsort([tile["attention"] for tile in tiles])
    assert (np.diff(np.array([tile["rank"] for tile in tiles])[order]) >= 0).all()  # one scale for both slides
    row = read_csv(tmp_path / "predictions.csv")
    assert [(one["patient"], one["tiles"]) for one in row] == [(said["patient"], str(sum(counts)))]


def test_fewest_tiles_are_those_of_patients(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fewest = read_json(root / "run" / "run.json")["fewest_tiles"]
    for part in "ab":
        write(tmp_path / f"{part}.h5", np.zeros((fewest - 1, 8), np.float32))
    files = [tmp_path / f"{part}.h5" for part in "ab"]
    assert predict(root / "run", *files, "--patient", "x", "--out", tmp_path / "out", "--json") == 0
    assert shown(capsys)["warnings"] == []
    assert predict(root / "run", files[0], "--out", tmp_path / "out", "--json") == 0
    assert "--patient" in shown(capsys)["warnings"][0]


def test_patients_who_cannot_be_are_refused(root: Path, tmp_path: Path) -> None:
    slide = root / "he" / "p00a.h5"
    with pytest.raises(RestainError, match="folder"):
        predict(root / "run", slide, "--patient", "a/b", "--out", tmp_path)
    with pytest.raises(RestainError, match="p00a: two inputs"):
        predict(root / "run", slide, slide, "--patient", "a", "--out", tmp_path)


# What is written


@pytest.mark.parametrize("name", [".lock", "x" * 300, "ä" * 150, "predictions.csv", "Predictions.CSV", "a\nb", " "])
def test_names_that_no_folder_can_have_are_wrong_use(root: Path, tmp_path: Path, name: str) -> None:
    assert predict(root / "run", root / "he" / "p00a.h5", "--patient", "p00", "--out", tmp_path) == 0
    before = read_json(tmp_path / "p00" / "prediction.json")
    table = (tmp_path / "predictions.csv").read_bytes()
    with pytest.raises(RestainError, match="--patient"):
        predict(root / "run", root / "he" / "p00a.h5", "--patient", name, "--out", tmp_path)
    assert (tmp_path / "predictions.csv").read_bytes() == table
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["p00"]
    assert read_json(tmp_path / "p00" / "prediction.json") == before


def test_a_failure_takes_the_earlier_answer_with_it(root: Path, tmp_path: Path) -> None:
    """Else the next call's table would have an answer that was asked for again and failed."""
    files = [root / "he" / f"{name}.h5" for name in ("p00a", "p00b", "p01a")]
    assert predict(root / "run", *files[:2], "--patient", "p00", "--out", tmp_path) == 0
    assert predict(root / "run", files[0], tmp_path / "none.h5", "--patient", "p00", "--out", tmp_path) == 1
    assert list(tmp_path.rglob("prediction.json")) == []
    assert list(tmp_path.rglob("attention.*")) == []
    assert predict(root / "run", files[2], "--patient", "p01", "--out", tmp_path) == 0
    assert [row["patient"] for row in read_csv(tmp_path / "predictions.csv")] == ["p01"]


def test_the_table_has_the_slides_of_earlier_calls(root: Path, tmp_path: Path) -> None:
    files = [root / "he" / f"p{number:02d}a.h5" for number in range(3)]
    assert predict(root / "run", *files[:2], "--out", tmp_path) == 0
    assert predict(root / "run", files[2], "--patient", "third", "--out", tmp_path) == 0
    (tmp_path / "p01a" / "prediction.json").write_text("{")
    write(tmp_path / "narrow.h5", np.zeros((4, 5), np.float32))
    assert predict(root / "run", tmp_path / "narrow.h5", "--out", tmp_path) == 2
    rows = read_csv(tmp_path / "predictions.csv")
    assert [row["slide"] for row in rows] == [str(files[0]), "p01a", str(files[2]), str(tmp_path / "narrow.h5")]
    assert [row["patient"] for row in rows] == ["", "", "third", ""]
    said = read_json(tmp_path / "p00a" / "prediction.json")
    assert float(rows[0]["p_1+"]) == pytest.approx(said["probabilities"]["1+"])
    assert (rows[0]["predicted"], rows[0]["run"], rows[0]["reason"]) == (said["status"], str(root / "run"), "")
    assert "damaged" in rows[1]["reason"]
    assert "not of the kind" in rows[3]["reason"]


def test_a_failure_is_a_document_too(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(root / "run", tmp_path / "none.h5", "--out", tmp_path / "out", "--json") == 1
    found = shown(capsys)
    assert (found["slide"], found["status"], found["probabilities"]) == (str(tmp_path / "none.h5"), None, {})
    assert "no such file" in found["reason"]
    words = [root / "he" / "p00a.h5", tmp_path / "none.h5", "--patient", "x", "--out", tmp_path / "out", "--json"]
    assert predict(root / "run", *words) == 1
    found = shown(capsys)
    assert (found["patient"], found["status"]) == ("x", None)
    assert "none.h5" in found["reason"]
    assert not (tmp_path / "out" / "x").exists()


def test_memory_is_of_the_slide_or_said_to_be_at_most(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = np.ones((64, 2**17))  # 64 MiB
    assert peak_mib() > block.nbytes / 2**20
    peaks = iter([100.0, 300.0, 300.0, 300.0])  # before and after the first slide, before and after the second
    monkeypatch.setattr("restain.her2.peak.peak_mib", lambda: next(peaks))
    slides = [root / "he" / f"p00{part}.h5" for part in "ab"]
    assert predict(root / "run", *slides, "--out", tmp_path, "--json") == 0
    found = shown(capsys)["results"]
    assert [one["peak_memory_mib"] for one in found] == [300, 300]
    assert [one["peak_memory_exact"] for one in found] == [True, False]


# Features and their slides


@pytest.fixture(scope="module")
def he(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic H&E slide of 896 x 512 px."""
    return rendered(tmp_path_factory.mktemp("slides") / "p00a.ome.tif", "he")


def rendered(path: Path, stain: str) -> Path:
    world = World(SynthOptions(size=1536, seed=11, pen=0, folds=0, bubbles=0), 1)
    return write_slide(path, SlideRenderer(world, stain).region(0, 200, 896, 512).rgb, 0.5)  # type: ignore[arg-type]


def features(path: Path, x: int = 0, mpp: float = 0.5, slide: str = "p00a") -> Path:
    """Features of two tiles of 256 px on a slide of 0.5 um/px (or of ``mpp``)."""
    coords = np.array([[0, 0], [x, 256]])
    rng = np.random.default_rng(1)
    path.parent.mkdir(exist_ok=True)
    values = rng.normal(size=(2, 8)).astype(np.float32)
    write_features(path, FeatureSet(values, coords, 256 * 0.5 / mpp, 0.5, "morphometry", "1", None, slide))
    return path


def test_the_slide_of_features_is_drawn_on(root: Path, he: Path, tmp_path: Path) -> None:
    renamed = features(tmp_path / "renamed.h5")
    assert predict("--slide", he, root / "run", renamed, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "renamed" / "attention.png").exists()
    two = [features(tmp_path / "p00a.h5"), root / "he" / "p01a.h5"]
    assert predict(root / "run", *two, "--slide", he, "--out", tmp_path / "out") == 0
    with pytest.raises(RestainError, match=r"none of the slides of the \.h5 given \(p01a, p02a\)"):
        predict(root / "run", two[1], root / "he" / "p02a.h5", "--slide", he, "--out", tmp_path / "out")
    with pytest.raises(RestainError, match="is for features"):
        predict(root / "run", he, "--slide", he, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "code", "message"),
    [
        ({"slide": "other"}, 2, "are of slide"),
        ({"x": 896}, 2, "896 x 512 px, but .* has a tile at 896, 256"),
        ({"mpp": 0.25}, 2, "another scan"),
    ],
)
def test_the_slide_of_somebody_else_is_refused(
    root: Path, he: Path, tmp_path: Path, file: dict, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = features(tmp_path / ("other.h5" if "slide" in file else "p00a.h5"), **file)
    assert predict(root / "run", path, "--slide", he, "--out", tmp_path / "out") == code
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "out" / path.stem).exists()


def test_a_slide_that_is_not_there_leaves_nothing(root: Path, tmp_path: Path) -> None:
    path = features(tmp_path / "p00a.h5")
    assert predict(root / "run", path, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "p00a").iterdir())) == 3
    assert predict(root / "run", path, "--slide", tmp_path / "p00a.tif", "--out", tmp_path / "out") == 1
    assert list((tmp_path / "out" / "p00a").iterdir()) == []  # nor an earlier answer, which would pass for this one
    assert predict(root / "run", path, "--slide", tmp_path / "p00a.tif", "--out", tmp_path / "new") == 1
    assert not (tmp_path / "new" / "p00a").exists()


@pytest.mark.parametrize("option", [("--encoder", "morphometry"), ("--mpp", "0.5"), ("--min-tissue", "0.4")])
def test_options_of_slides_are_refused_for_features(root: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    with pytest.raises(RestainError, match=f"{option[0]} is for slides"):
        predict(root / "run", root / "he" / "p00a.h5", *option, "--out", tmp_path)


# Slides


def untrained(path: Path, of: FeatureSet, **changed: object) -> Path:
    """A run of an untrained model for features of the kind of ``of``; ``changed`` in what it says of them."""
    recipe = load_recipe("abmil", {"width": 16, "attention_width": 8})
    run = RunFolder(path)
    info = {"task": TASK, "method": "abmil", "classes": list(HER2.names), "features": kind_of(of).document() | changed}
    run.start(info, {"method": "abmil", "model": plain(recipe.model), "training": plain(recipe.training)})
    save_fitted(run, Fitted(small_model("abmil", dim=of.width), None, 1.0, 0, [], torch.device("cpu")))
    run.set_status(status="done")
    return path


def made(slide: Path, path: Path, min_tissue: float) -> FeatureSet:
    with open_slide(slide) as opened:
        extract_slide(opened, path, make_encoder("morphometry"), TileOptions(min_tissue=min_tissue), path.stem)
    return read_features(path)


@pytest.fixture(scope="module")
def cut(he: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[float, FeatureSet]:
    """Features of the slide by the least share of tissue: more tiles where less is asked for."""
    folder = tmp_path_factory.mktemp("cut")
    found = {share: made(he, folder / f"{share}.h5", share) for share in (0.05, 0.5)}
    assert len(found[0.05]) > len(found[0.5])
    return found


@pytest.mark.parametrize(("known", "given", "used"), [(0.05, None, 0.05), (None, 0.05, 0.05), (None, None, 0.5)])
def test_tiles_of_a_slide_are_cut_as_the_runs_were(
    he: Path,
    cut: dict[float, FeatureSet],
    tmp_path: Path,
    known: float | None,
    given: float | None,
    used: float,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = untrained(tmp_path / "run", cut[0.5], min_tissue=known)
    words = [] if given is None else ["--min-tissue", given]
    assert predict(run, he, "--out", tmp_path / "out", "--json", *words) == 0
    found = shown(capsys)
    wanted = answers(load_predictor(run), [cut[used]])[0].mean(0)
    assert list(found["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=1e-6)
    assert found["tiles"] == len(cut[used])
    doubts = [line for line in found["warnings"] if "--min-tissue" in line]
    assert len(doubts) == (known is None and given is None)


@pytest.mark.parametrize(
    ("changed", "words", "message"),
    [
        ({"min_tissue": 0.3}, ["--min-tissue", "0.5"], "at least 0.3"),
        ({"encoder": "unknown", "version": ""}, [], "does not say which encoder"),
        ({"encoder": "plip", "version": ""}, [], "encoder plip, whose weights"),
        ({"encoder": "plip", "version": ""}, ["--encoder", "morphometry"], "learned from encoder plip, this is morph"),
        ({"tile_px": 0}, [], "does not say how large its tiles are"),
    ],
)
def test_slides_that_cannot_be_read_as_the_runs_were(
    he: Path,
    cut: dict[float, FeatureSet],
    tmp_path: Path,
    changed: dict,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = untrained(tmp_path / "run", cut[0.5], **changed)
    assert predict(run, he, "--out", tmp_path / "out", "--json", *words) == 2
    assert message in shown(capsys)["reason"]


def test_an_ihc_gets_no_status(
    cut: dict[float, FeatureSet], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ihc = rendered(tmp_path / "p00a.ome.tif", "ihc")
    run = untrained(tmp_path / "run", cut[0.5])
    assert predict(run, ihc, "--out", tmp_path / "out", "--json") == 1
    assert "does not look like an H&E" in shown(capsys)["reason"]
    path = features(tmp_path / "p00a.h5")
    assert predict(root / "run", path, "--slide", ihc, "--out", tmp_path / "out", "--json") == 1
    assert "does not look like an H&E" in shown(capsys)["reason"]
    encoder = make_encoder("morphometry", Stain.ihc)
    assert encoder.names
    values, places = np.zeros((1, len(encoder.names)), np.float32), np.zeros((1, 2), np.int64)
    of_ihc = FeatureSet(values, places, 256, 0.5, "morphometry", encoder.version, encoder.names)
    write_features(tmp_path / "ihc.h5", of_ihc)
    assert predict(run, tmp_path / "ihc.h5", "--out", tmp_path / "out", "--json") == 2
    assert "not of the kind" in shown(capsys)["reason"]
    assert not list((tmp_path / "out").glob("*/*"))


def test_advice_names_no_option_that_predict_lacks(
    cut: dict[float, FeatureSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained(tmp_path / "run", cut[0.5])
    coarse = write_slide(tmp_path / "coarse.ome.tif", np.full((300, 300, 3), (190, 120, 170), np.uint8), 4.0)
    blank = write_slide(tmp_path / "blank.ome.tif", np.full((600, 600, 3), 240, np.uint8), 0.5)
    little = np.full((512, 512, 3), 243, np.uint8)
    little[20:130, 20:130] = np.random.default_rng(0).integers(0, 40, (110, 110, 3)) + np.array([180, 100, 160])
    specks = write_slide(tmp_path / "specks.ome.tif", little, 0.5)
    assert predict(run, coarse, blank, specks, "--out", tmp_path / "out", "--json") == 1
    found = shown(capsys)["failures"]
    assert "Give a finer scan." in found[str(coarse)]
    assert "no tissue was found" in found[str(blank)]
    assert "the best has" in found[str(specks)]
    assert not any("--tile" in reason or "--min" in reason for reason in found.values())


def test_what_an_older_answer_left_goes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> list[str]:
        return sorted(str(file.relative_to(tmp_path / "p00a")) for file in (tmp_path / "p00a").rglob("*"))

    files = [root / "he" / f"p0{number}.h5" for number in ("0a", "0b", "1a")]
    maps = ["attention.geojson", "attention.png"]
    assert predict(root / "run", files[0], "--out", tmp_path) == 0
    assert left() == [*maps, "prediction.json"]
    assert predict(root / "run", *files, "--patient", "p00a", "--out", tmp_path) == 0
    assert predict(root / "run", *files[:2], "--patient", "p00a", "--out", tmp_path) == 0
    assert left() == [
        *(path for one in ("p00a", "p00b") for path in (one, *(f"{one}/{n}" for n in maps))),
        "prediction.json",
    ]
    whole = answers

    def without(*args: object) -> tuple[np.ndarray, None]:
        return whole(*args)[0], None  # type: ignore[arg-type]

    monkeypatch.setattr("restain.her2.predict.answers", without)
    assert predict(root / "run", files[0], "--out", tmp_path) == 0
    assert left() == ["prediction.json"]
    assert "no heat map" in read_json(tmp_path / "p00a" / "prediction.json")["warnings"][-1]
