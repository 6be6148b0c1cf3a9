"""``restain demo``: from synthetic patients to a stained, judged whole slide, in one command.

Every step is what a user would run on real slides; only the cohort is synthetic and small.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from jsonargparse import ArgumentParser
from numpy.typing import NDArray

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
from restain.report import Facts, Note, PictureRow, PictureTable, Section, Table, Text, evaluation_sections, photo, write_report
from restain.slides import open_slide, write_image
from restain.stains import dab
from restain.synthetic import GENERATOR_VERSION, SynthOptions, generate_cohort
from restain.training.run import train

RECIPE = "pyramid_pix2pix_demo"
PATIENTS, SIZE, MPP = 24, 1280, 0.5
LEVELS = (1, 1, 2, 4)
"""Mostly strongly stained patients of one laboratory: few patients and few minutes must do."""
PATCH = 256
PICTURE = 480
"""Side of the pictures in the report, px."""


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


def demo(out: Path = Path("demo"), seed: int = 0, workers: int = 2, json: bool = False) -> int:
    """Run the whole chain on a small synthetic cohort: patients, pairs, training, whole slides, judgement.

    Takes about eight minutes on two cores; called again on the same folder it goes on where it stopped.

    Args:
        out: folder of everything that is made.
        seed: of patients, split and training.
        workers: processes that make patients.
        json: print summary.json.
    """
    watch = Stopwatch()
    options = SynthOptions(
        size=SIZE, mpp=MPP, seed=seed, same_section=True, no_deformation=True, levels=LEVELS, labs=1,
        folds=0, pen=0, bubbles=0, out_of_focus=0,
    )  # fmt: skip
    watch("Synthetic patients", lambda: generate_cohort(out / "cohort", PATIENTS, options, workers=workers))
    cohort = read_cohort(out / "cohort" / "cohort.csv")
    cutting = PairsConfig(MPP, PATCH, fractions={"train": 20 / 24, "test": 4 / 24}, seed=seed)
    watch("Patch pairs", lambda: build_pairs(cohort, out / "pairs", cutting))
    run: RunFolder = watch("Training", lambda: train_demo(out / "pairs", out / "run", seed))

    tested = [row for row in read_csv(out / "pairs" / "pairs.csv") if row["split"] == "test" and row["kept"] == "1"]
    held_out = [row for row in cohort if row.patient in {patch["patient"] for patch in tested}]
    slides = [Input(row.he, row.he_mpp) for row in held_out]
    watch("Whole slides", lambda: stain(run, slides, out / "virtual", StainOptions()))
    virtual = {row.patient: out / "virtual" / f"{item.name}.ome.tif" for row, item in zip(held_out, slides, strict=True)}
    cut_virtual(tested, virtual, out / "virtual_patches")
    summary: Summary = watch(
        "Judgement", lambda: evaluate(out / "pairs", {"restain": out / "virtual_patches"}, out / "evaluation")
    )

    patients = [
        Patient(row.patient, str(row.level), row.he, Path(str(row.ihc)), virtual[row.patient], out / "cohort" / "truth" / row.patient)
        for row in held_out
    ]
    document = {
        "synthetic": True,
        "generator": GENERATOR_VERSION,
        "seed": seed,
        "patients": PATIENTS,
        "held_out": {patient.name: patient.level for patient in patients},
        "seconds": watch.seconds,
        "membranes": {patient.name: patient.membranes() for patient in patients},
        "dab_error": {
            "virtual": summary.tables["restain"].overall["dab_od_error"].mean,
            "best_constant": summary.reference.overall["dab_od_error"].mean,
        },
        "beats_best_constant": summary.beats_constant("restain"),
        "evaluation": summary.document(),
        "versions": versions(),
    }
    write_json(out / "summary.json", document)
    write_report(
        out / "report.html",
        "restain demo: from an H&E slide to virtual HER2 IHC",
        [*demo_sections(document, patients), *evaluation_sections(summary)],
        "All patients in this report are synthetic.",
    )
    if json:
        print_json(document)
    console.print(f"Report: {(out / 'report.html').resolve()}", markup=False, soft_wrap=True)
    return summary.exit_code


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


@dataclass(frozen=True)
class Patient:
    """A held-out patient: name, level by the truth, and files."""

    name: str
    level: str
    he: Path
    ihc: Path
    virtual: Path
    truth: Path

    def stained(self) -> NDArray[np.uint8]:
        """Which membranes the truth says are stained: class 0 to 3 of each pixel, uint8 [H, W]."""
        with open_slide(self.truth / "membrane.ome.tif") as mask:
            return mask.read(0, 0, *mask.size)[..., 0]

    def membranes(self) -> dict[str, float | None]:
        """Mean DAB (HED units) of the virtual and the real slide on complete membranes (class 2 and 3) and elsewhere."""
        on = self.stained() >= 2
        found: dict[str, float | None] = {"share_of_pixels": float(on.mean())}
        for name, path in (("virtual", self.virtual), ("real", self.ihc)):
            with open_slide(path) as slide:
                brown = dab(slide.read(0, 0, *slide.size))
            found[f"{name}_on"] = float(brown[on].mean()) if on.any() else None
            found[f"{name}_off"] = float(brown[~on].mean())
        return found

    def overview(self) -> PictureRow:
        """The whole slides."""
        pictures = []
        for title, path in self._columns():
            with open_slide(path) as slide:
                pictures.append(photo(slide.thumbnail(PICTURE), f"{title} of synthetic patient {self.name}, whole slide"))
        return PictureRow(f"{self.name} (HER2 {self.level})", "whole slide", pictures)

    def detail(self) -> PictureRow:
        """Where the truth has most stained membranes."""
        density = cv2.boxFilter((self.stained() > 0).astype(np.float32), -1, (PATCH, PATCH))
        half = PATCH // 2
        row, column = np.unravel_index(np.argmax(density[half:-half, half:-half]), density[half:-half, half:-half].shape)
        pictures = []
        for title, path in self._columns():
            with open_slide(path) as slide:
                field_of_view = slide.read(float(column), float(row), PATCH, PATCH)
            enlarged = cv2.resize(field_of_view, (PICTURE, PICTURE), interpolation=cv2.INTER_CUBIC)
            pictures.append(photo(enlarged, f"{title} of synthetic patient {self.name}, detail"))
        where = f"{PATCH * MPP:.0f} um wide, at x {int(column)}, y {int(row)} px"
        return PictureRow(f"{self.name} (HER2 {self.level})", where, pictures)

    def _columns(self) -> list[tuple[str, Path]]:
        return [("H&E", self.he), ("virtual IHC", self.virtual), ("real IHC", self.ihc)]


def demo_sections(document: dict[str, Any], patients: Sequence[Patient]) -> list[Section]:
    """The demo's own part of its report."""
    own, constant = document["dab_error"]["virtual"], document["dab_error"]["best_constant"]
    verdict = "lower" if document["beats_best_constant"] else "not lower"
    columns = ["H&E", "virtual IHC", "real IHC"]
    rows = [
        [name, document["held_out"][name], *("" if found[key] is None else f"{found[key]:.4f}" for key in MEMBRANE_COLUMNS)]
        for name, found in document["membranes"].items()
    ]
    return [
        Section(
            "What happened",
            [
                Text(
                    f"restain made {document['patients']} synthetic breast-cancer patients, cut patch pairs from the slides of "
                    f"{document['patients'] - len(patients)}, trained a small pyramid pix2pix on them, stained the whole H&E "
                    f"slides of the other {len(patients)}, which it had never seen, and compared the result with their real "
                    "IHC. On real slides the same commands are restain train, restain stain and restain evaluate."
                ),
                Note(
                    "These patients are synthetic, H&E and IHC show the same section, and the network is far smaller than the "
                    "published one. The numbers say that the chain works, not how well a method does on patients."
                ),
                Text(
                    f"The DAB error of the virtual slides is {own:.5f} HED units, {verdict} than that of the best image of one "
                    f"colour ({constant:.5f})."
                ),
                Table(["Step", "seconds"], [[step, f"{seconds:.0f}"] for step, seconds in document["seconds"].items()]),
                Facts({"seed": str(document["seed"]), "generator of patients": document["generator"], "recipe": RECIPE}),
            ],
        ),
        Section("Whole slides", [PictureTable(columns, [patient.overview() for patient in patients], "Held-out patients.")]),
        Section(
            "Where membranes are stained",
            [
                PictureTable(columns, [patient.detail() for patient in patients], "The field with most stained membranes."),
                Table(
                    ["Patient", "level", "virtual\non membranes", "virtual\nelsewhere", "real\non membranes", "real\nelsewhere"],
                    rows,
                    "Mean DAB (HED units) on the membranes that the truth says are completely stained, and elsewhere.",
                    labels=2,
                ),
            ],
        ),
    ]


MEMBRANE_COLUMNS = ("virtual_on", "virtual_off", "real_on", "real_off")


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(demo, "restain demo", argv)
