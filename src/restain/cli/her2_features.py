"""``restain her2 features``: slides to tiles to features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, report_failures
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.core.workers import cpu_threads
from restain.her2.encoders import Stain, make_encoder
from restain.her2.extract import extract, slides_of
from restain.her2.features_file import SUFFIXES
from restain.her2.rewrite import Stated, rewrite
from restain.her2.tiles import TileOptions
from restain.infer.inputs import Input

DEFAULT = "morphometry"


def features(
    inputs: list[Path],
    out: Path,
    encoder: str = DEFAULT,
    stain: Stain = Stain.he,
    mpp: float | None = None,
    options: TileOptions = TileOptions(),  # noqa: B008 (frozen)
    h5: Stated = Stated(),  # noqa: B008 (frozen)
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Cut slides into tiles on tissue and write the features of each tile, one .h5 a slide.

    The files are those that CLAM and TRIDENT write: features [n, d] and coords [n, 2] in level-0 pixels, with the
    um/px, the size of the tiles, the encoder and its version as attributes. The default encoder measures nuclei,
    amounts of stain, texture and architecture and needs no weights; its columns are named. What an earlier call
    finished is skipped. Exit code 1 where a slide failed, named at the end; 2 where none has a um/px.

    Features that CLAM or TRIDENT wrote are taken in place of slides: they are written again with what their files do
    not say (--h5.encoder, --h5.mpp, --h5.tile-px, --h5.tile), so that all other commands read them.

    Args:
        inputs: slides, folders of them, or a cohort's CSV (column he, or ihc with --stain ihc); or .h5 files of other
            programs, or folders of these.
        out: folder of the results.
        encoder: morphometry, clip:FOLDER (CLIP, PLIP or a vision transformer as transformers saves it), or run:RUN
            (the encoder half of a trained stainer).
        stain: he, or ihc, whose features serve `her2 train` as prompts.
        mpp: um/px of level 0, in place of what the slides say.
        options: what a tile is.
        h5: what the .h5 files of other programs do not say.
        workers: processes, a slide each. If not given: as many as there are cores, at most 8; one where the encoder has
            weights, of which each process holds a copy.
        json: print one JSON document with a row for each slide.
    """
    found = slides_of(inputs, stain, mpp)
    if _all_features(found):
        _refuse(
            {
                "encoder": encoder != DEFAULT,
                "mpp": mpp is not None,
                "tile-mpp, --tile-px, --min-tissue": options != TileOptions(),
            }
        )
        outcome = rewrite(found, out, h5)
    else:
        if h5 != Stated():
            raise RestainError("--h5...: says what .h5 files of other programs do not; slides were given.")
        made = make_encoder(encoder, stain)
        outcome = extract(found, out, made, options, workers or (cpu_threads() if made.light else 1))
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


def _all_features(found: Sequence[Input]) -> bool:
    """Whether features files were given in place of slides.

    Raises:
        RestainError: some are, some are not.
    """
    ready = [item.path for item in found if item.path.suffix.lower() in SUFFIXES]
    if ready and len(ready) < len(found):
        slide = next(item.path for item in found if item.path not in ready)
        raise RestainError(f"{ready[0]} holds features, {slide} is a slide; give them in two calls.")
    return bool(ready)


def _refuse(given: dict[str, bool]) -> None:
    for name, there in given.items():
        if there:
            raise RestainError(
                f"--{name}: is for slides; these are features. What their files do not say is given with --h5.encoder, "
                "--h5.mpp (um/px at which tiles were cut), --h5.tile-px and --h5.tile."
            )


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(features, "restain her2 features", argv, positional=("inputs",), flat="options")
