"""What the downstream test found: scores of each entry with intervals, and the files that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.files import write_csv, write_json
from restain.core.runs import versions
from restain.evaluate.bootstrap import INTERVAL, Estimate
from restain.evaluate.classification import classification_scores, macro_f1
from restain.evaluate.downstream_data import LabelledImages, class_numbers
from restain.evaluate.downstream_train import ClassifierOptions
from restain.evaluate.measure import Failure

STAINING = ("ssim", "fid", "dists")
"""What TDKstain's Table 2 has beside the classifier's scores."""


@dataclass(frozen=True)
class Scored:
    """One entry: a training set, and how classifiers trained on it did on the test set.

    Attributes:
        name: of the entry.
        reference: whether it is one of the references (real IHC, H&E) rather than a stainer.
        train: folder it was trained on.
        test: folder it was tested on.
        images: how many it was trained, validated and tested on.
        accuracy: mean over the trainings, with an interval over the test images.
        f1: the same of the macro F1.
        accuracies: of each training.
        f1s: of each training.
        aucs: macro area under the ROC curve of each training; None where it is not defined.
        best_epochs: of each training.
        confusion: test images by (true, predicted) class, mean over trainings, float64 [C, C].
        begins: what the training began with, in words.
        resampled: what the bootstrap drew: ``patient`` or ``image``.
    """

    name: str
    reference: bool
    train: str
    test: str
    images: tuple[int, int, int]
    accuracy: Estimate
    f1: Estimate
    accuracies: tuple[float, ...]
    f1s: tuple[float, ...]
    aucs: tuple[float | None, ...]
    best_epochs: tuple[int, ...]
    confusion: NDArray[np.float64]
    begins: str
    resampled: str


@dataclass(frozen=True)
class Prediction:
    """The probabilities of one test image by one training."""

    entry: str
    seed: int
    image: str
    level: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Staining:
    """How good the stainers' images of the external set are.

    Attributes:
        values: value by metric, by entry; only what was computed.
        reasons: why a metric was not, by metric.
        protocol: what they were computed with, in words; empty without images to measure.
        notes: images that could not be measured.
    """

    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Downstream:
    """The result of a downstream test.

    Attributes:
        entries: in the order given, references last.
        classes: the levels, in order.
        predictions: of every test image by every training.
        staining: SSIM, FID, DISTS on the external set.
        options: how the classifiers were trained.
        failures: images that could not be read, with the entry whose training they were for; None: to test on.
        warnings: what a reader must know.
    """

    entries: Sequence[Scored]
    classes: Sequence[str]
    predictions: Sequence[Prediction]
    staining: Staining
    options: ClassifierOptions
    failures: Sequence[Failure] = ()
    warnings: Sequence[str] = ()

    def document(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        options = asdict(self.options)
        return {
            "classes": list(self.classes),
            "network": self.options.network,
            "entries": [
                {
                    "name": entry.name,
                    "reference": entry.reference,
                    "train": entry.train,
                    "test": entry.test,
                    "images": dict(zip(("train", "validation", "test"), entry.images, strict=True)),
                    "accuracy": asdict(entry.accuracy),
                    "f1": asdict(entry.f1),
                    "trainings": [
                        {"seed": seed, "accuracy": accuracy, "f1": f1, "auc": auc, "best_epoch": epoch}
                        for seed, accuracy, f1, auc, epoch in zip(
                            self.seeds, entry.accuracies, entry.f1s, entry.aucs, entry.best_epochs, strict=True
                        )
                    ],
                    "confusion": entry.confusion.tolist(),
                    "begins_with": entry.begins,
                    "resampled": entry.resampled,
                    "staining": dict(self.staining.values.get(entry.name, {})) or None,
                }
                for entry in self.entries
            ],
            "options": {name: str(value) if isinstance(value, str) else value for name, value in options.items()},
            "interval": {**asdict(INTERVAL), "kind": "percentile bootstrap"},
            "staining": {"protocol": self.staining.protocol or None, "not_computed": dict(self.staining.reasons)},
            "failures": [
                {"image": failure.image, "entry": failure.method, "reason": failure.reason} for failure in self.failures
            ],
            "warnings": list(self.warnings),
            "versions": versions(),
        }

    @property
    def seeds(self) -> range:
        """The seeds of the trainings."""
        return range(self.options.seed, self.options.seed + self.options.seeds)

    def write(self, out: Path) -> None:
        """Write ``downstream.csv`` (a row for each entry), ``predictions.csv`` and ``downstream.json``."""
        rows = [
            {
                "entry": entry.name,
                "accuracy": entry.accuracy.mean,
                "accuracy_low": entry.accuracy.low,
                "accuracy_high": entry.accuracy.high,
                "f1": entry.f1.mean,
                "f1_low": entry.f1.low,
                "f1_high": entry.f1.high,
                **{metric: self.staining.values.get(entry.name, {}).get(metric) for metric in STAINING},
            }
            for entry in self.entries
        ]
        write_csv(out / "downstream.csv", list(rows[0]), rows)
        columns = ["entry", "seed", "image", "level", "predicted", *(f"p_{level}" for level in self.classes)]
        write_csv(out / "predictions.csv", columns, map(self._line, self.predictions))
        write_json(out / "downstream.json", self.document())

    def _line(self, prediction: Prediction) -> dict[str, object]:
        values = prediction.probabilities
        return {
            "entry": prediction.entry,
            "seed": prediction.seed,
            "image": prediction.image,
            "level": prediction.level,
            "predicted": self.classes[int(np.argmax(values))],
            **{f"p_{level}": value for level, value in zip(self.classes, values, strict=True)},
        }


def score(
    name: str,
    reference: bool,
    folders: tuple[str, str],
    counts: tuple[int, int],
    test: LabelledImages,
    trainings: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    begins: str,
) -> Scored:
    """The scores of one entry.

    Args:
        name: of the entry.
        reference: whether it is a reference.
        folders: trained on, tested on.
        counts: images trained on, validated on.
        test: the test images.
        trainings: what ``train_and_test`` gave, one for each seed.
        classes: the levels.
        begins: what the training began with.
    """
    truth = class_numbers(test.levels, classes)
    probabilities = [np.asarray(training["probabilities"], np.float64) for training in trainings]
    found = [classification_scores(own, truth) for own in probabilities]
    accuracy, f1 = _estimates(np.stack([own.argmax(1) for own in probabilities]), truth, test.units, len(classes))
    return Scored(
        name=name,
        reference=reference,
        train=folders[0],
        test=folders[1],
        images=(*counts, len(truth)),
        accuracy=accuracy,
        f1=f1,
        accuracies=tuple(own.accuracy for own in found),
        f1s=tuple(own.f1.macro or 0.0 for own in found),
        aucs=tuple(own.auc.macro for own in found),
        best_epochs=tuple(int(training["best_epoch"]) for training in trainings),
        confusion=np.mean([own.confusion for own in found], 0),
        begins=begins,
        resampled="patient" if all(test.patients) else "image",
    )


def _estimates(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], units: Sequence[str], classes: int
) -> tuple[Estimate, Estimate]:
    """Accuracy and macro F1, each the mean over trainings, with the interval over resampled units.

    Args:
        predicted: class of each image by each training [trainings, n].
        truth: [n].
        units: what is resampled, one name per image [n].
        classes: how many.
    """
    _, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    number, trainings = int(unit.max()) + 1, len(predicted)
    # Confusion of each unit by each training: what a resample adds up.
    cells = (np.arange(trainings)[:, None] * classes + truth) * classes + predicted
    confusion = np.zeros((number, trainings * classes**2))
    np.add.at(confusion, (np.broadcast_to(unit, cells.shape), cells), 1)

    def scores(draws: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy and F1 [draws] for how often each unit is drawn [draws, units]."""
        tables = (draws @ confusion).reshape(-1, trainings, classes, classes)
        hits = np.trace(tables, axis1=-2, axis2=-1) / tables.sum((-2, -1))
        return hits.mean(1), macro_f1(tables).mean(1)

    means = scores(np.ones((1, number)))
    tail = (1 - INTERVAL.confidence) / 2
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * 2
    if number > 1:
        rng = np.random.default_rng(INTERVAL.seed)
        draws = rng.multinomial(number, np.full(number, 1 / number), INTERVAL.resamples).astype(np.float64)
        bounds = [tuple(map(float, np.quantile(values, [tail, 1 - tail]))) for values in scores(draws)]  # type: ignore[misc]
    accuracy, f1 = (
        Estimate(float(mean[0]), low, high, len(truth)) for mean, (low, high) in zip(means, bounds, strict=True)
    )
    return accuracy, f1
