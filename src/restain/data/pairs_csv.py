"""``pairs.csv``: where each patch of a dataset comes from, its level, its split, and whether it was kept or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restain.core.errors import RestainError
from restain.core.files import read_csv, write_csv
from restain.core.resolution import parse_mpp

COLUMNS = (
    *("name", "side", "patient", "slide", "level", "split", "x", "y", "mpp", "tissue", "pen", "artefact", "filled"),
    *("tumour", "focus_he", "focus_ihc", "shift_um", "alignment", "kept", "reason"),
)
"""What ``build_pairs`` writes.

``side``: ``he`` or ``ihc`` for a patch without a partner, empty for a pair. ``x``, ``y``: top left corner in level-0 px
(of the IHC for a pair). ``mpp``: of the patch, um/px. ``tissue``, ``pen``, ``artefact`` (folds, bubbles), ``filled``,
``tumour``: shares, 0 to 1, the worse of both stains. ``focus_he``, ``focus_ihc``: sharpness relative to the slide's.
``shift_um``, ``alignment``: how far the H&E seems displaced, and the probability that it is not. Empty: not known, or
not looked at because the patch was dropped for another ``reason`` before.
"""


@dataclass(frozen=True)
class PairRow:
    """What ``pairs.csv`` says of one pair; None where it is silent."""

    name: str
    split: str | None
    level: str | None
    slide: str | None
    patient: str | None
    mpp: float | None
    kept: bool
    side: str | None = None


@dataclass(frozen=True)
class PairsTable:
    """The rows of a ``pairs.csv``."""

    path: Path
    rows: tuple[PairRow, ...]
    by_name: Mapping[str, tuple[PairRow, ...]]

    def row(self, split: str, name: str) -> PairRow | None:
        """The row of pair ``name``; where the name occurs in several splits, that of the folder's ``split``.

        The row of a name that occurs once may give another split: so a dataset is split anew without moving files.
        """
        rows = self.by_name.get(name, ())
        if len(rows) > 1:
            return next((row for row in rows if row.split == split), None)
        return rows[0] if rows else None

    def keeps(self, split: str, name: str) -> bool:
        """Whether the pair is used; pairs that are not listed are."""
        row = self.row(split, name)
        return row is None or row.kept


def read_pairs_csv(path: Path) -> PairsTable | None:
    """The table in ``path``; None where there is no such file.

    Raises:
        RestainError: it cannot be read, has no column ``name``, or a value in ``mpp`` or ``kept`` makes no sense (the
            line is named).
    """
    if not path.exists():
        return None
    rows = tuple(
        PairRow(
            name=_text(row, "name") or _no_name(path, line),
            split=_text(row, "split"),
            level=_text(row, "level"),
            slide=_text(row, "slide"),
            patient=_text(row, "patient"),
            mpp=parse_mpp(_text(row, "mpp"), f"{path}: line {line}: mpp"),
            kept=_kept(path, line, _text(row, "kept")),
            side=_text(row, "side"),
        )
        for line, row in enumerate(read_csv(path, required=["name"]), start=2)
    )
    by_name: dict[str, tuple[PairRow, ...]] = {}
    for entry in rows:
        by_name[entry.name] = (*by_name.get(entry.name, ()), entry)
    return PairsTable(path, rows, by_name)


def write_pairs_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with the keys of ``COLUMNS`` atomically."""
    write_csv(path, COLUMNS, rows)


def _text(row: Mapping[str, str], column: str) -> str | None:
    return (row.get(column) or "").strip() or None


def _no_name(path: Path, line: int) -> str:
    raise RestainError(f"{path}: line {line} has no name.")


def _kept(path: Path, line: int, text: str | None) -> bool:
    if text is None or text.lower() in {"1", "true", "yes"}:
        return True
    if text.lower() in {"0", "false", "no"}:
        return False
    raise RestainError(f"{path}: line {line}: kept {text!r} is neither 1 nor 0.")
