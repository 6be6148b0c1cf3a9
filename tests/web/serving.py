"""A server of a folder, as tests ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from restain.web import ServeOptions, create_app
from restain.web.context import Context

ADDRESS = "http://127.0.0.1:8000"


def client_of(folder: Path) -> TestClient:
    """Asks a server of ``folder`` from a page of its own."""
    app = create_app(ServeOptions(folder))
    return TestClient(app, base_url=ADDRESS, headers={"Origin": ADDRESS}, raise_server_exceptions=False)


def context_of(client: TestClient) -> Context:
    """What the parts of its server share."""
    context: Context = client.app.state.context  # type: ignore[attr-defined]
    return context


def get(client: TestClient, path: str, /, **query: Any) -> dict[str, Any]:
    """The JSON of a request that must succeed."""
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document
