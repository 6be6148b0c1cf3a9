"""Work in several processes, an item each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from restain.core.progress import console, progress_bar


def _begin(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """A worker leaves the progress bar to the parent, and does not outlive it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    console.quiet = True
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    """Where the parent is killed, its successor would find the items taken."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that are started in it never hear Ctrl-C, not even while they import; here it waits for the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _pool(
    workers: int, initializer: Callable[..., None] | None, arguments: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: threads of libraries do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(initializer, arguments))
    try:
        yield pool
    except KeyboardInterrupt:
        for process in list(pool._processes.values()):  # what is being done goes on, or is done again, later
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_processes(
    work: Callable[..., Any],
    items: Sequence[tuple[Any, ...]],
    workers: int,
    description: str,
    initializer: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> list[Any]:
    """What ``work`` returns for each tuple of arguments, in their order.

    Args:
        work: a function of a module, called in another process.
        items: its arguments; everything is pickled.
        workers: processes.
        description: the progress bar's label.
        initializer: called once in each process, with ``arguments``.
        arguments: of the initializer; large things that all items share are sent once this way.

    Raises:
        BrokenProcessPool: a process was killed.
    """
    with _pool(max(1, min(workers, len(items))), initializer, arguments) as pool:
        with _deaf_children():
            waiting = [pool.submit(work, *item) for item in items]
        with progress_bar(description, len(items)) as bar:
            for one in as_completed(waiting):
                one.result()
                bar.advance()
        return [one.result() for one in waiting]
