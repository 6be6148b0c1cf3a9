"""Scenes of the test folder, without a server: what overlays are asked to draw on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restain.registration import Transform, WarpedSlide
from restain.slides import open_slide
from restain.web import tiles
from restain.web.overlays import OVERLAYS
from restain.web.overlays.base import Frame, Registered, Scene, Source, Tile
from restain.web.overlays.kept import Kept

RGBA = NDArray[np.uint8]
SHARED = Kept()
"""Of all scenes of these tests: nuclei take long to find."""


@contextmanager
def scene_of(
    path: Path,
    registration: Path | None = None,
    part: Frame = Frame.own,
    via: bool = False,
    source: Source | None = None,
    kept: Kept = SHARED,
) -> Iterator[Scene]:
    """A slide on its own px, or (``via``) an H&E on those of its IHC."""
    transform = None if registration is None else Transform.load(registration)
    registered = None if transform is None else Registered(transform, "t", registration.parent.name)
    with open_slide(path) as slide:
        if not via:
            coarsest = tiles.coarsest_z(slide)
            yield Scene(
                slide, "s", slide.size, slide.mpp, part, part, slide.read_reduced, coarsest, kept, registered, source
            )
            return
        assert transform is not None
        warped = WarpedSlide(slide, transform)

        def read(x: float, y: float, width: int, height: int, step: float) -> RGBA:
            return warped.read(x, y, width, height, step * transform.ihc_mpp)[0]

        yield Scene(
            slide, "s", transform.ihc_size, transform.ihc_mpp, Frame.ihc, Frame.he, read, 2, kept, registered, source
        )


def drawn(kind: str, scene: Scene, z: int = 0) -> RGBA:
    """An overlay over the whole of a scene, from its tiles; empty ones are transparent."""
    width, height = (-(-side >> z) for side in scene.size)
    out = np.zeros((height, width, 4), np.uint8)
    for y in range(-(-height // 256)):
        for x in range(-(-width // 256)):
            box = tiles.box(scene.size, z, x, y)
            picture = OVERLAYS[kind].render(scene, Tile(z, x, y, box.width, box.height))
            if picture is not None:
                assert picture.shape == (box.height, box.width, 4)
                assert picture.dtype == np.uint8
                out[y * 256 : y * 256 + box.height, x * 256 : x * 256 + box.width] = picture
    return out


def at(picture: RGBA, points: NDArray[np.float64], z: int = 0) -> tuple[RGBA, NDArray[np.bool_]]:
    """The px in which level-0 points [n, 2] lie, [n, 4], and which points lie on the picture, [n]."""
    place = np.floor(points / 2**z).astype(np.int64)
    inside = ((place >= 0) & (place < (picture.shape[1], picture.shape[0]))).all(axis=1)
    place = np.where(inside[:, None], place, 0)
    return picture[place[:, 1], place[:, 0]], inside
