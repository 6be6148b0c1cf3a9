"""Many images to scores: what is done is skipped, what fails is named, the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from restain import __version__
from restain.core.errors import MissingResolutionError, RestainError
from restain.core.files import read_json, remove_stale, write_csv, write_json
from restain.core.items import Outcome, lock, process
from restain.her2.files import write_cells, write_geojson
from restain.her2.picture import score_picture
from restain.her2.score import score_slide
from restain.slides import open_slide, write_image
from restain.stains.her2_classes import VERSION
from restain.stains.her2_rule import LEVELS

FILES = ("score.json", "cells.csv", "cells.geojson", "picture.png")


def score_images(images: Sequence[Path], out: Path, mpp: float | None = None) -> Outcome:
    """Score IHC images or slides; a folder for each in ``out``, and ``scores.csv`` over all that lie there.

    Args:
        images: the files.
        out: folder of the results.
        mpp: um/px of level 0, in place of what the files say.

    Returns:
        The documents by folder name (``results``), what failed (``failures``), and the exit code: 0; 1 where an image
        failed or has no score; 2 where every one lacks um/px.

    Raises:
        RestainError: no image, or another command writes to ``out``.
    """
    if not images:
        raise RestainError("name at least one IHC image or slide to score.")
    names = dict(zip(_names(images), images, strict=True))
    unresolved = []

    def work(name: str) -> dict[str, Any]:
        try:
            return _score_one(names[name], out / name, mpp)
        except MissingResolutionError:
            unresolved.append(name)
            raise

    with lock(out / ".lock"):
        remove_stale(out)
        outcome = process(
            list(names),
            work,
            out / ".state",
            lambda name: {"image": _identity(names[name]), "mpp": mpp, "scorer": VERSION, "version": __version__},
            "scoring",
            lambda name: [out / name / file for file in FILES],
        )
        # Of earlier calls too: the folder is one table.
        done = [path for path in sorted(out.glob("*/score.json")) if path.parent.name not in outcome.failures]
        rows = [_row(read_json(path)) for path in done]
        rows += [{"image": str(names[name]), "reason": reason} for name, reason in outcome.failures.items()]
        write_csv(out / "scores.csv", ("image", "score", *LEVELS, "positive", "counted", "reason"), rows)
    if unresolved and len(unresolved) == len(names):
        outcome.exit_code = MissingResolutionError.exit_code
    elif any(document["score"] is None for document in outcome.results.values()):
        outcome.exit_code = max(outcome.exit_code, 1)
    return outcome


def _score_one(image: Path, folder: Path, mpp: float | None) -> dict[str, Any]:
    with open_slide(image, mpp) as slide:
        scored = score_slide(slide)
        write_cells(folder / "cells.csv", scored)
        write_geojson(folder / "cells.geojson", scored)
        write_image(folder / "picture.png", score_picture(slide, scored))
    document = {**scored.document, "image": str(image)}
    write_json(folder / "score.json", document)
    return document


def _names(images: Sequence[Path]) -> list[str]:
    """A folder name for each image: its own without suffix, numbered where several share it."""
    taken: dict[str, int] = {}
    names = []
    for image in images:
        stem = image.name
        for suffix in (".ome.tif", ".ome.tiff"):
            stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
        stem = Path(stem).stem if stem == image.name else stem
        number = taken[stem] = taken.get(stem, 0) + 1
        names.append(stem if number == 1 else f"{stem}-{number}")
    return names


def _identity(image: Path) -> dict[str, Any]:
    """What changes when a file does."""
    status = image.stat() if image.exists() else None
    return {
        "path": str(image.resolve()),
        "size": status.st_size if status else None,
        "modified": status.st_mtime_ns if status else None,
    }


def _row(document: dict[str, Any]) -> dict[str, object]:
    return {
        "image": document["image"],
        "score": document["score"],
        **{key: document["percent"].get(key) for key in (*LEVELS, "positive")},
        "counted": document["cells"]["counted"],
        "reason": document["reason"],
    }
