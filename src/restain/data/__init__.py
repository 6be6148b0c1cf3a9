"""Patch-pair datasets: layouts, building, quality control, splits, sampling, augmentation."""

from restain.data.augment import Augmentation
from restain.data.batch import PairBatch, PairSample, collate, from_network, to_network
from restain.data.dataset import NEEDS, PairDataset, require
from restain.data.levels import levels_from_names, sorted_levels
from restain.data.loader import PairLoader, make_dataloader
from restain.data.reading import read_dataset
from restain.data.records import LoneImage, PairFolder, PairRecord, Problem, dataset_fingerprint
from restain.data.sampler import EpochBatchSampler

__all__ = [
    "NEEDS",
    "Augmentation",
    "EpochBatchSampler",
    "LoneImage",
    "PairBatch",
    "PairDataset",
    "PairFolder",
    "PairLoader",
    "PairRecord",
    "PairSample",
    "Problem",
    "collate",
    "dataset_fingerprint",
    "from_network",
    "levels_from_names",
    "make_dataloader",
    "read_dataset",
    "require",
    "sorted_levels",
    "to_network",
]
