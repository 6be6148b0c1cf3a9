"""``restain warp``: points and shapes from the IHC to the H&E, or back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restain.cli.output import print_json
from restain.cli.parsing import call
from restain.core.errors import ItemError, RestainError
from restain.core.progress import console
from restain.registration.shapes import warp_geojson, warp_points_csv
from restain.registration.transform import Transform


def warp(transform: Path, points: Path, out: Path, inverse: bool = False, json: bool = False) -> int:
    """Carry points or shapes of a registered IHC slide over to its H&E slide, or back.

    A CSV keeps its rows, their order and other columns; x and y (level-0 px) are replaced. GeoJSON, as QuPath exports
    it, keeps names, classes and measurements. Points outside the slide are carried over too, and counted.

    Args:
        transform: transform.json of `restain register`, or the folder that it lies in.
        points: a CSV with columns x and y, or a GeoJSON, in level-0 px of the IHC.
        out: the file to write, in level-0 px of the H&E.
        inverse: from the H&E to the IHC instead.
        json: print one JSON document with the number of points and of those outside.
    """
    if transform.is_dir():
        transform = transform / "transform.json"
    if out.exists() and any(path.exists() and out.samefile(path) for path in (points, transform)):
        raise RestainError(f"{out}: is one of the files read; choose another --out.")
    shapes = _is_json(points)
    wrong, kind, right = ((".csv",), "GeoJSON", "*.geojson") if shapes else ((".json", ".geojson"), "a CSV", "*.csv")
    if out.suffix.lower() in wrong:
        raise RestainError(f"{out}: {points} is {kind}, and so is what becomes of it; name it {right}.")
    loaded = Transform.load(transform)
    moved = (warp_geojson if shapes else warp_points_csv)(loaded, points, out, inverse)
    fixed, moving = ("IHC", loaded.ihc_size), ("H&E", loaded.he_size)
    (stain, size), (other, other_size) = (moving, fixed) if inverse else (fixed, moving)
    if moved.outside:
        console.print(
            f"warning: {moved.outside} of {moved.points} points lie outside the {stain} slide of {size[0]} x {size[1]} "
            "px; their places are extrapolated.",
            soft_wrap=True,
        )
    if moved.beyond:
        console.print(
            f"{moved.beyond} of {moved.points} points come to lie outside the {other} slide of {other_size[0]} x "
            f"{other_size[1]} px.",
            soft_wrap=True,
        )
    console.print(f"{moved.points} points on the {other} slide: {out}", markup=False, soft_wrap=True)
    if json:
        print_json({"out": str(out), "points": moved.points, "outside": moved.outside, "beyond": moved.beyond})
    return 0


def _is_json(path: Path) -> bool:
    """Whether a file holds JSON: by its content, because QuPath's .geojson is often renamed to .json or .txt.

    Raises:
        ItemError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            return stream.read(4096).lstrip().startswith(("{", "["))
    except OSError as error:
        raise ItemError(f"{path}: cannot be read ({error.strerror or error}).") from error


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(warp, "restain warp", argv, positional=("transform", "points"))
