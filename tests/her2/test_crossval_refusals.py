"""What a cross-validation refuses, warns of and does not take for another: folders, settings, pretrained weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from restain.cli import her2_crossval, her2_train
from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json, write_csv
from restain.her2.crossval_scores import Training, _seed_shares, differences, score_entry
from restain.her2.models.pama_pretraining import Config, MaskedAutoencoder
from restain.her2.pretrained import read_pretrained
from restain.her2.status_scores import resamples
from tests.her2.cohort import write_cohort, write_rows

WIDTH = 8
FAST = ["--set", "width=16", "training.epochs=3", "training.min_epochs=1", "training.patience=2"]
PAMA = [*FAST, "depth=1", "heads=2", "max_anchors=4"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, patients=20, width=WIDTH, ihc=True)
    return folder


def crossval(root: Path, out: Path, models: str, *more: str, cohort: str = "cohort.csv", ihc: bool = False) -> int:
    words = ["--cohort", str(root / cohort), "--features", str(root / "he"), "--models", models, "--out", str(out)]
    words += ["--ihc-features", str(root / "ihc")] if ihc else []
    return her2_crossval.run([*words, "--folds", "2", "--resamples", "100", "--workers", "1", *more])


def encoder(path: Path, **changed: int) -> Path:
    torch.manual_seed(3)
    config = Config(**({"width": 16, "depth": 1, "heads": 2, "max_anchors": 4, "decoder_width": 16} | changed))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(MaskedAutoencoder(config, WIDTH).encoder_state(), path)
    return path


# Pretrained weights


def test_an_encoder_of_another_size_is_refused_and_one_that_fits_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pama", "--cohort", str(root / "cohort.csv"), "--features", str(root / "he"), "--val", "0.3"]
    words += ["--model.width", "16", "--model.depth", "1", "--model.heads", "2", "--training.epochs", "1"]
    wrong = encoder(tmp_path / "wrong.safetensors", width=32)
    with pytest.raises(RestainError, match=r"another size than the model: .*\[32\] instead of \[16\]"):
        her2_train.run([*words, "--out", str(tmp_path / "a"), "--init", str(wrong)])
    right = encoder(tmp_path / "right.safetensors")
    assert her2_train.run([*words, "--out", str(tmp_path / "b"), "--init", str(right)]) == 0
    assert "tensors taken" in capsys.readouterr().err
    with pytest.raises(RestainError, match="holds a run of other settings"):  # without --init it is another training
        her2_train.run([*words, "--out", str(tmp_path / "b")])


def test_models_without_an_encoder_start_as_always(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = encoder(tmp_path / "run" / "checkpoints" / "encoder.safetensors")
    (tmp_path / "run" / "run.json").write_text(
        '{"task": "her2-pretraining", "method": "pama", "split": {"train": ["p000"], "val": ["p001"]}}'
    )
    assert crossval(root, tmp_path / "out", "pama,abmil", *PAMA, "--init", str(init)) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "not used by abmil, which start as always" in said
    for model, wanted in (("pama", True), ("abmil", False)):
        info = read_json(tmp_path / "out" / model / "seed_0" / "fold_1" / "run.json")
        assert (info["init"] is not None) == wanted
    tested = set(read_json(tmp_path / "out" / "plan.json")["plan"]["test"])
    assert ("without labels) of" in said) == bool(tested & {"p000", "p001"})
    with pytest.raises(RestainError, match=r"abmil starts from no pretrained encoder; these do: .*pama"):
        crossval(root, tmp_path / "none", "abmil", *FAST, "--init", str(init))


def test_test_patients_that_were_pretrained_on_are_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = encoder(tmp_path / "run" / "checkpoints" / "encoder.safetensors")
    names = [row["patient"] for row in read_csv(root / "cohort.csv")]
    listed = ", ".join(f'"{name}"' for name in names)
    (tmp_path / "run" / "run.json").write_text(
        f'{{"task": "her2-pretraining", "method": "pama", "split": {{"train": [{listed}]}}}}'
    )
    assert crossval(root, tmp_path / "out", "pama", *PAMA, "--init", str(init)) == 0
    assert "(without labels) of 6 test patients" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{",
        '{"task": "her2", "split": {"train": ["p000"]}}',
        '{"task": "her2-pretraining", "split": {"train": 1}}',
        '{"task": "her2-pretraining", "split": ["p000"]}',
    ],
)
def test_a_run_of_something_else_says_nothing_of_a_pretraining(text: str, tmp_path: Path) -> None:
    init = encoder(tmp_path / "work" / "encoder.safetensors")
    (tmp_path / "run.json").write_text(text)
    assert read_pretrained(init).seen is None


def test_the_run_is_found_from_any_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"task": "her2-pretraining", "split": {"train": ["p000"], "val": ["p001"]}}'
    init = encoder(tmp_path / "run" / "checkpoints" / "encoder.safetensors")
    (tmp_path / "run" / "run.json").write_text(text)
    (init.parent / "run.json").write_text(text.replace("p000", "p999"))  # lies in the working folder, is not its run
    monkeypatch.chdir(init.parent)
    assert read_pretrained(Path(init.name)).seen == frozenset({"p000", "p001"})


# Folders, settings, tables from elsewhere


def test_a_folder_of_something_else_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("mine")
    with pytest.raises(RestainError, match="not empty and holds no cross-validation"):
        crossval(root, tmp_path, "mean_pool", *FAST)
    assert (tmp_path / "predictions.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "training.seed=5"], "use --seed and --seeds"),
        (["--sweep", "training.seed=1,2"], "use --seed and --seeds"),
        (["--set", "dropout=["], "is no value of a setting"),
        (["--sweep", "dropout=0,[1"], "is no value of a setting"),
    ],
)
def test_settings_that_would_change_nothing_or_are_none(
    root: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(RestainError, match=said):
        crossval(root, tmp_path / "out", "abmil", *words)


def test_a_patient_twice_or_a_short_row_in_predictions_from_elsewhere(root: Path, tmp_path: Path) -> None:
    names = [row["patient"] for row in read_csv(root / "cohort.csv")]
    rows = [{"patient": name, "predicted": "0"} for name in names]
    write_rows(tmp_path / "twice.csv", [*rows, rows[0]])
    with pytest.raises(RestainError, match="patient p000 is in it more than once"):
        crossval(root, tmp_path / "a", "mean_pool", *FAST, "--predictions", f"other={tmp_path / 'twice.csv'}")
    lines = "\n".join(["patient,predicted", *names])
    (tmp_path / "short.csv").write_text(lines)
    with pytest.raises(RestainError, match=r"short.csv: patient p0"):
        crossval(root, tmp_path / "b", "mean_pool", *FAST, "--predictions", f"other={tmp_path / 'short.csv'}")


def test_a_fold_whose_predictions_were_cut_off_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crossval(root, tmp_path / "out", "mean_pool", *FAST) == 0
    file = tmp_path / "out" / "mean_pool" / "seed_0" / "fold_2" / "predictions.csv"
    rows = read_csv(file)
    write_csv(file, list(rows[0]), rows[:-1])
    assert crossval(root, tmp_path / "out", "mean_pool", *FAST) == 1
    assert "lacks 1 patients" in " ".join(capsys.readouterr().err.split())
    shutil.rmtree(file.parent)
    assert crossval(root, tmp_path / "out", "mean_pool", *FAST) == 0


def test_some_patients_without_ihc_are_said_and_none_with_it_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read_csv(root / "cohort.csv")
    write_rows(root / "some.csv", [{**row, "ihc": "" if i % 3 == 0 else row["ihc"]} for i, row in enumerate(rows)])
    words = [*PAMA, "prompts=3"]
    assert crossval(root, tmp_path / "out", "ipca", *words, cohort="some.csv", ihc=True) == 0
    assert "of these only the H&E is learned from" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(RestainError, match="ipca: learns from IHC, but 14 of 14 patients"):
        crossval(root, tmp_path / "none", "ipca", *words)


# Statistics


def trainings(seeds: int, patients: int, classes: int, shift: float) -> list[Training]:
    rng = np.random.default_rng(5)
    labels = np.tile(np.arange(classes), patients)
    found = []
    for seed in range(seeds):
        raw = rng.normal(size=(len(labels), classes))
        raw[np.arange(len(labels)), labels] += 1 + shift * seed
        values = np.exp(raw)
        found.append(Training(1, seed, values / values.sum(1, keepdims=True)))
    return found


def test_no_p_where_a_class_has_few_patients() -> None:
    for patients, computed in ((4, False), (5, True)):
        labels = np.tile(np.arange(3), patients)
        weights = resamples(len(labels), 200, 0)
        one, two = (score_entry(name, "", "", trainings(1, patients, 3, 0), labels, weights) for name in "ab")
        tested, _ = differences([one, two], one, labels, weights)
        assert all((test.p is not None) == computed for test in tested)
        assert all(test.low is not None for test in tested)


def test_seeds_that_differ_widen_the_interval() -> None:
    """Three seeds of which each is better than the last: the interval over patients alone would be too short."""
    labels = np.tile(np.arange(3), 200)
    weights = resamples(len(labels), 1000, 0)
    apart = trainings(3, 200, 3, 1.5)
    interval = score_entry("a", "", "", apart, labels, weights).test["acc"]
    merged = [Training(number + 1, 0, one.test) for number, one in enumerate(apart)]  # as folds of one seed
    alone = score_entry("b", "", "", merged, labels, weights).test["acc"]
    assert interval.mean == pytest.approx(alone.mean)
    assert interval.high - interval.low > 2 * (alone.high - alone.low)  # type: ignore[operator]


def test_seeds_of_which_three_are_drawn_spread_as_much_as_their_mean_does() -> None:
    """The variance of a mean of three numbers is a third of theirs (n - 1); drawn shares must give that."""
    values = np.array([0.2, 0.5, 0.9])
    shares = _seed_shares([0, 1, 2, 0, 1, 2], 200_000)
    assert shares.sum(1) == pytest.approx(1)
    found = (shares * np.tile(values, 2)).sum(1)
    assert found.mean() == pytest.approx(values.mean(), abs=2e-3)
    assert found.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.02)


def test_another_start_is_refused_before_the_tables_are_written(root: Path, tmp_path: Path) -> None:
    init = encoder(tmp_path / "one.safetensors")
    assert crossval(root, tmp_path / "out", "mean_pool,pama", *PAMA, "--init", str(init)) == 0
    before = (tmp_path / "out" / "summary.csv").read_bytes()
    with pytest.raises(RestainError, match="holds a run of other settings"):
        crossval(root, tmp_path / "out", "mean_pool,pama", *PAMA)
    with pytest.raises(RestainError, match=r"config\.training\.rate: was"):
        crossval(root, tmp_path / "out", "mean_pool,pama", *PAMA, "training.rate=0.1", "--init", str(init))
    assert (tmp_path / "out" / "summary.csv").read_bytes() == before
