"""The HER2 status of one slide from its H&E alone: one trained model, or the folds of a cross-validation together."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.files import write_json
from restain.core.runs import RunFolder
from restain.her2.calibration import probabilities
from restain.her2.encoders import make_encoder
from restain.her2.extract import extract_slide
from restain.her2.features_file import FeatureSet, read_features
from restain.her2.heat_map import draw, write_polygons
from restain.her2.slide_set import join, kind_of
from restain.her2.tiles import TileOptions
from restain.her2.train import Fitted
from restain.her2.train_run import load_fitted
from restain.infer.inputs import Input
from restain.nn.devices import Accelerator
from restain.slides import open_slide, write_image

FEATURES = (".h5", ".hdf5")


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
    """What else is known of a slide, to be joined with what the models say.

    Attributes:
        name: of the two together.
        join: from probabilities by model [M, C] to those of both [C].
        document: for ``prediction.json``.
        seconds: that it took.
        warnings: about it.
    """

    name: str
    join: Callable[[NDArray[np.float64]], NDArray[np.float64]]
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
    joined: Joined | None = None,
) -> dict[str, Any]:
    """Predict one slide and write ``prediction.json``, ``attention.png`` and ``attention.geojson`` into ``out``.

    Args:
        predictor: the models.
        source: an H&E slide, or the features of one (``.h5``).
        out: folder for this slide.
        mpp: um/px of level 0, in place of what the slide says.
        slide: the slide of an ``.h5``, to draw on.
        encoder: that the models' features come from, where it needs a path (``clip:FOLDER``, ``run:RUN``).
        joined: what else is known of the slide; attention stays that of the models.

    Returns:
        What ``prediction.json`` says.

    Raises:
        RestainError: features of another kind than the models', or an encoder that must be named.
        ItemError: no tissue, no tile, NaN, or a file that cannot be read or written.
    """
    began = time.monotonic()
    if source.suffix.lower() in FEATURES:
        found = read_features(source)
        drawn_on = slide
    else:
        found = _features(predictor, source, mpp, encoder)
        drawn_on = source
    difference = kind_of(found).differs(predictor.features)
    if difference:
        raise RestainError(
            f"{source}: its features are not of the kind that {predictor.path} learned from (model and slide: "
            f"{difference}). Make them with the same encoder and tiles."
        )
    ready = time.monotonic()
    rows, attention = answers(predictor, found)
    done = time.monotonic()
    alone = rows.mean(0)
    values = alone if joined is None else joined.join(rows)
    best = int(values.argmax())
    document: dict[str, Any] = {
        "slide": str(source),
        "status": predictor.classes[best],
        "probabilities": _by_class(predictor, values),
        "model": predictor.name if joined is None else joined.name,
        "run": str(predictor.path),
        "models": len(predictor.models),
        "tiles": len(found),
        "attention": attention is not None,
        "seconds": {"features": round(ready - began, 3), "prediction": round(done - ready, 3)},
        "peak_memory_mib": round(_peak_mib(), 1),
        "warnings": _warnings(predictor, found, attention),
    }
    if joined is not None:
        said = {"status": predictor.classes[int(alone.argmax())], "probabilities": _by_class(predictor, alone)}
        document |= {"he": said, **joined.document}
        document["seconds"]["virtual"] = round(joined.seconds, 3)
        document["warnings"] = [*document["warnings"], *joined.warnings]
    if attention is not None:
        name = Input(source).name
        chances = ", ".join(f"{label} {p:.0%}" for label, p in document["probabilities"].items())
        title = f"{name}: {document['status']} ({chances})"
        write_polygons(out / "attention.geojson", found, attention)
        if drawn_on is not None:
            with open_slide(drawn_on, mpp) as opened:
                picture = draw(found, attention, title, opened)
        else:
            picture = draw(found, attention, title, None)
        write_image(out / "attention.png", picture)
    write_json(out / "prediction.json", document)
    return document


def answer(predictor: Predictor, found: FeatureSet) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Calibrated probabilities [C] and attention [n] (None where the model gives none), means over the models."""
    rows, attention = answers(predictor, found)
    return rows.mean(0), attention


def answers(predictor: Predictor, found: FeatureSet) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Calibrated probabilities by model [M, C], and their mean attention [n] (None where a model gives none)."""
    bag = join([found], found.slide)
    rows, shares = [], []
    for fitted in predictor.models:
        with torch.inference_mode():
            output = fitted.model(fitted.ready(bag))
        rows.append(probabilities(output.logits.double().cpu().numpy()[None], fitted.temperature)[0])
        if output.attention is not None:
            shares.append(output.attention.double().cpu().numpy())
    attention = np.mean(shares, 0) if len(shares) == len(rows) else None
    return np.stack(rows), attention


def _by_class(predictor: Predictor, values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(p) for name, p in zip(predictor.classes, values, strict=True)}


def _features(predictor: Predictor, source: Path, mpp: float | None, encoder: str | None) -> FeatureSet:
    """The features of a slide, made as the models' were."""
    wanted = predictor.features
    if encoder is None and wanted["encoder"] != "morphometry":
        raise RestainError(
            f"{predictor.path}: its features come from encoder {wanted['encoder']!r} {wanted['version']}, whose "
            "weights are not in the run. Name it with --encoder (clip:FOLDER, run:RUN), or give the slide's .h5."
        )
    made = make_encoder(encoder or "morphometry")
    if (made.name, made.version) != (wanted["encoder"], wanted["version"]):
        raise RestainError(
            f"{predictor.path}: learned from encoder {wanted['encoder']} {wanted['version']}, this is {made.name} "
            f"{made.version}. Take the same weights and version, or train again."
        )
    options = TileOptions(tile_mpp=float(wanted["mpp"]), tile_px=int(wanted["tile_px"]))
    with tempfile.TemporaryDirectory() as folder, open_slide(source, mpp) as slide:
        path = Path(folder) / "features.h5"
        extract_slide(slide, path, made, options, Input(source).name)
        return read_features(path)


def _warnings(predictor: Predictor, found: FeatureSet, attention: NDArray[np.float64] | None) -> list[str]:
    lines = []
    if predictor.fewest is not None and len(found) < predictor.fewest:
        lines.append(
            f"only {len(found)} tiles of tissue; the smallest slide that the model learned from has "
            f"{predictor.fewest}: the status is uncertain beyond what its probability says."
        )
    if attention is None:
        lines.append(f"{predictor.name} gives no attention: there is no heat map.")
    return lines


def _peak_mib() -> float:
    """Largest memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2
