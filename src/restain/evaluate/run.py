"""Compare generated images with real ones under a protocol."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import restain
from restain.core.errors import ItemError, RestainError
from restain.core.items import fingerprint
from restain.core.progress import progress_bar
from restain.core.workers import cpu_threads
from restain.evaluate.folders import FAKE, NamedFiles, RealFolder, RealImage, named_files, printable, real_folder
from restain.evaluate.matching import mixtures, stated_views
from restain.evaluate.measure import Failure, Job, Measured, Ready, bounded_map, measure, without_refused
from restain.evaluate.pairing import ambiguous, keep_others, lone_names, some, some_in_common
from restain.evaluate.pictures import Candidate, Pictures, choose_pictures
from restain.evaluate.protocol import DEFAULT_PROTOCOL, Protocol, load_protocol
from restain.evaluate.ready import ready_metrics
from restain.evaluate.results import Row, Summary
from restain.evaluate.tables import method_tables, reference_table, resampled_units
from restain.infer.record import recorded_origins
from restain.metrics import METRICS
from restain.nn.devices import measuring_device

BATCH = 8
"""Images that a metric of sets sees at a time, at most, unless there are more methods."""
LIBRARIES = (
    "numpy",
    "scipy",
    "torch",
    "safetensors",
    "transformers",
    "opencv-python-headless",
    "scikit-image",
    "pillow",
    "tifffile",
    "imagecodecs",
)


def evaluate(
    real: str | Path,
    fake: str | Path | Mapping[str, Path],
    out: str | Path | None = None,
    protocol: str | Path = DEFAULT_PROTOCOL,
    *,
    he: Path | None = None,
    split: str = "test",
    pairs: Path | None = None,
    mpp: float | None = None,
    weights: Path | None = None,
    test_time_views: int | None = None,
    mixed: bool = False,
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
        he: folder of the H&E images under the same names, for the pictures and for metrics that look at the H&E; None:
            those of the dataset that ``real`` is or lies in, if any.
        split: the split to evaluate where ``real`` is a dataset.
        pairs: a ``pairs.csv`` with level and patient of each image; None looks in ``real`` and two folders above it.
        mpp: um/px of the images; None: as ``pairs.csv`` says, else as the protocol takes it.
        weights: folder of network weights, for metrics that need some; torch's download cache is looked at too.
        test_time_views: how many views were averaged for each image of another program, to be put on record beside the
            numbers; of images that restain stained, ``stain.json`` in their folder says it.
        mixed: average images that do not match (other stainers, views or um/px within a method) all the same.
        workers: images measured at a time; None: one for each core that this process may use, at most 8.

    Raises:
        RestainError: a folder is missing or empty, no name is in both (both lists are shown), ``test_time_views`` is
            not what a ``stain.json`` says, or the images of a method do not match.
        ItemError: no image could be measured (for every method, if there are several), or a file of weights is none.
    """
    rules = load_protocol(protocol)
    if out is not None:
        keep_others(Path(out), [Path(real), *map(Path, fake.values() if isinstance(fake, Mapping) else [fake])])
    real = Path(real)
    if isinstance(fake, str | Path):
        fake = {printable(Path(fake).resolve().name): Path(fake)}
    fakes = {method: Path(folder) for method, folder in fake.items()}
    if not fakes:
        raise RestainError("There is nothing to evaluate: give at least one folder of generated images.")
    if mpp is not None and not 0 < mpp < math.inf:
        raise RestainError(f"--mpp {mpp}: give the um/px of the images, above 0.")
    reals = real_folder(real, he, split, pairs)
    found = {method: named_files(folder, FAKE) for method, folder in fakes.items()}
    unpaired = {method: lone_names(reals, files) for method, files in found.items()}
    for method, files in found.items():
        some_in_common(real, fakes[method], reals, files)
    origins = {
        method: recorded_origins(files.files[name] for name in reals.images if name in files.files)
        for method, files in found.items()
    }
    views = {method: stated_views(method, found[method], origins[method], test_time_views) for method in found}
    jobs = [
        Job(_with_mpp(image, mpp, rules.mpp), partners)
        for name, image in reals.images.items()
        if (partners := _partners(name, found))
    ]
    against = mixtures([job.image for job in jobs], origins)
    if against and not mixed:
        raise RestainError(
            "These values cannot be averaged:\n  " + "\n  ".join(against) + "\nMake the images alike, or give --mixed "
            "to average them all the same; the results will say so."
        )
    ready, not_computed = ready_metrics(rules, [job.image for job in jobs], weights)
    measured, refused = without_refused(_measure(jobs, ready, workers or cpu_threads()), ready.he)
    not_computed |= {
        name: f"{name} is not computed, for these images are not what it takes. {reason}"
        for name, reason in refused.items()
    }
    failures = [*ambiguous(reals, found), *(failure for item in measured for failure in item.failures)]
    if not_computed.keys() >= rules.metrics.keys():
        raise ItemError("No metric of the protocol can be computed.\n  " + "\n  ".join(not_computed.values()))
    common = [item for item in measured if len(item.values) == len(fakes)]
    if not common:
        raise ItemError(_nothing_measured(failures, len(fakes)))
    units, resampled = resampled_units(common)
    reference, constant = reference_table(common, units, rules)
    summary = Summary(
        protocol=rules,
        real=real,
        fakes=fakes,
        rows=_rows(measured, list(fakes)),
        images=[item.image.name for item in common],
        levels=list(reference.levels),
        tables=method_tables(common, list(fakes), units, rules, ready),
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
        mixtures=against,
        mpp=tuple(sorted({item.image.mpp for item in common if item.image.mpp and not item.image.mpp_assumed})),
        mpp_overridden=_overridden(reals, jobs, mpp),
        assumed_mpp=rules.mpp if any(item.image.mpp_assumed for item in common) else None,
        weights=ready.weights,
        versions=_versions(),
        pictures=_pictures(common, jobs, rules, not_computed),
    )
    if out is not None:
        summary.write(Path(out))
    return summary


def _with_mpp(image: RealImage, stated: float | None, assumed: float | None) -> RealImage:
    """The image with its um/px: as stated, else its own, else as the protocol takes it."""
    known = stated or image.mpp
    return replace(image, mpp=known or assumed, mpp_assumed=known is None and assumed is not None)


def _overridden(reals: RealFolder, jobs: Sequence[Job], stated: float | None) -> tuple[float, ...]:
    """The um/px that the images have of their own and that ``stated`` replaces, ascending."""
    if stated is None:
        return ()
    own = {reals.images[job.image.name].mpp for job in jobs}
    return tuple(sorted(mpp for mpp in own if mpp is not None and mpp != stated))


def _partners(name: str, found: Mapping[str, NamedFiles]) -> dict[str, Path]:
    """The files called ``name``, by method."""
    return {method: files.files[name] for method, files in found.items() if name in files.files}


def _nothing_measured(failures: Sequence[Failure], methods: int) -> str:
    reasons = some([f"{failure.image}: {failure.reason}" for failure in failures], "\n  ")
    if methods > 1:
        return f"No image could be measured for every method, so their means cannot be compared.\n  {reasons}"
    return f"No image could be measured.\n  {reasons}"


def _measure(jobs: Sequence[Job], metrics: Ready, workers: int) -> list[Measured]:
    """Measure all jobs with a progress bar; the images themselves are gone when this returns."""
    size = max(1, BATCH // (1 + max(len(job.fakes) for job in jobs))) if metrics.sets else 1
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    measured = []
    with progress_bar("evaluate", len(jobs)) as bar:
        for items in bounded_map(partial(measure, metrics=metrics), batches, workers):
            for item in items:
                measured.append(item)
                bar.note(item.image.name)
                bar.advance()
    return measured


def _rows(measured: Sequence[Measured], methods: Sequence[str]) -> list[Row]:
    """Every pair measured, method by method."""
    return [
        Row(item.image.name, item.image.level, item.image.patient, method, item.values[method])
        for method in methods
        for item in measured
        if method in item.values
    ]


def _pictures(
    measured: Sequence[Measured], jobs: Sequence[Job], rules: Protocol, not_computed: Mapping[str, str]
) -> Pictures:
    """The pictures of the report, chosen by the protocol's metric; none if that could not be computed."""
    if rules.pictures_by in not_computed:
        return Pictures()
    fakes = {job.image.name: job.fakes for job in jobs}
    candidates = [Candidate(item.image, fakes[item.image.name], item.values) for item in measured]
    return choose_pictures(candidates, rules.pictures_by, METRICS[rules.pictures_by].info.direction)


def _versions() -> dict[str, str]:
    """Versions of restain, Python and the libraries that decode images and compute numbers, and where networks ran."""
    versions = {"restain": restain.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):  # an extra
            versions[name] = metadata.version(name)
    return versions | {"device of networks": str(measuring_device())}
