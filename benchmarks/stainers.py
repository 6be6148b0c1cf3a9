"""Does every paired method learn, and do TDKstain's two branches help? Small networks on exact synthetic pairs.

    python benchmarks/stainers.py OUT [--only RECIPE ...] [--workers 2]

Draws 32 synthetic patients (2+ and 3+) whose H&E and IHC are one and the same section, 24 to train on, 8 held out, all
from one laboratory whose glass is nearly white (TDKstain's threshold presumes white glass: on a grey one nearly all is
"membrane"). Cuts pairs, makes knowledge maps and trains each paired method by its shipped ``*_small`` recipe at a fixed
number of epochs (at most 4 minutes each on two cores, under 60 in all), seed 0; ``tdkstain_small`` and the same without
both branches (``nuclei_weight`` and ``membrane_weight`` 0) with three seeds. Then prints, on the held-out patients:

- of each method its DAB error beside that of the best constant-colour image (protocol bci), which must be at least
  10 % larger;
- of TDKstain with and without its branches the error in the number of nuclei (found by the default detector) and in the
  membrane ratio (mean over the paper's 21 thresholds), and their difference with a 95 % bootstrap interval over
  patients and seeds (three seeds are few: it is rather too narrow).

Everything is kept in OUT: called again, it goes on where it stopped. Synthetic patients, thin networks, minutes of
training: the numbers say that methods work here, not how they rank in the papers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from intervals import interval
from restain.cli.parsing import CONFIGS, parser_for
from restain.cli.train import command
from restain.core.runs import RunFolder
from restain.data import PairsConfig, build_pairs, make_knowledge, read_cohort, read_dataset
from restain.evaluate.run import evaluate
from restain.infer.network import Network, load_stainer
from restain.infer.patches import stain_image
from restain.nn.devices import Accelerator
from restain.slides import read_image, write_image
from restain.stains import ClassicalNuclei, membrane_ratio
from restain.synthetic import SynthOptions, generate_cohort
from restain.training.run import train
from restain.training.schedules import Convention

MPP, PATCH, PATIENTS, HELD_OUT = 0.5, 256, 32, 8
SEEDS = (0, 1, 2)
EPOCHS = {
    "pix2pix_small": 16,
    "pyramid_pix2pix_small": 15,
    "pix2pixhd_small": 11,
    "lifangda_small": 4,
    "asp_small": 4,
    "tdkstain_small": 4,
}
"""Of each recipe, a quarter of them with a decaying rate."""
WITHOUT = {"nuclei_weight": 0.0, "membrane_weight": 0.0}


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: of its folder.
        recipe: the shipped recipe.
        seed: of the training.
        changes: settings of the method that differ from the recipe's.
    """

    name: str
    recipe: str
    seed: int
    changes: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="trainings by name, such as asp_small or tdkstain_small-1")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    data = prepare(arguments.out, arguments.workers)
    trials = [Trial(recipe, recipe, 0, {}) for recipe in EPOCHS if recipe != "tdkstain_small"]
    for seed in SEEDS:
        trials.append(Trial(f"tdkstain_small-{seed}", "tdkstain_small", seed, {}))
        trials.append(Trial(f"tdkstain_without_both-{seed}", "tdkstain_small", seed, WITHOUT))
    chosen = [trial for trial in trials if not arguments.only or trial.name in arguments.only]
    for trial in chosen:
        run_trial(trial, data, arguments.out)
    compare_methods(chosen, data, arguments.out)
    if all(trial in chosen for trial in trials):
        compare_branches(data, arguments.out)


def prepare(out: Path, workers: int) -> Path:
    """The dataset with its knowledge maps."""
    options = SynthOptions(
        size=1280, mpp=MPP, seed=6, same_section=True, no_deformation=True, levels=(0, 0, 1, 3), labs=1, folds=0,
        pen=0, bubbles=0, out_of_focus=0,
    )  # fmt: skip
    generate_cohort(out / "cohort", PATIENTS, options, workers=workers)
    share = HELD_OUT / PATIENTS
    cutting = PairsConfig(MPP, PATCH, aligned=True, fractions={"train": 1 - share, "test": share}, seed=6)
    build_pairs(read_cohort(out / "cohort" / "cohort.csv"), out / "pairs", cutting)
    make_knowledge(out / "pairs")
    return out / "pairs"


def run_trial(trial: Trial, data: Path, out: Path) -> None:
    """Train and stain the held-out patches, unless that was done before."""
    run = RunFolder(out / "runs" / trial.name)
    method = yaml.safe_load((CONFIGS / f"{trial.recipe}.yaml").read_text(encoding="utf-8"))["method"]
    settings: Any = parser_for(command(method), "train", recipe=trial.recipe)
    settings = settings.instantiate(settings.parse_args(["--data", str(data), "--out", str(run.path)]))
    decay = EPOCHS[trial.recipe] // 4
    training = replace(
        settings.training, epochs=EPOCHS[trial.recipe] - decay, epochs_decay=decay, seed=trial.seed, ema=0.99,
        sample_every=1, accelerator=Accelerator.cpu, convention=Convention.end,
    )  # fmt: skip
    begin, before = time.perf_counter(), 0.0
    done = (run.path / "run.json").exists() and run.info["status"] == "done"
    if (run.path / "run.json").exists():
        before = run.info.get("minutes", 0.0)
    train(method, replace(settings.stainer, **trial.changes), data, run.path, settings.batches, training)
    records = read_dataset(data).split("test")
    stained = [(record, out / "stained" / trial.name / f"{record.name}.png") for record in records]
    if done and all(file.exists() for _, file in stained):
        return
    if not done:
        run.set_status(minutes=round(before + (time.perf_counter() - begin) / 60, 2))
    network = Network(load_stainer(run))
    for record, file in stained:
        write_image(file, stain_image(network, record.read()[0]))


def compare_methods(trials: Sequence[Trial], data: Path, out: Path) -> None:
    """Print the DAB error of each method beside that of the best constant image."""
    folders = {trial.name: out / "stained" / trial.name for trial in trials}
    summary = evaluate(data, folders, out / "evaluation")
    constant = summary.reference.overall["dab_od_error"].mean
    assert constant is not None
    print(f"\nDAB error on {summary.units} held-out synthetic patients ({summary.protocol.name}); best constant image:")
    print(f"  {constant:.4f}\n{'training':<28} {'minutes':>7}  {'DAB error':>9} [95 % interval]    below constant")
    for name, table in summary.tables.items():
        error = table.overall["dab_od_error"]
        assert error.mean is not None
        minutes = RunFolder(out / "runs" / name).info.get("minutes", float("nan"))
        below = 100 * (1 - error.mean / constant)
        verdict = "" if below >= 10 else "  BELOW THE BAR OF 10 %"
        bounds = f"[{error.low:.4f}, {error.high:.4f}]"
        print(f"{name:<28} {minutes:>7}  {error.mean:>9.4f} {bounds}  {below:5.1f} %{verdict}")


def compare_branches(data: Path, out: Path) -> None:
    """Print the errors of TDKstain with and without its two branches, and their difference."""
    records = read_dataset(data).split("test")
    patients = np.array([record.patient for record in records])
    groups = [patients == patient for patient in sorted(set(patients))]
    truth = described([record.ihc for record in records])
    errors = {}
    for name in ("tdkstain_small", "tdkstain_without_both"):
        by_seed = []
        for seed in SEEDS:
            folder = out / "stained" / f"{name}-{seed}"
            found = described([folder / f"{record.name}.png" for record in records])
            wrong = np.abs(found - truth)
            patch = np.stack([wrong[:, 0], wrong[:, 1:].mean(1)], 1)
            by_seed.append([patch[group].mean(0) for group in groups])
        errors[name] = np.array(by_seed)  # [seeds, patients, 2]
    print(f"\nTDKstain against itself without both branches, {len(SEEDS)} seeds, {len(groups)} held-out patients:")
    print(f"real IHC: {truth[:, 0].mean():.1f} nuclei a patch, membrane ratio {truth[:, 1:].mean():.3f}")
    for column, what in enumerate(("nuclei count error", "membrane ratio error")):
        ours, theirs = (errors[name][..., column] for name in ("tdkstain_small", "tdkstain_without_both"))
        low, high = interval(ours - theirs)
        seeds = ", ".join(f"{value:+.4f}" for value in (ours - theirs).mean(1))
        print(f"{what:<22} with {ours.mean():.4f}  without {theirs.mean():.4f}")
        print(f"{'':<22} difference {(ours - theirs).mean():+.4f} [{low:+.4f}, {high:+.4f}]; by seed {seeds}")


def described(files: Sequence[Path]) -> NDArray[np.float64]:
    """Of each image its number of nuclei and its membrane ratio at each threshold, float64 [images, 22]."""
    detect = ClassicalNuclei()
    images = [read_image(file) for file in files]
    return np.array([[len(detect(image, MPP)), *membrane_ratio(image).tolist()] for image in images])


if __name__ == "__main__":
    main()
