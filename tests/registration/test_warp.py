"""The H&E on the IHC's grid against an analytic picture and OpenCV's whole-image remap; borders, seams, failures."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from restain.core.errors import ItemError, MissingResolutionError
from restain.registration import Transform, WarpedSlide, warp_slide
from restain.registration.warp import FADE_UM, MASK_FACTOR
from restain.slides import open_slide

from ..infer.conftest import he_picture, write_slide
from .maps import by_scipy, elastic


def colours(x: np.ndarray, y: np.ndarray, mpp: float) -> np.ndarray:
    """A smooth picture as a function of the place in px of ``mpp``; darker than glass everywhere."""
    x, y = x * mpp, y * mpp
    planes = [np.sin(x / 9 + y / 23), np.sin(x / 17 - y / 8), np.cos(x / 31) * np.sin(y / 12)]
    return 150 + 60 * np.stack(planes, axis=-1)


def centres(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5))


def smooth_slide(path: Path, size: tuple[int, int], mpp: float) -> Path:
    return write_slide(path, np.rint(colours(*centres(*size), mpp)).astype(np.uint8), mpp)


def on_he(transform: Transform, width: int, height: int) -> np.ndarray:
    """H&E positions of the IHC's pixel centres, [height, width, 2], computed by other libraries."""
    x, y = centres(width, height)
    return by_scipy(transform, np.stack([x.ravel(), y.ravel()], axis=1)).reshape(height, width, 2)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("mpp", [(0.5, 0.5), (0.25, 0.5), (0.35, 0.5), (0.5, 0.25)])
def test_every_pixel_shows_its_place(tmp_path: Path, mpp: tuple[float, float], mirrored: bool) -> None:
    transform = elastic((500, 420), degrees=25, mirrored=mirrored, mpp=mpp)
    with open_slide(smooth_slide(tmp_path / "he.ome.tif", transform.he_size, mpp[0])) as he:
        found, real = WarpedSlide(he, transform).read(0, 0, 500, 420)
    place = on_he(transform, 500, 420)
    inside = ((place > 3) & (place < np.array(transform.he_size) - 3)).all(axis=2)
    assert inside.mean() > 0.6
    assert real[inside].all()
    wanted = colours(place[..., 0], place[..., 1], mpp[0])
    assert np.abs(found - wanted)[inside].max() < 3
    assert np.abs(found - wanted)[inside].mean() < 0.6


def test_coarser_views_are_the_reduced_picture(tmp_path: Path) -> None:
    transform = elastic((800, 640), degrees=10)
    with open_slide(smooth_slide(tmp_path / "he.ome.tif", transform.he_size, 0.5)) as he:
        warped = WarpedSlide(he, transform)
        fine, _ = warped.read(0, 0, 800, 640)
        coarse, real = warped.read(0, 0, 200, 160, mpp=2.0)
    means = fine.reshape(160, 4, 200, 4, 3).mean(axis=(1, 3))
    inner = cv2.erode(real.astype(np.uint8), np.ones((7, 7)), borderValue=0).astype(bool)
    assert inner.mean() > 0.6
    assert np.abs(means - coarse)[inner].mean() < 1.5


@pytest.mark.parametrize("mpp", [(0.5, 0.5), (0.4, 0.5)])
def test_parts_equal_the_whole_also_where_filled(tmp_path: Path, mpp: tuple[float, float]) -> None:
    transform = elastic((700, 600), degrees=30, mpp=mpp)
    picture = he_picture(*transform.he_size)
    with open_slide(write_slide(tmp_path / "he.ome.tif", picture, mpp[0])) as he:
        warped = WarpedSlide(he, transform)
        whole, real = warped.read(0, 0, 700, 600)
        assert 0.05 < 1 - real.mean() < 0.6
        for x, y, width, height in ((0, 0, 350, 311), (350, 0, 350, 600), (123, 345, 77, 155), (600, 500, 100, 100)):
            part, part_real = warped.read(x, y, width, height)
            same = np.s_[y : y + height, x : x + width]
            np.testing.assert_array_equal(part_real, real[same])
            assert np.abs(part.astype(int) - whole[same]).max() <= 3  # OpenCV interpolates in steps of 1/32 px


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Transform, np.ndarray]:
    """A slide of two by two blocks, streamed."""
    folder = tmp_path_factory.mktemp("warped")
    transform = elastic((1500, 1237), degrees=15, he_size=(1400, 1100), amplitude=25)
    picture = np.maximum(he_picture(1440, 1180)[40:1140, 40:], 60)  # tissue up to three of the edges
    with open_slide(write_slide(folder / "he.ome.tif", picture, 0.5)) as he:
        result = warp_slide(he, transform, folder / "out.ome.tif", folder / "filled.ome.tif", quality=98)
    assert result.slide == folder / "out.ome.tif"
    return folder, transform, picture


def test_streaming_equals_one_remap_of_the_whole(written: tuple[Path, Transform, np.ndarray]) -> None:
    folder, transform, picture = written
    place = on_he(transform, 1500, 1237).astype(np.float32)
    whole = cv2.remap(picture, place[..., 0] - 0.5, place[..., 1] - 0.5, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    inside = ((place >= 0) & (place <= (1400, 1100))).all(axis=2)
    with open_slide(folder / "out.ome.tif") as slide:
        assert slide.size == (1500, 1237)
        assert slide.mpp == 0.5
        found = slide.read(0, 0, 1500, 1237)
    error = np.abs(found.astype(int) - whole)
    assert error[inside].mean() < 1  # what JPEG leaves
    assert np.percentile(error[inside], 99.9) < 12
    seams = np.zeros_like(inside)
    seams[[1023, 1024]] = seams[:, [1023, 1024]] = True
    assert error[inside & seams].mean() < 1.1 * error[inside].mean() + 0.1
    # beyond the edge, near it: the mirrored slide
    x, y = place[..., 0], place[..., 1]
    close = ~inside & (x > -4) & (x < 1404) & (y > -4) & (y < 1104)
    assert close.sum() > 500
    assert error[close].mean() < 4


def test_filled_places_are_marked_and_end_in_glass(written: tuple[Path, Transform, np.ndarray]) -> None:
    folder, transform, picture = written
    place = on_he(transform, 1500, 1237)
    beyond = np.linalg.norm(place - np.clip(place, 0, (1400, 1100)), axis=2)
    with open_slide(folder / "filled.ome.tif") as slide:
        assert slide.size == (188, 155)
        assert slide.mpp == 0.5 * MASK_FACTOR
        mask = slide.read(0, 0, 188, 155)[..., 0]
    padded = np.pad(beyond > 0, ((0, 3), (0, 4)))
    wanted = padded.reshape(155, 8, 188, 8).any(axis=(1, 3))
    assert set(np.unique(mask)) == {0, 255}
    assert ((mask == 255) != wanted).mean() < 0.001
    with open_slide(folder / "out.ome.tif") as slide:
        found = slide.read(0, 0, 1500, 1237).astype(int)
    far = beyond > FADE_UM / transform.he_mpp + 16
    assert far.sum() > 1000
    glass = picture[5, -5].astype(int)
    assert np.abs(found[far] - glass).max() <= 4
    assert found[beyond > 0].min() > 40  # nothing black
    # no jump where the filling begins: neighbours there differ no more than within the slide
    for axis in (0, 1):
        jump = np.abs(np.diff(found, axis=axis)).mean(axis=2)
        real = beyond == 0
        first, second = (real[:-1], real[1:]) if axis == 0 else (real[:, :-1], real[:, 1:])
        assert jump[first != second].mean() < 1.5 * jump[first & second].mean() + 1


def test_the_share_filled_and_an_h_and_e_that_covers_all(tmp_path: Path) -> None:
    shift = np.array([[1.0, 0, -30], [0, 1, 0], [0, 0, 1]])
    transform = Transform(shift, None, (0, 0), 1, (300, 200), (300, 200), 0.5, 0.5)
    with open_slide(write_slide(tmp_path / "he.ome.tif", he_picture(300, 200), 0.5)) as he:
        warped = warp_slide(he, transform, tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
        assert warped.filled == pytest.approx(0.1)
        same = replace(transform, matrix=np.eye(3))
        assert warp_slide(he, same, tmp_path / "a.ome.tif", tmp_path / "b.ome.tif").filled == 0
        far = replace(transform, matrix=shift - [[0, 0, 9e5], [0, 0, 0], [0, 0, 0]])
        assert warp_slide(he, far, tmp_path / "a.ome.tif", tmp_path / "b.ome.tif").filled == 1
        rgb, real = WarpedSlide(he, same).read(0, 0, 300, 200)
        assert real.all()
        np.testing.assert_array_equal(rgb, he.read(0, 0, 300, 200))


def test_unfit_slides_are_refused(tmp_path: Path) -> None:
    transform = elastic((300, 200))
    path = write_slide(tmp_path / "he.ome.tif", he_picture(300, 200), None)
    with open_slide(path) as he, pytest.raises(MissingResolutionError, match="--mpp"):
        WarpedSlide(he, transform)
    with open_slide(path, 0.5) as he, pytest.raises(ValueError, match="transform's H&E"):
        WarpedSlide(he, elastic((400, 200)))


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = elastic((1100, 200))
    with open_slide(write_slide(tmp_path / "he.ome.tif", he_picture(1100, 200), 0.5)) as he:

        def broken(self: WarpedSlide, x: int, *rest: int) -> None:
            raise ItemError(f"he.ome.tif: damaged at {x}")

        monkeypatch.setattr(WarpedSlide, "read", broken)
        with pytest.raises(ItemError, match="damaged at 0"):
            warp_slide(he, transform, tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["he.ome.tif"]


def test_a_full_disk_is_a_clear_message_and_leaves_nothing(tmp_path: Path) -> None:
    write_slide(tmp_path / "he.ome.tif", he_picture(600, 500), 0.5)
    code = f"""
        import resource, signal
        from pathlib import Path
        import numpy as np
        from restain.core.errors import ItemError
        from restain.registration import Transform, warp_slide
        from restain.slides import open_slide
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        folder = Path("{tmp_path}")
        turn = np.array([[0.9, 0.3, 0], [-0.3, 0.9, 0], [0, 0, 1]])
        try:
            with open_slide(folder / "he.ome.tif") as he:
                transform = Transform(turn, None, (0, 0), 1, (600, 500), (600, 500), 0.5, 0.5)
                warp_slide(he, transform, folder / "a.ome.tif", folder / "b.ome.tif")
        except ItemError as error:
            print("message:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "a.ome.tif: could not be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["he.ome.tif"]
