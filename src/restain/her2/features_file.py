"""Features of a slide's tiles as ``.h5``, the way CLAM and TRIDENT write them; theirs are read too.

Datasets ``features`` float32 [n, d] and ``coords`` int64 [n, 2], (x, y) of each tile's upper left corner in level-0
pixels. ``coords`` carries TRIDENT's attributes (``patch_size``, ``patch_size_level0``, ``level0_magnification``,
``target_magnification``, ``overlap``, ``name``) and CLAM's (``patch_level``, ``downsample``); the root and ``features``
carry ours: ``mpp``, ``tile_px``, ``encoder``, ``encoder_version``, ``names``, ``slide``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import ItemError, RestainError
from restain.core.files import atomic_path

MICRONS = 10.0
"""um/px times magnification, as scanners' makers and TRIDENT have it: 20x is 0.5 um/px."""

_ROWS = 8192
"""Rows that are looked through at a time."""

_SAME_MPP = 0.02


@dataclass(frozen=True)
class FeatureSet:
    """The features of one slide's tiles.

    Attributes:
        features: float32 [n, d], finite.
        coords: int64 [n, 2]: (x, y) of each tile's upper left corner in level-0 px.
        tile_level0: side of a tile in level-0 px.
        mpp: um/px at which tiles were cut.
        encoder: its name.
        encoder_version: another one where the same tile gets other features; empty where the file does not say.
        names: of the columns; None where they have none.
        slide: the slide's name.
        tile_px: side of a tile in px at ``mpp``.
    """

    features: NDArray[np.float32]
    coords: NDArray[np.int64]
    tile_level0: float
    mpp: float
    encoder: str
    encoder_version: str = ""
    names: tuple[str, ...] | None = None
    slide: str = ""
    tile_px: int = 256

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.features.shape[1])

    @property
    def level0_mpp(self) -> float:
        """um/px of the slide."""
        return self.mpp * self.tile_px / self.tile_level0


@dataclass(frozen=True)
class FileInfo:
    """What a file says beside its features; see ``FeatureSet``."""

    tile_level0: float
    mpp: float
    encoder: str
    encoder_version: str
    names: tuple[str, ...] | None
    slide: str
    tile_px: int


@contextmanager
def writing(path: Path, info: FileInfo, tiles: int) -> Iterator[FeatureWriter]:
    """A writer of the features of ``tiles`` tiles, in parts; the file is there when all are in, and whole.

    Raises:
        ItemError: fewer were given, or the disk is full.
    """
    with atomic_path(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                writer = FeatureWriter(file, path, tiles)
                yield writer
                writer.finish(info)
        except OSError as error:
            raise ItemError(f"{path}: could not be written ({error}). Free space or choose another folder.") from error


class FeatureWriter:
    """Appends to an open file; see ``writing``."""

    def __init__(self, file: h5py.File, path: Path, tiles: int) -> None:
        self._file, self._path, self._tiles, self._done = file, path, tiles, 0
        self.width = 0

    def append(self, features: NDArray[np.float32], coords: NDArray[np.int64]) -> None:
        """The next rows: float32 [k, d], finite, and int64 [k, 2].

        Raises:
            ItemError: a feature is not a finite number.
            ValueError: shapes do not fit.
        """
        if not np.isfinite(features).all():
            x, y = coords[int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])]
            raise ItemError(f"{self._path}: the encoder gave numbers that are none (NaN) for the tile at {x}, {y}.")
        if self._done == 0:
            self.width = features.shape[1]
            rows = max(1, min(self._tiles, 2**18 // max(1, self.width)))
            self._file.create_dataset("features", (self._tiles, self.width), np.float32, chunks=(rows, self.width))
            self._file.create_dataset("coords", (self._tiles, 2), np.int64)
        place = slice(self._done, self._done + len(features))
        self._file["features"][place], self._file["coords"][place] = features, coords
        self._done += len(features)

    def finish(self, info: FileInfo) -> None:
        """Write the attributes.

        Raises:
            ItemError: rows are missing.
        """
        if self._done != self._tiles or self._done == 0:
            raise ItemError(f"{self._path}: {self._done} of {self._tiles} tiles have features.")
        magnification = round(MICRONS / (info.mpp * info.tile_px / info.tile_level0), 2)
        self._file["coords"].attrs.update(
            patch_size=info.tile_px,
            patch_size_level0=info.tile_level0,
            patch_level=0,
            downsample=np.full(2, info.tile_level0 / info.tile_px),
            level0_magnification=magnification,
            target_magnification=round(MICRONS / info.mpp, 2),
            overlap=0,
            name=info.slide,
        )
        ours: dict[str, Any] = {
            "mpp": info.mpp,
            "tile_px": info.tile_px,
            "encoder": info.encoder,
            "encoder_version": info.encoder_version,
            "slide": info.slide,
            "name": info.slide,
        }
        self._file.attrs.update(ours)
        self._file["features"].attrs.update(ours)
        if info.names is not None:  # a dataset: an attribute holds 64 KiB at most
            self._file.create_dataset("names", data=list(info.names), dtype=h5py.string_dtype())


def write_features(path: Path, found: FeatureSet) -> None:
    """Write a feature set, atomically.

    Raises:
        ItemError: there are no tiles, a feature is NaN, or the disk is full.
        ValueError: features and coords do not fit together, or names and width.
    """
    if found.features.ndim != 2 or found.coords.shape != (len(found.features), 2):
        raise ValueError(f"features {found.features.shape} and coords {found.coords.shape} do not fit together")
    if found.names is not None and len(found.names) != found.width:
        raise ValueError(f"{len(found.names)} names for {found.width} columns")
    info = FileInfo(
        found.tile_level0,
        found.mpp,
        found.encoder,
        found.encoder_version,
        found.names,
        found.slide,
        found.tile_px,
    )
    with writing(path, info, len(found)) as writer:
        if len(found):
            writer.append(found.features, found.coords)


def read_features(path: Path, mpp: float | None = None, tile: float | None = None) -> FeatureSet:
    """The features in a file of ours, CLAM's or TRIDENT's.

    TRIDENT gives its resolution as a magnification, 20x for 0.5 um/px. CLAM's coordinates say the tile's side where
    they come with its patches' attributes; its um/px is not in the file.

    Args:
        path: the ``.h5``.
        mpp: um/px at which tiles were cut, in place of what the file says.
        tile: side of a tile in level-0 px, in place of what the file says.

    Raises:
        ItemError: not such a file, damaged, empty, or with features that are NaN.
        RestainError: it does not say its um/px or the side of its tiles, and neither is given.
    """
    try:
        with h5py.File(path, "r") as file:
            features, coords = _arrays(path, file)
            said = _attributes(file)
            names = _names(file)
    except FileNotFoundError as error:
        raise ItemError(f"{path}: no such file. `restain her2 features` writes one a slide.") from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        brief = " ".join(str(error).split())[:200]
        raise ItemError(f"{path}: not a readable .h5 of features ({brief}). Write it again.") from error
    if names is not None and len(names) != features.shape[1]:
        raise ItemError(f"{path}: {len(names)} names for {features.shape[1]} columns. Write it again.")
    tile_px, tile_level0 = _tile(path, said, tile)
    return FeatureSet(
        features,
        coords,
        tile_level0,
        _mpp(path, said, mpp),
        str(said.get("encoder", "unknown")),
        str(said.get("encoder_version", "")),
        names,
        str(said.get("slide", said.get("name", path.stem))),
        tile_px or 256,
    )


def check_same_encoder(sets: Sequence[FeatureSet]) -> None:
    """Refuse to join what does not belong together.

    Raises:
        RestainError: slides whose features are of different encoders, versions, widths, columns, um/px or sizes of
            tiles; it names one slide of each kind.
    """
    if not sets:
        return
    first = sets[0]
    for other in sets[1:]:
        for what, one, two in (
            ("encoder", _titled(first), _titled(other)),
            ("number of columns", first.width, other.width),
            ("um/px", first.mpp, other.mpp),
            ("tile, um", first.mpp * first.tile_px, other.mpp * other.tile_px),
        ):
            same = one == two
            if isinstance(one, float) and isinstance(two, float):
                same = abs(one / two - 1) <= _SAME_MPP
            if not same:
                raise RestainError(
                    f"features that do not go together: {what} is {one} for {first.slide} and {two} for {other.slide}. "
                    "Write the features of all slides with the same encoder and tiles."
                )
        if first.names != other.names:
            raise RestainError(
                f"features that do not go together: {first.slide} and {other.slide} have columns of different names. "
                "Write the features of all slides with the same encoder (and the same --stain)."
            )


def _titled(found: FeatureSet) -> str:
    return f"{found.encoder} {found.encoder_version}".strip()


def _arrays(path: Path, file: h5py.File) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    missing = [name for name in ("features", "coords") if name not in file]
    if missing:
        raise ItemError(
            f"{path}: has no {' and no '.join(missing)}; it has {', '.join(file) or 'nothing'}. Give features as CLAM "
            "or TRIDENT write them."
        )
    stored, places = file["features"], file["coords"]
    shape = stored.shape[1:] if len(stored.shape) == 3 and stored.shape[0] == 1 else stored.shape
    if len(shape) != 2 or shape[1] == 0 or places.shape != (shape[0], 2):
        raise ItemError(
            f"{path}: features {list(stored.shape)} and coords {list(places.shape)} are not [n, d] and [n, 2]."
        )
    if shape[0] == 0:
        raise ItemError(f"{path}: has no tiles. Write it again with a lower --min-tissue, or leave the slide out.")
    features = np.asarray(stored[()], np.float32).reshape(shape)
    for start in range(0, len(features), _ROWS):
        bad = ~np.isfinite(features[start : start + _ROWS]).all(axis=1)
        if bad.any():
            raise ItemError(
                f"{path}: row {start + int(bad.argmax())} has features that are no numbers (NaN or infinite). Write "
                "the features again."
            )
    return features, np.asarray(places[()], np.int64)


def _attributes(file: h5py.File) -> dict[str, Any]:
    """All attributes; those of the root count most, then those of coords."""
    found: dict[str, Any] = {}
    for holder in (file["features"], file["coords"], file):
        found |= {key: value.decode() if isinstance(value, bytes) else value for key, value in holder.attrs.items()}
    return found


def _names(file: h5py.File) -> tuple[str, ...] | None:
    return tuple(name.decode() for name in file["names"][()]) if "names" in file else None


def _tile(path: Path, said: dict[str, Any], given: float | None) -> tuple[int | None, float]:
    """Side of a tile in its own px (None where unknown) and in level-0 px."""
    px = _number(said.get("tile_px", said.get("patch_size")))
    side = given if given is not None else _number(said.get("patch_size_level0"))
    if side is None and px is not None and _number(said.get("downsample")) is not None:
        side = px * float(np.ravel(said["downsample"])[0])
    if side is None and px is not None and said.get("patch_level") is not None and int(said["patch_level"]) == 0:
        side = px
    if side is None:
        raise RestainError(f"{path}: does not say how large its tiles are. Give their side in level-0 px with --tile.")
    if not 0 < side < 1e6:
        raise RestainError(f"{path}: {side:g} is no side of a tile in px. Give it with --tile.")
    return None if px is None else round(px), side


def _mpp(path: Path, said: dict[str, Any], given: float | None) -> float:
    """um/px at which tiles were cut."""
    magnification = _number(said.get("target_magnification"))
    value = given if given is not None else _number(said.get("mpp"))
    if value is None and magnification:
        value = MICRONS / magnification
    if value is None:
        raise RestainError(f"{path}: does not say the um/px at which its tiles were cut. Give it with --mpp.")
    if not 0.01 <= value <= 1000:
        raise RestainError(f"{path}: {value:g} is no um/px. Give it with --mpp.")
    return value


def _number(value: Any) -> float | None:
    try:
        number = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None
