"""Nothing outside of the served folder is ever served, whatever a request or a file names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

from restain.core.errors import RestainError, UnreadableImageError
from restain.core.files import write_json
from restain.registration import Transform
from restain.slides import write_image
from restain.web import ServeOptions, create_app
from restain.web.paths import NotServedError, Root
from restain.web.slide_pool import SlidePool

SIDE = 300
SERVED = ("in.png", "sub/in.png", "inside-link.png", "a b/ü'\"<b>.png")


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((SIDE, SIDE, 3), 200, np.uint8))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A served folder; every picture beside it is one that must never come out."""
    outer = tmp_path_factory.mktemp("outer")
    inner = outer / "served"
    for name in (
        "in.png",
        "sub/in.png",
        "a b/ü'\"<b>.png",
        ".hidden.png",
        ".git/in.png",
        "study/in.png",
        "study/x/in.png",
    ):
        picture(inner / name)
    for name in ("outside.png", "served2/in.png", "elsewhere/in.png"):
        picture(outer / name)
    (inner / "study" / "study.sqlite").touch()
    (inner / "inside-link.png").symlink_to(inner / "in.png")
    (inner / "link.png").symlink_to(outer / "outside.png")
    (inner / "up").symlink_to(outer)
    (inner / "linked").symlink_to(outer / "elsewhere")
    (inner / "truth.png").symlink_to(inner / "study" / "in.png")
    (inner / "shown.png").symlink_to(inner / ".hidden.png")
    (inner / "loop.png").symlink_to(inner / "loop.png")
    os.mkfifo(inner / "pipe.png")
    return inner


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(ServeOptions(folder)), base_url="http://127.0.0.1") as made:
        yield made


ATTACKS = {
    "climbs": "../outside.png",
    "climbs from a folder": "sub/../../outside.png",
    "climbs and returns": "../served/in.png",
    "stays but climbs": "sub/../in.png",
    "a folder whose name begins so": "../served2/in.png",
    "backslashes": "..\\outside.png",
    "backslash in a folder": "sub\\in.png",
    "a NUL": "in.png\0",
    "a NUL before": "\0in.png",
    "a NUL and more": "in.png\0/../../outside.png",
    "a link to a file": "link.png",
    "a link to a folder": "linked/in.png",
    "a link upwards": "up/outside.png",
    "a link to a study": "truth.png",
    "a link to a hidden file": "shown.png",
    "a loop of links": "loop.png",
    "hidden": ".hidden.png",
    "a hidden folder": ".git/in.png",
    "a study": "study/in.png",
    "in a study": "study/x/in.png",
    "the study itself": "study/study.sqlite",
    "a long name": "x" * 300 + ".png",
    "many folders": "/".join(["x"] * 1500),
    "absent": "none.png",
    "a file as a folder": "in.png/x",
    "still encoded": "%2e%2e/outside.png",
    "twice encoded": "..%2foutside.png",
    "overlong UTF-8": "\udcc0\udcae\udcc0\udcae/outside.png",
    "an address": "file:///etc/hostname",
    "a home": "~/outside.png",
}


@pytest.mark.parametrize("name", ATTACKS.values(), ids=ATTACKS.keys())
def test_names_that_lead_elsewhere_are_not_served(folder: Path, client: TestClient, name: str) -> None:
    with pytest.raises(NotServedError):
        Root(folder).resolve(name)
    encoded = quote(name, safe="", errors="surrogateescape")
    for address in ("/api/slide?path=", "/api/tile/0/0/0?path=", "/api/tile/0/0/0?path=in.png&via="):
        for text in {encoded, quote(name, errors="surrogateescape"), encoded.replace(".", "%2e")}:
            answer = client.get(address + text)
            assert answer.status_code == 404, (text, answer.text)
            assert "/outer" not in answer.text


def test_absolute_paths_are_not_served(folder: Path, client: TestClient) -> None:
    for name in (folder / "in.png", folder.parent / "outside.png", Path("/etc/hostname")):
        for text in (str(name), f"/{name}", quote(str(name), safe="")):
            assert client.get("/api/slide", params={"path": text}).status_code == 404
    assert client.get("/api/slide?path=").status_code == 404
    assert client.get("/api/slide?path=" + "x" * 5000).status_code == 400


def test_folders_and_pipes_are_no_slides(client: TestClient) -> None:
    for name in ("sub", ".", "sub/", "pipe.png"):  # reading a pipe would wait for ever
        assert client.get("/api/slide", params={"path": name}).status_code == 404, name


def test_what_lies_inside_is_served(folder: Path, client: TestClient) -> None:
    root = Root(folder)
    for name in SERVED:
        answer = client.get("/api/slide", params={"path": name})
        assert answer.status_code == 200, name
        assert answer.json()["path"] == ("in.png" if name == "inside-link.png" else name)
        assert client.get("/api/tile/0/0/0", params={"path": name}).status_code == 200
        assert root.relative(folder / name) == answer.json()["path"]
    assert root.relative(folder.parent / "outside.png") is None
    assert root.relative(folder / "link.png") is None


@pytest.mark.parametrize(
    "address",
    ["/../outside.png", "/%2e%2e/outside.png", "/assets/../web/app.py", "/assets/%2e%2e/%2e%2e/app.py", "/in.png",
     "/assets/..%2f..%2fapp.py", "//etc/hostname", "/static/index.html"],
)  # fmt: skip
def test_no_other_address_leads_to_a_file(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code in (404, 405)
    assert "def create_app" not in answer.text


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", picture(tmp_path / "a.png")):
        with pytest.raises(RestainError, match=wrong.name):
            create_app(ServeOptions(wrong))


def identity(field: bool) -> Transform:
    grid = np.zeros((3, 3, 2), np.float32) if field else None
    return Transform(np.eye(3), grid, (0.0, 0.0), 150.0, (SIDE, SIDE), (SIDE, SIDE), 0.5, 0.5)


def test_a_registration_may_not_name_a_field_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    pool = SlidePool(Root(folder).serves)
    identity(field=True).save(folder / "transform.json")
    assert pool.transforms.load(folder / "transform.json").displacement is not None
    (folder / "field.npz").rename(tmp_path / "field.npz")
    (folder / "field.npz").symlink_to(tmp_path / "field.npz")
    os.utime(folder / "transform.json", ns=(1, 1))
    with pytest.raises(RestainError, match="beside it"):
        pool.transforms.load(folder / "transform.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"file": "../field.npz"}, "beside it"), ({"file": 7}, "beside it"), ({"shape": [10**6, 10**6, 2]}, "too large"),
     ({"shape": "x"}, "damaged")],
)  # fmt: skip
def test_hostile_registrations_are_refused_before_they_are_read(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "transform.json"
    field = {"file": "field.npz", "origin": [0, 0], "spacing": 16, "shape": [3, 3, 2]} | change
    write_json(path, {"format": "restain transform", "version": 1, "field": field})
    with pytest.raises(RestainError, match=said):
        SlidePool(Root(tmp_path).serves).transforms.load(path)
    path.write_text(" " * 2**21)
    with pytest.raises(RestainError, match="too large"):
        SlidePool(Root(tmp_path).serves).transforms.load(path)


def mirax(folder: Path, **names: str) -> Path:
    """The beginning of a MIRAX slide: enough for OpenSlide to take it as one."""
    (folder / "slide").mkdir(parents=True)
    (folder / "slide.mrxs").touch()
    lines = ["[GENERAL]", "CREATED = 1/2/3", "[DATAFILE]", "FILE_COUNT = 1"]
    lines += [f"{key}\t= {value}" for key, value in names.items()]
    (folder / "slide" / "Slidedat.ini").write_text("\n".join(lines), encoding="utf-8")
    (folder / "slide" / "Data.dat").write_bytes(b"x")
    return folder / "slide.mrxs"


@pytest.mark.parametrize(
    "names",
    [{"FILE_0": "../../secret"}, {"INDEXFILE": "../../secret"}, {"FILE_0": "/etc/hostname"}, {"FILE_0": "link.dat"},
     {"FILE_0": "Data.dat", "FILE_1": "x\x85/../../../secret"}, {"FILE_0": "link-ü.dat"}],
)  # fmt: skip
def test_slides_of_several_files_may_not_reach_out(tmp_path: Path, names: dict[str, str]) -> None:
    folder = tmp_path / "served"
    slide = mirax(folder, **names)
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("link.dat", "link-ü.dat"):
        (folder / "slide" / name).symlink_to(tmp_path / "secret")
    with (
        pytest.raises(UnreadableImageError, match="outside of the served folder"),
        SlidePool(Root(folder).serves).open(slide),
    ):
        pass


def test_a_slide_whose_files_lie_with_it_is_left_to_openslide(tmp_path: Path) -> None:
    slide = mirax(tmp_path, FILE_0="Data.dat", INDEXFILE="Data.dat")
    with (
        pytest.raises(UnreadableImageError, match=r"damaged|unsupported"),
        SlidePool(Root(tmp_path).serves).open(slide),
    ):
        pass  # its files may be read; they hold nothing


def test_hamamatsu_and_dicom_are_looked_at_too(tmp_path: Path) -> None:
    from restain.web.companions import check_companions

    folder = tmp_path / "served"
    folder.mkdir()
    serves = Root(folder).serves
    (tmp_path / "secret").touch()
    index = folder / "slide.vms"
    index.write_text("[Virtual Microscope Specimen]\nNoLayers=1\nImageFile=a.jpg\nImageFile(1,0)=b.jpg\n")
    check_companions(index, "hamamatsu", serves)
    index.write_text("[Virtual Microscope Specimen]\nImageFile=a.jpg\nImageFile(1,0)=../secret\n")
    with pytest.raises(UnreadableImageError, match="outside"):
        check_companions(index, "hamamatsu", serves)
    check_companions(folder / "a.dcm", "dicom", serves)
    (folder / "b.dcm").symlink_to(tmp_path / "secret")
    with pytest.raises(UnreadableImageError, match="outside"):
        check_companions(folder / "a.dcm", "dicom", serves)


def test_a_folder_inside_of_a_study_serves_nothing(tmp_path: Path) -> None:
    (tmp_path / "study" / "images").mkdir(parents=True)
    (tmp_path / "study" / "images" / "a.png").touch()
    root = Root(tmp_path / "study" / "images")
    assert root.resolve("a.png").name == "a.png"
    (tmp_path / "study" / "study.sqlite").touch()
    with pytest.raises(NotServedError):
        root.resolve("a.png")
