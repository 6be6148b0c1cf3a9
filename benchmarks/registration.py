"""How far registered slides are from the truth: expert landmarks, or synthetic patients.

    python benchmarks/registration.py landmarks OUT FOLDER... [--mpp 5.0]
    python benchmarks/registration.py cohort OUT COHORT

``landmarks``: folders with he.jpg, ihc.jpg, he.csv and ihc.csv (id, x, y in px). Prints the median error in px and in
per cent of the image diagonal with 95 % bootstrap intervals over landmarks, before and after, and the mean over
folders. ``cohort``: what ``restain synth`` wrote (for example ``--patients 20 --size 6000 --rotation 180 --mirrored
.4``). Prints the median error in um against the truth and how many patients lie below 5 um. All pairs are registered
with the same default settings and no landmark is used. Run again, finished pairs are not registered again.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.registration import Registration, Transform, register
from restain.synthetic import Deformation

Points = NDArray[np.float64]
GOOD_UM = 5.0


def interval(errors: Points) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(errors, (2000, len(errors))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def points(path: Path) -> dict[str, tuple[float, float]]:
    """Landmarks by id."""
    with path.open(newline="") as stream:
        return {row["id"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(stream)}


def landmarks(out: Path, folders: list[Path], mpp: float) -> None:
    """Print the errors at expert landmarks."""
    shares = []
    for folder in folders:
        found, seconds = timed(folder / "he.jpg", folder / "ihc.jpg", out / folder.name, mpp)
        if found is None or found.status != "ok":
            print(f"{folder.name}: rejected: {found.reason if found else seconds}", flush=True)
            continue
        he, ihc = points(folder / "he.csv"), points(folder / "ihc.csv")
        common = sorted(he.keys() & ihc.keys())
        moving, fixed = (np.array([table[key] for key in common]) for table in (he, ihc))
        transform = Transform.load(found.transform)
        before = np.linalg.norm(fixed - moving, axis=1)
        after = np.linalg.norm(transform.ihc_to_he(fixed) - moving, axis=1)
        diagonal = float(np.hypot(*transform.ihc_size))
        shares.append(float(np.median(after)) / diagonal)
        low, high = interval(after)
        print(
            f"{folder.name}: median {np.median(after):.2f} px [{low:.2f}, {high:.2f}] = {shares[-1]:.2%} of the "
            f"diagonal, 90th percentile {np.percentile(after, 90):.1f}; raw {np.median(before):.1f}; "
            f"{len(common)} landmarks; stage {found.quality['stage']}, {seconds}",
            flush=True,
        )
    if shares:
        print(f"mean over {len(shares)} pairs of the median error: {np.mean(shares):.2%} of the diagonal")


def cohort(out: Path, folder: Path) -> None:
    """Print the errors against the synthetic truth."""
    good = failed = 0
    rows = read_csv(folder / "cohort.csv")
    for row in rows:
        found, seconds = timed(folder / row["he"], folder / row["ihc"], out / row["patient"], None)
        if found is None or found.status != "ok":
            failed += 1
            print(f"{row['patient']}: rejected: {found.reason if found else seconds}", flush=True)
            continue
        truth = folder / "truth" / row["patient"]
        known = read_csv(truth / "landmarks.csv")
        fixed = np.array([[float(mark["x_ihc"]), float(mark["y_ihc"])] for mark in known])
        moving = Deformation.load(truth / "deformation.npz").ihc_to_he(fixed)
        transform = Transform.load(found.transform)
        errors = np.linalg.norm(transform.ihc_to_he(fixed) - moving, axis=1) * transform.he_mpp
        good += bool(np.median(errors) < GOOD_UM)
        low, high = interval(errors)
        print(
            f"{row['patient']}: median {np.median(errors):.2f} um [{low:.2f}, {high:.2f}], 90th percentile "
            f"{np.percentile(errors, 90):.1f}, largest {errors.max():.1f}; confidence "
            f"{found.quality['confidence']:.2f}, stage {found.quality['stage']}, {seconds}",
            flush=True,
        )
    print(f"below {GOOD_UM:g} um: {good} of {len(rows)}; reported as failed: {failed}")


def timed(he: Path, ihc: Path, out: Path, mpp: float | None) -> tuple[Registration | None, str]:
    """The registration (None after an error) and the seconds it took, or the error."""
    start = time.perf_counter()
    try:
        found = register(he, ihc, out, mpp, mpp)
    except RestainError as error:
        return None, str(error)
    return found, f"{time.perf_counter() - start:.0f} s"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs: Any = parser.add_subparsers(dest="verb", required=True)
    marks = verbs.add_parser("landmarks")
    marks.add_argument("out", type=Path)
    marks.add_argument("folders", type=Path, nargs="+")
    marks.add_argument("--mpp", type=float, default=5.0)
    patients = verbs.add_parser("cohort")
    patients.add_argument("out", type=Path)
    patients.add_argument("cohort", type=Path)
    given = parser.parse_args()
    if given.verb == "landmarks":
        landmarks(given.out, given.folders, given.mpp)
    else:
        cohort(given.out, given.cohort)


if __name__ == "__main__":
    main()
