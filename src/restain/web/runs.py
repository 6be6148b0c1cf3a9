"""``/api/run``: curves and sample pictures of a training run, also of one that goes on."""

from __future__ import annotations

import csv
import io
import math
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from PIL import Image

from restain.core.errors import ItemError, UnreadableImageError
from restain.core.runs import RunFolder
from restain.slides.decoding import readable
from restain.web.context import Context
from restain.web.library import describe_run
from restain.web.outside import number_or_none, own_file, require_small, short_lines, small_object, text
from restain.web.paths import NotServedError
from restain.web.scan import RASTER

ROWS = 4_000
"""Rows of curves in an answer; more are thinned evenly."""
LARGEST_CURVES = 2**26
"""Bytes of ``metrics.csv``: some 500,000 rows."""
COLUMNS = 200
SAMPLES = 400
LARGEST_SAMPLE = 2**26
SAMPLE_PIXELS = 40_000_000
_READING = threading.Lock()
"""One table at a time: many large ones at once would fill the memory."""
KINDS = {"JPEG": "image/jpeg", "PNG": "image/png"}


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/api/run")
    def run(path: str, after: float | None = None) -> dict[str, Any]:
        folder = RunFolder(_run_folder(context, path))
        info = small_object(folder.path / "run.json")
        curves = read_curves(folder.metrics, after) if own_file(folder.metrics) else {"columns": [], "rows": []}
        return {
            "path": path,
            **describe_run(folder.path),
            "mpp": number_or_none(info.get("mpp")),
            "updated": _updated(folder),
            "thinned": False,
            **curves,
            "samples": _samples(context, folder.samples),
        }

    @routes.get("/api/run/sample")
    def sample(path: str) -> Response:
        file = context.root.resolve(path)
        if file.parent.name != "samples" or not own_file(file.parent.with_name("run.json")):
            raise NotServedError(f"{path[:300]!r}: not a sample picture of a run.")
        kind = _kind(file)
        return FileResponse(file, media_type=kind, headers={"Cache-Control": "private, no-cache"})

    return routes


def read_curves(path: Path, after: float | None) -> dict[str, Any]:
    """The rows of a ``metrics.csv``, which may be written to meanwhile.

    Args:
        path: the CSV. A last line without an end is half written, and left out.
        after: only rows whose ``step`` (of slide models ``epoch``) is larger; None: all.

    Returns:
        ``columns``, ``rows`` (numbers, or None for what is empty, not finite or no number) and ``thinned``: whether
        rows between were left out, so that there are at most ``ROWS``. The last row is always there.

    Raises:
        ItemError: it is too large or cannot be read.
    """
    require_small(path, LARGEST_CURVES)
    try:
        with _READING:
            content = path.read_bytes()
            content = content[: content.rfind(b"\n") + 1]
            columns = [text(name, 80) for name in next(_lines(content), [])][:COLUMNS]
            many = sum(1 for _ in _rows(content, columns, after))
            taken = set(range(min(many, ROWS)))
            if many > ROWS:
                taken = {round(number * (many - 1) / (ROWS - 1)) for number in range(ROWS)}
            # read twice, because keeping all of them would take twenty times the file
            rows = [
                [_number(cell) for cell in line[: len(columns)]] + [None] * (len(columns) - len(line))
                for number, line in enumerate(_rows(content, columns, after))
                if number in taken
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise ItemError(f"{path}: the run's curves cannot be read ({error}).") from error
    return {"columns": columns, "rows": rows, "thinned": len(rows) < many}


def _lines(content: bytes) -> Iterator[list[str]]:
    return csv.reader(short_lines(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "replace", newline="")))


def _rows(content: bytes, columns: list[str], after: float | None) -> Iterator[list[str]]:
    """The rows of a table beyond its header, those after a step where one is given."""
    lines = _lines(content)
    next(lines, [])
    key = next((columns.index(name) for name in ("step", "epoch") if name in columns), None)
    for line in lines:
        if not line:
            continue
        if after is not None and key is not None:
            step = _number(line[key]) if len(line) > key else None
            if step is None or not step > after:
                continue
        yield line


def _run_folder(context: Context, name: str) -> Path:
    folder = context.root.resolve(name)
    if not own_file(folder / "run.json"):
        raise NotServedError(f"{name[:300]!r}: not a run folder (no run.json). Reload the page; was it moved?")
    return folder


def _updated(run: RunFolder) -> float:
    """Unix time of what was written last."""
    times = [0.0]
    for path in (run.path / "run.json", run.metrics):
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # the curves may not have begun, or are just being replaced
            continue
    return max(times)


def _samples(context: Context, folder: Path) -> list[dict[str, Any]]:
    """The sample pictures by name, the last ones where there are many."""
    if context.root.relative(folder) is None:
        return []
    try:
        names = sorted((path.name for path in folder.iterdir()), reverse=True)
    except OSError:  # not begun
        return []
    found: list[dict[str, Any]] = []
    for path in (folder / name for name in names if name.lower().endswith(RASTER) and not name.startswith(".")):
        if len(found) == SAMPLES:
            break
        try:
            status = path.lstat()
        except OSError:  # removed just now
            continue
        if stat.S_ISREG(status.st_mode):
            name = path.relative_to(context.root.folder).as_posix()
            found.append({"name": text(path.name), "path": text(name, 4096), "bytes": status.st_size})
    return found[::-1]


def _kind(path: Path) -> str:
    """The media type of a picture, by its content.

    Raises:
        UnreadableImageError: neither JPEG nor PNG, or too large.
    """
    require_small(path, LARGEST_SAMPLE)
    with readable(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=tuple(KINDS)) as image:
            width, height = image.size
            kind = KINDS[str(image.format)]
    if width * height > SAMPLE_PIXELS:
        raise UnreadableImageError(f"{path.name}: {width} x {height} px are too many for a sample picture.")
    return kind


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
