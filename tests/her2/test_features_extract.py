"""From slides to files of features, through the command: what is written, resumed, refused and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import restain.her2.extract as extracting
from restain.cli.her2_features import run as command
from restain.core.errors import RestainError
from restain.her2.encoders import Encode, Encoder, Field, Stain, make_encoder
from restain.her2.extract import extract, slides_of
from restain.her2.features_file import read_features
from restain.her2.labels import HER2
from restain.her2.slide_set import read_slide_set
from restain.her2.tiles import TileOptions
from restain.infer.inputs import Input
from restain.slides import PyramidWriter, Slide, TissueMask, open_slide, write_image
from restain.synthetic import SlideRenderer, SynthOptions, World
from tests.her2.cohort import write_rows

MPP = 0.5


def write_slide(path: Path, rgb: np.ndarray, mpp: float | None = MPP) -> Path:
    with PyramidWriter(path, (rgb.shape[1], rgb.shape[0]), mpp, compression="deflate") as writer:
        for y in range(0, rgb.shape[0], 512):
            for x in range(0, rgb.shape[1], 512):
                writer.write(x, y, rgb[y : y + 512, x : x + 512])
    return path


@pytest.fixture(scope="module")
def he(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic H&E slide, wider than a field of tiles."""
    world = World(SynthOptions(size=1536, mpp=MPP, seed=11, pen=0, folds=0), 1)
    rgb = SlideRenderer(world, "he").region(0, 200, 1536, 640).rgb
    return write_slide(tmp_path_factory.mktemp("slides") / "p1_he.ome.tif", rgb)


class Means(Encoder):
    """The mean colour of each tile, and its corner's colour: they tell which pixels it was."""

    name, version, names = "means", "1", tuple(f"c{i}" for i in range(6))
    margin = 16.0

    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:
        def encode(field: Field) -> np.ndarray:
            return np.array([[*image.mean(axis=(0, 1)), *image[0, 0]] for image in field.images()], np.float32)

        return encode


@pytest.mark.parametrize(("mpp", "tile"), [(0.5, TileOptions(tile_px=128)), (0.25, TileOptions(tile_px=64))])
def test_coordinates_lead_back_to_the_same_pixels(he: Path, tmp_path: Path, mpp: float, tile: TileOptions) -> None:
    outcome = extract([Input(he, mpp, "a")], tmp_path, Means(), tile)
    assert outcome.exit_code == 0
    found = read_features(tmp_path / "a.h5")
    assert len(found) == outcome.results["a"]["tiles"] > 20
    assert (found.tile_level0, found.mpp, found.tile_px) == (128, 0.5, tile.tile_px)
    assert found.level0_mpp == mpp
    order = np.lexsort((found.coords[:, 0], found.coords[:, 1]))
    assert (np.diff(order) == 1).all(), "raster order"
    with open_slide(he, mpp) as slide:
        for row in range(0, len(found), 5):
            image = slide.read(*map(float, found.coords[row]), tile.tile_px, tile.tile_px, 0.5)
            assert np.allclose(found.features[row, :3], image.mean(axis=(0, 1)), atol=0.05)
            assert np.allclose(found.features[row, 3:], image[0, 0], atol=1)


def test_the_default_encoder_through_the_command(he: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([str(he), "--out", str(tmp_path), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["results"]["p1_he"]
    found = read_features(tmp_path / "p1_he.h5")
    assert (row["tiles"], row["columns"], row["tile_level0"]) == (len(found), found.width, 256)
    assert row["features"] == str(tmp_path / "p1_he.h5")
    assert found.names is not None
    assert len(set(found.names)) == found.width
    assert 100 <= found.width <= 300
    assert np.isfinite(found.features).all()
    assert (found.encoder, found.encoder_version, found.mpp) == ("morphometry", row["encoder_version"], 0.5)
    assert not [name for name, spread in zip(found.names, np.ptp(found.features, axis=0), strict=True) if spread == 0]


def test_done_slides_are_skipped_and_bad_ones_named(he: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, glass = tmp_path / "broken.tif", tmp_path / "glass.png"
    broken.write_bytes(he.read_bytes()[:5000])
    write_image(glass, np.full((600, 600, 3), 240, np.uint8))
    inputs = [Input(he), Input(broken, MPP), Input(glass, MPP), Input(tmp_path / "gone.svs")]
    done: list[str] = []
    original = extracting.extract_slide

    def counting(slide: Slide, *rest: object) -> dict[str, object]:
        done.append(slide.path.name)
        return original(slide, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(extracting, "extract_slide", counting)
    first = extract(inputs, tmp_path / "out", Means())
    assert first.exit_code == 1
    assert set(first.results) == {"p1_he"}
    assert set(first.failures) == {"broken", "glass", "gone"}
    assert "no tile" in first.failures["glass"]
    assert "gone.svs" in first.failures["gone"]
    assert sorted(file.name for file in (tmp_path / "out").glob("*.*")) == [".restain", "p1_he.h5"]
    again = extract(inputs[:1], tmp_path / "out", Means())
    assert again.results == first.results
    assert done.count("p1_he.ome.tif") == 1, "not done twice"
    extract(inputs[:1], tmp_path / "out", Means(), TileOptions(tile_px=128))
    assert done.count("p1_he.ome.tif") == 2, "other tiles are other features"
    (tmp_path / "out" / "p1_he.h5").unlink()
    extract(inputs[:1], tmp_path / "out", Means(), TileOptions(tile_px=128))
    assert done.count("p1_he.ome.tif") == 3, "a file that is gone is written again"


class Failing(Means):
    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:
        def encode(field: Field) -> np.ndarray:
            return np.full((len(field.corners), 6), np.nan, np.float32)

        return encode


def test_processes_write_what_one_writes(he: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two slides in two processes, one of them bad: the same files, and the bad one is named."""
    other = shutil.copy(he, tmp_path / "p2.ome.tif")
    bad = tmp_path / "p3.ome.tif"
    bad.write_bytes(b"no slide")
    words = [str(path) for path in (he, other, bad)]
    assert command([*words, "--out", str(tmp_path / "two"), "--workers", "2", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert list(document["results"]) == ["p1_he", "p2"]
    assert list(document["failures"]) == ["p3"]
    assert command([str(he), "--out", str(tmp_path / "one"), "--workers", "1"]) == 0
    wanted, *found = (read_features(tmp_path / name) for name in ("one/p1_he.h5", "two/p1_he.h5", "two/p2.h5"))
    for one in found:
        assert np.array_equal(one.features, wanted.features)
        assert np.array_equal(one.coords, wanted.coords)
    with pytest.raises(RestainError, match="workers 0"):
        extract([Input(he)], tmp_path / "none", Means(), workers=0)


def test_an_encoder_that_gives_no_numbers(he: Path, tmp_path: Path) -> None:
    outcome = extract([Input(he)], tmp_path, Failing())
    assert outcome.exit_code == 1
    assert "NaN" in outcome.failures["p1_he"]
    assert not list(tmp_path.glob("*.h5"))


def test_without_um_per_px(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png", np.full((600, 600, 3), 180, np.uint8))
    assert command([str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert "--mpp" in capsys.readouterr().err


def test_the_slides_of_a_cohort(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").write_text(
        "patient,he,ihc,mpp,her2\na,s/a_he.ome.tif,s/a_ihc.ome.tif,0.5,0\na,s/a_he.ome.tif,,0.5,0\nb,s/b_he.svs,,,2+\n"
    )
    cohort = [tmp_path / "cohort.csv"]
    he = slides_of(cohort)
    assert [(item.name, item.mpp) for item in he] == [("a_he", 0.5), ("b_he", None)]
    assert he[0].path == tmp_path / "s" / "a_he.ome.tif"
    assert [item.mpp for item in slides_of(cohort, mpp=0.3)] == [0.5, 0.3]
    assert [item.name for item in slides_of(cohort, Stain.ihc)] == ["a_ihc"]
    (tmp_path / "two.csv").write_text("patient,he\na,x/s.svs\nb,y/s.svs\n")
    assert [item.name for item in slides_of([tmp_path / "two.csv"])] == ["x/s", "y/s"]
    (tmp_path / "one.csv").write_text("patient,he\na,x/s.svs\nb,x/s.ndpi\n")
    with pytest.raises(RestainError, match=r"s\.svs and .*s\.ndpi.*s\.h5"):
        slides_of([tmp_path / "one.csv"])
    (tmp_path / "bare.csv").write_text("patient;he\na;x.svs\n")
    with pytest.raises(RestainError, match=r"no column he.*commas") as caught:
        slides_of([tmp_path / "bare.csv"])
    assert caught.value.exit_code == 2
    (tmp_path / "none.csv").write_text("patient,he,ihc\na,x.svs,\n")
    with pytest.raises(RestainError, match="column ihc names no slide"):
        slides_of([tmp_path / "none.csv"], Stain.ihc)


def test_slides_of_the_same_file_name_are_written_and_found(he: Path, tmp_path: Path) -> None:
    """`P1/he.tif` and `P2/he.tif`: their features keep the folder, and a cohort finds them."""
    rows = []
    for patient, level in (("P1", "0"), ("P2", "3+")):
        (tmp_path / patient).mkdir()
        shutil.copy(he, tmp_path / patient / "he.ome.tif")
        rows.append({"patient": patient, "he": f"{patient}/he.ome.tif", "her2": level})
    write_rows(tmp_path / "cohort.csv", rows)
    outcome = extract(slides_of([tmp_path / "cohort.csv"]), tmp_path / "out", Means())
    assert list(outcome.results) == ["P1/he", "P2/he"]
    data = read_slide_set(tmp_path / "cohort.csv", tmp_path / "out", None, HER2)
    assert {name: patient.he for name, patient in data.patients.items()} == {
        name: (tmp_path / "out" / name / "he.h5",) for name in ("P1", "P2")
    }
    assert extract(slides_of([tmp_path / "cohort.csv"]), tmp_path / "out", Means()).results == outcome.results


def test_a_path_that_is_missing_is_named_in_the_document(
    he: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone.svs")
    assert command([gone, "--out", str(tmp_path / "out"), "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["failures"]) == ["gone"]
    assert command([gone, str(he), "--out", str(tmp_path / "out"), "--json", "--workers", "1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (list(found["results"]), list(found["failures"])) == (["p1_he"], ["gone"])


def test_encoders_that_are_none() -> None:
    with pytest.raises(RestainError, match=r"no encoder 'morphometri'.*morphometry"):
        make_encoder("morphometri")
    with pytest.raises(RestainError, match="clip:FOLDER"):
        make_encoder("clip")
    with pytest.raises(RestainError, match="takes nothing"):
        make_encoder("morphometry:x")
    with pytest.raises(RestainError, match="no such folder"):
        make_encoder("clip:/nowhere/at/all")
    with pytest.raises(RestainError, match=r"run\.json"):
        make_encoder("run:/nowhere/at/all")
