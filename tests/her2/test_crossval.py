"""Cross-validation, its tables and tests, and prediction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

from restain.cli import her2_crossval, her2_mil, her2_predict, her2_train
from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json
from restain.her2.crossval_scores import Training, differences, holm, score_entry
from restain.her2.status_scores import SCORES, resamples, roc_curve, status_scores
from tests.her2.cohort import LEVELS, write, write_cohort, write_rows

FAST = ["--set", "width=16", "training.epochs=6", "training.min_epochs=2", "training.patience=3", "training.rate=0.005"]


def sample(patients: int = 60, seed: int = 0, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, patients)
    raw = rng.normal(size=(patients, 4))
    raw[np.arange(patients), labels] += signal
    values = np.exp(raw.round(1))  # ties
    return values / values.sum(1, keepdims=True), labels


def by_sklearn(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    said = values.argmax(1)
    return {
        "acc": accuracy_score(labels, said),
        "macro_auc": roc_auc_score(labels, values, multi_class="ovr"),
        "weighted_auc": roc_auc_score(labels, values, multi_class="ovr", average="weighted"),
        "macro_f1": f1_score(labels, said, average="macro"),
        "weighted_f1": f1_score(labels, said, average="weighted"),
        "kappa": cohen_kappa_score(labels, said, weights="quadratic"),
    }


def test_scores_are_sklearns_also_of_a_resample() -> None:
    values, labels = sample()
    found = status_scores(values, labels)
    assert {key: pytest.approx(value[0]) for key, value in found.items()} == by_sklearn(values, labels)
    weights = resamples(60, 5, seed=1)
    found = status_scores(values, labels, weights)
    for row in range(5):
        index = np.repeat(np.arange(60), weights[row].astype(int))
        for key, value in by_sklearn(values[index], labels[index]).items():
            assert found[key][row] == pytest.approx(value), key


def test_scores_of_an_absent_class_leave_it_out() -> None:
    values, labels = sample()
    kept = labels != 3
    found = status_scores(values[kept], labels[kept])
    areas = [roc_auc_score(labels[kept] == k, values[kept][:, k]) for k in range(3)]
    assert found["macro_auc"][0] == pytest.approx(np.mean(areas))
    one = status_scores(values[:3], np.zeros(3, int))
    assert np.isnan(one["macro_auc"][0])


def test_a_roc_curve_encloses_its_area() -> None:
    values, labels = sample()
    grid = np.linspace(0, 1, 20001)
    curve = roc_curve(values[:, 2], labels == 2, grid)
    assert curve is not None
    area = float(((curve[1:] + curve[:-1]) / 2).mean())
    assert area == pytest.approx(roc_auc_score(labels == 2, values[:, 2]), abs=1e-3)
    assert roc_curve(values[:, 2], labels == 9, grid) is None


def test_holm() -> None:
    # Holm 1979: 0.01 * 4, 0.02 * 3, 0.03 * 2, then not below those before
    assert holm([0.03, 0.01, None, 0.04, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_a_better_model_is_found_better_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 25)

    def trainings(signal: float) -> list[Training]:
        found = []
        for fold in range(3):
            raw = rng.normal(size=(100, 4))
            raw[np.arange(100), labels] += signal
            values = np.exp(raw)
            found.append(Training(fold + 1, 0, values / values.sum(1, keepdims=True)))
        return found

    weights = resamples(100, 1000, 0)
    good, bad, equal = (
        score_entry(n, "", "", trainings(s), labels, weights) for n, s in (("a", 2), ("b", 0.3), ("c", 2))
    )
    tested, mcnemar = differences([good, bad, equal], good, labels, weights)
    found = {(one.name, one.score): one for one in tested}
    worse = found["b", "weighted_auc"]
    assert worse.difference is not None and worse.high is not None and worse.p_holm is not None  # noqa: PT018
    assert worse.difference < worse.high < 0
    assert worse.p_holm < 0.01
    same = found["c", "weighted_auc"]
    assert same.low is not None and same.high is not None and same.low < 0 < same.high  # noqa: PT018
    assert next(one for one in mcnemar if one.name == "b").p_holm < 0.01
    assert good.test["acc"].low < good.test["acc"].mean < good.test["acc"].high  # type: ignore[operator]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crossval")
    write_cohort(root, 48, ihc=True)
    return root


def crossval(root: Path, out: Path, models: str, *more: str) -> int:
    words = ["--cohort", root / "cohort.csv", "--features", root / "he", "--out", out, "--models", models]
    return her2_crossval.run([*map(str, words), "--folds", "3", "--resamples", "200", *more])


def shown(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def done(root: Path) -> Path:
    out = root / "out"
    assert crossval(root, out, "mean_pool,abmil", *FAST) == 0
    return out


def test_all_tables_are_written_and_agree(root: Path, done: Path) -> None:
    document = read_json(done / "summary.json")
    assert document["models"]["abmil"]["test"]["weighted_auc"]["mean"] > 0.8
    rows = [row for row in read_csv(done / "predictions.csv") if row["model"] == "abmil"]
    aucs = []
    for fold in ("1", "2", "3"):
        own = [row for row in rows if row["fold"] == fold]
        values = np.array([[float(row[f"p_{name}"]) for name in LEVELS] for row in own])
        labels = [LEVELS.index(row["her2"]) for row in own]
        aucs.append(roc_auc_score(labels, values, multi_class="ovr", average="weighted"))
    assert document["models"]["abmil"]["test"]["weighted_auc"]["mean"] == pytest.approx(np.mean(aucs))
    assert document["models"]["abmil"]["test"]["weighted_auc"]["deviation"] == pytest.approx(np.std(aucs, ddof=1))
    confusion = np.array(document["models"]["abmil"]["confusion"])
    assert confusion.sum() == pytest.approx(document["test_patients"], abs=1e-3)
    truth = {row["patient"]: row["her2"] for row in read_csv(root / "cohort.csv")}
    assert all(truth[row["patient"]] == row["her2"] for row in rows)
    page = (done / "report.html").read_text()
    assert "abmil" in page
    assert "Holm" in page
    for name in ("summary.csv", "scores.csv", "comparisons.csv", "roc.csv", "confusion.csv", "roc.png"):
        assert (done / name).stat().st_size > 100
    assert {row["class"] for row in read_csv(done / "roc.csv")} == {*LEVELS, "macro"}


def test_a_second_call_trains_nothing_and_another_model_may_be_added(
    root: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = done / "abmil" / "seed_0" / "fold_1" / "checkpoints" / "best.safetensors"
    before, summary = weights.stat().st_mtime_ns, read_json(done / "summary.json")["models"]["abmil"]
    assert crossval(root, done, "abmil,clam_sb", *FAST, "--workers", "2", "--json") == 0
    found = shown(capsys)
    assert set(found["models"]) == {"abmil", "clam_sb"}
    assert found["models"]["abmil"]["test"] == summary["test"]
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(RestainError, match="holds a cross-validation of other"):
        crossval(root, done, "abmil", *FAST, "--seed", "5")


def test_sweeps_and_predictions_from_elsewhere(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"patient": row["patient"], "predicted": row["her2"]} for row in read_csv(root / "cohort.csv")]
    write_rows(tmp_path / "perfect.csv", rows)
    small = ["--set", "width=8", "heads=2", "depth=1", "prompts=2", "training.epochs=1", "training.min_epochs=1"]
    more = ["--ihc-features", str(root / "ihc"), "--sweep", "mask_ratio=0,.5", "--folds", "2", "--json"]
    words = [*small, *more, "--predictions", f"virtual={tmp_path / 'perfect.csv'}", "--against", "virtual"]
    assert crossval(root, tmp_path / "out", "ipca,mean_pool", *words) == 0
    found = shown(capsys)
    assert list(found["models"]) == ["ipca[mask_ratio=0]", "ipca[mask_ratio=0.5]", "mean_pool", "virtual"]
    assert found["models"]["virtual"]["test"]["kappa"]["mean"] == 1
    assert found["models"]["ipca[mask_ratio=0]"]["learns"] == "H&E+IHC"
    assert found["reference"] == "virtual"
    with pytest.raises(RestainError, match="no features"):
        crossval(root, tmp_path / "other", "ipca")
    with pytest.raises(RestainError, match="colour"):
        crossval(root, tmp_path / "other", "abmil", "--set", "colour=2")


def test_predict_needs_the_he_alone(root: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patient = read_json(done / "plan.json")["plan"]["test"][0]
    file = root / "he" / f"{patient}_he.h5"
    folder = done / "abmil"
    assert her2_predict.run([str(folder), str(file), "--out", str(tmp_path), "--json"]) == 0
    found = shown(capsys)
    rows = read_csv(done / "predictions.csv")
    own = [row for row in rows if row["model"] == "abmil" and row["patient"] == patient]
    mean = {name: np.mean([float(row[f"p_{name}"]) for row in own]) for name in LEVELS}
    assert found["probabilities"] == pytest.approx(mean, abs=1e-6)
    assert found["status"] == max(mean, key=mean.__getitem__)
    assert found["models"] == 3
    assert found["peak_memory_mib"] > 10
    document = read_json(tmp_path / file.stem / "attention.geojson")
    assert len(document["features"]) == found["tiles"]
    ring = document["features"][1]["geometry"]["coordinates"][0]
    assert ring == [[512, 0], [1024, 0], [1024, 512], [512, 512], [512, 0]]
    total = sum(one["properties"]["measurements"]["attention"] for one in document["features"])
    assert total == pytest.approx(1, abs=1e-4)
    picture = cv2.imread(str(tmp_path / file.stem / "attention.png"))
    assert picture is not None
    assert picture.shape[1] >= 480
    assert her2_predict.run([str(folder / "seed_0" / "fold_2"), str(file), "--out", str(tmp_path / "one")]) == 0


@pytest.mark.parametrize("model", ["abmil", "clam_sb"])
def test_one_tile_is_predicted_with_a_warning_and_other_features_are_refused(
    root: Path, done: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crossval(root, done, model, *FAST)
    capsys.readouterr()
    run = str(done / model)
    write(tmp_path / "one.h5", np.zeros((1, 8), np.float32))
    assert her2_predict.run([run, str(tmp_path / "one.h5"), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = shown(capsys)
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    assert "only 1 tiles" in found["warnings"][0]
    write(tmp_path / "narrow.h5", np.zeros((4, 5), np.float32))
    words = [run, str(tmp_path / "narrow.h5"), str(tmp_path / "one.h5"), "--out", str(tmp_path / "two"), "--json"]
    assert her2_predict.run(words) == 1
    captured = capsys.readouterr()
    assert "narrow.h5" in captured.err
    assert len(json.loads(captured.out)["results"]) == 1
    with pytest.raises(RestainError, match="not a run"):
        her2_predict.run([str(tmp_path), str(tmp_path / "one.h5"), "--out", str(tmp_path / "x")])


def test_train_and_predict_one_run(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: Sequence[object] = [
        "abmil",
        "--cohort",
        root / "cohort.csv",
        "--features",
        root / "he",
        "--out",
        tmp_path / "r",
    ]
    more = ["--model.width", "16", "--training.epochs", "3", "--json"]
    assert her2_train.run([*map(str, words), *more]) == 0
    found = shown(capsys)
    assert (found["task"], found["method"], found["status"]) == ("her2", "abmil", "done")
    assert not set(found["split"]["train"]) & set(found["split"]["val"])
    file = str(root / "he" / "p000_he.h5")
    assert her2_predict.run([str(tmp_path / "r"), file, "--out", str(tmp_path / "out")]) == 0


def test_every_score_has_a_heading() -> None:
    assert list(status_scores(*sample())) == list(SCORES)


def test_a_classic_set_is_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for bag in range(24):
        values = rng.normal(size=(4, 3))
        if bag % 2:
            values[rng.integers(4), 1] += 6  # one instance makes the bag
        lines += [",".join([str(bag % 2), f"b{bag}", *(f"{value:.3f}" for value in row)]) for row in values]
    (tmp_path / "toy.csv").write_text("\n".join(lines))
    assert her2_mil.run([str(tmp_path / "toy.csv"), "--models", "abmil", "--folds", "4", "--runs", "1", "--json"]) == 0
    assert shown(capsys)["models"]["abmil"]["accuracy"] > 0.85
    (tmp_path / "bad.csv").write_text("0,a,1\n1,a,2\n")
    with pytest.raises(RestainError, match="bag a has labels 0, 1"):
        her2_mil.run([str(tmp_path / "bad.csv")])
