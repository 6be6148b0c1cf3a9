"""The level must not be readable from the colours of the H&E, and only partly from the size of its nuclei.

The measures are those of ``benchmarks/synthetic_leak.py``, which does the same on more patients with intervals. Where
nothing leaks, the cross-validated AUC of 60 patients scatters by .06 around .48 (simulated: one in forty would
exceed .60 by chance); the seed is fixed, so the numbers here change only when the generator does. What decides a
slide's look before any tissue is drawn costs nothing, so there 1000 patients (scatter .015) tell far smaller leaks.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from restain.synthetic import SynthOptions
from restain.synthetic.optics import draw_look
from restain.synthetic.patient import Patient, draw_patient

PATIENTS = 60
OPTIONS = SynthOptions(size=384, mpp=1.0, seed=2024, same_section=True, no_deformation=True)
MANY = 1000
COLOUR_AT_MOST = 0.60
AREA_AT_MOST = 0.80


def _benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "synthetic_leak.py"
    spec = importlib.util.spec_from_file_location("synthetic_leak", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic_leak"] = module
    spec.loader.exec_module(module)
    return module


leak = _benchmark()


@pytest.fixture(scope="module")
def many() -> list[Patient]:
    return [draw_patient(OPTIONS, index) for index in range(MANY)]


def _auc(features: np.ndarray, levels: np.ndarray, classifier: object) -> float:
    return leak.weighted_auc(levels, leak.out_of_fold(features, levels, classifier))


def test_what_tells_the_level_on_slides():
    """One test, so that tests run in parallel do not each make the cohort."""
    rows = [leak.measure(OPTIONS, index) for index in range(PATIENTS)]
    cohort = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    levels = cohort["level"][:, 0]
    regression, forest = leak.logistic_regression(), leak.random_forest()
    colour = {
        f"{name} by {kind}": _auc(cohort[name], levels, classifier)
        for name in ("colour", "tissue colour")
        for kind, classifier in (("logistic regression", regression), ("random forest", forest))
    }
    area = _auc(cohort["nuclear area"], levels, regression)
    morphology = _auc(cohort["morphology"], levels, regression)
    # The same procedure finds a leak that is there: slides that are redder the higher the level.
    tinted = cohort["colour"].copy()
    red = slice(0, len(leak.STATISTICS))
    tinted[:, red] += 1.5 * tinted[:, red].std(axis=0) * (levels - levels.mean())[:, None]
    planted = _auc(tinted, levels, regression)
    found = {**colour, "mean nuclear area": area, "all morphology": morphology, "a planted tint": planted}
    listed = ", ".join(f"{name} {auc:.3f}" for name, auc in found.items())
    print(f"weighted AUC of the level, {PATIENTS} patients: {listed}")
    assert max(colour.values()) <= COLOUR_AT_MOST, listed
    assert 0.60 < area <= AREA_AT_MOST, listed
    assert 0.75 < morphology < 0.95, listed
    assert morphology > max(colour.values()) + 0.15, listed
    assert planted > 0.70, listed


def test_nuclear_radius_alone_in_many_patients(many):
    levels = np.array([float(patient.level) for patient in many])
    radius = np.array([[patient.nuclear_radius] for patient in many])
    auc = _auc(radius**2, levels, leak.logistic_regression())
    assert 0.65 < auc < 0.78


def test_staining_and_scanner_are_independent_of_the_level(many):
    levels = np.array([float(patient.level) for patient in many])
    for stain in ("he", "ihc"):
        rows = []
        for patient in many:
            look = draw_look(OPTIONS, patient, stain)
            scanner, staining = look.scanner, look.staining
            numbers = (scanner.floor, scanner.gamma, scanner.blur, scanner.noise, scanner.fringe, scanner.sharpening)
            rows.append([*scanner.white, *numbers, *staining.vectors.ravel(), *staining.strength, staining.background])
        auc = _auc(np.asarray(rows), levels, leak.logistic_regression())
        print(f"weighted AUC of the level from the look of {stain}: {auc:.3f} ({MANY} patients)")
        assert auc < 0.55
