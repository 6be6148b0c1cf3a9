"""Readers of a small study, as browsers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from restain.study.answers import Answers, read_answers
from restain.study.design import Made
from restain.web import ServeOptions, create_app

KEYS = count()


@dataclass
class Reader:
    """A browser that reads, and all that it was ever sent."""

    client: TestClient
    study: str
    code: str
    session: str = ""
    heard: list[httpx.Response] = field(default_factory=list)

    def ask(self, method: str, part: str = "", **options: Any) -> httpx.Response:
        headers = {"X-Reading-Session": self.session} if self.session else {}
        answer = self.client.request(method, f"/api/reading/{self.study}{part}", headers=headers, **options)
        self.heard.append(answer)
        return answer

    def log_in(self) -> Reader:
        answer = self.ask("POST", "/login", json={"code": self.code})
        assert answer.status_code == 200, answer.text
        self.session = answer.json()["session"]
        return self

    def items(self) -> list[str]:
        return [item["item"] for item in self.ask("GET", "/state").json()["items"]]

    def put(self, item: str, grade: str | None = "2+", revision: int = 0, **more: Any) -> httpx.Response:
        given = {"grade": grade, "readable": grade is not None, "origin": None, "key": f"some-key-{next(KEYS)}", **more}
        return self.ask("PUT", f"/answer/{item}", json={**given, "revision": revision})


@dataclass
class Study:
    """A served study of four pairs."""

    folder: Path
    made: Made
    client: TestClient

    def reader(self, name: str = "alice") -> Reader:
        return Reader(self.client, self.made.id, self.made.codes[name]).log_in()

    def answers(self) -> Answers:
        return read_answers(self.folder)

    def rows(self) -> list[tuple[Any, ...]]:
        return sql(self.folder, "SELECT * FROM answer ORDER BY number")


def sql(folder: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a statement finds or does in a study's database."""
    with closing(sqlite3.connect(folder / "study.sqlite")) as connection, connection:
        return connection.execute(statement, values).fetchall()


def client_of(folder: Path) -> TestClient:
    """A fresh server of a folder."""
    app = create_app(ServeOptions(folder, reading_room=True))
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
