"""``restain info SLIDE``: what reads a slide, its sizes, um/px and tissue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.data import slide_quality
from restain.slides import open_slide, slide_info


def info(slide: Path, mpp: float | None = None, qc: bool = False, json: bool = False) -> int:
    """Tell what a slide or image is: reader, size, um/px, levels, tissue.

    Args:
        slide: any file that OpenSlide reads, OME-TIFF, TIFF, PNG or JPEG.
        mpp: um/px to take in place of what the file says.
        qc: also look for folds, bubbles, pen and places out of focus (seconds on a whole slide).
        json: print one JSON document.
    """
    with open_slide(slide, mpp) as opened:
        facts = slide_info(opened)
        quality = slide_quality(opened) if qc else None
    if json:
        print_json(facts.to_dict() | ({} if quality is None else {"quality": quality.to_json()}))
        return 0
    width, height = facts.size
    print(f"{facts.path}")
    print(f"read by: {facts.reader}")
    print(f"size: {width} x {height} px")
    print("um/px: unknown" if facts.mpp is None else f"um/px: {facts.mpp:.6g}")
    if facts.mpp is None and facts.mpp_xy is not None:
        print(f"um/px along x and y: {facts.mpp_xy[0]:.6g}, {facts.mpp_xy[1]:.6g} (not square: give one with --mpp)")
    if facts.mpp is not None:
        print(f"extent: {width * facts.mpp / 1000:.2f} x {height * facts.mpp / 1000:.2f} mm")
    if facts.offset != (0, 0):
        print(f"offset on the scanner's plane: {facts.offset[0]}, {facts.offset[1]} px (coordinates begin there)")
    for number, (level_width, level_height) in enumerate(facts.levels):
        print(f"level {number}: {level_width} x {level_height} px, 1 / {width / level_width:.4g}")
    area = "" if facts.tissue_area_um2 is None else f", {facts.tissue_area_um2 / 1e6:.2f} mm2"
    print(f"tissue: {facts.tissue_share:.1%} of the slide{area}")
    print(f"glass: RGB {', '.join(map(str, facts.white))}")
    if quality is not None:
        for kind, share in quality.shares.items():
            print(f"{_WORDS[kind]}: {share:.1%} of the {'slide' if kind == 'pen' else 'tissue'}")
        for kind, reason in quality.unjudged.items():
            print(f"{_WORDS[kind]}: not judged, {reason}")
    return 0


_WORDS = {"pen": "pen", "fold": "folds", "bubble": "rims of bubbles", "blur": "out of focus"}


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(info, "restain info", argv, positional=("slide",))
