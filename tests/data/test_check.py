"""check_dataset and dataset_stats."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from restain.data import (
    EpochBatchSampler,
    PairDataset,
    check_dataset,
    dataset_stats,
    make_dataloader,
    read_dataset,
    without_bad_images,
)


def kinds(report):
    return sorted((problem.severity, problem.kind) for problem in report.problems)


def test_good_dataset(bci):
    root = bci()
    (root / "pairs.csv").write_text(
        "name,slide\n" + "".join(f"{path.stem},{path.parent.name}-slide\n" for path in (root / "HE").rglob("*.png"))
    )
    report = check_dataset(root)
    assert report.problems == ()
    assert report.exit_code == 0
    assert report.splits == {"train": 3, "test": 2}
    assert report.levels == {"0": 2, "1+": 1, "2+": 1, "3+": 1}
    json.dumps(report.to_json(), allow_nan=False)


def test_everything_wrong_is_named(bci, picture, save):
    root = bci()
    (root / "HE/train/00000_train_0.png").write_bytes(b"\x89PNG broken")
    save(root / "IHC/train/00001_train_2+.png", picture(5, 10, 24))
    (root / "IHC/test/00000_test_1+.png").unlink()
    report = check_dataset(root)
    found = {problem.kind: problem for problem in report.problems}
    assert report.exit_code == 1
    assert {problem.kind for problem in report.errors} == {"unreadable", "different-sizes", "missing-partner"}
    assert found["unreadable"].file == str(root / "HE/train/00000_train_0.png")
    assert "10x24" in found["different-sizes"].message
    assert "24x24" in found["different-sizes"].message
    assert ("warning", "mixed-sizes") in kinds(report)
    assert ("warning", "origin-unknown") in kinds(report)
    assert report.splits == {"train": 1, "test": 1}  # what is left
    assert report.problems[0].severity == "error"


def test_truncated_image_is_found(bci):
    root = bci(size=64)
    path = root / "IHC/train/00000_train_0.png"
    path.write_bytes(path.read_bytes()[:3000])
    assert [problem.file for problem in check_dataset(root).errors] == [str(path)]


def test_same_picture_in_training_and_test(bci):
    root = bci()
    source = root / "HE/train/00000_train_0.png"
    copy = root / "HE/test/00001_test_0.png"
    Image.open(source).save(copy, compress_level=1)  # other bytes, same pixels
    (problem,) = [problem for problem in check_dataset(root).problems if problem.kind == "repeated-picture"]
    assert "test and train" in problem.message
    assert str(copy) in problem.message + problem.file


def test_same_picture_under_one_name_in_two_splits(tmp_path, picture, save):
    for split in ("train", "test"):
        for side in "AB":
            save(tmp_path / f"{split}{side}" / "1.png", picture(ord(side)))
    assert sum(kind == "repeated-picture" for _, kind in kinds(check_dataset(tmp_path))) == 2


def test_patient_in_two_splits(bci):
    root = bci()
    names = [path.stem for path in (root / "HE").rglob("*.png")]
    (root / "pairs.csv").write_text(
        "name,patient,mpp\n" + "".join(f"{name},p1,0.{i + 1}\n" for i, name in enumerate(names))
    )
    report = check_dataset(root)
    assert ("warning", "shared-patient") in kinds(report)
    assert ("warning", "mixed-resolution") in kinds(report)
    assert report.exit_code == 0


def test_levels_missing_and_no_levels(tmp_path, picture, save):
    for side in "AB":
        for index in range(2):
            save(tmp_path / f"train{side}" / f"{index}.png", picture(index + 10 * ord(side)))
    assert kinds(check_dataset(tmp_path)) == [("warning", "no-levels")]
    (tmp_path / "pairs.csv").write_text("name,level\n0,high\n1,\n")
    report = check_dataset(tmp_path)
    assert kinds(report) == [("warning", "levels-missing")]
    assert report.levels == {"high": 1, "unknown": 1}


def test_unpaired_split_gives_one_warning(tmp_path, picture, save):
    for side in "AB":
        for index in range(5):
            save(tmp_path / f"train{side}" / f"{side}{index}.png", picture(index + 10 * ord(side)))
    assert [problem.kind for problem in check_dataset(tmp_path).problems] == ["no-pairs"]


def test_side_by_side_of_another_shape(tmp_path, picture, save):
    save(tmp_path / "train/1.png", picture(1, 48, 24))
    save(tmp_path / "train/2.png", picture(2, 40, 24))
    save(tmp_path / "train/3.png", picture(3, 41, 24))
    report = check_dataset(tmp_path)
    assert [(problem.kind, problem.file) for problem in report.errors] == [
        ("not-side-by-side", str(tmp_path / "train/2.png")),
        ("not-side-by-side", str(tmp_path / "train/3.png")),
    ]


def test_stats_agree_with_numpy(bci):
    root = bci()
    stats = dataset_stats(root)
    he = np.stack([np.asarray(Image.open(path)) for path in (root / "HE").rglob("*.png")]).reshape(-1, 3) / 1.0
    assert stats["he"]["mean"] == pytest.approx(he.mean(axis=0), abs=1e-3)
    assert stats["he"]["std"] == pytest.approx(he.std(axis=0), abs=1e-3)
    ihc = np.asarray(Image.open(root / "IHC/train/00001_train_2+.png")).reshape(-1, 3)
    assert stats["ihc_by_level"]["2+"] == pytest.approx(ihc.mean(axis=0), abs=1e-3)
    assert stats["splits"]["train"] == {
        "pairs": 3,
        "levels": {"0": 1, "1+": 0, "2+": 1, "3+": 1},
        "slide_levels": {},
        "slides": 0,
        "patients": 0,
    }
    assert stats["sizes"] == {"24x24": 10}
    assert stats["unreadable"] == []
    json.dumps(stats, allow_nan=False)


def test_stats_count_unreadable_images(bci):
    root = bci()
    bad = root / "HE/train/00000_train_0.png"
    bad.write_bytes(b"")
    stats = dataset_stats(root)
    assert [entry["file"] for entry in stats["unreadable"]] == [str(bad)]
    assert stats["he"]["images"] == 4


def test_without_bad_images_training_goes_on(bci, picture, save):
    root = bci({"train": [f"{index}_train_{index % 2}+" for index in range(6)]})
    (root / "HE/train/0_train_0+.png").write_bytes(b"broken")
    save(root / "IHC/train/1_train_1+.png", picture(5, 10, 24))
    (root / "IHC/train/2_train_0+.png").unlink()
    folder = without_bad_images(read_dataset(root))
    assert sorted(problem.kind for problem in folder.problems) == ["different-sizes", "missing-partner", "unreadable"]
    assert not any(problem.message.startswith(problem.file) for problem in folder.problems)
    dataset = PairDataset(folder, "train")
    names = [name for batch in make_dataloader(dataset, EpochBatchSampler(len(dataset), 2)) for name in batch.names]
    assert sorted(names) == ["3_train_1+", "4_train_0+", "5_train_1+"]
