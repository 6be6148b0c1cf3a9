"""How well ``local_alignment`` tells displaced patch pairs from aligned ones, on synthetic neighbouring sections.

    python benchmarks/pair_alignment.py [--patients 8] [--patches 40] [--gap 5] [--mpp 0.5] [--workers 2] [--real DIR]

Draws patients whose H&E lies exactly on the IHC of the next section, through the scanner's JPEG and with the usual
artefacts, and cuts patches with at least half tissue. Half of the H&E patches are displaced by 15 to 60 um, half by
less than 10 um, in any direction, lengths uniform. Prints, per patch size and with and without context around the
patch, the area under the ROC curve of the score (95 % bootstrap interval over patients), of the estimated shift and of
plain correlation; the error of the estimated shift; the time per patch on one core; and what each threshold keeps of
the aligned and of the displaced patches and of tissue from another place, of which nothing matches.

``--real`` names a folder with BCI pairs (``HE/test``, ``IHC/test``), which have no truth: the H&E is displaced by 0, 20
and 40 um and what is found is compared with what is found without.

About 1.5 minutes for 8 patients on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from restain.registration.alignment import CONTEXT_UM, local_alignment
from restain.slides import find_tissue, glass_colour, read_image
from restain.synthetic import SlideRenderer, SynthOptions, World

ALIGNED, DISPLACED, UNRELATED = 0, 1, 2
NEAR_UM, FAR_UM = (0.0, 10.0), (15.0, 60.0)
APART_UM = 250.0
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SIDES_UM = (64, 128, 256, 512)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Trial:
    """One patch pair: what was done to it and what was found."""

    patient: int
    side_um: int
    context: bool
    kind: int
    score: float
    shift: float
    ncc: float
    error: float
    seconds: float


def main() -> None:
    arguments = _arguments()
    options = SynthOptions(
        size=round(1024 / arguments.mpp),
        mpp=arguments.mpp,
        seed=arguments.seed,
        section_gap=arguments.gap,
        no_deformation=True,
    )
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        job = partial(patient_trials, options, arguments.patches)
        trials = [trial for found in pool.map(job, range(arguments.patients)) for trial in found]
    print(f"{arguments.patients} patients, sections {options.section_gap:g} um apart, {options.mpp:g} um/px")
    for side in SIDES_UM:
        for context in (False, True):
            chosen = [t for t in trials if t.side_um == side and t.context == context]
            if chosen:
                _report(chosen, side, context)
    if arguments.real:
        _real(arguments.real, arguments.real_mpp)


def patient_trials(options: SynthOptions, patches: int, index: int) -> list[Trial]:
    """All patch pairs of a patient."""
    cv2.setNumThreads(1)
    he, ihc = slide_pair(options, index)
    whites = glass_colour(he), glass_colour(ihc)
    tissue = cv2.integral((find_tissue(he) & find_tissue(ihc)).astype(np.uint8))
    rng = np.random.default_rng((options.seed, index))
    found = []
    for side_um in SIDES_UM:
        side = round(side_um / options.mpp)
        for context in (False, True):
            edge = round(CONTEXT_UM / options.mpp) if context else 0
            for kind, (x, y), (dx, dy) in _places(rng, tissue, side, edge, patches, options):
                span = slice(y - edge, y + side + edge), slice(x - edge, x + side + edge)
                moved = slice(span[0].start - dy, span[0].stop - dy), slice(span[1].start - dx, span[1].stop - dx)
                start = time.perf_counter()
                result = local_alignment(he[moved], ihc[span], options.mpp, *whites)
                seconds = time.perf_counter() - start
                shift, error = np.nan, np.nan
                if result.shift_um is not None and result.dx_um is not None and result.dy_um is not None:
                    shift = result.shift_um
                    error = float(np.hypot(result.dx_um - dx * options.mpp, result.dy_um - dy * options.mpp))
                found.append(Trial(index, side_um, context, kind, result.score, shift, result.ncc, error, seconds))
    return found


def slide_pair(options: SynthOptions, index: int) -> tuple[Picture, Picture]:
    """H&E and IHC of a patient, through the scanner's JPEG."""
    world = World(options, index)
    pictures = []
    for stain in ("he", "ihc"):
        renderer = SlideRenderer(world, stain)
        rgb = renderer.region(0, 0, options.size, options.size).rgb
        _, coded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, renderer.look.scanner.quality])
        pictures.append(np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]))
    return pictures[0], pictures[1]


def _places(
    rng: np.random.Generator, tissue: NDArray[np.int32], side: int, edge: int, patches: int, options: SynthOptions
) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Kinds, top left corners (x, y) and displacements (x, y) in px; fewer where there is little tissue."""
    reach = int(np.ceil(FAR_UM[1] / options.mpp)) + edge
    free = options.size - side - reach
    if free <= reach:
        return
    made, tries = 0, 0
    while made < patches and tries < 50 * patches:
        tries += 1
        x, y = (int(value) for value in rng.integers(reach, free, 2))
        inside = tissue[y + side, x + side] - tissue[y, x + side] - tissue[y + side, x] + tissue[y, x]
        if inside < 0.5 * side * side:
            continue
        kind = made % 3
        if kind == UNRELATED:
            other = rng.integers(reach, free, 2)
            if np.hypot(*(other - (x, y))) * options.mpp < APART_UM:
                continue
            dx, dy = x - int(other[0]), y - int(other[1])
        else:
            length, angle = rng.uniform(*(NEAR_UM, FAR_UM)[kind]), rng.uniform(0, 2 * np.pi)
            dx, dy = (round(length / options.mpp * part) for part in (np.cos(angle), np.sin(angle)))
        made += 1
        yield kind, (x, y), (dx, dy)


def _report(trials: list[Trial], side: int, context: bool) -> None:
    kind = np.array([t.kind for t in trials])
    patient = np.array([t.patient for t in trials])
    score, shift, ncc, error, seconds = (
        np.array([getattr(t, name) for t in trials]) for name in ("score", "shift", "ncc", "error", "seconds")
    )
    judged = kind != UNRELATED
    values = {"score": score, "shift": -np.nan_to_num(shift, nan=1e3), "correlation": ncc}
    around = f"and {CONTEXT_UM:g} um around" if context else "alone"
    print(f"\npatches of {side} um {around}: {len(trials)}, {1e3 * np.median(seconds):.1f} ms each")
    for name, value in values.items():
        auc = roc_auc_score(kind[judged] == ALIGNED, value[judged])
        low, high = _interval(kind[judged] == ALIGNED, value[judged], patient[judged])
        print(f"  AUC of {name:12s} {auc:.4f} ({low:.4f} to {high:.4f})")
    print(f"  error of the shift: median {np.nanmedian(error[judged]):.1f} um, 95 % under ", end="")
    print(f"{np.nanpercentile(error[judged], 95):.1f} um; 5 % of the aligned score under ", end="")
    print(f"{np.percentile(score[kind == ALIGNED], 5):.3f}")
    print("  threshold             " + "".join(f"{value:7.2f}" for value in THRESHOLDS))
    for name, which in (("aligned, kept", ALIGNED), ("displaced, kept", DISPLACED), ("unrelated, kept", UNRELATED)):
        kept = [100 * float((score[kind == which] >= value).mean()) for value in THRESHOLDS]
        print(f"  {name:18s} %  " + "".join(f"{value:7.1f}" for value in kept))


def _interval(truth: NDArray[np.bool_], value: NDArray[np.float64], patient: NDArray[np.int64]) -> tuple[float, float]:
    """95 % bootstrap interval of the AUC; whole patients are drawn."""
    rng = np.random.default_rng(0)
    names = np.unique(patient)
    members = {name: np.flatnonzero(patient == name) for name in names}
    found = []
    for _ in range(500):
        drawn = np.concatenate([members[name] for name in rng.choice(names, len(names))])
        if 0 < truth[drawn].sum() < len(drawn):
            found.append(roc_auc_score(truth[drawn], value[drawn]))
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def _real(folder: Path, mpp: float) -> None:
    """BCI pairs as they are and displaced to the right."""
    print(f"\nreal pairs, taken as {mpp:g} um/px: H&E displaced to the right; found shift (x, y) in um, score")
    for path in sorted(folder.glob("HE/*/*.png")):
        he, ihc = read_image(path), read_image(folder / "IHC" / path.parent.name / path.name)
        whites = glass_colour(he), glass_colour(ihc)
        found = []
        for shift_um in (0, 20, 40):
            d = round(shift_um / mpp)
            result = local_alignment(he[:, : he.shape[1] - d], ihc[:, d:], mpp, *whites)
            place = "nothing" if result.shift_um is None else f"({result.dx_um:.0f}, {result.dy_um:.0f})"
            found.append(f"{shift_um} um: {place} {result.score:.2f}")
        print(f"  {path.name}: " + "; ".join(found))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--patches", type=int, default=40, help="per patient, size and context, a third of each kind")
    parser.add_argument("--gap", type=float, default=5.0, help="um between the sections")
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--real", type=Path, help="folder with BCI pairs")
    parser.add_argument("--real-mpp", type=float, default=0.8, help="um/px of the BCI pairs, which is not published")
    return parser.parse_args()


if __name__ == "__main__":
    main()
