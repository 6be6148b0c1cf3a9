"""Slides that want to do harm: they name other files, or hold far more than they say."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from restain.core.errors import UnreadableImageError
from restain.slides import open_slide

SIDE = 256
OTHER = "urn:uuid:00000000-0000-0000-0000-000000000002"


def ome(planes: str) -> str:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="256" SizeY="256" SizeC="3" SizeZ="1" '
        f'SizeT="1" Interleaved="true"><Channel ID="Channel:0:0" SamplesPerPixel="3"/>{planes}</Pixels></Image></OME>'
    )


def write(path: Path, value: int, description: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIDE, SIDE, 3), value, np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", description=description, metadata=None)
    return path


@pytest.mark.parametrize("name", ["../secret.tif", "absolute", "beside.tif"])
def test_a_slide_never_shows_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    secret = write(tmp_path / "secret.tif", 99)
    write(tmp_path / "served" / "beside.tif", 99)
    named = str(secret) if name == "absolute" else name
    planes = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="{named}">{OTHER}</UUID></TiffData>'
    slide = write(tmp_path / "served" / "slide.ome.tif", 11, ome(planes))
    with tifffile.TiffFile(slide) as tiff:  # tifffile alone opens the other
        assert [page.parent.filename for page in tiff.series[0].pages] == [Path(named).name]
    opened: list[object] = []
    init = tifffile.TiffFile.__init__

    def watched(self: tifffile.TiffFile, file: object, *args: object, **kwargs: object) -> None:
        opened.append(file)
        init(self, file, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tifffile.TiffFile, "__init__", watched)
    with open_slide(slide) as read:
        assert (read.read(0, 0, SIDE, SIDE) == 11).all()
    assert opened == [slide]


def test_a_slide_that_names_itself_is_read(tmp_path: Path) -> None:
    planes = f'<TiffData IFD="0" PlaneCount="1"><UUID FileName="slide.ome.tif">{OTHER}</UUID></TiffData>'
    slide = write(tmp_path / "slide.ome.tif", 11, ome(planes))
    renamed = write(tmp_path / "renamed.ome.tif", 12, ome(planes))
    for path, value in ((slide, 11), (renamed, 12)):
        with open_slide(path) as read:
            assert (read.read(0, 0, SIDE, SIDE) == value).all()


def test_an_index_of_micro_manager_beside_a_slide_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write(tmp_path / "slide.tif", 11)
    (tmp_path / "NDTiff.index").write_bytes(b"\0" * 64)
    monkeypatch.setattr(tifffile.TiffFile, "micromanager_metadata", {"MajorVersion": 3})

    def never(*_: object) -> None:
        raise AssertionError("the index was read")

    monkeypatch.setattr(tifffile.tifffile, "read_ndtiff_index", never)
    with open_slide(slide) as read:
        assert (read.read(0, 0, SIDE, SIDE) == 11).all()


def bomb(codec: str) -> bytes:
    """A picture of one colour with 4 million pixels: small stored, 12 MB decoded."""
    if codec == "jpeg":
        small = bytearray(imagecodecs.jpeg8_encode(np.zeros((SIDE, SIDE, 3), np.uint8), level=90))
        at = small.find(b"\xff\xc0") + 5
        small[at : at + 4] = struct.pack(">HH", 2000, 2000)
        return bytes(small)
    encode = {"webp": imagecodecs.webp_encode, "jpeg2000": imagecodecs.jpeg2k_encode}[codec]
    return bytes(encode(np.zeros((2000, 2000, 3), np.uint8)))


@pytest.mark.parametrize("codec", ["jpeg", "webp", "jpeg2000"])
def test_a_tile_that_holds_more_than_its_place_is_not_decoded(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, iter([bomb(codec)]), shape=(SIDE, SIDE, 3), dtype=np.uint8, tile=(SIDE, SIDE), photometric="rgb",
        compression=codec, metadata=None,
    )  # fmt: skip
    with open_slide(path) as slide:
        tracemalloc.start()
        with pytest.raises(UnreadableImageError, match=r"slide\.tif.*2000 x 2000 pixels in place of 256 x 256"):
            slide.read(0, 0, 10, 10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 6e6


@pytest.mark.parametrize("codec", ["jpeg", "webp", "jpeg2000"])
def test_honest_tiles_are_decoded(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "slide.tif"
    pixels = np.full((300, 400, 3), (200, 120, 150), np.uint8)
    tifffile.imwrite(path, pixels, tile=(SIDE, SIDE), photometric="rgb", compression=codec, metadata=None)
    with open_slide(path) as slide:
        assert np.abs(slide.read(0, 0, 400, 300).astype(int) - pixels).mean() < 3  # JPEG rings at padding
