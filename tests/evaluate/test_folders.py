"""Which images are found and how they are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.evaluate.conftest import NAMES, MakeFolder

from restain.core.errors import RestainError
from restain.evaluate.folders import FAKE, REAL, SOURCE, named_files, real_folder
from restain.slides import read_image


def test_a_plain_folder(folder: MakeFolder) -> None:
    found = real_folder(folder("real"))
    assert tuple(found.images) == NAMES
    assert [image.level for image in found.images.values()] == ["0", "1+", "1+", "3+"]
    assert found.images[NAMES[0]].read().shape == (24, 24, 3)
    assert found.images[NAMES[0]].read_he is None


def test_pix2pix_results(folder: MakeFolder) -> None:
    root = folder("results", pattern="images/{}_fake_B.png")
    folder("results", pattern="images/{}_real_B.png")
    folder("results", pattern="images/{}_real_A.png")
    fakes = named_files(root, FAKE)
    assert tuple(fakes.files) == NAMES
    assert all(path.stem.endswith("_fake_B") for path in fakes.files.values())
    reals = real_folder(root, he=root)
    assert tuple(reals.images) == NAMES
    assert all(image.path.stem.endswith("_real_B") for image in reals.images.values())
    assert reals.images[NAMES[0]].read_he is not None


def test_cut_results(folder: MakeFolder) -> None:
    root = folder("results", pattern="images/fake_B/{}.png")
    folder("results", pattern="images/real_B/{}.png")
    assert tuple(named_files(root, FAKE).files) == NAMES
    assert "fake_B" in str(named_files(root, FAKE).files[NAMES[0]])
    assert "real_B" in str(real_folder(root).images[NAMES[0]].path)


def test_results_bring_their_he(folder: MakeFolder) -> None:
    for pattern in ("images/{}_%s.png", "images/%s/{}.png"):
        for number, role in enumerate(("real_A", "fake_B", "real_B")):
            root = folder(pattern[7:9], seed=number, pattern=pattern % role)
        found = real_folder(root).images[NAMES[0]]
        assert found.read_he is not None
        he = root / (pattern % "real_A").format(NAMES[0])
        assert (found.read_he() == read_image(he)).all()
        assert (found.read() != read_image(he)).any()


def test_sides_of_a_dataset(folder: MakeFolder) -> None:
    ihc = folder("data", pattern="IHC/test/{}.png")
    folder("data", seed=1, pattern="HE/test/{}.png", names=[*NAMES[1:], "lone_test_0"])
    for role, stain in ((REAL, "IHC"), (SOURCE, "HE")):
        found = real_folder(ihc, role=role).images
        assert sorted(found) == sorted(path.stem for path in (ihc / stain / "test").iterdir())
        assert all(
            (image.read() == read_image(ihc / stain / "test" / f"{name}.png")).all() for name, image in found.items()
        )


def test_a_dataset_brings_its_he(folder: MakeFolder) -> None:
    folder("data", pattern="IHC/test/{}.png")
    root = folder("data", pattern="HE/test/{}.png", names=NAMES[1:])
    found = real_folder(root)
    assert tuple(found.images) == NAMES  # also the image without H&E
    assert found.images[NAMES[1]].read_he is not None
    assert found.images[NAMES[0]].read_he is None
    with pytest.raises(RestainError, match=r"split 'val'; it has test \(3\)"):
        real_folder(root, split="val")


def test_pairs_csv_gives_levels_and_patients(folder: MakeFolder) -> None:
    root = folder("data", pattern="IHC/test/{}.png").parent / "data"
    rows = [f"{NAMES[0]},2+,P1,1", f"{NAMES[1]},,P2,1", f"{NAMES[2]},low,P2,1", f"{NAMES[3]},3+,P3,0"]
    (root / "pairs.csv").write_text("name,level,patient,kept\n" + "\n".join(rows) + "\n")
    found = real_folder(root / "IHC" / "test").images
    assert [(image.level, image.patient) for image in found.values()] == [("2+", "P1"), ("1+", "P2"), ("low", "P2")]


def test_two_files_of_one_name_are_not_guessed(folder: MakeFolder) -> None:
    root = folder("real")
    folder("real", pattern="{}.jpg", names=NAMES[:1])
    found = real_folder(root)
    assert tuple(found.images) == NAMES[1:]
    assert "00000_test_0.jpg" in found.ambiguous[NAMES[0]]
    assert "00000_test_0.png" in found.ambiguous[NAMES[0]]


def test_no_folder_or_no_images(tmp_path: Path) -> None:
    with pytest.raises(RestainError, match="no such folder"):
        real_folder(tmp_path / "nowhere")
    with pytest.raises(RestainError, match="no such folder"):
        named_files(tmp_path / "nowhere", FAKE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RestainError, match="no images in it"):
        named_files(tmp_path / "empty", FAKE)
    with pytest.raises(RestainError, match="empty"):
        real_folder(tmp_path / "empty")
