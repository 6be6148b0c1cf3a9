"""``restain demo``: from synthetic patients to stained, judged whole slides and their HER2 status, in one command.

Every step is what a user would run on real slides; only the cohort is synthetic and small.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentParser

from restain.cli.demo_report import Patient, demo_sections
from restain.cli.demo_status import Status, choose_tested, predict_status, require_all, status_document, status_section
from restain.cli.output import print_json
from restain.cli.parsing import CONFIGS, call, parser_for
from restain.cli.train import command as train_command
from restain.core.files import read_csv, write_json
from restain.core.progress import console
from restain.core.runs import RunFolder, versions
from restain.data import PairsConfig, build_pairs, read_cohort
from restain.evaluate import Summary, evaluate
from restain.infer.apply import StainOptions, stain
from restain.infer.inputs import Input
from restain.registration import RegisterOptions, Registration, Transform
from restain.report import evaluation_sections, write_report
from restain.slides import open_slide, write_image
from restain.synthetic import GENERATOR_VERSION, Deformation, SynthOptions, generate_cohort
from restain.training.run import train

RECIPE = "pyramid_pix2pix_demo"
PATIENTS, SIZE, MPP = 60, 1280, 0.5
LEVELS = (1, 1, 1, 2)
"""Of one laboratory; a step of the cohort has so many of each level."""
STAINED = "3+"
"""The stainer learns from these alone: for one to stain levels apart takes more minutes than a demo has."""
PATCH = 256


@dataclass
class Stopwatch:
    """Seconds by step; what an earlier call finished takes none."""

    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, step: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` under the name ``step``."""
        console.print(f"[bold]{step}[/bold]")
        start = time.perf_counter()
        result = work()
        self.seconds[step] = round(time.perf_counter() - start, 1)
        return result


def demo(out: Path = Path("demo"), seed: int = 7, workers: int = 2, json: bool = False) -> int:
    """Run the whole chain on a small synthetic cohort: patients, pairs, training, whole slides, judgement, HER2 status.

    Takes about fifteen minutes on two cores; called again on the same folder it goes on where it stopped.

    Args:
        out: folder of everything that is made.
        seed: of patients, split and training.
        workers: processes that make patients.
        json: print summary.json.
    """
    watch = Stopwatch()
    options = SynthOptions(
        size=SIZE, mpp=MPP, seed=seed, same_section=True, rotation=12, mirrored=0.25, shift=20, levels=LEVELS, labs=1,
        folds=0, pen=0, bubbles=0, out_of_focus=0,
    )  # fmt: skip
    made = watch("Synthetic patients", lambda: generate_cohort(out / "cohort", PATIENTS, options, workers=workers))
    require_all(made.failures)
    everyone = read_cohort(out / "cohort" / "cohort.csv")
    cohort = [row for row in everyone if row.level == STAINED]
    cutting = PairsConfig(
        MPP, PATCH, fractions={"train": 20 / 24, "test": 4 / 24}, seed=seed,
        registration=RegisterOptions(blocks=2),
    )  # fmt: skip
    built = watch("Registration and patch pairs", lambda: build_pairs(cohort, out / "pairs", cutting))
    require_all(built.failures)
    run: RunFolder = watch("Training", lambda: train_demo(out / "pairs", out / "run", seed))

    patches = [row for row in read_csv(out / "pairs" / "pairs.csv") if row["split"] == "test" and row["kept"] == "1"]
    held_out = [row for row in cohort if row.patient in {patch["patient"] for patch in patches}]
    registered = {row.patient: Registration.load(out / "pairs" / "registered" / row.name) for row in cohort}
    slides = [Input(registered[row.patient].he_registered, title=row.patient) for row in held_out]
    stained = watch("Whole slides", lambda: stain(run, slides, out / "virtual", StainOptions()))
    require_all(stained.failures)
    virtual = {
        row.patient: out / "virtual" / f"{item.name}.ome.tif" for row, item in zip(held_out, slides, strict=True)
    }
    cut_virtual(patches, virtual, out / "virtual_patches")
    summary: Summary = watch(
        "Judgement",
        lambda: evaluate(out / "pairs", {"restain": out / "virtual_patches"}, out / "evaluation", test_time_views=1),
    )

    patients = [
        Patient(
            row.patient,
            str(row.level),
            registered[row.patient].he_registered,
            Path(str(row.ihc)),
            virtual[row.patient],
            out / "cohort" / "truth" / row.patient,
        )
        for row in held_out
    ]
    tested = choose_tested(everyone, list(virtual))
    statuses: list[Status] = watch(
        "HER2 status", lambda: predict_status(everyone, tested, virtual, out / "status", seed)
    )
    document = {
        "synthetic": True,
        "generator": GENERATOR_VERSION,
        "seed": seed,
        "recipe": RECIPE,
        "patients": len(cohort),
        "held_out": {patient.name: patient.level for patient in patients},
        "seconds": watch.seconds,
        "pairs": {"kept": built.splits, "dropped": built.reasons},
        "registration_error_um": registration_errors(registered, out / "cohort" / "truth"),
        "membranes": {patient.name: patient.membranes() for patient in patients},
        "dab_error": {
            "virtual": summary.tables["restain"].overall["dab_od_error"].mean,
            "best_constant": summary.reference.overall["dab_od_error"].mean,
        },
        "beats_best_constant": summary.beats_constant("restain"),
        "evaluation": summary.document(),
        "status": status_document(statuses, PATIENTS - len(tested)),
        "versions": versions(),
    }
    write_json(out / "summary.json", document)
    write_report(
        out / "report.html",
        "restain demo: from an H&E slide to virtual HER2 IHC",
        [*demo_sections(document, patients), *evaluation_sections(summary), status_section(document, statuses)],
        "All patients in this report are synthetic.",
    )
    if json:
        print_json(document)
    console.print(f"Slides, cells and attention in a browser: restain serve {shlex.quote(str(out))}", markup=False)
    console.print(f"Report: {(out / 'report.html').resolve()}", markup=False, soft_wrap=True)
    return summary.exit_code


def registration_errors(registered: Mapping[str, Registration], truth: Path) -> dict[str, float]:
    """Median distance in um between where nuclei were registered to and where they truly are, by patient."""
    errors = {}
    for patient, found in registered.items():
        rows = read_csv(truth / patient / "landmarks.csv")
        ihc = np.array([[float(row["x_ihc"]), float(row["y_ihc"])] for row in rows])
        transform = Transform.load(found.transform)
        wrong = transform.ihc_to_he(ihc) - Deformation.load(truth / patient / "deformation.npz").ihc_to_he(ihc)
        errors[patient] = float(np.median(np.hypot(*wrong.T))) * transform.he_mpp
    return errors


def train_demo(data: Path, out: Path, seed: int) -> RunFolder:
    """Train the demo's recipe on ``data``."""
    recipe = CONFIGS / f"{RECIPE}.yaml"
    method = yaml.safe_load(recipe.read_text(encoding="utf-8"))["method"]
    parser: ArgumentParser = parser_for(train_command(method), "restain train", recipe=RECIPE)
    words = ["--data", str(data), "--out", str(out), "--training.seed", str(seed)]
    settings = parser.instantiate(parser.parse_args(words))
    return train(method, settings.stainer, data, out, settings.batches, settings.training)


def cut_virtual(patches: Sequence[dict[str, str]], virtual: dict[str, Path], out: Path) -> None:
    """Cut from the virtual slides what lies where the test patches lie."""
    for patient, path in virtual.items():
        with open_slide(path) as slide:
            for row in patches:
                if row["patient"] == patient:
                    place = float(row["x"]), float(row["y"])
                    write_image(out / f"{row['name']}.png", slide.read(*place, PATCH, PATCH, float(row["mpp"])))


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(demo, "restain demo", argv)
