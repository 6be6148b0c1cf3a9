"""The HER2 status of one patient by a model of the H&E and its virtual IHC together: a fusion of a cross-validation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json
from restain.core.runs import RunFolder
from restain.her2.fusion import Array, Pool, Reader, percent_rows
from restain.her2.peak import Peak
from restain.her2.predict import Joined, Predictor, conclude, load_predictor, replacing
from restain.her2.predict_input import Reading, Source, read_sources
from restain.her2.routes import FUSION
from restain.her2.virtual import PatientSlide, stain_and_score
from restain.infer.apply import StainOptions
from restain.infer.inputs import Input
from restain.infer.tiling import Overlap
from restain.nn.devices import Accelerator, Precision
from restain.stains.her2_classes import VERSION
from restain.stains.her2_rule import LEVELS
from restain.training.loop import weights_file

NOT_ASKED: dict[str, Any] = {"trained_on": None, "selected_on": [], "doubts": ["not looked up for a prediction."]}
"""Whom the stainer was trained on is of no account here; a dataset may be large to look through."""


@dataclass(frozen=True)
class Fusion:
    """A model of the H&E and readings of the virtual IHC that answer together.

    Attributes:
        name: ``MODEL+NAME``.
        predictor: the folds' models.
        readers: one for each of these.
        pools: likewise.
        stainer: the run that stains.
        options: how it does.
        run_mpp: um/px of its training images, where it was given.
    """

    name: str
    predictor: Predictor
    readers: tuple[Reader, ...]
    pools: tuple[Pool, ...]
    stainer: RunFolder
    options: StainOptions
    run_mpp: float | None


def load_fusion(path: Path, stainer: RunFolder, accelerator: Accelerator = Accelerator.auto) -> Fusion:
    """The fusion in folder ``MODEL+NAME`` of a cross-validation.

    Args:
        path: the folder; that of the model lies beside it.
        stainer: the run that made the virtual IHC.
        accelerator: for models and stainer.

    Raises:
        RestainError: no fusion, or another stainer or scorer than it was fitted with.
        ItemError: files that are damaged.
    """
    file = path / FUSION
    if not file.exists():
        raise RestainError(
            f"{path}: --stainer is for a folder MODEL+NAME of `restain her2 crossval --virtual`, which has {FUSION}."
        )
    document = read_json(file)
    try:
        told, classes = document["stainer"], list(document["classes"])
        trainings = document["trainings"]
        readers = tuple(Reader.of(one["reader"], len(classes)) for one in trainings)
        pools = tuple(Pool(**{key: float(value) for key, value in one["pool"].items()}) for one in trainings)
        model, scorer = str(document["model"]), document["scorer"]
        name = f"{model}+{document['virtual']}"
        folder = path.parent / Path(document["folder"]).name
        folders = [folder / Path(one["run"]).parent.name / Path(one["run"]).name for one in trainings]
        options = None if told is None else _options(told["options"], accelerator)
        weights, run_mpp = (None, None) if told is None else (told["weights"], told["run_mpp"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ItemError(f"{file}: is damaged ({error!r}). Run the same `restain her2 crossval` again.") from error
    if options is None:
        raise RestainError(
            f"{file}: its virtual IHC had no virtual.json, so that it is not known what stained it. Make it with "
            "`restain her2 virtual`, and run `restain her2 crossval` again."
        )
    with weights_file(stainer, options.checkpoint).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != weights:
        raise RestainError(
            f"{stainer.path}: is not the stainer that {path} was fitted with (weights {digest[:12]}, not "
            f"{str(weights)[:12]}). Give that run, or stain the cohort with this one and run `her2 crossval` again."
        )
    if scorer != VERSION:
        raise RestainError(
            f"{path}: was fitted on scores of version {scorer}, this restain scores by version {VERSION}. Score the "
            "cohort again (`restain her2 virtual`), and run `restain her2 crossval` again."
        )
    predictor = load_predictor(folder, accelerator, folders)
    if list(predictor.classes) != classes:
        raise RestainError(
            f"{folder}: models of classes {', '.join(predictor.classes)}, {file} of {', '.join(classes)}."
        )
    return Fusion(name, predictor, readers, pools, stainer, options, run_mpp)


def _options(told: Mapping[str, Any], accelerator: Accelerator) -> StainOptions:
    overlap = None if told["overlap"] is None else Overlap[told["overlap"]]
    changed = {"overlap": overlap, "precision": Precision[told["precision"]], "accelerator": accelerator}
    return StainOptions(**{**told, **changed})


def predict_fused(
    fusion: Fusion,
    sources: Sequence[Source],
    out: Path,
    patient: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Predict a slide or all of a patient's: what ``predict_slides`` writes, and in ``out/ihc`` virtual IHC and score.

    Args:
        fusion: the models.
        sources: one slide; of a patient all that there are. Features need their slides.
        out: folder for this slide or patient.
        patient: name; None where ``sources`` is one slide by itself.
        reading: of slides.

    Returns:
        What ``prediction.json`` says: beside the status of both together that of the H&E model (``he``) and of the
        virtual IHC (``virtual``).

    Raises:
        RestainError: as ``predict_slides``; features without their slide.
        ItemError: as ``predict_slides``; a slide cannot be stained or scored.
    """
    began, peak = time.monotonic(), Peak()
    predictor = fusion.predictor
    with replacing(out):
        slides = _slides(sources, patient, reading)
        given = read_sources(predictor.features, predictor.path, sources, reading)
        ready = time.monotonic()
        joined = _virtual(fusion, slides, out / "ihc")
        return conclude(predictor, given, out, patient, reading, ready - began, peak, joined)


def _slides(sources: Sequence[Source], patient: str | None, reading: Reading) -> list[PatientSlide]:
    """The slides to stain.

    Raises:
        RestainError: features without their slide.
    """
    slides = []
    for source in sources:
        if source.he is None:
            raise RestainError(f"{source.path}: features cannot be stained; name their slide with --slide.")
        name = Input(source.he).name
        slides.append(PatientSlide(patient or name, Input(source.he, reading.mpp, name)))
    return slides


def _virtual(fusion: Fusion, slides: Sequence[PatientSlide], out: Path) -> Joined:
    """The virtual IHC of a patient's slides, stained and scored into ``out``."""
    began = time.monotonic()
    made = stain_and_score(fusion.stainer, slides, out, fusion.options, fusion.run_mpp, known=NOT_ASKED, alone=True)
    for reason in made.outcome.failures.values():
        raise ItemError(reason)
    name = slides[0].patient
    row = next(row for row in made.rows if row["patient"] == name)
    score = row["score"]
    shares = None if score is None else tuple(float(str(row[level])) for level in LEVELS)
    percent = percent_rows([name], {name: shares})
    read = np.mean([reader.probabilities(percent)[0] for reader in fusion.readers], 0)

    def join(rows: Array) -> Array:
        parts = zip(rows, fusion.readers, fusion.pools, strict=True)
        return np.asarray(
            np.mean([pool.join(own[None], reader.evidence(percent))[0] for own, reader, pool in parts], 0)
        )

    virtual = {
        "score": score,
        "percent": {} if shares is None else dict(zip(LEVELS, shares, strict=True)),
        "counted": row["counted"],
        "reason": row["reason"],
        "probabilities": None
        if shares is None
        else {label: float(p) for label, p in zip(fusion.predictor.classes, read, strict=True)},
        "stainer": str(fusion.stainer.path),
    }
    warnings = list(made.warnings)
    if not score:
        warnings.append(f"no score of the virtual IHC ({row['reason']}): this is the H&E model's answer alone.")
    return Joined(fusion.name, join, {"virtual": virtual}, time.monotonic() - began, warnings)
