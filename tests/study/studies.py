"""Small studies for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from restain.slides import write_image
from restain.study.answers import MISSING, UNSAID, Answers
from restain.study.design import Design, Made, new_study
from restain.study.store import Opinion, StudyStore, Terms

LEVELS = ("0", "1+", "2+", "3+")


def write_folders(root: Path, count: int = 8, side: int = 16, levels: Iterable[str] = LEVELS) -> tuple[Path, Path]:
    """Real images of noise and generated ones that are smoother, with BCI's names and levels in turn."""
    random = np.random.default_rng(5)
    cycle = list(levels)
    for index in range(count):
        name = f"{index:05d}_test_{cycle[index % len(cycle)]}.png"
        real = random.integers(0, 256, (side, side, 3), np.uint8)
        write_image(root / "real" / name, real)
        write_image(root / "fake" / name, np.full_like(real, 5 * index + 9))
    return root / "real", root / "fake"


def make_study(root: Path, pairs: int = 4, readers: tuple[str, ...] = ("alice", "bob"), **options: object) -> Made:
    """A study in ``root/study``."""
    real, fake = write_folders(root, count=2 * pairs)
    return new_study(Design(real, fake, root / "study", pairs, readers, **options))  # type: ignore[arg-type]


def answer_all(store: StudyStore, code: str, grades: Iterable[str]) -> list[str]:
    """Answer all images of one reader in order; their items."""
    visit = store.log_in(code)
    assert visit is not None
    items = [item for item, _ in store.state(visit).items]
    for item, grade in zip(items, grades, strict=False):
        store.put(visit, item, Opinion(grade, True, None), 0, f"key-{item}")
    return items


def answers(
    grades: object, truth: object = None, origins: object = None, patients: object = None, levels: int = 4
) -> Answers:
    """Made-up answers.

    Args:
        grades: [R, N, 2] indices of levels, -1 not readable, -2 missing.
        truth: [N]; unknown if not given.
        origins: [R, N, 2]; unsaid if not given.
        patients: [N] names; unknown if not given.
        levels: how many.
    """
    given = np.array(grades, np.int64)
    readers, pairs, _ = given.shape
    return Answers(
        terms=Terms("abcd2345", "Test", LEVELS[:levels], origins is not None),
        seed=0,
        sources=("real", "fake"),
        made="2024-01-01T00:00:00+00:00",
        readers=tuple(f"r{number + 1}" for number in range(readers)),
        pairs=tuple(f"pair{number:03d}" for number in range(pairs)),
        patients=tuple(patients) if patients is not None else (None,) * pairs,  # type: ignore[arg-type]
        truth=np.full(pairs, -1) if truth is None else np.array(truth, np.int64),
        grades=given,
        origins=np.full(given.shape, UNSAID) if origins is None else np.array(origins, np.int64),
        places=np.arange(2 * pairs).reshape(1, pairs, 2).repeat(readers, 0),
        revisions=(given != MISSING).astype(np.int64),
        seconds=np.full(given.shape, np.nan),
        images=np.full((pairs, 2), "0" * 16),
    )
