"""Each overlay against what is known: the synthetic truth, the files read by others, the registration."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from restain.core.files import write_json
from restain.her2.files import COLOURS, NAMES
from restain.registration import Transform
from restain.slides import PyramidWriter, open_slide, tissue_mask, write_image
from restain.web.overlays import OVERLAYS
from restain.web.overlays.base import Frame, Source, Tile
from restain.web.overlays.detect import nuclei_in
from restain.web.overlays.grid import spacing_um
from restain.web.overlays.kept import Kept
from tests.web.overlay_scenes import at, drawn, scene_of
from tests.web.workspace import OPTIONS, Workspace

SIZE = OPTIONS.size
Points = NDArray[np.float64]


def view(workspace: Workspace, name: str) -> tuple[Path, Path, Frame, bool]:
    """Slide, registration, its part and whether it is shown via it: of ``ihc``, ``he``, and ``via``."""
    slide = workspace.ihc if name == "ihc" else workspace.he
    return slide, workspace.registration, Frame.ihc if name == "ihc" else Frame.he, name == "via"


def to_view(workspace: Workspace, name: str, points: Points, frame: str) -> Points:
    """Points of the ``ihc`` or the ``he`` on the px of a view, by the synthetic truth and not by the registration."""
    shown = "ihc" if name == "via" else name
    if shown == frame:
        return points
    truth = workspace.truth()
    return truth.ihc_to_he(points) if frame == "ihc" else truth.he_to_ihc(points)


def inner(points: Points, margin: float) -> NDArray[np.bool_]:
    return np.asarray(((points > margin) & (points < SIZE - margin)).all(axis=1))


VIEWS = pytest.mark.parametrize("name", ["ihc", "he", "via"])


@VIEWS
@pytest.mark.parametrize("z", [0, 2])
def test_tissue_is_what_other_commands_find(workspace: Workspace, name: str, z: int) -> None:
    path, registration, part, via = view(workspace, name)
    with scene_of(path, registration, part, via) as scene:
        picture = drawn("tissue", scene, z)
    with open_slide(path) as slide:
        mask = tissue_mask(slide)
    middle = (np.arange(0, SIZE, 8) + 0.5) * 1.0
    points = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
    place = workspace.truth().ihc_to_he(points) if via else points
    on = inner(place, 0)
    # the share of tissue within 12 px: where it is 0 or 1 nothing of the edge is near
    share = mask.fraction(*(place - 12).T, 24.0, 24.0)
    found = at(picture, points, z)[0]
    tissue, glass = on & (share == 1), (on & (share == 0)) | (~on & ~inner(place, -20))
    assert tissue.sum() > 500
    assert glass.sum() > 500
    assert (found[tissue, 3] == 0).mean() > 0.99
    assert (found[glass, 3] > 40).mean() > 0.99
    edge = found[(share > 0.45) & (share < 0.55) & on]
    assert (edge[:, 3] > 60).mean() > 0.25  # the line: 2 px of some 10


def test_dab_has_the_colours_of_its_legend(tmp_path: Path) -> None:
    """Pure DAB of known density on grey glass, and haematoxylin, which is none."""
    vectors = {"dab": np.array([0.27, 0.57, 0.78]), "haematoxylin": np.array([0.65, 0.70, 0.29])}
    white = np.array([228, 226, 221])
    rgb = np.broadcast_to(white, (512, 512, 3)).copy()
    density = [0.3, 0.6, 0.9, 1.2]
    for number, amount in enumerate(density):
        for row, vector in enumerate(vectors.values()):
            colour = white * 10 ** -(amount * vector / np.linalg.norm(vector))
            rgb[60 + 120 * row : 140 + 120 * row, 20 + 110 * number : 110 + 110 * number] = np.rint(colour)
    write_image(tmp_path / "a.png", rgb.astype(np.uint8))
    with scene_of(tmp_path / "a.png") as scene:
        picture = drawn("dab", scene)
        offer = OVERLAYS["dab"].offer(scene)
    assert offer is not None
    assert [entry.label.split()[0] for entry in offer.legend] == [f"{amount:g}" for amount in density]
    for number, entry in enumerate(offer.legend):
        shown = picture[100, 65 + 110 * number]
        wanted = [int(entry.color[place : place + 2], 16) for place in (1, 3, 5)]
        assert np.abs(shown[:3].astype(int) - wanted).max() <= 8
        assert shown[3] > (90 if number == 0 else 200)
    assert picture[220, 65::110][:4, 3].max() == 0
    assert picture[450:, :, 3].max() == 0


@VIEWS
def test_membranes_have_the_colours_of_their_classes(workspace: Workspace, name: str) -> None:
    """Every cell's outline, moved by the true map, is seen in its class's colour."""
    path, registration, part, via = view(workspace, name)
    file = workspace.scores / "cells.geojson"
    with scene_of(path, registration, part, via, Source(file, Frame.ihc, "c")) as scene:
        picture = drawn("membranes", scene)
    features = json.loads(file.read_text())["features"]
    assert len(features) > 100
    hits = []
    for feature in features:
        ring = np.array(feature["geometry"]["coordinates"][0])
        ring = ring[:-1] + (ring[1:] - ring[:-1]) / 2  # the middles of its edges
        found, on = at(picture, to_view(workspace, name, ring, "ihc"))
        colours = np.abs(found[:, None, :3].astype(int) - np.array(COLOURS)).max(axis=2)
        number = NAMES.index(feature["properties"]["classification"]["name"])
        own = (colours.argmin(axis=1) == number) & (found[:, 3] > 100)
        hits += [own[on].mean()] if on.any() else []
    assert np.mean(hits) > 0.8  # the rest lies below neighbours of higher classes
    assert np.mean(np.array(hits) > 0.3) > 0.97


def test_a_registration_moves_shapes(workspace: Workspace) -> None:
    """Were it ignored, nothing of the above would hold: on the H&E, outlines are not where the file has them."""
    path, registration, part, via = view(workspace, "he")
    file = workspace.scores / "cells.geojson"
    with scene_of(path, registration, part, via, Source(file, Frame.ihc, "c")) as scene:
        picture = drawn("membranes", scene)
    features = json.loads(file.read_text())["features"]
    ends = np.array([feature["geometry"]["coordinates"][0][0] for feature in features])
    assert (at(picture, ends)[0][:, 3] > 100).mean() < 0.3


@VIEWS
def test_nuclei_of_a_scored_slide(workspace: Workspace, name: str) -> None:
    path, registration, part, via = view(workspace, name)
    file = workspace.scores / "cells.geojson"
    with scene_of(path, registration, part, via, Source(file, Frame.ihc, "c")) as scene:
        picture = drawn("nuclei", scene)
    rings = [np.array(one["nucleusGeometry"]["coordinates"][0]) for one in json.loads(file.read_text())["features"]]
    edges = np.concatenate([(ring[1:] + ring[:-1]) / 2 for ring in rings])
    found, on = at(picture, to_view(workspace, name, edges, "ihc"))
    assert (found[on, 3] > 60).mean() > 0.9
    assert (picture[..., 3] > 0).mean() < 0.25


def truth_of(workspace: Workspace, stain: str) -> Points:
    with (workspace.folder / "truth" / "p0000" / "cells.csv").open() as stream:
        rows = [(row[f"x_{stain}"], row[f"y_{stain}"]) for row in csv.DictReader(stream)]
    return np.array([(float(x), float(y)) for x, y in rows if x])


@VIEWS
def test_nuclei_that_are_found(workspace: Workspace, name: str) -> None:
    """Without a file: most true nuclei have a circle around them, in every view where the slide's pixels are."""
    path, registration, part, via = view(workspace, name)
    cells = to_view(
        workspace, name, truth_of(workspace, "ihc" if name == "ihc" else "he"), "ihc" if name == "ihc" else "he"
    )
    cells = cells[inner(cells, 20)]
    with scene_of(path, registration, part, via) as scene:
        centres = nuclei_in(scene, (0, 0, SIZE, SIZE))
        picture = drawn("nuclei", scene)
    apart = np.linalg.norm(cells[:, None] - centres[None], axis=2)
    assert (apart.min(axis=1) < 8).mean() > 0.75  # 4 um
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = (centres[:, None] + 7 * np.stack([np.cos(angle), np.sin(angle)], 1)).reshape(-1, 2)
    found, on = at(picture, circle)
    assert (found[on, 3] > 60).mean() > 0.95


def test_nuclei_are_the_same_whichever_tile_asks_first(workspace: Workspace) -> None:
    """Blocks do not depend on the order, and tiles of two zooms agree."""
    with scene_of(workspace.he, kept=Kept()) as scene:
        first = drawn("nuclei", scene)[:512, :768]
        near = nuclei_in(scene, (300, 300, 700, 700))
    with scene_of(workspace.he, kept=Kept()) as scene:
        assert np.array_equal(np.sort(nuclei_in(scene, (300, 300, 700, 700)), axis=0), np.sort(near, axis=0))
        tile = OVERLAYS["nuclei"].render(scene, Tile(0, 2, 1))
        assert tile is not None
        assert np.array_equal(tile, first[256:512, 512:768])
        assert OVERLAYS["nuclei"].render(scene, Tile(2, 0, 0)) is None  # too far to look for them


@pytest.mark.parametrize("kind", ["tissue", "dab", "nuclei", "density", "grid"])
@pytest.mark.parametrize("name", ["he", "via"])
def test_tiles_fit(workspace: Workspace, kind: str, name: str) -> None:
    """Four tiles side by side equal the picture of their whole."""
    path, registration, part, via = view(workspace, name)
    with scene_of(path, registration, part, via) as scene:
        whole = OVERLAYS[kind].render(scene, Tile(0, 0, 0, 512, 512))
        tiled = drawn(kind, scene)[:512, :512]
    assert whole is not None
    covered = np.maximum(whole[..., 3], tiled[..., 3]) > 8
    difference = np.abs(whole.astype(int) - tiled.astype(int)).max(axis=2)[covered]
    assert (difference > 10).mean() < 0.002


def lattice(path: Path, per_mm2: float, low: float, high: float, mpp: float) -> Path:
    step = 1000 / per_mm2**0.5 / mpp
    middle = np.arange(low + step / 2, high, step)
    rows = [f"{x},{y}" for y in middle for x in middle]
    path.write_text("x,y\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("z", [0, 2])
def test_density_of_a_lattice(tmp_path: Path, z: int) -> None:
    """Cells at known distances have the colour of their density; none far away."""
    with PyramidWriter(tmp_path / "a.ome.tif", (1280, 1280), 0.5) as writer:
        writer.write(0, 0, np.full((1280, 1280, 3), 230, np.uint8))
    for number, per_mm2 in enumerate((2000, 4000, 8000)):
        cells = lattice(tmp_path / f"{number}.csv", per_mm2, 0, 700, 0.5)
        with scene_of(tmp_path / "a.ome.tif", source=Source(cells, Frame.own, "c")) as scene:
            picture = drawn("density", scene, z)
            offer = OVERLAYS["density"].offer(scene)
        assert offer is not None
        (entry,) = [one for one in offer.legend if one.label.startswith(f"{per_mm2:,}")]
        wanted = [int(entry.color[place : place + 2], 16) for place in (1, 3, 5)]
        part = picture[(240 >> z) : (460 >> z), (240 >> z) : (460 >> z)]
        assert np.abs(np.median(part[..., :3], axis=(0, 1)) - wanted).max() <= 6
        assert np.median(part[..., 3]) > 100
        assert picture[(940 >> z) :, :, 3].max() == 0


def test_density_without_a_file_agrees_with_the_truth(workspace: Workspace) -> None:
    with scene_of(workspace.ihc) as scene:
        picture = drawn("density", scene)
    cells = truth_of(workspace, "ihc")
    cells = cells[inner(cells, 0)]
    count, _, _ = np.histogram2d(cells[:, 1], cells[:, 0], bins=8, range=[[0, SIZE], [0, SIZE]])
    alpha = cv2.resize(picture[..., 3], (8, 8), interpolation=cv2.INTER_AREA)
    assert alpha[count == 0].mean() < alpha[count > 15].mean() / 2


@VIEWS
def test_attention_has_the_colours_of_the_file(workspace: Workspace, name: str) -> None:
    path, registration, part, via = view(workspace, name)
    file = workspace.predictions / "attention.geojson"
    with scene_of(path, registration, part, via, Source(file, Frame.he, "a")) as scene:
        near, far = drawn("attention", scene), drawn("attention", scene, 2)
    features = json.loads(file.read_text())["features"]
    middles = np.array([np.mean(one["geometry"]["coordinates"][0][:-1], axis=0) for one in features])
    wanted = np.array([one["properties"]["classification"]["color"] for one in features])
    place = to_view(workspace, name, middles, "he")
    for picture, z in ((near, 0), (far, 2)):
        found, on = at(picture, place, z)
        assert on.sum() > 30
        assert np.abs(found[on][:, :3].astype(int) - wanted[on]).max() <= 4
        assert (found[on, 3] > 100).all()


@VIEWS
@pytest.mark.parametrize("z", [0, 1, 2])
def test_grid_lines_lie_where_the_registration_puts_them(workspace: Workspace, name: str, z: int) -> None:
    """Lines of the IHC's coordinates (via: of the H&E's), by the transform's own map of points."""
    path, registration, part, via = view(workspace, name)
    transform = Transform.load(registration)
    with scene_of(path, registration, part, via) as scene:
        picture = drawn("grid", scene, z)
    step = spacing_um(0.5 * 2**z) / 0.5
    along = np.arange(0, SIZE, 13.0)
    for axis in (0, 1):
        for shift, seen in ((0.0, True), (0.5, False)):
            steps = (np.arange(1, SIZE / step) + shift) * step
            lines = np.stack(np.meshgrid(steps, along), -1).reshape(-1, 2)
            if not seen:  # the middles of cells, not the places where the other lines cross
                lines = lines[np.abs(lines[:, 1] / step % 1 - 0.5) < 0.4]
            lines = lines[:, ::-1] if axis else lines
            place = transform.he_to_ihc(lines) if via else transform.ihc_to_he(lines) if name == "he" else lines
            place = place[inner(place, 3)]
            alpha = at(picture, place, z)[0][:, 3]
            assert len(alpha) > 50
            if seen:
                assert (alpha > 100).mean() > 0.97
            else:
                assert (alpha == 0).mean() > 0.99


@VIEWS
def test_patches_and_why_they_were_dropped(workspace: Workspace, name: str) -> None:
    path, registration, part, via = view(workspace, name)
    with scene_of(path, registration, part, via, Source(workspace.pairs, Frame.ihc, "p", "p0000")) as scene:
        picture = drawn("patches", scene)
        offer = OVERLAYS["patches"].offer(scene)
    with workspace.pairs.open() as stream:
        rows = list(csv.DictReader(stream))
    size = json.loads((workspace.pairs.parent / "build.json").read_text())["settings"]["config"]["size"]
    assert offer is not None
    legend = {entry.label.rpartition(" (")[0]: entry for entry in offer.legend}
    assert {row["kept"] for row in rows} == {"0", "1"}
    for row in rows:
        corner = np.array([float(row["x"]), float(row["y"])])
        middle = to_view(workspace, name, (corner + size / 2)[None], "ihc")
        if not inner(middle, 5)[0]:
            continue
        found = at(picture, middle)[0][0]
        if row["kept"] == "1":
            assert found[3] == 0
            edge = to_view(workspace, name, corner + np.array([[size / 2, 0], [0, size / 2]]), "ihc")
            near = [picture[max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3, 3].max(initial=0)
                    for x, y in edge if 0 <= x < SIZE and 0 <= y < SIZE]  # fmt: skip
            assert min(near, default=255) > 100
        else:
            (key,) = [key for key in legend if row["reason"].startswith(key)]
            wanted = [int(legend[key].color[place : place + 2], 16) for place in (1, 3, 5)]
            assert found[3] > 40
            assert np.abs(found[:3].astype(int) - wanted).max() <= 4


def test_patches_of_one_stain_are_on_its_slide_alone(tmp_path: Path, workspace: Workspace) -> None:
    """Unpaired rows: those of the H&E on the H&E (turned on the IHC), none where nothing tells the slides apart."""
    (tmp_path / "pairs.csv").write_text("name,side,slide,x,y,mpp,kept,reason\na,he,p0000,256,512,0.5,0,pen on H&E\n")
    write_json(tmp_path / "build.json", {"settings": {"config": {"size": 256}}})
    source = Source(tmp_path / "pairs.csv", Frame.own, "p", "p0000")
    middle = np.array([[384.0, 640.0]])
    with scene_of(workspace.he, source=source) as scene:
        assert at(drawn("patches", scene), middle)[0][0, 3] > 40
    with scene_of(workspace.ihc, source=source) as scene:
        assert not drawn("patches", scene).any()
    path, registration, part, via = view(workspace, "ihc")
    with scene_of(path, registration, part, via, source) as scene:
        place = to_view(workspace, "ihc", middle, "he")
        assert at(drawn("patches", scene), place)[0][0, 3] > 40


@pytest.mark.parametrize("kind", [kind for kind in OVERLAYS if kind != "grid"])
def test_a_plain_slide_of_unknown_resolution(tmp_path: Path, kind: str) -> None:
    """Nothing is guessed: what needs um/px is not offered, and the rest works."""
    rng = np.random.default_rng(0)
    write_image(tmp_path / "a.png", rng.integers(150, 255, (300, 400, 3), dtype=np.uint8))
    with scene_of(tmp_path / "a.png") as scene:
        if OVERLAYS[kind].needs_source:
            return
        offer = OVERLAYS[kind].offer(scene)
        if kind in ("nuclei", "density"):
            assert offer is None
        else:
            assert offer is not None
            drawn(kind, scene)
