"""The domain analysis counts what is there, real minus generated."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage.color import hed2rgb
from tests.evaluate.conftest import NAMES, MakeFolder
from tests.report.test_report import Page

from restain.cli.main import main
from restain.core.errors import ItemError, RestainError
from restain.evaluate.domain import analyse_domain
from restain.evaluate.domain_results import Domain
from restain.report.domain import write_domain_report
from restain.slides import read_image, write_image
from restain.stains import ClassicalNuclei, membrane_ratio
from restain.stains.membrane import THRESHOLDS


class Squares:
    """A detector that knows what these tests draw: one nucleus for each black pixel."""

    name = "squares"

    def __call__(self, rgb: np.ndarray, mpp: float) -> np.ndarray:
        rows, columns = np.nonzero((rgb == 0).all(2))
        return np.column_stack([columns, rows]).astype(float)

    def in_mask(self, mask: np.ndarray, mpp: float) -> np.ndarray:
        raise NotImplementedError


def picture(nuclei: int, stained: float, side: int = 40) -> np.ndarray:
    """White, with that many black pixels in the first rows and a share of brown ones in the last."""
    image = np.full((side, side, 3), 255, np.uint8)
    image.reshape(-1, 3)[: nuclei * 2 : 2] = 0
    brown = round(stained * side * side)
    if brown:
        image.reshape(-1, 3)[-brown:] = (120, 70, 30)
    return image


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, Path]:
    """Real images with 10, 20, 30, 40 nuclei, a tenth brown; ``few`` lacks 3, 3, 5 and 9, ``much`` is half brown."""
    lacking = (3, 3, 5, 9)
    for number, name in enumerate(NAMES):
        nuclei = 10 * (number + 1)
        for folder, image in {
            "real": picture(nuclei, 0.1),
            "few": picture(nuclei - lacking[number], 0.1),
            "much": picture(nuclei + 2, 0.5),
        }.items():
            write_image(tmp_path / folder / f"{name}.png", image)
    return {name: tmp_path / name for name in ("real", "few", "much")}


def analyse(drawn: dict[str, Path], mpp: float | None = 0.5) -> Domain:
    return analyse_domain(drawn["real"], {"few": drawn["few"], "much": drawn["much"]}, Squares(), mpp=mpp)


def test_nuclei_are_real_minus_generated(drawn: dict[str, Path]) -> None:
    domain = analyse(drawn)
    assert domain.levels == ("0", "1+", "3+")
    assert domain.differences("few").tolist() == [3, 3, 5, 9]
    assert domain.counts["few", None].difference.mean == 5
    assert domain.counts["few", "1+"].difference.mean == 4
    assert domain.counts["much", None].difference.mean == -2
    assert domain.counts["much", None].absolute == 2
    low, high = domain.counts["few", None].difference.low, domain.counts["few", None].difference.high
    assert low is not None
    assert high is not None
    assert 3 <= low < 5 < high <= 9


def test_membranes_are_real_minus_generated(drawn: dict[str, Path]) -> None:
    domain = analyse(drawn)
    real, much = (membrane_ratio(read_image(drawn[name] / f"{NAMES[3]}.png")) for name in ("real", "much"))
    curve = domain.membranes["much", "3+"]
    assert [value.mean for value in curve.estimates] == pytest.approx((real - much).tolist())
    assert curve.estimates[0].mean == pytest.approx(-0.4, abs=0.01)  # a tenth is brown against half; black counts too
    assert curve.absolute == pytest.approx(np.abs(real - much))
    assert [value.mean for value in domain.membranes["few", None].estimates] == pytest.approx([0] * 21, abs=0.01)
    assert len(THRESHOLDS) == 21


def test_the_histogram_is_centred_and_whole(drawn: dict[str, Path]) -> None:
    domain = analyse(drawn)
    edges = domain.edges()
    assert (edges + edges[::-1] == 0).all()
    assert (np.diff(edges) == edges[1] - edges[0]).all()
    assert (edges % 1 == 0.5).all()  # no whole number lies on an edge
    bars = dict(zip((edges[:-1] + edges[1:]) / 2, domain.histogram("few"), strict=True))
    assert {place: count for place, count in bars.items() if count} == {3: 2, 5: 1, 9: 1}
    assert domain.histogram("much").sum() == 4


def test_without_resolution_nuclei_are_not_counted(drawn: dict[str, Path], tmp_path: Path) -> None:
    domain = analyse(drawn, None)
    assert domain.counts == {}
    assert domain.document()["methods"]["few"]["nuclei"] is None
    assert any("--mpp" in note for note in domain.notes)
    domain.write(tmp_path / "out")
    assert not (tmp_path / "out" / "nuclei.csv").exists()
    write_domain_report(domain, tmp_path / "out")
    assert not (tmp_path / "out" / "nuclei.png").exists()
    lines = "".join(f"{name},0.5,P{number // 2}\n" for number, name in enumerate(NAMES))
    (drawn["real"] / "pairs.csv").write_text("name,mpp,patient\n" + lines)
    domain = analyse(drawn, None)
    assert domain.differences("few").tolist() == [3, 3, 5, 9]
    assert domain.resampled == "patient"


@pytest.mark.parametrize("mpp", [50, 2.5, 0.01])
def test_um_px_at_which_no_nucleus_can_be_seen(drawn: dict[str, Path], mpp: float) -> None:
    class Never(Squares):
        def __call__(self, rgb: np.ndarray, mpp: float) -> np.ndarray:
            raise AssertionError("asked to count")

    domain = analyse_domain(drawn["real"], {"few": drawn["few"]}, Never(), mpp=mpp)
    assert domain.counts == {}
    assert len(domain.membranes["few", None].estimates) == 21
    assert any(f"in 4 of 4 images: nuclei can be found at 0.05 to 2 um/px, not at {mpp:g}" in n for n in domain.notes)


def test_nuclei_are_counted_where_they_can_be(drawn: dict[str, Path], tmp_path: Path) -> None:
    """One um/px is missing and one is senseless: the other two images count, and say that they are two."""
    lines = "".join(f"{name},{mpp}\n" for name, mpp in zip(NAMES, ("0.5", "", "0.5", "20"), strict=True))
    (drawn["real"] / "pairs.csv").write_text("name,mpp\n" + lines)
    domain = analyse(drawn, None)
    assert domain.differences("few").tolist() == [3, 5]
    assert domain.counts["few", None].difference.n == 2
    assert domain.counts["few", "1+"].difference.mean == 5
    assert ("few", "3+") not in domain.counts
    assert domain.membranes["few", None].estimates[0].n == 4
    assert any("in 1 of 4 images: their um/px is not known" in note for note in domain.notes)
    assert any("in 1 of 4 images: nuclei can be found" in note for note in domain.notes)
    assert any("other 2 images" in note for note in domain.notes)
    domain.write(tmp_path / "out")
    write_domain_report(domain, tmp_path / "out")
    assert "not counted" in Page((tmp_path / "out" / "domain.html").read_text(encoding="utf-8")).text
    rows = list(csv.DictReader((tmp_path / "out" / "nuclei.csv").open(encoding="utf-8")))
    assert [(row["method"], row["level"], row["n"]) for row in rows if row["method"] == "few"] == [
        ("few", "", "2"), ("few", "0", "1"), ("few", "1+", "1"),
    ]  # fmt: skip


def test_a_level_called_all_is_a_level(drawn: dict[str, Path], tmp_path: Path) -> None:
    lines = "".join(f"{name},{level}\n" for name, level in zip(NAMES, ("all", "all", "x", "x"), strict=True))
    (drawn["real"] / "pairs.csv").write_text("name,level\n" + lines)
    domain = analyse(drawn)
    assert domain.counts["few", "all"].difference.mean == 3
    assert domain.counts["few", None].difference.mean == 5
    document = domain.document()["methods"]["few"]["nuclei"]
    assert document["overall"]["n"] == 4
    assert document["levels"]["all"]["n"] == 2
    domain.write(tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "nuclei.csv").open(encoding="utf-8")))
    assert [(row["level"], row["n"]) for row in rows if row["method"] == "few"] == [("", "4"), ("all", "2"), ("x", "2")]


def test_what_cannot_be_compared_is_named(drawn: dict[str, Path]) -> None:
    (drawn["few"] / f"{NAMES[0]}.png").write_bytes(b"broken")
    write_image(drawn["much"] / f"{NAMES[1]}.png", picture(1, 0, side=30))
    (drawn["much"] / f"{NAMES[2]}.png").rename(drawn["much"] / "stray.png")
    domain = analyse(drawn)
    assert domain.images == [NAMES[3]]
    named = {(failure.image, failure.method) for failure in domain.failures}
    assert named == {(NAMES[0], "few"), (NAMES[1], "much"), (NAMES[2], "much"), ("stray", "much")}
    assert domain.counts["few", None].difference.n == 1
    assert domain.counts["few", None].difference.low is None
    (drawn["few"] / f"{NAMES[3]}.png").write_bytes(b"broken")
    with pytest.raises(ItemError, match="every method"):
        analyse(drawn)


def test_images_of_several_stainers_are_said(drawn: dict[str, Path]) -> None:
    made = {"method": "pix2pix", "run": "run", "weights": "0" * 64}
    outputs = {f"{name}.png": {"views": 1 + number % 2, **made} for number, name in enumerate(NAMES)}
    (drawn["few"] / "stain.json").write_text(json.dumps({"outputs": outputs, "last_call": {}}))
    assert any("few: the number of test-time views differs" in note for note in analyse(drawn).notes)


def test_folders_that_do_not_match(drawn: dict[str, Path], folder: MakeFolder) -> None:
    with pytest.raises(RestainError, match=r"no image name in common(.|\n)*00000_test_0(.|\n)*x0") as caught:
        analyse_domain(drawn["real"], {"x": folder("x", names=["x0", "x1"])}, Squares())
    assert caught.value.exit_code == 2
    with pytest.raises(RestainError, match="um/px"):
        analyse(drawn, -1.0)


@pytest.mark.parametrize("value", [0, 255])
def test_images_of_one_colour(tmp_path: Path, value: int) -> None:
    for name in ("real", "fake"):
        write_image(tmp_path / name / "a.png", np.full((64, 64, 3), value, np.uint8))
    domain = analyse_domain(tmp_path / "real", {"fake": tmp_path / "fake"}, ClassicalNuclei(), mpp=0.5)
    assert domain.differences("fake").tolist() == [0]
    assert all(estimate.mean == 0 for estimate in domain.membranes["fake", None].estimates)
    domain.write(tmp_path / "out")
    write_domain_report(domain, tmp_path / "out")


def test_the_command(tmp_path: Path, image: Callable[..., np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    amounts = np.zeros((96, 96, 3))
    amounts[..., 0] = 0.02
    for x in range(12, 96, 24):
        amounts[8:20, x - 6 : x + 6, 0] = 0.25
    for number, name in enumerate(NAMES):
        noise = np.random.default_rng(number).normal(0, 2, (96, 96, 3))
        fields = np.clip(hed2rgb(amounts) * 255 + noise, 0, 255).astype(np.uint8)
        write_image(tmp_path / "real" / f"{name}.png", fields)
        write_image(tmp_path / "fake" / f"{name}.png", np.clip(250 + noise, 0, 255).astype(np.uint8))
    out = tmp_path / "out"
    words = ["domain", "--real", str(tmp_path / "real"), "--fake", f"<b>={tmp_path / 'fake'}", "--mpp", "0.5"]
    assert main([*words[:3], "--fake", str(tmp_path / "absent"), "--out", str(out)]) == 2
    assert main([*words, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "domain.json").read_text())
    assert (
        found["methods"]["<b>"]["nuclei"]["overall"]["mean"] >= 2
    )  # there are four in each real image, none in the others
    assert found["mpp"] == [0.5]
    for name in ("nuclei", "membranes"):
        assert {path.suffix for path in out.glob(f"{name}.*")} == {".png", ".svg", ".csv"}
        assert (out / f"{name}.svg").read_text(encoding="utf-8").count("<svg") == 1
    rows = list(csv.DictReader((out / "images.csv").open(encoding="utf-8")))
    assert len(rows) == 4
    for row in rows:
        assert int(row["nuclei_difference"]) == int(row["nuclei_real"]) - int(row["nuclei_generated"])
    lines = list(csv.DictReader((out / "membranes.csv").open(encoding="utf-8")))
    assert len(lines) == 4 * 21  # all and three levels
    assert {line["threshold"] for line in lines} == {str(value) for value in THRESHOLDS}
    page = Page((out / "domain.html").read_text(encoding="utf-8"))
    assert "real minus generated" in page.text
    assert "<b>" in page.text
    assert "classical" in page.text
    assert main([*words, "--out", str(tmp_path / "real")]) == 2
