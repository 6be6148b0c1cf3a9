"""Layouts, levels, pairs.csv, and what is wrong with folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.data import (
    Augmentation,
    EpochBatchSampler,
    PairDataset,
    check_dataset,
    dataset_fingerprint,
    levels_from_names,
    make_dataloader,
    read_dataset,
    sorted_levels,
)

LAYOUTS = [
    ("HE/{s}/{n}.png", "IHC/{s}/{n}.png", ("train", "val", "test")),
    ("{s}/HE/{n}.png", "{s}/IHC/{n}.jpg", ("train", "val", "test")),
    ("{s}A/{n}.jpg", "{s}B/{n}.jpg", ("train", "val", "test")),
    ("{s}_HE/{n}.jpg", "{s}_IHC/{n}.png", ("train", "test")),
    ("visible/{s}/{n}.jpg", "infrared/{s}/{n}.tif", ("train", "test")),
]


@pytest.mark.parametrize(("he", "ihc", "splits"), LAYOUTS)
def test_every_layout_is_read(tmp_path, picture, save, he, ihc, splits):
    for split in splits:
        for name in ("a", "b"):
            save(tmp_path / he.format(s=split, n=name), picture(1))
            save(tmp_path / ihc.format(s=split, n=name), picture(2))
    folder = read_dataset(tmp_path)
    assert folder.splits == dict.fromkeys(splits, 2)
    assert [record.name for record in folder.split("train")] == ["a", "b"]
    record = folder.records[0]
    assert record.he == tmp_path / he.format(s="train", n="a")
    assert record.ihc == tmp_path / ihc.format(s="train", n="a")
    assert folder.levels == ()
    assert folder.problems == ()


def test_side_by_side_is_halved_left_he(tmp_path, picture, save):
    he, ihc = picture(1, 30, 30), picture(2, 30, 30)
    save(tmp_path / "train" / "7.png", np.hstack([he, ihc]))
    save(tmp_path / "test" / "8.png", np.hstack([ihc, he]))
    folder = read_dataset(tmp_path)
    (record,) = folder.split("train")
    left, right = record.read()
    assert np.array_equal(left, he)
    assert np.array_equal(right, ihc)
    assert np.array_equal(record.read_side("ihc"), ihc)
    assert folder.splits == {"train": 1, "test": 1}


def test_square_images_in_split_folders_are_no_pairs(tmp_path, picture, save):
    save(tmp_path / "train" / "7.png", picture(1))
    with pytest.raises(RestainError, match="trainA trainB"):
        read_dataset(tmp_path)


def test_tdkstain_extras_are_recorded(tmp_path, picture, save):
    for kind in ("HE", "IHC", "IHC_dab", "IHC_nuclei_map"):
        save(tmp_path / f"train_{kind}" / "a.png", picture(1))
    (record,) = read_dataset(tmp_path).records
    assert record.extras == {
        "dab": tmp_path / "train_IHC_dab" / "a.png",
        "nuclei_map": tmp_path / "train_IHC_nuclei_map" / "a.png",
    }


def test_llvip_grey_jpegs_are_read_checked_and_batched(tmp_path, picture, save):
    """LLVIP: visible light in colour, infrared as JPEG with one channel, many images to a split."""
    grey = cv2.GaussianBlur(picture(0, 80, 64)[..., 0], (0, 0), 4)
    for split, count in (("train", 3), ("test", 1)):
        for index in range(count):
            save(tmp_path / f"visible/{split}/{index:06d}.jpg", picture(index + len(split), 80, 64))
            save(tmp_path / f"infrared/{split}/{index:06d}.jpg", grey + index)
    report = check_dataset(tmp_path)
    assert report.errors == []
    assert report.splits == {"train": 3, "test": 1}
    folder = read_dataset(tmp_path)
    _, infrared = folder.records[0].read()
    assert infrared.shape == (64, 80, 3)
    assert (infrared == infrared[..., :1]).all()
    assert np.abs(infrared[..., 0].astype(int) - grey).mean() < 2
    dataset = PairDataset(folder, "train", Augmentation(crop=48, horizontal_flip=True), cache_bytes=1 << 20)
    (batch,) = make_dataloader(dataset, EpochBatchSampler(3, 3))
    assert batch.ihc.shape == (3, 3, 48, 48)
    assert torch.equal(batch.ihc[:, 0], batch.ihc[:, 2])


def test_folder_inside_is_suggested(tmp_path, picture, save):
    for side in "AB":
        save(tmp_path / "TrainValAB" / f"train{side}" / "a.jpg", picture(1))
    with pytest.raises(RestainError, match="TrainValAB is one"):
        read_dataset(tmp_path)


def test_missing_folder_and_empty_folders(tmp_path):
    with pytest.raises(RestainError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    for side in "AB":
        (tmp_path / f"train{side}").mkdir()
    with pytest.raises(RestainError, match="hold no images"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["00345_test_0", "00820_test_2+"], {"00345_test_0": "0", "00820_test_2+": "2+"}),
        (["1_train_negative", "2_val_positive"], {"1_train_negative": "negative", "2_val_positive": "positive"}),
        (["a_0", "b_3+"], {"a_0": "0", "b_3+": "3+"}),
        (["slide_0_1", "slide_0_2"], {}),  # rows and columns
        (["img_train_0001", "img_train_0002"], {}),  # counters
        (["190001", "190002"], {}),
    ],
)
def test_levels_from_names(names, expected):
    assert levels_from_names(names) == expected


def test_levels_are_sorted_by_number_then_text():
    assert sorted_levels(["3+", "10", "0", "1+", "2+", "0", "b", "a"]) == ("0", "1+", "2+", "3+", "10", "a", "b")


def test_levels_of_a_dataset_come_from_its_names(bci):
    folder = read_dataset(bci())
    assert folder.levels == ("0", "1+", "2+", "3+")
    assert [record.level for record in folder.split("train")] == ["0", "2+", "3+"]


def test_missing_partners_are_named_on_both_sides(bci):
    root = bci()
    (root / "IHC/train/00000_train_0.png").unlink()
    (root / "HE/test/00000_test_1+.png").unlink()
    folder = read_dataset(root)
    assert folder.splits == {"train": 2, "test": 1}
    files = {problem.file: problem for problem in folder.problems}
    assert set(files) == {str(root / "HE/train/00000_train_0.png"), str(root / "IHC/test/00000_test_1+.png")}
    problem = files[str(root / "HE/train/00000_train_0.png")]
    assert problem.severity == "error"
    assert problem.kind == "missing-partner"
    assert str(root / "IHC" / "train") in problem.message


def test_duplicate_stems_are_left_out_once(bci, picture, save):
    root = bci()
    save(root / "HE/train/00000_train_0.jpg", picture(9))
    folder = read_dataset(root)
    assert [problem.kind for problem in folder.problems] == ["duplicate-stem"]
    assert folder.splits == {"train": 2, "test": 2}
    assert folder.lone == ()


def test_other_files_are_ignored(bci):
    root = bci()
    (root / "HE/train/Thumbs.db").write_bytes(b"x")
    (root / "HE/train/.hidden.png").write_bytes(b"x")
    assert read_dataset(root).problems == ()


def test_pairs_csv_gives_origin_and_drops(bci):
    root = bci()
    (root / "pairs.csv").write_text(
        "name,split,level,slide,patient,mpp,kept,reason,score\n"
        "00000_train_0,train,0,s1,p1,0.5,1,,0.9\n"
        "00001_train_2+,val,1+,s2,p2,0.5,1,,\n"
        "00002_train_3+,train,3+,s3,p3,0.5,0,blurred,\n"
        "00000_test_1+,test,,s4,p4,0.5,,,\n"
        "00001_test_0,test,0,s4,p4,0.5,true,,\n"
        "00099_train_0,train,0,s9,p9,0.5,1,,\n"
    )
    folder = read_dataset(root)
    assert folder.splits == {"train": 1, "val": 1, "test": 2}
    assert folder.mpp == 0.5
    assert folder.dropped == 1
    (moved,) = folder.split("val")
    assert (moved.name, moved.level, moved.slide, moved.patient) == ("00001_train_2+", "1+", "s2", "p2")
    assert folder.split("test")[0].level == "1+"  # the table is silent, the name is not
    assert [(problem.kind, problem.file) for problem in folder.problems] == [("missing-pair", "00099_train_0")]


@pytest.mark.parametrize(
    ("line", "words"), [("a,0.5x,1", "line 2: mpp '0.5x'"), ("a,-1,1", "line 2: mpp"), ("a,1,maybe", "kept 'maybe'")]
)
def test_bad_pairs_csv_names_the_line(bci, line, words):
    root = bci()
    (root / "pairs.csv").write_text(f"name,mpp,kept\n{line}\n")
    with pytest.raises(RestainError, match=words):
        read_dataset(root)


def test_pairs_csv_with_same_names_in_two_splits(tmp_path, picture, save):
    for split in ("train", "test"):
        for side in "AB":
            save(tmp_path / f"{split}{side}" / "1.png", picture(1))
    (tmp_path / "pairs.csv").write_text("name,split,patient\n1,train,p1\n1,test,p2\n")
    folder = read_dataset(tmp_path)
    assert {record.split: record.patient for record in folder.records} == {"train": "p1", "test": "p2"}


def test_different_sizes_in_a_pair_are_refused_when_read(bci, picture, save):
    root = bci()
    save(root / "IHC/train/00000_train_0.png", picture(1, 20, 24))
    record = read_dataset(root).split("train")[0]
    with pytest.raises(ItemError, match=r"24x24 px.*20x24 px"):
        record.read()


def test_unreadable_image_is_named(bci):
    root = bci()
    (root / "IHC/train/00000_train_0.png").write_bytes(b"not an image")
    with pytest.raises(UnreadableImageError, match=r"IHC/train/00000_train_0\.png"):
        read_dataset(root).split("train")[0].read()


def test_real_bci_pairs(shared):
    folder = read_dataset(shared / "data" / "bci-pairs")
    assert folder.splits == {"test": 2}
    assert folder.levels == ("0", "2+")
    he, ihc = folder.records[0].read()
    assert folder.records[0].he.read_bytes()[:2] == b"\xff\xd8"  # JPEG under .png
    assert he.shape == ihc.shape == (1024, 1024, 3)
    assert he.mean() < ihc.mean()  # the IHC is the paler one


def test_fingerprint_depends_on_content_not_on_place_or_time(bci, tmp_path, picture, save):
    root = bci()
    folder = read_dataset(root)
    before = dataset_fingerprint(folder)
    (root / "HE/train/00000_train_0.png").touch()
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    assert dataset_fingerprint(read_dataset(moved)) == before
    relabelled = replace(folder.records[0], level="3+", he=moved / Path(*folder.records[0].he.parts[-3:]))
    assert dataset_fingerprint(read_dataset(moved)) != dataset_fingerprint(
        replace(read_dataset(moved), records=(replace(read_dataset(moved).records[0], level=relabelled.level),))
    )
    save(moved / "HE/train/00000_train_0.png", picture(77, 25, 24))
    assert dataset_fingerprint(read_dataset(moved)) != before
