"""Quality control: artefacts drawn on patches like tissue, good real patches, the dataset's files, training."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from restain.cli import dataset as cli
from restain.cli import info
from restain.core.errors import RestainError
from restain.data import PairsConfig, QualityFilter, check_quality, read_dataset, slide_quality
from restain.data.patch_checks import PatchChecks, Sheet
from restain.data.quality import FLAGGED, KINDS, Usual, judge, measure
from restain.data.quality_sheet import Entry, draw_sheet
from restain.data.records import LoneImage
from restain.slides import open_slide, read_image

SIDE = 256
USUAL = Usual(0.7, (0.26, 0.47, 0.27), (0.25, 0.33, 0.42))


def tissue(seed: int = 0, stain: str = "he", side: int = SIDE, white: int = 240) -> np.ndarray:
    """Nuclei of 8 um on a textured ground at 0.5 um/px, by Beer and Lambert."""
    rng = np.random.default_rng(seed)
    nuclei = np.zeros((side, side), np.float32)
    for x, y in rng.integers(0, side, (side * side // 900, 2)):
        cv2.ellipse(nuclei, (int(x), int(y)), (8, 6), float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    ground = 1 + 0.25 * sum(cv2.GaussianBlur(rng.normal(0, s, (side, side)), (0, 0), s) for s in (0.8, 2.0, 4.0))
    nuclei = nuclei * np.clip(1 + 0.3 * cv2.GaussianBlur(rng.normal(0, 3, nuclei.shape), (0, 0), 1), 0, 2)
    first, second = ((0.6, 0.72, 0.35), (0.2, 0.8, 0.5)) if stain == "he" else ((0.62, 0.6, 0.48), (0.3, 0.5, 0.8))
    density = 0.5 * nuclei[..., None] * first + 0.22 * np.clip(ground, 0, 3)[..., None] * second
    light = white * 10 ** -cv2.GaussianBlur(density, (0, 0), 0.6) + rng.normal(0, 1, density.shape)
    return np.clip(light, 0, 255).astype(np.uint8)


def inked(rgb: np.ndarray, ink: tuple[float, float, float]) -> np.ndarray:
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    cover = cv2.GaussianBlur((np.abs(x + y - SIDE) < 60).astype(np.float32), (0, 0), 3)[..., None]
    return (rgb * 10 ** (-cover * np.array(ink))).astype(np.uint8)


def folded(rgb: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    twice = (np.abs(x - 128 - 15 * np.sin(y / 40)) < 22)[..., None]
    return np.where(twice, 240 * (rgb / 240) ** 2, rgb).astype(np.uint8)


def bubbled(rgb: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    rim = np.exp(-(((np.hypot(x - 20, y - 20) - 150) / 6) ** 2))[..., None]
    return (rgb * (1 - 0.6 * rim)).astype(np.uint8)


def cracked(rgb: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
    gap = ((x + 6 * np.sin(y / 15)) % 40 < 18)[..., None]
    return np.where(gap, 240, rgb).astype(np.uint8)


SPOILT = {
    "blur": lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 3.0),
    "fold": folded,
    "pen": lambda rgb: inked(rgb, (1.1, 0.2, 0.6)),
    "bubble": bubbled,
    "crack": cracked,
    "blank": lambda rgb: np.full_like(rgb, 243),
    "wrong_stain": lambda rgb: tissue(5, "ihc"),
    "exposure": lambda rgb: (rgb * 0.25).astype(np.uint8),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_artefact_is_found_and_named(kind: str) -> None:
    good, bad = (judge(measure(rgb, 0.5), USUAL) for rgb in (tissue(), SPOILT[kind](tissue())))
    assert good.total < FLAGGED, good
    assert good.reasons == ()
    assert (bad.scores[kind] or 0) >= FLAGGED, bad
    assert bad.total >= FLAGGED
    assert bad.reasons


ROYAL, MARKER = (-np.log10(np.array(colour) / 255) for colour in ((20, 30, 200), (30, 50, 160)))
"""Absorbances of blue inks by the colours that they let through: red and green nearly alike."""


@pytest.mark.parametrize("ink", [(0.9, 0.85, 0.8), (1.2, 0.7, 0.15), (1.1, 0.15, 0.7), (0.08, 1.1, 0.95), ROYAL])
@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_pens_of_all_colours(ink: tuple[float, float, float], stain: str) -> None:
    assert (judge(measure(inked(tissue(1, stain), ink), 0.5), Usual()).scores["pen"] or 0) >= FLAGGED


@pytest.mark.parametrize(("ink", "stains"), [(ROYAL, ("he", "ihc")), (MARKER, ("he",))], ids=["royal", "marker"])
def test_blue_pen_on_glass_and_on_slides(ink: np.ndarray, stains: tuple[str, ...], tmp_path: Path) -> None:
    """Over brown tissue the second is not told: DAB takes the blue that it lets through."""
    for bare in (np.full((SIDE, SIDE, 3), 243, np.uint8), tissue(1)):
        assert (judge(measure(inked(bare, ink), 0.5), Usual()).scores["pen"] or 0) >= FLAGGED
    y, x = np.mgrid[:1024, :1024]
    stroke = np.abs(x - y) < 100
    light = cv2.GaussianBlur(np.where(stroke[..., None], 10**-ink, 1.0), (0, 0), 3)
    for stain in stains:
        clean = tissue(4, stain, 1024)
        clean[:, :400] = 241
        for name, rgb in (("clean", clean), ("inked", (clean * light).astype(np.uint8))):
            Image.fromarray(rgb).save(tmp_path / f"{name}.png")
            with open_slide(tmp_path / f"{name}.png", 0.5) as slide:
                share = slide_quality(slide, focus=False).shares["pen"]
            if name == "clean":
                assert share == 0
            else:
                assert share == pytest.approx(stroke.mean(), rel=0.25)  # and a margin of 8 um


def test_too_dark_or_too_small_is_not_judged_else() -> None:
    black = judge(measure(np.zeros((64, 64, 3), np.uint8), 0.5), USUAL)
    assert black.reasons == ("badly exposed",)
    assert {kind for kind, score in black.scores.items() if score is not None} == {"exposure"}
    assert set(black.unjudged.values()) == {"too dark"}
    small = judge(measure(tissue()[:3, :3], 0.5), USUAL)
    assert small.reasons == ()
    assert small.unjudged == dict.fromkeys(set(KINDS) - {"exposure"}, "too small: less than 24 px")
    assert judge(measure(tissue()[:32, :32], 0.5), USUAL).scores["blur"] is not None


def test_a_black_slide_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(tmp_path / "black.png")
    for options in ([], ["--mpp", "0.5"]):
        assert info.run([str(tmp_path / "black.png"), "--qc", *options]) == 0
        said = capsys.readouterr().out
        assert "pen: not judged, too dark" in said
        assert "out of focus: not judged, too dark" in said
        assert "%" not in said.split("glass: ")[1]


@pytest.mark.parametrize("white", [176, 215, 252])
def test_grey_glass_is_no_fault(white: int) -> None:
    for stain in ("he", "ihc"):
        found = judge(measure(tissue(2, stain, white=white), 0.5), Usual(0.7))
        assert found.total < FLAGGED, (stain, found)


def test_what_cannot_be_judged_is_said() -> None:
    unknown = judge(measure(tissue(), None), Usual())
    assert unknown.scores["blur"] is None
    assert "um/px unknown" in unknown.unjudged["blur"]
    assert unknown.scores["wrong_stain"] is None
    coarse = judge(measure(tissue(), 8.0), USUAL)
    assert {"blur", "fold", "bubble", "crack"} <= coarse.unjudged.keys()
    assert "too coarse" in coarse.unjudged["fold"]


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16), (30, 50)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_tiny_and_plain_pictures(size: tuple[int, int], value: int) -> None:
    found = judge(measure(np.full((*size, 3), value, np.uint8), 0.5), USUAL)
    assert found.total >= FLAGGED or (value == 255 and "too small" in found.unjudged["blank"])
    assert all(score is None or 0 <= score <= 1 for score in found.scores.values())


def test_good_real_patches_are_not_flagged(shared: Path) -> None:
    """Of BCI; one shows a pale 0 in fat, most of it glass, which is as bad as it may be."""
    for path in (
        sorted((shared / "data").glob("bci-pairs/*/test/*.png")) + sorted((shared / "data/her2-ihc").glob("*"))[::2]
    ):
        found = judge(measure(read_image(path), None), Usual(0.75))
        assert found.total < FLAGGED, (path.name, found.reasons)


def test_real_pen_and_glass(shared: Path) -> None:
    for name, kind in (
        ("tcga-red-pen", "pen"),
        ("medium-nuclei-score-green-pen-level1", "pen"),
        ("no-tissue", "blank"),
    ):
        found = judge(measure(read_image(shared / "data/qc" / f"{name}.png"), None), Usual())
        assert (found.scores[kind] or 0) >= FLAGGED, (name, found)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve pairs; of some the H&E is spoilt."""
    root = tmp_path / "pairs"
    for index in range(12):
        he, ihc = tissue(index, side=192), tissue(100 + index, "ihc", side=192)
        if index == 3:
            he = np.full_like(he, 245)
        if index == 7:
            he, ihc = ihc, he
        for folder, image in (("HE", he), ("IHC", ihc)):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / folder / "train" / f"{index:05d}_train_1+.png")
    return root


def test_dataset_files(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["check", str(dataset), "--qc", "--mpp", "0.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["quality"]
    assert report["dropped"] == {"train": 2}
    assert report["measured"] == 24
    with (dataset / "quality/quality.csv").open() as stream:
        rows = {row["name"][:5]: row for row in csv.DictReader(stream)}
    bad = {name for name, row in rows.items() if float(row["score"]) >= FLAGGED}
    assert bad == {"00003", "00007"}
    assert "blank" in rows["00003"]["reason"]
    assert "another stain" in rows["00007"]["reason"]
    assert read_image(dataset / "quality/contact_sheet.png").std() > 10
    assert check_quality(dataset, mpp=0.5).measured == 0
    Image.fromarray(tissue(50, side=192)).save(dataset / "HE/train/00003_train_1+.png")
    again = check_quality(dataset, mpp=0.5)
    assert (again.measured, again.dropped) == (1, {"train": 1})


def test_unusual_files_among_good_ones(dataset: Path) -> None:
    folder = dataset / "HE/train"
    Image.fromarray(np.zeros((192, 192), np.uint16) + 40000).save(folder / "00000_train_1+.png")
    Image.fromarray(tissue(1, side=192)).convert("RGBA").save(folder / "00001_train_1+.png")
    (folder / "00002_train_1+.png").write_bytes(b"no picture")
    report = check_quality(dataset, mpp=0.5)
    assert list(report.failures) == [str(folder / "00002_train_1+.png")]
    assert report.pairs == 11
    assert cli.run(["check", str(dataset), "--qc"]) == 1


def test_what_cannot_be_is_refused_before_images_are_read(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("an image was read")

    for place in ("restain.data.records.read_image", "restain.data.check.read_image"):
        monkeypatch.setattr(place, read, raising=False)
    with pytest.raises(RestainError, match=r"--mpp: -1\.0 is no um/px"):
        cli.run(["check", str(dataset), "--qc", "--mpp", "-1"])
    (dataset / "quality").write_text("a plain file")
    with pytest.raises(RestainError, match=r"quality: is a file.*Rename or remove"):
        cli.run(["check", str(dataset), "--qc"])
    assert (dataset / "quality").read_text() == "a plain file"


def test_text_counts_images_without_partner(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in (0, 1):
        (dataset / f"IHC/train/{index:05d}_train_1+.png").unlink()
    cli.run(["check", str(dataset), "--qc", "--mpp", "0.5"])
    said = capsys.readouterr().out
    assert "quality of 10 pairs and 2 images without partner" in said
    assert "wrong stain 1" in said
    assert "wrong_stain" not in said


def test_contact_sheet_keeps_names_in_their_cells(dataset: Path) -> None:
    path = dataset / "IHC/train/00000_train_1+.png"
    long = LoneImage("W" * 200, path, "train", "ihc")
    short = replace(long, name="W")
    sheets = [draw_sheet([Entry(image, 0.9, (), "W" * 200)] * 2, []) for image in (long, short)]
    cell = 350
    for sheet in sheets:
        assert (sheet[195:, cell - 10 : cell] == 255).all()  # the gap between two cells
        assert (sheet[60:160, 10:170] < 128).any()  # "no partner" where the H&E would be
        assert sheet[60:160, 172:332].std() > 10
    assert (sheets[0][195:, 250:330] < 128).sum() > (sheets[1][195:, 250:330] < 128).sum()


def test_filter_leaves_out_the_worst(dataset: Path) -> None:
    folder = read_dataset(dataset)
    with pytest.raises(RestainError, match=r"restain dataset check .* --qc"):
        QualityFilter(fraction=0.1).apply(folder, "train")
    check_quality(dataset, mpp=0.5)
    assert QualityFilter().apply(folder, "train") == (folder, None)
    kept, said = QualityFilter(fraction=0.17).apply(folder, "train")
    assert said is not None
    assert (said["dropped"], said["of"]) == (2, 12)
    assert {record.name[:5] for record in folder.records} - {r.name[:5] for r in kept.records} == {"00003", "00007"}
    assert QualityFilter(threshold=0.5).apply(folder, "train")[0] == kept
    assert QualityFilter(fraction=0.17).apply(folder, "test")[1] == {**said, "dropped": 0, "of": 0, "score": None}
    Image.fromarray(tissue(60, side=192)).save(dataset / "IHC/train/00005_train_1+.png")
    with pytest.raises(RestainError, match="1 of 12 pairs"):
        QualityFilter(threshold=0.5).apply(folder, "train")


@pytest.mark.parametrize("wrong", [{"fraction": 1.0}, {"threshold": 0.0}, {"fraction": 0.1, "threshold": 0.5}])
def test_filter_refuses(wrong: dict[str, float]) -> None:
    with pytest.raises(RestainError, match="quality"):
        QualityFilter(**wrong)


def test_qc_options_need_qc(dataset: Path) -> None:
    with pytest.raises(RestainError, match="--qc"):
        cli.run(["check", str(dataset), "--fraction", "0.1"])


def test_slide_mask_finds_the_fold_and_drops_its_patches(tmp_path: Path) -> None:
    rgb = tissue(9, side=1024)
    y, x = np.mgrid[:1024, :1024]
    twice = (np.abs(x - 500 - 15 * np.sin(y / 40)) < 25)[..., None]
    Image.fromarray(np.where(twice, 240 * (rgb / 240) ** 2, rgb).astype(np.uint8)).save(tmp_path / "slide.png")
    with open_slide(tmp_path / "slide.png", 0.5) as slide:
        found = slide_quality(slide)
        inside = found.masks["fold"].fraction(480, 100, 40, 800)
        outside = found.masks["fold"].fraction([0, 640], 0, 384, 1024)
        assert float(inside) > 0.6
        assert float(outside.max()) < 0.02
        assert found.shares["blur"] == 0
        checks = PatchChecks({"he": Sheet.of(slide)}, PairsConfig(), 0.5)
        clean, spoilt = checks.coarse(np.array([[700, 300], [384, 300]]))
    assert clean["reason"] == ""
    assert spoilt["reason"] == "fold on H&E"
