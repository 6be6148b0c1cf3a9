"""Make a patch dataset from a cohort of slides: register, cut, judge, and say what became of each patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, MissingResolutionError, RestainError
from restain.core.items import lock, process
from restain.core.progress import console
from restain.data.build_plan import Item, make_plan, recorded_files
from restain.data.cohort_table import CohortRow
from restain.data.cut import BOTH, SAME_MPP, Cut, cut_patches, knows_tumour, open_stain
from restain.data.layouts import SPLITS
from restain.data.pairs_config import PairsConfig
from restain.data.pairs_csv import write_pairs_csv
from restain.data.registered import registered_row
from restain.data.split import split_groups, warn_of_empty


@dataclass(frozen=True)
class BuildResult:
    """What became of a cohort.

    Attributes:
        out: the dataset's folder.
        splits: pairs kept, by split; single patches where they are unpaired.
        dropped: those not kept; the reasons are in ``pairs.csv``.
        failures: reason by cohort row, for slide pairs that could not be registered or cut.
        reasons: how many were dropped, by reason.
    """

    out: str
    splits: dict[str, int]
    dropped: int
    failures: dict[str, str]
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a slide pair failed."""
        return 1 if self.failures else 0

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return asdict(self)


def build_pairs(
    rows: Sequence[CohortRow], out: str | Path, config: PairsConfig, registered: Path | None = None
) -> BuildResult:
    """Make a dataset of patch pairs from the slides of a cohort in ``out``.

    Slide by slide, the H&E is registered to its IHC (unless ``config.aligned``) and both are cut. Writes
    ``{HE,IHC}/{train,val,test}/NNNNN_<split>_<level>.png``, or with ``config.unpaired`` ``{train,val,test}{A,B}/``; and
    ``pairs.csv``. All slides of a patient are in one split; levels are spread over the splits as evenly as the patients
    allow. A slide pair that cannot be read, is not registered with confidence, or has no tissue is named in
    ``failures``, and the others go on. Called again on the same folder, finished slide pairs are left alone; those
    with a changed file are cut again.

    Args:
        rows: the cohort, as ``read_cohort`` gives it.
        out: the dataset's folder.
        config: how to cut.
        registered: folder of the registrations, one by row; None: ``out/registered``. Another dataset's saves its work.

    Raises:
        RestainError: no row has an IHC slide, slides have different um/px and ``config`` names none, or ``out`` was
            built with other settings (the difference is shown).
        MissingResolutionError: no slide has an um/px and the cohort gives none.
    """
    out = Path(out)
    registrations = out / "registered" if registered is None else Path(registered)
    items = _items(rows, config)
    levels: dict[str, str] = {}
    for row in rows:
        levels.setdefault(row.patient, str(row.level))
    splits = split_groups(levels, config.fractions, config.seed)
    mpp = _patch_mpp(items, config)
    with lock(out / ".lock"):
        plan, failures = make_plan(items, out, replace(config, mpp=mpp), mpp, registrations)
        cuts = {
            item.name: Cut(item.row, item.stains, splits[item.row.patient], plan[item.name]["first"], mpp, config)
            for item in items
            if item.name in plan
        }
        _say_where_tumour_is_unknown(list(cuts.values()))

        def work(name: str) -> dict[str, Any]:
            cut = cuts[name]
            try:
                if cut.stains == BOTH and not config.aligned:
                    row, filled = registered_row(cut.row, registrations / name, config.registration)
                    cut = replace(cut, row=row, filled=filled)
                return {"rows": cut_patches(cut, out)}
            except (ValueError, ArithmeticError, RecursionError) as error:  # odd content of one file
                raise ItemError(
                    f"{cut.row.he}: the row of {cut.row.name} could not be registered or cut "
                    f"({type(error).__name__}: {error}). Look at its slides, tumour and landmarks."
                ) from error

        outcome = process(
            list(cuts),
            work,
            state=out / ".state",
            settings={**asdict(config), "mpp": mpp},
            description="slides to patches",
            outputs=lambda name: recorded_files(out, name),
        )
        table = [row for name in cuts for row in outcome.results.get(name, {}).get("rows", [])]
        write_pairs_csv(out / "pairs.csv", table)
    failures |= outcome.failures
    for name, reason in failures.items():
        console.print(f"failed: {name}: {reason}", markup=False, soft_wrap=True)
    kept = [row["split"] for row in table if row["kept"]]
    warnings = warn_of_empty(splits, config.fractions, "patient")
    lost = [split for split in SPLITS if kept and split in splits.values() and split not in kept]
    if lost:
        warnings.append(f"nothing was kept for split {', '.join(lost)}: slides failed, or all patches were dropped.")
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    reasons = Counter(row["reason"].partition(" (")[0] for row in table if not row["kept"])
    return BuildResult(
        str(out),
        {split: kept.count(split) for split in SPLITS},
        len(table) - len(kept),
        failures,
        dict(reasons.most_common()),
    )


def _items(rows: Sequence[CohortRow], config: PairsConfig) -> list[Item]:
    """What is cut: slide pairs; unpaired, slides."""
    if all(row.ihc is None for row in rows):
        names = ", ".join(row.name for row in rows)
        raise RestainError(f"cohort rows without an IHC slide: {names}. Pairs need both.")
    if not config.unpaired:
        return [Item(row.name, row, BOTH) for row in rows]
    stains = [(row, stain) for row in rows for stain in BOTH if stain == "he" or row.ihc is not None]
    return [Item(f"{row.name}_{stain}", row, (stain,)) for row, stain in stains]


def _patch_mpp(items: Sequence[Item], config: PairsConfig) -> float:
    """um/px of the patches: as asked for, or that of the coarser slide of each row, if it is the same for all rows.

    Rows that cannot be read whole have no say where another can: they fail by name later.

    Raises:
        RestainError: it is not, or no slide can be read.
        MissingResolutionError: no slide has one.
    """
    if config.mpp is not None:
        return config.mpp
    found: dict[str, list[float]] = {}
    problems: dict[str, Exception] = {}
    for item in items:
        for stain in item.stains:
            try:
                with open_stain(item.row, stain) as slide:
                    found.setdefault(item.row.name, []).append(slide.require_mpp())
            except (RestainError, OSError) as error:
                problems[item.row.name] = error
    whole = {name: max(mpps) for name, mpps in found.items() if name not in problems}
    coarser = whole or {name: max(mpps) for name, mpps in found.items()}
    if not coarser:
        for problem in problems.values():
            if isinstance(problem, MissingResolutionError):
                raise problem
        raise RestainError(f"no slide of the cohort can be read: {next(iter(problems.values()))}")
    low, high = min(coarser.values()), max(coarser.values())
    if high / low - 1 > SAME_MPP:
        by_mpp = {mpp: name for name, mpp in reversed(coarser.items())}  # the first row of each
        listed = ", ".join(f"{mpp:g} ({name})" for mpp, name in sorted(by_mpp.items()))
        raise RestainError(f"the slides have different um/px: {listed}. Say which the patches shall have: --mpp.")
    return low


def _say_where_tumour_is_unknown(cuts: Sequence[Cut]) -> None:
    """Once, for all rows: patches without tumour are kept there."""
    if not cuts or cuts[0].config.min_tumour == 0:
        return
    names = sorted({cut.row.name for cut in cuts if not knows_tumour(cut.row, cut.stains[-1])})
    if names:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        console.print(
            f"the cohort does not say where the tumour is (column tumour, QuPath GeoJSON) for {listed}: patches "
            "without tumour are kept there.",
            markup=False,
            soft_wrap=True,
        )
