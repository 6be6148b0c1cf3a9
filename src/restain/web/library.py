"""``/api/library``: what there is to look at in the served folder."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter

from restain import __version__
from restain.core.errors import RestainError
from restain.study.store import study_summary
from restain.web.cases import Case, find_cases
from restain.web.context import Context
from restain.web.drawn import DrawnIndex
from restain.web.outside import message, small_object, text
from restain.web.paths import Root
from restain.web.scan import scan

MOST = 5_000
"""Entries of each kind that are listed."""
PROBLEMS = 200
_HEAD = 2**14
"""Bytes of an HTML file that are looked at."""
_GENERATOR = re.compile(r'<meta name="generator" content="restain [^"<>]{0,40}">')
_TITLE = re.compile(r"<title>([^<]{0,1000})</title>")


@dataclass(frozen=True)
class Library:
    """What there is in the served folder.

    Attributes:
        cases: slides that belong together.
        drawn: what can be drawn on slides.
        document: the answer of ``/api/library``.
    """

    cases: tuple[Case, ...]
    drawn: DrawnIndex
    document: dict[str, Any]

    def case_of(self, he: Path | None, ihc: Path | None) -> Case | None:
        """The case of a slide pair, or of the one slide that is given."""
        if he is None and ihc is None:
            return None
        for case in self.cases:
            if he in (None, case.he) and ihc in (None, case.ihc):
                return case
        return None


class _Shelf:
    """The library of one folder: made when first asked for, and anew on demand; one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Library | None = None
        self._number = 0

    def library(self, root: Root, refresh: bool) -> Library:
        made, seen = self._made, self._number
        if made is not None and not refresh:  # not behind the lock: who looks at a slide waits for no one's scan
            return made
        with self._lock:
            # who waited for another's scan, begun after this was asked for, takes that
            if self._made is None or (refresh and seen == self._number):
                self._made = make_library(root)
                self._number += 1
            return self._made

    def add_landmarks(self, name: str) -> None:
        with self._lock:
            if self._made is not None:
                document = self._made.document
                known = [entry for entry in document["landmarks"] if entry["path"] != name]
                landmarks = sorted([*known, {"path": name}], key=lambda entry: str(entry["path"]))
                self._made = replace(self._made, document=document | {"landmarks": landmarks})


_shelves: WeakKeyDictionary[Root, _Shelf] = WeakKeyDictionary()
_shelves_lock = threading.Lock()


def library_of(context: Context, refresh: bool = False) -> Library:
    """The library of the served folder.

    Args:
        context: of the server.
        refresh: look again; else what was found when last looked.
    """
    return _shelf(context).library(context.root, refresh)


def add_landmarks(context: Context, name: str) -> None:
    """Note landmarks that were just saved, without another look at the whole folder."""
    _shelf(context).add_landmarks(name)


def _shelf(context: Context) -> _Shelf:
    with _shelves_lock:
        return _shelves.setdefault(context.root, _Shelf())


def make_library(root: Root) -> Library:
    """Look through a folder; what is damaged becomes a line in ``problems``."""
    found = scan(root.folder)
    cases, landmarks = find_cases(found, root)
    drawn = DrawnIndex(found)
    problems = found.problems

    def name(path: Path) -> str:
        return path.relative_to(root.folder).as_posix()

    def listed(paths: list[Path], read: Callable[[Path], dict[str, Any] | None]) -> list[dict[str, Any]]:
        entries = []
        for path in found.in_time(paths[:MOST]):
            try:
                entry = read(path)
            except RestainError as error:
                problems.append(str(error))
            else:
                entries += [] if entry is None else [{"path": name(path), **entry}]
        return entries

    lists = {
        "runs": listed(found.runs, describe_run),
        "reports": listed(found.pages, lambda path: _titled(path, describe_report)),
        "studies": listed(found.studies, describe_study),
        "landmarks": [{"path": name(path)} for path in landmarks[:MOST]],
        "slides": [
            {"path": name(slide.path), "name": slide.path.name, "bytes": slide.bytes}
            for slide in list(found.slides.values())[: 4 * MOST]
        ],
        "cases": [case.to_json(root) for case in cases[:MOST]],
    }
    sizes = (found.runs, found.pages, found.studies, landmarks, cases)
    document = {
        "name": text(root.folder.name),
        "version": __version__,
        "truncated": found.truncated or any(len(size) > MOST for size in sizes),
        **lists,
        "problems": _in_words(problems, root),
    }
    return Library(tuple(cases), drawn, document)


def describe_run(folder: Path) -> dict[str, Any]:
    """What ``run.json`` in a folder says: task, method and status.

    Raises:
        ItemError: it cannot be read.
    """
    info = small_object(folder / "run.json")
    # a slide model is known by its recipe
    method = info.get("recipe") or info.get("method") or "unknown"
    return {
        "task": text(info.get("task", "stain"), 40),
        "method": text(method, 120),
        "status": text(info.get("status", "unknown"), 40),
    }


def describe_report(path: Path) -> str | None:
    """The title of a report that restain wrote; None of other HTML files."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8", "replace").partition("</head>")[0]
    except OSError:
        return None
    if not _GENERATOR.search(head):
        return None
    title = _TITLE.search(head)
    return text(html.unescape(title.group(1))) if title else path.name


def describe_study(folder: Path) -> dict[str, Any]:
    """Number and title of a reading study.

    Raises:
        ItemError: it cannot be read.
    """
    identity, title = study_summary(folder)
    return {"id": identity, "title": text(title)}


def _titled(path: Path, describe: Callable[[Path], str | None]) -> dict[str, Any] | None:
    title = describe(path)
    return None if title is None else {"title": title}


def _in_words(problems: list[str], root: Root) -> list[str]:
    """Problems, each in a line."""
    lines = list(dict.fromkeys(message(line, root.folder) for line in problems))
    more = len(lines) - PROBLEMS
    return lines[:PROBLEMS] + ([f"and {more} more."] if more > 0 else [])


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/api/library")
    def library(refresh: bool = False) -> dict[str, Any]:
        return library_of(context, refresh).document

    return routes
