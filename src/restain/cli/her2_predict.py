"""``restain her2 predict``: the status of slides from their H&E."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.files import write_csv
from restain.core.items import lock
from restain.core.progress import console
from restain.core.runs import RunFolder
from restain.her2.predict import FEATURES, load_predictor, predict
from restain.her2.predict_fused import load_fusion, predict_fused
from restain.her2.routes import FUSION
from restain.infer.inputs import Input
from restain.nn.devices import Accelerator


def command(
    trained: Path,
    inputs: list[Path],
    out: Path,
    mpp: float | None = None,
    slide: Path | None = None,
    encoder: str | None = None,
    stainer: Path | None = None,
    accelerator: Accelerator = Accelerator.auto,
    json: bool = False,
) -> int:
    """Predict the HER2 status of H&E slides, with the probability of each class and a map of what the model looked at.

    Writes for each slide a folder in --out with prediction.json, attention.png and attention.geojson (drop it on the
    slide in QuPath), and predictions.csv for all. No IHC is needed. Exit code 1 where a slide could not be predicted.
    Research use only.

    Args:
        trained: run of `restain her2 train`, or a model's folder in the results of `restain her2 crossval`, whose folds
            then answer together; MODEL+NAME joins a model with virtual IHC, and needs --stainer.
        inputs: H&E slides, or features of them (.h5).
        out: folder of the results.
        mpp: um/px of level 0, in place of what the slides say.
        slide: the slide of a single .h5, to draw the map on (and to stain).
        encoder: of the model's features where it needs weights, clip:FOLDER or run:RUN.
        stainer: the run that made the virtual IHC of MODEL+NAME; another one is refused.
        accelerator: auto takes the best there is.
        json: print the result; of several slides a list under "results".
    """
    names = [Input(path).name for path in inputs]
    if len(set(names)) < len(names):
        raise RestainError("two inputs would be written to the same folder; predict them into two --out folders.")
    if slide is not None and (len(inputs) != 1 or inputs[0].suffix.lower() not in FEATURES):
        raise RestainError("--slide is the slide of a single .h5; a slide itself is drawn on anyway.")
    fusion = load_fusion(trained, RunFolder(stainer), accelerator) if stainer is not None else None
    if fusion is None and (trained / FUSION).exists():
        raise RestainError(f"{trained}: joins a model with virtual IHC. Name the run that stains with --stainer.")
    predictor = load_predictor(trained, accelerator) if fusion is None else fusion.predictor
    documents: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    code = 0
    with lock(out / ".lock"):
        for name, source in zip(names, inputs, strict=True):
            try:
                if fusion is None:
                    documents.append(predict(predictor, source, out / name, mpp, slide, encoder))
                else:
                    documents.append(predict_fused(fusion, source, out / name, mpp, slide, encoder))
            except (RestainError, OSError) as error:
                failures[str(source)] = str(error)
                code = getattr(error, "exit_code", 1) if len(inputs) == 1 else 1
        chances = [f"p_{label}" for label in predictor.classes]
        rows = [
            {"slide": one["slide"], "predicted": one["status"], "tiles": one["tiles"]}
            | dict(zip(chances, one["probabilities"].values(), strict=True))
            for one in documents
        ]
        write_csv(out / "predictions.csv", ["slide", "predicted", "tiles", *chances], rows)
    for one in documents:
        for warning in one["warnings"]:
            console.print(f"warning: {one['slide']}: {warning}", markup=False, soft_wrap=True)
    report_failures(failures)
    if json and len(inputs) == 1:
        if documents:
            print_json(documents[0])
    elif json:
        print_json({"results": documents, "failures": failures})
    elif documents:
        shown = [
            [
                one["slide"],
                one["status"],
                *(f"{p:.3f}" for p in one["probabilities"].values()),
                one["tiles"],
                f"{sum(one['seconds'].values()):.1f} s",
                f"{one['peak_memory_mib']:.0f} MiB",
            ]
            for one in documents
        ]
        columns = ["slide", "status", *predictor.classes, "tiles", "time", "memory"]
        print_table("HER2 status from H&E (research use only)", columns, shown)
    return code


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(command, "restain her2 predict", argv, positional=("trained", "inputs"))
