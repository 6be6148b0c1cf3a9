"""The domain analysis of TDKstain (Peng 2024, Sec. 3, Fig. 3): nuclei and stained membranes, real minus generated.

Two questions that PSNR does not ask. Are as many nuclei there as in the real image (Fig. 3a)? Is as much of the image
stained as strongly (Fig. 3b to e): the share of pixels whose DAB saturation is above each of 21 thresholds? Every
difference here is **real minus generated**: above 0 the generated image lacks nuclei, or stain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.progress import progress_bar
from restain.core.workers import cpu_threads
from restain.data.levels import sorted_levels
from restain.evaluate.bootstrap import INTERVAL, estimate
from restain.evaluate.domain_results import Compared, Count, Curve, Domain
from restain.evaluate.folders import FAKE, NamedFiles, RealFolder, RealImage, named_files, printable, real_folder
from restain.evaluate.matching import mixtures
from restain.evaluate.measure import Failure, bounded_map
from restain.evaluate.pairing import ambiguous, lone_names, some_in_common
from restain.infer.record import recorded_origins
from restain.metrics import ImagePair
from restain.slides import read_image
from restain.stains import NucleusDetector, membrane_ratio
from restain.stains.nuclei import NUCLEI_MPP


def analyse_domain(
    real: Path,
    fakes: Mapping[str, Path],
    detector: NucleusDetector,
    *,
    mpp: float | None = None,
    split: str = "test",
    pairs: Path | None = None,
    workers: int | None = None,
) -> Domain:
    """Count nuclei and stained membranes in real images and in those generated for them.

    Images are paired by name, as ``evaluate`` does. Each is read once, and gone when it is measured. The means are over
    the images that every method has.

    Args:
        real: folder of the real IHC, or a patch-pair dataset.
        fakes: folder of the generated images, by method.
        detector: counts nuclei where the um/px is known, and such that nuclei can be seen (``NUCLEI_MPP``).
        mpp: um/px of all images; None: as ``pairs.csv`` says.
        split: split of a dataset.
        pairs: a ``pairs.csv``.
        workers: images at a time; None: one for each core, at most 8.

    Raises:
        RestainError: a folder is missing or empty, no name is in both, or ``mpp`` is no um/px.
        ItemError: no image could be compared for every method.
    """
    if mpp is not None and not 0 < mpp < math.inf:
        raise RestainError(f"--mpp {mpp:g}: is not a number of um/px, such as 0.5.")
    reals = real_folder(real, None, split, pairs)
    found = {method: named_files(folder, FAKE) for method, folder in fakes.items()}
    for method, files in found.items():
        some_in_common(real, fakes[method], reals, files)
    origins = {
        method: recorded_origins(files.files[name] for name in reals.images if name in files.files)
        for method, files in found.items()
    }
    jobs = [image for name, image in reals.images.items() if any(name in files.files for files in found.values())]
    rows: list[Compared] = []
    failures = [*_unpaired(reals, found)]
    look = partial(_compare, found=found, detector=detector, mpp=mpp)
    with progress_bar("domain", len(jobs)) as bar:
        for own, failed in bounded_map(look, jobs, workers or cpu_threads()):
            rows += own
            failures += failed
            bar.advance()
    notes = [f"Not alike: {line}" for line in mixtures(jobs, origins)]
    return _summary(rows, failures, notes, list(fakes), detector.name, {"real": real, **fakes})


def _compare(
    image: RealImage, found: Mapping[str, NamedFiles], detector: NucleusDetector, mpp: float | None
) -> tuple[list[Compared], list[Failure]]:
    """The comparisons of one real image, and what could not be compared."""
    rows: list[Compared] = []
    failures: list[Failure] = []
    resolution = mpp or image.mpp
    try:
        real = image.read()
        real_nuclei = _count_nuclei(real, resolution, detector)
        real_ratios = membrane_ratio(real)
    except (ItemError, OSError) as error:
        return [], [Failure(image.name, None, printable(str(error)))]
    for method, files in found.items():
        path = files.files.get(image.name)
        if path is None:
            continue
        try:
            fake = ImagePair(real, read_image(path)).fake  # refuses another size
            nuclei = _count_nuclei(fake, resolution, detector)
            row = Compared(
                image=image.name,
                level=image.level,
                patient=image.patient,
                method=method,
                mpp=resolution,
                real_nuclei=real_nuclei,
                fake_nuclei=nuclei,
                real_ratios=real_ratios,
                fake_ratios=membrane_ratio(fake),
            )
            rows.append(row)
        except (ItemError, OSError) as error:
            reason = str(error) if str(path) in str(error) else f"{path}: {error}"
            failures.append(Failure(image.name, method, printable(reason)))
    return rows, failures


def _count_nuclei(rgb: NDArray[np.uint8], mpp: float | None, detector: NucleusDetector) -> int | None:
    """Nuclei in an image [H, W, 3]; None where its um/px is unknown or none to see nuclei at."""
    return len(detector(rgb, mpp)) if mpp is not None and NUCLEI_MPP[0] <= mpp <= NUCLEI_MPP[1] else None


def _unpaired(reals: RealFolder, found: Mapping[str, NamedFiles]) -> list[Failure]:
    """A failure for each image without a partner, and for each name that several files carry."""
    failures = ambiguous(reals, found)
    for method, files in found.items():
        lone = lone_names(reals, files)
        failures += [Failure(name, method, "there is no generated image") for name in lone.without_fake]
        failures += [Failure(name, method, "there is no real image") for name in lone.without_real]
    return failures


def _summary(
    rows: Sequence[Compared],
    failures: Sequence[Failure],
    notes: list[str],
    methods: Sequence[str],
    detector: str,
    folders: Mapping[str, Path],
) -> Domain:
    """Means by method and level, over the images that every method has."""
    complete = set.intersection(*({row.image for row in rows if row.method == method} for method in methods))
    if not complete:
        reasons = "\n  ".join(f"{failure.image}: {failure.reason}" for failure in failures[:10])
        raise ItemError(f"No image could be compared for every method.\n  {reasons}")
    common = [row for row in rows if row.image in complete]
    levels = sorted_levels(row.level for row in common if row.level is not None)
    groups = {
        (method, level): [row for row in common if row.method == method and level in (None, row.level)]
        for method in methods
        for level in (None, *levels)
    }
    by_patient = all(row.patient for row in common)
    counted = {key: [row for row in own if row.nuclei is not None] for key, own in groups.items()}
    notes += _uncounted(groups[methods[0], None])
    if len(common) < len(rows):
        notes.append("The means are over the images that every method has; images.csv lists all.")
    if not by_patient:
        notes.append("Patients are unknown: images were resampled as if independent, and true intervals are wider.")
    return Domain(
        rows=sorted(rows, key=lambda row: methods.index(row.method)),
        images=sorted(complete),
        methods=methods,
        levels=levels,
        counts={key: _count(own, by_patient) for key, own in counted.items() if own},
        membranes={key: _curve(own, by_patient) for key, own in groups.items()},
        detector=detector,
        resampled="patient" if by_patient else "image",
        failures=failures,
        notes=notes,
        folders={name: printable(str(folder)) for name, folder in folders.items()},
    )


def _uncounted(rows: Sequence[Compared]) -> list[str]:
    """In how many of the images nuclei were not counted, and why; a line for each reason."""
    low, high = NUCLEI_MPP
    unknown = [row for row in rows if row.nuclei is None and row.mpp is None]
    strange = [row for row in rows if row.nuclei is None and row.mpp is not None]
    lines = []
    if unknown:
        why = "their um/px is not known. Give --mpp, or pairs.csv a column mpp."
        lines.append(f"Nuclei were not counted in {len(unknown)} of {len(rows)} images: {why}")
    if strange:
        values = ", ".join(f"{value:g}" for value in sorted({row.mpp or 0.0 for row in strange}))
        why = f"nuclei can be found at {low:g} to {high:g} um/px, not at {values}."
        lines.append(f"Nuclei were not counted in {len(strange)} of {len(rows)} images: {why}")
    if 0 < len(unknown) + len(strange) < len(rows):
        lines.append(f"Nuclei are of the other {len(rows) - len(unknown) - len(strange)} images.")
    return lines


def _units(rows: Sequence[Compared], by_patient: bool) -> list[str]:
    """What the bootstrap draws, one name per image."""
    return [str(row.patient) if by_patient else row.image for row in rows]


def _count(rows: Sequence[Compared], by_patient: bool) -> Count:
    differences = np.array([row.nuclei for row in rows], np.float64)
    return Count(estimate(differences, _units(rows, by_patient), INTERVAL), float(np.abs(differences).mean()))


def _curve(rows: Sequence[Compared], by_patient: bool) -> Curve:
    differences = np.array([row.membranes for row in rows])
    return Curve(
        estimates=[estimate(column, _units(rows, by_patient), INTERVAL) for column in differences.T],
        absolute=np.abs(differences).mean(0),
        real=np.mean([row.real_ratios.astype(np.float64) for row in rows], 0),
    )
