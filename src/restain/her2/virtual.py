"""The virtual IHC of patients, and its score: a trained stainer on each H&E slide, then the guideline's rule.

The first of the two routes to a HER2 status that no published slide model has: what a pathologist would read from the
IHC that the stainer imagines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.core.files import read_json, remove_stale, write_json
from restain.core.items import Outcome, fingerprint, lock, process
from restain.core.runs import RunFolder, versions
from restain.data import PairFolder, QualityFilter, dataset_fingerprint, read_cohort, read_dataset
from restain.data.pairs_csv import read_pairs_csv
from restain.her2.run import FILES, score_images
from restain.her2.virtual_table import ABOUT, TABLE, SlideScore, require_once, write_table
from restain.infer.apply import StainOptions, stain
from restain.infer.inputs import Input, collect
from restain.infer.network import load_stainer
from restain.infer.whole_slide import require_run_mpp
from restain.stains.her2_classes import VERSION
from restain.stains.her2_rule import LEVELS
from restain.training.loop import weights_file
from restain.training.options import Keep
from restain.training.run import plain
from restain.training.validation import SPLIT as VALIDATION

POOLING = "cells of a patient's slides together, each classified on its own slide"
OTHERS: dict[str, Any] = {
    "trained_on": [],
    "selected_on": [],
    "doubts": ["the user said that the stainer was trained on other patients; names were not compared."],
}
"""Of a stainer from another cohort, whose names may be the same by chance."""


@dataclass(frozen=True)
class PatientSlide:
    """One H&E slide of a patient.

    Attributes:
        patient: as the cohort names it; the slide's own name where there is no cohort.
        he: the slide, titled with a name that no other slide has.
    """

    patient: str
    he: Input


@dataclass(frozen=True)
class VirtualResult:
    """What became of the slides of one call.

    Attributes:
        rows: of ``virtual.csv``, which holds the slides of earlier calls too.
        document: ``virtual.json``.
        outcome: by slide: its score, or why it failed; the exit code is 1 where a slide failed or has no score.
        warnings: about what the table holds, in words.
    """

    rows: Sequence[Mapping[str, object]]
    document: Mapping[str, Any]
    outcome: Outcome
    warnings: Sequence[str] = ()


def patient_slides(paths: Sequence[Path], mpp: float | None = None) -> list[PatientSlide]:
    """The H&E slides that ``paths`` stand for.

    Args:
        paths: a cohort's CSV (``patient, he``, and ``mpp`` or ``he_mpp``), slides, or folders of slides.
        mpp: um/px of those for which the CSV gives none.

    Raises:
        RestainError: nothing there, or two slides of the same name.
    """
    found: list[PatientSlide] = []
    for path in paths:
        if path.suffix.lower() == ".csv":
            found += [
                PatientSlide(row.patient, Input(row.he, row.he_mpp or mpp, row.name)) for row in read_cohort(path)
            ]
        else:
            found += [PatientSlide(item.name, replace(item, title=item.name)) for item in collect([path], mpp)]
    names = [slide.he.name for slide in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RestainError(
            f"{', '.join(twice[:5])}: two slides would be written under one name; give them in two calls, each with "
            "an --out of its own, or in one cohort."
        )
    return found


def stain_and_score(
    run: RunFolder,
    slides: Sequence[PatientSlide],
    out: Path,
    options: StainOptions = StainOptions(),  # noqa: B008 (frozen)
    run_mpp: float | None = None,
    keep_slides: bool = True,
    known: Mapping[str, Any] | None = None,
    alone: bool = False,
) -> VirtualResult:
    """Stain H&E slides with a trained stainer and score what comes out, into ``out``.

    ``virtual/<name>.ome.tif`` the virtual IHC; ``scores/<name>/`` what ``her2 score`` writes; ``virtual.csv`` and
    ``virtual.json``. A slide that an earlier call finished with the same run and options is skipped.

    Args:
        run: a stainer's run.
        slides: what to stain.
        out: a folder.
        options: of staining.
        run_mpp: um/px of the run's training images, in place of what the run says.
        keep_slides: keep the virtual slides; else each is deleted as soon as it is scored.
        known: whom the run was trained on, as ``training_patients`` says; None: asked of it.
        alone: the table is to be of these slides alone, and what earlier calls left of others goes.

    Raises:
        RestainError: the run cannot stain slides, a slide is named twice, or ``out`` holds the work of another stainer
            or other options, or that of another slide under the name of one of these.
    """
    if options.suffix:
        raise RestainError("--suffix: virtual slides are named like their H&E here; leave it out.")
    if not slides:
        raise RestainError("name at least one H&E slide, or a cohort.")
    require_once(out, [(slide.patient, slide.he.path) for slide in slides])
    load_stainer(run, options.checkpoint)  # a run that is none is wrong use, not each slide's failure
    require_run_mpp(run.mpp if run_mpp is None else run_mpp, run.path)
    by_name = {slide.he.name: slide for slide in slides}
    claim = _claim(run, options, run_mpp)

    def settings(name: str) -> object:
        path = by_name[name].he.path
        if not path.exists():
            raise UnreadableImageError(f"{path}: no such file.")
        state = path.stat()
        source = [str(path.resolve()), by_name[name].he.mpp, state.st_size, state.st_mtime_ns]
        return {"input": source, **claim, "scorer": VERSION, "version": __version__}

    def outputs(name: str) -> list[Path]:
        scores = [out / "scores" / name / file for file in FILES]
        return [*scores, _virtual_file(out, name)] if keep_slides else scores

    def work(name: str) -> dict[str, Any]:
        return _one(run, by_name[name].he, out, options, run_mpp, keep_slides)

    with lock(out / ".lock"):
        if alone:
            scored, before = {}, {file.stem for file in (out / ".state").glob("*.json")}
        else:
            earlier = _earlier(out / ABOUT, claim)
            scored, before = _staying(out, earlier, by_name), set(earlier)
        remove_stale(out)
        for name in before - scored.keys() - by_name.keys():
            _remove(out, name)
        outcome = process(list(by_name), work, out / ".state", settings, "virtual IHC", outputs)
        scored |= {name: _slide_score(by_name[name], found) for name, found in outcome.results.items()}
        scored |= {name: _failed(by_name[name], reason) for name, reason in outcome.failures.items()}
        rows = write_table(out / TABLE, list(scored.values()))
        document = {
            "stainer": {"run": str(run.path.resolve()), **claim, **(known or training_patients(run))},
            "scorer": VERSION,
            "pooling": POOLING,
            "slides": [asdict(one) for one in scored.values()],
            "versions": versions(),
            "use": "research use only",
        }
        write_json(out / ABOUT, document)
    if any(found["score"] is None for found in outcome.results.values()):
        outcome.exit_code = max(outcome.exit_code, 1)
    return VirtualResult(rows, document, outcome, _warnings(by_name, scored))


def _claim(run: RunFolder, options: StainOptions, run_mpp: float | None) -> dict[str, Any]:
    """What makes the pixels of virtual IHC: one folder has one such."""
    with weights_file(run, options.checkpoint).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    applied = {key: value for key, value in plain(options).items() if key != "accelerator"}
    return {"method": run.info["method"], "weights": digest, "mpp": run.mpp, "run_mpp": run_mpp, "options": applied}


def _virtual_file(out: Path, name: str) -> Path:
    """The virtual IHC of a slide: an OME-TIFF, of a patch a PNG."""
    plain_image = out / "virtual" / f"{name}.png"
    return plain_image if plain_image.exists() else out / "virtual" / f"{name}.ome.tif"


def _one(
    run: RunFolder, he: Input, out: Path, options: StainOptions, run_mpp: float | None, keep: bool
) -> dict[str, Any]:
    """Stain and score one slide; its score as JSON can hold it.

    Raises:
        RestainError: why it failed.
    """
    stained = _only(stain(run, [he], out / "virtual", options, run_mpp))
    file = Path(stained["output"])
    # An OME-TIFF knows its um/px; a patch's PNG has that of the run.
    document = _only(score_images([file], out / "scores", stained["mpp"] if stained["kind"] == "patch" else None))
    if not keep:
        file.unlink(missing_ok=True)
    return {
        "score": document["score"],
        "cells": [document["cells"]["by_class"][level] for level in LEVELS],
        "reason": document["reason"],
        "assumed_mpp": stained["mpp"] if stained["kind"] == "patch" else None,
    }


def _only(outcome: Outcome) -> dict[str, Any]:
    """The result of a batch of one.

    Raises:
        RestainError: it failed; with the exit code that it had.
    """
    for reason in outcome.failures.values():
        raise ItemError(reason) if outcome.exit_code == ItemError.exit_code else RestainError(reason)
    (result,) = outcome.results.values()
    return dict(result)


def _slide_score(slide: PatientSlide, found: Mapping[str, Any]) -> SlideScore:
    cells = tuple(int(count) for count in found["cells"])
    return SlideScore(
        slide.he.name,
        slide.patient,
        str(slide.he.path.resolve()),
        found["score"],
        cells,
        str(found["reason"]),
        found.get("assumed_mpp"),
    )


def _failed(slide: PatientSlide, reason: str) -> SlideScore:
    return SlideScore(slide.he.name, slide.patient, str(slide.he.path.resolve()), None, (0,) * len(LEVELS), reason)


def _earlier(file: Path, claim: Mapping[str, Any]) -> dict[str, SlideScore]:
    """The slides of earlier calls in the same folder.

    Raises:
        RestainError: they were made by another stainer or scorer, or with other options.
    """
    if not file.exists():
        return {}
    document = read_json(file)
    try:
        before = {**{key: document["stainer"][key] for key in claim}, "scorer": document["scorer"]}
        slides = [SlideScore(**{**one, "cells": tuple(one["cells"])}) for one in document["slides"]]
    except (KeyError, TypeError) as error:
        raise RestainError(
            f"{file}: not what `restain her2 virtual` writes ({error}). Choose another --out."
        ) from error
    now = {**claim, "scorer": VERSION}
    changed = [
        f"  {key}: was {before[key]!r}, now {now[key]!r}"
        for key in now
        if fingerprint(before[key]) != fingerprint(now[key])
    ]
    if changed:
        raise RestainError(
            f"{file.parent}: holds virtual IHC that was made otherwise; one table must not mix them. Choose another "
            "--out.\n" + "\n".join(changed)
        )
    return {one.name: one for one in slides}


def _staying(out: Path, earlier: Mapping[str, SlideScore], given: Mapping[str, PatientSlide]) -> dict[str, SlideScore]:
    """What stays in the table of earlier calls: not an H&E that is given now under another name.

    A cohort calls a patient's only slide ``P`` and several ``P-1``, ``P-2``, so that names change as rows are added or
    removed; the H&E's file does not.

    Raises:
        RestainError: the name of a slide given now is that of another H&E, whose virtual IHC would be lost.
    """
    now = {slide.he.path.resolve(): name for name, slide in given.items()}
    staying = {}
    for name, one in earlier.items():
        he = Path(one.he).resolve()
        if now.get(he, name) != name:
            continue
        # A path that was mistyped is no slide; its row goes once the path is mended.
        if name in given and he not in now and (one.score is not None or he.exists()):
            raise RestainError(
                f"{given[name].he.path}: would be written as {name}, which {out} has already of another slide, {he}. "
                "Choose another --out, or give both in one cohort, where each has a name of its own."
            )
        staying[name] = one
    return staying


def _remove(out: Path, name: str) -> None:
    """Remove what an earlier call left under the name of a slide that has another name now, or is not asked for."""
    if Path(name).name != name or name == "..":  # a name read from a file must not lead out of the folder
        return
    scores, virtual = out / "scores", out / "virtual"
    records = [folder / f"{name}.json" for folder in (out / ".state", scores / ".state", virtual / ".restain")]
    made = [virtual / f"{name}{suffix}" for suffix in (".ome.tif", ".png")]
    for file in (*records, *made, *(scores / name / file for file in FILES)):
        file.unlink(missing_ok=True)
    if (scores / name).is_dir() and not any((scores / name).iterdir()):
        (scores / name).rmdir()


def _warnings(given: Mapping[str, PatientSlide], scored: Mapping[str, SlideScore]) -> list[str]:
    """What a reader of the table should know: slides that count though not given now, and um/px that nobody gave."""
    lines = []
    for patient in dict.fromkeys(slide.patient for slide in given.values()):
        others = [one.he for one in scored.values() if one.patient == patient and one.name not in given]
        if others:
            lines.append(
                f"{patient}: slides of earlier calls count too ({', '.join(others)}). To score those given now alone, "
                "choose another --out."
            )
    assumed = [one for one in scored.values() if one.assumed_mpp is not None]
    if assumed:
        lines.append(
            f"no um/px is known of {', '.join(one.name for one in assumed[:10])}{' ...' if len(assumed) > 10 else ''} "
            f"({len(assumed)} in all): taken to have {assumed[0].assumed_mpp:g} um/px as the run's training images. If "
            "that is not so, give it (column mpp of the cohort, or --mpp)."
        )
    return lines


def _fingerprint(folder: PairFolder, split: str, config: Mapping[str, Any]) -> str:
    """Of a dataset as a run with this configuration would train on it, were it trained now."""
    try:
        settings = (config.get("batches") or {}).get("quality") or {}
        folder = QualityFilter(**settings).apply(folder, split)[0]
    except (RestainError, TypeError):  # the quality is no longer known: the fingerprint will be another one
        pass
    return dataset_fingerprint(folder)


def training_patients(run: RunFolder, data: Path | None = None) -> dict[str, Any]:
    """Who a stainer was trained on, as its dataset says.

    Args:
        run: the stainer's run.
        data: its dataset; None: where its config.yaml says.

    Returns:
        ``trained_on``: patients (None where they are not known); ``selected_on``: those whose images chose the epoch;
        ``doubts``: what makes the two uncertain, in words.
    """
    trained_with, config = run.info.get("data"), run.config
    told = data if data is not None else config.get("data")
    unknown: dict[str, Any] = {"trained_on": None, "selected_on": [], "doubts": []}
    if told is None:
        return unknown | {"doubts": ["the run names no dataset (it was imported)."]}
    if not isinstance(told, str | Path):
        return unknown | {
            "doubts": [f"config.yaml names {told!r} as the run's dataset, no folder; name it with --data."]
        }
    path = Path(told)
    try:
        if not path.is_dir():
            return unknown | {"doubts": [f"the run's dataset {path} is not here; name it with --data."]}
        folder = read_dataset(path)
        table = read_pairs_csv(path / "pairs.csv")
        split = str((config.get("batches") or {}).get("split", "train"))
        same = _fingerprint(folder, split, config) == trained_with
        chosen = (config.get("training") or {}).get("keep") == Keep.best_psnr.name
    except (RestainError, OSError, AttributeError) as error:
        return unknown | {"doubts": [f"the run's dataset {path} cannot be read ({error})."]}
    lone = [image for image in folder.lone if image.split == split]
    rows = [table.row(image.split, image.name) if table else None for image in lone]
    named = [record.patient for record in folder.split(split)] + [row.patient if row else None for row in rows]
    trained = sorted({name for name in named if name})
    if not trained:
        return unknown | {"doubts": [f"the run's dataset {path} names no patients (pairs.csv, column patient)."]}
    doubts = []
    if not same:
        doubts.append(f"the run's dataset {path} is not exactly what the run was trained on; it may be split anew.")
    if nameless := sum(not name for name in named):
        doubts.append(f"{nameless} of {len(named)} training images in {path} have no patient.")
    selected = {record.patient for record in folder.split(VALIDATION) if record.patient} if chosen else set()
    return {"trained_on": trained, "selected_on": sorted(selected), "doubts": doubts}
