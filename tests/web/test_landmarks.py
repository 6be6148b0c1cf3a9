"""Landmarks: their fit against independent fits and the synthetic truth, their file, their preview."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares
from skimage.transform import SimilarityTransform
from starlette.testclient import TestClient

from restain.cli import register as register_command
from restain.core.files import read_csv, write_csv
from restain.registration import Transform, WarpedSlide, fit_projective, read_landmarks
from restain.registration.transform import project
from restain.slides import open_slide, write_image
from restain.web.landmarks import PREVIEWS, preview_transform
from tests.web.serving import client_of, context_of, get
from tests.web.workspace import OPTIONS, Workspace

Points = NDArray[np.float64]


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> TestClient:
    """A server of the workspace, which is not written to."""
    return client_of(workspace.folder)


@pytest.fixture
def own(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace to write to: slides and cohort only."""
    shutil.copytree(workspace.slides, tmp_path / "slides")
    shutil.copy2(workspace.cohort, tmp_path / "cohort.csv")
    return workspace.moved(tmp_path)


def spread(space: Workspace, count: int, patient: int = 1, noise: float = 0.0) -> Points:
    """True pairs of a patient, ``x_he, y_he, x_ihc, y_ihc``, spread over the IHC; off by ``noise`` px."""
    rng = np.random.default_rng(3)
    side = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(*[np.linspace(0.3, 0.7, side)] * 2), axis=-1).reshape(-1, 2)[:count] * OPTIONS.size
    ihc = grid + rng.uniform(-20, 20, grid.shape)
    he = space.truth(patient).ihc_to_he(ihc) + rng.normal(0, noise, ihc.shape) * (noise > 0)
    return np.concatenate([he, ihc], axis=1)


def body(space: Workspace, points: Any, **more: Any) -> dict[str, Any]:
    """A request about the second patient's slides."""
    rows = np.asarray(points, np.float64).tolist()
    return {"he": space.name(space.other_he), "ihc": space.name(space.other_ihc), "points": rows, **more}


def post(client: TestClient, what: str, document: dict[str, Any], status: int = 200) -> dict[str, Any]:
    """The answer of a request with that status."""
    answer = client.post(f"/api/landmarks/{what}", json=document)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_too_few_points_say_how_many_are_missing(workspace: Workspace, client: TestClient) -> None:
    for count in range(4):
        found = post(client, "fit", body(workspace, spread(workspace, count).reshape(-1, 4)))
        assert found["error"] == f"{4 - count} more pair{'s' * (count < 3)} of points needed."
        assert found["residuals_um"] == [None] * count
        assert found["rms_um"] is None


def test_four_points_fit_exactly_and_the_similarity_tells(workspace: Workspace, client: TestClient) -> None:
    points = spread(workspace, 4)
    found = post(client, "fit", body(workspace, points))
    assert found["error"] is None
    np.testing.assert_allclose(found["residuals_um"], 0, atol=1e-6)
    straight = max(found["similarity_residuals_um"])
    points[2, 0] += 60  # 30 um beside
    found = post(client, "fit", body(workspace, points))
    np.testing.assert_allclose(found["residuals_um"], 0, atol=1e-6)
    assert max(found["similarity_residuals_um"]) > 3 * straight


@pytest.mark.parametrize("patient", [0, 1])
def test_the_fit_is_that_of_other_libraries_and_near_the_truth(
    workspace: Workspace, client: TestClient, patient: int
) -> None:
    points = spread(workspace, 9, patient, noise=2)
    he, ihc = (workspace.he, workspace.ihc) if patient == 0 else (workspace.other_he, workspace.other_ihc)
    request = {"he": workspace.name(he), "ihc": workspace.name(ihc), "points": points.tolist()}
    found = post(client, "fit", request)
    target, source = points[:, :2] * 0.5, points[:, 2:] * 0.5

    # the homography of least squares, by another optimiser on plain um
    def off(h: Points) -> Points:
        return (project(source, np.append(h, 1).reshape(3, 3)) - target).ravel()

    start = np.append(np.linalg.lstsq(np.c_[source, np.ones(9)], target, rcond=None)[0].T.ravel(), [0, 0])
    best = least_squares(off, start, x_scale="jac").fun.reshape(-1, 2)
    assert found["used"] == [True] * 9
    np.testing.assert_allclose(found["residuals_um"], np.linalg.norm(best, axis=1), atol=1e-3)
    assert found["rms_um"] == pytest.approx(np.sqrt((best**2).sum(1).mean()), abs=1e-3)

    # scikit-image knows no mirroring, so it is given the mirrored IHC
    mirrored = patient == 0
    alike = SimilarityTransform.from_estimate(source * ([-1, 1] if mirrored else [1, 1]), target)
    residuals = alike.residuals(source * ([-1, 1] if mirrored else [1, 1]), target)
    np.testing.assert_allclose(found["similarity_residuals_um"], residuals, rtol=1e-6)
    assert found["scale"] == pytest.approx(alike.scale, rel=1e-6)
    assert found["mirrored"] == mirrored

    truth = workspace.truth(patient).ihc_to_he(np.array([[412.0, 512.0], [612.0, 512.0]]))
    way = truth[1] - truth[0]
    angle = np.degrees(np.arctan2(way[1], way[0]))
    assert abs((found["rotation_degrees"] - angle + 180) % 360 - 180) < 3
    assert found["absurd"] is None


def test_a_wrong_pair_is_named_and_an_absurd_fit_is_said(workspace: Workspace, client: TestClient) -> None:
    points = spread(workspace, 9, noise=1)
    points[4, :2] += [150, -90]
    found = post(client, "fit", body(workspace, points))
    assert [number for number, used in enumerate(found["used"]) if not used] == [4]
    assert found["residuals_um"][4] > 50
    assert found["rms_um"] < 5  # of those that are used
    points = spread(workspace, 4)
    points[:, :2] = points[:, :2].mean(0) + 2 * (points[:, :2] - points[:, :2].mean(0))
    assert "scale" in post(client, "fit", body(workspace, np.clip(points, 0, 1024)))["absurd"]


def test_points_that_make_no_map_are_an_answer_and_no_failure(workspace: Workspace, client: TestClient) -> None:
    line = np.repeat(np.arange(100.0, 600, 100)[:, None], 4, 1)
    same = np.full((6, 4), 300.0)
    crossed = spread(workspace, 4)
    crossed[[0, 1], :2] = crossed[[1, 0], :2]
    rng = np.random.default_rng(0)
    strange = [line, same, crossed, np.full((4, 4), 1e9), np.zeros((8, 4)), -spread(workspace, 5)]
    strange += [rng.choice([0.0, 1, 512, 1024], (count, 4)) for count in (4, 5, 6, 9, 12) for _ in range(6)]
    messages = [post(client, "fit", body(workspace, points))["error"] for points in strange]
    assert all(messages[:6])
    assert "line" in messages[0]
    assert "coincide" in messages[1]
    assert "cross" in messages[2]
    assert "outside" in messages[3]
    for points in strange[:6]:
        post(client, "preview", body(workspace, points), status=400)


def test_wrong_requests_are_refused(workspace: Workspace, client: TestClient) -> None:
    points = spread(workspace, 4)
    for wrong in ([[1, 2, 3]], [[1, 2, 3, "x"]], [[1, 2, 3, 1e10]], [[0, 0, 0, 0]] * 501, "abc"):
        post(client, "fit", body(workspace, points) | {"points": wrong}, status=400)
    for content in ('{"he": "a", "ihc": "b", "points": [[NaN, 1, 1, Infinity]]}', "{", "[]", '{"he": "\\ud800"}'):
        answer = client.post("/api/landmarks/fit", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, content
    other = body(workspace, points)
    post(client, "fit", other | {"ihc": other["he"]}, status=400)
    post(client, "fit", other | {"ihc": "../" + other["he"]}, status=404)
    half = json.dumps(other | {"ihc": "\ud800"})  # half a character, which JSON can carry and no file name has
    answer = client.post("/api/landmarks/fit", content=half, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404)
    post(client, "fit", other | {"ihc": "cohort.csv"}, status=422)


def test_what_is_saved_is_what_register_takes(own: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    client, points = client_of(own.folder), spread(own, 7, noise=1)
    get(client, "/api/library")
    found = post(client, "save", body(own, points, name="Müller 1"))
    file = own.folder / "landmarks" / "Müller 1.csv"
    assert found["path"] == own.name(file)
    he, ihc = read_landmarks(file, (1024, 1024), (1024, 1024))
    np.testing.assert_allclose(np.c_[he, ihc], points, atol=6e-4)
    matrix, used = fit_projective(ihc, he)
    assert used.all()
    seen = post(client, "fit", body(own, points))
    np.testing.assert_allclose(project(ihc, np.array(seen["matrix"])), project(ihc, matrix), atol=0.01)
    read = get(client, "/api/landmarks", path=found["path"])["points"]
    assert read == [dict(zip(("x_he", "y_he", "x_ihc", "y_ihc"), row, strict=True)) for row in np.c_[he, ihc].tolist()]
    assert {"path": found["path"]} in get(client, "/api/library")["landmarks"]

    # the command line, as a shell would split it, through restain's own parser
    given: list[Any] = []

    def registered(*words: Any) -> SimpleNamespace:
        given.extend(words)
        return SimpleNamespace(quality={}, exit_code=0)

    monkeypatch.setattr(register_command, "register_pair", registered)
    words = shlex.split(found["command"])
    assert words[:2] == ["restain", "register"]
    assert register_command.run([*words[2:], "--json"]) == 0
    assert given[:6] == [own.other_he, own.other_ihc, own.folder / "registered" / "Müller 1", None, None, file]


def test_the_command_gives_the_cohorts_resolution_and_a_free_folder(tmp_path: Path) -> None:
    served = tmp_path / "it's; $HOME"
    for name in ("he", "ihc"):
        served.mkdir(exist_ok=True)
        write_image(served / f"-{name} `x`.png", np.full((300, 400, 3), 200, np.uint8))
    points = [[10, 10, 10, 10], [300, 10, 300, 10], [10, 200, 10, 200], [300, 250, 300, 250]]
    request = {"he": "-he `x`.png", "ihc": "-ihc `x`.png", "points": points, "name": "a.csv"}
    client = client_of(served)
    assert "not known" in post(client, "fit", request)["error"]
    post(client, "preview", request, status=400)
    words = shlex.split(post(client, "save", request)["command"])
    assert words[-4:] == ["--he-mpp", "UM_PER_PX", "--ihc-mpp", "UM_PER_PX"]
    row = {"patient": "a", "he": request["he"], "ihc": request["ihc"], "he_mpp": "0.25", "ihc_mpp": "0.2527123"}
    write_csv(served / "cohort.csv", tuple(row), [row])
    get(client, "/api/library", refresh=1)
    (served / "registered" / "a").mkdir(parents=True)
    words = shlex.split(post(client, "save", request | {"replace": True})["command"])
    assert words == [
        "restain", "register", str(served / "-he `x`.png"), str(served / "-ihc `x`.png"),
        "--out", str(served / "registered" / "a-2"), "--landmarks", str(served / "landmarks" / "a.csv"),
        "--he-mpp", "0.25", "--ihc-mpp", "0.2527123",
    ]  # fmt: skip
    assert post(client, "fit", request)["scale"] == pytest.approx(0.25 / 0.2527123)


def test_earlier_files_are_kept_unless_replaced(own: Workspace) -> None:
    client, points = client_of(own.folder), spread(own, 5)
    post(client, "save", body(own, points, name="a"))
    file = own.folder / "landmarks" / "a.csv"
    before = file.read_bytes()
    assert "already" in post(client, "save", body(own, points[:4], name="a"), status=409)["error"]
    assert file.read_bytes() == before
    post(client, "save", body(own, points[:4], name="a.csv", replace=True))
    assert len(read_csv(file)) == 4
    (file.parent / "cohort.csv").write_text("patient,he\na,b\n")
    post(client, "save", body(own, points, name="cohort", replace=True), status=409)
    assert (file.parent / "cohort.csv").read_text() == "patient,he\na,b\n"
    (file.parent / "folder.csv").mkdir()
    post(client, "save", body(own, points, name="folder", replace=True), status=409)
    post(client, "save", body(own, [[-1, 2, 3, 4]], name="b"), status=400)
    post(client, "save", body(own, [[1, 2, 3, 1025]], name="b"), status=400)
    post(client, "save", body(own, [], name="b"), status=400)
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.csv", "cohort.csv", "folder.csv"]


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", ".hidden", "../up", "a/b", "a\\b", "/etc/passwd", "a\0b", "a\nb", "<b>", "a" * 81, "ü" * 100,
     "a;rm -rf", "-rf", "%2e%2e", "a\u202eb", ".csv"],
)  # fmt: skip
def test_names_that_are_none_write_nothing(own: Workspace, name: str) -> None:
    client = client_of(own.folder)
    before = set(own.folder.parent.rglob("*"))
    post(client, "save", body(own, spread(own, 4), name=name), status=400)
    assert set(own.folder.parent.rglob("*")) == before


def test_links_do_not_lead_out_of_the_folder(own: Workspace, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    client, points = client_of(own.folder), spread(own, 4)
    (own.folder / "landmarks").symlink_to(outside)
    post(client, "save", body(own, points, name="a"), status=403)
    assert list(outside.iterdir()) == []
    (own.folder / "landmarks").unlink()
    (own.folder / "landmarks").mkdir()
    secret = outside / "secret.csv"
    secret.write_text("x_he,y_he,x_ihc,y_ihc\n")
    (own.folder / "landmarks" / "a.csv").symlink_to(secret)
    post(client, "save", body(own, points, name="a", replace=True), status=409)
    assert client.get("/api/landmarks", params={"path": "landmarks/a.csv"}).status_code == 404
    assert secret.read_text() == "x_he,y_he,x_ihc,y_ihc\n"
    (own.folder / "landmarks" / "study.sqlite").touch()
    post(client, "save", body(own, points, name="b"), status=403)


def test_a_full_disk_is_told_and_loses_nothing(own: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    client, points = client_of(own.folder), spread(own, 4)
    post(client, "save", body(own, points, name="a"))
    before = (own.folder / "landmarks" / "a.csv").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        found = post(client, "save", body(own, points + 1, name="a", replace=True), status=507)
    assert "still on this page" in found["error"]
    assert [path.read_bytes() for path in (own.folder / "landmarks").iterdir()] == [before]
    post(client, "save", body(own, points + 1, name="a", replace=True))


def test_the_preview_shows_the_he_through_the_fit(workspace: Workspace, client: TestClient) -> None:
    points = spread(workspace, 6)
    found = post(client, "preview", body(workspace, points))
    assert post(client, "preview", body(workspace, points))["via"] == found["via"]
    matrix, _ = fit_projective(points[:, 2:], points[:, :2])
    document = found["registration"]
    transform = preview_transform(context_of(client), found["via"].removeprefix("preview:"))
    np.testing.assert_allclose(project(points[:, 2:], transform.matrix), project(points[:, 2:], matrix), atol=1e-6)
    assert (document["path"], document["field"], document["matrix"]) == (found["via"], None, transform.matrix.tolist())
    place = {"path": workspace.name(workspace.other_he), "via": found["via"]}
    answer = client.get("/api/tile/0/2/1", params=place)
    size = (OPTIONS.size, OPTIONS.size)
    with open_slide(workspace.other_he) as he:
        plain = Transform(matrix, None, (0.0, 0.0), 1.0, size, size, 0.5, 0.5)
        wanted, _ = WarpedSlide(he, plain).read(512, 256, 256, 256)
    shown = imagecodecs.jpeg8_decode(answer.content).astype(float)
    assert np.abs(shown - wanted).mean() < 4
    # and the H&E there is the tissue of the IHC: the truth maps the tile's middle to the same place
    middle = np.array([[640.0, 384.0]])
    assert np.linalg.norm(transform.ihc_to_he(middle) - workspace.truth(1).ihc_to_he(middle)) < 8


def test_the_oldest_preview_goes(workspace: Workspace) -> None:
    client, points = client_of(workspace.folder), spread(workspace, 4)
    vias = [post(client, "preview", body(workspace, points + number))["via"] for number in range(PREVIEWS + 1)]
    assert len(set(vias)) == PREVIEWS + 1
    status = [client.get("/api/slide", params={"path": workspace.name(workspace.other_he), "via": via}).status_code
              for via in (vias[0], vias[1], vias[-1])]  # fmt: skip
    assert status == [410, 200, 200]


def test_files_that_are_no_landmarks(workspace: Workspace, client: TestClient, tmp_path: Path) -> None:
    path = workspace.name(workspace.landmarks)
    he, ihc = read_landmarks(workspace.landmarks)
    read = get(client, "/api/landmarks", path=path)["points"]
    assert [list(one.values()) for one in read] == np.c_[he, ihc].tolist()
    columns = "x_he,y_he,x_ihc,y_ihc\n"
    for number, text in enumerate(("", "a,b\n1,2\n", columns + "1,2,3,nan\n", columns + "1,2,3\n", columns + "\xff")):
        (tmp_path / f"{number}.csv").write_text(text, encoding="latin-1")
    (tmp_path / "large.csv").write_text(columns + "1,2,3,4\n" * 50_000)
    other = client_of(tmp_path)
    names = [f"{number}.csv" for number in range(5)]
    status = [other.get("/api/landmarks", params={"path": name}).status_code for name in names]
    assert all(400 <= one < 500 for one in status)
    assert other.get("/api/landmarks", params={"path": "large.csv"}).status_code == 422
