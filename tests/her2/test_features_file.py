"""Files of features: ours, those of CLAM and TRIDENT, and what cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from restain.core.errors import ItemError, RestainError
from restain.her2.features_file import FeatureSet, read_features, write_features, writing


def feature_set(number: int = 7, width: int = 3, **other: object) -> FeatureSet:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(number, width)).astype(np.float32)
    coords = np.column_stack([np.arange(number), np.arange(number) // 2]) * 512
    names = tuple(f"c{i}" for i in range(width))
    whole = FeatureSet(features, coords.astype(np.int64), 512.0, 0.5, "morphometry", "1", names, "case 1")
    return replace(whole, **other)  # type: ignore[arg-type]


def test_written_and_read_again(tmp_path: Path) -> None:
    before = feature_set()
    write_features(tmp_path / "a.h5", before)
    after = read_features(tmp_path / "a.h5")
    assert np.array_equal(after.features, before.features)
    assert np.array_equal(after.coords, before.coords)
    assert after.features.dtype == np.float32
    assert after.coords.dtype == np.int64
    for name in ("tile_level0", "mpp", "encoder", "encoder_version", "names", "slide", "tile_px"):
        assert getattr(after, name) == getattr(before, name)
    assert after.level0_mpp == 0.25


def test_other_programs_find_what_they_look_for(tmp_path: Path) -> None:
    write_features(tmp_path / "a.h5", feature_set())
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].shape == (7, 3)
        coords = file["coords"]
        assert coords.shape == (7, 2)
        said = dict(coords.attrs)
    assert (said["patch_size"], said["patch_size_level0"], said["patch_level"], said["overlap"]) == (256, 512, 0, 0)
    assert (said["level0_magnification"], said["target_magnification"]) == (40, 20)


def clam(path: Path, patch_attributes: bool = True, three: bool = False) -> Path:
    """As CLAM writes it: patches of level 1, 256 px, that are 1024 px of level 0."""
    features = np.arange(8, dtype=np.float32).reshape(2, 4)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features[None] if three else features, maxshape=None)
        coords = file.create_dataset("coords", data=np.array([[0, 0], [1024, 2048]]))
        if patch_attributes:
            coords.attrs.update(patch_size=256, patch_level=1, downsample=np.array([4.0, 4.0]), name="theirs")
    return path


@pytest.mark.parametrize("three", [False, True])
def test_a_file_of_clam(tmp_path: Path, three: bool) -> None:
    found = read_features(clam(tmp_path / "x.h5", three=three), mpp=1.0)
    assert (found.tile_level0, found.mpp, found.slide, found.encoder) == (1024, 1.0, "theirs", "unknown")
    assert found.features.shape == (2, 4)
    assert found.coords.tolist() == [[0, 0], [1024, 2048]]
    assert found.level0_mpp == 0.25
    with pytest.raises(RestainError, match=r"x\.h5.*um/px.*restain her2 features .*x\.h5 .*--h5\.mpp"):
        read_features(tmp_path / "x.h5")


def test_a_file_that_says_nothing_of_its_tiles(tmp_path: Path) -> None:
    file = clam(tmp_path / "x.h5", patch_attributes=False)
    with pytest.raises(RestainError, match=r"--h5\.tile PX --h5\.tile-px PX --h5\.encoder NAME`"):
        read_features(file, mpp=0.5)
    assert read_features(file, mpp=0.5, tile=512).tile_level0 == 512
    assert read_features(file, mpp=0.5, tile=512).tile_px == 0, "not guessed"


def test_a_file_of_trident(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("features", data=np.ones((3, 5), np.float32))
        stored.attrs.update(name="t1", encoder="conch_v15", savetodir="/elsewhere")
        coords = file.create_dataset("coords", data=np.zeros((3, 2), np.int64))
        coords.attrs.update(
            patch_size=512,
            patch_size_level0=1024,
            level0_magnification=40,
            target_magnification=20,
            overlap=0,
            name="t1",
        )
    found = read_features(tmp_path / "x.h5")
    assert (found.mpp, found.tile_level0, found.tile_px, found.encoder, found.slide) == (
        0.5,
        1024,
        512,
        "conch_v15",
        "t1",
    )


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    bad = feature_set()
    bad.features[4, 1] = np.nan
    with pytest.raises(ItemError, match="2048, 1024"):
        write_features(tmp_path / "a.h5", bad)
    assert not list(tmp_path.iterdir()), "nothing is left"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["features"], file["coords"] = bad.features, bad.coords
    with pytest.raises(ItemError, match=r"b\.h5.*row 4.*NaN"):
        read_features(tmp_path / "b.h5", 0.5, 512)


def test_files_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file["features"] = np.zeros((2, 2))
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((0, 2)), np.zeros((0, 2))
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["features"], file["coords"] = np.zeros((3, 2)), np.zeros((2, 2))
    wanted = {"text": "not a readable", "half": "no coords", "empty": "no tiles", "odd": r"\[3, 2\]", "gone": "no such"}
    for name, message in wanted.items():
        with pytest.raises(ItemError, match=rf"{name}\.h5.*{message}"):
            read_features(tmp_path / f"{name}.h5", 0.5, 512)


def test_an_unfinished_file_is_not_there(tmp_path: Path) -> None:
    whole = feature_set()
    write_features(tmp_path / "a.h5", whole)
    info = whole  # has what FileInfo has
    with pytest.raises(ItemError, match="3 of 7 tiles"), writing(tmp_path / "c.h5", info, 7) as writer:  # type: ignore[arg-type]
        writer.append(whole.features[:3], whole.coords[:3])
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


ODD = {
    "a group": (lambda file: file.create_group("features"), None),
    "coords a group": (None, lambda file: file.create_group("coords")),
    "complex": (np.ones((2, 3), np.complex64), None),
    "texts": (np.array([["a"], ["b"]], "S"), None),
    "nothing": (h5py.Empty("f4"), None),
    "a number": (np.float32(3), None),
    "NaN places": (None, np.array([[0, 0], [np.nan, 512]])),
    "far places": (None, np.array([[0, 0], [0, 10**12]])),
    "infinite places": (None, np.array([[0, 0], [-np.inf, 512]])),
    "places as texts": (None, np.array([["0", "0"], ["1", "1"]], "S")),
    "beyond float32": (np.full((2, 3), 1e300), None),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_array_of_real_numbers_is_refused(tmp_path: Path, odd: str) -> None:
    features, coords = ODD[odd]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, given, usual in (("features", features, np.ones((2, 3))), ("coords", coords, np.zeros((2, 2)))):
            if callable(given):
                given(file)
            else:
                file[name] = usual if given is None else given
    with pytest.raises(ItemError, match=r"x\.h5: "):
        read_features(tmp_path / "x.h5", 0.5, 512)


@pytest.mark.parametrize("names", [np.arange(3), np.array([["a", "b", "c"]], "S"), np.array(["a"], "S"), None])
def test_names_that_are_none_are_refused(tmp_path: Path, names: np.ndarray | None) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"], file["coords"] = np.ones((2, 3)), np.zeros((2, 2))
        if names is None:
            file.create_group("names")
        else:
            file["names"] = names
    with pytest.raises(ItemError, match=r"x\.h5: names"):
        read_features(tmp_path / "x.h5", 0.5, 512)


@pytest.mark.parametrize("level", ["0", "first", np.array([0, 0]), np.array([]), 0, b"0"])
def test_attributes_of_odd_types(tmp_path: Path, level: object) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["features"], file["coords"] = np.ones((2, 3)), np.zeros((2, 2))
        file["coords"].attrs.update(patch_size=256, patch_level=level, target_magnification="20", name=np.array([b"n"]))
    if (isinstance(level, np.ndarray) and not level.size) or (isinstance(level, str) and level == "first"):
        with pytest.raises(RestainError, match="how large its tiles are"):
            read_features(tmp_path / "x.h5")
    else:
        found = read_features(tmp_path / "x.h5")
        assert (found.tile_level0, found.mpp, found.slide) == (256, 0.5, "n")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Any byte of what was measured: it is found by its checksum, and the file is named."""
    rng = np.random.default_rng(0)
    whole = feature_set(3000, 20)
    write_features(tmp_path / "a.h5", whole)
    healthy = (tmp_path / "a.h5").read_bytes()
    stored = healthy.find(whole.features[100:110].tobytes())
    places = healthy.find(whole.coords[1000:1010].tobytes())
    names = healthy.find(b"c10")
    assert min(stored, places, names) > 0
    texts = [place for place in range(len(healthy)) if healthy.startswith(b"morphometry", place)]
    damaging = 0
    for place in texts:  # the root's counts; that of the dataset is a copy
        damaged = bytearray(healthy)
        damaged[place] ^= 4
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            assert read_features(tmp_path / "a.h5").encoder == "morphometry"
        except ItemError:
            damaging += 1
    assert damaging == 1
    for place in (stored, places, names, *rng.integers(stored, stored + 800, 5)):
        damaged = bytearray(healthy)
        damaged[place] ^= 4
        (tmp_path / "a.h5").write_bytes(damaged)
        with pytest.raises(ItemError, match=r"a\.h5: .*damaged"):
            read_features(tmp_path / "a.h5")
