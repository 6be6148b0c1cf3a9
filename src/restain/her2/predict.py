"""The HER2 status of one patient from the H&E alone: one trained model, or the folds of a cross-validation together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.files import write_json
from restain.core.runs import RunFolder
from restain.her2.calibration import probabilities
from restain.her2.features_file import FeatureSet
from restain.her2.heat_map import PICTURE, POLYGONS, Heat, draw, heats, write_polygons
from restain.her2.peak import Peak
from restain.her2.predict_input import Given, Reading, Source, read_sources
from restain.her2.slide_set import join
from restain.her2.train import Fitted
from restain.her2.train_run import load_fitted
from restain.nn.devices import Accelerator
from restain.slides import open_slide, write_image

Array = NDArray[np.float64]

DOCUMENT = "prediction.json"


@dataclass(frozen=True)
class Predictor:
    """Trained models that answer together: probabilities and attention are their means.

    Attributes:
        models: one or several, of the same classes and features.
        classes: names.
        features: what the runs say of their features.
        fewest: tiles of the smallest bag that was trained on; None where the runs do not say.
        path: of the run, or of the folder with the folds.
        name: of the recipe.
    """

    models: Sequence[Fitted]
    classes: Sequence[str]
    features: dict[str, Any]
    fewest: int | None
    path: Path
    name: str


@dataclass(frozen=True)
class Joined:
    """What else is known of a patient, to be joined with what the models say.

    Attributes:
        name: of the two together.
        join: from probabilities by model [M, C] to those of both [C].
        document: for ``prediction.json``.
        seconds: that it took.
        warnings: about it.
    """

    name: str
    join: Callable[[Array], Array]
    document: Mapping[str, Any]
    seconds: float
    warnings: Sequence[str] = ()


def load_predictor(
    path: Path, accelerator: Accelerator = Accelerator.auto, folders: Sequence[Path] | None = None
) -> Predictor:
    """The models of a run, or of a model's folder in a cross-validation (all folds and seeds).

    Args:
        path: of the run or the folder.
        accelerator: where the models answer.
        folders: the runs, in an order of their own; None: those that are there.

    Raises:
        RestainError: neither, or runs of different classes or features.
        ItemError: damaged weights.
    """
    if folders is None and (path / "run.json").exists():
        folders = [path]
    if folders is None:
        files = sorted(path.glob("seed_*/fold_*/run.json")) or sorted(path.glob("fold_*/run.json"))
        folders = [file.parent for file in files]
        if not folders:
            raise RestainError(
                f"{path}: not a run of `restain her2 train`, and no folder of a model in a cross-validation (with "
                "seed_0/fold_1 and so on)."
            )
    loaded: list[tuple[Fitted, RunFolder]] = [load_fitted(folder, accelerator) for folder in folders]
    first = loaded[0][1].info
    for _, run in loaded[1:]:
        if run.info["classes"] != first["classes"] or run.info["features"] != first["features"]:
            raise RestainError(f"{run.path} and {folders[0]}: runs of different classes or features.")
    counts = [run.info["fewest_tiles"] for _, run in loaded if run.info.get("fewest_tiles")]
    return Predictor(
        models=[fitted for fitted, _ in loaded],
        classes=list(first["classes"]),
        features=dict(first["features"]),
        fewest=min(counts) if counts else None,
        path=path,
        name=str(first.get("recipe", first["method"])),
    )


def predict(
    predictor: Predictor,
    source: Path,
    out: Path,
    mpp: float | None = None,
    slide: Path | None = None,
    encoder: str | None = None,
) -> dict[str, Any]:
    """Predict one slide, or the features of one; see ``predict_slides``.

    Args:
        predictor: the models.
        source: an H&E slide, or the features of one (``.h5``).
        out: folder for this slide.
        mpp: um/px of level 0, in place of what the slide says.
        slide: the slide of an ``.h5``, to draw on.
        encoder: that the models' features come from, where it needs a path.
    """
    return predict_slides(predictor, [Source(source, slide)], out, reading=Reading(mpp, encoder))


def predict_slides(
    predictor: Predictor,
    sources: Sequence[Source],
    out: Path,
    patient: str | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> dict[str, Any]:
    """Predict a slide, or all slides of a patient together as training sees them: one bag, one answer.

    Writes ``attention.png`` and ``attention.geojson`` into ``out`` (of a patient into ``out/SLIDE``), and then
    ``prediction.json``, which is there only with all the rest. A slide that cannot be predicted leaves nothing,
    and an earlier answer goes too: what lies in ``out`` is of the last call.

    Args:
        predictor: the models.
        sources: one slide; of a patient all that there are.
        out: folder for this slide or patient.
        patient: name; None where ``sources`` is one slide by itself.
        reading: of slides.

    Returns:
        What ``prediction.json`` says.

    Raises:
        RestainError: features of another kind than the models', a slide that is not that of its features, or an
            encoder that must be named.
        ItemError: no H&E, no tissue, no tile, NaN, or a file that cannot be read or written.
    """
    began, peak = time.monotonic(), Peak()
    with replacing(out):
        given = read_sources(predictor.features, predictor.path, sources, reading)
        return conclude(predictor, given, out, patient, reading, time.monotonic() - began, peak)


def conclude(
    predictor: Predictor,
    given: Sequence[Given],
    out: Path,
    patient: str | None,
    reading: Reading,
    seconds: float,
    peak: Peak,
    joined: Joined | None = None,
) -> dict[str, Any]:
    """Predict slides that were read, and write everything; see ``predict_slides``.

    Args:
        predictor: the models.
        given: the slides.
        out: folder for this slide or patient.
        patient: name; None for a single slide by itself.
        reading: of slides.
        seconds: that reading them took.
        peak: made before.
        joined: what else is known of them; attention stays that of the models.
    """
    began = time.monotonic()
    rows, attention = answers(predictor, [one.found for one in given])
    times = {"features": round(seconds, 3), "prediction": round(time.monotonic() - began, 3)}
    maps = [] if attention is None else heats([one.found for one in given], attention)
    document = _whose(given, patient, maps) | _answer(predictor, rows, joined)
    if joined is not None:
        times["virtual"] = round(joined.seconds, 3)
    warnings = [*_warnings(predictor, given, patient, attention is not None), *(joined.warnings if joined else ())]
    document |= {"tiles": sum(len(one.found) for one in given), "attention": attention is not None}
    if maps:
        summary = maps[0].summary
        document["attention_top_tenth"] = {"tiles": summary.top, "share": round(summary.share, 4)}
    folders = [out if patient is None else out / one.source.name for one in given]
    drawn = [_drawn(one, heat, patient, document, reading.mpp) for one, heat in zip(given, maps, strict=bool(maps))]
    document |= {"seconds": times, **peak.document(), "warnings": warnings}
    _remove_earlier(out)
    for folder, heat, (picture, size) in zip(folders if maps else (), maps, drawn, strict=True):
        write_polygons(folder / POLYGONS, heat, size)
        write_image(folder / PICTURE, picture)
    write_json(out / DOCUMENT, document)
    return document


def answers(predictor: Predictor, sets: Sequence[FeatureSet]) -> tuple[Array, Array | None]:
    """Calibrated probabilities by model [M, C] of a patient's slides, and the models' mean attention to all tiles [n].

    Attention is None where a model gives none.
    """
    bag = join(sets, sets[0].slide)
    rows, shares = [], []
    for fitted in predictor.models:
        with torch.inference_mode():
            output = fitted.model(fitted.ready(bag))
        rows.append(probabilities(output.logits.double().cpu().numpy()[None], fitted.temperature)[0])
        if output.attention is not None:
            shares.append(output.attention.double().cpu().numpy())
    attention = np.mean(shares, 0) if len(shares) == len(rows) else None
    return np.stack(rows), attention


def _whose(given: Sequence[Given], patient: str | None, maps: Sequence[Heat]) -> dict[str, Any]:
    """The slide; or the patient, with what each slide has of tiles and of attention."""
    if patient is None:
        return {"slide": str(given[0].source.path)}
    slides: list[dict[str, Any]] = [{"slide": str(one.source.path), "tiles": len(one.found)} for one in given]
    for told, heat in zip(slides, maps, strict=bool(maps)):
        told["attention"] = round(float(heat.attention.sum()), 4)
    return {"patient": patient, "slides": slides}


def _answer(predictor: Predictor, rows: Array, joined: Joined | None) -> dict[str, Any]:
    """What the models say, and what they say together with what else is known."""

    def said(values: Array) -> dict[str, Any]:
        chances = {name: float(p) for name, p in zip(predictor.classes, values, strict=True)}
        return {"status": predictor.classes[int(values.argmax())], "probabilities": chances}

    alone = said(rows.mean(0))
    whole = alone if joined is None else said(joined.join(rows))
    whole |= {"model": predictor.name if joined is None else joined.name}
    whole |= {"run": str(predictor.path), "models": len(predictor.models)}
    return whole if joined is None else whole | {"he": alone, **joined.document}


def _drawn(
    given: Given, heat: Heat, patient: str | None, document: Mapping[str, Any], mpp: float | None
) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
    """The heat map of a slide, and the slide's size where it is known."""
    whose = given.source.name if patient is None else f"{patient}, {given.source.name}"
    chances = ", ".join(f"{label}: {p:.0%}" for label, p in document["probabilities"].items())
    title = f"{whose}: HER2 {document['status']} from H&E   ({chances})"
    if given.source.he is None:
        return draw(heat, title, None), None
    with open_slide(given.source.he, mpp) as slide:
        return draw(heat, title, slide), slide.size


@contextmanager
def replacing(out: Path) -> Iterator[None]:
    """Work on the answer in ``out``; should the slide fail, an earlier one goes, which would pass for this one's."""
    try:
        yield
    except (ItemError, OSError):
        with suppress(OSError):  # what failed first is what the user must know
            _remove_earlier(out)
        raise


def _remove_earlier(out: Path) -> None:
    """Remove an earlier answer and all its maps, perhaps of other slides or another model: they are not of this one."""
    for name in (DOCUMENT, PICTURE, POLYGONS):  # the answer first: it stands for all
        for file in (out / name, *out.glob(f"*/{name}")):
            file.unlink(missing_ok=True)
    for folder in out.glob("*/"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _warnings(predictor: Predictor, given: Sequence[Given], patient: str | None, attention: bool) -> list[str]:
    lines = [line for one in given for line in one.warnings]
    tiles = sum(len(one.found) for one in given)
    if predictor.fewest is not None and tiles < predictor.fewest:
        more = "" if patient is not None else " If there are more slides of this patient, give all with --patient."
        lines.append(
            f"only {tiles} tiles of tissue; the smallest patient that the model learned from has {predictor.fewest}: "
            f"the status is uncertain beyond what its probability says.{more}"
        )
    if not attention:
        lines.append(f"{predictor.name} gives no attention: there is no heat map.")
    return list(dict.fromkeys(lines))
