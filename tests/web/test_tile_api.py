"""Slides and tiles over HTTP: what is answered, kept, refused, and what happens when a file changes or is damaged."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from numpy.typing import NDArray
from PIL import Image

from restain.registration import Transform, WarpedSlide
from restain.slides import Slide, open_slide
from restain.web import ServeOptions, create_app, landmarks, tile_api, tiles
from restain.web.failures import RefusedError
from tests.web.slides import damage, flat, pattern, pyramid, quartered, turned

W, H = 1301, 907


@pytest.fixture
def served(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(ServeOptions(tmp_path)), base_url="http://127.0.0.1") as client:
        yield client


def document(client: TestClient, name: str, **more: str) -> dict[str, object]:
    answer = client.get("/api/slide", params={"path": name} | more)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def tile(client: TestClient, place: str, name: str, **more: object) -> Response:
    return client.get(f"/api/tile/{place}", params={"path": name, **more})  # type: ignore[dict-item]


def test_the_document_says_what_the_viewer_needs(tmp_path: Path, served: TestClient) -> None:
    pyramid(tmp_path / "a.ome.tif", pattern(W, H), mpp=0.25)
    found = document(served, "a.ome.tif")
    assert found.pop("stamp")
    assert found == {
        "path": "a.ome.tif", "name": "a.ome.tif", "size": [W, H], "mpp": 0.25, "reader": "tifffile (OME-TIFF)",
        "levels": [[1301, 907], [651, 454], [326, 227], [163, 114], [82, 57]], "tile": 256, "max_z": 3,
        "coarsest_z": 3, "problem": None,
    }  # fmt: skip
    flat(tmp_path / "b.tif", np.zeros((300, 9000, 3), np.uint8), tile=(256, 256), compression="deflate")
    found = document(served, "b.tif")
    assert found["mpp"] is None
    assert (found["max_z"], found["coarsest_z"]) == (6, 6)  # narrow: cheap all the same
    assert document(served, "b.tif", mpp="0.5")["mpp"] == 0.5


def test_a_slide_without_a_pyramid_is_shown_near_and_says_what_to_do(tmp_path: Path, served: TestClient) -> None:
    flat(tmp_path / "a.tif", np.broadcast_to(np.uint8(200), (9000, 9000, 3)), tile=(512, 512), compression="deflate")
    found = document(served, "a.tif")
    assert (found["max_z"], found["coarsest_z"]) == (6, 4)
    assert "pyramidal OME-TIFF" in str(found["problem"])
    assert tile(served, "4/0/0", "a.tif").status_code == 200
    refused = tile(served, "6/0/0", "a.tif")
    assert refused.status_code == 422
    assert "zoom in" in refused.json()["error"]


def test_what_could_only_be_read_whole_is_refused(tmp_path: Path, served: TestClient) -> None:
    flat(tmp_path / "a.tif", np.zeros((6000, 6000, 3), np.uint8), rowsperstrip=6000, compression="deflate")
    for answer in (served.get("/api/slide", params={"path": "a.tif"}), tile(served, "0/0/0", "a.tif")):
        assert answer.status_code == 422
        assert "pyramidal OME-TIFF" in answer.json()["error"]


def test_tiles_are_kept_by_the_browser_for_good(tmp_path: Path, served: TestClient) -> None:
    pixels = pattern(300, 200)
    path = pyramid(tmp_path / "a.ome.tif", pixels)
    stamp = document(served, "a.ome.tif")["stamp"]
    answer = tile(served, "0/0/0", "a.ome.tif", v=stamp)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    assert np.abs(shown - pixels[:256, :256]).mean() < 8
    again = served.get(answer.request.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert served.get(answer.request.url, headers={"If-None-Match": 'W/"x"'}).content == answer.content
    bare = tile(served, "0/0/0", "a.ome.tif")  # without the stamp: asked for again each time
    assert bare.headers["cache-control"] == "private, no-cache"
    assert bare.headers["etag"] == answer.headers["etag"]
    assert tile(served, "0/1/0", "a.ome.tif").headers["etag"] != answer.headers["etag"]

    os.utime(path, ns=(1, 1))
    gone = tile(served, "0/0/0", "a.ome.tif", v=stamp)
    assert gone.status_code == 410
    assert "Reload" in gone.json()["error"]
    assert "max-age" not in gone.headers["cache-control"]


def test_a_replaced_slide_is_shown_anew_and_a_vanished_one_is_missed(tmp_path: Path, served: TestClient) -> None:
    path = pyramid(tmp_path / "a.ome.tif", np.full((300, 300, 3), 30, np.uint8))
    old = document(served, "a.ome.tif")["stamp"]
    assert tile(served, "0/0/0", "a.ome.tif", v=old).status_code == 200
    pyramid(path, np.full((400, 400, 3), 220, np.uint8))
    assert tile(served, "0/0/0", "a.ome.tif", v=old).status_code == 410
    new = document(served, "a.ome.tif")
    assert new["size"] == [400, 400]
    shown = Image.open(io.BytesIO(tile(served, "0/0/0", "a.ome.tif", v=new["stamp"]).content))
    assert np.asarray(shown).mean() == pytest.approx(220, abs=2)
    path.unlink()
    assert tile(served, "0/0/0", "a.ome.tif", v=new["stamp"]).status_code == 404
    assert served.get("/api/slide", params={"path": "a.ome.tif"}).status_code == 404


@pytest.mark.parametrize("kind", ["pyramid", "quartered"])
def test_a_damaged_tile_is_missing_alone(tmp_path: Path, served: TestClient, kind: str) -> None:
    pixels = pattern(1024, 512)
    path = pyramid(tmp_path / "a", pixels, tile=256) if kind == "pyramid" else quartered(tmp_path / "a", pixels)
    assert tile(served, "0/3/1", path.name).status_code == 200
    damage(path, page=0, tile=0)
    with ThreadPoolExecutor(8) as pool:  # at once: one handle of OpenSlide gives nothing more after an error
        places = [(x, y) for y in range(2) for x in range(4)] * 3
        answers = list(pool.map(lambda place: (place, tile(served, f"0/{place[0]}/{place[1]}", path.name)), places))
    for place, answer in answers:
        assert answer.status_code == (422 if place == (0, 0) else 200), (place, answer.text[:200])
    assert "damaged" in tile(served, "0/0/0", path.name).json()["error"]


def test_other_files_are_no_slides(tmp_path: Path, served: TestClient) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.tif").write_bytes(b"II*\0" + b"\xff" * 100)
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    (tmp_path / "d.ome.tif").touch()
    for name in ("a.txt", "b.tif", "c.png", "d.ome.tif"):
        assert served.get("/api/slide", params={"path": name}).status_code == 422, name
        assert tile(served, "0/0/0", name).status_code == 422, name


@pytest.mark.parametrize("place", ["9/0/0", "0/2/0", "0/0/99999999999", "0/-1/0", "x/0/0", "0/0/0.5", "1e3/0/0", "0/0"])
def test_tiles_that_are_none_are_refused(tmp_path: Path, served: TestClient, place: str) -> None:
    pyramid(tmp_path / "a.ome.tif", pattern(300, 200))
    assert tile(served, place, "a.ome.tif").status_code in (400, 404)


def test_the_he_is_shown_on_the_grid_of_the_ihc(tmp_path: Path, served: TestClient) -> None:
    path = pyramid(tmp_path / "he.ome.tif", pattern(W, H), mpp=None)  # its um/px is the registration's
    transform = turned((W, H))
    transform.save(tmp_path / "transform.json")
    found = document(served, "he.ome.tif", via="transform.json")
    assert (found["size"], found["mpp"], found["max_z"]) == ([1100, 800], 0.5, 3)
    via = {"via": "transform.json", "v": found["stamp"]}
    answer = tile(served, "1/1/0", "he.ome.tif", **via)
    assert "immutable" in answer.headers["cache-control"]
    shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    with open_slide(path, mpp=0.5) as slide:
        real, _ = WarpedSlide(slide, transform).read(512, 0, 256, 256, 1.0)
    assert np.abs(shown - real).mean() < 8
    alone = document(served, "he.ome.tif")["stamp"]
    plain = tile(served, "1/1/0", "he.ome.tif", via="transform.json", v=alone)
    assert (plain.content, plain.headers["cache-control"]) == (answer.content, "private, no-cache")

    Transform(np.eye(3), None, (0.0, 0.0), 1.0, (W, H), (1100, 800), 0.5, 0.5).save(tmp_path / "transform.json")
    assert tile(served, "1/1/0", "he.ome.tif", **via).status_code == 410
    assert tile(served, "1/1/0", "he.ome.tif", via="transform.json", v=alone).content != answer.content
    Transform(np.eye(3), None, (0.0, 0.0), 1.0, (9, 9), (1100, 800), 0.5, 0.5).save(tmp_path / "transform.json")
    other = tile(served, "1/1/0", "he.ome.tif", via="transform.json")
    assert other.status_code == 422
    assert "does not belong" in other.json()["error"]
    for wrong in ("he.ome.tif", "none.json"):
        assert tile(served, "1/1/0", "he.ome.tif", via=wrong).status_code in (404, 422)


def test_an_absurd_registration_does_not_read_the_whole_slide(
    tmp_path: Path, served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, largest = Slide.read, 0

    def watched(
        self: Slide, x: float, y: float, width: int, height: int, mpp: float | None = None
    ) -> NDArray[np.uint8]:
        nonlocal largest
        largest = max(largest, width * height)
        return read(self, x, y, width, height, mpp)

    monkeypatch.setattr(Slide, "read", watched)
    matrix = np.diag([60.0, 60.0, 1.0])  # 60 px of the H&E to one of the IHC, at the same um/px
    flat(tmp_path / "wide.tif", np.broadcast_to(np.uint8(99), (6000, 6000, 3)), tile=(256, 256), compression="deflate")
    Transform(matrix, None, (0.0, 0.0), 1.0, (6000, 6000), (100, 100), 0.5, 0.5).save(tmp_path / "wide.json")
    answer = tile(served, "0/0/0", "wide.tif", via="wide.json")
    assert answer.status_code == 422
    assert "beyond measure" in answer.json()["error"]
    assert largest <= 2**20


def test_heavy_tiles_wait_for_each_other_and_nobody_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = pattern(1024, 1024)
    flat(tmp_path / "heavy.tif", pixels, tile=(1024, 1024), compression="deflate")
    pyramid(tmp_path / "light.ome.tif", pixels)
    monkeypatch.setattr(tile_api, "_HEAVY", 2**19)
    render, lock, gate = tiles.render, threading.Lock(), threading.Event()
    now = most = 0

    def slow(slide: Slide, z: int, x: int, y: int) -> NDArray[np.uint8]:
        nonlocal now, most
        if slide.path.name != "heavy.tif":
            return render(slide, z, x, y)
        with lock:
            now += 1
            most = max(most, now)
        assert gate.wait(10)
        with lock:
            now -= 1
        return render(slide, z, x, y)

    monkeypatch.setattr(tiles, "render", slow)
    client = TestClient(create_app(ServeOptions(tmp_path)), base_url="http://127.0.0.1")
    with client, ThreadPoolExecutor(40) as pool:
        heavy = [pool.submit(tile, client, f"0/{n % 4}/{n // 4 % 4}", "heavy.tif") for n in range(32)]
        light = [pool.submit(tile, client, f"0/{n}/0", "light.ome.tif") for n in range(4)]
        assert [answer.result(10).status_code for answer in light] == [200] * 4
        assert not any(answer.done() for answer in heavy)
        gate.set()
        assert {answer.result(20).status_code for answer in heavy} == {200}
    assert most == tile_api._HEAVY_THREADS


def test_a_preview_of_landmarks_is_shown_too(
    tmp_path: Path, served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid(tmp_path / "he.ome.tif", pattern(W, H))
    transform = turned((W, H))
    transform.save(tmp_path / "transform.json")

    def preview(_: object, name: str) -> Transform:
        if name != "abc":
            raise RefusedError(410, "no longer kept")
        return transform

    monkeypatch.setattr(landmarks, "preview_transform", preview)
    found = document(served, "he.ome.tif", via="preview:abc")
    assert found["size"] == [1100, 800]
    saved = tile(served, "1/0/0", "he.ome.tif", via="transform.json")
    for stamp in (found["stamp"], document(served, "he.ome.tif")["stamp"]):
        answer = tile(served, "1/0/0", "he.ome.tif", via="preview:abc", v=stamp)
        assert answer.content == saved.content
        assert "immutable" in answer.headers["cache-control"]  # another preview has another name
    assert tile(served, "1/0/0", "he.ome.tif", via="preview:old").status_code == 410
