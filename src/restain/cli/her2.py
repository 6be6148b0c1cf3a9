"""``restain her2``: the HER2 status of slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
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


ACTIONS: dict[str, tuple[Callable[..., int], tuple[str, ...], str]] = {
    "score": (score, ("image",), "score IHC images or slides, real or virtual"),
}
"""What there is: function, parameters without a name, one line of help."""


def run(argv: Sequence[str]) -> int:
    """The command."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10} {text}" for name, (_, _, text) in ACTIONS.items())
        print(
            f"usage: restain her2 ACTION ...\n\nactions:\n{lines}\n\n`restain her2 ACTION --help` tells all about one."
        )
        return 0 if argv else 2
    if argv[0] not in ACTIONS:
        raise RestainError(f"there is no action {argv[0]!r}; there is {', '.join(ACTIONS)}. See `restain her2 --help`.")
    function, positional, _ = ACTIONS[argv[0]]
    return call(function, f"restain her2 {argv[0]}", argv[1:], positional)
