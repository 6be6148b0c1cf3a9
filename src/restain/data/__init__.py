"""Patch-pair datasets: layouts, building, quality control, splits, sampling, augmentation."""

from restain.data.augment import Augmentation
from restain.data.batch import PairBatch, PairSample, collate, from_network, to_network
from restain.data.build import BuildResult, build_pairs
from restain.data.check import DatasetReport, check_dataset, without_bad_images
from restain.data.cohort_table import CohortRow, read_cohort
from restain.data.dataset import NEEDS, PairDataset, require, slides_of
from restain.data.knowledge import KnowledgeResult, make_knowledge
from restain.data.knowledge_index import knowledge_command, knowledge_fingerprint
from restain.data.layouts import MAPS
from restain.data.levels import levels_from_names, sorted_levels
from restain.data.loader import PairLoader, make_dataloader
from restain.data.pairs_config import PairsConfig
from restain.data.quality_check import QualityReport, check_quality
from restain.data.quality_filter import QualityFilter
from restain.data.quality_slide import SlideQuality, slide_quality
from restain.data.reading import read_dataset
from restain.data.records import LoneImage, PairFolder, PairRecord, Problem, dataset_fingerprint
from restain.data.sampler import EpochBatchSampler
from restain.data.sampling import Sampling
from restain.data.split import SplitResult, split_groups, split_records
from restain.data.stats import dataset_stats

__all__ = [
    "Augmentation",
    "BuildResult",
    "CohortRow",
    "DatasetReport",
    "EpochBatchSampler",
    "KnowledgeResult",
    "LoneImage",
    "MAPS",
    "NEEDS",
    "PairBatch",
    "PairDataset",
    "PairFolder",
    "PairLoader",
    "PairRecord",
    "PairSample",
    "PairsConfig",
    "Problem",
    "Sampling",
    "QualityFilter",
    "QualityReport",
    "SlideQuality",
    "SplitResult",
    "build_pairs",
    "check_dataset",
    "check_quality",
    "collate",
    "dataset_fingerprint",
    "dataset_stats",
    "from_network",
    "knowledge_command",
    "knowledge_fingerprint",
    "levels_from_names",
    "make_dataloader",
    "make_knowledge",
    "read_cohort",
    "read_dataset",
    "require",
    "slides_of",
    "sorted_levels",
    "slide_quality",
    "split_groups",
    "split_records",
    "to_network",
    "without_bad_images",
]
