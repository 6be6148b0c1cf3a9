"""``restain serve``: the command."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from restain.cli import serve as command
from restain.cli.main import main
from tests.study.studies import make_study
from tests.web.slides import pyramid

TOKEN = "0123456789abcdef"


@contextmanager
def running(folder: Path, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and its host:port as it prints it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "restain.cli.main", "serve", str(folder), "--port", "0", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", line), (line, process.poll())
        yield process, line.removeprefix("http://")
    finally:
        process.kill()
        process.communicate()


def raw(host: str, target: str, *headers: str) -> bytes:
    """The answer to a request whose address no library has tidied."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=10) as connection:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def test_it_serves_a_folder_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    pyramid(folder / "a.ome.tif", np.full((300, 300, 3), 200, np.uint8))
    pyramid(tmp_path / "secret.ome.tif", np.full((300, 300, 3), 200, np.uint8))
    with running(folder) as (process, host):
        assert host.rpartition(":")[2] != "8000"
        kept = http.client.HTTPConnection(host)
        for _ in range(2):
            kept.request("GET", "/api/slide?path=a.ome.tif")
            answer = kept.getresponse()
            assert (answer.status, b'"size":[300,300]' in answer.read()) == (200, True)
            assert answer.getheader("server") is None
        took = []
        for _ in range(20):
            start = time.perf_counter()
            kept.request("GET", "/api/tile/0/0/0?path=a.ome.tif")
            kept.getresponse().read()
            took.append(time.perf_counter() - start)
        assert min(took) < 0.03  # answers are sent at once: where TCP waits for more to send, each takes 0.04 s
        for target in (
            "/api/slide?path=../secret.ome.tif", "/api/slide?path=%2e%2e/secret.ome.tif", "/../secret.ome.tif",
            "/api/slide?path=..%2fsecret.ome.tif", "/read/../../secret.ome.tif", "/assets/../../web/app.py",
            "/assets/%2e%2e/%2e%2e/app.py", "/assets//etc/hostname", "/assets/..%2f..%2fapp.py",
            "/%2e%2e/secret.ome.tif", "/assets/%5c..%5c..%5capp.py", "/assets/\\..\\..\\app.py", "/./../secret.ome.tif",
        ):  # fmt: skip
            head = raw(host, target).partition(b"\r\n")[0]
            assert head.split()[1] in (b"404", b"400"), (target, head)
        assert b" 400 " in raw(host, "/", "Host: evil.example").partition(b"\r\n")[0]
        with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))):  # one that says nothing
            assert process.stdout is not None
            assert "Ctrl-C" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "GET" not in out + errors  # no log of who looked at what
        assert "Traceback" not in errors


def test_a_port_in_use_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(tmp_path), "--port", str(port)]) == 2
    said = capfd.readouterr().err
    assert f"--port {port}" in said
    assert "another program uses it" in said


@pytest.fixture
def not_started(monkeypatch: pytest.MonkeyPatch) -> list[command._Server]:
    """Servers that would have started."""
    made: list[command._Server] = []

    def instead(server: command._Server, sockets: list[socket.socket]) -> None:
        made.append(server)
        for listener in sockets:
            listener.close()

    monkeypatch.setattr(command._Server, "run", instead)
    monkeypatch.delenv("RESTAIN_TOKEN", raising=False)
    return made


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        (["--host", "0.0.0.0"], None, "needs a token"),
        (["--host", "::"], None, "needs a token"),
        (["--host", "slides.example.org"], None, "needs a token"),
        (["--host", "0.0.0.0", "--token", TOKEN[:-1]], None, "at least 16 characters"),
        (["--host", "0.0.0.0"], TOKEN[:-1], "at least 16 characters"),
        (["--host", "0.0.0.0", "--token", ""], None, "at least 16 characters"),
        (["--host", "0.0.0.0", "--token", "a token with spaces"], None, "without spaces"),
        (["--host", "0.0.0.0", "--token", "é" * 20], None, "plain ones"),
        (["--token", "short"], None, "at least 16 characters"),
        (["--host", "203.0.113.7", "--token", TOKEN], None, "not an address of this computer"),
        (["--host", "no such host", "--token", TOKEN], None, "not an address of this computer"),
        (["--port", "70000"], None, "0 (any free one) to 65535"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    not_started: list[command._Server], words: list[str], token: str | None, said: str,
) -> None:  # fmt: skip
    if token is not None:
        monkeypatch.setenv("RESTAIN_TOKEN", token)
    assert main(["serve", str(tmp_path), *words]) == 2
    message = capfd.readouterr().err
    assert said in message
    assert not not_started
    if "token" in said:
        fresh = re.search(r"RESTAIN_TOKEN=(\S+)", message)
        assert fresh is not None
        assert len(fresh.group(1)) >= 16


def test_a_fresh_token_is_suggested_each_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["serve", str(tmp_path), "--host", "0.0.0.0"])
    found = re.findall(r"RESTAIN_TOKEN=(\S+)", capfd.readouterr().err)
    assert len(set(found)) == 2


@pytest.mark.parametrize("words", [["--token", TOKEN], []])
def test_with_a_token_others_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_started: list[command._Server], words: list[str]
) -> None:
    if not words:
        monkeypatch.setenv("RESTAIN_TOKEN", TOKEN)
    assert main(["serve", str(tmp_path), "--host", "0.0.0.0", "--port", "0", *words]) == 0
    assert len(not_started) == 1
    assert not_started[0].config.app.state.context.options.token == TOKEN  # type: ignore[union-attr]


def test_a_missing_folder_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none")]) == 1
    assert "none" in capfd.readouterr().err


def test_without_the_pages_it_says_what_is_missing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    not_started: list[command._Server],
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "STATIC", tmp_path)
    assert main(["serve", str(tmp_path), "--port", "0"]) == 0
    assert "make web" in capfd.readouterr().err
    assert len(not_started) == 1


def test_the_reading_room_alone_serves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_started: list[command._Server]
) -> None:
    pyramid(tmp_path / "a.ome.tif", np.full((300, 300, 3), 200, np.uint8))
    assert main(["serve", str(tmp_path), "--port", "0", "--reading-room", "--token", TOKEN]) == 0
    client = TestClient(not_started[0].config.app, base_url="http://127.0.0.1")  # type: ignore[arg-type]
    for target in ("/api/slide?path=a.ome.tif", "/api/tile/0/0/0?path=a.ome.tif", "/api/library", "/api/runs"):
        assert client.get(target).status_code == 401, target
        assert client.get(target, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 404, target
    assert "/read/" in client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert client.get("/read/anything").status_code in (200, 503)  # the page, where it is built


def test_the_reading_room_says_where_its_studies_are(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.sqlite").write_bytes(b"")
    made = make_study(tmp_path, pairs=1, title="HER2, first round")
    with running(tmp_path, "--reading-room") as (process, host):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
    assert "broken" in lines[0]
    assert lines[1:] == [
        f"Readers of 'HER2, first round' open http://{host}/read/{made.id}\n",
        "Ctrl-C ends the server.\n",
    ]
