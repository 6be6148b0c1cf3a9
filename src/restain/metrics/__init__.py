"""Metrics of real and generated images, of pairs or of sets of them; one metric, one file."""

from restain.metrics.base import (
    METRICS,
    Direction,
    ImagePair,
    MetricInfo,
    PairMetric,
    Scope,
    SetMetric,
    WeightFiles,
    WeightsMissingError,
    load_metric,
    load_set_metric,
    pair_metric,
    weight_files,
)

__all__ = [
    "METRICS",
    "Direction",
    "ImagePair",
    "MetricInfo",
    "PairMetric",
    "Scope",
    "SetMetric",
    "WeightFiles",
    "WeightsMissingError",
    "load_metric",
    "load_set_metric",
    "pair_metric",
    "weight_files",
]
