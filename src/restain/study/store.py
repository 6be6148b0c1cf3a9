"""What a reading room does with a study: log in, show an image, keep an answer. Light to import."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session, col, delete, select

from restain.core.errors import ItemError
from restain.study.codes import hashed
from restain.study.database import (
    FILE,
    BusyError,
    DamagedImageError,
    DamagedStudyError,
    NotStoredError,
    check,
    reading,
    writing,
)
from restain.study.tables import Answer, Image, Item, Reader, Study, Visit

IMAGES = "images"
IDLE = 12 * 3600.0
"""Seconds without a request after which a reader gives the code again."""
REFRESH = 900.0
"""Seconds after which a visit's last use is written down anew: not at every request, each of which would be a write."""
LARGEST_IMAGE = 128 << 20
"""Bytes of an image file that is served."""
DEEPEST, MOST_FOLDERS = 6, 20_000
"""How far below a folder studies are looked for."""
ORIGINS = ("real", "generated")


class NotLoggedInError(ItemError):
    """The visit is unknown or too old."""


class NoItemError(ItemError):
    """The reader has no such image."""


class AnswerError(ItemError):
    """An answer that the study does not know."""


@dataclass(frozen=True)
class Terms:
    """What all may know of a study.

    Attributes:
        id: stands in the address.
        title: of the study.
        levels: what an image can be graded as, in order.
        asks_origin: whether readers say if an image is real or generated.
    """

    id: str
    title: str
    levels: tuple[str, ...]
    asks_origin: bool


@dataclass(frozen=True)
class Opinion:
    """What a reader says of an image.

    Attributes:
        grade: one of the levels; None where not readable.
        readable: whether it can be graded.
        origin: ``real``, ``generated``, or None where not said.
    """

    grade: str | None
    readable: bool
    origin: str | None


@dataclass(frozen=True)
class Stored:
    """An opinion as it is stored, with its revision: 1 for the first."""

    opinion: Opinion
    revision: int


class ConflictError(ItemError):
    """An answer that was made without knowing the one that is stored.

    Attributes:
        stored: the one that counts; None where there is none.
    """

    def __init__(self, message: str, stored: Stored | None) -> None:
        super().__init__(message)
        self.stored = stored


@dataclass(frozen=True)
class State:
    """How far a reader is.

    Attributes:
        items: the reader's images in order, and whether each is answered.
    """

    items: tuple[tuple[str, bool], ...]

    @property
    def answered(self) -> int:
        """Number of answered images."""
        return sum(done for _, done in self.items)

    def next(self, after: str | None = None) -> str | None:
        """The first unanswered image behind ``after``, then from the beginning; None where all are answered."""
        start = next((place + 1 for place, (item, _) in enumerate(self.items) if item == after), 0)
        return next((item for item, done in self.items[start:] + self.items[:start] if not done), None)


def study_folders(root: Path) -> list[Path]:
    """The studies in ``root`` and below; hidden folders and symbolic links are not followed."""
    found = []
    for seen, (folder, folders, files) in enumerate(os.walk(root)):
        if seen >= MOST_FOLDERS:
            break
        deep = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep < DEEPEST else []
        if FILE in files:
            folders.clear()
            if not _is_link(Path(folder) / FILE):
                found.append(Path(folder))
    return found


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # the folder may not be entered; whoever opens the study is told
        return False


def study_summary(folder: Path) -> tuple[str, str]:
    """Id and title of the study in ``folder``, after a look through its whole database.

    Raises:
        DamagedStudyError: there is none, or it is damaged.
        BusyError: another program holds it.
    """
    check(folder / FILE)
    terms = StudyStore(folder).terms()
    return terms.id, terms.title


class StudyStore:
    """A study as its readers use it. Holds nothing open: each call sees the file that is there.

    Args:
        folder: with ``study.sqlite`` and ``images/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE

    def terms(self) -> Terms:
        """What all may know.

        Raises:
            DamagedStudyError: the study cannot be read.
        """
        with reading(self.file) as session:
            return terms_of(session, self.file)

    def log_in(self, code: str) -> str | None:
        """A new visit of the reader who has this code: what the browser shows from now on; None for a wrong code.

        Raises:
            NotStoredError: the disk is full.
        """
        with reading(self.file) as session:
            study = session.exec(select(Study)).first()
            readers = session.exec(select(Reader)).all()
        try:
            salt = bytes.fromhex(study.salt) if study else b""
        except (TypeError, ValueError) as error:
            raise DamagedStudyError(f"{self.file}: has no salt of its codes. Put back a copy of the study.") from error
        given = hashed(code, salt)
        matches = [reader.number for reader in readers if hmac.compare_digest(reader.code, given)]
        if not matches:
            return None
        token, now = secrets.token_urlsafe(32), time.time()
        with writing(self.file) as session:
            session.exec(delete(Visit).where(col(Visit.used) < now - IDLE))
            session.add(Visit(token=_digest(token), reader=matches[0], used=now))
        return token

    def state(self, visit: str) -> State:
        """How far the reader is.

        Raises:
            NotLoggedInError: no such visit.
        """
        with reading(self.file) as session:
            found = self._visit(session, visit)
            state = _state(session, found.reader)
        self._refresh(found)
        return state

    def picture(self, visit: str, item: str) -> bytes:
        """The PNG of an image.

        Raises:
            NotLoggedInError: no such visit.
            NoItemError: the reader has no such image.
            DamagedImageError: its file is missing or was changed.
        """
        with reading(self.file) as session:
            found = self._visit(session, visit)
            image = session.get(Image, _item(session, found.reader, item).image)
        self._refresh(found)
        damaged = DamagedImageError("This image is missing or damaged.")
        # From here on no message may name a file, and no name from the database may lead out of the folder.
        if image is None or not re.fullmatch(r"[0-9a-f]{16}", image.name):
            raise damaged
        path = self.folder / IMAGES / f"{image.name}.png"
        try:
            if path.parent.is_symlink() or path.is_symlink() or path.stat().st_size > LARGEST_IMAGE:
                raise damaged
            content = path.read_bytes()
        except OSError as error:
            raise damaged from error
        if hashlib.sha256(content).hexdigest() != image.sha256:
            raise damaged
        return content

    def answer(self, visit: str, item: str) -> Stored | None:
        """The reader's own answer to an image; None where there is none yet.

        Raises:
            NotLoggedInError: no such visit.
            NoItemError: the reader has no such image.
        """
        with reading(self.file) as session:
            found = self._visit(session, visit)
            return _stored(_latest(session, found.reader, _item(session, found.reader, item).id))

    def put(self, visit: str, item: str, opinion: Opinion, revision: int, key: str) -> tuple[int, State]:
        """Keep an answer. When this returns, it is on the disk; the same key again changes nothing.

        Args:
            visit: of the reader.
            item: the image.
            opinion: what the reader says.
            revision: of the answer that the reader knows of; 0 for none.
            key: made up for this answer.

        Returns:
            The revision of the answer, and how far the reader is.

        Raises:
            NotLoggedInError: no such visit.
            NoItemError: the reader has no such image.
            AnswerError: the study does not know such an answer.
            ConflictError: another answer is stored than the reader knows of, or the key was that of another answer.
            NotStoredError: the disk is full; nothing was changed.
        """
        now = time.time()
        with writing(self.file) as session:
            found = self._visit(session, visit)
            reader, own = found.reader, _item(session, found.reader, item).id
            _check(opinion, terms_of(session, self.file))
            last = _latest(session, reader, own)
            same = session.exec(select(Answer).where(Answer.reader == reader, Answer.key == key)).first()
            if same is not None:
                if same.item != own or _opinion(same) != opinion:
                    raise ConflictError("This key was used for another answer. Answer again.", _stored(last))
                return same.revision, _state(session, reader)
            known = last.revision if last else 0
            if revision != known:
                message = (
                    "This image was answered in another window meanwhile. Look at that answer; change it if need be."
                )
                raise ConflictError(message, _stored(last))
            session.add(
                Answer(
                    reader=reader,
                    item=own,
                    revision=known + 1,
                    grade=opinion.grade,
                    readable=opinion.readable,
                    origin=opinion.origin,
                    key=key,
                    time=now,
                )
            )
            found.used = now
            session.add(found)
            session.flush()
            state = _state(session, reader)
        return known + 1, state

    def _visit(self, session: Session, token: str) -> Visit:
        found = session.get(Visit, _digest(token))
        if found is None or time.time() - found.used > IDLE:
            raise NotLoggedInError("You are not logged in, or were away for long. Give your code again.")
        return found

    def _refresh(self, visit: Visit) -> None:
        """Note that a visit goes on; where that cannot be written, it is not worth an error."""
        if time.time() - visit.used > REFRESH:
            with suppress(NotStoredError, BusyError), writing(self.file) as session:
                found = session.get(Visit, visit.token)
                if found is not None:
                    found.used = time.time()
                    session.add(found)


def terms_of(session: Session, file: Path) -> Terms:
    """What all may know of the study in an open database.

    Raises:
        DamagedStudyError: its row is missing or makes no sense.
    """
    study = session.exec(select(Study)).first()
    try:
        levels = json.loads(study.levels) if study else None
    except (ValueError, TypeError, RecursionError):
        levels = None
    if study is None or not isinstance(levels, list) or len(levels) < 2:
        raise DamagedStudyError(f"{file}: has no description of its study. Make it again with `restain study new`.")
    return Terms(str(study.id), str(study.title), tuple(str(level) for level in levels), bool(study.asks_origin))


def _check(opinion: Opinion, terms: Terms) -> None:
    if opinion.readable and opinion.grade not in terms.levels:
        raise AnswerError(f"grade: give one of {', '.join(terms.levels)}, or say that the image is not readable.")
    if not opinion.readable and opinion.grade is not None:
        raise AnswerError("grade: an image that is not readable has none.")
    if opinion.origin is not None and (not terms.asks_origin or opinion.origin not in ORIGINS):
        wanted = "give real or generated" if terms.asks_origin else "this study does not ask for it"
        raise AnswerError(f"origin: {wanted}.")


def _item(session: Session, reader: int, item: str) -> Item:
    found = session.get(Item, item)
    if found is None or found.reader != reader:
        raise NoItemError("There is no such image in your study. Reload the page.")
    return found


def _latest(session: Session, reader: int, item: str) -> Answer | None:
    query = select(Answer).where(Answer.reader == reader, Answer.item == item)
    return session.exec(query.order_by(col(Answer.revision).desc()).limit(1)).first()


def _stored(answer: Answer | None) -> Stored | None:
    return None if answer is None else Stored(_opinion(answer), answer.revision)


def _opinion(answer: Answer) -> Opinion:
    return Opinion(answer.grade, bool(answer.readable), answer.origin)


def _state(session: Session, reader: int) -> State:
    items = session.exec(select(Item.id).where(Item.reader == reader).order_by(col(Item.place))).all()
    done = set(session.exec(select(Answer.item).where(Answer.reader == reader).distinct()).all())
    return State(tuple((item, item in done) for item in items))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
