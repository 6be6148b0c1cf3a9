"""``restain her2 predict``: the status of slides, or of a patient with several, from their H&E."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.items import lock
from restain.core.progress import console
from restain.core.runs import RunFolder
from restain.her2.predict import load_predictor, predict_slides
from restain.her2.predict_fused import load_fusion, predict_fused
from restain.her2.predict_input import Reading, Source, require_folder_name
from restain.her2.predict_table import write_table
from restain.her2.routes import FUSION
from restain.infer.inputs import Input
from restain.nn.devices import Accelerator


def command(
    trained: Path,
    inputs: list[Path],
    out: Path,
    patient: str | None = None,
    mpp: float | None = None,
    slide: list[Path] = [],  # noqa: B006 (the parser copies it)
    encoder: str | None = None,
    min_tissue: float | None = None,
    stainer: Path | None = None,
    accelerator: Accelerator = Accelerator.auto,
    json: bool = False,
) -> int:
    """Predict the HER2 status of H&E slides, with the probability of each class and a map of what the model looked at.

    Writes for each slide a folder in --out with prediction.json, attention.png and attention.geojson (drop it on the
    slide in QuPath), and predictions.csv for all that lie in --out. With --patient all slides are of one patient, who
    gets one answer, as in training; the maps of the slides then lie in folders of their own below the patient's. No IHC
    is needed. Exit code 1 where a slide could not be predicted. Research use only.

    Args:
        trained: run of `restain her2 train`, or a model's folder in the results of `restain her2 crossval`, whose folds
            then answer together; MODEL+NAME joins a model with virtual IHC, and needs --stainer.
        inputs: H&E slides, or features of them (.h5).
        out: folder of the results.
        patient: name of the patient whom all inputs are of.
        mpp: um/px of level 0, in place of what the slides say (features have their own).
        slide: the slide of an .h5, to draw the map on (and to stain); may be repeated. It has the name of its .h5.
        encoder: of the model's features where it needs weights, clip:FOLDER or run:RUN; for slides.
        min_tissue: least share of a tile that is tissue, where the run does not say with what its features were made
            (if not given, 0.5 with a warning); for slides.
        stainer: the run that made the virtual IHC of MODEL+NAME; another one is refused.
        accelerator: auto takes the best there is.
        json: print the result; of several slides without --patient a list under "results".
    """
    sources = _sources(inputs, slide, patient)
    if all(source.is_features for source in sources):
        for option, value in (("--encoder", encoder), ("--min-tissue", min_tissue), ("--mpp", mpp)):
            if value is not None and not (option == "--mpp" and slide):
                raise RestainError(f"{option} is for slides; features (.h5) are as they were made. Leave it out.")
    reading = Reading(mpp, encoder, min_tissue)
    fusion = load_fusion(trained, RunFolder(stainer), accelerator) if stainer is not None else None
    if fusion is None and (trained / FUSION).exists():
        raise RestainError(f"{trained}: joins a model with virtual IHC. Name the run that stains with --stainer.")
    predictor = load_predictor(trained, accelerator) if fusion is None else fusion.predictor
    jobs = {patient: sources} if patient is not None else {source.name: [source] for source in sources}
    documents: list[dict[str, Any]] = []
    failures: dict[str, dict[str, Any]] = {}
    code = 0
    with lock(out / ".lock"):
        for name, own in jobs.items():
            try:
                if fusion is None:
                    documents.append(predict_slides(predictor, own, out / name, patient, reading))
                else:
                    documents.append(predict_fused(fusion, own, out / name, patient, reading))
            except (RestainError, OSError) as error:
                whose = {"slide": "; ".join(str(source.path) for source in own)}
                failures[name] = (whose if patient is None else {"patient": patient} | whose) | {"reason": str(error)}
                code = getattr(error, "exit_code", 1) if len(jobs) == 1 else 1
        write_table(out, predictor.classes, failures)
    for one in documents:
        for warning in one["warnings"]:
            console.print(f"warning: {_whose(one)}: {warning}", markup=False, soft_wrap=True)
    report_failures({_whose(one): one["reason"] for one in failures.values()})
    if json and len(jobs) == 1:
        failed = ({"status": None, "probabilities": {}} | one for one in failures.values())
        print_json([*documents, *failed][0])
    elif json:
        print_json({"results": documents, "failures": {one["slide"]: one["reason"] for one in failures.values()}})
    elif documents:
        _print(documents, predictor.classes)
    return code


def _sources(inputs: Sequence[Path], slides: Sequence[Path], patient: str | None) -> list[Source]:
    """The inputs, features with their slides.

    Raises:
        RestainError: two of one name, a slide that no features are of, or a patient who cannot be a folder.
    """
    if patient is not None:
        require_folder_name(patient)
    sources = [Source(path) for path in inputs]
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RestainError(
            f"{', '.join(twice)}: two inputs have this name and would be written to the same folder. "
            + ("Leave one out." if patient is not None else "Predict them into two --out folders.")
        )
    features = [number for number, source in enumerate(sources) if source.is_features]
    for slide in slides:
        name = Input(slide).name.casefold()
        # A single .h5 may have been renamed: then its own word for its slide decides.
        of = [number for number in features if names[number].casefold() == name] or features
        if len(of) != 1 or sources[of[0]].slide is not None:
            raise RestainError(
                f"--slide {slide}: is none of the slides of the .h5 given ({', '.join(names[n] for n in features)}); "
                "each has the name of its .h5."
                if features
                else f"--slide {slide}: is for features (.h5); a slide itself is drawn on anyway."
            )
        sources[of[0]] = replace(sources[of[0]], slide=slide)
    return sources


def _whose(document: dict[str, Any]) -> str:
    return str(document["patient"] if "patient" in document else document["slide"])


def _print(documents: Sequence[dict[str, Any]], classes: Sequence[str]) -> None:
    shown = [
        [
            _whose(one),
            one["status"],
            *(f"{p:.3f}" for p in one["probabilities"].values()),
            one["tiles"],
            f"{sum(one['seconds'].values()):.1f} s",
            f"{'' if one['peak_memory_exact'] else 'at most '}{one['peak_memory_mib']:.0f} MiB",
        ]
        for one in documents
    ]
    first = "patient" if "patient" in documents[0] else "slide"
    print_table(
        "HER2 status from H&E (research use only)", [first, "status", *classes, "tiles", "time", "memory"], shown
    )


def run(argv: Sequence[str]) -> int:
    """The command; ``--slide`` may be repeated."""
    words = [f"--slide+{word[7:]}" if word == "--slide" or word.startswith("--slide=") else word for word in argv]
    return call(command, "restain her2 predict", words, positional=("trained", "inputs"))
