"""A cohort of synthetic patients on disk: slides, truth and the table that names them."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2

from restain.core.errors import RestainError
from restain.core.files import read_json, remove_stale, write_csv, write_json
from restain.core.items import Outcome, fingerprint, lock, process
from restain.core.pool import in_processes
from restain.core.progress import console
from restain.core.runs import flatten
from restain.slides import PyramidWriter
from restain.synthetic.options import GENERATOR_VERSION, SynthOptions
from restain.synthetic.patient import draw_patient
from restain.synthetic.render import PIXEL_BLOCK, SlideRenderer
from restain.synthetic.truth import write_truth
from restain.synthetic.world import World

COHORT_COLUMNS = ("patient", "he", "ihc", "mpp", "her2", "lab")


def generate_cohort(out: Path, patients: int, options: SynthOptions | None = None, workers: int = 1) -> Outcome:
    """Make synthetic breast-cancer patients: paired H&E and HER2-IHC slides with known truth.

    Writes ``slides/<patient>_he.ome.tif`` and ``_ihc.ome.tif``, ``truth/<patient>/`` (``cells.csv``, ``landmarks.csv``,
    ``membrane.ome.tif``, ``nuclei.ome.tif``, ``deformation.npz``, ``truth.json``) and ``cohort.csv``. Patient i depends
    on the seed and i alone; patients already there are skipped.

    Args:
        out: the cohort's folder.
        patients: how many.
        options: what they are like; None for the defaults.
        workers: processes, one patient each; the result does not depend on it.

    Returns:
        What was made, by patient (``results``), and what failed (``failures``).

    Raises:
        RestainError: an option out of range (named), another command writes to ``out``, or ``out`` holds a cohort of
            other options or something else.
    """
    options = options or SynthOptions()
    if patients < 1 or workers < 1:
        raise RestainError(
            f"synthetic patients: patients and workers must be at least 1, got {patients} and {workers}."
        )
    out = Path(out)
    index = {draw_patient(options, number).name: number for number in range(patients)}
    settings: dict[str, Any] = {"generator": GENERATOR_VERSION, "options": asdict(options)}
    with lock(out / ".lock"):
        _claim(out, settings)
        remove_stale(out)
        if workers > 1:
            _make_ahead(out, options, index, settings, workers)
        outcome = process(
            list(index),
            lambda name: make_patient(out, options, index[name]),
            out / ".state",
            settings,
            "patients",
            lambda name: patient_files(out, name),
        )
        rows = [outcome.results[name] for name in index if name in outcome.results]
        write_csv(out / "cohort.csv", COHORT_COLUMNS, rows)
    return outcome


def patient_files(out: Path, name: str) -> list[Path]:
    """The files that make up a patient."""
    truth = out / "truth" / name
    slides = [out / "slides" / f"{name}_{stain}.ome.tif" for stain in ("he", "ihc")]
    names = ("cells.csv", "landmarks.csv", "membrane.ome.tif", "nuclei.ome.tif", "deformation.npz", "truth.json")
    return slides + [truth / file for file in names]


def make_patient(out: Path, options: SynthOptions, index: int) -> dict[str, Any]:
    """Write one patient's slides and truth.

    Args:
        out: the cohort's folder.
        options: of the cohort.
        index: of the patient.

    Returns:
        The patient's row of ``cohort.csv``.
    """
    world = World(options, index)
    name = world.patient.name
    lab = f"lab{world.patient.lab + 1}"
    truth = out / "truth" / name
    renderers = {stain: SlideRenderer(world, stain) for stain in ("ihc", "he")}
    paths = {stain: out / "slides" / f"{name}_{stain}.ome.tif" for stain in renderers}
    size = (options.size, options.size)
    text = f"restain synthetic patient {name}, generator {GENERATOR_VERSION}"
    blocks = range(-(-options.size // PIXEL_BLOCK))
    with (
        PyramidWriter(
            paths["ihc"], size, options.mpp, quality=renderers["ihc"].look.scanner.quality, description=text
        ) as slide,
        PyramidWriter(truth / "membrane.ome.tif", size, options.mpp, compression="deflate", fill=0) as membrane,
        PyramidWriter(truth / "nuclei.ome.tif", size, options.mpp, compression="deflate", fill=0) as nuclei,
    ):
        for row in blocks:
            for column in blocks:
                block = renderers["ihc"].block(column, row)
                x, y = column * PIXEL_BLOCK, row * PIXEL_BLOCK
                slide.write(x, y, block.rgb)
                membrane.write(x, y, block.membrane)
                nuclei.write(x, y, block.nuclei)
    with PyramidWriter(
        paths["he"], size, options.mpp, quality=renderers["he"].look.scanner.quality, description=text
    ) as slide:
        for row in blocks:
            for column in blocks:
                slide.write(column * PIXEL_BLOCK, row * PIXEL_BLOCK, renderers["he"].block(column, row).rgb)
    found = write_truth(world, truth, {stain: renderer.artefacts for stain, renderer in renderers.items()}, lab)
    return {
        "patient": name,
        "he": paths["he"].relative_to(out).as_posix(),
        "ihc": paths["ihc"].relative_to(out).as_posix(),
        "mpp": options.mpp,
        "her2": found["her2"],
        "lab": lab,
    }


def _make_ahead(
    out: Path, options: SynthOptions, index: dict[str, int], settings: dict[str, Any], workers: int
) -> None:
    """Let processes make the patients; what they finished is then found done by ``process``, failures are met again."""
    jobs = [(out, options, name, number, settings) for name, number in index.items()]
    try:
        in_processes(_make_one, jobs, workers, "patients", cv2.setNumThreads, (1,))
    except BrokenProcessPool:
        console.print("A worker was killed, perhaps for want of memory; going on with one process.")


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Note the cohort's options in its folder, or refuse a folder of other options or other things.

    Raises:
        RestainError: what differs, or what lies there.
    """
    file = out / "cohort.json"
    if file.exists():
        before, now = flatten(read_json(file)), flatten(settings)
        changed = [key for key in now if fingerprint(before.get(key)) != fingerprint(now[key])]
        if changed:
            lines = "\n".join(f"  {key}: was {before.get(key)!r}, now {now[key]!r}" for key in changed)
            raise RestainError(f"{out}: holds a cohort of other options; choose another folder.\n{lines}")
        return
    foreign = [name for name in ("cohort.csv", "slides", "truth") if (out / name).exists()]
    if foreign:
        raise RestainError(f"{out}: holds {', '.join(foreign)} that restain synth did not make. Choose another folder.")
    write_json(file, settings)


def _make_one(out: Path, options: SynthOptions, name: str, number: int, settings: dict[str, Any]) -> None:
    process(
        [name],
        lambda _: make_patient(out, options, number),
        out / ".state",
        settings,
        name,
        lambda item: patient_files(out, item),
    )
