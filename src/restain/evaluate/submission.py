"""Check a challenge submission before it is sent: names, count, size, 8-bit RGB, readable, no duplicates."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_csv
from restain.core.progress import progress_bar
from restain.core.workers import cpu_threads
from restain.data.layouts import IMAGE_SUFFIXES, image_files
from restain.evaluate.folders import REAL, named_files, printable
from restain.evaluate.measure import bounded_map
from restain.infer.record import RECORD
from restain.slides import read_image
from restain.slides.decoding import is_tiff

Size = tuple[int, int]
"""Width and height, px."""

IGNORED = frozenset({RECORD})
"""What `restain stain` leaves beside its images."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a submission.

    Attributes:
        kind: ``missing``, ``unexpected``, ``duplicate``, ``unreadable``, ``size``, ``depth`` or ``suffix``.
        file: the name or file that it is about.
        message: what is wrong and what to do.
    """

    kind: str
    file: str
    message: str


@dataclass(frozen=True)
class Submission:
    """What the check found.

    Attributes:
        folder: the submission.
        images: image files in it.
        expected: names that it should have.
        problems: in the order of the names; none if it can be sent.
    """

    folder: Path
    images: int
    expected: int
    problems: Sequence[Problem] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "folder": printable(str(self.folder)),
            "ok": not self.problems,
            "images": self.images,
            "expected": self.expected,
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(frozen=True)
class Expected:
    """What a submission should hold.

    Attributes:
        sizes: by name (without suffix); None where any size will do.
        files: the real image of each name, where there is one.
    """

    sizes: Mapping[str, Size | None]
    files: Mapping[str, Path] = field(default_factory=dict)


def expected_of_folder(real: Path) -> Expected:
    """Names and sizes of the images in ``real``: the real IHC, or the H&E that was stained.

    Of a results folder of pix2pix, CycleGAN or CUT these are the real IHC, by their names without ``_real_B``.

    Raises:
        RestainError: no such folder, no images in it, or one cannot be read.
    """
    if not real.is_dir():
        raise RestainError(f"{real}: no such folder. --real wants the folder of the real IHC, or of the H&E.")
    listed = named_files(real, REAL)
    if listed.ambiguous:
        raise RestainError(f"{real}: {next(iter(listed.ambiguous.values()))}")
    sizes: dict[str, Size | None] = {}
    for name, path in listed.files.items():
        try:
            sizes[name] = _size(path)
        except (ItemError, OSError) as error:
            raise RestainError(f"{error} Without it nothing says what its partner should be.") from error
    return Expected(sizes, listed.files)


def expected_of_table(path: Path) -> Expected:
    """Names, and sizes where it has them, in a CSV ``name[,width,height]``.

    Raises:
        RestainError: it cannot be read, has no names, a name twice, or a size that is none.
    """
    try:
        rows = read_csv(path, required=["name"])
    except ItemError as error:
        raise RestainError(str(error)) from error
    sizes: dict[str, Size | None] = {}
    for line, row in enumerate(rows, start=2):
        name = (row["name"] or "").strip()
        name = Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
        if not name or name in sizes:
            raise RestainError(f"{path}: line {line}: {f'name {name} is there twice' if name else 'no name'}.")
        texts = [(row.get(side) or "").strip() for side in ("width", "height")]
        if any(texts) and not all(text.isascii() and text.isdigit() and int(text) > 0 for text in texts):
            raise RestainError(f"{path}: line {line}: width and height {texts} are no size in px.")
        sizes[name] = (int(texts[0]), int(texts[1])) if all(texts) else None
    if not sizes:
        raise RestainError(f"{path}: no names. Give a header `name` and a line for each image.")
    return Expected(sizes)


def check_submission(folder: Path, expected: Expected, workers: int | None = None) -> Submission:
    """Look for everything that would keep ``folder`` from being measured as a submission.

    Files are told by content: a ``.png`` that is JPEG inside is fine, as it is in BCI.

    Args:
        folder: the images, directly in it.
        expected: what should be there.
        workers: images read at a time; None: one for each core, at most 8.

    Raises:
        RestainError: no such folder.
    """
    if not folder.is_dir():
        raise RestainError(f"{folder}: no such folder. Give the folder of the images to submit.")
    files = image_files(folder)
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_name[printable(path.stem)].append(path)
    problems = [*_names(expected, by_name), *_strangers(folder, files), *_same_name(by_name)]
    digests: dict[str, list[Path]] = defaultdict(list)
    with progress_bar("submission", len(files)) as bar:
        for path, digest, found in bounded_map(partial(_look, expected=expected), files, workers or cpu_threads()):
            problems += found
            if digest:
                digests[digest].append(path)
            bar.advance()
    problems += _same_content(digests, expected)
    return Submission(folder, len(files), len(expected.sizes), problems)


def _names(expected: Expected, found: Mapping[str, Sequence[Path]]) -> list[Problem]:
    missing = [Problem("missing", name, "is not there.") for name in sorted(expected.sizes.keys() - found.keys())]
    strange = sorted(found.keys() - expected.sizes.keys())
    return missing + [Problem("unexpected", name, "is not among the names that are wanted.") for name in strange]


def _strangers(folder: Path, files: Sequence[Path]) -> list[Problem]:
    """Files and folders that are no images."""
    known = set(files)
    return [
        Problem("unexpected", printable(path.name), "is a folder." if path.is_dir() else "is no PNG, JPEG or TIFF.")
        for path in sorted(folder.iterdir())
        if path not in known and path.name not in IGNORED and not path.name.startswith(".")
    ]


def _same_name(found: Mapping[str, Sequence[Path]]) -> list[Problem]:
    """Names that several files have, upper and lower case apart (there are disks that do not tell them apart)."""
    folded: dict[str, list[str]] = defaultdict(list)
    for paths in found.values():
        for path in paths:
            folded[path.stem.casefold()].append(printable(path.name))
    return [
        Problem("duplicate", names[0], f"one name but for suffix or case: {', '.join(names)}. Leave one.")
        for names in folded.values()
        if len(names) > 1
    ]


def _same_content(digests: Mapping[str, Sequence[Path]], expected: Expected) -> list[Problem]:
    """Names that have the same bytes, unless the real images of these names have, too."""
    problems = []
    for paths in digests.values():
        if len(paths) > 1 and not _alike([expected.files.get(printable(path.stem)) for path in paths]):
            names = ", ".join(printable(path.name) for path in paths)
            problems.append(
                Problem("duplicate", printable(paths[0].name), f"the same image under several names: {names}.")
            )
    return problems


def _alike(files: Sequence[Path | None]) -> bool:
    known = [path for path in files if path is not None]
    return len(known) == len(files) and len({hashlib.sha256(path.read_bytes()).digest() for path in known}) == 1


def _look(path: Path, expected: Expected) -> tuple[Path, str, list[Problem]]:
    """What is wrong with one file, and the SHA-256 of its bytes (empty if it cannot be read)."""
    name, file = printable(path.stem), printable(path.name)
    problems = []
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        height, width = read_image(path).shape[:2]
        if kind := _not_rgb8(path):
            problems.append(Problem("depth", file, f"has {kind}; save it as RGB with 8 bits a channel."))
    except (ItemError, OSError) as error:
        return path, "", [Problem("unreadable", file, printable(str(error)))]
    wanted = expected.sizes.get(name)
    if wanted is not None and wanted != (width, height):
        size = f"has {width} x {height} px, should have {wanted[0]} x {wanted[1]}."
        problems.append(Problem("size", file, size))
    real = expected.files.get(name)
    if real is not None and real.suffix.lower() != path.suffix.lower():
        problems.append(Problem("suffix", file, f"should end in {real.suffix}, as the real image does."))
    return path, digest, problems


def _not_rgb8(path: Path) -> str:
    """What an image's file has instead of three channels of 8 bits, in words; empty where it has them."""
    if is_tiff(path):
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0].aspage()
            bits, channels = page.bitspersample, page.samplesperpixel
            if page.colormap is not None:
                return "a palette"
    else:
        with Image.open(path) as image:
            if image.mode == "P":
                return "a palette"
            # Pillow reads 16 bits a channel as mode RGB: only how it unpacks them (RGB;16B) tells.
            raw = (
                str(image.tile[0][3][0] if isinstance(image.tile[0][3], tuple) else image.tile[0][3])
                if image.tile
                else ""
            )
            bits = 16 if ";16" in raw or image.mode.startswith("I") else 1 if image.mode == "1" else 8
            channels = 3 if image.mode == "YCbCr" else len(image.getbands())
    texts = [f"{bits} bits a channel"] if bits != 8 else []
    if channels != 3:
        texts.append(
            {1: "one channel (grey)", 2: "grey with alpha", 4: "four channels (alpha or CMYK)"}.get(
                channels, f"{channels} channels"
            )
        )
    return " and ".join(texts)


def _size(path: Path) -> Size:
    """Width and height of an image's file, from its header where that says it."""
    if is_tiff(path):
        height, width = read_image(path).shape[:2]
        return width, height
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise ItemError(f"{path}: cannot be read ({error}).") from error
