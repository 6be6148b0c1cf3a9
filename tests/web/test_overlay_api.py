"""``/api/overlays`` and ``/api/overlay``: what is offered, tiles and their caching, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from restain.slides import write_image
from restain.web.overlays import OVERLAYS, geojson
from tests.web.serving import client_of
from tests.web.workspace import Workspace


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> Iterator[TestClient]:
    with client_of(workspace.folder) as made:
        yield made


@pytest.fixture
def served(workspace: Workspace, tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    """A server of a small folder that may be changed: a slide and its cells."""
    shutil.copy(workspace.ihc, tmp_path / "ihc.ome.tif")
    shutil.copy(workspace.scores / "cells.geojson", tmp_path / "cells.geojson")
    with client_of(tmp_path) as made:
        yield made, tmp_path


def query(workspace: Workspace, role: str, via: bool = False, **more: str) -> dict[str, str]:
    slide = workspace.ihc if role == "ihc" else workspace.he
    registration = workspace.name(workspace.registration)
    given = {"path": workspace.name(slide), "role": role, "registration": registration, **more}
    return given | ({"via": registration} if via else {})


def decoded(content: bytes) -> NDArray[np.uint8]:
    bgra = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA), np.uint8)


def offers(client: TestClient, **asked: str) -> dict[str, list[dict[str, Any]]]:
    answer = client.get("/api/overlays", params=asked)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    kinds: dict[str, list[dict[str, Any]]] = {}
    for offer in answer.json():
        kinds.setdefault(offer["kind"], []).append(offer)
    return kinds


def test_what_is_offered_can_be_shown(client: TestClient, workspace: Workspace) -> None:
    """Each offer names a file that lies in the folder, has a legend, and its tiles are pictures of the tile's size."""
    for role, via in (("ihc", False), ("he", False), ("he", True)):
        asked = query(workspace, role, via)
        found = offers(client, **asked)
        assert set(found) == set(OVERLAYS) - ({"dab"} if role == "he" else set())
        for offer in (offer for kind in found.values() for offer in kind):
            assert offer["legend"]
            assert all(len(line["color"]) == 7 and line["label"] for line in offer["legend"])
            source = {} if offer["source"] is None else {"source": offer["source"]}
            assert offer["source"] is None or (workspace.folder / offer["source"]).is_file()
            z = 0 if offer["coarsest_z"] == 1 else 1  # nuclei take time
            answer = client.get(f"/api/overlay/{offer['kind']}/{z}/1/1", params=asked | source)
            assert answer.status_code == 200, (offer, answer.text)
            assert answer.headers["content-type"] == "image/png"
            assert decoded(answer.content).shape == (256, 256, 4)


def test_whose_files_are_offered(client: TestClient, workspace: Workspace) -> None:
    """The slide's own first; those of the other slide are named as such."""
    ihc, he = (offers(client, **query(workspace, role)) for role in ("ihc", "he"))
    cells = workspace.name(workspace.scores / "cells.geojson")
    attention = workspace.name(workspace.predictions / "attention.geojson")
    assert [(one["source"], one["source_frame"]) for one in ihc["membranes"]] == [(cells, "own")]
    assert [(one["source"], one["source_frame"]) for one in he["membranes"]] == [(cells, "ihc")]
    assert he["membranes"][0]["label"] == "Membrane classes (of the IHC)"
    assert [one["source"] for one in ihc["nuclei"]] == [cells]
    assert [one["source"] for one in he["nuclei"]] == [None, cells]
    assert he["nuclei"][0]["coarsest_z"] == 1
    assert [(one["source"], one["source_frame"]) for one in he["attention"]] == [(attention, "own")]
    assert [(one["source"], one["source_frame"]) for one in ihc["attention"]] == [(attention, "he")]
    assert ihc["patches"][0]["source"] == workspace.name(workspace.pairs)
    alone = offers(client, path=workspace.name(workspace.he))
    assert "grid" not in alone
    assert "membranes" not in alone


def test_the_grid_of_a_preview(client: TestClient, workspace: Workspace) -> None:
    """A registration that is not saved yet: its grid is shown, and kept by the browser under its own name."""
    columns = ("x_he", "y_he", "x_ihc", "y_ihc")
    with workspace.landmarks.open() as stream:
        points = [[float(row[column]) for column in columns] for row in csv.DictReader(stream)][:12]
    slides = {"he": workspace.name(workspace.other_he), "ihc": workspace.name(workspace.other_ihc)}
    preview = client.post("/api/landmarks/preview", json=slides | {"points": points})
    assert preview.status_code == 200, preview.text
    asked = {"path": slides["he"], "via": preview.json()["via"], "role": "he"}
    for kind in ("grid", "tissue"):
        answer = client.get(f"/api/overlay/{kind}/1/0/0", params=asked)
        assert answer.status_code == 200, answer.text
    assert "grid" in offers(client, **asked)
    gone = client.get("/api/overlay/grid/1/0/0", params=asked | {"via": "preview:none"})
    assert gone.status_code == 410


def test_tiles_end_at_the_slides_edge(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    brown = np.random.default_rng(0).integers((60, 30, 10), (200, 140, 100), (300, 401, 3)).astype(np.uint8)
    write_image(folder / "odd.png", brown)
    shapes = {(0, 1, 1): (44, 145), (1, 0, 0): (150, 201), (0, 0, 0): (256, 256)}
    for (z, x, y), (height, width) in shapes.items():
        answer = client.get(f"/api/overlay/dab/{z}/{x}/{y}", params={"path": "odd.png"})
        assert decoded(answer.content).shape == (height, width, 4)


def test_tiles_are_kept_by_the_browser(client: TestClient, workspace: Workspace) -> None:
    asked = query(workspace, "ihc", source=workspace.name(workspace.scores / "cells.geojson"))
    (offer,) = offers(client, **query(workspace, "ihc"))["membranes"]
    stamp = client.get("/api/slide", params={"path": asked["path"]}).json()["stamp"]
    url = "/api/overlay/membranes/1/1/1"
    first = client.get(url, params=asked)
    assert first.headers["cache-control"] == "private, no-cache"
    lasting = client.get(url, params=asked | {"v": stamp, "s": offer["stamp"]})
    assert lasting.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert client.get(url, params=asked | {"v": stamp, "s": "old"}).headers["cache-control"] == "private, no-cache"
    assert first.headers["etag"] == lasting.headers["etag"]
    again = client.get(url, params=asked, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    tags = {first.headers["etag"]}
    for other in (
        client.get("/api/overlay/nuclei/1/1/1", params=asked),
        client.get("/api/overlay/membranes/1/1/0", params=asked),
        client.get(url, params={key: asked[key] for key in ("path", "source")}),
    ):
        assert other.status_code in (200, 204)
        tags.add(other.headers["etag"])
    assert len(tags) == 4


def test_empty_tiles_have_no_content(client: TestClient, workspace: Workspace) -> None:
    asked = {
        "path": workspace.name(workspace.ihc),
        "source": workspace.name(workspace.predictions / "attention.geojson"),
    }
    assert client.get("/api/overlay/attention/0/0/0", params=asked).status_code == 200  # taken to be on its own px
    answer = client.get("/api/overlay/nuclei/2/0/0", params={"path": asked["path"]})
    assert (answer.status_code, answer.content) == (204, b"")
    assert "etag" in answer.headers


def test_a_new_file_has_new_tiles(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    asked = {"path": "ihc.ome.tif", "source": "cells.geojson"}
    first = client.get("/api/overlay/membranes/1/1/1", params=asked)
    document = json.loads((folder / "cells.geojson").read_text())
    for feature in document["features"]:
        feature["properties"]["classification"] = {"name": "HER2 0", "color": [70, 130, 235]}
    (folder / "cells.geojson").write_text(json.dumps(document))
    second = client.get("/api/overlay/membranes/1/1/1", params=asked, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    colours = decoded(second.content)
    solid = colours[colours[..., 3] > 250][:, :3].astype(int)
    assert (np.abs(solid - (70, 130, 235)).max(axis=1) < 12).mean() > 0.5
    assert (np.abs(solid - (215, 25, 30)).max(axis=1) < 60).mean() == 0


def test_a_slide_that_changed_or_went(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    asked = {"path": "ihc.ome.tif"}
    stamp = client.get("/api/slide", params=asked).json()["stamp"]
    assert client.get("/api/overlay/tissue/1/0/0", params=asked | {"v": stamp}).status_code in (200, 204)
    os.utime(folder / "ihc.ome.tif", ns=(1, 1))
    answer = client.get("/api/overlay/tissue/1/0/0", params=asked | {"v": stamp})
    assert answer.status_code == 410
    assert "Reload" in answer.json()["error"]
    (folder / "ihc.ome.tif").unlink()
    assert client.get("/api/overlay/tissue/1/0/0", params=asked | {"v": stamp}).status_code == 404


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("membranes", "cells.geojson", '{"type": "FeatureCollection", "features": [{"type": "Feature"'),
        ("attention", "a.geojson", "\0\1\2"),
        ("density", "cells.csv", "a,b\n1,2\n"),
        ("patches", "pairs.csv", "a,b\n1,2\n"),
    ],
)
def test_damaged_files_are_told(served: tuple[TestClient, Path], kind: str, name: str, text: str) -> None:
    client, folder = served
    (folder / name).write_text(text)
    answer = client.get(f"/api/overlay/{kind}/1/0/0", params={"path": "ihc.ome.tif", "source": name})
    assert answer.status_code == 422
    assert name in answer.json()["error"]
    assert str(folder) not in answer.text


def test_a_file_without_features_is_empty(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    (folder / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    for kind in ("membranes", "nuclei", "attention"):
        answer = client.get(f"/api/overlay/{kind}/1/0/0", params={"path": "ihc.ome.tif", "source": "none.geojson"})
        assert answer.status_code == 204, answer.text


def test_too_large_files_are_told(served: tuple[TestClient, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = served
    monkeypatch.setattr(geojson, "LARGEST_FILE", 100)
    answer = client.get("/api/overlay/membranes/1/0/0", params={"path": "ihc.ome.tif", "source": "cells.geojson"})
    assert answer.status_code == 422
    assert "larger than" in answer.json()["error"]


def test_a_damaged_slide_is_told(served: tuple[TestClient, Path]) -> None:
    client, folder = served
    data = bytearray((folder / "ihc.ome.tif").read_bytes())
    data[5000:-20000] = bytes(len(data) - 25000)
    (folder / "bad.ome.tif").write_bytes(data)
    for kind in ("tissue", "dab", "nuclei"):
        answer = client.get(f"/api/overlay/{kind}/0/0/0", params={"path": "bad.ome.tif"})
        assert answer.status_code in (204, 422), (kind, answer.text)
    assert client.get("/api/overlay/dab/0/0/0", params={"path": "ihc.ome.tif"}).status_code in (200, 204)


@pytest.mark.parametrize(
    "name", ["../x.geojson", "/etc/passwd", "%2e%2e/x", "..\\x", "a\0b", ".hidden", "absent.geojson"]
)
@pytest.mark.parametrize("parameter", ["path", "source", "registration", "via"])
def test_no_path_leads_out(client: TestClient, workspace: Workspace, parameter: str, name: str) -> None:
    asked = query(workspace, "he", via=parameter == "via") | {parameter: name}
    for url in ("/api/overlay/attention/1/0/0", *(["/api/overlays"] if parameter != "source" else [])):
        assert client.get(url, params=asked).status_code == 404


def test_wrong_requests(client: TestClient, workspace: Workspace) -> None:
    asked = query(workspace, "ihc")
    cells = workspace.name(workspace.scores / "cells.geojson")
    for url, more, status in (
        ("/api/overlay/nothing/0/0/0", {}, 404),
        ("/api/overlay/tissue/0/99/0", {}, 404),
        ("/api/overlay/tissue/77/0/0", {}, 404),
        ("/api/overlay/tissue/-1/0/0", {}, 400),
        ("/api/overlay/tissue/x/0/0", {}, 400),
        ("/api/overlay/membranes/0/0/0", {}, 400),  # without a source
        ("/api/overlay/tissue/0/0/0", {"role": "virtual"}, 400),
        ("/api/overlay/tissue/0/0/0", {"path": workspace.name(workspace.hostile)}, 422),  # of another size
        ("/api/overlay/tissue/0/0/0", {"registration": cells}, 422),
    ):
        answer = client.get(url, params=asked | more)
        assert answer.status_code == status, (url, more, answer.text)
        assert set(answer.json()) == {"error"}
    own = client.get("/api/overlay/grid/0/0/0", params={"path": asked["path"]})
    assert own.status_code == 400
    assert "registration" in own.json()["error"]
