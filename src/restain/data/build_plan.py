"""Which patch numbers belong to which slides of a dataset that is being built, kept in ``build.json``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, MissingResolutionError, RestainError
from restain.core.files import read_json, write_json
from restain.data.cohort_table import CohortRow
from restain.data.cut import BOTH, count_patches, open_stain, patch_files, require_aligned
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
    items: Sequence[Item], out: Path, config: PairsConfig, mpp: float, registrations: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The range of patch numbers of each item, and why others have none.

    The plan is kept in ``build.json``, so that numbers stay when a slide that failed is mended later. Of files it keeps
    names, sizes and times: a cohort and its dataset may move. What is left of items with a changed file is removed,
    their registration only where the new file had a part in it.

    Args:
        items: what is to be cut.
        out: the dataset's folder.
        config: how to cut.
        mpp: um/px of the patches.
        registrations: folder of the registrations, one by row.

    Raises:
        RestainError: ``out`` holds other things, or was built with other settings (the difference is shown).
        MissingResolutionError: no slide has an um/px and the cohort gives none.
    """
    path = out / "build.json"
    folders = [folder.relative_to(out).as_posix() for folder in _patch_folders(out) if folder.exists()]
    foreign = [*folders, *(["pairs.csv"] if (out / "pairs.csv").exists() else [])]
    if foreign and not path.exists():
        raise RestainError(f"{out}: holds {', '.join(foreign)} that were not built here. Choose another folder.")
    # what the splits of all rows depend on; the files of a row, which matter to that row alone, are in its stamp
    cohort = {item.row.name: {"patient": item.row.patient, "level": item.row.level} for item in items}
    settings = json.loads(json.dumps({"config": asdict(config), "cohort": cohort}))  # as it is read: tuples are lists
    plan: dict[str, dict[str, Any]] = {}
    if path.exists():
        recorded = _recorded(path)
        differences = _differences(recorded["settings"], settings)
        if differences:
            raise RestainError(
                f"{out}: this dataset was built with other settings; choose another folder, or delete it. "
                f"Different:\n  " + "\n  ".join(differences)
            )
        plan = recorded["plan"]
    failures: dict[str, str] = {}
    without_mpp: list[MissingResolutionError] = []
    free = max((entry["first"] + entry["count"] for entry in plan.values()), default=0)
    for item in items:
        try:
            stamp = _stamp(item.row)
            if item.name in plan and plan[item.name]["stamp"] != stamp:
                _forget_patches(out, item.name, plan[item.name])
                if item.stains == BOTH and not config.aligned:
                    _forget_registration(registrations / item.name, plan[item.name]["stamp"], stamp)
                del plan[item.name]
            if item.name not in plan:
                count = _count(item, config, mpp)
                plan[item.name] = {"first": free, "count": count, "stamp": stamp}
                free += count
        except (RestainError, OSError) as error:
            failures[item.name] = str(error)
            if isinstance(error, MissingResolutionError):
                without_mpp.append(error)
    if len(without_mpp) == len(items) > 0:
        raise without_mpp[0]
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


def _recorded(path: Path) -> dict[str, Any]:
    """The document in ``build.json``.

    Raises:
        RestainError: it is none that ``make_plan`` wrote.
    """
    document = read_json(path)
    whole = isinstance(document, dict) and all(isinstance(document.get(key), dict) for key in ("settings", "plan"))
    entries = document["plan"].values() if whole else [None]
    if not all(isinstance(entry, dict) and {"first", "count", "stamp"} <= entry.keys() for entry in entries):
        raise RestainError(
            f"{path}: does not say how this dataset was built. Delete the dataset's folder, or choose another one."
        )
    return dict(document)


def _stamp(row: CohortRow) -> dict[str, list[Any]]:
    """Name, size and time of all files of a row and their um/px: another stamp, another slide.

    Raises:
        ItemError: one does not exist, or one is given as both slides.
    """
    stamp: dict[str, list[Any]] = {}
    for key, mpp in (("he", row.he_mpp), ("ihc", row.ihc_mpp), ("tumour", None), ("landmarks", None)):
        path: Path | None = getattr(row, key)
        if path is None:
            continue
        if not path.is_file():
            raise ItemError(f"{path}: no such file. Mend the cohort's table; its paths are relative to its folder.")
        status = path.stat()
        stamp[key] = [path.name, status.st_size, status.st_mtime_ns, mpp]
    if row.ihc is not None and row.he.samefile(row.ihc):
        raise ItemError(f"{row.he}: given as H&E and as IHC of {row.name}. Give the two slides in the cohort's table.")
    return stamp


def _patch_folders(out: Path) -> list[Path]:
    """Every folder that patches may lie in."""
    paired = [out / folder / split for folder in ("HE", "IHC") for split in SPLITS]
    return [*paired, *(out / f"{split}{side}" for split in SPLITS for side in "AB")]


def _forget_patches(out: Path, name: str, planned: Mapping[str, Any]) -> None:
    """Remove the patches (finished or not) and the state of an item whose files have changed."""
    numbers = range(planned["first"], planned["first"] + planned["count"])
    for path in (path for folder in _patch_folders(out) if folder.is_dir() for path in folder.iterdir()):
        number = path.name.partition("_")[0]
        if number.isdigit() and int(number) in numbers:
            path.unlink()
    (out / ".state" / f"{name}.json").unlink(missing_ok=True)


def _forget_registration(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Remove a registration if a file that it was made from has changed; new tumour polygons leave it alone."""
    changed = any(there.get(key) != now.get(key) for key in ("he", "ihc", "landmarks"))
    # the folder of registrations may be any: what is no registration stays
    if changed and any((folder / name).exists() for name in ("quality.json", ".state")):
        shutil.rmtree(folder, ignore_errors=True)


def _differences(there: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two settings documents, one line each."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        nested = (_differences(there.get(key), now.get(key), f"{where}.{key}".lstrip(".")) for key in keys)
        return [line for lines in nested for line in lines]
    return [] if there == now else [f"{where}: {_plain(there)} there, {_plain(now)} now"]


def _plain(value: Any) -> str:
    return "nothing" if value is None else re.sub(r"[{}']", "", str(value))
