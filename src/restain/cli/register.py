"""``restain register``: align an H&E slide to its IHC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.core.errors import RestainError
from restain.core.progress import console
from restain.registration import RegisterOptions, Registration
from restain.registration import register as register_pair

FIGURES = {
    "mutual_information": "mutual information (nats)",
    "haematoxylin_ncc": "haematoxylin NCC",
    "nuclei_density_ncc": "nuclei density NCC",
    "tissue_dice": "tissue Dice",
}


def register(
    he: Path,
    ihc: Path,
    out: Path,
    mpp: float | None = None,
    he_mpp: float | None = None,
    ihc_mpp: float | None = None,
    landmarks: Path | None = None,
    options: RegisterOptions = RegisterOptions(),  # noqa: B008 (frozen)
    json: bool = False,
) -> int:
    """Align an H&E slide to the IHC slide of a neighbouring section, and write it on the IHC's grid.

    Needs no hands where the sections show enough alike, however they are turned or mirrored; where nothing stands out
    it says so, and four or more point pairs help. Writes he_registered.ome.tif, filled.ome.tif, transform.json,
    quality.json and overlay.png. Exit code 1 where the registration was rejected. The same command goes on from where
    it was interrupted.

    Args:
        he: the H&E slide (moving).
        ihc: the IHC slide (fixed).
        out: folder of the results.
        mpp: um/px of both slides, in place of what the files say.
        he_mpp: um/px of the H&E alone.
        ihc_mpp: um/px of the IHC alone.
        landmarks: point pairs picked by hand, CSV with x_he, y_he, x_ihc, y_ihc in level-0 px, or JSON.
        options: how to register.
        json: print quality.json.
    """
    if mpp is not None and (he_mpp is not None or ihc_mpp is not None):
        raise RestainError("give --mpp for both slides, or --he-mpp and --ihc-mpp, not both ways.")
    found = register_pair(
        he, ihc, out, mpp if he_mpp is None else he_mpp, mpp if ihc_mpp is None else ihc_mpp, landmarks, options
    )
    if json:
        print_json(found.quality)
    else:
        _show(found)
    return found.exit_code


def _show(found: Registration) -> None:
    quality = found.quality
    rows = [
        [stage, *(_number(figures.get(figure)) for figure in FIGURES), "not kept" if "rejected" in figures else ""]
        for stage, figures in quality["stages"].items()
    ]
    print_table("How well the H&E lies on the IHC", ["after stage", *FIGURES.values(), ""], rows)
    fold = quality["folding"]
    print(f"local area change: {fold['least']:.2f} to {fold['most']:.2f} times; folded: {fold['share']:.1%}")
    if "confidence" in quality:
        print(f"confidence of the projective step: {quality['confidence']:.2f} ({quality['projective']['source']})")
    print("seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in quality["seconds"].items()))
    message = f"{found.status}: {found.reason}" if found.reason else found.status
    console.print(f"{message}\nLook at {found.folder / 'overlay.png'}", markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(register, "restain register", argv, positional=("he", "ihc"), flat="options")
