"""The demo's last step: the HER2 status of held-out patients from their H&E, by a model that learned with IHC."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError
from restain.core.files import write_csv
from restain.core.workers import cpu_threads
from restain.data.cohort_table import CohortRow
from restain.her2.encoders import Stain, make_encoder
from restain.her2.extract import extract, slides_of
from restain.her2.labels import HER2
from restain.her2.predict import load_predictor, predict
from restain.her2.recipes import load_recipe
from restain.her2.run import score_images
from restain.her2.slide_set import read_slide_set
from restain.her2.train_run import random_split, train_status
from restain.report import Note, PictureRow, PictureTable, Section, Table, Text, photo
from restain.slides import read_image

RECIPE = "ipca_small"
SETTINGS = {"training.batch": 4, "training.epochs": 40, "training.min_epochs": 15, "training.patience": 15}
TESTED = 4
"""Patients of each level that the model never sees."""
PICTURE = 420
"""Width of an attention map in the report, px."""


@dataclass(frozen=True)
class Status:
    """What was found of a held-out patient.

    Attributes:
        patient: name.
        level: by the truth.
        predicted: from the H&E alone.
        probabilities: by level.
        real: `her2 score` of the real IHC; None where it has no score.
        virtual: that of the virtual IHC, "" where none was made, None where it has no score.
        attention: picture of what the model looked at.
    """

    patient: str
    level: str
    predicted: str
    probabilities: Mapping[str, float]
    real: str | None
    virtual: str | None
    attention: Path


def require_all(failures: Mapping[str, str]) -> None:
    """Stop where a step could not be finished: the next ones would judge something else.

    Raises:
        ItemError: something failed; each with its reason.
    """
    if failures:
        raise ItemError("\n".join(f"{name}: {reason}" for name, reason in failures.items()))


def choose_tested(cohort: Sequence[CohortRow], stained: Sequence[str]) -> list[str]:
    """``TESTED`` patients of each level: those whose slides were stained, and the last ones of the other levels."""
    by_level: dict[str, list[str]] = defaultdict(list)
    for row in cohort:
        by_level[str(row.level)].append(row.patient)
    first = {level: [name for name in names if name in stained] for level, names in by_level.items()}
    return [name for level in sorted(by_level) for name in (first[level] or by_level[level][-TESTED:])]


def predict_status(
    cohort: Sequence[CohortRow], tested: Sequence[str], virtual: Mapping[str, Path], out: Path, seed: int
) -> list[Status]:
    """Features, training and prediction; the held-out patients' IHC is scored beside it and used for nothing else.

    Args:
        cohort: all patients.
        tested: names of those to predict.
        virtual: virtual IHC by patient, of some of these.
        out: folder of everything that is made.
        seed: of the training.
    """
    table = out / "cohort.csv"
    columns = ("patient", "he", "ihc", "her2", "split")
    rows = {row.patient: row for row in cohort}
    write_csv(
        table,
        columns,
        [
            {
                "patient": row.patient,
                "he": row.he.resolve(),
                "ihc": "" if row.patient in tested or row.ihc is None else row.ihc.resolve(),
                "her2": row.level,
                "split": "test" if row.patient in tested else "train",
            }
            for row in cohort
        ],
    )
    folders = {stain: out / "features" / stain.value for stain in (Stain.he, Stain.ihc)}
    for stain, folder in folders.items():
        slides = slides_of([table], stain)
        require_all(extract(slides, folder, make_encoder("morphometry", stain), workers=cpu_threads()).failures)
    data = read_slide_set(table, folders[Stain.he], folders[Stain.ihc], HER2)
    recipe = load_recipe(RECIPE, {**SETTINGS, "training.seed": seed})
    paths = {"cohort": str(table), **{name.value: str(folder) for name, folder in folders.items()}}
    run = train_status(recipe, data, random_split(data, 0.2, seed), out / "run", paths)

    predictor = load_predictor(run.path)
    real = _scores([Path(str(rows[name].ihc)) for name in tested], out / "real_ihc")
    stained = _scores(list(virtual.values()), out / "virtual_ihc")
    found = []
    for name in tested:
        he = rows[name].he
        document = predict(predictor, data.patients[name].he[0], out / "predictions" / name, slide=he)
        found.append(
            Status(
                name,
                str(rows[name].level),
                document["status"],
                document["probabilities"],
                real.get(str(rows[name].ihc)),
                stained.get(str(virtual[name])) if name in virtual else "",
                out / "predictions" / name / "attention.png",
            )
        )
    return found


def _scores(images: Sequence[Path], out: Path) -> dict[str, str | None]:
    """HER2 score by image; None, or nothing, where it has none."""
    return {one["image"]: one["score"] for one in score_images(images, out).results.values()}


def status_document(found: Sequence[Status], learned_from: int) -> dict[str, Any]:
    """For ``summary.json``."""
    return {
        "recipe": RECIPE,
        "learned_from": learned_from,
        "tested": len(found),
        "right": sum(one.predicted == one.level for one in found),
        "real_ihc_right": sum(one.real == one.level for one in found),
        "patients": {
            one.patient: {
                "her2": one.level,
                "predicted": one.predicted,
                "probabilities": dict(one.probabilities),
                "real_ihc": one.real,
                "virtual_ihc": one.virtual or None,
            }
            for one in found
        },
    }


def status_section(document: Mapping[str, Any], found: Sequence[Status]) -> Section:
    """The held-out patients' table, and one attention map of each level."""
    own = document["status"]
    story = (
        f"A small IPCA network learned from the H&E and the IHC of {own['learned_from']} of the patients, and then saw "
        f"the H&E alone of the other {own['tested']}: it gives {own['right']} of them their level. Guessing would give "
        f"{own['tested'] / len(HER2):.0f}. restain her2 score reads the right level on the real IHC of "
        f"{own['real_ihc_right']}. On real slides the commands are restain her2 features, train (or crossval, which "
        "compares models), predict, and score."
    )
    caution = (
        "Synthetic patients, and far too few to learn from: HER2 shows in their H&E only in part, as it does in "
        "patients. Probabilities near 0.25 say that the network does not know. The virtual IHC is of a stainer that "
        "has seen 3+ patients only, so that its score says how well it stains, not what level a patient has. Research "
        "use only."
    )
    names = list(HER2.names)
    columns = ["Patient", "HER2", "predicted\nfrom H&E", "score of\nreal IHC", "score of\nvirtual IHC"]
    rows = [
        [
            one.patient,
            one.level,
            one.predicted,
            one.real or "no score",
            "not made" if one.virtual == "" else one.virtual or "no score",
            *(f"{one.probabilities[name]:.2f}" for name in names),
        ]
        for one in found
    ]
    table = Table(
        [*columns, *(f"p({name})" for name in names)],
        rows,
        "Held-out patients. p: probability of each level from the H&E.",
        labels=len(columns),
        strong=[number for number, one in enumerate(found) if one.predicted == one.level],
    )
    shown = list({one.level: one for one in found}.values())
    pictures = [photo(_fitted(one.attention), f"Attention over the H&E of patient {one.patient}") for one in shown]
    row = PictureRow("attention", "red: looked at most", pictures)
    maps = PictureTable([f"{one.patient} (HER2 {one.level})" for one in shown], [row], "What the network looked at.")
    return Section("HER2 status of the held-out patients", [Text(story), Note(caution), table, maps])


def _fitted(path: Path) -> NDArray[np.uint8]:
    """A picture, at most ``PICTURE`` px wide."""
    rgb = read_image(path)
    height = round(rgb.shape[0] * PICTURE / rgb.shape[1])
    return cv2.resize(rgb, (PICTURE, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
