"""Synthetic patients to register: turned by any angle, one of them mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from restain.core.files import read_csv
from restain.synthetic import Deformation, SynthOptions, generate_cohort


@dataclass(frozen=True)
class Patient:
    """A patient's slides, and where landmarks (IHC px) truly lie on the H&E (px)."""

    he: Path
    ihc: Path
    mpp: float
    marks: np.ndarray
    places: np.ndarray

    def error_um(self, transform) -> float:
        """Median distance from the truth."""
        return float(np.median(np.linalg.norm(transform.ihc_to_he(self.marks) - self.places, axis=1)) * self.mpp)


@pytest.fixture(scope="session")
def patients(tmp_path_factory) -> list[Patient]:
    """Two patients of 2 x 2 mm at 2 um/px."""
    out = tmp_path_factory.mktemp("cohort")
    options = SynthOptions(size=1000, mpp=2.0, seed=5, rotation=180, mirrored=0.5, pen=0, folds=0)
    generate_cohort(out, 2, options)
    found = []
    for row in read_csv(out / "cohort.csv"):
        truth = out / "truth" / row["patient"]
        marks = np.array([[float(r["x_ihc"]), float(r["y_ihc"])] for r in read_csv(truth / "landmarks.csv")])
        places = Deformation.load(truth / "deformation.npz").ihc_to_he(marks)
        found.append(Patient(out / row["he"], out / row["ihc"], 2.0, marks, places))
    return found
