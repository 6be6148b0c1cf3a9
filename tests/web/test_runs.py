"""Runs: curves of a file that grows meanwhile, and sample pictures that may be anything."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from restain.core.files import read_csv
from restain.slides import write_image
from restain.training.log import LossLog
from restain.web import runs
from tests.web.serving import client_of, get
from tests.web.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A served folder with a run ``r`` that has just begun."""
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "run.json").write_text('{"task": "stain", "method": "cut", "mpp": 0.5, "status": "running"}')
    return tmp_path


def run(folder: Path, **query: Any) -> dict[str, Any]:
    """What the server says of the run."""
    return get(client_of(folder), "/api/run", path="r", **query)


def test_curves_are_those_of_the_file(workspace: Workspace) -> None:
    client = client_of(workspace.folder)
    found = get(client, "/api/run", path=workspace.name(workspace.run))
    rows = read_csv(workspace.run / "metrics.csv")
    assert found["columns"] == ["epoch", "step", "lr", "D", "L1"]
    assert found["rows"] == [[float(value) for value in row.values()] for row in rows]
    assert not found["thinned"]
    keys = ("path", "task", "method", "status", "mpp")
    assert [found[key] for key in keys] == ["runs/pyramid", "stain", "pyramid_pix2pix", "running", 0.5]
    assert [one["name"] for one in found["samples"]] == ["epoch_0003.jpg", "epoch_0006.jpg"]
    assert found["updated"] == pytest.approx((workspace.run / "metrics.csv").stat().st_mtime, abs=1)
    later = get(client, "/api/run", path=workspace.name(workspace.run), after=1160)
    assert [row[1] for row in later["rows"]] == [1180, 1200]
    model = get(client, "/api/run", path=workspace.name(workspace.her2_run), after=6)
    assert (model["columns"], [row[0] for row in model["rows"]]) == (["epoch", "loss", "val_auc"], [7, 8])


def test_a_run_that_has_just_begun_is_empty(folder: Path) -> None:
    found = run(folder)
    assert (found["columns"], found["rows"], found["samples"]) == ([], [], [])
    (folder / "r" / "metrics.csv").write_text("")
    assert run(folder)["rows"] == []
    (folder / "r" / "metrics.csv").write_text("epoch,st")
    assert run(folder)["columns"] == []


def test_half_a_line_at_the_end_is_left_out(folder: Path) -> None:
    text = "epoch,step,L1\n1,20,5\n1,40,4.25\n"
    for cut in range(len("1,60,3.875\n")):
        (folder / "r" / "metrics.csv").write_text(text + "1,60,3.875\n"[:cut])
        assert run(folder)["rows"] == [[1, 20, 5], [1, 40, 4.25]]
    (folder / "r" / "metrics.csv").write_text(text + "1,60,3.875\n")
    assert run(folder)["rows"][-1] == [1, 60, 3.875]


def test_a_run_can_be_watched_while_it_is_written(folder: Path) -> None:
    """A thread logs as training does, with a loss that appears later; every answer is a beginning of the truth."""
    done = threading.Event()
    log = LossLog(folder / "r" / "metrics.csv", 0)

    def train() -> None:
        for step in range(1, 400):
            log.write({"epoch": 1, "step": step, "L1": step / 8} | ({"VGG": 2.0} if step > 200 else {}))
        done.set()

    thread = threading.Thread(target=train)
    client = client_of(folder)
    thread.start()
    seen = 0
    while not done.is_set():
        found = get(client, "/api/run", path="r")
        steps = [row[1] for row in found["rows"]]
        assert steps == list(range(1, len(steps) + 1))
        assert all(row[2] == row[1] / 8 for row in found["rows"])
        assert len(steps) >= seen
        seen = len(steps)
    thread.join()
    found = get(client, "/api/run", path="r")
    assert found["columns"] == ["epoch", "step", "L1", "VGG"]
    assert (found["rows"][0][3], found["rows"][-1][3]) == (None, 2)


def test_many_rows_are_thinned_evenly_and_the_last_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROWS", 40)
    lines = "".join(f"1,{step},0\n" for step in range(1, 1001))
    (folder / "r" / "metrics.csv").write_text("epoch,step,L1\n" + lines)
    found = run(folder)
    steps = [row[1] for row in found["rows"]]
    assert found["thinned"]
    assert len(steps) == 40
    assert (steps[0], steps[-1]) == (1, 1000)
    assert set(np.diff(steps)) <= {25, 26}
    found = run(folder, after=970)
    assert ([row[1] for row in found["rows"]], found["thinned"]) == (list(range(971, 1001)), False)


def test_odd_numbers_become_nothing(folder: Path) -> None:
    text = "epoch,step,L1,<b>\n1,1,nan,inf\n1,2,,abc\n1,3\n1,4,1e400,7,8,9\n\n"
    (folder / "r" / "metrics.csv").write_text(text)
    found = run(folder)
    assert found["columns"] == ["epoch", "step", "L1", "<b>"]
    assert found["rows"] == [[1, 1, None, None], [1, 2, None, None], [1, 3, None, None], [1, 4, None, 7]]


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\0", b'a,"b\n' * 100_000, b"\0" * 100, b"step\n" + b"9" * 10_000 + b"\n"]
)
def test_damaged_curves_are_no_failure(folder: Path, content: bytes) -> None:
    (folder / "r" / "metrics.csv").write_bytes(content)
    answer = client_of(folder).get("/api/run", params={"path": "r"})
    assert answer.status_code in (200, 422)
    assert "traceback" not in answer.text.lower()


def test_what_is_no_run_is_not_there(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    client = client_of(folder)
    outside = tmp_path_factory.mktemp("outside")
    (outside / "run.json").write_text("{}")
    (outside / "metrics.csv").write_text("step\n1\n")
    (folder / "link").symlink_to(outside)
    (folder / "linked").mkdir()
    (folder / "linked" / "run.json").symlink_to(outside / "run.json")
    for name in ("", ".", "..", "gone", "link", "linked", "r/run.json", str(outside)):
        assert client.get("/api/run", params={"path": name}).status_code == 404
    (folder / "r" / "metrics.csv").symlink_to(outside / "metrics.csv")
    assert run(folder)["rows"] == []
    (folder / "r" / "run.json").write_text('{"method": ')
    assert client.get("/api/run", params={"path": "r"}).status_code == 422
    (folder / "r" / "run.json").write_text(json.dumps({"method": ["x"], "mpp": "fine", "status": "\ud800" * 500}))
    found = run(folder)
    assert (found["mpp"], found["method"], len(found["status"])) == (None, "['x']", 40)


def picture(kind: str, size: tuple[int, int] = (30, 20)) -> bytes:
    """An image in a format."""
    stream = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(stream, kind)
    return stream.getvalue()


def sample(client: TestClient, name: str) -> Any:
    return client.get("/api/run/sample", params={"path": name})


def test_samples_are_told_by_their_content(folder: Path) -> None:
    samples = folder / "r" / "samples"
    write_image(samples / "epoch_0001.jpg", np.full((20, 30, 3), 90, np.uint8))
    (samples / "named.png").write_bytes(picture("JPEG"))
    (samples / "other.jpg").write_bytes(picture("PNG"))
    (samples / "page.png").write_bytes(b"<html><script>alert(1)</script>")
    (samples / "move.jpg").write_bytes(picture("GIF"))
    (samples / ".hidden.png").write_bytes(picture("PNG"))
    (samples / "huge.png").write_bytes(_bomb())
    (folder / "r" / "beside.png").write_bytes(picture("PNG"))
    client = client_of(folder)
    listed = [one["name"] for one in get(client, "/api/run", path="r")["samples"]]
    assert listed == ["epoch_0001.jpg", "huge.png", "move.jpg", "named.png", "other.jpg", "page.png"]
    kinds = {"epoch_0001.jpg": "image/jpeg", "named.png": "image/jpeg", "other.jpg": "image/png"}
    for name, kind in kinds.items():
        answer = sample(client, f"r/samples/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == (samples / name).read_bytes()
    for name in ("page.png", "move.jpg", "huge.png"):
        assert sample(client, f"r/samples/{name}").status_code == 422
    for name in ("r/beside.png", "r/samples/.hidden.png", "r/samples", "r/samples/gone.png", "r/samples/../beside.png"):
        assert sample(client, name).status_code == 404


def _bomb() -> bytes:
    """A PNG of 7,000 x 7,000 px in a few bytes."""
    stream = io.BytesIO()
    Image.new("1", (7000, 7000)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def test_samples_do_not_lead_out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "samples"
    outside.mkdir()
    (outside / "a.png").write_bytes(picture("PNG"))
    (outside.parent / "run.json").write_text("{}")
    (folder / "r" / "samples").symlink_to(outside)
    client = client_of(folder)
    assert get(client, "/api/run", path="r")["samples"] == []
    assert sample(client, "r/samples/a.png").status_code == 404
    (folder / "r" / "samples").unlink()
    (folder / "r" / "samples").mkdir()
    (folder / "r" / "samples" / "a.png").symlink_to(outside / "a.png")
    assert get(client, "/api/run", path="r")["samples"] == []
    assert sample(client, "r/samples/a.png").status_code == 404
