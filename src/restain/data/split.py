"""Split pairs into training, validation and test so that no patient (or slide) is on both sides."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from restain.core.errors import RestainError
from restain.core.progress import console
from restain.data.records import PairRecord

SplitBy = Literal["patient", "slide", "patch"]


@dataclass(frozen=True)
class SplitResult:
    """The pairs with their new splits, and what the user should know about it.

    Attributes:
        records: all pairs, in the order given, each with its new ``split``.
        by: what was kept together; ``given`` where the dataset's own split was kept.
        warnings: in words.
    """

    records: tuple[PairRecord, ...]
    by: Literal["patient", "slide", "patch", "given"]
    warnings: tuple[str, ...]


def split_records(
    records: Sequence[PairRecord], by: SplitBy, fractions: Mapping[str, float], seed: int = 0
) -> SplitResult:
    """Split ``records`` anew.

    Where patients are not known, slides are kept together instead; where neither is (BCI's and MIST's names say
    nothing of them), the split that the dataset came with is kept. Both are warned of, on stderr as well.

    Args:
        records: the pairs.
        by: what must not be torn apart.
        fractions: split name to share of the groups, such as ``{"train": 0.7, "val": 0.1, "test": 0.2}``; the sum is 1.
        seed: the same seed gives the same split, in whatever order the records come.

    Raises:
        RestainError: the fractions do not add up to 1.
    """
    used, warnings = _what_is_known(records, by)
    if used == "given":
        result = SplitResult(tuple(records), "given", tuple(warnings))
    else:
        if used == "patch":
            warnings.append("split by patch: patches of one slide may be both in training and in test.")
        groups: dict[str, list[str | None]] = defaultdict(list)
        keys = [_key(record, used) for record in records]
        for key, record in zip(keys, records, strict=True):
            groups[key].append(record.level)
        levels = {key: Counter(map(str, found)).most_common(1)[0][0] for key, found in groups.items()}
        chosen = split_groups(levels, fractions, seed)
        warnings += warn_of_empty(chosen, fractions, used)
        moved = (replace(record, split=chosen[key]) for key, record in zip(keys, records, strict=True))
        result = SplitResult(tuple(moved), used, tuple(warnings))
    for warning in result.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    return result


def split_groups(levels: Mapping[str, str], fractions: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """Assign groups (patients, slides) to splits, each level in the same proportions as far as possible.

    Groups are taken level by level in random order; each goes to the split that lacks most, within its level and
    over all. A split that would stay empty takes a group from the largest one, if that has several: train first, then
    those of larger share.

    Args:
        levels: level by group.
        fractions: share by split.
        seed: of the random order.

    Returns:
        Split by group.

    Raises:
        RestainError: the fractions do not add up to 1, or one is negative.
    """
    shares = {split: float(share) for split, share in fractions.items()}
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        text = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise RestainError(f"split: the fractions must add up to 1, but they are {text or 'none'}.")
    rng = np.random.default_rng(seed)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(levels):
        strata[levels[group]].append(group)
    chosen: dict[str, str] = {}
    overall: Counter[str] = Counter()
    for level in sorted(strata):
        within: Counter[str] = Counter()
        for number, index in enumerate(rng.permutation(len(strata[level])), start=1):
            total = len(chosen) + 1
            lack = {split: share * (number + total) - within[split] - overall[split] for split, share in shares.items()}
            split = max((name for name in shares if shares[name] > 0), key=lambda name: round(lack[name], 9))
            chosen[strata[level][index]] = split
            within[split] += 1
            overall[split] += 1
    empty = [name for name, share in shares.items() if share > 0 and not overall[name]]
    for split in sorted(empty, key=lambda name: (name != "train", -shares[name])):
        largest, count = overall.most_common(1)[0]
        if count > 1:
            group = [name for name in chosen if chosen[name] == largest][-1]
            chosen[group] = split
            overall.update({split: 1, largest: -1})
    return chosen


def warn_of_empty(chosen: Mapping[str, str], fractions: Mapping[str, float], kind: str) -> list[str]:
    """A warning, in words, where a split that should have a share of the groups has none.

    Args:
        chosen: split by group.
        fractions: share by split.
        kind: what a group is, such as ``patient``.
    """
    empty = [split for split, share in fractions.items() if share > 0 and split not in chosen.values()]
    if not empty:
        return []
    count = f"1 {kind} is" if len(chosen) == 1 else f"{len(chosen)} {kind}s are"
    return [f"{count} too few for split {', '.join(empty)}, which {'is' if len(empty) == 1 else 'are'} empty."]


def _what_is_known(
    records: Sequence[PairRecord], by: SplitBy
) -> tuple[Literal["patient", "slide", "patch", "given"], list[str]]:
    """What can be kept together, and warnings where that is less than what was asked for."""
    patients = all(record.patient is not None for record in records)
    slides = all(record.slide is not None for record in records)
    if by == "patch" or (by == "patient" and patients) or (by == "slide" and slides):
        return by, []
    if by == "patient" and slides:
        return "slide", ["patients are not known for every pair (pairs.csv, column patient): split by slide instead."]
    if by == "slide" and patients:
        return "patient", ["slides are not known for every pair (pairs.csv, column slide): split by patient instead."]
    return "given", [
        f"{by}s cannot be told apart in this dataset (neither by file name nor by pairs.csv): the "
        "dataset's own split is kept. If it is by patch, results on its test split are too good."
    ]


def _key(record: PairRecord, by: SplitBy) -> str:
    if by == "patch":
        return f"{record.split}/{record.name}"
    return str(record.patient if by == "patient" else record.slide)
