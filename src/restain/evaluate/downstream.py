"""The downstream test of TDKstain (Peng 2024, Table 2): is virtual IHC good enough to teach a classifier?

A classifier of the levels is trained and validated on generated IHC alone, and tested on real IHC of other patients (in
the paper: 600 generated patches; 285 real ones of other antibodies). Two references frame the result: the same trained
on real IHC, and H&E*, both trained and tested on H&E, which shows what can be told without any stain. The levels are
those of the dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from restain.core.errors import RestainError
from restain.core.items import fingerprint, lock, once
from restain.core.progress import progress_bar
from restain.data.levels import sorted_levels
from restain.evaluate.downstream_data import (
    LabelledFolder,
    LabelledImages,
    class_numbers,
    labelled_folder,
    load_images,
    same_files,
    split_for_validation,
)
from restain.evaluate.downstream_results import STAINING, Downstream, Prediction, Scored, Staining, score
from restain.evaluate.downstream_train import ClassifierOptions, Sample, imagenet_weights, train_and_test
from restain.evaluate.folders import FAKE, printable
from restain.evaluate.folders import REAL as IHC_FILES
from restain.evaluate.folders import SOURCE as HE_FILES
from restain.evaluate.measure import Failure
from restain.evaluate.pairing import keep_others, some
from restain.evaluate.run import evaluate
from restain.nn.devices import make_fabric
from restain.nn.weights import content_hash

REAL, HE = "real IHC", "H&E*"
"""What the references are called, as in the paper's table."""
PROTOCOL = "tdkstain"


@dataclass(frozen=True)
class Sources:
    """Where the images of a downstream test lie.

    Attributes:
        train: folders of generated IHC to train on, by stainer; no datasets, which hold none.
        test: real IHC to test on.
        real: real IHC to train on, for the reference; None leaves it out.
        he: H&E to train on, for the reference H&E*; None leaves it out. Of a dataset, its H&E.
        he_test: H&E to test that on; likewise.
        external: what each stainer made of the test set's H&E, by stainer: measured, not trained on.
        pairs: a ``pairs.csv`` with level and patient of the training images.
        test_pairs: the same of the test images.
        split: of datasets to train on.
        test_split: of datasets to test on.
    """

    train: Mapping[str, Path]
    test: Path
    real: Path | None = None
    he: Path | None = None
    he_test: Path | None = None
    external: Mapping[str, Path] | None = None
    pairs: Path | None = None
    test_pairs: Path | None = None
    split: str = "train"
    test_split: str = "test"


@dataclass(frozen=True)
class _Entry:
    """What is trained on, and tested on."""

    name: str
    train: LabelledFolder
    test: LabelledFolder
    reference: bool


def downstream(
    sources: Sources,
    out: Path,
    options: ClassifierOptions = ClassifierOptions(),  # noqa: B008 (frozen)
    *,
    weights: Path | None = None,
    protocol: str = PROTOCOL,
    workers: int | None = None,
) -> Downstream:
    """Train a classifier on each set of ``sources``, test it, and write the result into ``out``.

    A training that was finished before, with the same images and settings, is taken from ``out/trainings``.

    Args:
        sources: where the images lie.
        out: folder of the results.
        options: how classifiers are trained.
        weights: folder with network weights, looked at before torch's cache.
        protocol: what the external set is measured with.
        workers: images read at a time.

    Raises:
        RestainError: folders, levels or settings that make no test (what is wrong is named), or test images among
            those to train on.
        ItemError: a set without a readable image.
    """
    keep_others(out, _folders(sources))
    entries = _entries(sources)
    leaks = [line for entry in entries for line in _leaks(entry)]
    classes = sorted_levels(level for entry in entries for level in _levels(entry.train) | _levels(entry.test))
    if len(classes) < 2:
        raise RestainError(f"All images have level {classes[0]}: there is nothing to tell apart.")
    file, begins = imagenet_weights(options, weights)
    staining = _staining(sources, protocol, weights, workers)
    tests: dict[tuple[Path, str], LabelledImages] = {}
    names: dict[str, frozenset[str]] = {}
    scored: list[Scored] = []
    predictions: list[Prediction] = []
    failures: list[Failure] = []
    warnings = [f"Trained from {begins}."] if file is None else []
    warnings += leaks
    warnings += [f"External set: {note}" for note in staining.notes]
    with lock(out / ".lock"), progress_bar("downstream", len(entries) * options.seeds) as bar:
        fabric = make_fabric(options.accelerator, options.precision)
        fabric.launch()
        for entry in entries:
            key = (entry.test.folder, entry.test.role)
            if key not in tests:
                tests[key] = load_images(entry.test, options.size, workers)
                failures += [Failure(name, None, reason) for name, reason in tests[key].failures.items()]
            train, test = load_images(entry.train, options.size, workers), tests[key]
            failures += [Failure(name, entry.name, reason) for name, reason in train.failures.items()]
            names[entry.name] = frozenset(train.names)
            warnings += _warnings(entry, train, test, classes)
            trainings, counts = [], (0, 0)
            for seed in range(options.seed, options.seed + options.seeds):
                found = _training(entry, train, test, classes, options, seed, file, fabric, out, bar.note)
                trainings.append(found)
                counts = (found["train"], found["validation"])
                predictions += [
                    Prediction(entry.name, seed, image, level, tuple(values))
                    for image, level, values in zip(test.names, test.levels, found["probabilities"], strict=True)
                ]
                bar.advance()
            folders = (printable(str(entry.train.folder)), printable(str(entry.test.folder)))
            scored.append(score(entry.name, entry.reference, folders, counts, test, trainings, classes, begins))
    result = Downstream(
        entries=scored,
        classes=classes,
        predictions=predictions,
        staining=staining,
        options=options,
        failures=failures,
        warnings=list(dict.fromkeys([*warnings, *_other_names(names)])),
    )
    result.write(out)
    return result


def _folders(sources: Sources) -> list[Path]:
    """Every folder of images."""
    folders = [*sources.train.values(), *(sources.external or {}).values()]
    return folders + [path for path in (sources.test, sources.real, sources.he, sources.he_test) if path is not None]


def _entries(sources: Sources) -> list[_Entry]:
    """The stainers, then the references."""
    if (sources.he is None) != (sources.he_test is None):
        raise RestainError("The reference H&E* is trained and tested on H&E: give both --he and --he-test, or neither.")
    if strange := sorted((sources.external or {}).keys() - sources.train.keys()):
        raise RestainError(f"--external {', '.join(strange)}: no --train of this name ({', '.join(sources.train)}).")
    if taken := sorted({REAL, HE} & sources.train.keys()):
        raise RestainError(f"--train {', '.join(taken)}: is what a reference is called; choose another name.")
    if not sources.train and sources.real is None and sources.he is None:
        raise RestainError("There is nothing to train on: give --train NAME=FOLDER, --real or --he.")
    to_train = partial(labelled_folder, split=sources.split, pairs=sources.pairs)
    to_test = partial(labelled_folder, split=sources.test_split, pairs=sources.test_pairs)
    test = to_test(sources.test, role=IHC_FILES)
    entries = [_Entry(name, to_train(folder, role=FAKE), test, False) for name, folder in sources.train.items()]
    if sources.real is not None:
        entries.append(_Entry(REAL, to_train(sources.real, role=IHC_FILES), test, True))
    if sources.he is not None and sources.he_test is not None:
        he_test = to_test(sources.he_test, role=HE_FILES)
        entries.append(_Entry(HE, to_train(sources.he, role=HE_FILES), he_test, True))
    return entries


def _leaks(entry: _Entry, shown: int = 5) -> list[str]:
    """A warning where names of images are both in training and in test, and nothing says that patients differ.

    Raises:
        RestainError: files are in both.
    """
    if same := same_files(entry.train, entry.test):
        pairs = ", ".join(f"{ours} = {theirs}" for ours, theirs in same[:shown])
        raise RestainError(
            f"{entry.name}: {len(same)} test images are trained on ({pairs}{', ...' if len(same) > shown else ''}). "
            "Such a test says nothing: leave them out of one side."
        )
    sides = [{image.name: image.patient for image in side.images} for side in (entry.train, entry.test)]
    both = sorted(name for name in sides[0].keys() & sides[1].keys() if None in (sides[0][name], sides[1][name]))
    if not both:
        return []
    return [
        printable(
            f"{entry.name}: {len(both)} image names are both in training and in test ({some(both, shown=shown)}): if "
            "they show the same tissue, as what was generated for the test images does, its scores are too good."
        )
    ]


def _other_names(names: Mapping[str, frozenset[str]], shown: int = 5) -> list[str]:
    """A line for each entry that is not trained on the same images, by name, as the first one."""
    first, *others = names
    lines = []
    for name in others:
        if names[name] != names[first]:
            lone = [sorted(names[first] - names[name]), sorted(names[name] - names[first])]
            lines.append(
                f"Training images differ: only {first}: {some(lone[0], shown=shown)}; only {name}: "
                f"{some(lone[1], shown=shown)}. Scores compare where entries learn from the same images."
            )
    return lines


def _levels(folder: LabelledFolder) -> set[str]:
    return {str(image.level) for image in folder.images}


def _training(
    entry: _Entry,
    train: LabelledImages,
    test: LabelledImages,
    classes: Sequence[str],
    options: ClassifierOptions,
    seed: int,
    weights: Path | None,
    fabric: Fabric,
    out: Path,
    note: Any,
) -> dict[str, Any]:
    """One training, from its record where it was done before."""
    settings = {name: value for name, value in asdict(options).items() if name not in ("seeds", "accelerator")}
    key = fingerprint(
        {
            "options": settings,  # its seed is that of the split
            "seed": seed,
            "classes": list(classes),
            "train": train.digest,
            "test": test.digest,
            "weights": content_hash(weights) if weights else None,
        }
    )

    def work() -> dict[str, Any]:
        learn, validate = split_for_validation(train, options.validation, options.seed)
        labels = class_numbers(train.levels, classes)
        found = train_and_test(
            Sample(train.pixels[learn], labels[learn]),
            Sample(train.pixels[validate], labels[validate]),
            test.pixels,
            len(classes),
            options,
            seed,
            weights,
            fabric,
            lambda text: note(f"{entry.name}, seed {seed}, {text}"),
        )
        return {"entry": entry.name, "seed": seed, "train": len(learn), "validation": len(validate), **found}

    return once(work, out / "trainings" / f"{_file_name(entry.name)}_{seed}.json", key)


def _file_name(name: str) -> str:
    """A name as a file may be called, another one for another name."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', name)[:40]}_{fingerprint(name)[:6]}"


def _warnings(entry: _Entry, train: LabelledImages, test: LabelledImages, classes: Sequence[str]) -> list[str]:
    """What makes the scores of an entry doubtful, one line each."""
    lines = []
    if both := sorted({p for p in train.patients if p} & {p for p in test.patients if p}):
        shown = f"{', '.join(both[:5])}{' ...' if len(both) > 5 else ''}"
        lines.append(f"{entry.name}: patients {shown} are both in training and in test: its scores are too good.")
    if not all(train.patients):
        lines.append(
            "Patients of the training images are unknown: images of one patient may both train and validate, and the "
            "epoch is chosen too optimistically."
        )
    for images, what in ((train, "to train on"), (test, "to test on")):
        if absent := [level for level in classes if level not in images.levels]:
            lines.append(f"{entry.name}: no images of level {', '.join(absent)} {what}.")
    lines += [
        f"{folder.folder}: {len(folder.unlabelled)} images without a level were not used."
        for folder in (entry.train, entry.test)
        if folder.unlabelled
    ]
    return [printable(line) for line in lines]


def _staining(sources: Sources, protocol: str, weights: Path | None, workers: int | None) -> Staining:
    """SSIM, FID and DISTS of what the stainers made of the test set's H&E."""
    if not sources.external:
        return Staining()
    summary = evaluate(
        sources.test,
        sources.external,
        protocol=protocol,
        split=sources.test_split,
        pairs=sources.test_pairs,
        weights=weights,
        workers=workers,
    )
    values: dict[str, dict[str, float]] = {}
    for name, table in summary.tables.items():
        found = {metric: value.mean for metric in STAINING if (value := table.overall.get(metric))}
        values[name] = {metric: value for metric, value in found.items() if value is not None}
    reasons = {metric: summary.not_computed[metric] for metric in STAINING if metric in summary.not_computed}
    reasons |= {
        metric: f"protocol {summary.protocol.name} does not have it"
        for metric in STAINING
        if metric not in summary.protocol.metrics
    }
    rules = summary.protocol
    about = f"{rules.name} v{rules.version} ({rules.hash}), {len(summary.images)} images"
    return Staining(values, reasons, about, summary.problems())
