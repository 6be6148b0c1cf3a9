"""What an evaluation found, and the files that say so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restain.core.files import write_csv, write_json
from restain.evaluate.folders import printable
from restain.evaluate.matching import stainer_text
from restain.evaluate.measure import Failure
from restain.evaluate.pictures import Pictures
from restain.evaluate.protocol import Protocol
from restain.evaluate.tables import Table
from restain.infer.record import Origin
from restain.metrics import METRICS, Scope

REFERENCE = "best constant image"

TABLE_COLUMNS = ("method", "level", "metric", "mean", "low", "high", "n", "infinite")

# Below this many resampled units, percentile intervals are clearly too narrow.
FEW = 10


@dataclass(frozen=True)
class Row:
    """One pair: a line of ``metrics.csv``.

    Attributes:
        image: name of the image.
        level: its level, None where unknown.
        patient: its patient, None where unknown.
        method: who generated it.
        values: value by metric; infinite where a metric says so.
    """

    image: str
    level: str | None
    patient: str | None
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Unpaired:
    """Names of the images without a partner, for one method."""

    without_fake: tuple[str, ...]
    without_real: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The result of an evaluation.

    Attributes:
        protocol: what was measured and how.
        real: the folder of real images, as given.
        fakes: the folder of each method, as given.
        rows: every pair that was measured.
        images: names of the images that the means are over: those that every method has.
        levels: the levels among them, in order.
        tables: means by method.
        constant_dab: DAB of the best constant-colour image, in HED units.
        reference: the DAB error of that image against the same real images.
        resampled: what the bootstrap drew: ``patient`` or ``image``.
        units: how many there were.
        failures: images that could not be measured.
        unpaired: images without a partner, by method; only methods that have some.
        not_computed: metrics that could not be computed at all, with the reason.
        fingerprint: hash over names and contents of the real images in the means.
        views: test-time views averaged for the images of each method, every number that occurs; None among them where
            neither a ``stain.json`` nor the one who evaluates says.
        origins: what made the images of each method, as ``stain.json`` says; None among them where it does not.
        mixtures: what of the images averaged does not match, though ``--mixed`` let it pass; a sentence each.
        mpp: um/px of the images, every number that occurs, ascending; empty where none is known.
        mpp_overridden: those of ``pairs.csv`` that the user replaced.
        assumed_mpp: um/px that the protocol takes where none is known; None where all are.
        weights: SHA-256 of each file of weights in use, by its name.
        versions: of restain and the libraries that the numbers depend on.
        pictures: the images chosen for the report.
    """

    protocol: Protocol
    real: Path
    fakes: Mapping[str, Path]
    rows: Sequence[Row]
    images: Sequence[str]
    levels: Sequence[str]
    tables: Mapping[str, Table]
    constant_dab: float
    reference: Table
    resampled: str
    units: int
    failures: Sequence[Failure]
    unpaired: Mapping[str, Unpaired]
    not_computed: Mapping[str, str]
    fingerprint: str
    views: Mapping[str, tuple[int | None, ...]]
    origins: Mapping[str, tuple[Origin | None, ...]]
    mixtures: Sequence[str]
    mpp: tuple[float, ...]
    mpp_overridden: tuple[float, ...]
    assumed_mpp: float | None
    weights: Mapping[str, str]
    versions: Mapping[str, str]
    pictures: Pictures = field(default_factory=Pictures)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that were computed, in the protocol's order."""
        return [name for name in self.protocol.metrics if name not in self.not_computed]

    @property
    def pair_metrics(self) -> list[str]:
        """Those of them that have a value for each pair."""
        return [name for name in self.metrics if METRICS[name].info.scope is Scope.PAIR]

    @property
    def exit_code(self) -> int:
        """0: every image was measured; 1: some were not, see ``problems``."""
        return 1 if self.failures or self.unpaired else 0

    @property
    def test_time_views(self) -> int | None:
        """Views averaged for every image of every method; None where that is not one known number."""
        found = {self._one_number(method) for method in self.views}
        return found.pop() if len(found) == 1 else None

    def _one_number(self, method: str) -> int | None:
        """The method's test-time views; None where they are not known or not the same for all of its images."""
        views = self.views[method]
        return views[0] if len(views) == 1 else None

    def views_text(self, method: str) -> str:
        """The method's test-time views in words."""
        return " and ".join("not stated" if views is None else str(views) for views in self.views[method])

    def stainers(self, method: str) -> list[str]:
        """What ``stain.json`` says made the method's images, each in words; none where it says nothing."""
        return list(dict.fromkeys(stainer_text(origin) for origin in self.origins[method] if origin is not None))

    def beats_constant(self, method: str) -> bool | None:
        """Whether the method's mean DAB error is below that of the best constant image; None if it is not known."""
        own, reference = self.tables[method].overall.get("dab_od_error"), self.reference.overall["dab_od_error"]
        if own is None or own.mean is None or reference.mean is None:
            return None
        return own.mean < reference.mean

    def problems(self) -> list[str]:
        """What the user must know about images that were left out, one line each."""
        lines = [f"{failure.image}: {failure.reason}" for failure in self.failures]
        for method, unpaired in self.unpaired.items():
            if unpaired.without_fake:
                lines.append(f"{method}: real images without a generated one: {', '.join(unpaired.without_fake)}")
            if unpaired.without_real:
                lines.append(f"{method}: generated images without a real one: {', '.join(unpaired.without_real)}")
        return lines

    def warnings(self) -> list[str]:
        """Means that a metric warns of, one line each: they judge nothing, and nothing is left out for them."""
        lines = []
        for method, table in self.tables.items():
            for metric, value in table.overall.items():
                info = METRICS[metric].info
                if info.warn_below is not None and value.mean is not None and value.mean < info.warn_below:
                    number = f"{value.mean:.{info.decimals}f}, below {info.warn_below:g}"
                    lines.append(f"Warning: {method}: {info.title} {number}: {info.warning}.")
                groups = {"all levels": value} | {f"level {name}": own[metric] for name, own in table.levels.items()}
                if few := {name: own.n for name, own in groups.items() if own.n + own.infinite < info.fewest}:
                    lines.append(
                        f"Warning: {method}: {info.title} of fewer than {info.fewest} images is {info.of_fewer}, and "
                        "values of different numbers of images do not compare: "
                        + ", ".join(f"{name} {n}" for name, n in few.items())
                        + "."
                    )
        return lines

    def notes(self) -> list[str]:
        """What a reader of the numbers must know, one sentence each."""
        lines = list(self.not_computed.values())
        for method, table in self.tables.items():
            for metric, value in table.overall.items():
                if value.mean is None and not value.infinite:
                    lines.append(f"{method}: {METRICS[metric].info.title} has no value for {_images(value.n)}.")
                if value.infinite:
                    info = METRICS[metric].info
                    lines.append(
                        f"{method}: {value.infinite} of {value.infinite + value.n} pairs have infinite {info.title} "
                        f"({info.infinite_means}); its mean is over the others."
                    )
        if self.assumed_mpp is not None:
            lines.append(
                f"The um/px is taken to be {self.assumed_mpp:g}, as the protocol says, for images of which neither "
                "--mpp nor a pairs.csv does."
            )
        if self.mpp_overridden:
            own = ", ".join(f"{mpp:g}" for mpp in self.mpp_overridden)
            lines.append(f"--mpp {self.mpp[0]:g} takes the place of {own} um/px of pairs.csv.")
        lines += [f"Averaged all the same (--mixed): {sentence}" for sentence in self.mixtures]
        if len(set(self.views.values())) > 1:
            several = ", ".join(f"{method} {self.views_text(method)}" for method in self.views)
            lines.append(
                f"Test-time views differ ({several}): averaging views raises PSNR and SSIM, so compare like with like."
            )
        if len({row.image for row in self.rows}) > len(self.images):
            lines.append("The means are over the images that every method has; metrics.csv lists all.")
        if self.units < 2:
            lines.append(f"A single {self.resampled} allows no interval.")
        elif self.units < FEW:
            lines.append(f"With {self.units} {self.resampled}s, the intervals are no more than a rough guide.")
        if self.units > 1 and self.resampled == "image":
            lines.append(
                "Patients are unknown, so images were resampled as if independent: images of one patient resemble each "
                "other, and the true intervals are wider. A pairs.csv with a patient column mends this."
            )
        return lines

    def document(self) -> dict[str, Any]:
        """All but rows and pictures, as JSON can hold it: infinite and absent numbers are null."""
        interval = self.protocol.interval
        return {
            "protocol": {
                "name": self.protocol.name,
                "version": self.protocol.version,
                "hash": self.protocol.hash,
                "metrics": {name: _metric(name) for name in self.metrics},
            },
            "real": printable(str(self.real)),
            "n": len(self.images),
            "levels": list(self.levels),
            "methods": {
                method: {
                    "fake": printable(str(self.fakes[method])),
                    "test_time_views": self._one_number(method),
                    "stained_by": [_origin(origin) for origin in self.origins[method] if origin is not None],
                    **_table(table),
                }
                for method, table in self.tables.items()
            },
            "references": {REFERENCE: {"dab": self.constant_dab, **_table(self.reference)}},
            "interval": {
                "kind": "percentile bootstrap",
                "confidence": interval.confidence,
                "resamples": interval.resamples,
                "resampled": self.resampled,
                "units": self.units,
            },
            "seed": interval.seed,
            "dataset_fingerprint": self.fingerprint,
            "test_time_views": self.test_time_views,
            "mpp": list(self.mpp),
            "assumed_mpp": self.assumed_mpp,
            "weights": dict(self.weights),
            "mixtures": list(self.mixtures),
            "failures": [asdict(failure) for failure in self.failures],
            "unpaired": {method: asdict(unpaired) for method, unpaired in self.unpaired.items()},
            "not_computed": dict(self.not_computed),
            "warnings": self.warnings(),
            "notes": self.notes(),
            "versions": dict(self.versions),
        }

    def write(self, out: Path) -> None:
        """Write ``metrics.csv``, ``tables.csv`` and ``summary.json`` into folder ``out``.

        ``metrics.csv`` has one row a pair: ``image,level`` and a column for each metric of pairs (``inf`` where
        infinite), and with several methods a column ``method`` after ``level``. ``tables.csv`` has one row for each
        method, level (empty: all images) and metric.
        """
        several = ["method"] if len(self.tables) > 1 else []
        columns = ["image", "level", *several, *self.pair_metrics]
        lines = ({"image": row.image, "level": row.level, **_method(row, several), **row.values} for row in self.rows)
        write_csv(out / "metrics.csv", columns, lines)
        write_csv(out / "tables.csv", TABLE_COLUMNS, self._table_rows())
        write_json(out / "summary.json", self.document())

    def _table_rows(self) -> Iterator[dict[str, Any]]:
        for method, table in [*self.tables.items(), (REFERENCE, self.reference)]:
            for level, values in [("", table.overall), *table.levels.items()]:
                for metric, value in values.items():
                    yield {"method": method, "level": level, "metric": metric, **asdict(value)}


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


def _method(row: Row, several: Sequence[str]) -> dict[str, str]:
    return {"method": row.method} if several else {}


def _origin(origin: Origin) -> dict[str, Any]:
    return asdict(origin) | {"run": printable(origin.run)}


def _table(table: Table) -> dict[str, Any]:
    return {
        "overall": {name: asdict(value) for name, value in table.overall.items()},
        "levels": {
            level: {name: asdict(value) for name, value in values.items()} for level, values in table.levels.items()
        },
    }


def _metric(name: str) -> dict[str, Any]:
    info = METRICS[name].info
    return {
        "title": info.title,
        "unit": info.unit,
        "direction": info.direction.value,
        "range": [bound if math.isfinite(bound) else None for bound in info.range],
        "version": info.version,
        "definition": info.definition,
        "of": info.scope.value,
    }
