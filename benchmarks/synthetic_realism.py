"""Synthetic patients beside real H&E and HER2 IHC: figures and pictures.

    python benchmarks/synthetic_realism.py --out FOLDER [--real ../shared/data] [--patients 8] [--bci-mpp 0.8]

Makes patients of several levels and laboratories as a scanner would at 0.4 um/px, JPEG included, and brings all
pictures, real and synthetic, to 0.8 um/px, about as coarse as BCI's are. Measures every picture in the same way and
prints, per figure, minimum, median and maximum over pictures, and an overlap of synthetic with real with the same among
the real ones as yardstick. Writes ``he.png`` and ``ihc.png``: crops at full zoom, real and synthetic by turns.

BCI's um/px is not published (scanner 0.46, then downsampled). Its lymphocytes (7 to 8 px), adipocytes (50 to 70 px) and
tumour nuclei (11 to 13 px) agree with 0.7 to 0.9; ``--bci-mpp`` sets what is assumed. Areas go with its square, so the
printed areas and densities of real pictures are good to a quarter or so. Tissue-microarray cores: 0.25 assumed. The
sections of a frozen HER2-positive breast tumour lie on an array whose spots, 200 um apart, are seen 295 px apart.

About 2 minutes on two cores. Exit status 2 where the real pictures are not there.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import watershed

from restain.slides import glass_colour, open_slide, read_image, write_image
from restain.stains import RGB_FROM_HED, optical_density
from restain.synthetic import LEVELS, SlideRenderer, SynthOptions, World

MPP = 0.8
SCANNED_MPP = 0.4
CORE_MPP = 0.25
ARRAY_MPP = 200 / 295
CROP = 320

_UNMIXING = np.linalg.inv(RGB_FROM_HED / np.linalg.norm(RGB_FROM_HED, axis=1, keepdims=True)).astype(np.float32)
_BINS = {"H": np.linspace(-0.1, 0.9, 51), "E": np.linspace(-0.1, 0.6, 36), "D": np.linspace(-0.1, 1.9, 81)}
_AREA_BINS = np.linspace(0, 160, 33)
_SPECTRUM_BAND = (0.02, 0.3)  # cycles per um: below are few waves in a window, above noise and JPEG rule
_WINDOW = 128

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """A picture at MPP: where from, "he" or "ihc", real or not, uint8 [H, W, 3]; ``sized``: its um/px is known."""

    name: str
    stain: str
    real: bool
    rgb: Picture
    sized: bool = True


@dataclass(frozen=True)
class Measures:
    """What was measured in a picture: scalars by name, and values of pixels or nuclei for histograms by name."""

    sample: Sample
    scalars: dict[str, float]
    values: dict[str, NDArray[np.float32]]


def resized(rgb: Picture, factor: float) -> Picture:
    """The picture ``factor`` times as large, averaged where it shrinks."""
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def real_samples(folder: Path, bci_mpp: float) -> list[Sample]:
    """The real pictures there are in ``folder``."""
    found = []
    for pattern, stain, mpp in (
        ("bci-pairs/HE/*/*.png", "he", bci_mpp),
        ("bci-pairs/IHC/*/*.png", "ihc", bci_mpp),
        ("her2-ihc/*.png", "ihc", bci_mpp),
    ):
        paths = sorted(folder.glob(pattern))
        found += [Sample(path.stem, stain, True, resized(read_image(path), mpp / MPP)) for path in paths]
    for path in sorted(folder.glob("her2-cores/[0-2]_*.jpg")):
        core = resized(read_image(path), CORE_MPP / MPP)
        inner = core.shape[0] // 5
        found.append(Sample(path.stem[:10], "ihc", True, np.ascontiguousarray(core[inner:-inner, inner:-inner])))
    paths = [*sorted(folder.glob("qc/*-nuclei-score-level*.png")), *sorted(folder.glob("qc/tissue-level0-*.png"))]
    found += [Sample(path.stem[:24], "he", True, read_image(path), sized=False) for path in paths]
    path = folder / "slides" / "cmu-1-small-region.svs"
    if path.is_file():
        with open_slide(path) as slide:
            for name, x, y in (("cmu-1 left", 700, 1000), ("cmu-1 right", 1150, 1900), ("cmu-1 bottom", 600, 2150)):
                found.append(Sample(name, "he", True, slide.read(x, y, 512, 512, MPP)))
    for path in sorted(folder.glob("slides/her2-positive-tumour-section-*.jpg")):
        found += _array_section(resized(read_image(path), ARRAY_MPP / MPP), path.stem[-2:])
    return found


def _array_section(rgb: Picture, name: str) -> list[Sample]:
    """Three fields of 640 px that are full of tissue, from a section most of which is glass."""
    dark = cv2.boxFilter((rgb.mean(axis=2) < 215).astype(np.float32), -1, (640, 640), anchor=(0, 0))[:-640:40, :-640:40]
    found = []
    for number in range(3):
        row, column = np.unravel_index(int(np.argmax(dark)), dark.shape)
        field = rgb[40 * row : 40 * row + 640, 40 * column : 40 * column + 640]
        found.append(Sample(f"HER2-positive {name} {number + 1}", "he", True, np.ascontiguousarray(field)))
        dark[max(row - 15, 0) : row + 16, max(column - 15, 0) : column + 16] = 0
    return found


def synthetic_samples(options: SynthOptions, index: int) -> list[Sample]:
    """H&E and IHC of one patient, through the scanner's JPEG and down to MPP."""
    cv2.setNumThreads(1)
    world = World(options, index)
    found = []
    for stain in ("he", "ihc"):
        renderer = SlideRenderer(world, stain)
        rgb = renderer.region(0, 0, options.size, options.size).rgb
        _, coded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, renderer.look.scanner.quality])
        rgb = np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])
        name = f"synthetic {world.patient.name} {world.patient.her2} lab {world.patient.lab + 1}"
        found.append(Sample(name, stain, False, resized(rgb, SCANNED_MPP / MPP)))
    return found


def measure(sample: Sample) -> Measures:
    """All figures of a picture."""
    cv2.setNumThreads(1)
    od = optical_density(sample.rgb, np.maximum(glass_colour(sample.rgb), 1))
    grey = od.mean(axis=2)
    tissue = cv2.GaussianBlur(grey, (0, 0), 3.0 / MPP) > 0.03
    if not tissue.any():
        tissue[:] = True
    amounts = np.asarray(od.reshape(-1, 3) @ _UNMIXING, np.float32).reshape(od.shape)
    second = ("E", 1) if sample.stain == "he" else ("D", 2)
    values = {"H": amounts[..., 0][tissue], second[0]: amounts[..., second[1]][tissue]}
    scalars = {f"{name} OD, {word}": float(np.percentile(values[name], q)) for name in values for word, q in _WORDS}
    smooth = cv2.blur(grey, (21, 21))
    spread = np.sqrt(np.maximum(cv2.blur(grey * grey, (21, 21)) - smooth * smooth, 0))
    scalars["OD, mean"] = float(grey[tissue].mean())
    scalars["local contrast (sd of OD in 16 um)"] = float(spread[tissue].mean())
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / (8 * MPP)) for order in ((1, 0), (0, 1)))
    scalars["sharpest edges (p99 of OD per um)"] = float(np.percentile(np.hypot(dx, dy)[tissue], 99))
    scalars["power spectrum, slope"] = spectrum_slope(grey, tissue)
    if sample.sized:
        areas, contrast = segment_nuclei(amounts[..., 0], tissue)
        values["nuclear area"] = areas
        scalars["nuclear area, median (um2)"] = float(np.median(areas)) if len(areas) else float("nan")
        scalars["nuclei per mm2 of tissue"] = float(len(areas) / (tissue.sum() * MPP**2 * 1e-6))
        scalars["nucleus minus surroundings (H OD)"] = contrast
    return Measures(sample, scalars, values)


_WORDS = (("median", 50), ("p95", 95), ("p99", 99))


def segment_nuclei(amount: NDArray[np.float32], tissue: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
    """Nuclei by threshold and watershed.

    Args:
        amount: haematoxylin [H, W] at MPP.
        tissue: bool [H, W].

    Returns:
        Areas in um^2 [n] of compact objects of 12 to 250 um^2, and by how much they are darker than around them.
    """
    smooth = cv2.GaussianBlur(amount, (0, 0), 0.7 / MPP)
    local = cv2.GaussianBlur(np.where(tissue, smooth, 0), (0, 0), 20 / MPP)
    local /= np.maximum(cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), 20 / MPP), 1e-3)
    above = smooth - local
    candidates = above[tissue & (above > 0)]
    if len(candidates) < 100:
        return np.zeros(0, np.float32), float("nan")
    dark = tissue & (above > max(0.6 * float(threshold_otsu(candidates)), 0.02))
    dark = ndimage.binary_fill_holes(ndimage.binary_opening(dark, iterations=1))
    depth = cv2.GaussianBlur(cv2.distanceTransform(dark.astype(np.uint8), cv2.DIST_L2, 5), (0, 0), 0.8 / MPP)
    peaks = peak_local_max(depth, min_distance=round(2.4 / MPP), labels=dark.astype(np.int32), exclude_border=False)
    seeds = np.zeros(dark.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, seeds, mask=dark)
    kept = [p for p in regionprops(labels) if 12 <= p.area * MPP**2 <= 250 and p.solidity > 0.8]
    areas = np.asarray([p.area * MPP**2 for p in kept], np.float32)
    chosen = np.isin(labels, [p.label for p in kept])
    ring = tissue & ndimage.binary_dilation(chosen, iterations=3) & ~ndimage.binary_dilation(dark, iterations=1)
    contrast = float(amount[chosen].mean() - amount[ring].mean()) if chosen.any() and ring.any() else float("nan")
    return areas, contrast


def spectrum_slope(grey: NDArray[np.float32], tissue: NDArray[np.bool_]) -> float:
    """Slope of log power against log frequency of optical density, over windows that are mostly tissue."""
    hann = np.outer(np.hanning(_WINDOW), np.hanning(_WINDOW))
    power = np.zeros((_WINDOW, _WINDOW))
    for y in range(0, grey.shape[0] - _WINDOW + 1, _WINDOW // 2):
        for x in range(0, grey.shape[1] - _WINDOW + 1, _WINDOW // 2):
            place = (slice(y, y + _WINDOW), slice(x, x + _WINDOW))
            if tissue[place].mean() > 0.8:
                power += np.abs(np.fft.fft2((grey[place] - grey[place].mean()) * hann)) ** 2
    if not power.any():
        return float("nan")
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_WINDOW, MPP), np.fft.fftfreq(_WINDOW, MPP)))
    edges = np.geomspace(*_SPECTRUM_BAND, 13)
    ring = np.digitize(frequency, edges)
    rings = [(frequency[ring == i].mean(), power[ring == i].mean()) for i in range(1, len(edges)) if (ring == i).any()]
    return float(np.polyfit(*np.log(np.asarray(rings)).T, 1)[0])


def overlap(first: list[NDArray[np.float32]], second: list[NDArray[np.float32]], bins: NDArray[np.float64]) -> float:
    """Shared area of two mean histograms, 0 to 1; each picture counts the same."""

    def mean_histogram(values: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        each = [np.histogram(np.clip(v, bins[0], bins[-1]), bins)[0] / max(len(v), 1) for v in values]
        return np.asarray(np.mean(each, axis=0))

    return float(np.minimum(mean_histogram(first), mean_histogram(second)).sum())


def print_histograms(real: list[Measures], synthetic: list[Measures]) -> None:
    """Overlap coefficients per stain and of nuclear area."""
    heads = ("all syn - all real", "syn - real, pairs", "real - real, pairs")
    print(f"  {'histogram overlap (1: same)':38} " + " ".join(f"{head:>19}" for head in heads))
    for name in ("H", "E", "D", "nuclear area"):
        ours = [m.values[name] for m in synthetic if len(m.values.get(name, ()))]
        theirs = [m.values[name] for m in real if len(m.values.get(name, ()))]
        if not ours or len(theirs) < 2:
            continue
        bins = _BINS.get(name, _AREA_BINS)
        cross = [overlap([a], [b], bins) for a in ours for b in theirs]
        within = [overlap([a], [b], bins) for a, b in combinations(theirs, 2)]
        title = {"H": "haematoxylin OD", "E": "eosin OD", "D": "DAB OD"}.get(name, name)
        print(f"  {title:38} {overlap(ours, theirs, bins):19.2f} {_spread(cross, 2):>19} {_spread(within, 2):>19}")


def print_scalars(real: list[Measures], synthetic: list[Measures]) -> None:
    """Range of each figure over pictures, and how many synthetic ones lie within the real range."""
    heads = ("real: min/med/max", "synthetic: min/med/max", "syn within real range")
    print(f"  {'figure, per picture':38} " + " ".join(f"{head:>23}" for head in heads))
    for name in synthetic[0].scalars:
        theirs = np.asarray([m.scalars.get(name, np.nan) for m in real])
        ours = np.asarray([m.scalars.get(name, np.nan) for m in synthetic])
        theirs, ours = theirs[np.isfinite(theirs)], ours[np.isfinite(ours)]
        if len(theirs) == 0 or len(ours) == 0:
            continue
        inside = int(((ours >= theirs.min()) & (ours <= theirs.max())).sum())
        digits = 0 if theirs.max() > 20 else 3 if abs(theirs).max() < 2 else 2
        print(f"  {name:38} {_spread(theirs, digits):>23} {_spread(ours, digits):>23} {f'{inside} of {len(ours)}':>23}")


def _spread(values: list[float] | NDArray[np.float64], digits: int) -> str:
    return " / ".join(f"{v:.{digits}f}" for v in (np.min(values), np.median(values), np.max(values)))


def sheet(samples: list[Sample], rows: int) -> Picture:
    """Crops of CROP px, doubled, four in a row: real, synthetic, real, synthetic; each named above."""
    real = [s for s in samples if s.real and s.sized and min(s.rgb.shape[:2]) >= CROP]
    synthetic = [s for s in samples if not s.real]
    panels = []
    for number in range(2 * rows):
        # Where there are fewer pictures than places, another crop of the same is shown.
        panels += [_panel(kind[number % len(kind)], number // len(kind)) for kind in (real, synthetic)]
    return np.vstack([np.hstack(panels[i : i + 4]) for i in range(0, len(panels), 4)])


def _panel(sample: Sample, rank: int) -> Picture:
    """The crop with most structure (``rank`` 0), or the next that overlaps it little; so that glass is not compared."""
    grey = optical_density(sample.rgb).mean(axis=2)
    spread = cv2.boxFilter(np.abs(grey - cv2.blur(grey, (41, 41))), -1, (CROP, CROP), anchor=(0, 0))
    spread = spread[: sample.rgb.shape[0] - CROP + 1, : sample.rgb.shape[1] - CROP + 1]
    for _ in range(rank + 1):
        y, x = np.unravel_index(int(np.argmax(spread)), spread.shape)
        spread[max(y - CROP // 2, 0) : y + CROP // 2, max(x - CROP // 2, 0) : x + CROP // 2] = 0
    crop = cv2.resize(sample.rgb[y : y + CROP, x : x + CROP], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    framed = cv2.copyMakeBorder(crop, 26, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    title = sample.name if not sample.real else f"real {sample.name}"
    return np.asarray(cv2.putText(framed, title, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", type=Path, default=Path("../shared/data"), help="folder of real pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for the picture sheets")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--size", type=int, default=640, help="side in px at 0.8 um/px")
    parser.add_argument("--bci-mpp", type=float, default=MPP)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=3, help="of four crops in each sheet")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    real = real_samples(arguments.real, arguments.bci_mpp) if arguments.real.is_dir() else []
    if not {"he", "ihc"} <= {sample.stain for sample in real}:
        print(
            f"No real pictures (bci-pairs, her2-ihc) in {arguments.real}: name their folder with --real.",
            file=sys.stderr,
        )
        sys.exit(2)
    scale = round(MPP / SCANNED_MPP)
    options = SynthOptions(size=arguments.size * scale, mpp=SCANNED_MPP, seed=arguments.seed, pen=0, bubbles=0, folds=0)
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        made = [s for pair in pool.map(partial(synthetic_samples, options), range(arguments.patients)) for s in pair]
        measured = list(pool.map(measure, real + made))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for stain, title in (("he", "H&E"), ("ihc", f"HER2 IHC (levels {', '.join(LEVELS)})")):
        theirs = [m for m in measured if m.sample.stain == stain and m.sample.real]
        ours = [m for m in measured if m.sample.stain == stain and not m.sample.real]
        print(
            f"\n{title}: {len(theirs)} real and {len(ours)} synthetic pictures (BCI taken as {arguments.bci_mpp} um/px)"
        )
        print_histograms(theirs, ours)
        print_scalars(theirs, ours)
        path = arguments.out / f"{stain}.png"
        write_image(path, sheet([m.sample for m in theirs + ours], arguments.rows))
        print(f"  pictures: {path}")


if __name__ == "__main__":
    main()
