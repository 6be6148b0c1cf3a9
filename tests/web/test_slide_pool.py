"""The pool of open slides: bounded, shared, never closed under a reader, and true after a file changes."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restain.core.errors import RestainError, UnreadableImageError
from restain.registration import Transform
from restain.slides import Slide, open_slide, write_image
from restain.slides import sources as slide_sources
from restain.web import slide_pool
from restain.web.byte_cache import ByteCache
from restain.web.failures import RefusedError
from restain.web.paths import NotServedError
from restain.web.slide_pool import SlidePool
from restain.web.stamps import stamp
from tests.web.slides import damage, flat, pattern, pyramid, quartered


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pool")
    return [pyramid(folder / f"{number}.ome.tif", pattern(600, 400, number)) for number in range(6)]


class Watch:
    """Counts what is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, delay: float = 0.0) -> None:
        self.opened: list[Slide] = []
        self.now = self.most = 0
        lock, close = threading.Lock(), Slide.close

        def opening(path: Path, mpp: float | None = None) -> Slide:
            slide = open_slide(path, mpp)
            with lock:
                self.opened.append(slide)
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(delay)
            return slide

        def closing(slide: Slide) -> None:
            with lock:
                self.now -= 1
            close(slide)

        monkeypatch.setattr(slide_pool, "open_slide", opening)
        monkeypatch.setattr(Slide, "close", closing)


def test_a_slide_is_opened_once_for_all(slides: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    watch, pool, together = Watch(monkeypatch, delay=0.05), SlidePool(), threading.Barrier(8)

    def use(_: int) -> Slide:
        together.wait()
        with pool.open(slides[0]) as slide:
            return slide

    with ThreadPoolExecutor(8) as threads:
        found = set(map(id, threads.map(use, range(8))))
    assert len(found) == len(watch.opened) == 1
    with pool.open(slides[0], mpp=2.0) as other, pool.open(slides[0]) as first:
        assert (other.mpp, first.mpp) == (2.0, 0.5)
    pool.close()
    assert watch.now == 0


def test_threads_read_what_one_reads(slides: list[Path]) -> None:
    pool = SlidePool()
    boxes = [(path, x, y, 1.0 + x % 3) for path in slides[:2] for x in range(0, 500, 45) for y in range(0, 300, 70)]

    def read(box: tuple[Path, int, int, float]) -> np.ndarray:
        path, x, y, factor = box
        with pool.open(path) as slide:
            return slide.read_reduced(x, y, 60, 50, factor)

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(read, boxes))
    for (path, x, y, factor), pixels in zip(boxes, together, strict=True):
        with open_slide(path) as slide:
            assert np.array_equal(pixels, slide.read(x, y, 60, 50, 0.5 * factor))


def test_the_bound_holds_and_what_is_in_use_stays_open(slides: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    watch, pool = Watch(monkeypatch), SlidePool(files=3)
    rng = np.random.default_rng(0)
    turns = [int(n) for n in rng.integers(0, len(slides), 120)]

    def use(number: int) -> None:
        with pool.open(slides[number]) as slide:
            assert pool.kept[0] <= 3
            time.sleep(0.002)
            slide.read(0, 0, 20, 20)  # raises where it was closed
            assert slide.path == slides[number]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, turns))
    assert watch.most == 3
    assert len(watch.opened) > len(slides)
    pool.close()
    assert watch.now == 0
    assert pool.kept == (0, 0)


def test_the_least_used_makes_room(slides: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    watch, pool = Watch(monkeypatch), SlidePool(files=2)
    for number in (0, 1, 0, 2, 0, 1):
        with pool.open(slides[number]):
            pass
    assert [slide.path for slide in watch.opened] == [slides[0], slides[1], slides[2], slides[1]]


def test_who_finds_no_room_waits_and_is_told_in_the_end(slides: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slide_pool, "_WAIT", 0.3)
    pool = SlidePool(files=1)
    with pool.open(slides[0]):
        with pytest.raises(RefusedError, match="at once") as refused, pool.open(slides[1]):
            pass
        assert refused.value.status == 503
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(lambda: pool.open(slides[1]).__enter__())
            time.sleep(0.1)
            assert not waiting.done()
            with pool.open(slides[0]) as again:  # what is open is there for all
                again.read(0, 0, 5, 5)
            pool_free = waiting
            time.sleep(0.05)
            assert not pool_free.done()
            with pytest.raises(RefusedError):
                pool_free.result(2)


def test_memory_is_bounded_too(tmp_path: Path, slides: list[Path]) -> None:
    pictures = [tmp_path / f"{number}.png" for number in range(4)]
    for path in pictures:
        write_image(path, pattern(500, 500))
    pool = SlidePool(memory=2 * 4 * 500 * 500)
    for path in pictures:
        with pool.open(path):
            pass
    assert pool.kept == (2, 2_000_000)
    with pool.open(slides[0]):  # a tiled slide of 600 x 400 can keep no 64 MiB
        assert pool.kept[1] <= 2_000_000 or pool.kept[0] == 1


def test_large_plain_images_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (20_000, 10_000)).save(tmp_path / "large.png")
    Image.new("1", (9_999, 9_999)).save(tmp_path / "allowed.png")
    monkeypatch.setattr(slide_sources, "load_image", lambda path: Image.new("RGB", (10, 10)))
    pool = SlidePool()
    with (
        pytest.raises(UnreadableImageError, match=r"20000 x 10000 px .* pyramidal OME-TIFF"),
        pool.open(tmp_path / "large.png"),
    ):
        pass
    with pool.open(tmp_path / "allowed.png"):
        pass


def test_a_replaced_file_is_opened_anew_and_the_old_one_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, pool = Watch(monkeypatch), SlidePool()
    path = pyramid(tmp_path / "a.ome.tif", np.full((50, 50, 3), 10, np.uint8))
    with pool.open(path) as old:
        first = stamp(path)
        pyramid(path, np.full((60, 60, 3), 200, np.uint8))
        assert stamp(path) != first
        with pool.open(path) as new:
            assert new.size == (60, 60)
            assert new.read(0, 0, 9, 9).mean() == 200
        assert old.read(0, 0, 9, 9).mean() == 10  # still the file that it was
        assert watch.now == 2
    assert watch.now == 1
    path.unlink()
    with pytest.raises(NotServedError), pool.open(path):
        pass


def test_a_file_cut_short_while_it_is_open_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = flat(tmp_path / "a.tif", pattern(500, 400))  # plain samples in one piece
    pool = SlidePool()
    with pool.open(path) as slide:
        whole = slide.read(0, 0, 500, 400)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(UnreadableImageError):
            slide.read(0, 300, 500, 100)
        assert np.array_equal(slide.read(10, 20, 30, 40), whole[20:60, 10:40])


@pytest.mark.parametrize("kind", ["pyramid", "quartered"])
def test_after_an_error_a_slide_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    make = pyramid if kind == "pyramid" else quartered
    path = make(tmp_path / "a.tif", pattern(700, 500))
    damage(path, page=0, tile=0)
    watch, pool = Watch(monkeypatch), SlidePool()
    with pytest.raises(UnreadableImageError), pool.open(path) as slide:
        slide.read(0, 0, 50, 50)
    with pool.open(path) as slide:
        slide.read(400, 300, 50, 50)
    assert len(watch.opened) == 2
    with pool.open(path, alone=True) as private:
        assert private is not slide
    assert watch.now == 1


def test_what_cannot_be_opened_is_not_kept(tmp_path: Path) -> None:
    pool, path = SlidePool(), tmp_path / "a.tif"
    for content in (b"II*\0" + b"\1" * 200, b"text", b""):
        path.write_bytes(content)
        with ThreadPoolExecutor(4) as threads:
            failures = [threads.submit(lambda: pool.open(path).__enter__()).exception(10) for _ in range(4)]
        assert all(isinstance(failure, UnreadableImageError) for failure in failures)
        assert pool.kept == (0, 0)
    flat(path, pattern(50, 50))
    with pool.open(path) as slide:
        assert slide.size == (50, 50)


def test_a_registration_is_read_once_and_its_glass_looked_for_once(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "transform.json"
    transform = Transform(np.eye(3), None, (0.0, 0.0), 1.0, (600, 400), (600, 400), 0.5, 0.5)
    transform.save(path)
    looked, glass = 0, slide_pool._glass

    def counted(slide: Slide) -> np.ndarray:
        nonlocal looked
        looked += 1
        return glass(slide)

    monkeypatch.setattr(slide_pool, "_glass", counted)
    pool = SlidePool()

    def use(_: int) -> object:
        with pool.warped(slides[0], path) as warped:
            return warped

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(use, range(16)))) == 1
    assert looked == 1
    with pool.warped(slides[0], transform) as preview:  # one that lies in memory
        assert preview.read(0, 0, 9, 9)[0].shape == (9, 9, 3)
    assert looked == 2
    for number in range(9):
        Transform(np.eye(3), None, (0.0, 0.0), 1.0, (600, 400), (600, 400 + number), 0.5, 0.5).save(path)
        with pool.warped(slides[0], path) as warped:
            assert warped._transform.ihc_size == (600, 400 + number)
    with pool._opened(slides[0], None, alone=False) as entry:
        assert len(entry.warped) <= 4
    wrong = Transform(np.eye(3), None, (0.0, 0.0), 1.0, (60, 40), (600, 400), 0.5, 0.5)
    with pytest.raises(RestainError, match="does not belong"), pool.warped(slides[0], wrong):
        pass


def test_the_glass_of_a_slide_without_a_pyramid_is_found_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full((7000, 7000, 3), (229, 228, 230), np.uint8)
    pixels[2000:5000, 1000:6000] = (180, 90, 150)
    path = flat(tmp_path / "a.tif", pixels, tile=(256, 256), compression="deflate")
    sides = []
    read = Slide._read

    def watched(self: Slide, x: float, y: float, w: int, h: int, fx: float, fy: float) -> np.ndarray:
        sides.append(max(w * fx, h * fy))
        return read(self, x, y, w, h, fx, fy)

    monkeypatch.setattr(Slide, "_read", watched)
    transform = Transform(np.eye(3), None, (0.0, 0.0), 1.0, (7000, 7000), (7000, 7000), 0.5, 0.5)
    with SlidePool().warped(path, transform) as warped:
        assert np.abs(warped.white.astype(int) - (229, 228, 230)).max() <= 1
    assert max(sides) <= 64


def test_a_closed_pool_opens_nothing(slides: list[Path]) -> None:
    pool = SlidePool()
    with pool.open(slides[0]) as slide:
        pool.close()
        slide.read(0, 0, 5, 5)
    with pytest.raises(RefusedError), pool.open(slides[0]):
        pass


def test_the_cache_of_answers_is_bounded() -> None:
    cache = ByteCache(100)
    for number in range(50):
        cache.put(number % 20, bytes(number % 7 * 10))
        assert cache.size <= 100
        cache.get(3)
    cache.put("large", bytes(101))
    assert cache.get("large") is None
    cache.put(3, b"new")
    assert cache.get(3) == b"new"
    for number in range(9):
        cache.put(f"x{number}", bytes(10))
        assert cache.get(3) == b"new"  # used again and again
