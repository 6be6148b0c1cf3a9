"""Work on many items that survives anything: done ones are skipped, bad ones are named, the others go on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError, RestainError
from restain.core.files import read_json, write_json
from restain.core.progress import progress_bar


def fingerprint(settings: object) -> str:
    """A short hash of settings (anything JSON can hold), the same for equal settings on every machine."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of the block; it is released by the system when the process dies.

    Raises:
        RestainError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RestainError(
                f"{path.parent}: another restain command is writing here. Wait for it, or choose another folder."
            ) from error
        yield
    finally:
        os.close(handle)


@contextmanager
def lock_beside_dataset(folder: Path, what: str) -> Iterator[None]:
    """``lock`` for a folder of a dataset that restain writes.

    Args:
        folder: the folder; its lock file lies in it.
        what: what is written, and that it belongs beside the dataset, for the message.

    Raises:
        RestainError: another process holds it, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / ".lock"))
        except OSError as error:
            raise RestainError(
                f"{folder}: cannot be written ({error.strerror or error}), and {what}. Make the folder writable, or "
                "copy the dataset to one that is."
            ) from error
        yield


@dataclass
class Outcome:
    """What became of a batch of items.

    Attributes:
        results: what the work returned, by item name (also for items done by an earlier call).
        failures: the reason, by item name.
        exit_code: 0, or 1 where an item failed; where there was but one item, its error's own code.
    """

    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0


def process(
    names: Sequence[str],
    work: Callable[[str], dict[str, Any]],
    state: Path,
    settings: object | Callable[[str], object],
    description: str,
    outputs: Callable[[str], Sequence[Path]] = lambda _: (),
) -> Outcome:
    """Do ``work`` on each named item once.

    A finished item leaves ``state/<name>.json`` with the fingerprint of its settings and its result; a later call with
    the same settings takes the result from there, unless one of its ``outputs`` is gone. An item that raises a
    ``RestainError`` or ``OSError`` is recorded as failed and the next one begins. What an earlier call with other
    settings left of an item is removed before the work.

    Args:
        names: the items; each must be usable as a file name.
        work: returns a JSON-able result for an item.
        state: folder of the state files.
        settings: all that the result depends on (JSON-able), or a function from an item's name to that.
        description: the progress bar's label.
        outputs: the files that an item's work leaves; all must exist for the item to count as done. Asked for only
            where the item has a record.

    Returns:
        Results and failures by name.
    """
    outcome = Outcome()
    with progress_bar(description, len(names)) as bar:
        for name in names:
            bar.note(name)
            try:
                key = fingerprint({"item": name, "settings": settings(name) if callable(settings) else settings})
                outcome.results[name] = once(partial(work, name), state / f"{name}.json", key, partial(outputs, name))
            except (RestainError, OSError) as error:
                outcome.failures[name] = str(error)
                outcome.exit_code = getattr(error, "exit_code", 1) if len(names) == 1 else 1
            bar.advance()
    return outcome


def once(
    work: Callable[[], dict[str, Any]], record: Path, key: str, outputs: Callable[[], Sequence[Path]] = tuple
) -> dict[str, Any]:
    """The result of ``work``, from its record where it was done before.

    Args:
        work: returns a JSON-able result.
        record: where the result is kept.
        key: the fingerprint of all that the result depends on.
        outputs: the files that the work leaves; asked for only where there is a record. Stale ones are removed.
    """
    if record.exists():
        done = _finished(record, key)
        files = outputs()
        if done is not None and all(path.exists() for path in files):
            return done
        for stale in (record, *files):
            stale.unlink(missing_ok=True)
    result = work()
    write_json(record, {"fingerprint": key, "result": result})
    return result


def _finished(record: Path, key: str) -> dict[str, Any] | None:
    """The result recorded in ``record`` under fingerprint ``key``; None where there is none."""
    if not record.exists():
        return None
    try:
        document = read_json(record)
    except ItemError:
        return None
    if not isinstance(document, dict) or document.get("fingerprint") != key:
        return None
    result = document.get("result")
    return result if isinstance(result, dict) else None
