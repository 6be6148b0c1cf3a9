from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from restain.core.errors import RestainError
from restain.core.files import read_csv
from restain.slides import open_slide
from restain.synthetic import (
    GENERATOR_VERSION,
    Deformation,
    SlideRenderer,
    SynthOptions,
    World,
    asco_cap_level,
    generate_cohort,
)
from restain.synthetic.cohort import patient_files
from restain.synthetic.patient import draw_level

SIZE = 700


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    assert not generate_cohort(out, 4, SynthOptions(size=SIZE, seed=11)).failures
    return out


def test_the_table_and_the_files(cohort: Path) -> None:
    rows = read_csv(cohort / "cohort.csv", ["patient", "he", "ihc", "mpp", "her2", "lab"])
    assert sorted(row["her2"] for row in rows) == ["0", "1+", "2+", "3+"]
    for row in rows:
        assert all(path.is_file() for path in patient_files(cohort, row["patient"]))
        for stain in ("he", "ihc"):
            with open_slide(cohort / row[stain]) as slide:
                assert slide.size == (SIZE, SIZE)
                assert slide.mpp == pytest.approx(0.5, abs=1e-6)
                assert slide.read(0, 0, SIZE, SIZE).std() > 5


def test_the_level_follows_from_the_counted_cells(cohort: Path) -> None:
    for row in read_csv(cohort / "cohort.csv"):
        truth = json.loads((cohort / "truth" / row["patient"] / "truth.json").read_text())
        cells = read_csv(cohort / "truth" / row["patient"] / "cells.csv")
        classes = [int(cell["membrane_class"]) for cell in cells if cell["x_ihc"] and cell["kind"] == "tumour"]
        shares = np.bincount(classes, minlength=4) / len(classes)
        assert asco_cap_level(list(shares)) == row["her2"] == truth["her2"]
        np.testing.assert_allclose([truth["membrane_percent"][str(i)] for i in range(4)], 100 * shares, atol=1e-3)
        assert truth["tumour_cells"] == len(classes) > 50
        assert truth["generator_version"] == GENERATOR_VERSION
        assert {cell["membrane_class"] for cell in cells if cell["kind"] != "tumour"} <= {""}


def test_cells_and_landmarks_agree_with_the_deformation(cohort: Path) -> None:
    folder = cohort / "truth" / read_csv(cohort / "cohort.csv")[1]["patient"]
    deformation = Deformation.load(folder / "deformation.npz")
    for name, least in (("cells.csv", 100), ("landmarks.csv", 15)):
        both = [row for row in read_csv(folder / name) if row["x_ihc"] and row["x_he"]]
        assert len(both) >= least
        ihc, he = (np.array([[float(row[f"{a}_{s}"]) for a in "xy"] for row in both]) for s in ("ihc", "he"))
        np.testing.assert_allclose(deformation.ihc_to_he(ihc), he, atol=0.01)
        assert np.abs(he - ihc).max() > 3  # it does move


def test_truth_maps_mark_what_the_cell_table_lists(cohort: Path) -> None:
    folder = cohort / "truth" / read_csv(cohort / "cohort.csv")[0]["patient"]
    with open_slide(folder / "nuclei.ome.tif") as slide:
        nuclei = slide.read(0, 0, SIZE, SIZE)[..., 0]
    cells = [row for row in read_csv(folder / "cells.csv") if row["x_ihc"] and float(row["area_ihc_um2"]) > 20]
    found = [nuclei[int(float(row["y_ihc"])), int(float(row["x_ihc"]))] > 0 for row in cells]
    assert np.mean(found) > 0.97


def test_patients_do_not_depend_on_the_cohort_and_bytes_repeat(cohort: Path, tmp_path: Path) -> None:
    generate_cohort(tmp_path, 1, SynthOptions(size=SIZE, seed=11))
    for ours, theirs in zip(patient_files(tmp_path, "p0000"), patient_files(cohort, "p0000"), strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name


def test_workers_make_the_same_patients(cohort: Path, tmp_path: Path) -> None:
    outcome = generate_cohort(tmp_path, 2, SynthOptions(size=SIZE, seed=11), workers=2)
    assert list(outcome.results) == ["p0000", "p0001"]
    assert not outcome.failures
    for ours, theirs in zip(patient_files(tmp_path, "p0001"), patient_files(cohort, "p0001"), strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name


def test_running_again_makes_nothing_new(cohort: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in patient_files(cohort, "p0001")}
    outcome = generate_cohort(cohort, 4, SynthOptions(size=SIZE, seed=11))
    assert len(outcome.results) == 4
    assert stamps == {path: path.stat().st_mtime_ns for path in patient_files(cohort, "p0001")}


@pytest.mark.parametrize(
    "wrong", [{"size": 10}, {"mpp": 9.0}, {"folds": 1.5}, {"size": 256, "mpp": 0.1}, {"levels": (0, 0, 0, 0)}]
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RestainError, match="synthetic patients"):
        SynthOptions(**wrong)


def test_a_cohort_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RestainError, match="at least 1"):
        generate_cohort(tmp_path, 0)


def test_levels_come_in_the_numbers_that_are_asked_for() -> None:
    drawn = [draw_level(5, index, (1, 0, 2, 4)) for index in range(14)]
    for run in (drawn[:7], drawn[7:]):
        assert sorted(run) == [0, 2, 2, 3, 3, 3, 3]


def test_another_cohort_or_something_else_in_the_folder_is_kept(cohort: Path, tmp_path: Path) -> None:
    table = (cohort / "cohort.csv").read_text()
    with pytest.raises(RestainError, match=r"options\.seed: was 11, now 12"):
        generate_cohort(cohort, 4, SynthOptions(size=SIZE, seed=12))
    assert (cohort / "cohort.csv").read_text() == table
    (tmp_path / "cohort.csv").write_text("mine")
    with pytest.raises(RestainError, match="did not make"):
        generate_cohort(tmp_path, 1, SynthOptions(size=SIZE))
    assert (tmp_path / "cohort.csv").read_text() == "mine"


def listen() -> None:
    """Hear Ctrl-C also where the tests run in the background of a shell, which has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_stops_all_workers(tmp_path: Path) -> None:
    """Interrupted after the first patient, the command ends with 130 long before the last one."""
    words = [sys.executable, "-m", "restain.cli.main", "synth", str(tmp_path), "--patients", "40", "--size", "512"]
    process = subprocess.Popen(
        [*words, "--workers", "2"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=listen,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".state/*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert 1 <= len(list(tmp_path.glob(".state/*.json"))) < 20


def test_grain_differs_between_patients() -> None:
    """The fine texture of two patients' tissue is uncorrelated at the same place."""
    options = SynthOptions(size=700, no_deformation=True, labs=1, folds=0, pen=0, bubbles=0, out_of_focus=0)
    pictures = []
    for index in (0, 1):
        rgb = SlideRenderer(World(options, index), "he").region(200, 200, 300, 300).rgb
        green = rgb[..., 1].astype(np.float32)
        pictures.append(green - cv2.GaussianBlur(green, (0, 0), 2))
    assert abs(np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1]) < 0.03
