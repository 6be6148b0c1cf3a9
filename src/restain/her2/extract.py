"""Slides to features: tile by tile in fields, streamed into an ``.h5`` each; done ones are skipped, bad ones named."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from restain import __version__
from restain.core.errors import ItemError, MissingResolutionError, RestainError
from restain.core.files import remove_stale
from restain.core.items import Outcome, lock, process
from restain.core.pool import in_processes
from restain.core.progress import console
from restain.core.resolution import parse_mpp
from restain.her2.cohort_table import feature_names, read_cohort
from restain.her2.encoders import Encode, Encoder, Field, Stain
from restain.her2.features_file import SUFFIXES, FileInfo, writing
from restain.her2.tiles import Plan, TileOptions, plan_tiles
from restain.infer.inputs import SUFFIXES as SLIDES
from restain.infer.inputs import Input
from restain.slides import Slide, open_slide


def slides_of(paths: Sequence[Path], stain: Stain = Stain.he, mpp: float | None = None) -> list[Input]:
    """The slides that ``paths`` stand for, each once, under the names of their features files.

    Args:
        paths: slides, folders of them (or of features files, where they hold no slides), or cohort CSVs (column ``he``,
            or ``ihc`` for IHC; ``he_mpp``, ``ihc_mpp`` or ``mpp`` where given). Rows of a cohort without a slide of
            that stain are left out. A file that is missing is taken too: its own failure names it.
        stain: which slides of a cohort.
        mpp: um/px of level 0 of all slides whose CSV gives none.

    Raises:
        RestainError: a table or folder without slides, or two slides whose features would have the same name.
    """
    found: list[Input] = []
    for path in paths:
        if path.suffix.lower() == ".csv":
            found += _of_cohort(path, stain, mpp)
        else:
            found += [Input(file, mpp) for file in (_in_folder(path) if path.is_dir() else [path])]
    names = feature_names(item.path for item in found)
    by_name: dict[str, Input] = {}
    for item in found:
        by_name.setdefault(names[item.path], replace(item, title=names[item.path]))
    return list(by_name.values())


def _in_folder(folder: Path) -> list[Path]:
    """The slides of a folder; where it has none, its features files, also those in folders inside.

    Raises:
        RestainError: it has neither.
    """
    for kinds, files in ((SLIDES, folder.iterdir()), (SUFFIXES, folder.rglob("*"))):
        found = [file for file in files if file.suffix.lower() in kinds and file.is_file()]
        shown = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
        if shown:
            return sorted(shown)
    raise RestainError(f"{folder}: holds no slides ({', '.join(SLIDES)}) and no features ({', '.join(SUFFIXES)}).")


def _of_cohort(path: Path, stain: Stain, mpp: float | None) -> list[Input]:
    rows = [row for row in read_cohort(path, [stain.value]) if row[stain.value]]
    if not rows:
        raise RestainError(f"{path}: its column {stain.value} names no slide.")
    found = []
    for row in rows:
        column = f"{stain.value}_mpp" if row.get(f"{stain.value}_mpp") else "mpp"
        given = parse_mpp(row.get(column), f"{path}: {row[stain.value]}: {column}")
        found.append(Input(path.parent / row[stain.value], mpp if given is None else given))
    return found


def extract(
    inputs: Sequence[Input],
    out: Path,
    encoder: Encoder,
    options: TileOptions = TileOptions(),  # noqa: B008 (frozen)
    workers: int = 1,
) -> Outcome:
    """Write the features of every slide into ``out/<name>.h5``.

    Slides that an earlier call finished with the same encoder and options are skipped.

    Args:
        inputs: the slides.
        out: a folder.
        encoder: of the tiles.
        options: what a tile is.
        workers: processes, a slide each; every one holds the encoder.

    Returns:
        For each slide by name: file, tiles, columns, um/px, seconds; or why it failed. The exit code is 1 where one
        failed, 2 where all lack a um/px.

    Raises:
        RestainError: another command writes to ``out``.
    """
    if workers < 1:
        raise RestainError(f"workers {workers}: give 1 or more.")
    with lock(out / ".restain" / "lock"):
        remove_stale(out)
        if workers > 1 and len(inputs) > 1:
            _extract_ahead(inputs, out, encoder, options, workers)
        outcome, unresolved = _extract(inputs, out, encoder, options)
    if unresolved and unresolved == len(outcome.failures) == len(inputs):
        outcome.exit_code = MissingResolutionError.exit_code
    return outcome


def _extract(inputs: Sequence[Input], out: Path, encoder: Encoder, options: TileOptions) -> tuple[Outcome, int]:
    """What became of the slides, one after the other, and how many of them have no um/px."""
    by_name = {item.name: item for item in inputs}
    unresolved = 0

    def target(name: str) -> Path:
        return out / f"{name}.h5"

    def work(name: str) -> dict[str, Any]:
        nonlocal unresolved
        try:
            with open_slide(by_name[name].path, by_name[name].mpp) as slide:
                return extract_slide(slide, target(name), encoder, options, name)
        except MissingResolutionError:
            unresolved += 1
            raise

    def settings(name: str) -> object:
        item = by_name[name]
        if not item.path.exists():
            raise ItemError(f"{item.path}: no such file.")
        status = item.path.stat()
        return {
            "slide": [str(item.path.resolve()), item.mpp, status.st_size, status.st_mtime_ns],
            "encoder": [encoder.name, encoder.version],
            "tiles": asdict(options),
            "version": __version__,
        }

    state = out / ".restain"
    return process(list(by_name), work, state, settings, "features", lambda name: [target(name)]), unresolved


_SHARED: list[Encoder] = []
"""In a worker: its encoder, sent once."""


def _extract_ahead(inputs: Sequence[Input], out: Path, encoder: Encoder, options: TileOptions, workers: int) -> None:
    """Let processes do the slides; what they finished is then found done, failures are met again."""
    jobs = [(item, out, options) for item in inputs]
    try:
        in_processes(_extract_one, jobs, workers, "features", _begin_worker, (encoder,))
    except BrokenProcessPool:
        console.print("A worker was killed, perhaps for want of memory; going on with one process.")


def _begin_worker(encoder: Encoder) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _SHARED.append(encoder)


def _extract_one(item: Input, out: Path, options: TileOptions) -> None:
    _extract([item], out, _SHARED[0], options)


def extract_slide(slide: Slide, path: Path, encoder: Encoder, options: TileOptions, name: str) -> dict[str, Any]:
    """Write the features of one slide; memory is bounded by a strip of tiles' features and a field's pixels.

    Raises:
        MissingResolutionError: the slide has no um/px.
        NoTissueError: no tile has enough tissue.
        ItemError: the slide is too coarse or cannot be read, the encoder fails, or the disk is full.
    """
    started = time.monotonic()
    plan = plan_tiles(slide, options)
    encode = encoder.of_slide(slide, plan.tissue)
    reader = _Reader(slide, plan, encoder, options)
    coords = plan.coords
    info = FileInfo(
        float(plan.side),
        options.tile_mpp,
        encoder.name,
        encoder.version,
        encoder.names,
        name,
        options.tile_px,
        options.min_tissue,
    )
    with writing(path, info, len(coords)) as writer:
        for strip, fields in plan.strips():
            found = np.concatenate([reader.encoded(field, encode) for field in fields])
            order = np.argsort(np.concatenate(fields), kind="stable")
            writer.append(found[order], coords[strip])
        width = writer.width
    seconds = time.monotonic() - started
    megapixels = len(coords) * options.tile_px**2 / 1e6
    console.print(
        f"{name}: {len(coords)} tiles, {megapixels / max(seconds, 1e-3):.1f} megapixels/s",
        markup=False,
        soft_wrap=True,
    )
    return {
        "features": str(path),
        "tiles": len(coords),
        "columns": width,
        "mpp": options.tile_mpp,
        "tile_level0": plan.side,
        "encoder": encoder.name,
        "encoder_version": encoder.version,
        "seconds": round(seconds, 3),
    }


class _Reader:
    """Reads fields of tiles at the encoder's um/px."""

    def __init__(self, slide: Slide, plan: Plan, encoder: Encoder, options: TileOptions) -> None:
        self._slide, self._plan = slide, plan
        wanted = encoder.mpp or options.tile_mpp
        self._side = max(1, round(options.tile_px * options.tile_mpp / wanted))
        self._ratio = plan.side / self._side  # level-0 px in a px of the field
        self._margin = round(encoder.margin / wanted)
        self._mpp = wanted

    def encoded(self, tiles: NDArray[np.int64], encode: Encode) -> NDArray[np.float32]:
        """The features of the tiles of one field."""
        cells = self._plan.cells[tiles]
        first = cells.min(axis=0)
        columns, rows = (cells.max(axis=0) - first + 1).tolist()
        corner = first * self._plan.side - self._margin * self._ratio
        size = columns * self._side + 2 * self._margin, rows * self._side + 2 * self._margin
        x, y = corner.tolist()
        rgb = self._slide.read(x, y, *size, self._ratio * self._slide.require_mpp())
        corners = (cells - first) * self._side + self._margin
        return encode(Field(np.ascontiguousarray(rgb), corners, self._side, self._mpp))
