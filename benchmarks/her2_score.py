"""Does `restain her2 score` read the level that is there? Synthetic IHC with known truth, and real images.

    python benchmarks/her2_score.py OUT [--seeds 8001 8002 ...] [--patients 16] [--size 1024] [--real DIR]

Each seed has six laboratories of its own (stain colours, strength, background, scanner), patients' levels are balanced;
only the IHC is rendered, with all artefacts the generator has. The scorer shares no constant with the generator; its
own were chosen on seeds 101 to 109 and 7001 to 7005; nothing was chosen on the default seeds here.
Printed: by level how many slides got exactly their level; the error of the percentage of positive cells; single
cells against their truth (nearest within 4 um); 95 % bootstrap intervals over slides (those of one laboratory are
alike: a little narrow).

``--real`` is a folder with ``her2-ihc``, ``bci-pairs`` (um/px .46) and ``her2-cores`` (.25): the score of each beside
the level in its name, which is its slide's and often not the patch's, and Spearman's correlation, without a bar.

Everything is kept in OUT: called again, it goes on where it stopped. Done by the code of an earlier call unless
``--again`` is given.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from restain.core.items import process
from restain.her2 import score_slide
from restain.slides import PyramidWriter, open_slide
from restain.stains.her2_rule import LEVELS
from restain.synthetic import SlideRenderer, SynthOptions, World, asco_cap_level
from restain.synthetic.cells import Cells, Kind, concatenate
from restain.synthetic.render import PIXEL_BLOCK

MPP = 0.5
NEAR_UM = 4.0
REAL = (("her2-ihc", "*.png", 0.46), ("bci-pairs/IHC/test", "*.png", 0.46), ("her2-cores", "*.jpg", 0.25))
HEADINGS = ("level", "slides", "exact", "median |error| of % positive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(8001, 8006), *range(9101, 9106)])
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--size", type=int, default=1024, help="px at 0.5 um/px")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--again", action="store_true", help="score again what was scored before")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    names = {f"s{seed}_{index:04d}": (seed, index) for seed in arguments.seeds for index in range(arguments.patients)}
    settings: dict[str, Any] = {"size": arguments.size}
    if arguments.again:
        settings["at"] = time.time()

    def work(name: str) -> dict[str, Any]:
        seed, index = names[name]
        options = SynthOptions(size=arguments.size, mpp=MPP, seed=seed, labs=6)
        return synthetic(arguments.out / "slides" / f"{name}.ome.tif", options, index)

    outcome = process(list(names), work, arguments.out / ".state", settings, "synthetic slides")
    for name, reason in outcome.failures.items():
        print(f"failed: {name}: {reason}")
    if outcome.results:
        report(list(outcome.results.values()))
    if arguments.real:
        real(arguments.real)


def synthetic(path: Path, options: SynthOptions, index: int) -> dict[str, Any]:
    """Render a patient's IHC, score it, compare with the truth."""
    world = World(options, index)
    if not path.exists():
        render(path, world)
    blocks = world.block_range()
    cells = concatenate([world.block(column, row) for row in blocks for column in blocks])
    cells = cells.take(world.on_ihc(cells) & (cells.kind != Kind.ADIPOCYTE))
    tumour, classes = cells.kind == Kind.TUMOUR, world.classes(cells)
    number = np.bincount(classes[tumour], minlength=4)
    shares = number / number.sum()
    start = time.perf_counter()
    with open_slide(path) as slide:
        scored = score_slide(slide)
    percent = scored.classes.percent() or (100.0, 0.0, 0.0, 0.0)
    return {
        "lab": f"{options.seed}-{world.patient.lab}",
        "true": asco_cap_level(shares.tolist()),
        "score": scored.document["score"],
        "true_percent": (100 * shares).round(3).tolist(),
        "percent": [round(share, 3) for share in percent],
        "confusion": confusion(cells, tumour, classes, scored.cells, scored.classes),
        "seconds": round(time.perf_counter() - start, 2),
        "mm2": (options.side / 1000) ** 2,
    }


def render(path: Path, world: World) -> None:
    renderer, size = SlideRenderer(world, "ihc"), world.options.size
    blocks = range(-(-size // PIXEL_BLOCK))
    with PyramidWriter(path, (size, size), MPP, quality=renderer.look.scanner.quality) as slide:
        for row in blocks:
            for column in blocks:
                slide.write(column * PIXEL_BLOCK, row * PIXEL_BLOCK, renderer.block(column, row).rgb)


def confusion(cells: Cells, tumour: np.ndarray, classes: np.ndarray, found: Any, called: Any) -> list[list[int]]:
    """Counted cells by truth (class 0 to 3, other kinds of cells, nothing there) and class that they got [6, 4]."""
    truth = np.column_stack([cells.x, cells.y])
    chosen = called.counted
    place = np.column_stack([found.x, found.y])[chosen] * MPP
    table = np.zeros((6, 4), int)
    if len(place):
        distance, index = cKDTree(truth).query(place)
        kind = np.where(distance > NEAR_UM, 5, np.where(tumour[index], classes[index], 4))
        np.add.at(table, (kind, called.membrane[chosen]), 1)
    return table.tolist()


def report(results: list[dict[str, Any]]) -> None:
    true = np.array([result["true"] for result in results])
    exact = np.array([result["score"] == result["true"] for result in results])
    error = np.array([abs(result["percent"][0] - result["true_percent"][0]) for result in results])
    signed = np.array([result["true_percent"][0] - result["percent"][0] for result in results])
    print("\n{:<8}{:>8}{:>10}   {}".format(*HEADINGS))
    for level in LEVELS:
        chosen = true == level
        if chosen.any():
            print(f"{level:<8}{chosen.sum():>8}{exact[chosen].mean():>10.1%}   {np.median(error[chosen]):.2f}")
    print(f"{'all':<8}{len(true):>8}{exact.mean():>10.1%}   {np.median(error):.2f}")
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(true), size=(4000, len(true)))
    low, high = np.percentile(exact[drawn].mean(axis=1), [2.5, 97.5])
    print(f"95 % interval: exact {low:.1%} to {high:.1%}", end="; ")
    low, high = np.percentile(np.median(error[drawn], axis=1), [2.5, 97.5])
    print(f"median error {low:.2f} to {high:.2f}; mean signed error of % positive {signed.mean():+.2f}")
    table = np.array([result["confusion"] for result in results]).sum(axis=0)
    print("\ncounted cells by truth (rows) and class (columns 0 to 3):")
    for name, row in zip(("class 0", "class 1", "class 2", "class 3", "other kind", "nothing"), table, strict=True):
        print(f"  {name:<12}" + "".join(f"{count:>8}" for count in row))
    print(f"seconds a mm2: {np.median([result['seconds'] / result['mm2'] for result in results]):.1f}")
    labs = {result["lab"] for result in results}
    print(f"laboratories: {len(labs)}; slides with the wrong level:")
    for result in results:
        if result["score"] != result["true"]:
            shares = [np.round(result[key], 1).tolist() for key in ("true_percent", "percent")]
            print(
                f"  lab {result['lab']}: {result['true']} read as {result['score']}; true {shares[0]}, read {shares[1]}"
            )


def real(folder: Path) -> None:
    print("\nreal images (the level in the name is the slide's)")
    pairs = []
    for name, pattern, mpp in REAL:
        for path in sorted((folder / name).glob(pattern)):
            label = path.stem[0] if name == "her2-cores" else path.stem.rsplit("_", 1)[-1].rstrip("+")
            with open_slide(path, mpp) as slide:
                document = score_slide(slide).document
            print(f"  {path.name:<48} named {label}  read {document['score'] or '-':<3} {document['reason']}")
            if document["score"] is not None:
                pairs.append((int(label), LEVELS.index(str(document["score"]))))
    if len(pairs) > 2:
        named, read = zip(*pairs, strict=True)
        print(f"Spearman's correlation over the {len(pairs)} that have a score: {spearmanr(named, read).statistic:.2f}")


if __name__ == "__main__":
    main()
