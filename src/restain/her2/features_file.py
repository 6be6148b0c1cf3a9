"""Features of a slide's tiles as ``.h5``, the way CLAM and TRIDENT write them; theirs are read too.

Datasets ``features`` float32 [n, d] and ``coords`` int64 [n, 2], (x, y) of each tile's upper left corner in level-0
pixels. ``coords`` carries TRIDENT's attributes (``patch_size``, ``patch_size_level0``, ``level0_magnification``,
``target_magnification``, ``overlap``, ``name``) and CLAM's (``patch_level``, ``downsample``); the root and ``features``
carry ours: ``mpp``, ``tile_px``, ``encoder``, ``encoder_version``, ``names``, ``slide``. What we write has checksums:
a damaged file is refused.
"""

from __future__ import annotations

import zlib
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

FARTHEST = 1e9
"""Level-0 px: no slide is as wide; coordinates beyond are damage."""

UNSAID = "unknown"
"""The encoder of features whose file does not name it."""

SUFFIXES = (".h5", ".hdf5")

_FORMAT = ("v108", "v108")
"""Of HDF5 1.8 (2008): its headers, which hold attributes that are numbers, have checksums."""


@dataclass(frozen=True)
class FeatureSet:
    """The features of one slide's tiles.

    Attributes:
        features: float32 [n, d], finite.
        coords: int64 [n, 2]: (x, y) of each tile's upper left corner in level-0 px.
        tile_level0: side of a tile in level-0 px.
        mpp: um/px at which tiles were cut.
        encoder: its name; ``UNSAID`` where the file does not say.
        encoder_version: another one where the same tile gets other features; empty where the file does not say.
        names: of the columns; None where they have none.
        slide: the slide's name.
        tile_px: side of a tile in px at ``mpp``; 0 where the file does not say.
        min_tissue: least share of a tile that is tissue; None where the file does not say.
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
    min_tissue: float | None = None

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
    min_tissue: float | None = None


@contextmanager
def writing(path: Path, info: FileInfo, tiles: int) -> Iterator[FeatureWriter]:
    """A writer of the features of ``tiles`` tiles, in parts; the file is there when all are in, and whole.

    Raises:
        ItemError: fewer were given, or the disk is full.
    """
    with atomic_path(path) as temporary:
        try:
            with h5py.File(temporary, "w", libver=_FORMAT) as file:
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
            shape, chunks = (self._tiles, self.width), (rows, self.width)
            self._file.create_dataset("features", shape, np.float32, chunks=chunks, fletcher32=True)
            chunks = (min(self._tiles, _ROWS), 2)
            self._file.create_dataset("coords", (self._tiles, 2), np.int64, chunks=chunks, fletcher32=True)
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
        if info.min_tissue is not None:
            ours["min_tissue"] = info.min_tissue
        ours["text_crc32"] = _crc(ours)
        self._file.attrs.update(ours)
        self._file["features"].attrs.update(ours)
        if info.names:  # a dataset: an attribute holds 64 KiB at most; of fixed length: others have no checksum
            text = [name.encode() for name in info.names]
            kind = h5py.string_dtype(length=max(1, *map(len, text)))
            self._file.create_dataset("names", data=np.array(text, kind), chunks=(len(text),), fletcher32=True)


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
        found.min_tissue,
    )
    with writing(path, info, len(found)) as writer:
        if len(found):
            writer.append(found.features, found.coords)


def read_features(
    path: Path,
    mpp: float | None = None,
    tile: float | None = None,
    tile_px: int | None = None,
    encoder: str | None = None,
) -> FeatureSet:
    """The features in a file of ours, CLAM's or TRIDENT's.

    TRIDENT gives its resolution as a magnification, 20x for 0.5 um/px. CLAM's coordinates say the tile's side where
    they come with its patches' attributes; its um/px is not in the file.

    Args:
        path: the ``.h5``.
        mpp: um/px at which tiles were cut, in place of what the file says.
        tile: side of a tile in level-0 px, in place of what the file says.
        tile_px: side of a tile in px at ``mpp``, in place of what the file says.
        encoder: that made it, where the file does not say.

    Raises:
        ItemError: not such a file, damaged, empty, or with features that are NaN.
        RestainError: it does not say its um/px or the side of its tiles, and neither is given.
    """
    try:
        with h5py.File(path, "r") as file:
            features, coords = _arrays(path, file)
            said = _attributes(file)
            names = _names(path, file, features.shape[1])
    except FileNotFoundError as error:
        raise ItemError(f"{path}: no such file. `restain her2 features` writes one a slide.") from error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        brief = " ".join(str(error).split())[:200]
        raise ItemError(f"{path}: not a readable .h5 of features, or damaged ({brief}). Write it again.") from error
    if "text_crc32" in said and _number(said["text_crc32"]) != _crc(said):
        raise ItemError(f"{path}: its texts (encoder, version, slide) are damaged or were changed. Write it again.")
    px = tile_px or _number(said.get("tile_px", said.get("patch_size")))
    side = tile if tile is not None else _side(said, px)
    cut = mpp if mpp is not None else _mpp(said)
    made_by = _text(said.get("encoder")).replace(UNSAID, "") or encoder
    if side is None or cut is None:
        known = {"--h5.tile": side, "--h5.mpp": cut, "--h5.tile-px": px, "--h5.encoder": made_by}
        raise RestainError(not_said(path, [option for option, value in known.items() if value is None]))
    for value, least, most, what, option in (
        (side, 1, 1e6, "side of a tile in level-0 px", "--h5.tile"),
        (cut, 0.01, 1000, "um/px", "--h5.mpp"),
        (1 if px is None else px, 1, 1e6, "side of a tile in px", "--h5.tile-px"),
    ):
        if not least <= value <= most:
            raise RestainError(f"{path}: {value:g} is no {what}. {_rewritten(path, [option])}")
    version, slide = _text(said.get("encoder_version")), _text(said.get("slide")) or _text(said.get("name"))
    slide, least_tissue = slide or path.stem, _number(said.get("min_tissue"))
    return FeatureSet(
        features, coords, side, cut, made_by or UNSAID, version, names, slide, round(px or 0), least_tissue
    )


def said_in(path: Path) -> dict[str, Any]:
    """What a file that ``read_features`` can read says by itself: encoder, version, mpp, tile_px, tile; else None."""
    with h5py.File(path, "r") as file:
        said = _attributes(file)
    px = _number(said.get("tile_px", said.get("patch_size")))
    return {
        "encoder": _text(said.get("encoder")).replace(UNSAID, "") or None,
        "version": _text(said.get("encoder_version")) or None,
        "mpp": _mpp(said),
        "tile_px": px,
        "tile": _side(said, px),
    }


_WORDS = {
    "--h5.tile": ("how large its tiles are in level-0 px", "PX"),
    "--h5.mpp": ("the um/px at which tiles were cut", "UM_PER_PX"),
    "--h5.tile-px": ("the side of a tile in px at that um/px", "PX"),
    "--h5.encoder": ("which encoder made it", "NAME"),
}
"""What a file may not say, and what is given for it, by option of ``restain her2 features``."""


def not_said(path: Path, options: Sequence[str]) -> str:
    """A message: what a file does not say, and the command that writes it again with what the user says.

    Args:
        path: the file.
        options: of ``restain her2 features`` that give it.
    """
    *first, last = (_WORDS[option][0] for option in options)
    what = f"{', '.join(first)} and {last}" if first else last
    return f"{path}: does not say {what}. {_rewritten(path, options)}"


def _rewritten(path: Path, options: Sequence[str]) -> str:
    words = " ".join(f"{option} {_WORDS[option][1]}" for option in options)
    return (
        f"Nothing is guessed: `restain her2 features {path} --out FOLDER {words}` writes it again with what you say; "
        "use that folder."
    )


def _arrays(path: Path, file: h5py.File) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    missing = [name for name in ("features", "coords") if name not in file]
    if missing:
        raise ItemError(
            f"{path}: has no {' and no '.join(missing)}; it has {', '.join(file) or 'nothing'}. Give features as CLAM "
            "or TRIDENT write them."
        )
    stored, places = file["features"], file["coords"]
    for name, array in (("features", stored), ("coords", places)):
        if not isinstance(array, h5py.Dataset) or array.shape is None or array.dtype.kind not in "iuf":
            raise ItemError(f"{path}: {name} is no array of real numbers. Give features as CLAM or TRIDENT write them.")
    shape = stored.shape[1:] if len(stored.shape) == 3 and stored.shape[0] == 1 else stored.shape
    if len(shape) != 2 or shape[1] == 0 or places.shape != (shape[0], 2):
        raise ItemError(
            f"{path}: features {list(stored.shape)} and coords {list(places.shape)} are not [n, d] and [n, 2]."
        )
    if shape[0] == 0:
        raise ItemError(f"{path}: has no tiles. Write it again with a lower --min-tissue, or leave the slide out.")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
        features = np.asarray(stored[()], np.float32).reshape(shape)
    for start in range(0, len(features), _ROWS):
        bad = ~np.isfinite(features[start : start + _ROWS]).all(axis=1)
        if bad.any():
            raise ItemError(
                f"{path}: row {start + int(bad.argmax())} has features that are no numbers (NaN or infinite). Write "
                "the features again."
            )
    coords = places[()]
    lost = ~(np.abs(coords.astype(np.float64)) < FARTHEST).all(axis=1)  # NaN compares as false
    if lost.any():
        row = int(lost.argmax())
        raise ItemError(f"{path}: coords of row {row} are {coords[row].tolist()}, no place on a slide. Write it again.")
    return features, np.rint(coords).astype(np.int64)


def _attributes(file: h5py.File) -> dict[str, Any]:
    """All attributes; those of the root count most, then those of coords."""
    found: dict[str, Any] = {}
    for holder in (file["features"], file["coords"], file):
        found |= dict(holder.attrs)
    return found


def _crc(said: dict[str, Any]) -> int:
    """A checksum of the attributes that are texts: HDF5 keeps these, unlike all else, where it has none of its own."""
    return zlib.crc32("\n".join(_text(said.get(name)) for name in ("encoder", "encoder_version", "slide")).encode())


def _names(path: Path, file: h5py.File, width: int) -> tuple[str, ...] | None:
    if "names" not in file:
        return None
    stored = file["names"]
    if not isinstance(stored, h5py.Dataset) or stored.shape is None or h5py.check_string_dtype(stored.dtype) is None:
        raise ItemError(f"{path}: names are no texts. Write it again.")
    if stored.shape != (width,):
        raise ItemError(f"{path}: names {list(stored.shape)} for {width} columns. Write it again.")
    return tuple(stored.asstr()[()].tolist())


def _side(said: dict[str, Any], px: float | None) -> float | None:
    """Side of a tile in level-0 px."""
    side = _number(said.get("patch_size_level0"))
    downsample = _number(said.get("downsample"))
    if side is None and px is not None and downsample is not None:
        side = px * downsample
    if side is None and _number(said.get("patch_level")) == 0:
        side = px
    return side


def _mpp(said: dict[str, Any]) -> float | None:
    """um/px at which tiles were cut."""
    magnification = _number(said.get("target_magnification"))
    value = _number(said.get("mpp"))
    return MICRONS / magnification if value is None and magnification else value


def _number(value: Any) -> float | None:
    """The number that an attribute holds, alone or first in a list; None for all else."""
    try:
        number = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _text(value: Any) -> str:
    """The text that an attribute holds; empty for all else."""
    first = np.ravel(value)[0] if isinstance(value, np.ndarray) and value.size else value
    if isinstance(first, bytes):
        return first.decode(errors="replace").strip()
    return first.strip() if isinstance(first, str) else ""
