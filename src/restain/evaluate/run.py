"""Compare generated images with real ones under a protocol."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np

import restain
from restain.core.errors import ItemError, RestainError
from restain.core.items import fingerprint
from restain.core.progress import progress_bar
from restain.data.levels import sorted_levels
from restain.evaluate.bootstrap import Estimate, estimate
from restain.evaluate.folders import FAKE, NamedFiles, RealFolder, named_files, printable, real_folder
from restain.evaluate.measure import Failure, Job, Measured, bounded_map, measure
from restain.evaluate.pictures import Candidate, Pictures, choose_pictures
from restain.evaluate.protocol import DEFAULT_PROTOCOL, Protocol, load_protocol
from restain.evaluate.reference import best_constant_of
from restain.evaluate.results import Row, Summary, Table, Unpaired
from restain.infer.record import RECORD, Origin, recorded_origins
from restain.metrics import METRICS, PairMetric, WeightsMissingError, load_metric

LIBRARIES = ("numpy", "opencv-python-headless", "scikit-image", "pillow", "tifffile", "imagecodecs")


def evaluate(
    real: str | Path,
    fake: str | Path | Mapping[str, Path],
    out: str | Path | None = None,
    protocol: str | Path = DEFAULT_PROTOCOL,
    *,
    he: Path | None = None,
    split: str = "test",
    pairs: Path | None = None,
    weights: Path | None = None,
    test_time_views: int | None = None,
    workers: int | None = None,
) -> Summary:
    """Compare the generated images in ``fake`` with the real ones in ``real``, pair by pair.

    Images are paired by file name without suffix. What cannot be measured (no partner, different sizes, unreadable) is
    left out and listed in the result, whose ``exit_code`` then is 1.

    Args:
        real: folder of real images, a results folder with ``*_real_B`` files, or a patch-pair dataset.
        fake: folder of generated images (also a results folder with ``*_fake_B`` files), or several by method name;
            with several, every mean is over the images that all methods have.
        out: folder for ``metrics.csv`` and ``summary.json``; None writes nothing.
        protocol: name of a protocol, or a YAML file with one.
        he: folder of the H&E images under the same names, for the pictures; None: those of the dataset that ``real`` is
            or lies in, if any.
        split: the split to evaluate where ``real`` is a dataset.
        pairs: a ``pairs.csv`` with level and patient of each image; None looks in ``real`` and two folders above it.
        weights: folder of network weights, for metrics that need some.
        test_time_views: how many views were averaged for each image of another program, to be put on record beside the
            numbers; of images that restain stained, ``stain.json`` in their folder says it.
        workers: images measured at a time; None: one for each core that this process may use, at most 8.

    Raises:
        RestainError: a folder is missing or empty, no name is in both (both lists are shown), or ``test_time_views`` is
            not what a ``stain.json`` says.
        ItemError: no image could be measured (for every method, if there are several).
    """
    rules = load_protocol(protocol)
    if out is not None:
        _keep_others(Path(out), [Path(real), *map(Path, fake.values() if isinstance(fake, Mapping) else [fake])])
    real = Path(real)
    if isinstance(fake, str | Path):
        fake = {printable(Path(fake).resolve().name): Path(fake)}
    fakes = {method: Path(folder) for method, folder in fake.items()}
    if not fakes:
        raise RestainError("There is nothing to evaluate: give at least one folder of generated images.")
    reals = real_folder(real, he, split, pairs)
    found = {method: named_files(folder, FAKE) for method, folder in fakes.items()}
    unpaired = {method: _unpaired(reals, files) for method, files in found.items()}
    for method, files in found.items():
        if not reals.images.keys() & files.files.keys():
            raise RestainError(_nothing_in_common(real, fakes[method], unpaired[method]))
    origins = {
        method: recorded_origins(files.files[name] for name in reals.images if name in files.files)
        for method, files in found.items()
    }
    views = {method: _views(method, found[method], origins[method], test_time_views) for method in found}
    ready, not_computed = _load_metrics(rules, weights)
    jobs = [Job(image, _partners(name, found)) for name, image in reals.images.items() if _partners(name, found)]
    measured = _measure(jobs, ready, workers or min(8, _cores()))
    failures = [*_ambiguous(reals, found), *(failure for item in measured for failure in item.failures)]
    common = [item for item in measured if len(item.values) == len(fakes)]
    if not common:
        raise ItemError(_nothing_measured(failures, len(fakes)))
    units, resampled = _units(common)
    tables, reference, constant = _tables(common, list(fakes), units, rules)
    summary = Summary(
        protocol=rules,
        real=real,
        fakes=fakes,
        rows=_rows(measured, list(fakes)),
        images=[item.image.name for item in common],
        levels=list(reference.levels),
        tables=tables,
        constant_dab=constant,
        reference=reference,
        resampled=resampled,
        units=len(set(units)),
        failures=failures,
        unpaired={method: lists for method, lists in unpaired.items() if lists.without_fake or lists.without_real},
        not_computed=not_computed,
        fingerprint=fingerprint([[item.image.name, item.digest] for item in common]),
        views=views,
        origins=origins,
        versions=_versions(),
        pictures=_pictures(common, jobs, rules, not_computed),
    )
    if out is not None:
        summary.write(Path(out))
    return summary


def _keep_others(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse a folder for results that is a run's (its ``metrics.csv`` is the loss log) or one of the inputs.

    Raises:
        RestainError: it is.
    """
    if (out / "run.json").exists():
        raise RestainError(f"{out}: is a run folder, whose metrics.csv would be overwritten. Choose another --out.")
    if out.resolve() in {folder.resolve() for folder in inputs}:
        raise RestainError(f"{out}: is one of the folders to be compared. Choose another --out.")


def _views(
    method: str, files: NamedFiles, origins: Sequence[Origin | None], stated: int | None
) -> tuple[int | None, ...]:
    """The test-time views of a method's images: as recorded, else as stated.

    Raises:
        RestainError: both say it, and differ; or what is stated is no number of views.
    """
    recorded = tuple(dict.fromkeys(None if origin is None else origin.views for origin in origins))
    if stated is None:
        return recorded
    if stated < 1:
        raise RestainError(f"--tta {stated}: give how many test-time views were averaged, 1 or more.")
    if wrong := [views for views in recorded if views not in (None, stated)]:
        record = next(iter(files.files.values())).parent / RECORD
        raise RestainError(
            f"--tta {stated}: {method}'s {record} says {' and '.join(map(str, wrong))}. Leave --tta out: it is for "
            "images of other programs."
        )
    return (stated,)


def _partners(name: str, found: Mapping[str, NamedFiles]) -> dict[str, Path]:
    """The files called ``name``, by method."""
    return {method: files.files[name] for method, files in found.items() if name in files.files}


def _unpaired(reals: RealFolder, fakes: NamedFiles) -> Unpaired:
    """The names that only one of the two folders has; names that several files carry are reported elsewhere."""
    real, fake = {*reals.images, *reals.ambiguous}, {*fakes.files, *fakes.ambiguous}
    return Unpaired(tuple(sorted(real - fake)), tuple(sorted(fake - real - reals.dropped)))


def _nothing_in_common(real: Path, fake: Path, unpaired: Unpaired) -> str:
    return (
        f"{real} and {fake} have no image name in common.\n"
        f"  real: {_some(unpaired.without_fake)}\n  generated: {_some(unpaired.without_real)}\n"
        "Images are paired by file name without suffix (and without _fake_B, _real_B); rename one side."
    )


def _nothing_measured(failures: Sequence[Failure], methods: int) -> str:
    reasons = _some([f"{failure.image}: {failure.reason}" for failure in failures], "\n  ")
    if methods > 1:
        return f"No image could be measured for every method, so their means cannot be compared.\n  {reasons}"
    return f"No image could be measured.\n  {reasons}"


def _some(names: Sequence[str], separator: str = ", ", shown: int = 10) -> str:
    """The first of ``names`` and how many more there are."""
    more = f"{separator}and {len(names) - shown} more" if len(names) > shown else ""
    return separator.join(names[:shown]) + more if names else "none"


def _load_metrics(rules: Protocol, weights: Path | None) -> tuple[dict[str, PairMetric], dict[str, str]]:
    """The protocol's metrics, and the reason for each that cannot be computed."""
    ready: dict[str, PairMetric] = {}
    absent: dict[str, str] = {}
    for name in rules.metrics:
        try:
            ready[name] = load_metric(name, weights)
        except WeightsMissingError as error:
            absent[name] = str(error)
    return ready, absent


def _measure(jobs: Sequence[Job], metrics: Mapping[str, PairMetric], workers: int) -> list[Measured]:
    """Measure all jobs with a progress bar; the images themselves are gone when this returns."""
    measured = []
    with progress_bar("evaluate", len(jobs)) as bar:
        for item in bounded_map(partial(measure, metrics=metrics), jobs, workers):
            measured.append(item)
            bar.note(item.image.name)
            bar.advance()
    return measured


def _ambiguous(reals: RealFolder, found: Mapping[str, NamedFiles]) -> list[Failure]:
    """A failure for each name that several files of one folder carry."""
    failures = [Failure(name, None, reason) for name, reason in reals.ambiguous.items()]
    for method, files in found.items():
        failures += [Failure(name, method, reason) for name, reason in files.ambiguous.items()]
    return failures


def _units(measured: Sequence[Measured]) -> tuple[list[str], str]:
    """What the bootstrap draws, one name per image, and what that is: patients where all are known, else images."""
    patients = [item.image.patient for item in measured if item.image.patient]
    if len(patients) == len(measured):
        return patients, "patient"
    return [item.image.name for item in measured], "image"


def _rows(measured: Sequence[Measured], methods: Sequence[str]) -> list[Row]:
    """Every pair measured, method by method."""
    return [
        Row(item.image.name, item.image.level, item.image.patient, method, item.values[method])
        for method in methods
        for item in measured
        if method in item.values
    ]


def _tables(
    common: Sequence[Measured], methods: Sequence[str], units: Sequence[str], rules: Protocol
) -> tuple[dict[str, Table], Table, float]:
    """The table of each method, that of the best constant image, and the DAB of the latter in HED units."""
    level = [item.image.level for item in common]
    tables = {method: _table([item.values[method] for item in common], level, units, rules) for method in methods}
    constant = best_constant_of([item.dab for item in common if item.dab is not None])
    reference = _table([{"dab_od_error": float(error)} for error in constant.errors], level, units, rules)
    return tables, reference, constant.dab


def _table(
    values: Sequence[Mapping[str, float]], level: Sequence[str | None], units: Sequence[str], rules: Protocol
) -> Table:
    """Estimates of every metric, over all images and by level; ``values``, ``level`` and ``units`` are per image."""

    def estimates(chosen: Sequence[int]) -> dict[str, Estimate]:
        names = [units[index] for index in chosen]
        return {
            metric: estimate(np.array([values[index][metric] for index in chosen]), names, rules.interval)
            for metric in values[0]
        }

    levels = sorted_levels(name for name in level if name is not None)
    by_level = {name: estimates([index for index, own in enumerate(level) if own == name]) for name in levels}
    return Table(estimates(range(len(values))), by_level)


def _pictures(
    measured: Sequence[Measured], jobs: Sequence[Job], rules: Protocol, not_computed: Mapping[str, str]
) -> Pictures:
    """The pictures of the report, chosen by the protocol's metric; none if that could not be computed."""
    if rules.pictures_by in not_computed:
        return Pictures()
    fakes = {job.image.name: job.fakes for job in jobs}
    candidates = [Candidate(item.image, fakes[item.image.name], item.values) for item in measured]
    return choose_pictures(candidates, rules.pictures_by, METRICS[rules.pictures_by].info.direction)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    """Versions of restain, Python and the libraries that decode images and compute numbers."""
    versions = {"restain": restain.__version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in LIBRARIES}
