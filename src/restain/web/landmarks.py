"""``/api/landmarks``: point pairs that a person picks on both slides, their fit, their file, and a preview."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field

from restain.core.errors import ItemError
from restain.core.files import write_csv
from restain.registration import Transform, read_landmarks
from restain.registration.landmarks import COLUMNS
from restain.web.cases import header
from restain.web.context import Context
from restain.web.failures import RefusedError
from restain.web.landmark_fit import Points, Side, describe_fit, preview_of, require_inside
from restain.web.library import add_landmarks, library_of
from restain.web.outside import require_small
from restain.web.paths import Root
from restain.web.stamps import stamp
from restain.web.tile_api import Name
from restain.web.transform_json import transform_document

FOLDER = "landmarks"
REGISTERED = "registered"
"""Folder that the command of an answer names, in the served one."""
MOST = 500
"""Pairs of points, at most."""
LARGEST = 2**18
"""Bytes of a CSV of landmarks."""
PREVIEWS = 16
"""Previews that are kept, at most."""
_NAME = re.compile(r"\w[\w .-]{0,79}")

Coordinate = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Pair = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Pairs(BaseModel):
    """Point pairs on two slides: ``x_he, y_he, x_ihc, y_ihc`` in level-0 px."""

    he: str = Field(max_length=4096)
    ihc: str = Field(max_length=4096)
    points: Annotated[list[Pair], Field(max_length=MOST)]


class NamedPairs(Pairs):
    """Point pairs to be saved; ``replace`` allows to write over earlier ones."""

    name: str = Field(max_length=200)
    replace: bool = False


class _Previews:
    """The previews of one server, the latest ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Transform] = OrderedDict()

    def put(self, transform: Transform, slides: str) -> str:
        """Keep a preview; its name stands for these points on these slides and for no others."""
        text = f"{slides} {transform.matrix.tobytes().hex()}"
        name = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        with self._lock:
            self._kept.setdefault(name, transform)
            self._kept.move_to_end(name)
            while len(self._kept) > PREVIEWS:
                self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Transform | None:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)


_previews: WeakKeyDictionary[Root, _Previews] = WeakKeyDictionary()
_lock = threading.Lock()


def preview_transform(context: Context, name: str) -> Transform:
    """The registration behind ``preview:NAME``; the same object until it is pushed out.

    Raises:
        RefusedError: it is no longer kept (410).
    """
    found = _kept(context).get(name)
    if found is None:
        raise RefusedError(410, "This preview is no longer kept. Press the preview button again.")
    return found


def _kept(context: Context) -> _Previews:
    with _lock:
        return _previews.setdefault(context.root, _Previews())


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/api/landmarks")

    @routes.get("")
    def read(path: Name) -> dict[str, Any]:
        file = context.root.resolve(path)
        require_small(file, LARGEST)
        he, ihc = read_landmarks(file)
        rows = np.concatenate([he, ihc], axis=1)[:MOST].tolist()
        return {"points": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}

    @routes.post("/fit")
    def fit_points(given: Pairs) -> dict[str, Any]:
        return describe_fit(*_sides(context, given), given.points)

    @routes.post("/save")
    def save(given: NamedPairs) -> dict[str, Any]:
        he, ihc = _sides(context, given)
        if not given.points:
            raise RefusedError(400, "there are no points to save.")
        require_inside(he, ihc, np.array(given.points, np.float64))
        file = write_points(context.root, given.name, given.points, given.replace)
        name = file.relative_to(context.root.folder).as_posix()
        add_landmarks(context, name)
        return {"path": name, "command": command(context, given, file)}

    @routes.post("/preview")
    def preview(given: Pairs) -> dict[str, Any]:
        points: Points = np.array(given.points, np.float64).reshape(-1, 4)
        transform = preview_of(*_sides(context, given), points)
        slides = " ".join(f"{name} {stamp(context.root.resolve(name))}" for name in (given.he, given.ihc))
        via = f"preview:{_kept(context).put(transform, slides)}"
        return {
            "via": via,
            "registration": {"path": via, "stamp": "", **transform_document(transform), "quality": None},
        }

    return routes


def _sides(context: Context, given: Pairs) -> tuple[Side, Side]:
    """Both slides, with the um/px that a cohort gives or their own.

    Raises:
        RestainError: one cannot be read, or both are one.
    """
    he, ihc = context.root.resolve(given.he), context.root.resolve(given.ihc)
    if he == ihc:
        raise RefusedError(400, "the H&E and the IHC are one file; open two slides.")
    sides = []
    for path, mpp in zip((he, ihc), _given_mpp(context, he, ihc), strict=True):
        with context.pool.open(path) as slide:
            sides.append(Side(path.name, slide.size, mpp or slide.mpp))
    return sides[0], sides[1]


def _given_mpp(context: Context, he: Path, ihc: Path) -> tuple[float | None, float | None]:
    """um/px of both slides as a cohort gives them."""
    known = library_of(context).case_of(he, ihc)
    return (known.he_mpp, known.ihc_mpp) if known else (None, None)


def write_points(root: Root, name: str, points: Sequence[Pair], replace: bool) -> Path:
    """Write point pairs as ``landmarks/NAME.csv`` in the served folder, atomically.

    Args:
        root: the served folder.
        name: of the file, with or without ``.csv``.
        points: ``x_he, y_he, x_ihc, y_ihc`` in level-0 px.
        replace: whether earlier landmarks of this name may go.

    Returns:
        The file.

    Raises:
        RefusedError: the name is none (400); it is taken (409); the folder leads elsewhere or cannot be written (403);
            the disk is full (507). Then nothing has changed.
    """
    title = name.strip().removesuffix(".csv").rstrip(" .")
    if not _NAME.fullmatch(title) or len(title.encode()) > 200:
        raise RefusedError(
            400, "A name has letters, digits, blanks, '-', '_' and '.', begins with a letter or digit, and has at most "
            "80 characters."
        )  # fmt: skip
    folder = root.folder / FOLDER
    file = folder / f"{title}.csv"
    with _lock:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or not root.serves(folder):
            raise RefusedError(
                403, f"'{FOLDER}' in the served folder is no folder of its own; nothing is written there."
            )
        there = os.path.lexists(file)  # which is no error where the folder may not be entered
        if there and (file.is_symlink() or not (file.is_file() and set(COLUMNS) <= header(file))):
            raise RefusedError(409, f"{file.name!r} is there already and holds no landmarks. Choose another name.")
        if there and not replace:
            raise RefusedError(409, f"{file.name!r} is there already. Replace it, or choose another name.")
        try:
            write_csv(
                file,
                COLUMNS,
                ({key: f"{value:.3f}" for key, value in zip(COLUMNS, row, strict=True)} for row in points),
            )
        except ItemError as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else "the served folder cannot be written"
            message = f"The points were not saved: {why}. They are still on this page."
            raise RefusedError(507 if full else 403, message) from error
    return file


def command(context: Context, given: Pairs, landmarks: Path) -> str:
    """The command line that registers two slides with saved landmarks, ready to be pasted into a shell.

    um/px are given where the cohort's differ from what the files say, or the files say nothing.
    """
    he, ihc = context.root.resolve(given.he), context.root.resolve(given.ihc)
    words = ["restain", "register", str(he), str(ihc), "--out", str(_free_folder(context.root, landmarks.stem))]
    words += ["--landmarks", str(landmarks)]
    for path, flag, mpp in zip((he, ihc), ("--he-mpp", "--ihc-mpp"), _given_mpp(context, he, ihc), strict=True):
        with context.pool.open(path) as slide:
            own = slide.mpp
        if mpp is not None and (own is None or abs(own - mpp) > 1e-6 * mpp):
            words += [flag, str(mpp)]
        elif own is None:
            words += [flag, "UM_PER_PX"]
    return shlex.join(words)


def _free_folder(root: Root, name: str) -> Path:
    """A folder for a registration that holds none yet."""
    folder = root.folder / REGISTERED / name
    number = 2
    while os.path.lexists(folder):
        folder = root.folder / REGISTERED / f"{name}-{number}"
        number += 1
    return folder
