"""All answers of a study beside the truth, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlmodel import col, select

from restain.core.errors import RestainError
from restain.study.database import FILE, DamagedStudyError, check, reading
from restain.study.store import Terms, terms_of
from restain.study.tables import Answer, Image, Item, Pair, Reader, Study

NOT_READABLE, MISSING = -1, -2
"""In ``Answers.grades``: what is no level."""
UNSAID, SAID_REAL, SAID_GENERATED = -1, 0, 1
REAL, GENERATED = 0, 1
"""The last axis of the arrays."""


@dataclass(frozen=True)
class Answers:
    """What R readers said of N pairs; the last revision of each answer.

    Attributes:
        terms: of the study.
        seed: of its draw.
        sources: folders of the real and of the generated images, as they were given.
        made: when the study was made.
        readers: names [R].
        pairs: names [N].
        patients: [N]; None where unknown.
        truth: index of each pair's level, -1 where unknown, int64 [N].
        grades: index of the level, ``NOT_READABLE`` or ``MISSING``, int64 [R, N, 2], real then generated.
        origins: ``UNSAID``, ``SAID_REAL`` or ``SAID_GENERATED``, int64 [R, N, 2].
        places: in each reader's order, from 0, int64 [R, N, 2].
        revisions: how often each was answered, int64 [R, N, 2].
        seconds: from the reader's answer before to the first answer to this image, NaN for the first of all [R, N, 2].
        images: names of the image files [N, 2].
    """

    terms: Terms
    seed: int
    sources: tuple[str, str]
    made: str
    readers: tuple[str, ...]
    pairs: tuple[str, ...]
    patients: tuple[str | None, ...]
    truth: NDArray[np.int64]
    grades: NDArray[np.int64]
    origins: NDArray[np.int64]
    places: NDArray[np.int64]
    revisions: NDArray[np.int64]
    seconds: NDArray[np.float64]
    images: NDArray[np.str_]

    @property
    def units(self) -> tuple[list[str], str]:
        """What is resampled, a name for each pair, and what that is: patients where all are known, else pairs."""
        if None not in self.patients and self.patients:
            return [str(patient) for patient in self.patients], "patient"
        return list(self.pairs), "pair"

    @property
    def answered(self) -> NDArray[np.int64]:
        """Answered images of each reader [R]."""
        return np.asarray((self.grades != MISSING).sum((1, 2)), np.int64)


def read_answers(folder: Path) -> Answers:
    """The answers of the study in ``folder``, which may be under way.

    Raises:
        RestainError: there is no study.
        DamagedStudyError: it cannot be read, or contradicts itself.
    """
    file = folder / FILE
    if not file.is_file():
        raise RestainError(f"{folder}: is no study (it has no {FILE}). Give the folder that `restain study new` made.")
    check(file)
    with reading(file) as session:
        terms = terms_of(session, file)
        study = session.exec(select(Study)).one()
        pairs = session.exec(select(Pair).order_by(col(Pair.number))).all()
        images = {image.name: image for image in session.exec(select(Image))}
        readers = session.exec(select(Reader).order_by(col(Reader.number))).all()
        items = session.exec(select(Item)).all()
        answers = session.exec(select(Answer).order_by(col(Answer.number))).all()
    try:
        return _arrays(terms, study, pairs, images, readers, items, answers)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise DamagedStudyError(f"{file}: contradicts itself ({error!r}). Put back a copy of the study.") from error


def _arrays(
    terms: Terms,
    study: Study,
    pairs: Sequence[Pair],
    images: dict[str, Image],
    readers: Sequence[Reader],
    items: Sequence[Item],
    answers: Sequence[Answer],
) -> Answers:
    shape = (len(readers), len(pairs), 2)
    grades, origins = np.full(shape, MISSING, np.int64), np.full(shape, UNSAID, np.int64)
    places, revisions, seconds = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, np.nan)
    names = np.full(shape[1:], "", "<U16")
    for name, image in images.items():
        names[image.pair, REAL if image.real else GENERATED] = name
    where = {}
    for item in items:
        image = images[item.image]
        where[item.id] = (item.reader, image.pair, REAL if image.real else GENERATED)
        places[where[item.id]] = item.place
    before: dict[int, float] = {}
    for answer in answers:  # as they came: a later one replaces an earlier one
        place = where[answer.item]
        grades[place] = terms.levels.index(str(answer.grade)) if answer.readable else NOT_READABLE
        origins[place] = {"real": SAID_REAL, "generated": SAID_GENERATED, None: UNSAID}[answer.origin]
        if answer.revision == 1 and place[0] in before:
            seconds[place] = max(answer.time - before[place[0]], 0.0)
        revisions[place] = answer.revision
        before[place[0]] = answer.time
    truth = [terms.levels.index(pair.level) if pair.level is not None else -1 for pair in pairs]
    return Answers(
        terms=terms,
        seed=study.seed,
        sources=(study.real, study.fake),
        made=study.made,
        readers=tuple(reader.name for reader in readers),
        pairs=tuple(pair.name for pair in pairs),
        patients=tuple(pair.patient for pair in pairs),
        truth=np.array(truth, np.int64),
        grades=grades,
        origins=origins,
        places=places,
        revisions=revisions,
        seconds=seconds,
        images=names,
    )
