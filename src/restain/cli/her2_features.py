"""``restain her2 features``: slides to tiles to features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, report_failures
from restain.cli.parsing import call
from restain.core.progress import console
from restain.core.workers import cpu_threads
from restain.her2.encoders import Stain, make_encoder
from restain.her2.extract import extract, slides_of
from restain.her2.tiles import TileOptions


def features(
    inputs: list[Path],
    out: Path,
    encoder: str = "morphometry",
    stain: Stain = Stain.he,
    mpp: float | None = None,
    options: TileOptions = TileOptions(),  # noqa: B008 (frozen)
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Cut slides into tiles on tissue and write the features of each tile, one .h5 a slide.

    The files are those that CLAM and TRIDENT write: features [n, d] and coords [n, 2] in level-0 pixels, with the
    um/px, the size of the tiles, the encoder and its version as attributes. The default encoder measures nuclei,
    amounts of stain, texture and architecture and needs no weights; its columns are named. What an earlier call
    finished is skipped. Exit code 1 where a slide failed, named at the end; 2 where none has a um/px.

    Args:
        inputs: slides, folders of them, or a cohort's CSV (column he, or ihc with --stain ihc).
        out: folder of the results.
        encoder: morphometry, clip:FOLDER (CLIP, PLIP or a vision transformer as transformers saves it), or run:RUN
            (the encoder half of a trained stainer).
        stain: he, or ihc, whose features serve `her2 train` as prompts.
        mpp: um/px of level 0, in place of what the files say.
        options: what a tile is.
        workers: processes, a slide each. If not given: as many as there are cores, at most 8; one where the encoder has
            weights, of which each process holds a copy.
        json: print one JSON document with a row for each slide.
    """
    slides = slides_of(inputs, stain, mpp)
    made = make_encoder(encoder, stain)
    outcome = extract(slides, out, made, options, workers or (cpu_threads() if made.light else 1))
    for name, result in outcome.results.items():
        console.print(
            f"{name}: {result['tiles']} tiles of {result['columns']} columns in {result['features']}",
            markup=False,
            soft_wrap=True,
        )
    if json:
        print_json({"results": outcome.results, "failures": outcome.failures})
    report_failures(outcome.failures)
    return outcome.exit_code


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(features, "restain her2 features", argv, positional=("inputs",), flat="options")
