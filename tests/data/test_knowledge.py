"""Knowledge maps: made once, resumed, checked against their IHC, and fed to training beside their pair."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restain.core.errors import ItemError, MissingResolutionError, RestainError, UnreadableImageError
from restain.core.items import lock
from restain.data import (
    MAPS,
    Augmentation,
    EpochBatchSampler,
    PairDataset,
    check_dataset,
    dataset_fingerprint,
    knowledge,
    knowledge_command,
    knowledge_fingerprint,
    make_dataloader,
    make_knowledge,
    read_dataset,
)
from restain.stains import DensityScale, KnowledgeOptions, extract, make_detector

from ..pairs import write_pairs

ALL = Augmentation(resize=32, crop=16, horizontal_flip=True, vertical_flip=True, rotate=True, transpose=True)
MPP = 0.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and two validation pairs with maps; not to be changed."""
    root = write_pairs(tmp_path_factory.mktemp("made") / "data")
    make_knowledge(root, mpp=MPP, workers=0)
    return root


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of ``made`` to spoil."""
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.fixture
def theirs(tmp_path, picture, save):
    """The authors' layout: H&E, IHC, and maps that are the IHC itself or a channel of it."""
    for index in range(3):
        ihc = picture(index, 48, 40)
        maps = {"HE": picture(100 + index, 48, 40), "IHC": ihc, "IHC_dab": ihc}
        maps |= {"IHC_dab_mask": ihc[..., 0], "IHC_nuclei_map": ihc[..., :1].repeat(3, axis=2)}
        for kind, image in maps.items():
            save(tmp_path / "theirs" / f"train_{kind}" / f"{index}.png", image)
    return tmp_path / "theirs"


def index_of(root: Path) -> dict:
    return json.loads((root / "knowledge" / "knowledge.json").read_text())


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (root / "knowledge").rglob("*.png")}


def batches(dataset: PairDataset, workers: int = 0) -> list:
    return list(make_dataloader(dataset, EpochBatchSampler(len(dataset), 2, shuffle=False), workers=workers))


def test_maps_on_disk_are_what_is_extracted(made: Path) -> None:
    folder, document = read_dataset(made), index_of(made)
    assert document["mpp"] == MPP
    assert document["options"]["threshold"] == KnowledgeOptions().threshold
    assert document["restain"]
    assert [(row["split"], row["name"]) for row in document["pairs"]] == [(r.split, r.name) for r in folder.records]
    for record, row in list(zip(folder.records, document["pairs"], strict=True))[::3]:
        found = extract(record.read()[1], MPP, KnowledgeOptions(), make_detector())
        assert row["nuclei"] == len(found.centroids)
        for kind in MAPS:
            assert record.extras[kind] == made / "knowledge" / kind / record.split / f"{record.name}.png"
            assert np.array_equal(np.asarray(Image.open(record.extras[kind])), getattr(found, kind))
    overview = np.asarray(Image.open(made / "knowledge" / "overview.png"))
    assert overview.shape[0] > 4 * 64  # a row for each of four levels
    assert overview.shape[1] > 4 * 64


def test_processes_change_nothing(made: Path, data: Path) -> None:
    shutil.rmtree(data / "knowledge")
    result = make_knowledge(data, mpp=MPP, workers=2)
    assert (result.pairs, result.made, result.exit_code) == (8, 8, 0)
    assert (data / "knowledge" / "knowledge.json").read_bytes() == (made / "knowledge" / "knowledge.json").read_bytes()
    for path in times(made):
        assert (data / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_batches_carry_the_maps_that_are_needed(made: Path) -> None:
    folder = read_dataset(made)
    (batch, *_) = batches(PairDataset(folder, "train", needs=MAPS))
    assert {kind: tuple(maps.shape) for kind, maps in batch.extras.items()} == {
        "dab": (2, 3, 64, 64),
        "dab_mask": (2, 1, 64, 64),
        "nuclei_map": (2, 1, 64, 64),
    }
    for kind, maps in batch.to("cpu").extras.items():
        stored = np.asarray(Image.open(folder.records[1].extras[kind]), np.float32)
        expected = stored.transpose(2, 0, 1) / 127.5 - 1 if kind == "dab" else stored[None] / 255
        assert maps.dtype == torch.float32
        assert np.allclose(maps[1].numpy(), expected, atol=1e-6)
    (only, *_) = batches(PairDataset(folder, "train", needs=["nuclei_map", "levels"]))
    assert set(only.extras) == {"nuclei_map"}
    assert batches(PairDataset(folder, "train"))[0].extras == {}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_maps_are_augmented_with_their_pair(theirs: Path, cache: int, workers: int) -> None:
    folder = read_dataset(theirs)
    dataset = PairDataset(folder, "train", ALL, seed=3, needs=MAPS, cache_bytes=cache)
    assert dataset.cached() == (3 if cache else 0)
    plain = PairDataset(folder, "train", ALL, seed=3)
    for epoch in range(4):
        for batch, usual in zip(batches(dataset, workers), batches(plain), strict=True):
            assert torch.equal(batch.he, usual.he)  # maps do not change what is drawn
            assert torch.equal(batch.ihc, usual.ihc)
            assert torch.equal(batch.extras["dab"], batch.ihc)
            for kind in ("dab_mask", "nuclei_map"):
                assert torch.allclose(batch.extras[kind], (batch.ihc[:, :1] + 1) / 2, atol=1e-6)
        sample = dataset[epoch, 1]
        assert np.array_equal(sample.extras["dab_mask"], sample.ihc[..., :1])


def test_cached_maps_count_for_the_budget(theirs: Path) -> None:
    pair, maps = 2 * 48 * 40 * 3, 48 * 40 * 5
    dataset = PairDataset(read_dataset(theirs), "train", needs=MAPS, cache_bytes=2 * (pair + maps))
    assert dataset.cached() == 2


def test_maps_that_came_with_the_dataset_are_taken_until_there_are_others(theirs: Path) -> None:
    before = read_dataset(theirs)
    PairDataset(before, "train", needs=MAPS)
    assert before.records[0].extras["dab"] == theirs / "train_IHC_dab" / "0.png"
    assert [problem for problem in check_dataset(theirs).problems if problem.kind.startswith("maps")] == []
    (theirs / "train_IHC_dab" / "1.png").unlink()
    with pytest.raises(RestainError, match=r"1 have none that fit: 1 has no dab\. Run `restain dataset knowledge"):
        PairDataset(read_dataset(theirs), "train", needs=MAPS)
    PairDataset(read_dataset(theirs), "train", needs=["nuclei_map"])
    assert "maps-unusable" in {problem.kind for problem in check_dataset(theirs).problems}
    make_knowledge(theirs, mpp=MPP, workers=0)
    after = read_dataset(theirs)
    assert after.records[1].extras["dab"] == theirs / "knowledge" / "dab" / "train" / "1.png"
    assert after.layout == before.layout
    PairDataset(after, "train", needs=MAPS)


def test_map_of_another_size_or_damaged_is_named_with_the_command(data: Path, save, picture) -> None:
    record = read_dataset(data).split("train")[0]
    dataset = PairDataset(read_dataset(data), "train", needs=MAPS)
    save(record.extras["dab_mask"], picture(0, 20, 30)[..., 0])
    with pytest.raises(ItemError, match=r"dab_mask/train/00000_train_0.png: 20x30 px.*has 64x64 px.*dataset knowledge"):
        dataset[0, 0]
    record.extras["dab_mask"].write_bytes(b"nothing")
    with pytest.raises(UnreadableImageError, match=r"00000_train_0.png.*Remove it and run `restain dataset knowledge"):
        dataset[0, 0]
    record.extras["dab_mask"].unlink()
    assert make_knowledge(data, mpp=MPP, workers=0).made == 1
    dataset[0, 0]


def test_check_tells_maps_that_training_would_stumble_over(data: Path, save, picture) -> None:
    first, second, *_ = read_dataset(data).split("train")
    save(first.extras["dab_mask"], picture(0, 20, 30)[..., 0])
    second.extras["dab"].write_bytes(b"nothing")
    found = {p.file: p.message for p in check_dataset(data).problems if p.kind == "map-unusable"}
    assert found.keys() == {str(first.extras["dab_mask"]), str(second.extras["dab"])}
    assert "20x30 px, but its pair has 64x64 px" in found[str(first.extras["dab_mask"])].replace("30x20", "20x30")


def test_a_folder_of_that_name_that_is_another_s_is_refused(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "pairs")
    (root / "knowledge").mkdir()
    (root / "knowledge" / "overview.png").write_text("mine")
    with pytest.raises(RestainError, match=r"holds overview.png, but no knowledge.json"):
        make_knowledge(root, mpp=MPP, workers=0)
    assert (root / "knowledge" / "overview.png").read_text() == "mine"


def test_a_model_without_its_detector_is_refused(data: Path) -> None:
    with pytest.raises(RestainError, match="of use with --detector cellpose alone"):
        make_knowledge(data, KnowledgeOptions(cellpose_model=data / "nofile"), mpp=MPP, workers=0)


def test_missing_maps_name_the_command(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "my data")
    with pytest.raises(RestainError, match=r"\(dab_mask\), but split train has none") as caught:
        PairDataset(read_dataset(root), "train", needs=["dab_mask"])
    assert caught.value.exit_code == 2
    assert f"`restain dataset knowledge '{root}' --mpp UM_PER_PX`" in str(caught.value)
    names = [path.stem for path in (root / "HE").rglob("*.png")]
    (root / "pairs.csv").write_text("name,mpp\n" + "".join(f"{name},0.25\n" for name in names))
    assert knowledge_command(read_dataset(root)) == f"restain dataset knowledge '{root}'"
    with pytest.raises(RestainError, match="maps of pairs; unpaired images have none"):
        PairDataset(read_dataset(root), "train", needs=["dab", "unpaired"])


def test_maps_that_do_not_fit_are_told_before_training(data: Path, save, picture) -> None:
    def refused(match: str, split: str = "train") -> None:
        with pytest.raises(RestainError, match=match) as caught:
            PairDataset(read_dataset(data), split, needs=MAPS)
        assert caught.value.exit_code == 2
        assert f"restain dataset knowledge {data} --mpp 0.5" in str(caught.value)
        warnings = [problem for problem in check_dataset(data).problems if problem.kind.startswith("maps-")]
        assert [problem.severity for problem in warnings] == ["warning"]
        assert "dataset knowledge" in warnings[0].message

    changed = data / "IHC" / "train" / "00001_train_1+.png"
    save(changed, picture(7, 64, 64))
    refused(r"of 6 pairs in split train, 1 have none that fit: 00001_train_1\+ has maps of another image")
    PairDataset(read_dataset(data), "val", needs=MAPS)
    assert make_knowledge(data, mpp=MPP, workers=0).made == 1
    for side in ("HE", "IHC"):
        save(data / side / "train" / "00009_train_0.png", picture(8 + len(side), 64, 64))
    refused("00009_train_0 has no dab, dab_mask, nuclei_map")
    assert make_knowledge(data, mpp=MPP, workers=0).made == 1
    document = index_of(data)
    document["pairs"] = [row for row in document["pairs"] if row["name"] != "00009_train_0"]
    (data / "knowledge" / "knowledge.json").write_text(json.dumps(document))
    refused("00009_train_0 has maps that were not finished")
    assert make_knowledge(data, mpp=MPP, workers=0).made == 1
    PairDataset(read_dataset(data), "train", needs=MAPS)
    names = [path.stem for path in (data / "HE").rglob("*.png")]
    (data / "pairs.csv").write_text("name,mpp\n" + "".join(f"{name},0.25\n" for name in names))
    with pytest.raises(RestainError, match=r"is at 0\.25 um/px, but its maps were made for 0\.5"):
        PairDataset(read_dataset(data), "train", needs=MAPS)


def _row(mpp: str, nuclei: str) -> str:
    pair = f'{{"split": "train", "name": "a", "ihc": "1-2", "mpp": {mpp}, "nuclei": {nuclei}}}'
    return f'{{"options": {{}}, "model": null, "pairs": [{pair}]}}'


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"options": {}, "model": null, "pairs": [{"split": "train"}]}',
        _row("0.5", "Infinity"), _row("0", "3"), _row("NaN", "3"), _row("0.5", "1" + 400 * "0"), _row("0.5", "-1"),
    ],
)  # fmt: skip
def test_unreadable_index(data: Path, text: str) -> None:
    (data / "knowledge" / "knowledge.json").write_text(text)
    with pytest.raises(RestainError, match=r"knowledge\.json: .*UM_PER_PX`, which makes the maps again") as caught:
        PairDataset(read_dataset(data), "train", needs=MAPS)
    assert caught.value.exit_code == 2
    assert "maps-unreadable" in {problem.kind for problem in check_dataset(data).problems}
    PairDataset(read_dataset(data), "train")  # of no concern to others
    assert make_knowledge(data, mpp=MPP, workers=0).made == 8


def test_only_what_is_missing_is_made(data: Path) -> None:
    before = times(data)
    assert make_knowledge(data, mpp=MPP, workers=0).made == 0
    assert times(data) == before
    gone = data / "knowledge" / "nuclei_map" / "val" / "00001_val_1+.png"
    gone.unlink()
    result = make_knowledge(data, mpp=MPP, workers=0)
    assert (result.made, result.pairs) == (1, 8)
    after = times(data)
    assert {path.stem for path in before if after[path] != before[path]} == {gone.stem, "overview"}


def test_other_options_make_all_again_and_are_remembered(data: Path) -> None:
    options = KnowledgeOptions(sigma=5, blur=False, density_scale=DensityScale.count)
    assert make_knowledge(data, options, mpp=MPP, workers=0).made == 8
    assert make_knowledge(data, options, mpp=MPP, workers=0).made == 0
    words = knowledge_command(read_dataset(data)).split()
    assert words[3:] == [str(data), "--mpp", "0.5", "--blur", "false", "--sigma", "5", "--density-scale", "count"]
    assert make_knowledge(data, mpp=0.25, workers=0).made == 8


def test_bad_image_fails_alone(data: Path) -> None:
    shutil.rmtree(data / "knowledge")
    bad = data / "IHC" / "train" / "00002_train_2+.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:300])
    result = make_knowledge(data, mpp=MPP, workers=0)
    assert (result.made, result.pairs, result.exit_code, list(result.failures)) == (7, 7, 1, [str(bad)])
    assert not result.failures[str(bad)].startswith(str(bad))
    bad.write_bytes(good)
    result = make_knowledge(data, mpp=MPP, workers=0)
    assert (result.made, result.pairs, result.exit_code) == (1, 8, 0)


def test_interrupted_work_goes_on_and_never_claims_too_much(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = []

    def interrupted(*args):
        claimed.append(len(index_of(data)["pairs"]))
        if len(claimed) == 4:
            raise KeyboardInterrupt
        return extract(*args)

    options = KnowledgeOptions(sigma=5)
    with monkeypatch.context() as patch:
        patch.setattr(knowledge, "SAVE_EVERY_S", -1.0)
        patch.setattr(knowledge, "extract", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_knowledge(data, options, mpp=MPP, workers=0)
    assert claimed == [0, 1, 2, 3]  # the maps of the other options are disowned before the first is overwritten
    assert len(index_of(data)["pairs"]) == 3
    with pytest.raises(RestainError, match=r"3 have none that fit.*--sigma 5"):
        PairDataset(read_dataset(data), "train", needs=MAPS)
    assert make_knowledge(data, options, mpp=MPP, workers=0).made == 5
    PairDataset(read_dataset(data), "train", needs=MAPS)


def test_killed_process_is_told_and_what_is_wrong_for_all_stops(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(data / "knowledge")
    with monkeypatch.context() as patch:
        patch.setattr(knowledge, "extract", lambda *_: os._exit(9))
        with pytest.raises(RestainError, match="fewer --workers"):
            make_knowledge(data, mpp=MPP, workers=1)
    for workers in (0, 1):
        with pytest.raises(RestainError, match="um/px") as caught:
            make_knowledge(data, mpp=46, workers=workers)
        assert caught.value.exit_code == 2
    assert not (data / "knowledge" / "knowledge.json").exists()  # a dataset's own maps would count no more


def test_two_commands_at_once_and_folders_that_cannot_be_written(data: Path) -> None:
    with lock(data / "knowledge" / ".lock"), pytest.raises(RestainError, match="another restain command"):
        make_knowledge(data, mpp=MPP, workers=0)
    shutil.rmtree(data / "knowledge")
    (data / "knowledge").write_text("a file where the folder should be")
    with pytest.raises(RestainError, match=r"cannot be written.*copy the dataset") as caught:
        make_knowledge(data, mpp=MPP, workers=0)
    assert caught.value.exit_code == 2


def test_resolution_is_never_guessed(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, train=2, val=0)
    with pytest.raises(MissingResolutionError, match=r"restain dataset knowledge .* --mpp UM_PER_PX"):
        make_knowledge(root, workers=0)
    assert not (root / "knowledge").exists()
    (root / "pairs.csv").write_text("name,mpp\n00000_train_0,0.25\n00001_train_1+,0.5\n")
    with pytest.raises(RestainError, match=r"says 0.25 um/px of 00000_train_0, --mpp says 0.5"):
        make_knowledge(root, mpp=0.5, workers=0)
    make_knowledge(root, workers=0)
    assert [row["mpp"] for row in index_of(root)["pairs"]] == [0.25, 0.5]


def test_maps_follow_a_pair_into_another_split(data: Path, tmp_path: Path) -> None:
    folder = read_dataset(data)
    moved = replace(folder, records=tuple(replace(record, split="test") for record in folder.records))
    assert len(PairDataset(moved, "test", needs=MAPS)) == 8
    assert knowledge_fingerprint(moved, "test") is not None


def test_no_pairs_have_no_maps(tmp_path, picture, save) -> None:
    for side in "AB":
        save(tmp_path / f"train{side}" / f"{side}.png", picture(ord(side)))
    with pytest.raises(RestainError, match="no pairs"):
        make_knowledge(tmp_path, mpp=MPP, workers=0)


def test_fingerprint_is_that_of_the_maps(data: Path, tmp_path: Path, theirs: Path) -> None:
    bare = write_pairs(tmp_path / "bare")
    assert knowledge_fingerprint(read_dataset(bare), "train") is None
    before, pairs = knowledge_fingerprint(read_dataset(data), "train"), dataset_fingerprint(read_dataset(data))
    assert pairs == dataset_fingerprint(read_dataset(bare))  # maps are no part of it
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    assert knowledge_fingerprint(read_dataset(moved), "train") == before
    assert knowledge_fingerprint(read_dataset(data), "val") != before
    make_knowledge(data, KnowledgeOptions(threshold=0.2), mpp=MPP, workers=0)
    assert knowledge_fingerprint(read_dataset(data), "train") != before
    assert dataset_fingerprint(read_dataset(data)) == pairs
    own = knowledge_fingerprint(read_dataset(theirs), "train")
    shutil.copy(theirs / "train_IHC" / "1.png", theirs / "train_IHC_dab" / "0.png")
    assert knowledge_fingerprint(read_dataset(theirs), "train") != own


def test_side_by_side_images_have_maps_of_their_ihc(tmp_path, picture, save) -> None:
    save(tmp_path / "train" / "7.png", np.hstack([picture(1, 64, 64), picture(2, 64, 64)]))
    make_knowledge(tmp_path, mpp=MPP, workers=0)
    folder = read_dataset(tmp_path)
    assert folder.splits == {"train": 1}
    expected = extract(picture(2, 64, 64), MPP, KnowledgeOptions(), make_detector())
    sample = PairDataset(folder, "train", needs=MAPS)[0, 0]
    assert np.array_equal(sample.extras["dab"], expected.dab)
    assert np.array_equal(sample.extras["dab_mask"][..., 0], expected.dab_mask)
    assert {problem.kind for problem in check_dataset(tmp_path).problems} == {"no-levels"}
