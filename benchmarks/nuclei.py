"""The default nucleus detector against known nuclei: synthetic patients, and real tiles where there are any.

    python benchmarks/nuclei.py [--synthetic DIR] [--patients 12] [--size 1024] [--seed 7] [--real DIR]

A detection and a nucleus match one to one within a tolerance, so that the sum of the matches' distances is least among
the largest matchings: 4 um in synthetic H&E and IHC, 8 px in the Ki67 tiles, 4 um in the H&E fields. Synthetic truth is
every nucleus that the section touches, slivers too; the lines "seen" ignore those of less than 12 um^2 in the section,
the least that a landmark of the generator has. Real images state no um/px: Ki67 tiles are taken as 0.25 (scanned at
40x; nuclei of 30 px are then 7.5 um wide), each H&E field is brought to a median nucleus of 7 um. Intervals are 95 %
bootstrap intervals over images, and over patients where there are patients. ``--real`` is a folder with ``ihc-ki67``
(tiles and ``_truth.png``: red and blue nuclei) and ``he`` (fields and ``_labels.png``).
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from skimage.feature import blob_log
from skimage.measure import label, regionprops

from restain.slides import read_image
from restain.stains import haematoxylin, make_detector
from restain.synthetic import SynthOptions, generate_cohort

SEEN = 12.0


@dataclass(frozen=True)
class Field:
    """An image with its nuclei: (x, y) in px [n, 2], which of them count [n], tolerance in px."""

    group: str
    unit: str
    rgb: np.ndarray
    mpp: float
    truth: np.ndarray
    seen: np.ndarray
    tolerance: float


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        cohort = arguments.synthetic or Path(folder)
        if not arguments.synthetic:
            options = SynthOptions(size=arguments.size, seed=arguments.seed)
            generate_cohort(cohort, arguments.patients, options)
        fields = list(_synthetic(cohort))
    if arguments.real:
        fields += [*_ki67(arguments.real / "ihc-ki67"), *_he(arguments.real / "he")]
    _report(fields)
    _speed(fields[0])


def _report(fields: list[Field]) -> None:
    detect = make_detector()
    rows: dict[str, list[tuple[str, int, int, int]]] = {}
    for field in fields:
        found = detect(field.rgb, field.mpp)
        pairs = match(found, field.truth, field.tolerance)
        rows.setdefault(field.group, []).append((field.unit, len(pairs), len(found), len(field.truth)))
        if not field.seen.all():
            ours = np.setdiff1d(np.arange(len(found)), match(found, field.truth[field.seen], field.tolerance)[:, 0])
            slivers = len(match(found[ours], field.truth[~field.seen], field.tolerance))
            numbers = (field.unit, len(found) - len(ours), len(found) - slivers, int(field.seen.sum()))
            rows.setdefault(f"{field.group}, seen", []).append(numbers)
    for group, numbers in rows.items():
        counts = np.array([row[1:] for row in numbers], float)
        _, unit = np.unique([row[0] for row in numbers], return_inverse=True)
        values = [scores(counts)] + [scores(drawn) for drawn in _drawn(counts, unit)]
        low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
        text = "   ".join(
            f"{name} {value:.3f} ({a:.3f} to {b:.3f})"
            for name, value, a, b in zip(("F1", "precision", "recall"), values[0], low, high, strict=True)
        )
        together = np.corrcoef(counts[:, 1:].T)[0, 1] if len(counts) > 2 else float("nan")
        print(f"{group:22s} {len(counts):3d} images   {text}   counts correlate {together:.2f}")


def match(found: np.ndarray, truth: np.ndarray, tolerance: float) -> np.ndarray:
    """Pairs of indices [m, 2] of detections and nuclei, one to one, none farther apart than ``tolerance``."""
    if not len(found) or not len(truth):
        return np.zeros((0, 2), int)
    near = cKDTree(found).sparse_distance_matrix(cKDTree(truth), tolerance, output_type="coo_matrix")
    # Far pairs cost more than any number of near ones can save: as many near pairs as there can be.
    cost = np.full((len(found), len(truth)), 1e4, np.float32)
    cost[near.row, near.col] = near.data / tolerance
    pairs = np.stack(linear_sum_assignment(cost), axis=1)
    return pairs[cost[pairs[:, 0], pairs[:, 1]] <= 1]


def scores(counts: np.ndarray) -> tuple[float, float, float]:
    """F1, precision and recall of (matched, found, true) numbers [n, 3]."""
    matched, found, true = counts.sum(axis=0)
    return 2 * matched / max(found + true, 1), matched / max(found, 1), matched / max(true, 1)


def _drawn(counts: np.ndarray, unit: np.ndarray) -> Iterator[np.ndarray]:
    """Counts of units drawn with replacement."""
    random = np.random.default_rng(0)
    sums = np.stack([np.bincount(unit, weights=column) for column in counts.T], axis=1)
    for _ in range(2000):
        yield sums[random.integers(0, len(sums), len(sums))]


def _speed(field: Field) -> None:
    """Against scikit-image's Laplacian of Gaussians on haematoxylin, the usual way without weights."""
    side = min(1024, *field.rgb.shape[:2])
    rgb = np.ascontiguousarray(field.rgb[:side, :side])
    detect = make_detector()
    ours = min(_seconds(lambda: detect(rgb, field.mpp)) for _ in range(3))
    radii = np.array([2.0, 4.5]) / field.mpp / np.sqrt(2)
    theirs = _seconds(lambda: blob_log(haematoxylin(rgb), *radii, num_sigma=4, threshold=0.02))
    print(f"{side} px, one core: blob_log {theirs:.2f} s   restain {ours:.2f} s   ratio {theirs / ours:.1f}")


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def _synthetic(cohort: Path) -> Iterator[Field]:
    with (cohort / "cohort.csv").open() as file:
        patients = list(csv.DictReader(file))
    for patient in patients:
        with (cohort / "truth" / patient["patient"] / "cells.csv").open() as file:
            cells = list(csv.DictReader(file))
        mpp = float(patient["mpp"])
        for stain in ("he", "ihc"):
            shown = [cell for cell in cells if cell[f"x_{stain}"]]
            truth = np.array([[cell[f"x_{stain}"], cell[f"y_{stain}"]] for cell in shown], float).reshape(-1, 2)
            seen = np.array([cell[f"area_{stain}_um2"] for cell in shown], float) >= SEEN
            rgb = read_image(cohort / patient[stain])
            yield Field(f"synthetic {stain}", patient["patient"], rgb, mpp, truth, seen, 4 / mpp)
            if stain == "ihc":
                group = f"synthetic ihc {patient['her2']}"
                yield Field(group, patient["patient"], rgb, mpp, truth, np.ones(len(truth), bool), 4 / mpp)


def _ki67(folder: Path) -> Iterator[Field]:
    for path in sorted(folder.glob("*_truth.png")):
        colours = read_image(path).astype(int)
        inside = ((colours[..., 0] > 100) | (colours[..., 2] > 100)) & (colours[..., 1] < 100)
        regions = [region for region in regionprops(label(inside, connectivity=1)) if region.area >= 15]
        truth = np.array([region.centroid[::-1] for region in regions]) + 0.5
        rgb = read_image(path.with_name(path.name.replace("_truth", "")))
        yield Field("real Ki67", path.name, rgb, 0.25, truth, np.ones(len(truth), bool), 8.0)


def _he(folder: Path) -> Iterator[Field]:
    for path in sorted(folder.glob("*_labels.png")):
        regions = regionprops(np.asarray(Image.open(path)).astype(int))
        truth = np.array([region.centroid[::-1] for region in regions]) + 0.5
        mpp = 7.0 / float(np.median([region.equivalent_diameter_area for region in regions]))
        rgb = read_image(path.with_name(path.name.replace("_labels", "")))
        yield Field("real H&E-like", path.name, rgb, mpp, truth, np.ones(len(truth), bool), 4 / mpp)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", type=Path, help="a folder that restain synth has written; made if not given")
    parser.add_argument("--patients", type=int, default=12, help="patients to make")
    parser.add_argument("--size", type=int, default=1024, help="side of their slides in px (0.5 um/px)")
    parser.add_argument("--seed", type=int, default=7, help="their seed")
    parser.add_argument("--real", type=Path, help="folder with ihc-ki67 and he")
    return parser.parse_args()


if __name__ == "__main__":
    main()
