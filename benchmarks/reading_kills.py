"""Kill the server of a reading room (SIGKILL) again and again while readers answer; count what is lost or doubled.

    python benchmarks/reading_kills.py OUT [--kills 50] [--readers 2]

Each reader sends one answer after the other; one that was not confirmed is sent again with the same key until it is.
At the end the database must hold each confirmed answer once and nothing else. A killed process is not a power cut: what
survives that rests on SQLite's ``synchronous=FULL`` (src/restain/study/database.py).
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np

from restain.slides import write_image
from restain.study.design import Design, Made, new_study

LEVELS = ("0", "1+", "2+", "3+")


class Server(Protocol):
    """A server of a study that can be killed and started again on the same port."""

    port: int

    def start(self) -> None:
        """Start it; it need not yet answer."""

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""


class Command:
    """``restain serve`` as a process."""

    def __init__(self, study: Path) -> None:
        self.study, self.port = study, free_port()

    def start(self) -> None:
        """See ``Server``."""
        words = ["serve", str(self.study), "--reading-room", "--port", str(self.port)]
        self.process = subprocess.Popen([sys.executable, "-m", "restain.cli.main", *words], stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """See ``Server``."""
        self.process.kill()
        self.process.wait()


@dataclass
class Reader:
    """Answers, and goes on answering anew, until told to stop.

    Attributes:
        address: of the study's API.
        code: of the reader.
        confirmed: each answer that the server confirmed: item, revision, grade, key.
        broken: requests that had reached the server and ended without an answer.
        wrong: answers that should not have come.
    """

    address: str
    code: str
    confirmed: list[tuple[str, int, str, str]] = field(default_factory=list)
    broken: int = 0
    wrong: list[str] = field(default_factory=list)
    session: str = ""

    def read(self, stop: Event) -> None:
        """Answer on and on; an answer on its way when ``stop`` is set is still brought home."""
        self.session = self.insist("POST", "/login", {"code": self.code})["session"]
        items = [item["item"] for item in self.insist("GET", "/state")["items"]]
        revision = 0
        while not stop.is_set():
            for item in items:
                grade, key = random.choice(LEVELS), str(uuid.uuid4())
                given = {"grade": grade, "readable": True, "origin": "real", "revision": revision, "key": key}
                answer = self.insist("PUT", f"/answer/{item}", given)
                self.confirmed.append((item, answer["revision"], grade, key))
                if answer["revision"] != revision + 1:
                    self.wrong.append(f"revision {answer['revision']} after {revision}")
                if stop.is_set():
                    break
            revision += 1

    def insist(self, method: str, part: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a request, which is sent until there is one."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-Reading-Session": self.session}
        while True:
            request = urllib.request.Request(self.address + part, content, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                self.wrong.append(f"{method} {part}: {error.code} {error.read(300)!r}")
                time.sleep(0.05)
            except (OSError, HTTPException, ValueError) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                self.broken += not isinstance(reason, ConnectionRefusedError)
                time.sleep(0.005)


@dataclass
class Outcome:
    """What became of the answers.

    Attributes:
        kills: how many.
        confirmed: answers that were confirmed to a reader.
        broken: requests that a kill broke off.
        lost: confirmed answers that are not in the database.
        doubled: answers that are in it more than once.
        strange: rows that no reader knows of, and replies that should not have come.
        seconds: that all took.
    """

    kills: int
    confirmed: int
    broken: int
    lost: int
    doubled: int
    strange: list[str]
    seconds: float


def torment(study: Path, made: Made, server: Server, kills: int, longest: float, seed: int = 0) -> Outcome:
    """Let all readers answer, and kill the server ``kills`` times meanwhile.

    Args:
        study: its folder.
        made: with the readers' codes.
        server: not started yet.
        kills: how often.
        longest: seconds that a server lives at most after its first answer.
        seed: of the moments.
    """
    moments, began = random.Random(seed), time.monotonic()
    address = f"http://127.0.0.1:{server.port}/api/reading/{made.id}"
    readers = [Reader(address, code) for code in made.codes.values()]
    stop = Event()
    threads = [Thread(target=reader.read, args=(stop,), daemon=True) for reader in readers]
    server.start()
    for thread in threads:
        thread.start()
    for _ in range(kills):
        known = [len(reader.confirmed) for reader in readers]
        while all(len(reader.confirmed) == before for reader, before in zip(readers, known, strict=True)):
            time.sleep(0.002)  # until it answers again
        time.sleep(moments.uniform(0, longest))
        server.kill()
        server.start()
    stop.set()
    for thread in threads:
        thread.join(60)
    server.kill()
    lost, doubled, strange = compare(study, readers)
    strange += [text for reader in readers for text in reader.wrong]
    count = sum(len(reader.confirmed) for reader in readers)
    broken = sum(reader.broken for reader in readers)
    return Outcome(kills, count, broken, lost, doubled, strange, time.monotonic() - began)


def compare(study: Path, readers: list[Reader]) -> tuple[int, int, list[str]]:
    """Confirmed answers that the database lacks, answers that it has twice, and rows that nobody knows of."""
    with closing(sqlite3.connect(study / "study.sqlite")) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchall()
        rows = connection.execute("SELECT item, revision, grade, key FROM answer").fetchall()
    confirmed = {answer for reader in readers for answer in reader.confirmed}
    found = Counter(rows)
    doubled = sum(times > 1 for times in found.values())
    doubled += sum(times > 1 for times in Counter(key for *_, key in found).values())
    doubled += sum(times > 1 for times in Counter((item, revision) for item, revision, *_ in found).values())
    strange = [f"integrity check: {line}" for (line,) in check if line != "ok"]
    strange += [f"unknown row {row}" for row in found if row not in confirmed]
    return sum(answer not in found for answer in confirmed), doubled, strange


def make_study(root: Path, pairs: int, readers: int) -> Made:
    """A study of noise in ``root/study``."""
    noise = np.random.default_rng(0)
    for index in range(pairs):
        for folder in ("real", "fake"):
            name = f"{index:05d}_test_{LEVELS[index % 4]}.png"
            write_image(root / folder / name, noise.integers(0, 256, (32, 32, 3), np.uint8))
    names = tuple(f"reader{number}" for number in range(readers))
    return new_study(Design(root / "real", root / "fake", root / "study", pairs, names))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the study; must not exist")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--readers", type=int, default=2)
    options = parser.parse_args()
    made = make_study(options.out, 40, options.readers)
    outcome = torment(options.out / "study", made, Command(options.out / "study"), options.kills, 0.5)
    print(outcome)
    return 1 if outcome.lost or outcome.doubled or outcome.strange else 0


if __name__ == "__main__":
    sys.exit(main())
