"""Training without the worst pairs, by what ``restain dataset check DIR --qc`` found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.data.quality_index import QualityIndex, index_file, read_index, sides
from restain.data.records import LoneImage, PairFolder, PairRecord, file_stamp


@dataclass(frozen=True)
class QualityFilter:
    """Which pairs are left out of training for their quality; both null: none.

    Attributes:
        fraction: leave out this share of the split's pairs, the worst first (arptidec5, BCI challenge review 2023,
            section V: about 0.1).
        threshold: leave out pairs with a score of this or more, from 0 (good) to 1 (bad); 0.5 is where a pair counts
            as bad.
    """

    fraction: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            RestainError: both are given, or one out of range.
        """
        if self.fraction is not None and self.threshold is not None:
            raise RestainError("quality: give fraction or threshold, not both.")
        if self.fraction is not None and not 0 <= self.fraction < 1:
            raise RestainError(f"quality: fraction is a share from 0 to below 1, not {self.fraction}.")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise RestainError(f"quality: threshold is a score above 0 up to 1, not {self.threshold}.")

    @property
    def off(self) -> bool:
        """Whether nothing is left out."""
        return self.fraction is None and self.threshold is None

    def dropped(self, scores: Sequence[float]) -> list[int]:
        """Which of items with these scores are left out, the worst first; of equal ones the earlier first."""
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        if self.fraction is not None:
            return order[: round(self.fraction * len(scores))]
        return [] if self.threshold is None else [index for index in order if scores[index] >= self.threshold]

    def apply(self, folder: PairFolder, split: str) -> tuple[PairFolder, dict[str, Any] | None]:
        """The dataset without the worst pairs of a split, and what a run says of it.

        Images without a partner count like pairs; other splits stay as they are.

        Returns:
            The dataset; and ``{"fraction", "threshold", "dropped", "of", "score"}`` (the lowest score that was left
            out; null where none was), or None where the filter is off.

        Raises:
            RestainError: the quality of the split is not known, or files have changed since, or nothing would be left.
        """
        if self.off:
            return folder, None
        items: list[PairRecord | LoneImage] = [*folder.split(split), *(i for i in folder.lone if i.split == split)]
        scores = _scores(folder, items)
        worst = self.dropped(scores)
        if items and len(worst) == len(items):
            raise RestainError(
                f"{folder.root}: quality (fraction {self.fraction}, threshold {self.threshold}) leaves none of the "
                f"{len(items)} pairs of split {split}. Choose a smaller fraction or a higher threshold."
            )
        out = {id(items[index]) for index in worst}
        kept = replace(
            folder,
            records=tuple(record for record in folder.records if id(record) not in out),
            lone=tuple(image for image in folder.lone if id(image) not in out),
        )
        lowest = min((scores[index] for index in worst), default=None)
        said = {"fraction": self.fraction, "threshold": self.threshold}
        return kept, {**said, "dropped": len(worst), "of": len(items), "score": lowest}


def quality_command(folder: PairFolder) -> str:
    """The command that finds out the quality of a dataset."""
    return shlex.join(["restain", "dataset", "check", str(folder.root), "--qc"])


def _scores(folder: PairFolder, items: Sequence[PairRecord | LoneImage]) -> list[float]:
    """The score of each item.

    Raises:
        RestainError: one is not known, or its files have changed since.
    """
    advice = f"Run `{quality_command(folder)}`"
    try:
        index = read_index(folder.root)
    except ItemError as error:
        raise RestainError(f"{error} {advice}, which makes it again.") from error
    if index is None:
        raise RestainError(
            f"{folder.root}: pairs are to be left out by quality, but it is not known: {index_file(folder.root)} is "
            f"not there, or of another version of restain. {advice}."
        )
    bad = [item for item in items if not _fits(index, item)]
    if bad:
        raise RestainError(
            f"{folder.root}: the quality of {len(bad)} of {len(items)} pairs is not known, or their images have "
            f"changed since; the first is {bad[0].name}. {advice}, which looks at those."
        )
    return [index.items[item.split, item.name].score for item in items]


def _fits(index: QualityIndex, item: PairRecord | LoneImage) -> bool:
    known = index.items.get((item.split, item.name))
    return known is not None and known.stamps == tuple(file_stamp(path) for _, path in sides(item))
