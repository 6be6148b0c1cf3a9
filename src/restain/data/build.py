"""Cut a patch-pair dataset from aligned slide pairs, in BCI's layout, with the origin of patches in ``pairs.csv``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, write_json
from restain.core.items import lock, process
from restain.core.progress import console
from restain.data.cohort_table import CohortRow
from restain.data.cut import Cut, Cutting, count_patches, cut_pair, patch_files
from restain.data.layouts import SPLITS
from restain.data.pairs_csv import write_pairs_csv
from restain.data.split import split_groups


@dataclass(frozen=True)
class PairsConfig:
    """How a dataset is cut.

    Attributes:
        mpp: um/px of the patches.
        size: side of a patch in px at ``mpp``.
        stride: px at ``mpp`` from one patch to the next; None: ``size``, so that they touch.
        min_tissue: share of a patch (0 to 1) that must be tissue, in the H&E and in the IHC.
        fractions: share of the patients by split (train, val, test); they add up to 1.
        seed: of the split.
    """

    mpp: float
    size: int = 256
    stride: int | None = None
    min_tissue: float = 0.5
    fractions: dict[str, float] = field(default_factory=lambda: {"train": 0.7, "val": 0.1, "test": 0.2})
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [split for split in self.fractions if split not in SPLITS]
        if wrong:
            raise RestainError(f"fractions: there is no split {', '.join(wrong)}; use {', '.join(SPLITS)}.")
        if not (0 < self.mpp < float("inf") and self.size >= 1 and (self.stride is None or self.stride >= 1)):
            raise RestainError(
                f"patches of {self.size} px at {self.mpp} um/px with stride {self.stride}: all must be above 0."
            )
        if not 0 <= self.min_tissue <= 1:
            raise RestainError(f"min_tissue is a share from 0 to 1, not {self.min_tissue}.")


@dataclass(frozen=True)
class BuildResult:
    """What became of a cohort.

    Attributes:
        out: the dataset's folder.
        splits: pairs kept, by split.
        dropped: pairs not kept; the reasons are in ``pairs.csv``.
        failures: reason by cohort row, for slide pairs that could not be cut.
    """

    out: str
    splits: dict[str, int]
    dropped: int
    failures: dict[str, str]

    @property
    def exit_code(self) -> int:
        """0, or 1 where a slide pair failed."""
        return 1 if self.failures else 0

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return asdict(self)


def build_pairs(rows: Sequence[CohortRow], out: str | Path, config: PairsConfig) -> BuildResult:
    """Cut patch pairs from the aligned slides of a cohort into ``out``.

    Writes ``{HE,IHC}/{train,val,test}/NNNNN_<split>_<level>.png`` and ``pairs.csv``. All slides of a patient are in one
    split; levels are spread over the splits as evenly as the patients allow. A slide pair whose sizes or um/px differ,
    that cannot be read, or that has no tissue is named in ``failures``, and the others go on. Called again on the same
    folder, finished slide pairs are left alone; a slide file that changed is cut again.

    Args:
        rows: the cohort, as ``read_cohort`` gives it; every row needs an IHC slide.
        out: the dataset's folder.
        config: how to cut.

    Raises:
        RestainError: a row has no IHC slide, or ``out`` was built with other settings (the difference is shown).
        MissingResolutionError: a slide has no um/px and the cohort gives none.
    """
    out = Path(out)
    unpaired = [row.name for row in rows if row.ihc is None]
    if unpaired:
        raise RestainError(f"cohort rows without an IHC slide: {', '.join(unpaired)}. Pairs need both.")
    levels: dict[str, str] = {}
    for row in rows:
        levels.setdefault(row.patient, str(row.level))
    splits = split_groups(levels, config.fractions, config.seed)
    with lock(out / ".lock"):
        plan, failures = _plan(rows, out, config)
        cuts = {
            row.name: Cut(row, splits[row.patient], plan[row.name]["first"], _cutting(config))
            for row in rows
            if row.name in plan
        }
        outcome = process(
            list(cuts),
            lambda name: {"rows": cut_pair(cuts[name], out)},
            state=out / ".state",
            settings=asdict(config),
            description="cutting pairs",
            outputs=lambda name: _patches(out, name),
        )
        table = [row for name in cuts for row in outcome.results.get(name, {}).get("rows", [])]
        write_pairs_csv(out / "pairs.csv", table)
    failures |= outcome.failures
    for name, reason in failures.items():
        console.print(f"failed: {name}: {reason}", markup=False, soft_wrap=True)
    kept = [row["split"] for row in table if row["kept"]]
    return BuildResult(str(out), {split: kept.count(split) for split in SPLITS}, len(table) - len(kept), failures)


def _cutting(config: PairsConfig) -> Cutting:
    """The part of ``config`` that cutting a slide pair needs."""
    return Cutting(config.mpp, config.size, config.stride or config.size, config.min_tissue)


def _plan(
    rows: Sequence[CohortRow], out: Path, config: PairsConfig
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The range of patch numbers of each slide pair, and why others have none.

    The plan is kept in ``build.json``, so that numbers stay when a slide that failed is mended later.
    """
    path = out / "build.json"
    foreign = [name for name in ("HE", "IHC", "pairs.csv") if (out / name).exists()]
    if foreign and not path.exists():
        raise RestainError(f"{out}: holds {', '.join(foreign)} that were not built here. Choose another folder.")
    settings = {"config": asdict(config), "cohort": {row.name: _row_settings(row) for row in rows}}
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
    for row in rows:
        try:
            stamp = _stamp(row)
            if row.name in plan and plan[row.name]["stamp"] != stamp:
                _forget(out, row.name, plan[row.name])
                del plan[row.name]
            if row.name not in plan:
                count = count_patches(row, _cutting(config))
                plan[row.name] = {"first": free, "count": count, "stamp": stamp}
                free += count
        except (ItemError, OSError) as error:
            failures[row.name] = str(error)
    write_json(path, {"settings": settings, "plan": plan})
    return plan, failures


def _row_settings(row: CohortRow) -> dict[str, Any]:
    return {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in asdict(row).items()}


def _stamp(row: CohortRow) -> list[int]:
    """Size and time of both slide files: another stamp, another slide."""
    files = [path.stat() for path in (row.he, row.ihc) if path is not None]
    return [number for file in files for number in (file.st_size, file.st_mtime_ns)]


def _patches(out: Path, name: str) -> list[Path]:
    """The patch files that slide pair ``name`` has left according to its state; none where that cannot be read."""
    try:
        rows = read_json(out / ".state" / f"{name}.json")["result"]["rows"]
        return [path for row in rows if row["kept"] for path in patch_files(row, out)]
    except (ItemError, KeyError, TypeError):
        return []


def _forget(out: Path, name: str, planned: Mapping[str, Any]) -> None:
    """Remove the patches (finished or not) and the state of a slide pair whose slides have changed."""
    numbers = range(planned["first"], planned["first"] + planned["count"])
    for path in out.glob("*/*/*"):
        number = path.name.partition("_")[0]
        if number.isdigit() and int(number) in numbers:
            path.unlink()
    (out / ".state" / f"{name}.json").unlink(missing_ok=True)


def _differences(there: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two settings documents, one line each."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        nested = (_differences(there.get(key), now.get(key), f"{where}.{key}".lstrip(".")) for key in keys)
        return [line for lines in nested for line in lines]
    return [] if there == now else [f"{where}: {_plain(there)} there, {_plain(now)} now"]


def _plain(value: Any) -> str:
    return "nothing" if value is None else re.sub(r"[{}']", "", str(value))
