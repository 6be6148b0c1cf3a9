"""The result of a cross-validation as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restain.core.files import write_csv, write_json
from restain.core.runs import versions
from restain.evaluate.bootstrap import Estimate
from restain.her2.crossval_scores import CONFIDENCE, GRID, Difference, Entry, McNemar, Spread
from restain.her2.splits import Plan
from restain.her2.status_scores import SCORES, finite, status_scores


@dataclass(frozen=True)
class Crossval:
    """What a cross-validation found.

    Attributes:
        classes: names, in order.
        plan: who validated and tested.
        labels: class number by patient.
        entries: the models, in the order given.
        reference: name of the model that the others are tested against.
        differences: paired tests of scores.
        mcnemar: paired tests of right and wrong.
        settings: how it was made.
        failures: trainings that failed, with the reason.
        warnings: what a reader must know.
        gains: paired tests of each fusion against the two that it joins.
        gain_mcnemar: the same, of right and wrong.
    """

    classes: Sequence[str]
    plan: Plan
    labels: Mapping[str, int]
    entries: Sequence[Entry]
    reference: str
    differences: Sequence[Difference]
    mcnemar: Sequence[McNemar]
    settings: Mapping[str, Any]
    failures: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    gains: Sequence[Difference] = ()
    gain_mcnemar: Sequence[McNemar] = ()

    def document(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "classes": list(self.classes),
            "test_patients": len(self.plan.test),
            "settings": dict(self.settings),
            "confidence": CONFIDENCE,
            "models": {entry.name: self._entry(entry) for entry in self.entries},
            "reference": self.reference,
            "differences": [asdict(one) for one in self.differences],
            "mcnemar": [asdict(one) for one in self.mcnemar],
            "gains": [asdict(one) for one in self.gains],
            "gain_mcnemar": [asdict(one) for one in self.gain_mcnemar],
            "failures": dict(self.failures),
            "warnings": list(self.warnings),
            "versions": versions(),
        }

    def write(self, out: Path) -> None:
        """Write the tables and ``summary.json`` into folder ``out``.

        ``summary.csv`` (a row a model: Table 2), ``scores.csv`` (a row a training), ``comparisons.csv``,
        ``predictions.csv``, ``roc.csv`` (Fig. 3), ``confusion.csv``.

        Raises:
            ItemError: a file could not be written.
        """
        tables: dict[str, tuple[Sequence[str], list[dict[str, object]]]] = {
            "summary": _rows(self._summary()),
            "scores": _rows(self._scores()),
            "comparisons": _rows(self._comparisons()),
            "predictions": _rows(self._predictions()),
            "roc": _rows(self._roc()),
            "confusion": _rows(self._confusion()),
        }
        for name, (columns, rows) in tables.items():
            write_csv(out / f"{name}.csv", columns, rows)
        write_json(out / "summary.json", self.document())

    def _entry(self, entry: Entry) -> dict[str, Any]:
        return {
            "method": entry.method,
            "learns": entry.learns,
            "inference": entry.inference,
            "trainings": len(entry.trainings),
            "test": {key: _estimate(entry.test[key], entry.test_spread[key]) for key in SCORES},
            "validation": {key: asdict(one) for key, one in entry.val_spread.items()},
            "together": {key: _estimate(entry.together[key]) for key in SCORES},
            "class_auc": {name: asdict(one) for name, one in zip(self.classes, entry.class_aucs, strict=True)},
            "confusion": entry.confusion.round(4).tolist(),
            "calibration_error": asdict(entry.calibration),
            "seconds": self.seconds(entry),
        }

    @staticmethod
    def seconds(entry: Entry) -> float | None:
        """Time that all trainings of a model took; None where it is not known."""
        found = [training.seconds for training in entry.trainings]
        known = [value for value in found if value is not None]
        return float(sum(known)) if known and len(known) == len(found) else None

    def _summary(self) -> Iterator[dict[str, object]]:
        for entry in self.entries:
            row: dict[str, object] = {"model": entry.name, "learns": entry.learns, "inference": entry.inference}
            row["trainings"] = len(entry.trainings)
            for key in SCORES:
                row |= {
                    key: entry.test[key].mean,
                    f"{key}_deviation": entry.test_spread[key].deviation,
                    f"{key}_low": entry.test[key].low,
                    f"{key}_high": entry.test[key].high,
                    f"{key}_validation": entry.val_spread[key].mean if entry.val_spread else None,
                    f"{key}_validation_deviation": entry.val_spread[key].deviation if entry.val_spread else None,
                }
            yield row

    def _scores(self) -> Iterator[dict[str, object]]:
        labels = np.array([self.labels[name] for name in self.plan.test], np.int64)
        for entry in self.entries:
            for one in entry.trainings:
                row: dict[str, object] = {"model": entry.name, "seed": one.seed, "fold": one.fold}
                row |= {"best_epoch": one.best_epoch, "epochs": one.epochs, "temperature": one.temperature}
                row |= {f"test_{key}": value for key, value in finite(status_scores(one.test, labels)).items()}
                if one.val is not None and one.val_labels is not None and len(one.val):
                    found = finite(status_scores(one.val, one.val_labels))
                    row |= {f"validation_{key}": value for key, value in found.items()}
                yield row

    def _comparisons(self) -> Iterator[dict[str, object]]:
        for family, tested, mcnemar in (
            ("reference", self.differences, self.mcnemar),
            ("fusion and its parts", self.gains, self.gain_mcnemar),
        ):
            for one in tested:
                yield {"test": "paired bootstrap", **asdict(one), "family": family}
            for two in mcnemar:
                yield {"test": "McNemar, exact", **asdict(two), "family": family}

    def _predictions(self) -> Iterator[dict[str, object]]:
        for entry in self.entries:
            for one in entry.trainings:
                for patient, values in zip(self.plan.test, one.test, strict=True):
                    yield {
                        "model": entry.name,
                        "seed": one.seed,
                        "fold": one.fold,
                        "patient": patient,
                        "her2": self.classes[self.labels[patient]],
                        "predicted": self.classes[int(values.argmax())],
                        **{f"p_{name}": float(p) for name, p in zip(self.classes, values, strict=True)},
                    }

    def _roc(self) -> Iterator[dict[str, object]]:
        for entry in self.entries:
            curves = [*zip(self.classes, entry.curves, strict=True), ("macro", entry.macro_curve)]
            for name, curve in curves:
                if curve is not None:
                    for false, true in zip(GRID, curve, strict=True):
                        yield {"model": entry.name, "class": name, "fpr": round(float(false), 4), "tpr": float(true)}

    def _confusion(self) -> Iterator[dict[str, object]]:
        for entry in self.entries:
            for name, counts in zip(self.classes, entry.confusion, strict=True):
                row = {f"predicted_{other}": float(n) for other, n in zip(self.classes, counts, strict=True)}
                yield {"model": entry.name, "her2": name, **row}


def _rows(rows: Iterator[dict[str, object]]) -> tuple[list[str], list[dict[str, object]]]:
    """All columns in the order in which they come, and the rows."""
    found = list(rows)
    return list(dict.fromkeys(column for row in found for column in row)), found


def _estimate(value: Estimate, deviation: Spread | None = None) -> dict[str, float | None]:
    own = {"mean": value.mean, "low": value.low, "high": value.high}
    return own if deviation is None else {"mean": value.mean, "deviation": deviation.deviation, **own}
