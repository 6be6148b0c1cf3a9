"""Does the local stain error measure what it is for? Requirements (a) to (f), each by an experiment.

    python benchmarks/metric_validity.py OUT [--quick] [--patients 16] [--seed 2027] [--levels DIR] [--real DIR]

On synthetic patients of which the truth is known, from laboratories that were not seen while the metric was made (seeds
501 and 2026), and on real IHC where ``--real`` is there (else a line says so). One level of error is the same tissue
with the patient's shares of membrane classes replaced by those of the level above or below; a patient's cost of it is
the cheaper of the two.

- a: shifts and deformations of up to 8 um change the value by at most a tenth of one level.
- b: strictly monotone in the strength of DAB and in the share of cells with a wrong membrane class.
- c: shrinking to a quarter and enlarging makes every fake worse, good or bad.
- d: a neighbouring section of the same block, 5 um away, costs at most a quarter of one level.
- e: the same expression moved 50 um to other cells costs more than it does unmoved (every patient) and than the
  neighbouring section does (mean); the distance of the whole images' DAB histograms stands beside it.
- f: nearness of the level is ranked better than by PSNR, SSIM (and DISTS where its weights are): of two virtual stains
  of a patient more often right (mean), and over all images a higher Spearman correlation (interval above 0). Renders:
  nearness from the true shares of membrane classes. Trained stainers: from TDKstain's membrane ratio, which shares
  nothing with the metric.

The stainers trained here in minutes hardly know a level. With ``--levels``, the images that benchmarks/levels.py made
in its OUT (two methods, three seeds, 48 held-out patients; they follow the level) are ranked too.

Everything is kept in OUT: called again, it goes on where it stopped. About 25 minutes on one core, most of it rendering
and training; --quick takes 3 and shows that it runs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from altered_tissue import MARGIN, Altered, Image, bend, constant, inner, jpeg, noisy, render, restained, shrunk
from metric_validity_report import report, report_real
from restain.cli.main import main as restain
from restain.core.errors import RestainError
from restain.core.files import read_json, write_json
from restain.data import read_dataset
from restain.metrics import ImagePair, load_metric
from restain.metrics.dab_map import dab_map
from restain.slides import read_image, write_image
from restain.stains import membrane_ratio
from restain.synthetic import SlideRenderer, SynthOptions, World

MPP, SIDE, TILE = 0.5, 768, 256
TRAINING_PATIENTS = 24
LEVELS = ("0", "1+", "2+", "3+")
FACTORS = (0.5, 0.7, 0.85, 1.2, 1.5, 2.0)
WRONG = (0.1, 0.25, 0.5, 0.75, 1.0)
STAINERS = {
    "pyramid, 1 epoch": ("pyramid_pix2pix", 1, 0),
    "pyramid, 12 epochs": ("pyramid_pix2pix", 6, 6),
    "pix2pix, 4 epochs": ("pix2pix", 2, 2),
    "cut, 2 epochs": ("cut", 1, 1),
}
"""Method (recipe: its _small one), epochs, and epochs of decay."""

Score = Callable[[ImagePair], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="4 patients, one training")
    parser.add_argument("--untrained", action="store_true", help="leave the trained stainers out")
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=2027)
    parser.add_argument("--real", type=Path, default=Path("../shared/data"))
    parser.add_argument("--levels", type=Path, help="the OUT of benchmarks/levels.py")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    patients = 4 if arguments.quick else arguments.patients
    training = 4 if arguments.quick else TRAINING_PATIENTS
    options = SynthOptions(
        size=SIDE + 2 * round(MARGIN / MPP), mpp=MPP, seed=arguments.seed, no_deformation=True,
        folds=0, pen=0, bubbles=0, out_of_focus=0, dirt=0,
    )  # fmt: skip
    scores = load_scores()
    stainers = list(STAINERS)[: 0 if arguments.untrained else 1 if arguments.quick else None]
    pairs = arguments.out / "pairs"
    if stainers:
        write_pairs(pairs, options, patients, training)
    records = []
    for index in range(patients):
        file = arguments.out / "values" / f"{index:04d}.json"
        if not file.exists():
            write_json(file, judge(options, index, scores))
            print(f"renders of patient {index + 1} of {patients}", flush=True)
        records.append(read_json(file))
    for name in stainers:
        train_and_stain(arguments.out, name)
    for index, record in enumerate(records):
        file = arguments.out / "values" / f"{index:04d}-trained.json"
        if stainers and not file.exists():
            real = read_image(pairs / "IHC" / "test" / f"{index:05d}_test.png")
            stained = {
                name: read_image(arguments.out / "stained" / slug(name) / f"{index:05d}_test.png") for name in stainers
            }
            write_json(file, judge_trained(real, stained, World(options, index), scores))
        trained = read_json(file) if stainers else {"candidates": [], "blur": {}}
        record["candidates"] += trained["candidates"]
        record["blur"] |= trained["blur"]
    followed = arguments.out / "levels.json"
    if not followed.exists() and arguments.levels:
        write_json(followed, judge_levels(arguments.levels, scores))
    report(records, read_json(followed) if followed.exists() else [])
    real = arguments.out / "real.json"
    if not real.exists() and (arguments.real / "her2-ihc").exists():
        write_json(real, judge_real(arguments.real, scores["local_stain_error"]))
    report_real(read_json(real) if real.exists() else None)


def load_scores() -> dict[str, Score]:
    """The metrics that are compared; those whose weights are missing are left out, and named."""
    found: dict[str, Score] = {}
    for name in ("local_stain_error", "psnr", "ssim", "dists"):
        try:
            found[name] = load_metric(name)
        except (RestainError, KeyError) as error:
            print(f"{name}: left out. {error}")
    return found


def write_pairs(pairs: Path, options: SynthOptions, patients: int, training: int) -> None:
    """Neighbouring sections: tiles of the training patients, whole pictures of the held-out ones (the first)."""
    for index in range(patients + training):
        split = "test" if index < patients else "train"
        last = pairs / "IHC" / split / (f"{index:05d}_test.png" if split == "test" else f"{index:05d}8_train.png")
        if last.exists():
            continue
        world = World(options, index)
        for stain in ("he", "ihc"):
            whole = inner(render(world, 7, stain=stain), MPP)
            folder = pairs / {"he": "HE", "ihc": "IHC"}[stain] / split
            if split == "test":
                write_image(folder / f"{index:05d}_test.png", whole)
                continue
            for number, (y, x) in enumerate(np.ndindex(SIDE // TILE, SIDE // TILE)):
                tile = whole[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE]
                write_image(folder / f"{index:05d}{number}_train.png", np.ascontiguousarray(tile))


def slug(name: str) -> str:
    """A folder's name."""
    return name.replace(", ", "-").replace(" ", "-")


def train_and_stain(out: Path, name: str) -> None:
    """Train a small run and stain the held-out H&E, unless that was done."""
    method, epochs, decay = STAINERS[name]
    run, stained = out / "runs" / slug(name), out / "stained" / slug(name)
    for words in (
        ("train", method, "--config", f"{method}_small", "--data", str(out / "pairs"), "--out", str(run),
         "--training.epochs", str(epochs), "--training.epochs_decay", str(decay), "--training.accelerator", "cpu",
         "--mpp", str(MPP)),
        ("stain", str(run), str(out / "pairs" / "HE" / "test"), "--out", str(stained), "--accelerator", "cpu"),
    ):  # fmt: skip
        if code := restain(words):
            raise SystemExit(code)


def judge(options: SynthOptions, index: int, scores: dict[str, Score]) -> dict[str, Any]:
    """All values of one patient's renders."""
    own = Altered(options, index)
    level, error = own.patient.level, scores["local_stain_error"]

    def altered(noise: int, **how: Any) -> Image:
        return inner(render(Altered(options, index, like=own, **how), noise), MPP)

    big = render(own, 1)
    real = inner(big, MPP)
    other = [altered(2, level=number) for number in range(4)]
    near, moved = altered(3, depth=5.0), altered(4, moved=50.0)
    strength = {factor: inner(render(own, 5, dab=factor), MPP) for factor in FACTORS}
    wrong = {
        kind: [altered(6, wrong=share, anyhow=anyhow) for share in WRONG]
        for kind, anyhow in (("one step", False), ("any class", True))
    }
    step = [number for number in (level - 1, level + 1) if 0 <= number <= 3]

    def value(fake: Image) -> float:
        return error(ImagePair(real, fake, MPP))

    off = other[step[0]]
    off_big = render(Altered(options, index, level=step[0], like=own), 2)
    misaligned = {
        "shift 8 um, x": inner(big, MPP, 8, 0), "shift 8 um, y": inner(big, MPP, 0, -8),
        "shift 5.7 + 5.7 um": inner(big, MPP, -5.6, 5.6), "shift 3 um": inner(big, MPP, 3, 0),
        **{f"deformed, waves of {w} um": inner(bend(big, MPP, 8, w, 1), MPP) for w in (80, 150, 300)},
    }  # fmt: skip
    misaligned_off = {
        "one level off: shift 8 um": inner(off_big, MPP, 8, 0),
        "one level off: deformed, waves of 150 um": inner(bend(off_big, MPP, 8, 150, 1), MPP),
    }
    bad = {
        "perfect": real, "other noise": other[level], "shift 8 um": misaligned["shift 8 um, x"],
        "shift 24 um": inner(big, MPP, 24, 0), "neighbouring section": near, "moved 50 um": moved,
        **{f"DAB x {factor:g}": image for factor, image in strength.items()},
        **{f"level {LEVELS[number]}": other[number] for number in range(4) if number != level},
        "half of the cells wrong": wrong["any class"][2], "half of the counterstain": restained(real, 1, 0.5),
        "twice the counterstain": restained(real, 1, 2), "noise": noisy(real, 8), "JPEG 40": jpeg(real, 40),
        "mirrored": real[::-1].copy(), "constant colour": constant(real),
    }  # fmt: skip
    return {
        "level": level,
        "shares": own.shares().tolist(),
        "stained cells": float(own.shares()[1:].sum()),
        "level cost": {LEVELS[number]: value(other[number]) for number in range(4)},
        "steps": [LEVELS[number] for number in step],
        "misaligned": {name: value(fake) for name, fake in misaligned.items()},
        "misaligned off": {name: value(fake) - value(off) for name, fake in misaligned_off.items()},
        "strength": {f"{factor:g}": value(fake) for factor, fake in strength.items()},
        "wrong": {kind: [value(fake) for fake in fakes] for kind, fakes in wrong.items()},
        "blur": {name: blurred_too(value, fake) for name, fake in bad.items()},
        "near": value(near),
        "moved": value(moved),
        "histogram": {"near": histogram(real, near), "moved": histogram(real, moved), "level": histogram(real, off)},
        "candidates": list(candidates(own, real, other, near, scores)),
    }


def blurred_too(value: Callable[[Image], float], fake: Image) -> list[float]:
    """Of a fake, and of the fake shrunk to a quarter and enlarged, bicubic and bilinear."""
    return [value(fake), value(shrunk(fake)), value(shrunk(fake, cv2.INTER_LINEAR))]


def judge_trained(real: Image, stained: dict[str, Image], world: World, scores: dict[str, Score]) -> dict[str, Any]:
    """The values of trained stainers' images of one patient."""
    white = SlideRenderer(world, "ihc").look.scanner.white
    ratio, error = membrane_ratio(balanced(real, white)), scores["local_stain_error"]

    def value(fake: Image) -> float:
        return error(ImagePair(real, fake, MPP))

    rows = []
    for name, fake in stained.items():
        far = float(np.abs(membrane_ratio(balanced(fake, white)) - ratio).mean())
        pair = ImagePair(real, fake, MPP)
        rows.append(
            {"kind": "trained", "name": name, "far": far, **{key: score(pair) for key, score in scores.items()}}
        )
    return {"candidates": rows, "blur": {name: blurred_too(value, fake) for name, fake in stained.items()}}


def judge_levels(folder: Path, scores: dict[str, Score]) -> list[dict[str, Any]]:
    """The held-out patients of benchmarks/levels.py: its trained stainers' means over each patient's patches."""
    options = SynthOptions(**read_json(folder / "cohort" / "cohort.json")["options"])
    records = read_dataset(folder / "pairs").split("test")
    runs = sorted(path.name for path in (folder / "stained").iterdir())
    result = []
    for patient in sorted({record.patient for record in records}):
        world = World(options, int(patient.removeprefix("p")))
        white = SlideRenderer(world, "ihc").look.scanner.white
        patches = [record for record in records if record.patient == patient]
        reals = [record.read()[1] for record in patches]
        ratio = np.mean([membrane_ratio(balanced(real, white)) for real in reals], 0)
        rows = []
        for run in runs:
            fakes = [read_image(folder / "stained" / run / f"{record.name}.png") for record in patches]
            found = np.mean([membrane_ratio(balanced(fake, white)) for fake in fakes], 0)
            pairs = [ImagePair(real, fake, options.mpp) for real, fake in zip(reals, fakes, strict=True)]
            means = {name: float(np.mean([score(pair) for pair in pairs])) for name, score in scores.items()}
            rows.append({"kind": "levels", "name": run, "far": float(np.abs(found - ratio).mean()), **means})
        result.append({"level": world.patient.level, "candidates": rows})
    return result


def histogram(real: Image, fake: Image) -> float:
    """Distance of the whole images' DAB histograms (mean distance of quantiles), which no place enters."""
    return float(np.abs(np.sort(dab_map(real), axis=None) - np.sort(dab_map(fake), axis=None)).mean())


def candidates(
    own: Altered, real: Image, other: list[Image], near: Image, scores: dict[str, Score]
) -> Iterator[dict[str, Any]]:
    """Renders as virtual stains of a patient, how far each level is from the real one, and its values."""
    options, index, truth = own.options, own.patient.index, own.shares()

    def row(kind: str, name: str, fake: Image, far: float) -> dict[str, Any]:
        pair = ImagePair(real, fake, MPP)
        return {"kind": kind, "name": name, "far": far, **{metric: score(pair) for metric, score in scores.items()}}

    def class_steps(tissue: Altered) -> float:
        return float(np.abs(np.cumsum(tissue.shares() - truth)).sum())

    for number, image in enumerate(other):
        far = class_steps(Altered(options, index, level=number, like=own))
        looks = {
            "": image, ", blurred": shrunk(image), ", shifted": np.roll(image, (9, -8), (0, 1)),
            ", noise": noisy(image, 8), ", pale nuclei": restained(image, 1, 0.6),
            ", dark nuclei": restained(image, 1, 1.5),
        }  # fmt: skip
        for look, fake in looks.items():
            yield row("render", f"level {LEVELS[number]}{look}", fake, far)
    yield row("render", "neighbouring section", near, 0.0)
    for share in (0.2, 0.5):
        tissue = Altered(options, index, wrong=share, anyhow=True, like=own)
        yield row("render", f"{share:.0%} wrong", inner(render(tissue, 8), MPP), class_steps(tissue))
    # No cell, no level: further away than any level.
    yield row("constant", "constant", constant(real), 3.0)


def balanced(image: Image, white: tuple[float, float, float]) -> Image:
    """With the glass at 255, as the membrane ratio takes it to be."""
    return np.clip(np.rint(image * (255 / np.asarray(white))), 0, 255).astype(np.uint8)


def judge_real(data: Path, error: Score) -> dict[str, Any]:
    """What can be done with real IHC (um/px taken as 0.46): no other level is known, so DAB halved stands for one."""
    mpp, result = 0.46, {}
    files = sorted([*(data / "her2-ihc").glob("*.png"), *(data / "bci-pairs" / "IHC" / "test").glob("*.png")])
    for file in files:
        whole = read_image(file)
        real = inner(whole, mpp)
        fakes = {
            "perfect": real, "DAB x 0.5": restained(real, 0.5), "DAB x 2": restained(real, 2.0),
            "shift 8 um": inner(whole, mpp, 8, 0), "JPEG 40": jpeg(real, 40), "constant colour": constant(real),
        }  # fmt: skip
        if (made := data / "bci-pairs" / "generated" / file.name).exists():
            fakes["generated"] = inner(read_image(made), mpp)
        values = {name: error(ImagePair(real, fake, mpp)) for name, fake in fakes.items()}
        result[file.name] = {
            "values": values,
            "blurred": {name: error(ImagePair(real, shrunk(fake), mpp)) for name, fake in fakes.items()},
            "misaligned": [
                error(ImagePair(real, fake, mpp))
                for fake in (
                    fakes["shift 8 um"], inner(whole, mpp, 0, -8), inner(whole, mpp, 5.6, 5.6),
                    inner(bend(whole, mpp, 8, 150, 1), mpp), inner(bend(whole, mpp, 8, 80, 2), mpp),
                )
            ],
            "strength": {f"{f:g}": error(ImagePair(real, restained(real, f), mpp)) for f in FACTORS},
            "moved": error(ImagePair(real, restained(real, roll=round(50 / mpp)), mpp)),
            "histogram": {
                "moved": histogram(real, restained(real, roll=round(50 / mpp))),
                "DAB x 0.5": histogram(real, fakes["DAB x 0.5"]),
            },
        }  # fmt: skip
    return result


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
