"""The server is killed in the middle of a study: nothing that was confirmed is lost, nothing is doubled."""

from __future__ import annotations

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

KILLS = 50


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "reading_kills.py"
    spec = importlib.util.spec_from_file_location("reading_kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Forked:
    """The servers of ``killable.py``."""

    def __init__(self, study: Path, port: int) -> None:
        self.port = port
        words = [sys.executable, "-m", "tests.web.killable", str(study), str(port)]
        root = Path(__file__).resolve().parents[2]
        self.parent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

    def start(self) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write("start\n")
        self.parent.stdin.flush()
        self.child = int(self.parent.stdout.readline())

    def kill(self) -> None:
        assert self.parent.stdout is not None
        os.kill(self.child, signal.SIGKILL)
        assert self.parent.stdout.readline() == "dead\n"

    def close(self) -> None:
        self.parent.kill()
        self.parent.communicate()


def test_fifty_kills_lose_and_double_nothing(benchmark: ModuleType, tmp_path: Path) -> None:
    made = benchmark.make_study(tmp_path, pairs=10, readers=2)
    server = Forked(tmp_path / "study", benchmark.free_port())
    try:
        outcome = benchmark.torment(tmp_path / "study", made, server, KILLS, longest=0.05)
    finally:
        server.close()
    assert outcome.strange == []
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.kills == KILLS
    assert outcome.broken > KILLS / 2  # else the kills fell between answers and proved little
    assert outcome.confirmed > KILLS


def test_what_is_lost_or_doubled_is_found(benchmark: ModuleType, tmp_path: Path) -> None:
    """The check itself can fail."""
    benchmark.make_study(tmp_path, pairs=2, readers=1)
    answer = "INSERT INTO answer (reader, item, revision, grade, readable, key, time) VALUES (0, ?, 1, '0', 1, ?, 0)"
    with closing(sqlite3.connect(tmp_path / "study" / "study.sqlite")) as connection, connection:
        items = [row[0] for row in connection.execute("SELECT id FROM item")]
        connection.executemany(answer, [(items[0], "a"), (items[1], "b"), (items[2], "c")])
    reader = benchmark.Reader("", "")
    reader.confirmed = [(items[0], 1, "0", "a"), (items[1], 1, "3+", "b"), (items[3], 1, "0", "d")]
    lost, doubled, strange = benchmark.compare(tmp_path / "study", [reader])
    assert (lost, len(strange)) == (2, 2)
    assert doubled == 0
