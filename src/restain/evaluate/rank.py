"""The ranking of the BCI challenge (review 2023, Eq. 4): from each team's mean PSNR and SSIM to a place.

R = 0.4 R_PSNR + 0.6 R_SSIM, smaller is better; rank 1 has the largest value. The review has no rule for ties. Ours:
teams with the same value take the average of the ranks they fill, and teams with the same R share the better place.

Nothing is left out for its numbers: in the challenge doctors, not a threshold, declared blurred submissions invalid
(Sec. VI). A submission is invalid here only where a table or the readers say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from restain.core.errors import RestainError
from restain.evaluate.folders import printable
from restain.evaluate.score_tables import Entry
from restain.metrics import METRICS

PSNR_WEIGHT, SSIM_WEIGHT = 0.4, 0.6

DIGITS = 9
"""R is compared to this many decimals: 0.4 * 1 + 0.6 * 3 and 0.4 * 4 + 0.6 * 1 are a tie, which binary sums miss."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of teams, in the order given.

    Attributes:
        psnr_rank: 1 for the largest PSNR, ties averaged, float64 [teams].
        ssim_rank: the same of SSIM.
        score: R, float64 [teams].
        order: indices of the teams from the first to the last, ties in the order given, int64 [teams].
        place: 1 for the smallest R; teams with the same R share a place and the next ones are skipped, int64 [teams].
    """

    psnr_rank: NDArray[np.float64]
    ssim_rank: NDArray[np.float64]
    score: NDArray[np.float64]
    order: NDArray[np.int64]
    place: NDArray[np.int64]


def rank_scores(
    psnr: ArrayLike, ssim: ArrayLike, psnr_weight: float = PSNR_WEIGHT, ssim_weight: float = SSIM_WEIGHT
) -> Ranks:
    """Rank teams by their means.

    Args:
        psnr: in dB [teams]; infinite where every image is the real one.
        ssim: [teams].
        psnr_weight: weight of the rank by PSNR.
        ssim_weight: weight of the rank by SSIM.

    Raises:
        RestainError: no teams, not two lists of one length, a NaN, or weights that weigh nothing.
    """
    first, second = np.asarray(psnr, np.float64), np.asarray(ssim, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise RestainError(f"There is nothing to rank: PSNR {first.shape} and SSIM {second.shape}.")
    if np.isnan(first).any() or np.isnan(second).any():
        raise RestainError("A value that is not a number (NaN) has no rank.")
    weights = (psnr_weight, ssim_weight)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) == 0:
        raise RestainError(f"Weights {psnr_weight:g} and {ssim_weight:g}: give numbers from 0 on, not both 0.")
    psnr_rank, ssim_rank = rankdata(-first, method="average"), rankdata(-second, method="average")
    score = np.round(psnr_weight * psnr_rank + ssim_weight * ssim_rank, DIGITS)
    return Ranks(
        psnr_rank=psnr_rank,
        ssim_rank=ssim_rank,
        score=score,
        order=np.argsort(score, kind="stable").astype(np.int64),
        place=rankdata(score, method="min").astype(np.int64),
    )


@dataclass(frozen=True)
class Ranked:
    """One entry with its place."""

    entry: Entry
    place: int
    psnr_rank: float
    ssim_rank: float
    score: float


@dataclass(frozen=True)
class Ranking:
    """Entries in rank order.

    Attributes:
        ranked: the valid ones.
        invalid: those that a table or the readers declared invalid: they have no rank.
        psnr_weight: weight of the rank by PSNR.
        ssim_weight: weight of the rank by SSIM.
        mixed: how the entries' protocols, images or data differ, or what of one entry is not alike, where that was let
            pass; one line each.
    """

    ranked: Sequence[Ranked]
    invalid: Sequence[Entry]
    psnr_weight: float = PSNR_WEIGHT
    ssim_weight: float = SSIM_WEIGHT
    mixed: Sequence[str] = ()

    @property
    def rule(self) -> str:
        """How places are made, in words."""
        return (
            f"R = {self.psnr_weight:g} R_PSNR + {self.ssim_weight:g} R_SSIM, smaller is better; rank 1 has the largest "
            "value (BCI challenge review, Eq. 4). Ties, for which the review has no rule: entries with the same value "
            "take the average of their ranks, entries with the same R share a place."
        )

    def warnings(self) -> list[str]:
        """What a reader of the ranking must know, one line each; nothing is left out for it."""
        lines = [f"Mixed: {line}" for line in self.mixed]
        entries = [ranked.entry for ranked in self.ranked]
        if len(entries) == 1:
            lines.append(f"{entries[0].team} is the only entry: being first says nothing.")
        lines += _blurred(entries)
        if len({entry.views for entry in entries}) > 1:
            several = ", ".join(f"{entry.team} {entry.views_text}" for entry in entries)
            lines.append(
                f"Test-time views differ ({several}): averaging views raises PSNR and SSIM, so compare like with like."
            )
        unstated = [entry.team for entry in entries if entry.protocol is None]
        if unstated:
            lines.append(
                f"No protocol is stated for {', '.join(unstated)}: nothing says that these numbers were made alike, of "
                "the same images, with as many test-time views."
            )
        lines += [
            f"{entry.team}: {entry.infinite} of {entry.images} images have infinite PSNR (identical to the real ones); "
            "its mean is over the others."
            for entry in entries
            if entry.infinite and math.isfinite(entry.psnr)
        ]
        return lines


def rank(
    entries: Sequence[Entry],
    psnr_weight: float = PSNR_WEIGHT,
    ssim_weight: float = SSIM_WEIGHT,
    mixed: bool = False,
) -> Ranking:
    """Rank ``entries``.

    Args:
        entries: at least one valid one, of different names.
        psnr_weight: weight of the rank by PSNR.
        ssim_weight: weight of the rank by SSIM.
        mixed: rank entries although their protocols, data or images differ, or an entry averages what is not alike.

    Raises:
        RestainError: that is so and ``mixed`` is not given (what differs is named), none is valid, or two have one
            name.
    """
    names = [entry.team for entry in entries]
    if twice := next((name for name in names if names.count(name) > 1), None):
        sources = " and ".join(str(entry.source) for entry in entries if entry.team == twice)
        raise RestainError(f"Two entries are called {twice!r} ({sources}). Name them: NAME=RESULT.")
    valid, invalid = [e for e in entries if e.valid], [e for e in entries if not e.valid]
    if not valid:
        raise RestainError(f"No entry is valid, so nothing can be ranked ({len(invalid)} are marked invalid).")
    differences = _differences(valid)
    if differences and not mixed:
        lines = "\n  ".join(differences)
        raise RestainError(
            f"These results do not compare:\n  {lines}\nEvaluate all of them alike, or rank them all the same with "
            "--mixed, which says so beside the places."
        )
    ranks = rank_scores([e.psnr for e in valid], [e.ssim for e in valid], psnr_weight, ssim_weight)
    ranked = [
        Ranked(
            valid[k], int(ranks.place[k]), float(ranks.psnr_rank[k]), float(ranks.ssim_rank[k]), float(ranks.score[k])
        )
        for k in ranks.order
    ]
    return Ranking(ranked, invalid, psnr_weight, ssim_weight, differences)


def _differences(entries: Sequence[Entry]) -> list[str]:
    """What keeps entries from being compared, or one of them from being a mean, one line each."""
    lines = []
    protocols = {entry.team: entry.protocol_text for entry in entries}
    if len({entry.protocol and entry.protocol.hash for entry in entries}) > 1:
        lines.append(f"protocols differ: {_listed(protocols)}")
    data = {entry.team: entry.fingerprint or "not stated" for entry in entries}
    if len(set(data.values())) > 1:
        lines.append(f"fingerprints of the real images differ: {_listed(data)}")
    lines += [f"{entry.team} averages what is not alike: {line}" for entry in entries for line in entry.mixtures]
    return [*lines, *_other_images(entries)]


def _other_images(entries: Sequence[Entry]) -> list[str]:
    """Where the sets of images differ: by name where names are known, else by number."""
    named = [entry for entry in entries if entry.names]
    for entry in named[1:]:
        ours, theirs = named[0].names, entry.names
        if ours != theirs:
            sides = [f"only {named[0].team}: {_some(ours - theirs)}", f"only {entry.team}: {_some(theirs - ours)}"]
            return [f"images differ: {'; '.join(sides)}"]
    counts = {entry.team: str(entry.images) for entry in entries if entry.images}
    return [f"numbers of images differ: {_listed(counts)}"] if len(set(counts.values())) > 1 else []


def _listed(texts: dict[str, str]) -> str:
    return ", ".join(f"{team}: {text}" for team, text in texts.items())


def _some(names: frozenset[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(sorted(names)[:shown])}{more}" if names else "none"


def _blurred(entries: Sequence[Entry]) -> list[str]:
    """A line for each entry whose images are too blurred to read; blur raises PSNR and SSIM (review, Sec. VI-D)."""
    info = METRICS["sharpness_ratio"].info
    return [
        f"{entry.team}: {info.title} {entry.sharpness:.{info.decimals}f}, below {info.warn_below:g}: {info.warning}. "
        "It keeps its place: whether a submission is valid is for readers to say."
        for entry in entries
        if entry.sharpness is not None and info.warn_below is not None and entry.sharpness < info.warn_below
    ]


def document(ranking: Ranking) -> dict[str, Any]:
    """All of a ranking as JSON can hold it, the entries in rank order; infinite numbers are null."""
    return {
        "ranking": [
            {
                "rank": item.place,
                **_described(item.entry),
                "psnr_rank": item.psnr_rank,
                "ssim_rank": item.ssim_rank,
                "score": item.score,
            }
            for item in ranking.ranked
        ],
        "invalid": [{"rank": None, **_described(entry)} for entry in ranking.invalid],
        "weights": {"psnr": ranking.psnr_weight, "ssim": ranking.ssim_weight},
        "rule": ranking.rule,
        "warnings": ranking.warnings(),
    }


def _described(entry: Entry) -> dict[str, Any]:
    return {
        "team": entry.team,
        "psnr": entry.psnr if math.isfinite(entry.psnr) else None,
        "ssim": entry.ssim,
        "valid": entry.valid,
        "views": entry.views,
        "protocol": asdict(entry.protocol) if entry.protocol else None,
        "dataset_fingerprint": entry.fingerprint,
        "images": entry.images or None,
        "infinite_psnr": entry.infinite,
        "sharpness_ratio": entry.sharpness,
        "mixtures": list(entry.mixtures),
        "overall": {metric: asdict(value) for metric, value in entry.overall.items()},
        "levels": {
            level: {metric: asdict(value) for metric, value in values.items()} for level, values in entry.levels.items()
        },
        "source": printable(str(entry.source)),
    }
