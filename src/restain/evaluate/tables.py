"""Means over images, overall and by level, of metrics of pairs and of sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from restain.core.errors import ItemError
from restain.data.levels import sorted_levels
from restain.evaluate.bootstrap import Estimate, estimate
from restain.evaluate.measure import Measured, Ready
from restain.evaluate.protocol import Interval, Protocol
from restain.evaluate.reference import best_constant_of


@dataclass(frozen=True)
class Table:
    """Means over all images and over those of each level; of metrics of sets, their one value.

    Attributes:
        overall: estimate by metric.
        levels: estimate by metric, by level, in the order of the levels.
    """

    overall: Mapping[str, Estimate]
    levels: Mapping[str, Mapping[str, Estimate]]


def resampled_units(measured: Sequence[Measured]) -> tuple[list[str], str]:
    """What the bootstrap draws, one name per image, and what that is: patients where all are known, else images."""
    patients = [item.image.patient for item in measured if item.image.patient]
    if len(patients) == len(measured):
        return patients, "patient"
    return [item.image.name for item in measured], "image"


def method_tables(
    common: Sequence[Measured], methods: Sequence[str], units: Sequence[str], rules: Protocol, metrics: Ready
) -> dict[str, Table]:
    """The table of each method over the images in ``common``, which every method has; columns as in the protocol."""
    levels = [item.image.level for item in common]
    tables = {}
    for method in methods:
        pairs = table([item.values[method] for item in common], levels, units, rules.interval)
        every = _set_values(common, method, metrics)
        by_level = {
            level: {**values, **_set_values([item for item in common if item.image.level == level], method, metrics)}
            for level, values in pairs.levels.items()
        }
        tables[method] = Table(
            _ordered({**pairs.overall, **every}, rules),
            {level: _ordered(own, rules) for level, own in by_level.items()},
        )
    return tables


def reference_table(common: Sequence[Measured], units: Sequence[str], rules: Protocol) -> tuple[Table, float]:
    """The table of the best constant image, and its DAB in HED units."""
    constant = best_constant_of([item.dab for item in common if item.dab is not None])
    values = [{"dab_od_error": float(error)} for error in constant.errors]
    return table(values, [item.image.level for item in common], units, rules.interval), constant.dab


def table(
    values: Sequence[Mapping[str, float]], levels: Sequence[str | None], units: Sequence[str], interval: Interval
) -> Table:
    """Estimates of every metric of pairs, over all images and by level.

    Args:
        values: value by metric, one mapping per image.
        levels: of each image, None where unknown.
        units: what is resampled, one name per image.
        interval: how intervals are made.
    """

    def estimates(chosen: Sequence[int]) -> dict[str, Estimate]:
        names = [units[index] for index in chosen]
        return {
            metric: estimate(np.array([values[index][metric] for index in chosen]), names, interval)
            for metric in values[0]
        }

    known = sorted_levels(name for name in levels if name is not None)
    by_level = {name: estimates([index for index, own in enumerate(levels) if own == name]) for name in known}
    return Table(estimates(range(len(values))), by_level)


def _set_values(images: Sequence[Measured], method: str, metrics: Ready) -> dict[str, Estimate]:
    """The metrics of sets for these images of a method; resampling them would want the features of every sample."""
    found = {}
    for name, metric in metrics.sets.items():
        real, fake = (np.stack([item.features[name][whose] for item in images]) for whose in (None, method))
        try:
            value = float(metric.distance(real, fake))
        except ItemError:  # too few images for this metric
            found[name] = Estimate(None, None, None, len(images))
        else:
            found[name] = Estimate(value, None, None, len(images))
    return found


def _ordered(values: Mapping[str, Estimate], rules: Protocol) -> dict[str, Estimate]:
    return {name: values[name] for name in rules.metrics if name in values}
