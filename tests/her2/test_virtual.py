"""Virtual IHC of patients: stained, scored, pooled by patient; and a slide predicted with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from restain.cli import her2_crossval, her2_predict, her2_virtual
from restain.core.errors import RestainError
from restain.core.files import read_csv, read_json, write_csv
from restain.core.runs import RunFolder
from restain.data import Augmentation
from restain.data.pairs_csv import write_pairs_csv
from restain.her2.fusion import Pool, Reader, percent_rows
from restain.her2.virtual import training_patients
from restain.her2.virtual_table import SlideScore, read_virtual, write_table
from restain.slides import read_image, write_image
from restain.stains.her2_rule import LEVELS
from restain.training.batches import BatchOptions
from restain.training.options import Keep, TrainingOptions
from restain.training.run import train
from tests.her2.cohort import write, write_cohort
from tests.her2.virtual_tables import percentages, write_virtual

from ..her2_field import paint
from ..infer.conftest import SMALL, write_run, write_slide
from ..pairs import write_pairs


class Copy(torch.nn.Module):
    """A stainer that hands on what it is given: here the "H&E" slides are painted IHC."""

    multiple, least, margin = 1, 1, 0

    def stain(self, he: torch.Tensor) -> torch.Tensor:
        return he


@pytest.fixture
def stainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    for where in ("restain.her2.virtual", "restain.infer.apply"):
        monkeypatch.setattr(f"{where}.load_stainer", lambda *_: Copy())
    return write_run(tmp_path / "run")


def slide(path: Path, strong: int, rows: int = 8, columns: int = 8) -> Path:
    """A slide of cells on a grid, in ``strong`` rows with intense complete membranes."""
    density = np.zeros((rows, columns))
    density[:strong] = 1.2
    return write_slide(path, paint(density)[0], 0.5)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    slide(tmp_path / "a1.ome.tif", 8)
    slide(tmp_path / "a2.ome.tif", 0, 12)
    slide(tmp_path / "b.ome.tif", 0)
    rows = [{"patient": name[0], "he": f"{name}.ome.tif"} for name in ("a1", "a2", "b")]
    write_csv(tmp_path / "cohort.csv", ["patient", "he"], rows)
    return tmp_path / "cohort.csv"


def run(*words: object) -> int:
    return her2_virtual.run([str(word) for word in words])


def test_a_cohort_is_stained_scored_and_pooled_and_goes_on(
    stainer: RunFolder, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(stainer.path, cohort, "--out", out, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "names no dataset" in captured.err
    rows = {row["patient"]: row for row in read_csv(out / "virtual.csv")}
    assert list(rows) == ["a", "b"]
    cells = [read_json(out / "scores" / name / "score.json")["cells"]["by_class"] for name in ("a-1", "a-2")]
    for level in LEVELS:
        share = 100 * sum(one[level] for one in cells) / sum(sum(one.values()) for one in cells)
        assert float(rows["a"][level]) == pytest.approx(share, abs=0.005)
    assert (rows["a"]["score"], rows["a"]["slide"], rows["b"]["score"]) == ("3+", "a-1; a-2", "0")
    assert found["patients"][1]["score"] == "0"
    assert (out / "virtual" / "a-1.ome.tif").exists()
    assert (out / "scores" / "b" / "picture.png").exists()
    assert read_virtual(out).trained_on is None
    before = (out / "virtual" / "b.ome.tif").stat().st_mtime_ns
    (out / "virtual" / "a-2.ome.tif").unlink()
    assert run(stainer.path, cohort, "--out", out) == 0
    assert (out / "virtual" / "a-2.ome.tif").exists()
    assert (out / "virtual" / "b.ome.tif").stat().st_mtime_ns == before
    slide(tmp_path / "c.ome.tif", 8)
    more = ("--out", out, "--keep-slides", "false", "--other-patients")
    assert run(stainer.path, tmp_path / "c.ome.tif", *more) == 0
    said = read_virtual(out)
    assert said.trained_on == frozenset()
    assert "the user said" in said.doubts[0]
    assert [row["patient"] for row in read_csv(out / "virtual.csv")] == ["a", "b", "c"]
    assert not (out / "virtual" / "c.ome.tif").exists()
    other = write_run(tmp_path / "other", mpp=0.5)
    weights = next(other.checkpoints.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(RestainError, match=r"made otherwise[\s\S]*weights"):
        run(other.path, cohort, "--out", out)
    with pytest.raises(RestainError, match="made otherwise"):
        run(stainer.path, cohort, "--out", out, "--tta")


def test_what_fails_or_has_no_score_is_named(
    stainer: RunFolder, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.ome.tif").write_bytes(b"none")
    slide(tmp_path / "a1.ome.tif", 2, 2, 3)  # too few cells
    assert run(stainer.path, cohort, "--out", tmp_path / "out", "--json") == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document["failures"]) == ["b"]
    assert "b.ome.tif" in captured.err
    rows = {row["patient"]: row for row in read_csv(tmp_path / "out" / "virtual.csv")}
    assert rows["b"]["score"] == ""
    assert "b.ome.tif" in rows["b"]["reason"]
    assert rows["a"]["score"] == "0"
    assert "left out: a-1: " in rows["a"]["reason"]
    slide(tmp_path / "b.ome.tif", 0)
    assert run(stainer.path, cohort, "--out", tmp_path / "out") == 1  # a-1 still has no score
    assert next(row for row in read_csv(tmp_path / "out" / "virtual.csv") if row["patient"] == "b")["score"] == "0"


# One --out in several calls


def cohort_of(path: Path, **slides: str) -> Path:
    """A cohort of patient P: name of the row's H&E by nothing that matters."""
    write_csv(path, ["patient", "he"], [{"patient": "P", "he": f"{he}.ome.tif"} for he in slides.values()])
    return path


def counted(out: Path) -> dict[str, str]:
    (row,) = read_csv(out / "virtual.csv")
    return {name: row[name] for name in ("patient", "counted", *LEVELS)}


def test_a_slide_counts_once_whatever_the_cohort_calls_it(
    stainer: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cohort calls a patient's only slide P, and several P-1, P-2."""
    slide(tmp_path / "s0.ome.tif", 8)
    slide(tmp_path / "s2.ome.tif", 0, 5)
    one = cohort_of(tmp_path / "c1.csv", a="s0")
    two = cohort_of(tmp_path / "c2.csv", a="s0", b="s2")
    turned = cohort_of(tmp_path / "turned.csv", a="s2", b="s0")
    fresh = tmp_path / "fresh"
    assert run(stainer.path, two, "--out", fresh) == 0
    wanted = counted(fresh)
    assert run(stainer.path, one, "--out", tmp_path / "grows") == 0
    alone = int(counted(tmp_path / "grows")["counted"])
    assert 0 < alone < int(wanted["counted"])
    assert run(stainer.path, two, "--out", tmp_path / "grows") == 0
    assert counted(tmp_path / "grows") == wanted
    for left in ("virtual/P.ome.tif", "scores/P", ".state/P.json"):
        assert not (tmp_path / "grows" / left).exists()
    assert [row["image"] for row in read_csv(tmp_path / "grows" / "scores" / "scores.csv")] == [
        str(tmp_path / "grows" / "virtual" / f"P-{number}.ome.tif") for number in (1, 2)
    ]
    assert run(stainer.path, turned, "--out", tmp_path / "grows") == 0
    assert counted(tmp_path / "grows") == wanted
    capsys.readouterr()
    assert run(stainer.path, one, "--out", fresh) == 0
    assert counted(fresh) == wanted  # the other slide is of an earlier call, and that is said
    said = next(line for line in capsys.readouterr().err.splitlines() if "earlier calls count too" in line)
    assert "s2.ome.tif" in said
    assert "s0.ome.tif" not in said
    slides = read_json(fresh / "virtual.json")["slides"]
    assert sorted(Path(found["he"]).name for found in slides) == ["s0.ome.tif", "s2.ome.tif"]


def test_an_he_that_counts_twice_is_refused(stainer: RunFolder, tmp_path: Path) -> None:
    slide(tmp_path / "s0.ome.tif", 8)
    (tmp_path / "link.ome.tif").symlink_to(tmp_path / "s0.ome.tif")
    twice = cohort_of(tmp_path / "c.csv", a="s0", b="link")
    with pytest.raises(RestainError, match="twice for patient P"):
        run(stainer.path, twice, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    slides = [SlideScore(name, "P", "/s0.tif", "3+", (10, 0, 0, 90), "intense") for name in ("P", "P-1")]
    with pytest.raises(RestainError, match="twice for patient P"):
        write_table(tmp_path / "t" / "virtual.csv", slides)
    table = write_virtual(tmp_path / "v", percentages({"P": 3}))
    document = read_json(table / "virtual.json")
    for he, error in (("/s0.tif", "twice for patient P"), (None, "not what")):
        one = {"patient": "P", "he": he} if he else {"patient": "P"}
        (table / "virtual.json").write_text(json.dumps(document | {"slides": [one, one]}))
        with pytest.raises(RestainError, match=error):
            read_virtual(table)


def test_another_slide_of_the_same_name_is_refused(stainer: RunFolder, tmp_path: Path) -> None:
    for name, strong in (("a", 8), ("b", 0)):
        (tmp_path / name).mkdir()
        slide(tmp_path / name / "he.ome.tif", strong)
    out = tmp_path / "out"
    assert run(stainer.path, tmp_path / "a" / "he.ome.tif", "--out", out) == 0
    before = (out / "virtual.csv").read_bytes(), (out / "virtual" / "he.ome.tif").read_bytes()
    with pytest.raises(RestainError, match=r"b/he\.ome\.tif: would be written as he.*a/he\.ome\.tif"):
        run(stainer.path, tmp_path / "b" / "he.ome.tif", "--out", out)
    assert ((out / "virtual.csv").read_bytes(), (out / "virtual" / "he.ome.tif").read_bytes()) == before
    # A path that was mistyped may be mended.
    good = {"patient": "x", "he": "a/he.ome.tif"}
    write_csv(tmp_path / "c.csv", ["patient", "he"], [good, {"patient": "y", "he": "B/he.ome.tif"}])
    assert run(stainer.path, tmp_path / "c.csv", "--out", tmp_path / "c") == 1
    write_csv(tmp_path / "c.csv", ["patient", "he"], [good, {"patient": "y", "he": "b/he.ome.tif"}])
    assert run(stainer.path, tmp_path / "c.csv", "--out", tmp_path / "c") == 0
    assert [row["score"] for row in read_csv(tmp_path / "c" / "virtual.csv")] == ["3+", "0"]


def test_an_um_per_px_that_nobody_gave_is_said(
    stainer: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    density = np.full((8, 8), 1.2)
    write_image(tmp_path / "patch.png", paint(density)[0])
    slide(tmp_path / "s.ome.tif", 8)
    rows = [{"patient": "p", "he": "patch.png"}, {"patient": "q", "he": "s.ome.tif"}]
    write_csv(tmp_path / "c.csv", ["patient", "he"], rows)
    for _ in range(2):  # also where nothing is left to do
        assert run(stainer.path, tmp_path / "c.csv", "--out", tmp_path / "out") == 0
        assert "no um/px is known of p (1 in all): taken to have 0.5 um/px" in capsys.readouterr().err
    write_csv(tmp_path / "c.csv", ["patient", "he", "mpp"], [rows[0] | {"mpp": 0.5}, rows[1]])
    assert run(stainer.path, tmp_path / "c.csv", "--out", tmp_path / "out") == 0
    assert "no um/px" not in capsys.readouterr().err


def test_wrong_use(stainer: RunFolder, cohort: Path, tmp_path: Path) -> None:
    without = write_run(tmp_path / "without", mpp=None)
    with pytest.raises(RestainError, match="knows no um/px"):
        run(without.path, cohort, "--out", tmp_path / "x")
    with pytest.raises(RestainError, match="one name"):
        run(stainer.path, tmp_path / "b.ome.tif", tmp_path / "b.ome.tif", "--out", tmp_path / "x")
    with pytest.raises(RestainError, match="suffix"):
        run(stainer.path, cohort, "--out", tmp_path / "x", "--suffix", "_fake")


def test_cells_of_slides_without_a_score_do_not_count(tmp_path: Path) -> None:
    slides = [
        SlideScore("a", "p", "a.tif", "3+", (10, 0, 0, 90), "intense"),
        SlideScore("b", "p", "b.tif", "0", (200, 0, 0, 0), "none"),
        SlideScore("c", "p", "c.tif", None, (0, 0, 19, 0), "only 19 tumour cells"),
        SlideScore("d", "q", "d.tif", None, (3, 0, 0, 0), "only 3 tumour cells"),
    ]
    first, second = write_table(tmp_path / "virtual.csv", slides)
    assert (first["3+"], first["0"], first["counted"], first["score"]) == (30.0, 70.0, 300, "3+")
    assert (second["score"], second["counted"], second["reason"]) == (None, 3, "only 3 tumour cells")
    found = read_virtual(tmp_path)
    assert found.percent == {"p": (70.0, 0.0, 0.0, 30.0), "q": None}


def test_a_run_says_whom_it_was_trained_on(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", train=4, val=2)
    names = [path.stem for path in sorted((data / "HE").glob("*/*.png"))]
    rows = [{"name": name, "patient": f"p{number // 2}", "mpp": 0.5} for number, name in enumerate(names)]
    write_pairs_csv(data / "pairs.csv", rows)
    options = TrainingOptions(epochs=1, epochs_decay=0, log_every=1, sample_every=0, keep=Keep.best_psnr)
    batches = BatchOptions(batch_size=2, augmentation=Augmentation(crop=32))
    trained = train("pix2pix", SMALL, data, tmp_path / "run", batches, options)
    found = training_patients(trained)
    assert found == {"trained_on": ["p0", "p1"], "selected_on": ["p2"], "doubts": []}
    write_pairs_csv(data / "pairs.csv", [rows[0] | {"patient": ""}, *rows[1:4], *rows[5:]])
    doubts = training_patients(trained)["doubts"]
    assert any("1 of 4 training images" in line for line in doubts)
    (data / "HE" / "train" / f"{names[0]}.png").write_bytes((data / "HE" / "train" / f"{names[1]}.png").read_bytes())
    assert any("not exactly what the run was trained on" in line for line in training_patients(trained)["doubts"])
    data.rename(tmp_path / "moved")
    gone = training_patients(trained)
    assert gone["trained_on"] is None
    assert "is not here" in gone["doubts"][0]
    assert training_patients(trained, tmp_path / "moved")["trained_on"] == ["p0", "p1"]
    (tmp_path / "moved" / "pairs.csv").unlink()
    assert "names no patients" in training_patients(trained, tmp_path / "moved")["doubts"][0]


@pytest.mark.parametrize("told", [7, ["a", "b"], {"path": "x"}, "x" * 5000])
def test_a_dataset_that_is_no_folder_is_a_doubt(tmp_path: Path, told: object) -> None:
    made = write_run(tmp_path / "run")
    file = made.path / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"data": told}))
    found = training_patients(made)
    assert found["trained_on"] is None
    assert len(found["doubts"]) == 1


def test_a_slide_is_predicted_by_both_together(
    stainer: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path, 32)
    # What absorbs blue in the IHC absorbs green here, as eosin does; the stainer exchanges them back.
    ihc = read_image(slide(tmp_path / "ihc.ome.tif", 8))
    seen = write_slide(tmp_path / "p001_he.ome.tif", np.ascontiguousarray(ihc[..., [0, 2, 1]]), 0.5)
    monkeypatch.setattr(Copy, "stain", lambda _, he: he[:, [0, 2, 1]])
    assert run(stainer.path, seen, "--out", tmp_path / "made") == 0
    about = read_json(tmp_path / "made" / "virtual.json")
    table = write_virtual(tmp_path / "v", percentages({f"p{number:03d}": number % 4 for number in range(32)}))
    (table / "virtual.json").write_text(json.dumps(about))
    words = ["--cohort", tmp_path / "cohort.csv", "--features", tmp_path / "he", "--out", tmp_path / "out"]
    words += ["--models", "mean_pool", "--folds", "2", "--resamples", "100", "--workers", "1"]
    words += ["--virtual", f"v={table}", "--set", "training.epochs=2", "training.min_epochs=1"]
    assert her2_crossval.run([str(word) for word in words]) == 0
    capsys.readouterr()
    fused, features = tmp_path / "out" / "mean_pool+v", tmp_path / "new" / "p001_he.h5"
    write(features, np.random.default_rng(1).normal(size=(1, 8)).astype(np.float32), tile=256)
    words = [fused, features, "--slide", seen, "--out", tmp_path / "predicted", "--stainer", stainer.path, "--json"]
    assert her2_predict.run([str(word) for word in words]) == 0
    found = json.loads(capsys.readouterr().out)
    document = read_json(fused / "fusion.json")
    he = [her2_rows(tmp_path, fold) for fold in (1, 2)]
    shares = percent_rows(["x"], {"x": tuple(found["virtual"]["percent"].values())})
    wanted = [
        Pool(**one["pool"]).join(own[None], Reader.of(one["reader"], 4).evidence(shares))[0]
        for one, own in zip(document["trainings"], he, strict=True)
    ]
    assert list(found["probabilities"].values()) == pytest.approx(np.mean(wanted, 0), abs=1e-5)
    assert list(found["he"]["probabilities"].values()) == pytest.approx(np.mean(he, 0), abs=1e-5)
    assert (found["model"], found["virtual"]["score"]) == ("mean_pool+v", "3+")
    assert (tmp_path / "predicted" / "p001_he" / "ihc" / "virtual" / "p001_he.ome.tif").exists()
    assert (tmp_path / "predicted" / "p001_he" / "attention.png").exists() is found["attention"]
    with pytest.raises(RestainError, match="--stainer"):
        her2_predict.run([str(fused), str(seen), "--out", str(tmp_path / "x")])
    with pytest.raises(RestainError, match=r"which has fusion\.json"):
        her2_predict.run([*map(str, [fused.parent / "mean_pool", *words[1:]])])
    assert her2_predict.run([str(word) for word in (*words[:2], *words[4:])]) == 2  # features cannot be stained
    capsys.readouterr()
    shutil.copy(features, other := tmp_path / "new" / "second.h5")
    shutil.copy(seen, second := tmp_path / "second.ome.tif")
    more = [other, "--slide", second, "--patient", "p001_he"]
    assert her2_predict.run([str(word) for word in (*words[:2], *more, *words[2:])]) == 0
    both = json.loads(capsys.readouterr().out)
    assert both["virtual"]["counted"] == 2 * found["virtual"]["counted"]
    assert (both["virtual"]["percent"], both["tiles"]) == (found["virtual"]["percent"], 2)
    assert both["he"]["probabilities"] == pytest.approx(
        found["he"]["probabilities"], abs=1e-6
    )  # a mean of twice the same
    assert her2_predict.run([str(word) for word in (*words[:2], "--patient", "p001_he", *words[2:])]) == 0
    fewer = json.loads(capsys.readouterr().out)  # an answer is of the slides given
    assert fewer["virtual"]["counted"] == found["virtual"]["counted"]
    ihc = tmp_path / "predicted" / "p001_he" / "ihc"
    assert [path.name for path in (ihc / "virtual").glob("*.ome.tif")] == ["p001_he.ome.tif"]
    assert not (ihc / "scores" / "second").exists()
    seen.rename(gone := tmp_path / "gone.ome.tif")
    assert her2_predict.run([str(word) for word in words]) == 1
    capsys.readouterr()
    gone.rename(seen)
    assert not (tmp_path / "predicted" / "p001_he" / "prediction.json").exists()  # the earlier one was another's
    changed = next(stainer.checkpoints.glob("*.safetensors"))
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(RestainError, match="is not the stainer"):
        her2_predict.run([str(word) for word in words])


def her2_rows(root: Path, fold: int) -> np.ndarray:
    """What a fold's model says of patient p001, by ``her2 predict`` of that fold alone."""
    words = [root / "out" / "mean_pool" / "seed_0" / f"fold_{fold}", root / "new" / "p001_he.h5"]
    out = root / f"alone_{fold}"
    assert her2_predict.run([str(word) for word in (*words, "--out", out)]) == 0
    return np.array(list(read_json(out / "p001_he" / "prediction.json")["probabilities"].values()))
