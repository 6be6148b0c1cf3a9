"""A submission is checked before it is sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.evaluate.conftest import NAMES, MakeFolder

from restain.cli.main import main
from restain.core.errors import RestainError
from restain.evaluate.submission import check_submission, expected_of_folder, expected_of_table
from restain.slides import write_image

Make = Callable[..., np.ndarray]


def kinds(folder: Path, real: Path) -> list[tuple[str, str]]:
    return sorted(
        (problem.kind, problem.file) for problem in check_submission(folder, expected_of_folder(real)).problems
    )


def test_a_good_submission(folder: MakeFolder, image: Make) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    Image.fromarray(image(1)).save(fake / f"{NAMES[0]}.png", "JPEG")  # as in BCI
    (fake / "stain.json").write_text("{}")
    assert kinds(fake, real) == []


def test_names_that_do_not_match(folder: MakeFolder, image: Make, capsys: pytest.CaptureFixture[str]) -> None:
    real, fake = folder("real"), folder("fake", seed=1, names=NAMES[1:])
    write_image(fake / "stray.png", image(7))
    (fake / "notes.txt").write_text("x")
    (fake / "more").mkdir()
    assert kinds(fake, real) == [
        ("missing", NAMES[0]), ("unexpected", "more"), ("unexpected", "notes.txt"), ("unexpected", "stray"),
    ]  # fmt: skip
    assert main(["submission", str(fake), "--real", str(real)]) == 1
    said = capsys.readouterr().err
    assert f"missing (1): {NAMES[0]}" in said
    assert "unexpected (3): stray, more, notes.txt" in said


def test_files_that_are_not_8_bit_rgb(folder: MakeFolder, image: Make) -> None:
    real, fake = folder("real", names=[f"i{n}" for n in range(7)]), folder("fake", seed=1, names=["i0"])
    array = image(5)
    cv2.imwrite(str(fake / "i1.png"), array.astype(np.uint16) * 257)
    cv2.imwrite(str(fake / "i2.png"), array[..., 0])
    Image.fromarray(np.dstack([array, array[..., 0]])).save(fake / "i3.png")
    Image.fromarray(array).convert("P").save(fake / "i4.png")
    Image.fromarray(array[..., 0] > 100).save(fake / "i5.png")
    Image.fromarray(image(6)).save(fake / "i6.png")
    found = {problem.file: problem for problem in check_submission(fake, expected_of_folder(real)).problems}
    assert sorted(found) == [f"i{n}.png" for n in range(1, 6)]
    assert all(problem.kind == "depth" for problem in found.values())
    words = {"i1": "16 bits", "i2": "grey", "i3": "alpha", "i4": "palette", "i5": "1 bits"}
    assert all(word in found[f"{name}.png"].message for name, word in words.items())


def test_sixteen_bit_tiff(tmp_path: Path, image: Make) -> None:
    tifffile = pytest.importorskip("tifffile")
    for folder, kind in (("real", np.uint8), ("fake", np.uint16)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", image(1).astype(kind), photometric="rgb")
    assert kinds(tmp_path / "real", tmp_path / "real") == []
    assert kinds(tmp_path / "fake", tmp_path / "real") == [("depth", "a.tif")]


def test_sizes_duplicates_and_broken_files(folder: MakeFolder, image: Make) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    write_image(fake / f"{NAMES[0]}.png", image(0, side=30))
    shutil.copy(fake / f"{NAMES[1]}.png", fake / f"{NAMES[2]}.png")
    (fake / f"{NAMES[3]}.png").write_bytes((fake / f"{NAMES[3]}.png").read_bytes()[:300])
    assert kinds(fake, real) == [
        ("duplicate", f"{NAMES[1]}.png"), ("size", f"{NAMES[0]}.png"), ("unreadable", f"{NAMES[3]}.png"),
    ]  # fmt: skip
    shutil.copy(real / f"{NAMES[1]}.png", real / f"{NAMES[2]}.png")  # the real images are the same, too
    assert ("duplicate", f"{NAMES[1]}.png") not in kinds(fake, real)


def test_one_name_for_two_files(folder: MakeFolder, image: Make) -> None:
    real, fake = folder("real"), folder("fake", seed=1)
    write_image(fake / f"{NAMES[0]}.jpg", image(9))
    assert kinds(fake, real) == [("duplicate", f"{NAMES[0]}.jpg"), ("suffix", f"{NAMES[0]}.jpg")]


def test_names_from_a_table(folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake, table = folder("fake"), tmp_path / "expected.csv"
    table.write_text("name,width,height\n" + "".join(f"{name}.png,24,24\n" for name in NAMES))
    assert check_submission(fake, expected_of_table(table)).problems == []
    table.write_text("name,width,height\n" + "".join(f"{name},24,25\n" for name in NAMES))
    assert main(["submission", str(fake), "--expected", str(table), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["images"], found["expected"]) == (False, 4, 4)
    assert {problem["kind"] for problem in found["problems"]} == {"size"}
    for text, word in (("name\n", "no names"), ("name\na\na.png\n", "twice"), ("name,width\na,3\n", "no size")):
        table.write_text(text)
        with pytest.raises(RestainError, match=word):
            expected_of_table(table)


def test_names_of_a_results_folder(folder: MakeFolder, tmp_path: Path) -> None:
    for number, role in enumerate(("real_A", "fake_B", "real_B")):
        folder("results", seed=number, pattern="images/{}_" + role + ".png")
    results = tmp_path / "results"
    assert sorted(expected_of_folder(results).sizes) == sorted(NAMES)
    assert kinds(folder("fake", seed=4), results) == []
    folder("results", pattern="images/{}_real_B.jpg", names=NAMES[:1])
    with pytest.raises(RestainError, match="Remove all but one"):
        expected_of_folder(results)


def test_wrong_use(folder: MakeFolder, tmp_path: Path) -> None:
    fake = folder("fake")
    assert main(["submission", str(fake)]) == 2
    assert main(["submission", str(fake), "--real", str(fake), "--expected", "x.csv"]) == 2
    assert main(["submission", str(tmp_path / "absent"), "--real", str(fake)]) == 2
    assert main(["submission", str(fake), "--real", str(tmp_path / "absent")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["submission", str(fake), "--real", str(tmp_path / "empty")]) == 2
    assert main(["submission", str(tmp_path / "empty"), "--real", str(fake)]) == 1
