"""``study.sqlite`` opened: how a stored answer survives, and what may be wrong with the file.

SQLite keeps a rollback journal that is cut to nothing at each commit (``journal_mode=TRUNCATE``), with
``synchronous=FULL``: the database and the cut journal are both flushed to the disk before a commit returns, so that
an answer that was confirmed is there after a power cut. (With ``DELETE``, the journal's removal is not flushed, and may
come back and undo the commit; ``WAL`` is as safe, but keeps the newest answers in a second file, which a copy of
``study.sqlite`` alone would lose, and does not work on network drives.)
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, SQLModel

from restain.core.errors import ItemError, RestainError
from restain.study.tables import TABLES

FILE = "study.sqlite"
APPLICATION = 0x52535459
"""Says that a SQLite file is a study (``application_id``)."""
SCHEMA = 1
LARGEST = 1 << 28
"""Bytes of a ``study.sqlite`` above which it is none of ours: 80 images and 10 readers take 1 MB."""
LONGEST = 1 << 20
"""Bytes of a text in it."""
WAIT = 10.0
"""Seconds to wait for another writer."""
_RAISED = (DBAPIError, sqlite3.Error, UnicodeDecodeError)
"""What SQLite raises; the last where the message itself, which quotes a damaged file, is no text."""


class DamagedStudyError(ItemError):
    """A study's database is missing, damaged, or no study's."""


class DamagedImageError(DamagedStudyError):
    """An image of a study is missing, or is not the one that was put there."""


class NotStoredError(ItemError):
    """Nothing was written: the disk is full, or refuses."""


class BusyError(ItemError):
    """Another process holds the database."""


@contextmanager
def reading(file: Path) -> Iterator[Session]:
    """A session that only reads; it sees the database as of its beginning.

    Raises:
        DamagedStudyError: the file is missing, damaged or no study.
        BusyError: a writer has held it for ``WAIT`` seconds.
    """
    try:
        with Session(_engine(file, writes=False), expire_on_commit=False) as session:
            yield session
    except _RAISED as error:
        raise _translated(file, error, writes=False) from error


@contextmanager
def writing(file: Path) -> Iterator[Session]:
    """A session that alone may write; what it wrote is on the disk when the block ends, or nothing of it is.

    Raises:
        NotStoredError: the disk is full or cannot be written.
        DamagedStudyError: the file is missing, damaged or no study.
        BusyError: another writer has held it for ``WAIT`` seconds.
    """
    try:
        with Session(_engine(file, writes=True), expire_on_commit=False) as session, session.begin():
            yield session
    except _RAISED as error:
        raise _translated(file, error, writes=True) from error


def create(file: Path, rows: Iterator[SQLModel]) -> None:
    """Make a database with ``rows`` in it, in one transaction.

    Raises:
        NotStoredError: it could not be written.
    """
    engine = create_engine("sqlite://", creator=lambda: _configured(sqlite3.connect(file)), poolclass=NullPool)
    _begin_with(engine, "BEGIN IMMEDIATE")
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION}")
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")  # rows are not added table by table
            SQLModel.metadata.create_all(connection, tables=TABLES)
            with Session(connection) as session:
                for row in rows:
                    session.add(row)
                session.flush()
    except _RAISED as error:
        raise _translated(file, error, writes=True) from error


def check(file: Path) -> None:
    """Look through the whole database.

    Raises:
        DamagedStudyError: it is damaged.
    """
    with reading(file) as session:
        found = session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if found != "ok":
        raise _damaged(file, str(found)[:200])


@lru_cache(maxsize=64)
def _engine(file: Path, writes: bool) -> Engine:
    # A connection for each session: one kept open would go on writing to a file that was replaced or removed.
    engine = create_engine("sqlite://", creator=lambda: _connect(file), poolclass=NullPool)
    _begin_with(engine, "BEGIN IMMEDIATE" if writes else "BEGIN")
    return engine


def _begin_with(engine: Engine, statement: str) -> None:
    """Let transactions begin where SQLAlchemy says, not where Python's sqlite3 thinks; a writer takes its lock first.

    Two that read first and then both want to write would refuse each other.
    """

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)


def _connect(file: Path) -> sqlite3.Connection:
    """A connection to a file that is there and looks like a study."""
    try:
        found = file.stat()
    except PermissionError as error:
        raise DamagedStudyError(
            f"{file}: cannot be read ({error.strerror}). Whoever runs restain must be able to enter its folder."
        ) from error
    except OSError:
        found = None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise DamagedStudyError(f"{file}: no such file. Was the study moved? A study's folder has a {FILE}.")
    if found.st_size > LARGEST:
        raise _damaged(file, f"larger than {LARGEST >> 20} MiB")
    # Whoever may not write can still read; whoever may also finishes what a killed writer left.
    connection = _open(file, "rw")
    try:
        _configured(connection)
        marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if marks[0] != APPLICATION:
            raise _damaged(file, "not a file of restain study")
        if marks[1] != SCHEMA:
            raise DamagedStudyError(
                f"{file}: made by another version of restain (schema {marks[1]}, this one reads {SCHEMA}). Use that."
            )
        if connection.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()[0]:
            raise _damaged(file, "it has views or triggers, which no study has")
    except BaseException:
        connection.close()
        raise
    return connection


def _open(file: Path, mode: str) -> sqlite3.Connection:
    # SQLite itself falls back to read-only where a file that is opened "rw" cannot be written.
    address = f"file:{quote(str(file.resolve()))}?mode={mode}"
    return sqlite3.connect(address, timeout=WAIT, uri=True, check_same_thread=False)


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.isolation_level = None
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    for statement in (
        "trusted_schema=OFF",
        "foreign_keys=ON",
        "journal_mode=TRUNCATE",
        "synchronous=FULL",
        "fullfsync=ON",  # macOS: its fsync alone leaves data in the drive's cache
    ):
        with closing(connection.execute(f"PRAGMA {statement}")) as cursor:
            cursor.fetchall()
    return connection


def _translated(file: Path, error: DBAPIError | sqlite3.Error | UnicodeDecodeError, writes: bool) -> RestainError:
    """The user's message for what SQLite raised."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, UnicodeDecodeError):
        return _damaged(file, "a text in it is not UTF-8")
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(f"{file}: another program holds it. Close what has it open (a database browser?), try again.")
    refused = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
    if writes and code in refused:
        return NotStoredError(f"{file}: could not be written ({original}). Nothing was changed; free space, try again.")
    return _damaged(file, str(original))


def _damaged(file: Path, reason: str) -> DamagedStudyError:
    return DamagedStudyError(f"{file}: cannot be read as a study ({reason}). Put back a copy of the study's folder.")
