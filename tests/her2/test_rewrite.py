"""Features of CLAM and TRIDENT, from their files through `her2 features` to a training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from restain.cli.main import main
from restain.her2.features_file import read_features
from tests.her2.cohort import write_rows

TOLD = ["--h5.encoder", "resnet50", "--h5.mpp", "0.5", "--h5.tile-px", "256", "--h5.tile", "512"]


def theirs(path: Path, label: int, attributes: dict[str, object] | None = None) -> Path:
    """As CLAM writes features: two arrays and nothing else; or with attributes, as TRIDENT does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path.stem) + label).normal(size=(9, 4)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["features"] = values + label
        file["coords"] = np.stack([np.arange(9) % 3, np.arange(9) // 3], 1) * 512
        file["coords"].attrs.update(attributes or {})
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    rows = []
    for number in range(8):
        name = f"s{number}"
        theirs(tmp_path / "clam" / f"{name}.h5", 3 * (number % 2))
        rows.append({"patient": name, "he": f"{name}.svs", "her2": "03"[number % 2]})
    write_rows(tmp_path / "cohort.csv", rows)
    return tmp_path / "cohort.csv"


def train(cohort: Path, features: Path) -> int:
    words = ["--cohort", str(cohort), "--features", str(features), "--out", str(cohort.parent / "run")]
    return main(["her2", "train", "mean_pool", *words, "--training.epochs", "1"])


def test_features_of_clam_can_be_trained_on(cohort: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cohort.parent / "clam"
    assert train(cohort, folder) == 2
    said = capsys.readouterr().err.replace("\n", "")
    assert f"restain her2 features {folder / 's0.h5'} --out FOLDER --h5.tile PX --h5.mpp UM_PER_PX" in said
    out = cohort.parent / "ready"
    assert main(["her2", "features", str(folder), "--out", str(out), *TOLD, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert list(rows) == [f"s{number}" for number in range(8)]
    assert (rows["s3"]["tiles"], rows["s3"]["columns"], rows["s3"]["encoder"]) == (9, 4, "resnet50")
    before, after = read_features(folder / "s3.h5", 0.5, 512), read_features(out / "s3.h5")
    assert np.array_equal(before.features, after.features)
    assert np.array_equal(before.coords, after.coords)
    assert (after.encoder, after.mpp, after.tile_px, after.tile_level0) == ("resnet50", 0.5, 256, 512)
    assert train(cohort, out) == 0


def test_only_what_a_file_does_not_say_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"patch_size": 512, "patch_size_level0": 1024, "target_magnification": 20}
    files = [theirs(tmp_path / "a.h5", 0, said), theirs(tmp_path / "b.h5", 0, {**said, "encoder": "conch_v15"})]
    call = ["her2", "features", *map(str, files), "--out", str(tmp_path / "out"), "--json"]
    assert main(call) == 1
    found = json.loads(capsys.readouterr().out)
    assert "which encoder made it" in found["failures"]["a"]
    assert "--h5.encoder NAME`" in found["failures"]["a"]
    assert "um/px" not in found["failures"]["a"]
    assert (found["results"]["b"]["encoder"], found["results"]["b"]["mpp"]) == ("conch_v15", 0.5)
    assert main([*call, "--h5.encoder", "uni"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["results"]["a"]["encoder"] == "uni"
    assert "says encoder conch_v15 and not uni" in found["failures"]["b"]


def test_files_of_the_same_name_keep_their_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("P1", "P2")):
        theirs(tmp_path / "theirs" / name / "he.h5", number)
    assert main(["her2", "features", str(tmp_path / "theirs"), "--out", str(tmp_path / "out"), *TOLD]) == 0
    means = [float(read_features(tmp_path / "out" / name / "he.h5").features.mean()) for name in ("P1", "P2")]
    assert means[1] - means[0] > 0.3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--mpp", "0.5"], 2, "--mpp: is for slides.*--h5.mpp"),
        (["--encoder", "resnet50"], 2, "--encoder: is for slides.*--h5.encoder"),
        (["--tile-px", "512"], 2, "--tile-px.*--h5.tile-px"),
        (["--h5.mpp", "0"], 2, r"--h5\.mpp 0: give a number above 0"),
        (["--h5.encoder", " "], 2, r"--h5\.encoder: name"),
        (["--h5.mpp", "5000"], 2, "5000 is no um/px"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    file = theirs(tmp_path / "a.h5", 0)
    told = [] if words[0].startswith("--h5") else TOLD
    kept = [*TOLD[:2], *TOLD[4:]] if "5000" in words else told
    assert main(["her2", "features", str(file), "--out", str(tmp_path / "out"), *kept, *words]) == code
    assert re.search(message, capsys.readouterr().err.replace("\n", " "))


def test_files_are_not_written_over_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = theirs(tmp_path / "a.h5", 0).read_bytes()
    assert main(["her2", "features", str(tmp_path), "--out", str(tmp_path), *TOLD]) == 2
    assert "another --out" in capsys.readouterr().err
    assert (tmp_path / "a.h5").read_bytes() == before
    (tmp_path / "x.svs").write_text("")
    files = [str(tmp_path / name) for name in ("a.h5", "x.svs")]
    assert main(["her2", "features", *files, "--out", str(tmp_path / "out")]) == 2
    assert "two calls" in capsys.readouterr().err
    assert main(["her2", "features", files[1], "--out", str(tmp_path / "out"), *TOLD]) == 2
    assert "slides were given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--h5.tile-px", "224"], "tile-px 256.0 and not 224"),
        (["--h5.tile", "1024"], "tile 256.0 and not 1024"),
        (["--h5.mpp", "0.25"], "mpp 0.5 and not 0.25"),
    ],
)
def test_what_a_file_says_is_not_overruled(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"patch_level": 0, "patch_size": 256, "target_magnification": 20}
    file = theirs(tmp_path / "x" / "a.h5", 0, told)
    out = ["--out", str(tmp_path / "out"), "--h5.encoder", "resnet50"]
    assert main(["her2", "features", str(file), *out, *words]) != 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert main(["her2", "features", str(file), *out, "--h5.mpp", "0.503"]) == 0, "20x is nominal"
    assert read_features(tmp_path / "out" / "a.h5").mpp == 0.503
