"""Metrics of sets, in um, and of the H&E, in an evaluation."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.evaluate.conftest import NAMES, MakeFolder

from restain.core.errors import ItemError, RestainError
from restain.evaluate import evaluate, load_protocol
from restain.metrics import METRICS, Direction, ImagePair, MetricInfo, Scope, WeightFiles
from restain.report import write_evaluation_report
from restain.slides import read_image, write_image

PROTOCOL = (
    "{{name: mine, version: 3, metrics: {{psnr: 1, {0}: 1}}, mean_over: images, pictures_by: psnr, "
    "interval: {{confidence: 0.9, resamples: 100, seed: 5}}{1}}}"
)


class MeanColour:
    """Distance of mean colours: a metric of sets whose value is easily told."""

    def __init__(self, _files: WeightFiles) -> None:
        self.seen: list[int] = []

    def features(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.seen.append(len(images))
        return np.stack([image.reshape(-1, 3).mean(axis=0) for image in images]).astype(np.float32)

    def distance(self, real: NDArray[np.float32], fake: NDArray[np.float32]) -> float:
        if len(real) < 2:
            raise ItemError("wants two images")
        return float(np.linalg.norm(real.mean(axis=0) - fake.mean(axis=0)))


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    list(METRICS)
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    common = ("", Direction.LOWER, (0.0, np.inf), 1, "A test.")
    METRICS.add("colour", MetricInfo("Colour", *common, scope=Scope.SET, fewest=100, of_fewer="dull"))(MeanColour)
    METRICS.add("um", MetricInfo("Um", *common, needs_mpp=True))(lambda _: lambda pair: float(pair.mpp or -1))
    METRICS.add("he", MetricInfo("He", *common, needs_he=True))(lambda _: of_he)


def of_he(pair: ImagePair) -> float:
    assert pair.he is not None
    return float(pair.he.mean())


def protocol(path: Path, metric: str, extra: str = "") -> Path:
    path.write_text(PROTOCOL.format(metric, extra))
    return path


@pytest.mark.usefixtures("added")
def test_a_metric_of_sets_is_of_all_images_and_of_each_level(folder: MakeFolder, tmp_path: Path) -> None:
    real, one, two = folder("real"), folder("one", seed=1), folder("two", seed=2)
    rules = protocol(tmp_path / "mine.yaml", "colour")
    summary = evaluate(real, {"one": one, "two": two}, tmp_path / "out", rules, workers=2)

    def mean(root: Path, names: Sequence[str]) -> NDArray[np.float64]:
        return np.mean([read_image(root / f"{name}.png").reshape(-1, 3).mean(axis=0) for name in names], axis=0)

    for method, root in (("one", one), ("two", two)):
        table = summary.tables[method]
        expected = np.linalg.norm(mean(real, NAMES) - mean(root, NAMES))
        assert table.overall["colour"].mean == pytest.approx(expected, abs=1e-4)
        assert (table.overall["colour"].low, table.overall["colour"].n) == (None, 4)
        assert table.levels["0"]["colour"].mean is None  # one image
        for level, values in table.levels.items():
            if level != "1+":
                continue
            own = [name for name in NAMES if name.endswith(f"_{level}")]
            expected = np.linalg.norm(mean(real, own) - mean(root, own))
            assert values["colour"].mean == pytest.approx(expected, abs=1e-4)
            assert list(values) == ["psnr", "colour"]
    with (tmp_path / "out" / "metrics.csv").open() as stream:
        assert next(csv.reader(stream)) == ["image", "level", "method", "psnr"]
    with (tmp_path / "out" / "tables.csv").open() as stream:
        rows = {(row["method"], row["level"], row["metric"]): row for row in csv.DictReader(stream)}
    assert float(rows["two", "1+", "colour"]["mean"]) == summary.tables["two"].levels["1+"]["colour"].mean
    assert rows["one", "", "psnr"]["n"] == "4"
    assert rows["one", "", "colour"]["low"] == ""
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["protocol"]["metrics"]["colour"]["of"] == "a set of images against another"
    few = "Colour of fewer than 100 images is dull"
    assert sum(few in warning and "all levels 4, " in warning for warning in document["warnings"]) == 2
    assert "level 0 1, level 1+ 2, level 3+ 1." in document["warnings"][0]
    write_evaluation_report(summary, tmp_path / "report.html")
    assert "of fewer than 100" in (tmp_path / "report.html").read_text()
    assert "no value" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("added")
def test_a_metric_of_sets_leaves_out_what_cannot_be_read(folder: MakeFolder, tmp_path: Path) -> None:
    real, one = folder("real"), folder("one", seed=1)
    (one / f"{NAMES[1]}.png").write_bytes(b"\x89PNG no image")
    summary = evaluate(real, one, protocol=protocol(tmp_path / "mine.yaml", "colour"))
    assert summary.tables["one"].overall["colour"].n == 3
    assert summary.exit_code == 1


@pytest.mark.usefixtures("added")
def test_um_per_px_come_from_the_user_the_table_or_the_protocol(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake = folder("real"), folder("fake")
    rules = protocol(tmp_path / "mine.yaml", "um")
    silent = evaluate(real, fake, protocol=rules)
    assert "--mpp" in silent.not_computed["um"]
    assert silent.metrics == ["psnr"]
    assert evaluate(real, fake, protocol=rules, mpp=0.25).tables["fake"].overall["um"].mean == 0.25
    assumed = protocol(tmp_path / "assumed.yaml", "um", ", mpp: 0.46")
    assert evaluate(real, fake, protocol=assumed).tables["fake"].overall["um"].mean == 0.46
    assumption = evaluate(real, fake, protocol=assumed)
    assert (assumption.document()["mpp"], assumption.document()["assumed_mpp"]) == ([], 0.46)
    assert any("taken to be 0.46" in note for note in assumption.notes())
    (tmp_path / "pairs.csv").write_text("\n".join(["name,split,mpp", *(f"{name},test,0.5" for name in NAMES)]))
    known = evaluate(real, fake, protocol=assumed, pairs=tmp_path / "pairs.csv")
    assert known.document()["assumed_mpp"] is None
    told = evaluate(real, fake, protocol=assumed, pairs=tmp_path / "pairs.csv", mpp=0.25)
    assert any("--mpp 0.25 takes the place of 0.5" in note for note in told.notes())
    assert known.tables["fake"].overall["um"].mean == 0.5
    with pytest.raises(RestainError, match="not a protocol"):
        evaluate(real, fake, protocol=protocol(tmp_path / "bad.yaml", "um", ", mpp: -1"))


@pytest.mark.usefixtures("added")
def test_a_metric_of_the_he_wants_it(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake, he = folder("real"), folder("fake", seed=1), folder("he", seed=2)
    rules = protocol(tmp_path / "mine.yaml", "he")
    assert "--he" in evaluate(real, fake, protocol=rules).not_computed["he"]
    value = evaluate(real, fake, protocol=rules, he=he).tables["fake"].overall["he"].mean
    assert value == pytest.approx(np.mean([read_image(he / f"{name}.png").mean() for name in NAMES]))


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("damage", ["absent", "unreadable", "smaller"])
def test_an_he_image_that_is_none_costs_its_own_metric_alone(folder: MakeFolder, tmp_path: Path, damage: str) -> None:
    real, fake, he = folder("real"), folder("fake", seed=1), folder("he", seed=2)
    path = he / f"{NAMES[1]}.png"
    if damage == "smaller":
        write_image(path, read_image(path)[:-4])
    elif damage == "unreadable":
        path.write_bytes(path.read_bytes()[:50])
    else:
        path.unlink()
    summary = evaluate(real, fake, protocol=protocol(tmp_path / "mine.yaml", "he"), he=he)
    assert NAMES[1] in summary.not_computed["he"]
    assert summary.tables["fake"].overall["psnr"].n == len(NAMES)
    assert summary.exit_code == 0


@pytest.mark.usefixtures("added")
def test_an_image_without_partner_wants_nothing(folder: MakeFolder, tmp_path: Path) -> None:
    real, fake, he = folder("real"), folder("fake", seed=1, names=NAMES[:3]), folder("he", seed=2, names=NAMES[:3])
    summary = evaluate(real, fake, protocol=protocol(tmp_path / "mine.yaml", "he"), he=he)
    assert summary.tables["fake"].overall["he"].n == 3


@pytest.mark.usefixtures("added")
def test_pictures_want_a_metric_of_pairs(tmp_path: Path) -> None:
    path = protocol(tmp_path / "mine.yaml", "colour")
    path.write_text(path.read_text().replace("pictures_by: psnr", "pictures_by: colour"))
    with pytest.raises(RestainError, match="no value for a single image"):
        load_protocol(path)


def test_the_weights_that_made_a_number_are_on_record(
    folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = MetricInfo("Learned", "", Direction.LOWER, (0, 1), 1, "A test.", weights=("net.pth", "encoder"))
    list(METRICS)
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.add("learned", info)(lambda files: lambda pair: 0.5)
    weights = tmp_path / "weights"
    (weights / "encoder").mkdir(parents=True)
    (weights / "net.pth").write_bytes(b"one")
    (weights / "encoder" / "model").write_bytes(b"two")
    real, fake, rules = folder("real"), folder("fake"), protocol(tmp_path / "mine.yaml", "learned")
    first = evaluate(real, fake, protocol=rules, weights=weights).document()
    assert set(first["weights"]) == {"net.pth", "encoder"}
    (weights / "encoder" / "model").write_bytes(b"three")
    second = evaluate(real, fake, protocol=rules, weights=weights).document()
    assert second["weights"]["net.pth"] == first["weights"]["net.pth"]
    assert second["weights"]["encoder"] != first["weights"]["encoder"]


def test_a_folder_of_weights_must_be_there(folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(RestainError, match="--weights"):
        evaluate(folder("real"), folder("fake"), weights=tmp_path / "nowhere")
