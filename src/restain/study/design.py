"""A new study: pairs drawn, images copied without a trace of where they come from, codes made."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from sqlmodel import SQLModel

from restain import __version__
from restain.core.errors import RestainError
from restain.core.files import write_error
from restain.core.progress import progress_bar
from restain.data.levels import sorted_levels
from restain.evaluate.folders import FAKE, RealImage, named_files, printable, real_folder
from restain.evaluate.pairing import lone_names, some, some_in_common
from restain.slides import read_image
from restain.study.codes import hashed, new_code, new_identity, new_name
from restain.study.database import FILE, create
from restain.study.draw import draw_pairs, order_seed, reading_order
from restain.study.measures import ALL
from restain.study.store import IMAGES
from restain.study.tables import Image, Item, Pair, Reader, Study

LEVELS = ("0", "1+", "2+", "3+")
"""HER2 by immunohistochemistry: what readers give where nothing else is said."""
CODES = "codes.csv"
MOST_PIXELS = 25_000_000
"""Of an image. They are sent uncompressed: see ``write_blinded``."""
MOST_READERS, LONGEST_NAME = 20, 40
LARGEST_SEED = 2**63 - 1
"""What SQLite stores as a number."""
SAME_TIME = 946_684_800
"""Of all image files: the year 2000."""


@dataclass(frozen=True)
class Design:
    """What a study is to be.

    Attributes:
        real: folder of the real images, or a patch-pair dataset.
        fake: folder of the generated images.
        out: folder of the study; must not exist, or be empty.
        pairs: how many are drawn.
        readers: their names.
        seed: of the draw and of the orders.
        title: that readers see.
        levels: what an image can be graded as, in order.
        asks_origin: whether readers say if an image is real or generated.
        split: of a dataset.
        table: a ``pairs.csv`` with levels and patients.
    """

    real: Path
    fake: Path
    out: Path
    pairs: int = 40
    readers: tuple[str, ...] = ("reader1", "reader2")
    seed: int = 0
    title: str = "HER2 reading"
    levels: tuple[str, ...] = LEVELS
    asks_origin: bool = True
    split: str = "test"
    table: Path | None = None


@dataclass(frozen=True)
class Made:
    """A new study.

    Attributes:
        id: stands in the address.
        codes: of each reader; nowhere else but in ``codes.csv``.
        drawn: pairs of each level; empty where levels are unknown.
        notes: what the organiser should know of it.
    """

    id: str
    codes: Mapping[str, str]
    drawn: Mapping[str, int]
    notes: Sequence[str]


@dataclass(frozen=True)
class _Blinded:
    """An image of the study: the name of its file, of which pair it is, and digests of file and pixels."""

    name: str
    pair: int
    real: bool
    sha256: str
    pixels: str


def new_study(design: Design) -> Made:
    """Make a study. It gets its name when it is whole; a killed call leaves a hidden folder that the next one removes.

    Raises:
        RestainError: the design cannot be met: too few pairs, no names in common, levels that readers cannot give,
            a pair whose images differ in size, a folder that is not empty.
        ItemError: an image cannot be read, or the disk is full.
    """
    _check(design)
    candidates, files, notes = _candidates(design)
    random = np.random.default_rng(design.seed)
    chosen = [candidates[index] for index in draw_pairs([one.level for one in candidates], design.pairs, random)]
    drawn = Counter(one.level for one in chosen if one.level is not None)
    notes += _unbalanced(drawn, [one.level for one in candidates], design.levels)
    salt, identity = secrets.token_bytes(16), new_identity()
    codes = {reader: new_code() for reader in design.readers}
    with _new_folder(design.out) as folder:
        blinded, more = _copy_images(chosen, files, folder / IMAGES)
        study = Study(
            id=identity,
            title=design.title,
            levels=json.dumps(design.levels),
            asks_origin=design.asks_origin,
            salt=salt.hex(),
            seed=design.seed,
            real=printable(str(design.real)),
            fake=printable(str(design.fake)),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            restain=__version__,
        )
        hashes = {reader: hashed(code, salt) for reader, code in codes.items()}
        _write_codes(folder / CODES, codes)
        create(folder / FILE, _rows(study, chosen, blinded, hashes, design.seed))
    ordered = {level: drawn[level] for level in sorted_levels(drawn)}
    return Made(identity, codes, ordered, [*notes, *more])


def reader_names(text: str) -> tuple[str, ...]:
    """Readers' names from a number or from names with commas between them.

    Raises:
        RestainError: none, too many, a name twice, too long, or one that results use for several readers.
    """
    names = tuple(part.strip() for part in text.split(","))
    if text.strip().isascii() and text.strip().isdigit():
        names = tuple(f"reader{number + 1}" for number in range(min(int(text), MOST_READERS + 1)))
    if not 1 <= len(names) <= MOST_READERS or len(set(names)) < len(names):
        raise RestainError(f"--readers {text[:80]}: give their number, 1 to {MOST_READERS}, or names, each once.")
    for name in names:
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or name[0] in "=+-@":
            raise RestainError(f"--readers: {name[:80]!r} is no name of 1 to {LONGEST_NAME} letters.")
        if name == ALL or "|" in name:
            raise RestainError(f"--readers: {name!r} would be mixed up: results name all readers {ALL}, and two a | b.")
    return names


def write_blinded(path: Path, rgb: NDArray[np.uint8]) -> bytes:
    """Write pixels as a PNG that says nothing else; returns what was written.

    The pixels are stored, not compressed: the size of a compressed file would tell smooth generated images from real
    ones. Images of one size in px have files of one size in bytes.

    Args:
        path: the file.
        rgb: uint8 RGB [height, width, 3].
    """
    with path.open("xb") as stream:
        Picture.fromarray(np.ascontiguousarray(rgb)).save(stream, "PNG", compress_level=0)
        stream.flush()
        os.fsync(stream.fileno())
    os.utime(path, (SAME_TIME, SAME_TIME))
    return path.read_bytes()


def _check(design: Design) -> None:
    if design.pairs < 1:
        raise RestainError(f"--pairs {design.pairs}: give how many pairs are read, such as 40.")
    if not 0 <= design.seed <= LARGEST_SEED:
        raise RestainError(f"--seed {design.seed}: give a whole number from 0 to {LARGEST_SEED:,}.")
    if not design.title.strip() or len(design.title) > 200 or not design.title.isprintable():
        raise RestainError("--title: give one line of up to 200 letters.")
    levels = design.levels
    if not 2 <= len(levels) <= 10 or len(set(levels)) < len(levels):
        raise RestainError(f"--levels {' '.join(levels)[:200]}: give two to ten levels, in order, each once.")
    if any(not level or len(level) > 20 or not level.isprintable() for level in levels):
        raise RestainError("--levels: a level has 1 to 20 letters.")
    if design.real.resolve() == design.fake.resolve():
        raise RestainError(f"{design.fake}: --real and --fake are the same folder.")
    if design.out.exists() and (not design.out.is_dir() or any(design.out.iterdir())):
        raise RestainError(f"{design.out}: is there already. A study is never changed; choose another --out.")
    out = design.out.resolve()
    for folder in (design.real.resolve(), design.fake.resolve()):
        if out == folder or out.is_relative_to(folder):
            raise RestainError(f"{design.out}: lies in a folder of images that are looked at. Choose another --out.")


def _candidates(design: Design) -> tuple[list[RealImage], Mapping[str, Path], list[str]]:
    """The real images that can be drawn, the generated files by name, and what was left out.

    Raises:
        RestainError: too few.
    """
    reals, fakes = real_folder(design.real, split=design.split, pairs=design.table), named_files(design.fake, FAKE)
    some_in_common(design.real, design.fake, reals, fakes)
    lone, notes = lone_names(reals, fakes), []
    if lone.without_fake:
        notes.append(f"{len(lone.without_fake)} real without a generated image of its name: {some(lone.without_fake)}.")
    if lone.without_real:
        notes.append(f"{len(lone.without_real)} generated without a real image of its name: {some(lone.without_real)}.")
    unclear = [*reals.ambiguous, *fakes.ambiguous]
    if unclear:
        notes.append(f"{len(unclear)} names are those of several files and were left out: {some(unclear)}.")
    found = [image for name, image in reals.images.items() if name in fakes.files]
    known = [image for image in found if image.level is not None]
    if not known:
        notes.append("Levels are unknown: pairs are drawn at random, and results have no agreement with truth.")
    elif len(known) < len(found):
        notes.append(f"{len(found) - len(known)} pairs without a level were left out; pairs.csv can give it.")
    candidates = known or found
    other = sorted_levels({image.level for image in known if image.level is not None} - set(design.levels))
    if other:
        raise RestainError(
            f"{design.real}: has images of level {', '.join(other)}, readers would give {', '.join(design.levels)}. "
            "Give --levels with all levels, in order."
        )
    if len(candidates) < design.pairs:
        why = "".join(f"\n  {note}" for note in notes)
        raise RestainError(
            f"{design.real} and {design.fake} give {len(candidates)} pairs, --pairs wants {design.pairs}. Generate "
            f"more images, or read fewer: --pairs {len(candidates)}.{why}"
        )
    return candidates, fakes.files, notes


def _unbalanced(drawn: Mapping[str, int], levels: Sequence[str | None], grades: Sequence[str]) -> list[str]:
    """What to say where a level is drawn less often than another, or not at all, because there are no more of it."""
    available = Counter(level for level in levels if level is not None)
    short = [level for level in sorted_levels(available) if drawn[level] < max(drawn.values(), default=0) - 1]
    notes = [f"Only {available[level]} pairs of level {level}: the study is not balanced." for level in short]
    absent = [grade for grade in grades if available and grade not in available]
    return [*notes, f"There are no pairs of level {', '.join(absent)}."] if absent else notes


def _copy_images(
    chosen: Sequence[RealImage], files: Mapping[str, Path], folder: Path
) -> tuple[list[_Blinded], list[str]]:
    """Copies under random names, written in the order of these: real and generated ones in no order of their own."""
    folder.mkdir()
    jobs = sorted((new_name(), pair, real) for pair in range(len(chosen)) for real in (True, False))
    shapes: dict[int, tuple[int, ...]] = {}
    blinded = []
    with progress_bar("images", len(jobs)) as bar:
        for name, pair, real in jobs:
            one = chosen[pair]
            rgb = one.read() if real else read_image(files[one.name])
            if rgb.shape[0] * rgb.shape[1] > MOST_PIXELS:
                raise RestainError(
                    f"{one.name}: {_size(rgb.shape)} px is too large to be read whole. Cut fields of it."
                )
            if shapes.setdefault(pair, rgb.shape) != rgb.shape:
                raise RestainError(
                    f"{one.name}: the real and the generated image differ in size ({_size(rgb.shape)} and "
                    f"{_size(shapes[pair])} px), which would tell them apart. Bring both to one size."
                )
            content = write_blinded(folder / f"{name}.png", rgb)
            digests = [hashlib.sha256(data).hexdigest() for data in (content, rgb.tobytes())]
            blinded.append(_Blinded(name, pair, real, *digests))
            bar.advance()
    _flush(folder)
    blinded.sort(key=lambda image: (image.pair, not image.real))
    return blinded, _telling(chosen, blinded, shapes)


def _telling(
    chosen: Sequence[RealImage], blinded: Sequence[_Blinded], shapes: Mapping[int, tuple[int, ...]]
) -> list[str]:
    """What of the images themselves spoils the study."""
    notes = []
    same = [chosen[a.pair].name for a, b in zip(blinded[::2], blinded[1::2], strict=True) if a.pixels == b.pixels]
    if same:
        notes.append(f"{len(same)} generated images are the real ones, pixel for pixel: {some(same)}. Is --fake right?")
    sizes = sorted({_size(shape) for shape in shapes.values()})
    if len(sizes) > 1:
        notes.append(f"The images have several sizes ({some(sizes)} px): a rare one tells which two are a pair.")
    return notes


def _rows(
    study: Study, chosen: Sequence[RealImage], blinded: Sequence[_Blinded], readers: Mapping[str, str], seed: int
) -> Iterator[SQLModel]:
    """All rows of a new study."""
    yield study
    for number, one in enumerate(chosen):
        yield Pair(number=number, name=one.name, level=one.level, patient=one.patient)
    for image in blinded:
        yield Image(name=image.name, pair=image.pair, real=image.real, sha256=image.sha256)
    names = [f"{chosen[image.pair].name} {image.pixels}" for image in blinded]
    for number, (reader, code) in enumerate(readers.items()):
        yield Reader(number=number, name=reader, code=code)
        order = reading_order(len(chosen), np.random.default_rng(order_seed(seed, number, names)))
        for place, index in enumerate(order):
            yield Item(id=new_name(), reader=number, image=blinded[index].name, place=place)


def _write_codes(path: Path, codes: Mapping[str, str]) -> None:
    """The only place where the codes can be read, for the owner of the file alone."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("reader", "code"), *codes.items()])
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out`` that becomes ``out`` when the block ends, or is removed."""
    out = out.resolve()
    prefix = f".tmp-{out.name}-"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(out.parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))  # its owner's alone, for it has the truth
    except OSError as error:
        raise write_error(out, error) from error
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)  # says that its maker lives
        yield folder
        _flush(folder)
        folder.replace(out)
        _flush(out.parent)
    except OSError as error:
        raise write_error(out, error) from error
    finally:
        os.close(handle)
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left(parent: Path, prefix: str) -> None:
    """Remove what killed calls left: folders that nobody holds."""
    for folder in parent.iterdir():
        if not folder.name.startswith(prefix):
            continue
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # another user's, or no folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)


def _flush(folder: Path) -> None:
    """Bring a folder's list of names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
