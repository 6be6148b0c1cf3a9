"""A small folder to serve: two synthetic patients, one registered, with a bit of everything that restain writes.

The H&E of the first patient is mirrored and turned by 155 degrees against its IHC, that of the second turned by -21, so
that nothing passes that ignores the registration. ``python -m tests.web.workspace OUT`` makes it from a shell.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.files import write_csv, write_json
from restain.core.runs import RunFolder
from restain.data import PairsConfig, build_pairs, read_cohort
from restain.her2.features_file import FeatureSet
from restain.her2.heat_map import heats, write_polygons
from restain.her2.run import score_images
from restain.infer.record import Origin, write_record
from restain.registration import RegisterOptions, Transform, fit_projective, read_landmarks, warp_slide
from restain.registration.transform import project
from restain.report import Section, Text, write_report
from restain.slides import PyramidWriter, open_slide, write_image
from restain.synthetic import Deformation, SynthOptions, World, generate_cohort
from restain.training.log import LossLog

OPTIONS = SynthOptions(
    size=1024, mpp=0.5, seed=30, rotation=60, mirrored=0.5, labs=2, shift=30, elastic=4,
    folds=0, bubbles=0, out_of_focus=0, pen=0,
)  # fmt: skip
HOSTILE = '<img src=x onerror=alert(1)> "Müller" & Söhne\'s ✓ %2e%2e'
"""A slide's and a patient's name that nobody should trust."""
REGISTER = RegisterOptions(blocks=1, elastic=False)
FIELD_SPACING = 64.0
"""IHC px between the nodes of the registration's field."""
_STAINS = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]])
"""Optical density of haematoxylin and DAB (Ruifrok and Johnston 2001)."""


@dataclass(frozen=True)
class Workspace:
    """Where things lie in the folder; ``name`` turns a path into the one that a request gives.

    Attributes:
        folder: that is served.
        cohort: CSV of three rows: two synthetic patients, and one of a hostile name with an H&E alone.
        he: H&E of the first patient (``p0000``, 3+), mirrored and turned by 155 degrees.
        ihc: its IHC.
        registration: ``transform.json`` of the two, with a field: the truth, not an estimate.
        registered_he: the H&E on the IHC's grid.
        virtual: a virtual IHC on the H&E's pixels.
        virtual_registered: one on the IHC's pixels, of the same size.
        scores: folder of ``her2 score`` on ``ihc``: ``score.json``, ``cells.csv``, ``cells.geojson``.
        predictions: folder of ``her2 predict`` on ``he``: ``prediction.json``, ``attention.geojson``.
        pairs: ``pairs.csv`` of the first patient, with kept and dropped patches.
        other_he: H&E of the second patient (``p0001``, 1+), turned by -21 degrees; not registered.
        other_ihc: its IHC.
        landmarks: true point pairs of the second patient (CSV that ``register --landmarks`` takes).
        hostile: a slide whose name has HTML, quotes and unicode.
        run: of a stainer, with curves and samples, still running.
        her2_run: of a slide model, done.
        report: an HTML report that restain wrote.
    """

    folder: Path
    cohort: Path
    he: Path
    ihc: Path
    registration: Path
    registered_he: Path
    virtual: Path
    virtual_registered: Path
    scores: Path
    predictions: Path
    pairs: Path
    other_he: Path
    other_ihc: Path
    landmarks: Path
    hostile: Path
    run: Path
    her2_run: Path
    report: Path

    @property
    def slides(self) -> Path:
        """The folder of the synthetic slides."""
        return self.he.parent

    def moved(self, folder: Path) -> Workspace:
        """The same places in another folder, to which the files may have been copied."""
        return Workspace(**{key: folder / path.relative_to(self.folder) for key, path in vars(self).items()})

    def name(self, path: Path) -> str:
        """The path as requests give it."""
        return path.relative_to(self.folder).as_posix()

    def truth(self, patient: int = 0) -> Deformation:
        """The true map between the slides of a patient."""
        return World(OPTIONS, patient).deformation


def make_workspace(folder: Path) -> Workspace:
    """Make the folder; what it serves is the same at every call."""
    folder = Path(folder).resolve()
    slides = folder / "slides"
    space = Workspace(
        folder=folder,
        cohort=folder / "cohort.csv",
        he=slides / "p0000_he.ome.tif",
        ihc=slides / "p0000_ihc.ome.tif",
        registration=folder / "pairs" / "registered" / "p0000" / "transform.json",
        registered_he=folder / "pairs" / "registered" / "p0000" / "he_registered.ome.tif",
        virtual=folder / "virtual" / "p0000_he.ome.tif",
        virtual_registered=folder / "virtual_registered" / "p0000.ome.tif",
        scores=folder / "scores" / "p0000_ihc",
        predictions=folder / "predictions" / "p0000_he",
        pairs=folder / "pairs" / "pairs.csv",
        other_he=slides / "p0001_he.ome.tif",
        other_ihc=slides / "p0001_ihc.ome.tif",
        landmarks=folder / "truth" / "p0001" / "landmarks.csv",
        hostile=slides / f"{HOSTILE}.ome.tif",
        run=folder / "runs" / "pyramid",
        her2_run=folder / "runs" / "status",
        report=folder / "report.html",
    )
    generate_cohort(folder, 2, OPTIONS)
    _register(space)
    _stain(space)
    score_images([space.ihc], space.scores.parent)
    _predict(space)
    _hostile(space)
    _runs(space)
    text = "Written by restain's tests. A name of a method: <script>document.title='owned'</script>."
    write_report(space.report, "A report & its <title>", [Section("What it says", [Text(text)])])
    return space


def _register(space: Workspace) -> None:
    """What ``restain register`` and ``restain pairs`` leave of the first patient, with the truth for a registration.

    Files are written as ``register`` does, because it takes seconds; ``build_pairs`` takes them for its own.
    """
    row = read_cohort(space.cohort)[0]
    out, truth, side = space.registration.parent, space.truth(), OPTIONS.size
    he, ihc = read_landmarks(space.folder / "truth" / "p0000" / "landmarks.csv")
    matrix, _ = fit_projective(ihc, he)
    nodes = np.arange(-1, int(side / FIELD_SPACING) + 2) * FIELD_SPACING
    across, down = np.meshgrid(nodes, nodes)
    places = np.stack([across.ravel(), down.ravel()], axis=1)
    field = (project(truth.ihc_to_he(places), np.linalg.inv(matrix)) - places).astype(np.float32)
    transform = Transform(
        matrix, field.reshape(*across.shape, 2), (float(nodes[0]), float(nodes[0])), FIELD_SPACING, (side, side),
        (side, side), OPTIONS.mpp, OPTIONS.mpp, space.he.name, space.ihc.name,
    )  # fmt: skip
    transform.save(space.registration)
    with open_slide(space.he) as slide:
        warped = warp_slide(slide, transform, out / "he_registered.ome.tif", out / "filled.ome.tif")
        write_image(out / "overlay.png", slide.thumbnail(256))
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in (space.he, space.ihc)]
    write_json(
        out / "quality.json",
        {
            "status": "ok", "reason": "", "stage": "elastic", "confidence": 0.55, "filled": warped.filled,
            "stages": {"unaligned": {"mutual_information": 0.03}, "elastic": {"mutual_information": 0.41}},
            "settings": {
                "he": stamps[0], "ihc": stamps[1], "he_mpp": OPTIONS.mpp, "ihc_mpp": OPTIONS.mpp, "landmarks": None,
                "options": asdict(REGISTER),
            },
        },
    )  # fmt: skip
    build_pairs([row], space.pairs.parent, PairsConfig(fractions={"train": 1.0}, registration=REGISTER))


def _stain(space: Workspace) -> None:
    """Virtual IHC by a rule of colour: what is pink becomes brown."""
    for source, out in ((space.he, space.virtual), (space.registered_he, space.virtual_registered)):
        with open_slide(source) as slide:
            width, height = slide.size
            rgb = slide.read(0, 0, width, height, slide.require_mpp())
        with PyramidWriter(out, (width, height), OPTIONS.mpp) as writer:
            writer.write(0, 0, _recoloured(rgb))
        made = Origin(views=1, method="pyramid_pix2pix", run=str(space.run), weights="0" * 64)
        write_record(out.parent, {"mpp": OPTIONS.mpp}, {out: made}, [])


def _recoloured(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H&E to something like IHC, pixel by pixel; glass stays white."""
    density = -np.log10((rgb.astype(np.float32) + 1) / 256)
    nuclei = np.clip(density[..., 0] - 0.15, 0, None)  # eosin lets red pass
    pink = cv2.GaussianBlur(np.clip(density[..., 1] - density[..., 0], 0, None), (0, 0), 2)
    stained = 10 ** -(nuclei[..., None] * _STAINS[0] + 1.1 * pink[..., None] * _STAINS[1])
    return np.asarray(np.clip(256 * stained - 8, 0, 255), np.uint8)


def _predict(space: Workspace) -> None:
    """Attention as ``her2 predict`` writes it: most in the middle of the H&E."""
    side = 128
    start = np.arange(0, OPTIONS.size, side)
    coords = np.stack(np.meshgrid(start, start), axis=-1).reshape(-1, 2)
    weight = np.exp(-(((coords + side / 2 - OPTIONS.size / 2) / 250.0) ** 2).sum(1))
    found = FeatureSet(np.zeros((len(coords), 1), np.float32), coords, float(side), OPTIONS.mpp, "none")
    (heat,) = heats([found], weight / weight.sum())
    write_polygons(space.predictions / "attention.geojson", heat, (OPTIONS.size, OPTIONS.size))
    document = {
        "slide": str(space.he), "status": "3+", "probabilities": {"0": 0.1, "1+": 0.1, "2+": 0.2, "3+": 0.6},
        "model": "ipca_small", "run": str(space.her2_run), "models": 1, "tiles": len(coords), "attention": True,
        "warnings": [],
    }  # fmt: skip
    write_json(space.predictions / "prediction.json", document)


def _hostile(space: Workspace) -> None:
    """A third case: an H&E alone, 512 px of the second patient's, under a name that is hard to show."""
    with open_slide(space.other_he) as slide, PyramidWriter(space.hostile, (512, 512), OPTIONS.mpp) as writer:
        writer.write(0, 0, slide.read(256, 256, 512, 512, OPTIONS.mpp))
    columns = ("patient", "he", "ihc", "mpp", "her2", "lab")
    rows = [
        {"patient": row.patient, "he": space.name(row.he), "ihc": space.name(row.ihc or row.he), "mpp": OPTIONS.mpp,
         "her2": row.level, "lab": row.lab}
        for row in read_cohort(space.cohort)[:2]
    ]  # fmt: skip
    rows.append({"patient": HOSTILE, "he": space.name(space.hostile), "mpp": OPTIONS.mpp, "her2": None, "lab": "<b>"})
    write_csv(space.cohort, columns, rows)


def _runs(space: Workspace) -> None:
    """A stainer's run that goes on, and a slide model's that is done."""
    run = RunFolder(space.run)
    run.start(
        {"task": "stain", "method": "pyramid_pix2pix", "mpp": 0.5, "scale": 1.0, "levels": ["3+"], "seed": 0},
        {"method": "pyramid_pix2pix", "data": str(space.pairs.parent)},
    )
    log = LossLog(run.metrics, 0)
    for step in range(20, 1220, 20):
        log.write({"epoch": 1 + step // 200, "step": step, "lr": 2e-4, "D": 0.7, "L1": 24 * 0.999**step + 8})
    with open_slide(space.he) as he, open_slide(space.virtual) as virtual:
        views = [slide.read(384, 384, 256, 256, 0.5) for slide in (he, virtual)]
    for epoch in (3, 6):
        write_image(run.samples / f"epoch_{epoch:04d}.jpg", np.concatenate(views, axis=1))
    status = RunFolder(space.her2_run)
    status.start({"task": "her2", "method": "ipca", "recipe": "ipca_small", "mpp": 0.5}, {"model": "ipca"})
    status.set_status(status="done", best_epoch=4)
    rows = [{"epoch": e, "loss": f"{2 / e:.4f}", "val_auc": f"{1 - 0.5 / e:.4f}"} for e in range(1, 9)]
    write_csv(status.metrics, ("epoch", "loss", "val_auc"), rows)


if __name__ == "__main__":
    print(json.dumps({key: str(value) for key, value in vars(make_workspace(Path(sys.argv[1]))).items()}, indent=2))
