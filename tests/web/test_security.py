"""Hosts, tokens, other sites' pages, bodies and headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient

from restain.web.context import ServeOptions
from restain.web.failures import handle_failures
from restain.web.security import LARGEST_BODY, is_loopback, protect

TOKEN = "a-token+of/some=length"
HERE = "http://127.0.0.1:8000"
THERE = "http://slides.example.org"


def client(host: str = "127.0.0.1", token: str | None = None, base_url: str = HERE) -> TestClient:
    app = FastAPI()
    handle_failures(app, Path())
    protect(app, ServeOptions(Path(), host=host, token=token))

    @app.get("/api/data")
    @app.get("/assets/data")
    @app.get("/api/reading/data")
    @app.get("/read/data")
    @app.get("/")
    def data() -> dict[str, str]:
        return {"data": "yes"}

    @app.post("/api/data")
    @app.put("/api/data")
    @app.delete("/api/data")
    @app.post("/api/reading/data")
    def change(body: dict[str, Any] | None = None) -> dict[str, int]:
        return {"got": len(str(body))}

    @app.get("/api/report")
    def report() -> Response:
        return Response("x", headers={"Content-Security-Policy": "sandbox", "Cache-Control": "private"})

    @app.get("/api/wrong")
    def wrong() -> None:
        raise RuntimeError("a secret of the machine")

    return TestClient(app, base_url=base_url, raise_server_exceptions=False, follow_redirects=False)


HOSTS = [
    ("127.0.0.1:8000", 200), ("localhost:8000", 200), ("LOCALHOST", 200), ("[::1]:8000", 200), ("127.0.0.1:1", 200),
    ("[::1]", 200), ("evil.example", 400), ("evil.example:8000", 400), ("localhost.evil.example", 400),
    ("127.0.0.1.evil.example", 400), ("localhost:8000@evil.example", 400), ("127.0.0.1:x", 400), ("", 400),
    ("0.0.0.0:8000", 400), ("127.0.0.2", 400), ("192.168.0.1:8000", 400), ("testserver", 400),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_on_this_computer_only_its_own_names_are_answered(host: str, status: int) -> None:
    assert client().get("/api/data", headers={"Host": host}).status_code == status
    assert client(host="0.0.0.0").get("/api/data", headers={"Host": host}).status_code == 200  # a token protects


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.1.2.3", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.1", False), ("example.org", False), ("localhost.example.org", False), ("", False)],
)  # fmt: skip
def test_what_counts_as_this_computer(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    with client("0.0.0.0", TOKEN, THERE) as made:
        yield made


def test_without_the_token_nothing_but_the_reading_room_answers(guarded: TestClient) -> None:
    for path in ("/", "/api/data", "/api/report", "/nothing", "//api/data", "/readx", "/api/readingx", "/x/read/data"):
        assert guarded.get(path).status_code == 401, path
    assert guarded.post("/api/data", json={}).status_code == 401
    for path in ("/read/data", "/api/reading/data", "/assets/data"):
        assert guarded.get(path).status_code == 200, path
    assert guarded.post("/api/reading/data", json={}).status_code == 200
    asked = guarded.get("/", headers={"Accept": "text/html,*/*"})
    assert asked.status_code == 401
    assert '<input name="token"' in asked.text
    assert "error" in guarded.get("/api/data").json()


@pytest.mark.parametrize("wrong", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä" * 20, "%00", "None"])
def test_a_wrong_token_opens_nothing(guarded: TestClient, wrong: str) -> None:
    assert guarded.get("/api/data", params={"token": wrong}).status_code == 401
    assert guarded.get("/api/data", headers={"Authorization": f"Bearer {wrong}".encode()}).status_code == 401
    assert not guarded.cookies


def test_the_address_with_the_token_sets_a_cookie_and_leads_on_without_it(guarded: TestClient) -> None:
    answer = guarded.get("/api/data", params=[("a", "ü&x"), ("token", TOKEN), ("b", "")])
    assert answer.status_code == 303
    assert answer.headers["location"] == "/api/data?a=%C3%BC%26x&b="
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert guarded.get("/api/data").status_code == 200  # the client kept it
    assert guarded.get("/").status_code == 200
    guarded.cookies.clear()
    assert guarded.get("/api/data").status_code == 401
    name, _, _ = cookie.partition("=")
    for forged in (TOKEN, "x", "", '"', "0" * 48):
        assert guarded.get("/api/data", headers={"Cookie": f"{name}={forged}"}).status_code == 401


def test_the_way_on_stays_on_this_server(guarded: TestClient) -> None:
    for path in ("//evil.example/", "/\\evil.example", "/%2F/evil.example"):
        answer = guarded.get(f"{THERE}{path}?token={TOKEN.replace('+', '%2B')}")
        assert answer.status_code == 303
        assert not answer.headers["location"].startswith(("//", "/\\", "http"))


def test_programs_may_give_the_token_in_a_header(guarded: TestClient) -> None:
    answer = guarded.get("/api/data", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json() == {"data": "yes"}
    assert guarded.post("/api/data", json={}, headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/api/data", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401


def test_servers_with_other_tokens_do_not_take_each_others_cookies() -> None:
    one, other = client("0.0.0.0", TOKEN, THERE), client("0.0.0.0", TOKEN + "2", THERE)
    one.get("/", params={"token": TOKEN})
    other.get("/", params={"token": TOKEN + "2"})
    (mine,), (theirs,) = one.cookies.jar, other.cookies.jar
    assert mine.name != theirs.name  # so that both fit into one browser
    assert other.get("/", headers={"Cookie": f"{theirs.name}={mine.value}"}).status_code in (200, 401)
    other.cookies.clear()
    assert other.get("/", headers={"Cookie": f"{theirs.name}={mine.value}"}).status_code == 401


FOREIGN: list[dict[str, str]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9000"},
    {"Origin": "https://127.0.0.1:8000"},
    {"Origin": "http://localhost:8000"},
    {"Origin": f"{HERE}.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_pages_of_other_sites_change_and_read_nothing(headers: dict[str, str]) -> None:
    here = client()
    for method in ("POST", "PUT", "DELETE"):
        assert here.request(method, "/api/data", json={}, headers=headers).status_code == 403, method
    assert here.get("/api/data", headers=headers).status_code == 403
    assert here.get("/", headers=headers).status_code == 200  # a link to the page


@pytest.mark.parametrize("headers", [{}, {"Origin": HERE}, {"Origin": HERE, "Sec-Fetch-Site": "same-origin"},
                                     {"Sec-Fetch-Site": "none"}], ids=str)  # fmt: skip
def test_own_pages_and_programs_may(headers: dict[str, str]) -> None:
    here = client()
    assert here.post("/api/data", json={"a": 1}, headers=headers).json() == {"got": 8}
    assert here.get("/api/data", headers=headers).status_code == 200


def test_changes_are_json_and_nothing_a_form_can_send() -> None:
    here = client()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = here.post("/api/data", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415, kind
        assert "JSON" in answer.json()["error"]
    assert here.post("/api/data").status_code == 415
    kind = {"Content-Type": "application/json; charset=utf-8"}
    assert here.post("/api/data", content=b"{}", headers=kind).status_code == 200
    assert here.delete("/api/data").status_code == 200  # has no body


def test_bodies_are_bounded() -> None:
    here, kind = client(), {"Content-Type": "application/json"}
    fits = b'{"a":"' + b"x" * (LARGEST_BODY - 8) + b'"}'
    assert len(fits) == LARGEST_BODY
    assert here.post("/api/data", content=fits, headers=kind).status_code == 200
    assert here.post("/api/data", content=fits + b" ", headers=kind).status_code == 413
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b" " * 2**16

    assert here.post("/api/data", content=endless(), headers=kind).status_code == 413
    for length in ("-1", "x", "9" * 30):
        assert here.get("/api/data", headers={"Content-Length": length}).status_code == 413


def test_every_answer_has_the_headers() -> None:
    open_, guarded = client(), client("0.0.0.0", TOKEN, THERE)
    answers = [
        open_.get("/api/data"), open_.get("/none"), open_.get("/api/wrong"), open_.post("/api/data", content=b"{}"),
        open_.get("/api/data", headers={"Host": "evil.example"}), guarded.get("/api/data"),
        guarded.get("/", headers={"Accept": "text/html"}), guarded.get("/", params={"token": TOKEN}),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 404, 500, 415, 400, 401, 401, 303]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "script-src 'self'" in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answers[0].headers["cache-control"] == "no-store"
    assert answers[2].json() == {"error": "an error in restain itself; the server's terminal shows it."}


def test_an_answer_may_have_a_stricter_policy_of_its_own() -> None:
    answer = client().get("/api/report")
    assert answer.headers.get_list("content-security-policy") == ["sandbox"]
    assert answer.headers.get_list("cache-control") == ["private"]
    assert answer.headers["x-content-type-options"] == "nosniff"
