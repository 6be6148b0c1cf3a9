"""How often pairs are drawn, and what a batch says of them: image, slide, level."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restain.core.errors import RestainError
from restain.data import Augmentation, EpochBatchSampler, PairBatch, PairDataset, Sampling, collate, read_dataset
from restain.data.sampling import agreement_weights, balanced_weights, colour_histogram, correlation


def keys(sampler: EpochBatchSampler) -> list[tuple[int, ...]]:
    return [key for batch in sampler for key in batch]


def test_balanced_weights_give_each_level_that_occurs_the_same() -> None:
    levels = np.array([0, 0, 0, 0, 0, 2, 2, 3, -1, -1])
    weights = balanced_weights(levels)
    assert weights.sum() == pytest.approx(1)
    by_level = {level: weights[levels == level].sum() for level in (0, 2, 3)}
    assert by_level == pytest.approx(dict.fromkeys((0, 2, 3), 0.8 / 3))
    assert weights[levels == -1].tolist() == pytest.approx([0.1, 0.1]), "what is unknown keeps its share"
    assert balanced_weights([1, 1]).tolist() == [0.5, 0.5]


def test_an_epoch_of_weighted_draws_follows_the_weights() -> None:
    weights = [0, 1, 2, 5]
    seen = Counter(
        key[1] for epoch in range(2000) for key in keys(EpochBatchSampler(4, 3, seed=1, epoch=epoch, weights=weights))
    )
    assert sum(seen.values()) == 8000
    assert seen[0] == 0
    for index in (1, 2, 3):
        p = weights[index] / 8
        assert abs(seen[index] - 8000 * p) < 5 * np.sqrt(8000 * p * (1 - p)), index


def test_weighted_draws_depend_on_seed_and_epoch_alone_and_are_shared() -> None:
    weights = np.arange(1.0, 11)
    whole = keys(EpochBatchSampler(10, 2, seed=4, epoch=7, weights=weights))
    assert whole == keys(EpochBatchSampler(10, 2, seed=4, epoch=7, weights=3 * weights))
    assert whole != keys(EpochBatchSampler(10, 2, seed=4, epoch=8, weights=weights))
    later = EpochBatchSampler(10, 2, seed=4, weights=weights)
    later.set_epoch(7, 3)
    assert keys(later) == whole[6:]
    ranks = [
        list(EpochBatchSampler(10, 2, seed=4, epoch=7, weights=weights, rank=rank, world_size=2)) for rank in (0, 1)
    ]
    assert [len(batches) for batches in ranks] == [3, 3]
    together = [key for pair in zip(*ranks, strict=True) for two in zip(*pair, strict=True) for key in two]
    assert together[:10] == whole


def test_a_pair_that_comes_again_in_an_epoch_is_augmented_otherwise(bci) -> None:
    sampler = EpochBatchSampler(3, 3, seed=2, epoch=1, weights=[0, 1, 0])
    assert keys(sampler) == [(1, 1), (1, 1, 1), (1, 1, 2)]
    dataset = PairDataset(read_dataset(bci()), "train", Augmentation(crop=8))
    crops = {dataset[key].he.tobytes() for key in keys(sampler)}
    assert len(crops) == 3
    assert dataset[1, 1].he.tobytes() in crops


@pytest.mark.parametrize("weights", [[1, 2], [1, -1, 1], [0, 0, 0], [1, np.nan, 1]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(RestainError, match="weights of sampling are 3 numbers"):
        EpochBatchSampler(3, 1, weights=weights)


def smooth(seed: int, size: int = 40) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).uniform(0, 255, (size, size, 3)), (0, 0), 2)
    return cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_the_correlation_is_pearsons_of_grey_values() -> None:
    one, two = smooth(0), smooth(1)
    grey = [0.299 * i[..., 0] + 0.587 * i[..., 1] + 0.114 * i[..., 2] for i in (one.astype(float), two.astype(float))]
    n = one.shape[0] * one.shape[1]
    assert correlation(one, two) == pytest.approx(np.corrcoef(grey[0].ravel(), grey[1].ravel())[0, 1] * n / (n - 1))
    assert correlation(one, one) == pytest.approx(n / (n - 1))
    assert correlation(one, 255 - one) == pytest.approx(-n / (n - 1))
    assert correlation(one, np.full_like(one, 200)) == pytest.approx(0, abs=1e-6)


def test_agreement_is_equation_14() -> None:
    histograms = np.zeros((3, 256))
    histograms[0, 3], histograms[1, 3], histograms[2, 9] = 1, 1, 1  # two of three share a colour
    weights = agreement_weights(np.array([1.0, 0.0, 0.0]), histograms)
    raw = np.array([1 / np.sqrt(2 / 3), 0.5 / np.sqrt(2 / 3), 0.5 / np.sqrt(1 / 3)])
    assert weights == pytest.approx(raw / raw.sum())
    larger = agreement_weights(np.zeros(3), histograms, np.array([1.0, 1.0, 6.0]))
    assert larger[2] < larger[0], "a large image's colours are the common ones"
    assert agreement_weights(np.full(2, -1.0), histograms[:2]).tolist() == [0.5, 0.5]


def dataset_of(root: Path, pairs: list[tuple[np.ndarray, np.ndarray]], save, names: list[str] | None = None) -> Path:
    for number, pair in enumerate(pairs):
        for side, image in zip(("HE", "IHC"), pair, strict=True):
            name = names[number] if names else f"{number}"
            save(root / side / "train" / f"{name}.png", image)
    return root


@pytest.mark.parametrize("cache", [0, 1 << 20])
def test_agreement_of_a_dataset(tmp_path: Path, save, cache: int) -> None:
    pairs = [(smooth(0), smooth(0)), (smooth(1), smooth(2)), (smooth(3, 56), 255 - smooth(3, 56))]
    dataset = PairDataset(read_dataset(dataset_of(tmp_path, pairs, save)), "train", cache_bytes=cache)
    weights = Sampling.agreement.weights(dataset)
    r = np.array([correlation(*pair) for pair in pairs])
    h = np.array([np.histogram(he[..., 2], bins=256, range=(0, 256))[0] / he[..., 2].size for he, _ in pairs])
    pooled = np.concatenate([he[..., 2].ravel() for he, _ in pairs])
    pooled = np.histogram(pooled, bins=256, range=(0, 256))[0] / pooled.size
    expected = np.clip((1 + r) / 2, 0, None) / np.sqrt(h @ pooled)
    assert weights == pytest.approx(expected / expected.sum())
    assert weights.argsort().tolist() == [2, 1, 0]
    assert colour_histogram(pairs[0][0]) == pytest.approx(h[0])


def test_sampling_says_what_it_lacks(tmp_path: Path, save, bci) -> None:
    plain = read_dataset(dataset_of(tmp_path / "plain", [(smooth(0), smooth(1))], save))
    assert Sampling.each.weights(PairDataset(plain, "train")) is None
    with pytest.raises(RestainError, match="sampling balanced needs levels, but no pair of split train has one"):
        Sampling.balanced.weights(PairDataset(plain, "train"))
    with pytest.raises(RestainError, match="sampling agreement compares the images of a pair"):
        Sampling.agreement.weights(PairDataset(plain, "train", needs=["unpaired"]))
    names = ["0_train_0", "1_train_0", "2_train_0", "3_train_1+", "4_train_x"]
    weights = Sampling.balanced.weights(PairDataset(read_dataset(bci({"train": names})), "train", needs=["unpaired"]))
    assert weights == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3])


def test_samples_know_their_image_and_slide(bci) -> None:
    root = bci({"train": ["0_train_0", "1_train_1+", "2_train_0", "3_train_1+"], "test": ["0_test_0"]})
    (root / "pairs.csv").write_text("name,slide\n0_train_0,b\n1_train_1+,a\n2_train_0,\n3_train_1+,b\n0_test_0,z\n")
    folder = read_dataset(root)
    dataset = PairDataset(folder, "train")
    batch = collate([dataset[1, index] for index in range(4)])
    assert batch.image.tolist() == [0, 1, 2, 3]
    assert batch.slide.tolist() == [1, 0, -1, 1]
    assert batch.to("cpu").slide.tolist() == [1, 0, -1, 1]
    unpaired = PairDataset(folder, "train", needs=["unpaired"])
    for sample in (unpaired[epoch, index] for epoch in range(4) for index in range(4)):
        assert np.array_equal(sample.ihc, folder.split("train")[sample.image].read()[1]), "the IHC's number"
        assert sample.slide == [1, 0, -1, 1][sample.image]


def test_a_batch_made_without_numbers_knows_none() -> None:
    image = torch.zeros(2, 3, 4, 4)
    batch = PairBatch(image, image, torch.tensor([0, -1]), ("a", "b"))
    assert batch.image.tolist() == batch.slide.tolist() == [-1, -1]


def test_levels_may_be_missing_in_part_but_not_in_a_whole_split(tmp_path: Path, save) -> None:
    names = ["a", "b", "c"]
    root = dataset_of(tmp_path, [(smooth(0), smooth(1))] * 3, save, names)
    for split in ("train", "test"):
        for side in ("HE", "IHC"):
            (root / side / split).mkdir(exist_ok=True)
    (root / "pairs.csv").write_text("name,level,split\na,2+,train\nb,,train\nc,0,test\n")
    dataset = PairDataset(read_dataset(root), "train", needs=["levels"])
    assert [dataset[1, index].level for index in range(2)] == [1, -1]
    assert dataset.levels.tolist() == [1, -1]
    (root / "pairs.csv").write_text("name,level,split\na,,train\nb,,train\nc,0,test\n")
    with pytest.raises(RestainError, match="no pair of split train has one"):
        PairDataset(read_dataset(root), "train", needs=["levels"])
