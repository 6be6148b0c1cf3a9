"""``restain her2 score``: HER2 of IHC images and slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.her2 import score_images
from restain.stains.her2_rule import LEVELS


def score(image: list[Path], out: Path, mpp: float | None = None, json: bool = False) -> int:
    """Score HER2 on IHC images or slides, real or virtual: cell by cell, then by the ASCO/CAP rule.

    Writes for each image a folder in --out with score.json, cells.csv, cells.geojson (drop it on the slide in QuPath)
    and picture.png, which shows what each cell got; scores.csv has all images. The same command goes on from where it
    was interrupted. Exit code 1 where an image could not be scored (no tissue, no tumour cells, damaged), 2 where it
    has no um/px. Research use only.

    Args:
        image: IHC images or slides: anything OpenSlide reads, OME-TIFF, TIFF, PNG, JPEG.
        out: folder of the results.
        mpp: um/px of level 0, in place of what the files say.
        json: print the result; of several images a list under "results".
    """
    outcome = score_images(image, out, mpp)
    documents = list(outcome.results.values())
    report_failures(outcome.failures)
    if json and len(image) == 1:
        if documents:
            print_json(documents[0])
        elif outcome.exit_code == 1:  # wrong use has no result
            (reason,) = outcome.failures.values()
            print_json({"image": str(image[0]), "score": None, "percent": {}, "reason": reason})
    elif json:
        print_json({"results": documents, "failures": outcome.failures})
    elif documents:
        rows = [
            [
                document["image"],
                document["score"] or "-",
                *(_percent(document["percent"].get(level)) for level in LEVELS),
                document["reason"],
            ]
            for document in documents
        ]
        print_table("HER2 (percent of tumour cells; research use only)", ["image", "score", *LEVELS, "reason"], rows)
    return outcome.exit_code


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(score, "restain her2 score", argv, ("image",))
