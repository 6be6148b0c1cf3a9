"""How much of the HER2 level can be read from a synthetic H&E slide, and from what: colour must not tell it.

    python benchmarks/synthetic_leak.py [--patients 200] [--size 448] [--mpp 1.0] [--labs 6] [--seed 0] [--workers 2]

Prints the weighted one-vs-rest AUC of the level (out of fold, patients kept apart, 95 % bootstrap interval over
patients) for colour statistics of the slide, the same of its tissue and relative to the laboratory, simple texture, and
what the truth says: mean nuclear area alone, and the morphology all together, which bounds what a model of the H&E can
reach. Then the statistics that go along with the level most, with what pure chance gives for the best of so many.
About 1.5 s of CPU per patient at the default size, and a minute for the classifiers.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from restain.stains import hed, optical_density
from restain.synthetic import LEVELS, SlideRenderer, SynthOptions, World
from restain.synthetic.cells import Kind

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
CHANNELS = ("R", "G", "B", "OD R", "OD G", "OD B", "H", "E", "D")
STATISTICS = ("mean", "std", *(f"p{value}" for value in PERCENTILES))
TEXTURE_SCALES_UM = (1.0, 2.0, 4.0, 8.0, 16.0)

Table = NDArray[np.float64]


def colour_statistics(rgb: NDArray[np.uint8]) -> Table:
    """Mean, standard deviation and percentiles of RGB, optical density and HED.

    Args:
        rgb: uint8 pixels [..., 3].

    Returns:
        float64 [99], ordered as CHANNELS x STATISTICS.
    """
    pixels = rgb.reshape(1, -1, 3)
    planes = np.concatenate([pixels / 255.0, optical_density(pixels), hed(pixels)], axis=-1)[0]
    found = np.concatenate([planes.mean(0)[None], planes.std(0)[None], np.percentile(planes, PERCENTILES, axis=0)])
    return np.ascontiguousarray(found.T).ravel()


def tissue_pixels(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels [n, 3] of a slide [H, W, 3] that are clearly darker than its glass."""
    grey = cv2.GaussianBlur(rgb.mean(axis=2).astype(np.float32), (0, 0), 2.0)
    tissue = grey < np.percentile(grey, 99.5) - 12
    return rgb[tissue] if tissue.any() else rgb.reshape(-1, 3)


def texture_statistics(rgb: NDArray[np.uint8], mpp: float) -> Table:
    """Strength of the darkness' variation in bands of width from 1 to 16 um, in the tissue: float64 [20]."""
    density = optical_density(rgb).mean(axis=2)
    tissue = cv2.GaussianBlur(density, (0, 0), 4.0 / mpp) > 0.05
    if not tissue.any():
        tissue[:] = True
    found = []
    for scale in TEXTURE_SCALES_UM:
        band = cv2.GaussianBlur(density, (0, 0), scale / mpp) - cv2.GaussianBlur(density, (0, 0), 1.6 * scale / mpp)
        inside = band[tissue]
        spread = float(inside.std()) + 1e-6
        found += [spread, float(np.abs(inside).mean()) / spread, *np.percentile(inside / spread, (5, 95))]
    return np.asarray(found, dtype=np.float64)


def nuclear_area(world: World) -> tuple[float, float]:
    """Mean in um^2 and coefficient of variation of the tumour nuclei's outline areas on the H&E slide's section."""
    side = world.options.side
    cells = world.cells(0.0, side - 1e-3, 0.0, side - 1e-3)
    area = cells.section_area(world.section("he"), world.options.section_thickness)[cells.kind == Kind.TUMOUR]
    area = area[area > 5.0]
    return float(area.mean()), float(area.std() / area.mean())


def measure(options: SynthOptions, index: int) -> dict[str, Table]:
    """What a patient's H&E slide and its truth say; ``level`` and ``lab`` are float64 [1]."""
    world = World(options, index)
    rgb = SlideRenderer(world, "he").region(0, 0, options.size, options.size).rgb
    area, variety = nuclear_area(world)
    patient = world.patient
    return {
        "level": np.array([float(patient.level)]),
        "lab": np.array([float(patient.lab)]),
        "colour": colour_statistics(rgb),
        "tissue colour": colour_statistics(tissue_pixels(rgb)),
        "texture": texture_statistics(rgb, options.mpp),
        "nuclear area": np.array([area]),
        "morphology": np.array([area, variety, patient.vesicular, patient.solidity]),
    }


def out_of_fold(features: Table, levels: Table, classifier: ClassifierMixin, repeats: int = 2) -> Table:
    """Probabilities [patients, levels] by five-fold cross-validation over patients, averaged over ``repeats``."""
    runs = [
        cross_val_predict(
            classifier, features, levels, cv=StratifiedKFold(5, shuffle=True, random_state=run), method="predict_proba"
        )
        for run in range(repeats)
    ]
    return np.mean(runs, axis=0)


def weighted_auc(levels: Table, probabilities: Table) -> float:
    """One-vs-rest AUC of each level, weighted by how many patients have it."""
    return float(roc_auc_score(levels, probabilities, multi_class="ovr", average="weighted"))


def bootstrap(levels: Table, probabilities: Table, draws: int = 500) -> tuple[float, float]:
    """95 % interval of the AUC over patients drawn with replacement."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(levels), size=(draws, len(levels)))
    whole = [pick for pick in picks if len(np.unique(levels[pick])) == len(np.unique(levels))]
    low, high = np.percentile([weighted_auc(levels[pick], probabilities[pick]) for pick in whole], (2.5, 97.5))
    return float(low), float(high)


def logistic_regression() -> ClassifierMixin:
    """On standardised features, with a ridge that suits about a hundred of them."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000))


def random_forest() -> ClassifierMixin:
    """150 trees."""
    return RandomForestClassifier(150, min_samples_leaf=3, random_state=0)


def within_lab(features: Table, lab: Table) -> Table:
    """Features less their laboratory's mean: what somebody learns who knows where the slides come from."""
    centred = features.copy()
    for name in np.unique(lab):
        centred[lab == name] -= features[lab == name].mean(axis=0)
    return centred


def _strongest(features: Table, levels: Table, names: list[str], title: str) -> None:
    """Print the statistics whose ranks go along with the level most."""
    ranks = np.apply_along_axis(rankdata, 0, features)
    ranks = (ranks - ranks.mean(0)) / (ranks.std(0) + 1e-12)

    def correlation(order: Table) -> Table:
        ranked = rankdata(order)
        return ranks.T @ ((ranked - ranked.mean()) / ranked.std()) / len(order)

    found = correlation(levels)
    rng = np.random.default_rng(1)
    chance = np.percentile([np.abs(correlation(rng.permutation(levels))).max() for _ in range(300)], 95)
    best = np.argsort(-np.abs(found))[:6]
    listed = ", ".join(f"{names[i]} {found[i]:+.2f}" for i in best)
    print(f"rank correlation with the level, {title}: {listed} (chance gives a best of up to {chance:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--mpp", type=float, default=1.0)
    parser.add_argument("--labs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    options = SynthOptions(
        size=arguments.size,
        mpp=arguments.mpp,
        labs=arguments.labs,
        seed=arguments.seed,
        same_section=True,
        no_deformation=True,
    )
    with ProcessPoolExecutor(arguments.workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        measured = list(pool.map(partial(measure, options), range(arguments.patients), chunksize=4))
    table = {name: np.stack([row[name] for row in measured]) for name in measured[0]}
    levels, lab = table["level"][:, 0], table["lab"][:, 0]
    counts = ", ".join(f"{name}: {int((levels == i).sum())}" for i, name in enumerate(LEVELS))
    print(f"{len(levels)} patients of {options.labs} laboratories ({counts})")
    print(f"slides of {options.side:.0f} um a side at {options.mpp} um/px, seed {options.seed}")
    table["colour within lab"] = within_lab(table["colour"], lab)
    table["tissue colour within lab"] = within_lab(table["tissue colour"], lab)
    table["texture within lab"] = within_lab(table["texture"], lab)
    print(f"{'AUC of the level from':26} {'logistic regression':>22} {'random forest':>22}")
    for name in (
        "colour", "tissue colour", "colour within lab", "tissue colour within lab", "texture", "texture within lab",
        "nuclear area", "morphology",
    ):  # fmt: skip
        cells = []
        for classifier in (logistic_regression(), random_forest()):
            probabilities = out_of_fold(table[name], levels, classifier)
            low, high = bootstrap(levels, probabilities)
            cells.append(f"{weighted_auc(levels, probabilities):.3f} ({low:.2f} to {high:.2f})")
        print(f"{name:26} {cells[0]:>22} {cells[1]:>22}")
    names = [f"{channel} {statistic}" for channel in CHANNELS for statistic in STATISTICS]
    _strongest(table["colour"], levels, names, "slide")
    _strongest(table["colour within lab"], levels, names, "slide within lab")
    _strongest(table["tissue colour within lab"], levels, names, "tissue within lab")


if __name__ == "__main__":
    main()
