"""The level must not be readable from the colours of the H&E, and only partly from the size of its nuclei.

The measures are those of ``benchmarks/synthetic_leak.py``, which does the same on more patients with intervals. A
weighted AUC that is .50 in truth scatters by about .05 over cohorts of 60 patients; the seed is fixed, so the numbers
here change only when the generator does. What decides a slide's look before any tissue is drawn costs nothing, so there
2000 patients (scatter .01) tell far smaller leaks.
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
MANY = 2000
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
def cohort() -> dict[str, np.ndarray]:
    rows = [leak.measure(OPTIONS, index) for index in range(PATIENTS)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def many() -> list[Patient]:
    return [draw_patient(OPTIONS, index) for index in range(MANY)]


def _auc(features: np.ndarray, levels: np.ndarray, classifier: object) -> float:
    return leak.weighted_auc(levels, leak.out_of_fold(features, levels, classifier))


@pytest.mark.parametrize("pixels", ["colour", "tissue colour"])
@pytest.mark.parametrize("classifier", ["logistic_regression", "random_forest"])
def test_colour_statistics_do_not_tell_the_level(cohort, pixels, classifier):
    auc = _auc(cohort[pixels], cohort["level"][:, 0], getattr(leak, classifier)())
    print(f"weighted AUC of the level from {pixels} by {classifier}: {auc:.3f} ({PATIENTS} patients)")
    assert auc <= COLOUR_AT_MOST


def test_the_same_test_sees_a_leak_where_there_is_one(cohort):
    levels = cohort["level"][:, 0]
    tinted = cohort["colour"].copy()
    spread = tinted[:, 0].std()
    tinted[:, 0] += 2.0 * spread * (levels - levels.mean())
    assert _auc(tinted, levels, leak.logistic_regression()) > 0.7


def test_mean_nuclear_area_tells_the_level_partly(cohort):
    auc = _auc(cohort["nuclear area"], cohort["level"][:, 0], leak.logistic_regression())
    print(f"weighted AUC of the level from mean nuclear area: {auc:.3f} ({PATIENTS} patients)")
    assert 0.60 < auc <= AREA_AT_MOST


def test_morphology_together_tells_more_than_colour(cohort):
    levels = cohort["level"][:, 0]
    together = _auc(cohort["morphology"], levels, leak.logistic_regression())
    print(f"weighted AUC of the level from all morphology: {together:.3f} ({PATIENTS} patients)")
    assert 0.75 < together < 0.95
    assert together > _auc(cohort["colour"], levels, leak.logistic_regression()) + 0.15


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
        assert auc < 0.54
