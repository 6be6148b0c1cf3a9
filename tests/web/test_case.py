"""A case: its layers, on whose pixels a virtual IHC lies, and the registration that locks two slides to each other."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from restain.core.files import read_json, write_csv, write_json
from restain.registration import Transform
from restain.slides import PyramidWriter, write_image
from restain.web.frames import frame_of
from restain.web.transform_json import NODES, transform_document
from tests.web.serving import client_of, context_of, get
from tests.web.workspace import OPTIONS, Workspace

Points = NDArray[np.float64]


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> TestClient:
    """A server of the workspace."""
    return client_of(workspace.folder)


def whole(space: Workspace, **changed: Any) -> dict[str, Any]:
    """The query for all slides of the first patient."""
    return {
        "he": space.name(space.he),
        "ihc": space.name(space.ihc),
        "virtual": [space.name(space.virtual), space.name(space.virtual_registered)],
        "registration": space.name(space.registration),
    } | changed


def through(document: dict[str, Any], places: Points) -> Points:
    """The contract's formula, T(p) = P(p + u(p)), with OpenCV's bilinear interpolation and clamping."""
    moved = places.copy()
    field = document["field"]
    if field is not None:
        data = np.frombuffer(base64.b64decode(field["data"]), "<f4").reshape(field["rows"], field["columns"], 2)
        where = ((places - field["origin"]) / field["spacing"]).astype(np.float32)
        where = np.clip(where, 0, [field["columns"] - 1, field["rows"] - 1]).astype(np.float32)
        # one row at a time keeps remap's fixed-point steps of 1/32 node out
        left = np.minimum(np.floor(where).astype(int), [field["columns"] - 2, field["rows"] - 2])
        t, s = (where - left).T[:, :, None]
        corners = [data[left[:, 1] + down, left[:, 0] + right] for down in (0, 1) for right in (0, 1)]
        moved += (corners[0] * (1 - t) + corners[1] * t) * (1 - s) + (corners[2] * (1 - t) + corners[3] * t) * s
    matrix = np.array(document["matrix"])
    return np.asarray(cv2.perspectiveTransform(moved[None], matrix)[0], np.float64)


def test_all_layers_and_whose_pixels_they_lie_on(workspace: Workspace, client: TestClient) -> None:
    found = get(client, "/api/case", **whole(workspace))
    assert found["patient"] == "p0000"
    assert [(one["role"], one["frame"], one["error"]) for one in found["layers"]] == [
        ("he", "he", None), ("ihc", "ihc", None), ("virtual", "he", None), ("virtual", "ihc", None),
    ]  # fmt: skip
    for one in found["layers"]:
        assert one["slide"] == get(client, "/api/slide", path=one["path"])
    assert found["layers"][2]["label"] == "virtual IHC, pyramid_pix2pix (virtual)"
    assert found["registration"]["path"] == workspace.name(workspace.registration)
    assert found["registration"]["quality"] == found["quality"]
    assert (found["quality"]["stage"], found["quality"]["confidence"]) == ("elastic", 0.55)
    assert found["quality"]["mutual_information_after"] > found["quality"]["mutual_information_before"]


def test_the_frame_is_told_without_registration_and_with_one_slide(workspace: Workspace, client: TestClient) -> None:
    def frames(**query: Any) -> list[str | None]:
        found = get(client, "/api/case", **{key: value for key, value in query.items() if value})
        return [one["frame"] for one in found["layers"] if one["role"] == "virtual"]

    # the IHC itself stands in for the registered H&E, which only the registration names
    assert frames(**whole(workspace, registration=None)) == ["he", "ihc"]
    assert frames(**whole(workspace, he=None, registration=None)) == ["ihc", "ihc"]  # by size alone: nothing else fits
    assert frames(virtual=[workspace.name(workspace.virtual)]) == [None]
    small = whole(workspace, he=workspace.name(workspace.hostile), ihc=None, registration=None)
    assert frames(**small) == [None, None]  # of another size


def test_the_frame_of_slides_that_differ_in_fine_detail_only(tmp_path: Path) -> None:
    """Moved by 4 of 2,048 px. From afar, another shading of the registered H&E weighs more than that."""
    side, rng = 2048, np.random.default_rng(0)

    def noise(patch: int, deviation: float) -> NDArray[np.float64]:
        coarse = rng.normal(size=(side // patch, side // patch))
        return np.asarray(deviation * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float64)

    tissue, shading, detail = noise(128, 22), noise(128, 14), noise(1, 20)
    moved = np.roll(detail, 4, 1)
    pictures = {"he": tissue + detail, "registered": tissue + shading + moved, "like_he": tissue + detail,
                "like_ihc": tissue + moved}  # fmt: skip
    paths = {name: tmp_path / f"{name}.ome.tif" for name in pictures}
    for name, picture in pictures.items():
        grey = np.clip(128 + picture, 0, 255).astype(np.uint8)
        with PyramidWriter(paths[name], (side, side), 0.5) as writer:
            writer.write(0, 0, np.repeat(grey[..., None], 3, 2))
    context = context_of(client_of(tmp_path))
    for virtual, frame in (("like_he", "he"), ("like_ihc", "ihc")):
        found = frame_of(context, paths[virtual], paths["he"], paths["registered"], paths["registered"])
        assert found == frame


def test_the_registration_is_the_truth_in_the_contracts_formula(workspace: Workspace, client: TestClient) -> None:
    document = get(client, "/api/case", **whole(workspace))["registration"]
    transform = Transform.load(workspace.registration)
    places = np.random.default_rng(0).uniform(-200, OPTIONS.size + 200, (2000, 2))  # beyond the grid, too
    assert np.abs(through(document, places) - transform.ihc_to_he(places)).max() < 1e-2
    inside = places[(np.abs(places - OPTIONS.size / 2) < OPTIONS.size / 2).all(1)]
    truth = workspace.truth().ihc_to_he(inside)
    assert np.linalg.norm(through(document, inside) - truth, axis=1).max() < 0.5
    # a lock that forgot the rotation, the mirroring or the field would be far off
    flat = through({**document, "field": None}, inside)
    assert np.linalg.norm(flat - truth, axis=1).max() > 3
    assert np.linalg.det(np.array(document["matrix"])[:2, :2]) * document["matrix"][2][2] < 0


def test_a_fine_field_is_sampled_anew_and_stays_close() -> None:
    """16,000 x 12,000 px with a node every 40 px, bent by up to 60 px over 900 px, as a B-spline of 225 um could."""
    columns, rows, spacing = 401, 301, 40.0
    x, y = np.meshgrid(np.arange(columns) * spacing - 100, np.arange(rows) * spacing - 50)
    field = 60 * np.stack([np.sin(x / 900) * np.cos(y / 1100), np.cos(x / 1000 + y / 900)], axis=2)
    matrix = np.array([[0.98, 0.2, 50.0], [-0.2, 0.97, 800.0], [1e-7, -2e-7, 1.0]])
    size = (16_000, 12_000)
    transform = Transform(matrix, field.astype(np.float32), (-100.0, -50.0), spacing, size, size, 0.25, 0.25)
    document = transform_document(transform)
    assert (document["field"]["columns"], document["field"]["rows"]) == (NODES, NODES)
    places = np.random.default_rng(1).uniform(-300, 16_300, (20_000, 2))
    error = np.linalg.norm(through(document, places) - transform.ihc_to_he(places), axis=1)
    assert error.max() < 0.4  # px: a tenth of a um
    assert len(document["field"]["data"]) < 300_000


def test_a_registration_of_other_slides_is_refused(workspace: Workspace, client: TestClient) -> None:
    def problem(**changed: Any) -> str:
        found = get(client, "/api/case", **whole(workspace, virtual=[], **changed))
        assert found["registration"] is None
        assert found["quality"] is None
        text: str = found["registration_problem"]
        return text

    assert "another p0000_he" in problem(he=workspace.name(workspace.other_he))
    assert "1024 x 1024 px" in problem(he=workspace.name(workspace.hostile))
    assert "another p0000_he" in problem(he=workspace.name(workspace.ihc), ihc=workspace.name(workspace.he))
    assert "no such file" in problem(registration="pairs/registered/p0001/transform.json")
    assert "not a transform" in problem(registration="pairs/registered/p0000/quality.json")
    assert "no such file" in problem(registration="../../etc/passwd")


def test_a_changed_or_renamed_slide_and_a_lost_quality(workspace: Workspace, tmp_path: Path) -> None:
    served = tmp_path / "served"
    folder = workspace.registration.parent
    shutil.copytree(folder, served / "reg")
    he = Path(shutil.copy2(workspace.he, served / "renamed.ome.tif"))
    client = client_of(served)

    def ask(name: str) -> dict[str, Any]:
        return get(client, "/api/case", he=name, registration="reg/transform.json")

    assert ask("renamed.ome.tif")["registration_problem"] is None
    with he.open("ab") as stream:
        stream.write(b"\0")
    assert "has changed" in ask("renamed.ome.tif")["registration_problem"]
    (served / "reg" / "quality.json").unlink()
    assert "another" in ask("renamed.ome.tif")["registration_problem"]
    shutil.copy2(workspace.he, served / workspace.he.name)
    found = ask(workspace.he.name)
    assert found["registration_problem"] is None
    assert found["quality"] is None
    write_json(served / "reg" / "quality.json", {"stages": [1], "stage": {"a": 1}, "confidence": "high"})
    assert ask(workspace.he.name)["quality"]["confidence"] is None
    (served / "reg" / "field.npz").write_bytes(b"damaged")
    transform = read_json(served / "reg" / "transform.json")
    write_json(served / "reg" / "transform.json", transform | {"version": 1})
    found = ask(workspace.he.name)
    assert found["registration"] is None
    assert "field.npz" in found["registration_problem"]
    assert str(tmp_path) not in found["registration_problem"]


def test_a_slide_that_cannot_be_shown_does_not_hide_the_others(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copy2(workspace.ihc, tmp_path / "ihc.ome.tif")
    (tmp_path / "he.ome.tif").write_bytes(b"II*\0damaged")
    found = get(client_of(tmp_path), "/api/case", he="he.ome.tif", ihc="ihc.ome.tif", virtual=["gone.tif", "../x.tif"])
    assert [one["slide"] is None for one in found["layers"]] == [True, False, True, True]
    assert [one["error"] is None for one in found["layers"]] == [False, True, False, False]
    assert not any(str(tmp_path) in (one["error"] or "") for one in found["layers"])
    assert found["layers"][2]["path"] == "gone.tif"


def test_a_cohort_can_give_the_resolution(tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", np.full((40, 60, 3), 200, np.uint8))
    client = client_of(tmp_path)
    assert get(client, "/api/case", he="he.png")["layers"][0]["slide"]["mpp"] is None
    write_csv(tmp_path / "cohort.csv", ("patient", "he", "mpp"), [{"patient": "<b>", "he": "he.png", "mpp": 0.25}])
    get(client, "/api/library", refresh=1)
    found = get(client, "/api/case", he="he.png")
    assert (found["patient"], found["layers"][0]["slide"]["mpp"]) == ("<b>", 0.25)


def test_wrong_requests_say_so(workspace: Workspace, client: TestClient) -> None:
    assert client.get("/api/case").status_code == 400
    assert client.get("/api/case", params={"virtual": ["a"] * 9}).status_code == 400
    assert client.get("/api/case", params={"he": "a" * 5000}).status_code == 400
