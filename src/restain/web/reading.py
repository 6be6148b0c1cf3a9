"""The reading room: readers log in with a code, see their images in their order, and answer.

All that a browser hears of an image is a random item, and its pixels. Every answer is confirmed only when it is on the
disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from restain.study.database import BusyError, DamagedImageError, DamagedStudyError, NotStoredError
from restain.study.store import (
    AnswerError,
    ConflictError,
    NoItemError,
    NotLoggedInError,
    Opinion,
    State,
    Stored,
    StudyStore,
    Terms,
    study_folders,
)
from restain.web.context import Context
from restain.web.failures import RefusedError
from restain.web.paths import holds_study

WRONG_CODES, MOST_WRONG, MINUTE = 10, 100, 60.0
"""Wrong codes for one study within a minute, from one address and in all, after which no code is looked at: one
computer alone can neither guess on nor lock all others out."""
LOOK_AGAIN = 2.0
"""Seconds between two searches of the folder for studies."""
KEEP_NOTHING = {"Cache-Control": "private, no-store"}

Visit = Annotated[str | None, Header(alias="X-Reading-Session", max_length=200)]


class Code(BaseModel):
    """What a reader types."""

    model_config = ConfigDict(extra="forbid")
    code: str = Field(max_length=100)


class Given(BaseModel):
    """An answer, and which answer the browser knew of when it was made."""

    model_config = ConfigDict(extra="forbid", strict=True)
    grade: str | None = Field(default=None, max_length=40)
    readable: bool
    origin: Literal["real", "generated"] | None = None
    revision: int = Field(ge=0, le=1_000_000_000)
    key: str = Field(min_length=8, max_length=64, pattern=r"^[0-9A-Za-z-]+$")


class Room:
    """One study that is open.

    Args:
        folder: of the study.
        clock: seconds, for the count of wrong codes.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = StudyStore(folder)
        self._clock = clock
        self._wrong: tuple[tuple[float, str], ...] = ()  # when, from where
        self._lock = Lock()

    def log_in(self, code: str, client: str) -> str:
        """A new session.

        Args:
            code: as it was typed.
            client: address of the computer from which it came.

        Raises:
            RefusedError: a wrong code (401), or too many of them (429).
        """
        self._count(client)
        with self._lock:  # one at a time, or many at once would all be looked at before they count
            self._count(client)
            visit = self.store.log_in(code)
            if visit is None:
                self._wrong = (*self._wrong, (self._clock(), client))[-MOST_WRONG:]
                raise RefusedError(401, "This code opens nothing here. Check each letter; 0, 1, I and O are in none.")
            return visit

    def _count(self, client: str) -> None:
        now = self._clock()
        recent = [where for when, where in self._wrong if now - when < MINUTE]
        if len(recent) >= MOST_WRONG or recent.count(client) >= WRONG_CODES:
            raise RefusedError(429, "Too many wrong codes. Wait a minute, then try again.")


class Rooms:
    """The studies in the served folder.

    Args:
        folder: that is served.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rooms: dict[str, Room | None] = {}
        self._looked = float("-inf")
        self._lock = Lock()

    def room(self, study: str) -> Room:
        """The study of this id.

        Raises:
            RefusedError: there is none (404), or two copies of it lie in the folder (409).
        """
        room = self._rooms.get(study)
        if room is not None and holds_study(room.store.folder):  # not behind the lock: readers wait for no one's search
            return room
        with self._lock:
            if time.monotonic() - self._looked > LOOK_AGAIN:
                self._look()
                self._looked = time.monotonic()
            rooms = self._rooms
        if study not in rooms:
            raise RefusedError(404, "There is no such study here. Check the address that you were given.")
        room = rooms[study]
        if room is None:
            raise RefusedError(409, "Several copies of this study are served. Tell the organiser to leave one.")
        return room

    def _look(self) -> None:
        """Find the studies; those that are open stay so, with what they know of wrong codes."""
        found: dict[str, list[Path]] = {}
        for folder in study_folders(self.folder):
            try:
                found.setdefault(StudyStore(folder).terms().id, []).append(folder)
            except (DamagedStudyError, BusyError):
                if open_rooms := [name for name, room in self._rooms.items() if room and room.store.folder == folder]:
                    found.setdefault(open_rooms[0], []).append(folder)
        rooms: dict[str, Room | None] = {}
        for name, folders in found.items():
            old = self._rooms.get(name)
            keep = old is not None and old.store.folder == folders[0]
            rooms[name] = None if len(folders) > 1 else old if keep else Room(folders[0])
        self._rooms = rooms


def router(context: Context) -> APIRouter:
    """The routes under ``/api/reading``."""
    rooms = Rooms(context.root.folder)
    routes = APIRouter(prefix="/api/reading/{study}")

    @routes.get("")
    def terms(study: str) -> Response:
        with _said():
            return _json(_terms(rooms.room(study).store.terms()))

    @routes.post("/login")
    def log_in(study: str, given: Code, request: Request) -> Response:
        client = request.client.host if request.client else ""
        with _said():
            return _json({"session": rooms.room(study).log_in(given.code, client)})

    @routes.get("/state")
    def state(study: str, session: Visit = None) -> Response:
        with _said():
            return _json(_state(rooms.room(study).store.state(_known(session))))

    @routes.get("/image/{item}")
    def image(study: str, item: str, session: Visit = None) -> Response:
        with _said():
            content = rooms.room(study).store.picture(_known(session), item)
        return Response(content, media_type="image/png", headers=KEEP_NOTHING)

    @routes.get("/answer/{item}")
    def answer(study: str, item: str, session: Visit = None) -> Response:
        with _said():
            stored = rooms.room(study).store.answer(_known(session), item)
        if stored is None:
            raise RefusedError(404, "You have not answered this image yet.")
        return _json(_answer(stored))

    @routes.put("/answer/{item}")
    def put(study: str, item: str, given: Given, session: Visit = None) -> Response:
        opinion = Opinion(given.grade, given.readable, given.origin)
        store = rooms.room(study).store
        try:
            with _said():
                revision, now = store.put(_known(session), item, opinion, given.revision, given.key)
        except ConflictError as error:
            stored = None if error.stored is None else _answer(error.stored)
            return _json({"error": str(error), "answer": stored}, 409)
        following = now.next(item)
        done = following is None
        return _json(
            {
                "revision": revision,
                "answered": now.answered,
                "total": len(now.items),
                "next": following,
                "finished": done,
            }
        )

    return routes


@contextmanager
def _said() -> Iterator[None]:
    """Errors of a study as answers; those that concern the organiser's files do not name them to a reader."""
    try:
        yield
    except NotLoggedInError as error:
        raise RefusedError(401, str(error)) from error
    except NoItemError as error:
        raise RefusedError(404, str(error)) from error
    except AnswerError as error:
        raise RefusedError(400, str(error)) from error
    except NotStoredError as error:
        text = (
            "The server could not store this: its disk is full, or refuses. Nothing was changed. Tell the organiser, "
        )
        raise RefusedError(507, text + "leave this page open, and try again.") from error
    except BusyError as error:
        raise RefusedError(503, "The study is held by another program. Nothing was changed; try again.") from error
    except DamagedStudyError as error:
        text = str(error) if isinstance(error, DamagedImageError) else "This study cannot be read."
        raise RefusedError(422, f"{text} Nothing was changed. Tell the organiser.") from error


def _known(session: str | None) -> str:
    if not session:
        raise NotLoggedInError("Log in with your code first.")
    return session


def _json(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status, KEEP_NOTHING)


def _terms(terms: Terms) -> dict[str, object]:
    return {"title": terms.title, "levels": list(terms.levels), "asks_origin": terms.asks_origin}


def _state(state: State) -> dict[str, object]:
    current = state.next()
    return {
        "answered": state.answered,
        "total": len(state.items),
        "finished": current is None,
        "items": [{"item": item, "answered": done} for item, done in state.items],
        "current": current,
    }


def _answer(stored: Stored) -> dict[str, object]:
    opinion = stored.opinion
    return {
        "grade": opinion.grade,
        "readable": opinion.readable,
        "origin": opinion.origin,
        "revision": stored.revision,
    }
