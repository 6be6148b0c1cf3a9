"""Metrics of a pair of images, real and generated; one metric, one file."""

from restain.metrics.base import (
    METRICS,
    Direction,
    ImagePair,
    MetricInfo,
    PairMetric,
    WeightsMissingError,
    load_metric,
    pair_metric,
)

__all__ = [
    "METRICS",
    "Direction",
    "ImagePair",
    "MetricInfo",
    "PairMetric",
    "WeightsMissingError",
    "load_metric",
    "pair_metric",
]
