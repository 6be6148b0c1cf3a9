"""What a study found: accuracy as in the BCI paper (Sec. 5.5), agreement, truth, real or generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from restain.evaluate.bootstrap import INTERVAL
from restain.study.agreement import (
    PERMUTATIONS,
    cohen_kappa,
    confusion,
    expected_agreement,
    fleiss_kappa,
    fleiss_parts,
    p_value,
    permuted_agreement,
)
from restain.study.answers import (
    GENERATED,
    MISSING,
    NOT_READABLE,
    REAL,
    SAID_GENERATED,
    UNSAID,
    Answers,
)
from restain.study.measures import ALL, Measure, Of, of_parts, share

SIDES = {"real": REAL, "generated": GENERATED}
KAPPAS = {"": False, "_quadratic": True}
FEW = 20
"""Units below which percentile intervals are a rough guide."""
NO_TRUTH = "levels of the slides are unknown"


@dataclass(frozen=True)
class Confusion:
    """How often each pair of grades occurs.

    Attributes:
        matrix: what against what: ``real | generated``, ``reader | reader``, ``truth | real``, ``truth | generated``.
        readers: whose.
        rows: names of the rows.
        columns: names of the columns.
        counts: int64 [rows, columns].
    """

    matrix: str
    readers: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Results:
    """What a study found.

    Attributes:
        answers: what it is made of.
        measures: all numbers.
        confusions: all matrices.
    """

    answers: Answers
    measures: tuple[Measure, ...]
    confusions: tuple[Confusion, ...]

    def get(self, measure: str, readers: str, images: str = ALL, level: str = ALL) -> Measure:
        """One number; one that is not computed where there is none of this kind."""
        wanted = (measure, readers, images, level)
        for one in self.measures:
            if (one.measure, one.readers, one.images, one.level) == wanted:
                return one
        return Measure(*wanted, why="not asked")

    @property
    def everyone(self) -> list[str]:
        """Readers, then ``all`` where there are several."""
        return [*self.answers.readers, *([ALL] if len(self.answers.readers) > 1 else [])]

    @property
    def levels(self) -> list[str]:
        """Levels that the slides have, in order."""
        return [name for index, name in enumerate(self.answers.terms.levels) if (self.answers.truth == index).any()]

    @property
    def complete(self) -> bool:
        """Whether every reader has answered every image."""
        return bool((self.answers.grades != MISSING).all())

    def notes(self) -> list[str]:
        """What must be known beside the numbers."""
        answers = self.answers
        lines = []
        total = 2 * len(answers.pairs)
        if not self.complete:
            far = ", ".join(
                f"{name} {done} of {total}" for name, done in zip(answers.readers, answers.answered, strict=True)
            )
            lines.append(f"The study is under way (answered: {far}). These numbers are of what is answered so far.")
        units, what = answers.units
        if len(set(units)) < FEW:
            lines.append(f"With {len(set(units))} {what}s, the intervals are no more than a rough guide.")
        if what == "pair":
            lines.append("Patients are unknown: if pairs share a patient, the intervals are too narrow.")
        elif len(set(units)) < len(units):
            lines.append("Some patients have several pairs: intervals allow for that, p does not, and is too small.")
        if not self.levels:
            lines.append("Levels of the slides are unknown: there is no agreement with truth, and nothing by level.")
        return lines

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        answers, (units, what) = self.answers, self.answers.units
        return {
            "study": answers.terms.id,
            "title": answers.terms.title,
            "levels": list(answers.terms.levels),
            "made": answers.made,
            "seed": answers.seed,
            "real": answers.sources[0],
            "generated": answers.sources[1],
            "pairs": len(answers.pairs),
            "images": 2 * len(answers.pairs),
            "answered": dict(zip(answers.readers, answers.answered.tolist(), strict=True)),
            "complete": self.complete,
            "accuracy": {name: self.get("accuracy", name, "pairs").value for name in self.everyone},
            "intervals": {**asdict(INTERVAL), "units": len(set(units)), "resampled": what},
            "permutations": PERMUTATIONS,
            "notes": self.notes(),
            "measures": [asdict(one) for one in self.measures],
            "confusions": [{**asdict(one), "counts": one.counts.tolist()} for one in self.confusions],
        }


def study_results(answers: Answers) -> Results:
    """All numbers of a study, whole or under way."""
    measures = [*_accuracy(answers), *_between(answers), *_truth(answers), *_origin(answers), *_rest(answers)]
    return Results(answers, tuple(measures), tuple(_confusions(answers)))


def counted_pairs(answers: Answers) -> NDArray[np.bool_]:
    """Pairs that accuracy counts [R, N]: the real image has a grade, and the generated one is answered.

    A generated image that is not readable counts, and is not accurate: it was not diagnosed at the level of its
    partner. A pair whose real image is not readable has nothing to compare with.
    """
    grades = answers.grades
    return np.asarray((grades[..., REAL] >= 0) & (grades[..., GENERATED] != MISSING))


def _groups(answers: Answers) -> list[tuple[str, list[int]]]:
    """Each reader alone, then all."""
    alone = [(name, [number]) for number, name in enumerate(answers.readers)]
    return alone + ([(ALL, list(range(len(answers.readers))))] if len(alone) > 1 else [])


def _by_level(answers: Answers) -> list[tuple[str, NDArray[np.bool_]]]:
    """All pairs, then those of each level [N]."""
    whole = [(ALL, np.ones(len(answers.pairs), bool))]
    levels = [(name, answers.truth == index) for index, name in enumerate(answers.terms.levels)]
    return whole + [(name, chosen) for name, chosen in levels if chosen.any()]


def _accuracy(answers: Answers) -> Iterator[Measure]:
    """The generated image's grade is the one that the same reader gave its real partner."""
    real, generated = answers.grades[..., REAL], answers.grades[..., GENERATED]
    counted, both = counted_pairs(answers), (real >= 0) & (generated >= 0)
    units, levels = answers.units[0], len(answers.terms.levels)
    for name, who in _groups(answers):
        own = np.tile(units, len(who)).tolist()
        equal = real[who] == generated[who]
        some = counted[who].any(0)
        first, second = (np.where(counted[who], side[who], MISSING)[:, some] for side in (real, generated))
        chance = permuted_agreement(first, second, answers.seed)
        for level, chosen in _by_level(answers):
            of, kept = Of(name, "pairs", level), counted[who] & chosen
            seen = float(equal[kept].mean()) if kept.any() else None
            p = p_value(seen, chance) if seen is not None and level == ALL else None
            yield share("accuracy", of, equal, kept, own, p, "no pair is answered yet")
            yield share("accuracy_if_readable", of, equal, both[who] & chosen, own, why="no pair with two grades yet")
        by_chance = [expected_agreement(real[r][counted[r]], generated[r][counted[r]], levels) for r in who]
        yield _expected(name, by_chance, counted[who].sum(1))
        yield _dealt(name, chance, int(counted[who].sum()))
        parts = confusion(real[who].ravel(), generated[who].ravel(), levels)
        for suffix, quadratic in KAPPAS.items():
            statistic = partial(cohen_kappa, quadratic=quadratic)
            of = Of(name, "pairs")
            yield of_parts(f"accuracy_kappa{suffix}", of, parts, own, statistic, "no pair with two grades yet")
        for measure, hit in (("pairs_left_out", real[who] == NOT_READABLE), ("pairs_missing", _missing(answers)[who])):
            yield Measure(measure, name, "pairs", value=float(hit.sum()), n=hit.size)


def _missing(answers: Answers) -> NDArray[np.bool_]:
    """Pairs of which an image that matters is not answered [R, N]."""
    real, generated = answers.grades[..., REAL], answers.grades[..., GENERATED]
    return np.asarray((real == MISSING) | ((real != NOT_READABLE) & (generated == MISSING)))


def _expected(name: str, shares: Sequence[float | None], pairs: NDArray[np.int64]) -> Measure:
    """What the readers' accuracies would be by chance, each weighted by its pairs, as it is in the accuracy of all."""
    total = int(pairs.sum())
    if not total:
        return Measure("accuracy_expected", name, "pairs", why="no pair is answered yet")
    value = sum(one * count for one, count in zip(shares, pairs.tolist(), strict=True) if one is not None) / total
    return Measure("accuracy_expected", name, "pairs", value=value, n=total)


def _dealt(name: str, chance: NDArray[np.float64], n: int) -> Measure:
    known = chance[np.isfinite(chance)]
    if not known.size:
        return Measure("accuracy_permuted", name, "pairs", why="no pair is answered yet")
    tail = (1 - INTERVAL.confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Measure("accuracy_permuted", name, "pairs", ALL, float(known.mean()), float(low), float(high), n)


def _between(answers: Answers) -> Iterator[Measure]:
    """Agreement between readers: on all images, real ones, generated ones."""
    units, levels = answers.units[0], len(answers.terms.levels)
    sides = {ALL: [REAL, GENERATED], "real": [REAL], "generated": [GENERATED]}
    for images, side in sides.items():
        grades = answers.grades[..., side].reshape(len(answers.readers), -1)
        own = np.repeat(units, len(side)).tolist()
        for a, b in combinations(range(len(answers.readers)), 2):
            of = Of(f"{answers.readers[a]} | {answers.readers[b]}", images)
            both = (grades[a] >= 0) & (grades[b] >= 0)
            yield share("agreement", of, grades[a] == grades[b], both, own, why="no image that both graded")
            parts = confusion(grades[a], grades[b], levels)
            for suffix, quadratic in KAPPAS.items():
                statistic = partial(cohen_kappa, quadratic=quadratic)
                yield of_parts(f"kappa{suffix}", of, parts, own, statistic, "no image that both graded")
        if len(answers.readers) > 2:
            parts = fleiss_parts(grades, levels)
            yield of_parts("fleiss_kappa", Of(ALL, images), parts, own, fleiss_kappa, "no image that all graded")


def _truth(answers: Answers) -> Iterator[Measure]:
    """Each reader's grades against the level of the slide."""
    units, levels = answers.units[0], len(answers.terms.levels)
    for name, who in _groups(answers):
        own = np.tile(units, len(who)).tolist()
        truth = np.tile(answers.truth, (len(who), 1))
        nothing = NO_TRUTH if (answers.truth < 0).all() else "no image is graded yet"
        for images, side in SIDES.items():
            grades = answers.grades[who][..., side]
            for level, chosen in _by_level(answers):
                kept = (grades >= 0) & (truth >= 0) & chosen
                yield share("truth_agreement", Of(name, images, level), grades == truth, kept, own, why=nothing)
            parts = confusion(truth.ravel(), grades.ravel(), levels)
            for suffix, quadratic in KAPPAS.items():
                statistic = partial(cohen_kappa, quadratic=quadratic)
                yield of_parts(f"truth_kappa{suffix}", Of(name, images), parts, own, statistic, nothing)


def _origin(answers: Answers) -> Iterator[Measure]:
    """Whether readers tell real from generated; against 50 % by an exact binomial test, of each reader alone."""
    if not answers.terms.asks_origin:
        return
    units = np.repeat(answers.units[0], 2)
    for name, who in _groups(answers):
        own = np.tile(units, len(who)).tolist()
        said = answers.origins[who]
        generated = np.zeros_like(said, bool)
        generated[..., GENERATED] = True
        right, known = (said == SAID_GENERATED) == generated, said != UNSAID
        p = None
        if len(who) == 1 and known.any():
            p = float(binomtest(int(right[known].sum()), int(known.sum()), 0.5).pvalue)
        yield share("origin_accuracy", Of(name), right, known, own, p, "not said of any image")
        yield share("origin_sensitivity", Of(name), right, known & generated, own, why="not said of any image")
        yield share("origin_specificity", Of(name), right, known & ~generated, own, why="not said of any image")


def _rest(answers: Answers) -> Iterator[Measure]:
    """What is not readable, how far readers are, and how long they take."""
    units = answers.units[0]
    for name, who in _groups(answers):
        grades, seconds = answers.grades[who], answers.seconds[who]
        yield Measure("answered", name, value=float((grades != MISSING).sum()), n=grades.size)
        for images, side in SIDES.items():
            own, given = np.tile(units, len(who)).tolist(), grades[..., side]
            yield share("not_readable", Of(name, images), given == NOT_READABLE, given != MISSING, own)
        for images, times in ((ALL, seconds), *((images, seconds[..., side]) for images, side in SIDES.items())):
            known = times[np.isfinite(times)]
            value, why = (float(np.median(known)), "") if known.size else (None, "no two answers yet")
            yield Measure("seconds_median", name, images, value=value, n=known.size, why=why)


def _confusions(answers: Answers) -> Iterator[Confusion]:
    """Matrices of each reader, and of each two."""
    levels = answers.terms.levels
    named = (*levels, "not readable")
    truth = np.where(answers.truth < 0, MISSING, answers.truth)
    for reader, grades in zip(answers.readers, answers.grades, strict=True):
        yield Confusion(
            "real | generated", reader, named, named, _counts(grades[:, REAL], grades[:, GENERATED], levels)
        )
        for images, side in SIDES.items():
            if (truth >= 0).any():
                counts = _counts(truth, grades[:, side], levels)[:-1]
                yield Confusion(f"truth | {images}", reader, tuple(levels), named, counts)
    for a, b in combinations(range(len(answers.readers)), 2):
        pair = f"{answers.readers[a]} | {answers.readers[b]}"
        counts = _counts(answers.grades[a].ravel(), answers.grades[b].ravel(), levels)
        yield Confusion("reader | reader", pair, named, named, counts)


def _counts(rows: NDArray[np.int64], columns: NDArray[np.int64], levels: Sequence[str]) -> NDArray[np.int64]:
    """Counts [L + 1, L + 1], the last of each for what is not readable; what is missing is not counted."""
    last = len(levels)
    wrapped = [np.where(side == NOT_READABLE, last, side) for side in (rows, columns)]
    return np.asarray(confusion(wrapped[0], wrapped[1], last + 1).sum(0), np.int64)
