"""Quality control against known artefacts: areas under the ROC curve, on synthetic slides and on real tiles.

    python benchmarks/quality.py [--patients 6] [--size 1536] [--seed 900] [--patch 256] [--real DIR]

Synthetic: patches (0.5 um/px) of slides with pen, folds, bubbles and places out of focus, scored as `restain dataset
check --qc` would, against where the generator put them: at least 5 % of the patch pen, or fold that lies on tissue; at
least 2 % rim of a bubble; mean defocus above 0.5; 85 % without any stain. Good are patches without any of that kind (in
between is left out); for folds these are the same patches rendered without. Each slide carries the folds that the
generator draws for four patients, because one has too few. Real: tiles of the folder ``qc`` (256 px, resolution
unknown), told by eye: which show pen, which are glass; good tiles again with a fold (the light of a bent band squared)
and blurred (Gaussian, 2.5 px), because there are none.

Intervals are 95 % bootstrap intervals over slides (real: over tiles). Flagged: the share with a score of 0.5 or more.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from restain.data.quality import FLAGGED, Measures, Usual, judge, measure
from restain.slides import glass_colour, read_image
from restain.stains import optical_density
from restain.synthetic import SlideRenderer, SynthOptions, World
from restain.synthetic.artefacts import defocus, thickness_factor

REAL_PEN = ("tcga-red-pen", "medium-nuclei-score-green-pen-level1")
REAL_BLANK = ("almost-white-1", "no-tissue", "no-tissue-line")
REAL_GOOD = (
    "low-nuclei-score-level0",
    "medium-nuclei-score-level1-2",
    "medium-nuclei-score-level2",
    "tissue-level0-4302-10273-4814-10785",
)


@dataclass(frozen=True)
class Case:
    """A patch that shows a kind of artefact or not, with its score of that kind."""

    group: str
    kind: str
    unit: str
    bad: bool
    score: float


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(1)
    cases = list(_synthetic(arguments))
    if arguments.real and arguments.real.is_dir():
        cases += _real(arguments.real)
    else:
        print("no real tiles: give their folder with --real")
    for group, kind in dict.fromkeys((case.group, case.kind) for case in cases):
        print(_line(group, kind, [case for case in cases if (case.group, case.kind) == (group, kind)]))


def _line(group: str, kind: str, cases: list[Case]) -> str:
    bad, score = np.array([case.bad for case in cases]), np.array([case.score for case in cases])
    if bad.all() or not bad.any():
        return f"{group:14s} {kind:7s} {bad.sum()} bad of {len(bad)}: no curve"
    names, unit = np.unique([case.unit for case in cases], return_inverse=True)
    members = [np.flatnonzero(unit == index) for index in range(len(names))]
    random, areas = np.random.default_rng(0), []
    for _ in range(1000):
        drawn = np.concatenate([members[index] for index in random.integers(0, len(members), len(members))])
        if bad[drawn].any() and not bad[drawn].all():
            areas.append(roc_auc_score(bad[drawn], score[drawn]))
    low, high = np.quantile(areas, [0.025, 0.975])
    flagged = score >= FLAGGED
    return (
        f"{group:14s} {kind:7s} AUC {roc_auc_score(bad, score):.3f} ({low:.3f} to {high:.3f})   bad {bad.sum():4d}, "
        f"flagged {flagged[bad].mean():.2f}   good {(~bad).sum():4d}, flagged {flagged[~bad].mean():.3f}"
    )


def _synthetic(arguments: argparse.Namespace) -> Iterator[Case]:
    size, patch = arguments.size, arguments.patch
    every = {"folds": 1.0, "pen": 1.0, "bubbles": 1.0, "out_of_focus": 1.0}
    options = SynthOptions(size=size, seed=arguments.seed, **every)
    clean = replace(options, pen=0.0, bubbles=0.0, out_of_focus=0.0)
    at = (np.arange(size) + 0.5) * options.mpp
    for index in range(arguments.patients):
        for stain in ("he", "ihc"):
            unit = f"{index} {stain}"
            spoilt = SlideRenderer(World(options, index), stain)
            rgb = spoilt.region(0, 0, size, size).rgb
            yield from _judged(f"synthetic {stain}", unit, rgb, _truth(spoilt, at), patch)
            plain = SlideRenderer(World(clean, index), stain)
            drawn = [SlideRenderer(World(clean, 1000 + 4 * index + k), stain).artefacts.folds for k in range(4)]
            plain.artefacts = replace(plain.artefacts, folds=tuple(fold for folds in drawn for fold in folds))
            double = thickness_factor(plain.artefacts, at, at)
            folded = plain.region(0, 0, size, size).rgb
            plain.artefacts = replace(plain.artefacts, folds=())
            flat = plain.region(0, 0, size, size).rgb
            absorbs = cv2.GaussianBlur(optical_density(flat, glass_colour(flat)).mean(axis=2), (0, 0), 3.0)
            seen = (double > 1.5) & (absorbs > 0.08) if double is not None else np.zeros(flat.shape[:2], bool)
            yield from _judged(f"synthetic {stain}", unit, folded, {"fold": np.where(seen, 1.0, -1.0)}, patch)
            yield from _judged(f"synthetic {stain}", unit, flat, {"fold": np.zeros(seen.shape)}, patch)


def _truth(slide: SlideRenderer, at: np.ndarray) -> dict[str, np.ndarray]:
    """Where the generator put what [H, W]; below 0 where nothing can be said."""
    found = slide.artefacts
    pen, rim = np.zeros((2, len(at), len(at)), bool)
    for stroke in found.pens:
        pen |= np.abs(np.hypot((at - stroke.x)[None, :], (at - stroke.y)[:, None]) - stroke.radius) < stroke.width / 2
    for bubble in found.bubbles:
        rim |= np.abs(np.hypot((at - bubble.x)[None, :], (at - bubble.y)[:, None]) - bubble.radius) < 5
    far = defocus(found, at[-1] + at[0], at, at)
    unsharp = np.zeros(pen.shape) if far is None else far
    stains = np.sum(slide._pigments(at, at).stains, axis=0)
    glass = (cv2.GaussianBlur(stains, (0, 0), 8.0) < 0.02) & ~pen
    return {
        "pen": pen * 1.0,
        "bubble": np.where(pen, -1.0, rim),
        "blur": np.where(pen, -1.0, unsharp),
        "blank": glass * 1.0,
    }


_SHARE = {"pen": (0.0, 0.05), "fold": (0.0, 0.05), "bubble": (0.0, 0.02), "blur": (0.05, 0.5), "blank": (0.6, 0.85)}
"""Up to the first a patch is good, from the second on it is bad."""


def _judged(group: str, unit: str, rgb: np.ndarray, truth: dict[str, np.ndarray], patch: int) -> Iterator[Case]:
    places = [
        (y, x) for y in range(0, rgb.shape[0] - patch + 1, patch) for x in range(0, rgb.shape[1] - patch + 1, patch)
    ]
    cut = [np.s_[y : y + patch, x : x + patch] for y, x in places]
    measured = [measure(np.ascontiguousarray(rgb[where]), 0.5) for where in cut]
    usual = _usual(measured)
    for where, found in zip(cut, measured, strict=True):
        scores = judge(found, usual).scores
        for kind, field in truth.items():
            here = field[where]
            if kind in ("blur", "bubble") and (here < 0).any():
                continue  # under pen nothing else is seen
            if kind in ("blur", "fold") and (found.blank or 0) > 0.7:
                continue
            good, bad = _SHARE[kind]
            share = float(np.maximum(here, 0).mean())
            if kind == "fold" and share < bad and (here < 0).any():
                continue  # a folded slide gives bad patches alone, its flat twin the good ones
            if share <= good or share >= bad:
                yield Case(group, kind, unit, share >= bad, scores[kind] or 0.0)


def _usual(measured: list[Measures]) -> Usual:
    sharp = [one.sharp for one in measured if one.sharp is not None and (one.blank or 0) < 0.7 and one.pen == 0]
    return Usual(float(np.percentile(sharp, 75)) if len(sharp) >= 8 else None)


def _real(folder: Path) -> list[Case]:
    def tiles(names: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
        found = []
        for name in names:
            rgb = read_image(folder / f"{name}.png")
            edges = [(y, x) for y in range(0, rgb.shape[0] - 191, 192) for x in range(0, rgb.shape[1] - 191, 192)]
            found += [(f"{name} {y} {x}", np.ascontiguousarray(rgb[y : y + 256, x : x + 256])) for y, x in edges]
        return found

    good, glass = tiles(REAL_GOOD), tiles(REAL_BLANK)
    reds = [(name, tile) for name, tile in tiles(REAL_PEN) if _seems_inked(tile)]
    usual = _usual([measure(tile, None) for _, tile in good])
    sets = {
        "pen": reds,
        "blank": glass,
        "fold": [(name, _folded(tile, index)) for index, (name, tile) in enumerate(good)],
        "blur": [(name, cv2.GaussianBlur(tile, (0, 0), 2.5)) for name, tile in good],
    }
    cases = []
    for kind, bad in sets.items():
        for truth, group in ((True, bad), (False, good)):
            for name, tile in group:
                score = judge(measure(tile, None), usual).scores[kind]
                cases.append(Case("real", kind, name, truth, score or 0.0))
    return cases


def _seems_inked(tile: np.ndarray) -> bool:
    """Whether a fifth of a tile is saturated red or green, as the two inks are: by HSV, not as restain tells ink."""
    hue, saturation, _ = np.moveaxis(cv2.cvtColor(tile, cv2.COLOR_RGB2HSV), 2, 0)
    inked = (saturation > 170) & ((hue < 6) | (hue > 174)) | (saturation > 60) & (hue > 65) & (hue < 95)
    return bool(inked.mean() > 0.2)


def _folded(tile: np.ndarray, seed: int) -> np.ndarray:
    """A tile with a bent band, 40 px wide, where there is twice as much of everything."""
    random = np.random.default_rng(seed)
    height, width = tile.shape[:2]
    y, x = np.mgrid[:height, :width]
    angle = random.uniform(0, np.pi)
    across = np.cos(angle) * (x - width / 2) + np.sin(angle) * (y - height / 2)
    along = np.cos(angle) * (y - height / 2) - np.sin(angle) * (x - width / 2)
    band = np.abs(across + 12 * np.sin(along / 40)) < 20
    cover = cv2.GaussianBlur(band.astype(np.float32), (0, 0), 1.5)[..., None]
    white = np.maximum(glass_colour(tile).astype(np.float32), 200)
    light = np.minimum(tile / white, 1)
    return np.clip(light ** (1 + cover) * white, 0, 255).astype(np.uint8)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=6, help="synthetic patients, two slides each")
    parser.add_argument("--size", type=int, default=1536, help="side of their slides in px (0.5 um/px)")
    parser.add_argument("--seed", type=int, default=900, help="their seed")
    parser.add_argument("--patch", type=int, default=256, help="side of a patch in px")
    parser.add_argument("--real", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "qc", help="tiles")
    return parser.parse_args()


if __name__ == "__main__":
    main()
