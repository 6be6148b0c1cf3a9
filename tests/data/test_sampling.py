"""Augmentation, dataset, sampler, loader: seeded, the same with any number of workers, exact after a resume."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.data import (
    Augmentation,
    EpochBatchSampler,
    PairDataset,
    PairSample,
    collate,
    from_network,
    make_dataloader,
    read_dataset,
    to_network,
)

ALL = Augmentation(resize=32, crop=16, horizontal_flip=True, vertical_flip=True, rotate=True, transpose=True)


def batches(dataset, sampler, workers=0):
    return list(make_dataloader(dataset, sampler, workers=workers))


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert a.names == b.names
        assert torch.equal(a.he, b.he)
        assert torch.equal(a.ihc, b.ihc)
        assert torch.equal(a.level, b.level)


def test_batch_values_are_those_of_the_files(bci):
    folder = read_dataset(bci())
    dataset = PairDataset(folder, "train")
    (batch,) = batches(dataset, EpochBatchSampler(3, 3, shuffle=False))
    he, ihc = folder.split("train")[1].read()
    assert batch.he.dtype == torch.float32
    assert batch.he.shape == (3, 3, 24, 24)
    assert torch.equal(batch.he[1], torch.from_numpy(he.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1)))
    assert np.allclose((batch.ihc[1].numpy().transpose(1, 2, 0) + 1) * 127.5, ihc, atol=1e-4)
    assert batch.names == ("00000_train_0", "00001_train_2+", "00002_train_3+")
    assert batch.level.tolist() == [0, 2, 3]
    assert len(batch) == 3
    assert torch.equal(batch.to("cpu").he, batch.he)


def test_network_range_round_trip():
    image = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    tensor = to_network([image])
    assert tensor.min() == -1
    assert tensor.max() == 1
    assert np.array_equal(from_network(tensor)[0], image)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(bci, workers):
    dataset = PairDataset(read_dataset(bci()), "train", ALL, seed=3)
    sampler = EpochBatchSampler(3, 2, seed=3, epoch=5)
    same(batches(dataset, sampler), batches(dataset, sampler, workers))


def test_resume_in_the_middle_of_an_epoch_is_exact(bci):
    folder = read_dataset(bci({"train": [f"{index}_train_0" for index in range(7)]}))
    dataset = PairDataset(folder, "train", ALL, seed=1)
    sampler = EpochBatchSampler(7, 2, seed=1)
    whole = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        whole += batches(dataset, sampler)
    later = EpochBatchSampler(7, 2, seed=1)
    later.set_epoch(1, 2)
    assert len(later) == 2
    same(whole[4 + 2 :], batches(PairDataset(folder, "train", ALL, seed=1), later))


def test_loading_leaves_global_random_numbers_alone(bci):
    dataset = PairDataset(read_dataset(bci()), "train", ALL)
    state = torch.get_rng_state()
    batches(dataset, EpochBatchSampler(3, 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_order_is_a_permutation_that_changes_with_epoch_and_seed():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            keys = [key for batch in EpochBatchSampler(10, 3, seed=seed, epoch=epoch) for key in batch]
            assert {epoch for epoch, _ in keys} == {epoch}
            orders[seed, epoch] = [index for _, index in keys]
            assert sorted(orders[seed, epoch]) == list(range(10))
    assert len({tuple(order) for order in orders.values()}) == 4


def test_batches_of_a_sampler():
    assert [len(batch) for batch in EpochBatchSampler(10, 4)] == [4, 4, 2]
    assert [len(batch) for batch in EpochBatchSampler(10, 4, drop_last=True)] == [4, 4]
    assert [index for batch in EpochBatchSampler(4, 4, shuffle=False) for _, index in batch] == [0, 1, 2, 3]
    with pytest.raises(RestainError, match="split of the dataset is empty"):
        EpochBatchSampler(0, 4)
    with pytest.raises(RestainError, match="do not fill one batch"):
        EpochBatchSampler(3, 4, drop_last=True)


def test_processes_share_an_epoch_evenly():
    shares = [
        [index for batch in EpochBatchSampler(10, 2, seed=4, rank=rank, world_size=3) for _, index in batch]
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert set().union(*shares) == set(range(10))


def test_augmentation_is_the_same_for_both_images_and_varies():
    rng = np.random.default_rng(0)
    he = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    ihc = 255 - he
    augmentation = replace(ALL, resize=None)
    seen = set()
    for index in range(64):
        one, two = augmentation([he, ihc], np.random.default_rng([0, 0, index]))
        assert one.shape == (16, 16, 3)
        assert np.array_equal(two, 255 - one)
        seen.add(one.tobytes())
    assert len(seen) > 60


def test_flips_and_turns_give_the_whole_dihedral_group():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    augmentation = Augmentation(horizontal_flip=True, vertical_flip=True, rotate=True, transpose=True)
    results = {augmentation([image], np.random.default_rng([0, 0, i]))[0].tobytes() for i in range(200)}
    expected = {np.rot90(base, turns).tobytes() for base in (image, image[:, ::-1]) for turns in range(4)}
    assert results == expected
    assert {Augmentation()([image], np.random.default_rng(i))[0].tobytes() for i in range(5)} == {image.tobytes()}


def test_crops_reach_every_place():
    image = np.zeros((5, 6, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:5, :6]
    corners = {tuple(Augmentation(crop=3)([image], np.random.default_rng(i))[0][0, 0, :2]) for i in range(400)}
    assert corners == {(row, column) for row in range(3) for column in range(4)}


def test_resize_scales_the_shorter_side_and_the_resolution():
    image = np.full((40, 80, 3), 7, np.uint8)
    (small,) = Augmentation(resize=20)([image], np.random.default_rng(0))
    assert small.shape == (20, 40, 3)
    assert (small == 7).all()
    assert Augmentation(resize=20).mpp(0.5, (80, 40)) == 1.0
    assert Augmentation(crop=20).mpp(0.5, (80, 40)) == 0.5
    assert ALL.without_chance() == Augmentation(resize=32)


def test_crop_that_does_not_fit(bci):
    dataset = PairDataset(read_dataset(bci()), "train", Augmentation(crop=64))
    with pytest.raises(RestainError, match="crop 64 px does not fit into images of 24x24 px"):
        dataset[0, 0]


def test_image_mpp(bci):
    root = bci()
    names = [path.stem for path in (root / "HE").rglob("*.png")]
    (root / "pairs.csv").write_text("name,mpp\n" + "".join(f"{name},0.5\n" for name in names))
    folder = read_dataset(root)
    assert PairDataset(folder, "train").image_mpp() == 0.5
    assert PairDataset(folder, "train", Augmentation(resize=12)).image_mpp() == 1.0
    assert PairDataset(replace(folder, mpp=None), "train", Augmentation(resize=12)).image_mpp() is None


def test_mixed_sizes_in_a_batch_are_named():
    big, small = (np.zeros((side, side, 3), np.uint8) for side in (8, 4))
    with pytest.raises(ItemError, match="b: 4x4 px in one batch with a of 8x8 px"):
        collate([PairSample("a", big, big, 0), PairSample("b", small, small, 0)])


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_gives_the_same_short_message(bci, workers):
    root = bci()
    bad = root / "HE/train/00000_train_0.png"
    bad.write_bytes(b"nothing")
    dataset = PairDataset(read_dataset(root), "train")
    with pytest.raises(UnreadableImageError) as caught:
        batches(dataset, EpochBatchSampler(3, 3), workers)
    assert str(caught.value).startswith(str(bad))
    assert "Traceback" not in str(caught.value)


def test_cache_keeps_to_its_budget_and_changes_nothing(bci):
    folder = read_dataset(bci())
    pair = 2 * 24 * 24 * 3
    cached = PairDataset(folder, "train", ALL, cache_bytes=2 * pair)
    assert cached.cached() == 2
    assert PairDataset(folder, "train", cache_bytes=10 * pair).cached() == 3
    sampler = EpochBatchSampler(3, 1)
    same(batches(cached, sampler), batches(PairDataset(folder, "train", ALL), sampler))
    for record in folder.split("train")[:2]:
        record.he.unlink()
    cached[0, 1]  # from memory
    assert copy.copy(cached).cached() == 0  # as a worker that is not forked gets it


def test_needs_say_what_is_missing(tmp_path, bci, picture, save):
    for side in "AB":
        save(tmp_path / "plain" / f"train{side}" / "1.png", picture(1))
    plain = read_dataset(tmp_path / "plain")
    with pytest.raises(RestainError, match=r"no levels in its file names.*pairs\.csv"):
        PairDataset(plain, "train", needs=["levels"])
    with pytest.raises(RestainError, match="no pairs in split val; splits with pairs: train"):
        PairDataset(plain, "val")
    with pytest.raises(RestainError, match="no dataset provides 'colour'"):
        PairDataset(plain, "train", needs=["colour"])
    PairDataset(read_dataset(bci()), "train", needs=["levels"])
    assert PairDataset(plain, "train")[0, 0].level == -1


def test_unpaired_draws_both_sides_independently(tmp_path, picture, save):
    for index in range(3):
        save(tmp_path / "trainA" / f"a{index}.png", picture(index))
    for index in range(5):
        save(tmp_path / "trainB" / f"b{index}.png", picture(100 + index))
    folder = read_dataset(tmp_path)
    with pytest.raises(RestainError, match="images without a partner"):
        PairDataset(folder, "train")
    dataset = PairDataset(folder, "train", needs=["unpaired"])
    assert len(dataset) == 5
    samples = [dataset[epoch, index] for epoch in range(8) for index in range(5)]
    assert {sample.name for sample in samples} == {"a0", "a1", "a2"}
    partners = {(sample.name, sample.ihc.tobytes()) for sample in samples}
    assert len({ihc for _, ihc in partners}) == 5
    assert len(partners) > 10
    again = dataset[3, 2]
    assert np.array_equal(again.ihc, samples[17].ihc)


def test_zoom_scales_what_is_cut_and_draws_nothing_else_anew() -> None:
    """A wedge of known slope: its slope in the crop says by how much it was zoomed."""
    wedge = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    slopes = []
    for seed in range(60):
        plain, zoomed = (
            Augmentation(crop=64, zoom=zoom, horizontal_flip=True)([wedge], np.random.default_rng(seed))[0]
            for zoom in (1.0, 1.5)
        )
        assert zoomed.shape == (64, 64, 3)
        ends = [np.diff(image[32, [8, 56], 0].astype(int))[0] / 48 for image in (plain, zoomed)]
        assert abs(ends[0]) == 1
        assert np.sign(ends[1]) == ends[0], "the same flip"
        slopes.append(abs(ends[1]))
    assert 1 / 1.55 < min(slopes) < 0.75
    assert 1.35 < max(slopes) < 1.55
    (whole,) = Augmentation(crop=190, zoom=1.5)([wedge], np.random.default_rng(1))
    assert whole.shape == (190, 190, 3), "never cut beyond the image"


def test_elastic_bends_images_and_maps_alike_and_smoothly() -> None:
    rows, columns = np.mgrid[:96, :96].astype(np.uint8)
    picture, grey = np.stack([rows, columns, rows], 2), columns[..., None].copy()
    shifts = []
    for seed in range(20):
        bent, bent_map = Augmentation(elastic=3.0)([picture, grey], np.random.default_rng(seed))
        assert bent_map.shape == (96, 96, 1)
        assert np.array_equal(bent[..., 1], bent_map[..., 0])
        shift = bent[..., 1].astype(float) - columns
        assert np.abs(np.diff(shift[20:76, 20:76], axis=1)).max() <= 2, "no tears"
        shifts.append(shift[20:76, 20:76])
    assert 1.5 < np.std(shifts) < 3.5
    with pytest.raises(RestainError, match="elastic"):
        Augmentation(elastic=-1)
    with pytest.raises(RestainError, match="crop"):
        Augmentation(zoom=1.2)


def test_a_program_that_stops_in_the_middle_of_an_epoch_ends(bci):
    """Workers ignore signals that are not theirs to answer; Python's exit must not wait for them for ever."""
    lines = [
        "from restain.data import EpochBatchSampler, PairDataset, make_dataloader, read_dataset",
        f"dataset = PairDataset(read_dataset({str(bci())!r}), 'train')",
        "loader = make_dataloader(dataset, EpochBatchSampler(len(dataset), 1), workers=1)",
        "batches = iter(loader)",
        "next(batches)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=60)
