"""Which patch numbers belong to which slides of a dataset that is being built, kept in ``build.json``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, write_json
from restain.data.cohort_table import CohortRow
from restain.data.cut import count_patches, open_stain, patch_files, require_aligned
from restain.data.layouts import SPLITS
from restain.data.pairs_config import PairsConfig
from restain.data.patch_checks import Stain


@dataclass(frozen=True)
class Item:
    """What is cut together under one name: both slides of a row, or one of them."""

    name: str
    row: CohortRow
    stains: tuple[Stain, ...]


def make_plan(
    items: Sequence[Item], out: Path, config: PairsConfig, mpp: float
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The range of patch numbers of each item, and why others have none.

    The plan is kept in ``build.json``, so that numbers stay when a slide that failed is mended later. Of files it keeps
    names, sizes and times: a cohort and its dataset may move. What is left of items with a changed file is removed.

    Raises:
        RestainError: ``out`` holds other things, or was built with other settings (the difference is shown).
        MissingResolutionError: a slide has no um/px and the cohort gives none.
    """
    path = out / "build.json"
    folders = [folder.relative_to(out).as_posix() for folder in _patch_folders(out) if folder.exists()]
    foreign = [*folders, *(["pairs.csv"] if (out / "pairs.csv").exists() else [])]
    if foreign and not path.exists():
        raise RestainError(f"{out}: holds {', '.join(foreign)} that were not built here. Choose another folder.")
    settings = {"config": asdict(config), "cohort": {item.row.name: _row_settings(item.row) for item in items}}
    plan: dict[str, dict[str, Any]] = {}
    if path.exists():
        recorded = read_json(path)
        differences = _differences(recorded["settings"], settings)
        if differences:
            raise RestainError(
                f"{out}: this dataset was built with other settings; choose another folder, or delete it. "
                f"Different:\n  " + "\n  ".join(differences)
            )
        plan = recorded["plan"]
    failures: dict[str, str] = {}
    free = max((entry["first"] + entry["count"] for entry in plan.values()), default=0)
    for item in items:
        try:
            stamp = _stamp(item.row)
            if item.name in plan and plan[item.name]["stamp"] != stamp:
                _forget(out, item.name, plan[item.name])
                del plan[item.name]
            if item.name not in plan:
                count = _count(item, config, mpp)
                plan[item.name] = {"first": free, "count": count, "stamp": stamp}
                free += count
        except (ItemError, OSError) as error:
            failures[item.name] = str(error)
    write_json(path, {"settings": settings, "plan": plan})
    return plan, failures  # what was cut before its file vanished stays listed


def recorded_files(out: Path, name: str) -> list[Path]:
    """The patch files that item ``name`` has left according to its state; none where that cannot be read."""
    try:
        rows = read_json(out / ".state" / f"{name}.json")["result"]["rows"]
        return [path for row in rows if row["kept"] for path in patch_files(row, out)]
    except (ItemError, KeyError, TypeError):
        return []


def _count(item: Item, config: PairsConfig, mpp: float) -> int:
    """How many places for patches an item has: those of the IHC, on whose grid the H&E comes to lie."""
    if len(item.stains) == 1:
        with open_stain(item.row, item.stains[0]) as slide:
            return count_patches(slide, config, mpp)
    with open_stain(item.row, "he") as he, open_stain(item.row, "ihc") as ihc:
        if config.aligned:
            require_aligned(he, ihc)
        count_patches(he, config, mpp)  # fine enough, too
        return count_patches(ihc, config, mpp)


def _row_settings(row: CohortRow) -> dict[str, Any]:
    return {key: value.name if isinstance(value, Path) else value for key, value in asdict(row).items()}


def _stamp(row: CohortRow) -> list[int]:
    """Size and time of all files of a row: another stamp, another slide.

    Raises:
        ItemError: one does not exist.
    """
    stamp = []
    for path in (row.he, row.ihc, row.tumour, row.landmarks):
        if path is not None and not path.is_file():
            raise ItemError(f"{path}: no such file. Mend the cohort's table; its paths are relative to its folder.")
        if path is not None:
            stamp += [path.stat().st_size, path.stat().st_mtime_ns]
    return stamp


def _patch_folders(out: Path) -> list[Path]:
    """Every folder that patches may lie in."""
    paired = [out / folder / split for folder in ("HE", "IHC") for split in SPLITS]
    return [*paired, *(out / f"{split}{side}" for split in SPLITS for side in "AB")]


def _forget(out: Path, name: str, planned: Mapping[str, Any]) -> None:
    """Remove the patches (finished or not), the registration and the state of an item whose files have changed."""
    numbers = range(planned["first"], planned["first"] + planned["count"])
    for path in (path for folder in _patch_folders(out) if folder.is_dir() for path in folder.iterdir()):
        number = path.name.partition("_")[0]
        if number.isdigit() and int(number) in numbers:
            path.unlink()
    (out / ".state" / f"{name}.json").unlink(missing_ok=True)
    shutil.rmtree(out / "registered" / name, ignore_errors=True)


def _differences(there: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two settings documents, one line each."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        nested = (_differences(there.get(key), now.get(key), f"{where}.{key}".lstrip(".")) for key in keys)
        return [line for lines in nested for line in lines]
    return [] if there == now else [f"{where}: {_plain(there)} there, {_plain(now)} now"]


def _plain(value: Any) -> str:
    return "nothing" if value is None else re.sub(r"[{}']", "", str(value))
