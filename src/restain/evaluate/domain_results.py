"""What a domain analysis found, and the files that say so. Every difference is **real minus generated**."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.files import write_csv, write_json
from restain.core.runs import versions
from restain.evaluate.bootstrap import INTERVAL, Estimate
from restain.evaluate.measure import Failure
from restain.stains.membrane import THRESHOLDS

BINS = 31
"""About as many bars does the histogram of nuclei have."""
SHOWN = 0.98
"""Share of all differences that the histogram of nuclei reaches as far as."""


@dataclass(frozen=True)
class Compared:
    """One real image and the one that a method generated for it.

    Attributes:
        image: its name.
        level: its level, None where unknown.
        patient: its patient, None where unknown.
        method: who generated it.
        mpp: um/px of both, None where unknown.
        real_nuclei: nuclei in the real image; None where the um/px is not known.
        fake_nuclei: nuclei in the generated image; likewise.
        real_ratios: share of the real image's pixels above each threshold, float32 [21].
        fake_ratios: the same of the generated image.
    """

    image: str
    level: str | None
    patient: str | None
    method: str
    mpp: float | None
    real_nuclei: int | None
    fake_nuclei: int | None
    real_ratios: NDArray[np.float32]
    fake_ratios: NDArray[np.float32]

    @property
    def nuclei(self) -> int | None:
        """Nuclei, real minus generated."""
        if self.real_nuclei is None or self.fake_nuclei is None:
            return None
        return self.real_nuclei - self.fake_nuclei

    @property
    def membranes(self) -> NDArray[np.float64]:
        """Shares, real minus generated, float64 [21]."""
        return self.real_ratios.astype(np.float64) - self.fake_ratios


@dataclass(frozen=True)
class Count:
    """Nuclei of one method in the images of one level.

    Attributes:
        difference: mean and interval of the nuclei of an image, real minus generated.
        absolute: mean of its absolute value; a mean near 0 may be errors that cancel.
    """

    difference: Estimate
    absolute: float


@dataclass(frozen=True)
class Curve:
    """Membranes of one method in the images of one level, by threshold: mean and interval of real minus generated.

    Attributes:
        estimates: of the difference, one for each threshold.
        absolute: means of its absolute value, float64 [21].
        real: mean share in the real images, float64 [21].
    """

    estimates: Sequence[Estimate]
    absolute: NDArray[np.float64]
    real: NDArray[np.float64]


@dataclass(frozen=True)
class Domain:
    """What the analysis found.

    Attributes:
        rows: every pair compared, by method.
        images: names of the images that the means are over: those that every method has.
        methods: their names, in the order given.
        levels: the levels among the images, in order.
        counts: nuclei by (method, level), level None for all together; over the images where they were counted, and
            without the levels that have none of these.
        membranes: by (method, level), likewise, over all ``images``.
        detector: what counted the nuclei.
        resampled: what the bootstrap drew: ``patient`` or ``image``.
        failures: images that could not be compared.
        notes: what a reader must know.
        folders: real and generated folders, as given.
    """

    rows: Sequence[Compared]
    images: Sequence[str]
    methods: Sequence[str]
    levels: Sequence[str]
    counts: Mapping[tuple[str, str | None], Count]
    membranes: Mapping[tuple[str, str | None], Curve]
    detector: str
    resampled: str
    failures: Sequence[Failure] = ()
    notes: Sequence[str] = ()
    folders: Mapping[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> list[str | None]:
        """All levels together (None), then each."""
        return [None, *self.levels]

    def differences(self, method: str) -> NDArray[np.int64]:
        """Nuclei of each image that every method has, real minus generated [n], where they were counted."""
        shown = set(self.images)
        found = [row.nuclei for row in self.rows if row.method == method and row.image in shown]
        return np.array([value for value in found if value is not None], np.int64)

    def edges(self) -> NDArray[np.float64]:
        """Edges of the histogram of nuclei, the same for every method; its middle bar is centred on 0 [bars + 1].

        It reaches as far as ``SHOWN`` of all differences; the outermost bars hold those beyond, too.
        """
        every = np.abs(np.concatenate([self.differences(method) for method in self.methods]))
        largest = math.ceil(np.quantile(every, SHOWN)) if every.size else 0
        width = math.ceil((2 * largest + 1) / BINS) | 1  # odd: edges lie between whole numbers
        side = math.ceil(max(0.0, largest - width / 2) / width)
        return np.asarray((np.arange(-side, side + 2) - 0.5) * width)

    def histogram(self, method: str) -> NDArray[np.int64]:
        """Images of a method in each bar [bars]."""
        edges = self.edges()
        inside = np.clip(self.differences(method), edges[0], edges[-1])
        return np.asarray(np.histogram(inside, edges)[0], np.int64)

    def document(self) -> dict[str, Any]:
        """The summary as JSON can hold it."""
        return {
            "difference": "real minus generated",
            "thresholds": list(THRESHOLDS),
            "methods": {method: self._method(method) for method in self.methods},
            "levels": list(self.levels),
            "detector": self.detector if self.counts else None,
            "mpp": sorted({row.mpp for row in self.rows if row.mpp is not None}),
            "interval": {**asdict(INTERVAL), "kind": "percentile bootstrap", "resampled": self.resampled},
            "folders": dict(self.folders),
            "failures": [asdict(failure) for failure in self.failures],
            "notes": list(self.notes),
            "versions": versions(),
        }

    def _method(self, method: str) -> dict[str, Any]:
        nuclei = {
            level: {**asdict(count.difference), "mean_absolute": count.absolute}
            for level in self.groups
            if (count := self.counts.get((method, level)))
        }
        membranes = {level: _curve_document(self.membranes[method, level]) for level in self.groups}
        return {"nuclei": _by_level(nuclei) if nuclei else None, "membranes": _by_level(membranes)}

    def write(self, out: Path) -> None:
        """Write ``images.csv``, ``membranes.csv``, ``nuclei.csv``, ``nuclei_histogram.csv`` and ``domain.json``.

        In the tables, an empty level stands for all levels together.
        """
        _write(out / "images.csv", [_image_line(row) for row in self.rows])
        keys = [(method, level) for method in self.methods for level in self.groups]
        _write(
            out / "membranes.csv",
            [
                {"method": method, "level": level, "threshold": threshold, **line}
                for method, level in keys
                for threshold, line in zip(THRESHOLDS, _curve_lines(self.membranes[method, level]), strict=True)
            ],
        )
        if self.counts:
            counts = {key: self.counts[key] for key in keys if key in self.counts}
            _write(
                out / "nuclei.csv",
                [
                    {"method": method, "level": level, **_interval(count.difference), "mean_absolute": count.absolute}
                    for (method, level), count in counts.items()
                ],
            )
            _write(out / "nuclei_histogram.csv", [bar for method in self.methods for bar in self._bars(method)])
        write_json(out / "domain.json", self.document())

    def _bars(self, method: str) -> list[dict[str, object]]:
        edges, found = self.edges(), self.histogram(method)
        return [
            {"method": method, "low": low, "high": high, "images": int(images), "share": images / found.sum()}
            for low, high, images in zip(edges[:-1], edges[1:], found, strict=True)
        ]


def _by_level(found: Mapping[str | None, Any]) -> dict[str, Any]:
    """All levels together apart from each: a level may be called whatever it likes."""
    return {"overall": found[None], "levels": {level: own for level, own in found.items() if level is not None}}


def _write(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    write_csv(path, list(lines[0]), lines)


def _interval(value: Estimate) -> dict[str, object]:
    return {"n": value.n, "mean": value.mean, "low": value.low, "high": value.high}


def _curve_lines(curve: Curve) -> list[dict[str, object]]:
    """What is known at each threshold."""
    values = zip(curve.estimates, curve.absolute.tolist(), curve.real.tolist(), strict=True)
    return [{**_interval(value), "mean_absolute": absolute, "real": real} for value, absolute, real in values]


def _curve_document(curve: Curve) -> dict[str, object]:
    lines = _curve_lines(curve)
    return {"n": lines[0]["n"], **{name: [line[name] for line in lines] for name in lines[0] if name != "n"}}


def _image_line(row: Compared) -> dict[str, object]:
    return {
        "image": row.image,
        "level": row.level,
        "patient": row.patient,
        "method": row.method,
        "mpp": row.mpp,
        "nuclei_real": row.real_nuclei,
        "nuclei_generated": row.fake_nuclei,
        "nuclei_difference": row.nuclei,
        **{f"real_{t:.2f}": float(value) for t, value in zip(THRESHOLDS, row.real_ratios, strict=True)},
        **{f"generated_{t:.2f}": float(value) for t, value in zip(THRESHOLDS, row.fake_ratios, strict=True)},
    }
