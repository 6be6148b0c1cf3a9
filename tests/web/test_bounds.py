"""No request, and no file that somebody put into the folder, may cost memory or time without bound."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import anyio
import imagecodecs
import numpy as np
import pytest
import tifffile

from restain.cli import serve as command
from restain.core.errors import ItemError, UnreadableImageError
from restain.registration import Transform
from restain.slides import Slide, open_slide
from restain.web import library
from restain.web.companions import check_companions
from restain.web.library import library_of
from restain.web.matching import SlideIndex
from restain.web.overlays.tables import read_cells
from restain.web.runs import read_curves
from restain.web.scan import SlideFile
from restain.web.slide_pool import SlidePool
from tests.web.serving import ADDRESS, client_of, context_of
from tests.web.slides import flat, pattern, pyramid

HEAD = '<!DOCTYPE html><html><head><meta name="generator" content="restain 1.0"><title>t</title></head>'


def test_slow_readers_of_a_large_report_do_not_hold_it_in_memory(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(HEAD + "x" * 2**25)
    app = client_of(tmp_path).app
    largest = 0

    async def ask() -> None:
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await anyio.sleep_forever()
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal largest
            largest = max(largest, len(message.get("body", b"")))

        scope = {
            "type": "http", "method": "GET", "path": "/api/report", "raw_path": b"/api/report", "scheme": "http",
            "query_string": b"path=a.html", "headers": [(b"host", ADDRESS.removeprefix("http://").encode())],
            "http_version": "1.1", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]

    anyio.run(ask)
    assert 0 < largest <= 2**20


def test_large_curves_take_little_more_memory_than_their_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n" + "".join(f"{step},12,{step}\n" for step in range(200_000)))
    tracemalloc.start()
    found = read_curves(path, after=99)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + 4 * 2**20
    assert (found["rows"][0], found["rows"][-1]) == ([100, 12, 100], [199_999, 12, 199_999])


@pytest.mark.parametrize("read", [read_cells, lambda path: read_curves(path, None)], ids=["cells", "curves"])
def test_a_line_of_millions_of_fields_is_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "12," * 2**20 + "\n")
    with pytest.raises(ItemError, match="a line has more than"):
        read(path)


def test_of_many_samples_the_last_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tmp_path / "r" / "samples"
    samples.mkdir(parents=True)
    (tmp_path / "r" / "run.json").write_text("{}")
    for number in range(3000):
        (samples / f"{number:04}.png").touch()
    looked = 0
    stat = Path.stat

    def counted(path: Path, *, follow_symlinks: bool = True) -> Any:  # also behind lstat and is_file
        nonlocal looked
        looked += path.parent == samples
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", counted)
    names = [one["name"] for one in client_of(tmp_path).get("/api/run", params={"path": "r"}).json()["samples"]]
    assert names == [f"{number:04}.png" for number in range(2600, 3000)]
    assert looked < 1000


def test_nuclei_of_a_slide_that_lies_about_its_resolution_do_not_read_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 0.01 um/px a block of 300 um has 30,000 px."""
    flat(
        tmp_path / "a.tif", np.full((9000, 9000, 3), 200, np.uint8), rowsperstrip=64, compression="zlib",
        resolution=(1e6, 1e6), resolutionunit="CENTIMETER",
    )  # fmt: skip
    read = 0
    reduced = Slide.read_reduced

    def counted(slide: Slide, x: float, y: float, width: int, height: int, downsample: float) -> Any:
        nonlocal read
        read = max(read, slide.cost(width, height, downsample))
        return reduced(slide, x, y, width, height, downsample)

    monkeypatch.setattr(Slide, "read_reduced", counted)
    client = client_of(tmp_path)
    assert client.get("/api/slide", params={"path": "a.tif"}).json()["mpp"] == pytest.approx(0.01)
    for kind in ("nuclei", "density"):
        assert client.get(f"/api/overlay/{kind}/0/0/0", params={"path": "a.tif"}).status_code == 204
    assert read < 8000**2


def register(folder: Path, **changes: Any) -> Path:
    """A registration with a field, of which some entries are others."""
    identity = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
    field = np.zeros((3, 3, 2), np.float32)
    Transform(np.array(identity), field, (0, 0), 100.0, (200, 200), (200, 200), 0.5, 0.5, "a", "b").save(
        folder / "transform.json"
    )
    document = json.loads((folder / "transform.json").read_text())
    for key, value in changes.items():
        part, name = key.split("__")
        document[part][name] = value
    (folder / "transform.json").write_text(json.dumps(document))
    return folder / "transform.json"


@pytest.mark.parametrize(
    "changes",
    [{"field__file": "a" * 5000}, {"field__file": "\ud800"}, {"field__file": "loop"}, {"field__file": "lies.npz"},
     {"fixed__size": [10**30, 10**30]}, {"fixed__mpp": 1e300}, {"moving__mpp": 1e-300}],
)  # fmt: skip
def test_a_registration_of_any_content_is_refused_and_no_failure(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    head = f"{{'descr':'<f4','fortran_order':False,'shape':({2**44},3,2)}}".ljust(117).encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("displacement.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(72))
    path = register(tmp_path, **changes)
    pool = SlidePool()
    for _ in range(2):
        with pytest.raises(ItemError):
            pool.transforms.load(path)


def test_a_registration_that_squeezes_a_slide_of_strips_into_a_column_is_refused(tmp_path: Path) -> None:
    flat(tmp_path / "he.tif", np.full((15_000, 15_000, 3), 200, np.uint8), rowsperstrip=512, compression="zlib")
    matrix = np.diag([1 / 64, 60.0, 1.0])
    transform = Transform(matrix, None, (0, 0), 1.0, (15_000, 15_000), (1000, 1000), 0.5, 0.5)
    with SlidePool().warped(tmp_path / "he.tif", transform) as warped, pytest.raises(ItemError, match="beyond measure"):
        warped.read(0, 0, 256, 256)


@pytest.mark.parametrize("codec", ["jpegxl", "lerc", "jpeg"])
def test_a_tile_whose_size_cannot_be_told_is_not_decoded(tmp_path: Path, codec: str) -> None:
    black = np.zeros((2000, 2000, 3), np.uint8)
    jpeg = bytes(imagecodecs.jpeg8_encode(black))
    data = {
        "jpegxl": imagecodecs.jpegxl_encode(black, effort=1),
        "lerc": imagecodecs.lerc_encode(black),
        "jpeg": jpeg[:2] + b"\0passed over by libjpeg" + jpeg[2:],
    }[codec]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, iter([bytes(data)]), shape=(64, 64, 3), dtype=np.uint8, tile=(64, 64), photometric="rgb",
        compression=codec, metadata=None,
    )  # fmt: skip
    with open_slide(path) as slide, pytest.raises(UnreadableImageError, match="does not say how large it is"):
        slide.read(0, 0, 64, 64)


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_of_endless_pictures_is_refused_before_they_are_listed(tmp_path: Path, big: bool) -> None:
    path = tmp_path / "a.tif"
    entry, offset = ("<QHHQQ", "<Q") if big else ("<HHHII", "<I")
    size = struct.calcsize(entry) + struct.calcsize(offset)
    first = 16 if big else 8
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, first) if big else b"II*\0" + struct.pack("<I", first)
    many = 1500
    places = [first + size * (number + 1) for number in range(many - 1)] + [0]
    path.write_bytes(head + b"".join(struct.pack(entry, 1, 256, 3, 1, 16) + struct.pack(offset, at) for at in places))
    with pytest.raises(UnreadableImageError, match="more than 1,000 pictures"):
        open_slide(path)
    with pytest.raises(UnreadableImageError, match="more than 1,000 pictures"), SlidePool().open(path):
        pass


def test_nobody_waits_for_a_scan_that_another_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyramid(tmp_path / "a.ome.tif", pattern(64, 64))
    context = context_of(client_of(tmp_path))
    before = library_of(context)
    scanning, finish = threading.Event(), threading.Event()
    make = library.make_library

    def slow(root: Any) -> Any:
        scanning.set()
        finish.wait(20)
        return make(root)

    monkeypatch.setattr(library, "make_library", slow)
    thread = threading.Thread(target=library_of, args=(context, True))
    thread.start()
    try:
        assert scanning.wait(20)
        began = time.monotonic()
        assert library_of(context) is before
        assert time.monotonic() - began < 5
    finally:
        finish.set()
        thread.join()


def test_slides_that_all_have_one_name_are_told_apart_at_once() -> None:
    """Each patient has a folder with a he.svs: by comparing all with all, 5,000 of them took minutes."""
    slides = [SlideFile(Path(f"/d/{number}/he.svs"), 1, 1) for number in range(5000)]
    index = SlideIndex(slides)
    began = time.monotonic()
    for number in range(5000):
        assert index.named(f"/elsewhere/{number}/he.svs") == [slides[number]]
    assert time.monotonic() - began < 5
    assert index.named("other/he.svs") == slides
    assert index.named("he.svs") == slides


@pytest.mark.parametrize("name", ["7", "odd "])
def test_a_companion_of_an_odd_name_may_not_lead_out_either(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "served"
    (folder / "slide").mkdir(parents=True)
    (folder / "slide" / "odd").touch()
    (folder / "slide" / name).symlink_to(tmp_path / "secret")
    (folder / "slide" / "Slidedat.ini").write_text(f"[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = {name}\n")
    with pytest.raises(UnreadableImageError, match="outside of the served folder"):
        check_companions(folder / "slide.mrxs", "mirax", lambda path: path.is_relative_to(folder))


def test_a_connection_that_never_ends_its_question_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    from restain.web import ServeOptions, create_app

    monkeypatch.setattr(command, "_ASK_WITHIN", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(ServeOptions(tmp_path)), http=command._Patient, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        host = b"Host: 127.0.0.1\r\n"
        for begun in (b"", b"GET /api/library HTTP/1.1\r\n" + host, b"GET /x HTTP/1.1\r\n" + host + b"\r\nGET /half"):
            with socket.create_connection(listener.getsockname(), timeout=4) as connection:
                connection.sendall(begun)
                while connection.recv(4096):  # until the server closes it, or a timeout fails the test
                    pass
    finally:
        server.should_exit = True
        thread.join()
