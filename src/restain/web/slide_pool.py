"""Open slides that all requests share: few enough for memory, each opened once, none closed while it is read."""

from __future__ import annotations

import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restain.core.errors import ItemError, RestainError, UnreadableImageError
from restain.registration import Transform, WarpedSlide
from restain.slides import Slide, glass_colour, open_slide
from restain.slides.decoding import FORMATS, check_directories, is_tiff, no_pillow_limit, readable
from restain.slides.sources import openslide_vendor
from restain.slides.tiff_source import CACHE_BYTES
from restain.web.companions import check_companions
from restain.web.failures import RefusedError
from restain.web.outside import own_file
from restain.web.stamps import stamp
from restain.web.tiles import BUDGET, cost
from restain.web.transforms import Transforms

PLAIN_PIXELS = 100_000_000
"""Images without tiles must be decoded whole; larger ones are refused."""
CONVERT = "Convert it to a pyramidal OME-TIFF, for example with QuPath or `vips tiffsave --tile --pyramid`."
_PLAIN_BYTES, _STORED_BYTES = 4, 8
"""Of a decoded pixel: as Pillow keeps it, and at most in a cache of tiles (four channels of 16 bit)."""
_WARPED = 4
"""Registrations kept with an open slide."""
_MOST_HE = 16
"""H&E px that a px of a tile may need (see ``WarpedSlide``): 4 along each side."""
_MOST_STORED = 4 * BUDGET
"""Stored px of the H&E that a tile may need: of a bent section more than ``tiles.cost`` expects."""
_WAIT = 20.0
"""Seconds that a request waits for room while all slides are being read."""

_Key = tuple[Path, str, float | None, object]
"""File, stamp, um/px, and who has it alone (None: it is shared)."""


@dataclass(eq=False)
class _Entry:
    """One open slide; ``users`` requests read it, ``cost`` is what it may keep in memory, in bytes.

    A ``plain`` image has no tiles and is kept decoded. One ``spoilt`` by an error is read no more: OpenSlide gives
    nothing after its first. One that is ``retired`` is handed out no more, and closed when its last user leaves.
    """

    key: _Key
    cost: int
    plain: bool
    users: int = 1
    slide: Slide | None = None
    failure: RestainError | None = None
    spoilt: bool = False
    retired: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    warping: threading.Lock = field(default_factory=threading.Lock)
    warped: list[tuple[Transform, WarpedSlide]] = field(default_factory=list)


class SlidePool:
    """Open slides, the least used of which make room for others.

    Safe to use from threads.

    Args:
        serves: whether a resolved path may be read; None: any.
        files: slides open at once, at most.
        memory: bytes that they may keep, at most: decoded tiles, and plain images, which are decoded whole.
    """

    def __init__(self, serves: Callable[[Path], bool] | None = None, files: int = 48, memory: int = 2**30) -> None:
        self._serves = serves or (lambda _: True)
        self._files, self._memory = files, memory
        self._changed = threading.Condition()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._retired: set[_Entry] = set()
        self._closed = False
        self._decoding = threading.Lock()  # one plain image at a time: decoding takes several times its size
        self.transforms = Transforms(self._serves)

    @contextmanager
    def open(self, path: Path, mpp: float | None = None, alone: bool = False) -> Iterator[Slide]:
        """The slide in a file, as long as the block lasts.

        Args:
            path: as ``Root.resolve`` gives it.
            mpp: um/px of level 0, in place of what the file says.
            alone: open it anew, for this block only: after an error, which spoils OpenSlide's handle for all.

        Raises:
            NotServedError: there is no such file.
            UnreadableImageError: damaged, of an unsupported kind, or it could only be read whole and is too large.
            RefusedError: all slides are in use for long (503), or the file changes while it is opened (410).
        """
        with self._opened(path, mpp, alone) as entry:
            assert entry.slide is not None
            yield entry.slide

    @contextmanager
    def warped(self, he: Path, via: Path | Transform, alone: bool = False) -> Iterator[WarpedSlide]:
        """An H&E on the grid of its IHC, as long as the block lasts.

        Args:
            he: the H&E, as ``Root.resolve`` gives it; one that does not say its um/px has that of the registration.
            via: the registration, or its transform.json.
            alone: as for ``open``.

        Raises:
            RefusedError: the registration is of an H&E of another size (422).
            ItemError: the registration cannot be read.
            UnreadableImageError: as for ``open``.
        """
        transform = via if isinstance(via, Transform) else self.transforms.load(via)
        with ExitStack() as stack:
            entry = stack.enter_context(self._opened(he, None, alone))
            if entry.slide is not None and entry.slide.mpp is None:
                entry = stack.enter_context(self._opened(he, transform.he_mpp, alone))
            yield _warped(entry, transform)

    def close(self) -> None:
        """Close all; those in use are closed when their last user leaves."""
        with self._changed:
            self._closed = True
            for entry in list(self._entries.values()):
                self._retire(entry)

    @property
    def kept(self) -> tuple[int, int]:
        """(slides open, bytes that they may keep)."""
        with self._changed:
            entries = [*self._entries.values(), *self._retired]
            return len(entries), sum(entry.cost for entry in entries)

    @contextmanager
    def _opened(self, path: Path, mpp: float | None, alone: bool) -> Iterator[_Entry]:
        key = (path, stamp(path), mpp, object() if alone else None)
        entry, mine = self._found(key), False
        if entry is None:
            entry, mine = self._taken(key, *self._need(path))  # which looks into the file, so not under the lock
        try:
            if mine:
                self._fill(entry)
            entry.ready.wait()
            if entry.failure is not None:
                raise entry.failure
            yield entry
        except UnreadableImageError:
            entry.spoilt = True
            raise
        finally:
            self._left(entry)

    def _found(self, key: _Key) -> _Entry | None:
        """The entry of ``key``, with one user more."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(key)
            return entry

    def _taken(self, key: _Key, need: int, plain: bool) -> tuple[_Entry, bool]:
        """The entry of ``key`` with one user more, and whether the caller must open its slide."""
        deadline = time.monotonic() + _WAIT
        with self._changed:
            while True:
                found = self._found(key)
                if found is not None:
                    return found, False
                if self._closed:
                    raise RefusedError(503, "The server is closing.")
                for old in [e for k, e in self._entries.items() if k[0] == key[0] and k[1] != key[1]]:
                    self._retire(old)  # the file was replaced
                if self._room(need):
                    entry = self._entries[key] = _Entry(key, need, plain)
                    return entry, True
                if not self._changed.wait(deadline - time.monotonic()):
                    raise RefusedError(503, "Too many slides are being read at once. Try again in a moment.")

    def _room(self, need: int) -> bool:
        """Close idle slides, the least used first, until one more of ``need`` bytes fits; whether it does."""
        while True:
            entries = [*self._entries.values(), *self._retired]
            if len(entries) < self._files and sum(entry.cost for entry in entries) + need <= self._memory:
                return True
            idle = next((entry for entry in self._entries.values() if entry.users == 0), None)
            if idle is None:
                return False
            self._retire(idle)

    def _fill(self, entry: _Entry) -> None:
        """Open the slide of a new entry; what goes wrong is told to all who wait for it."""
        path, seen, mpp, _ = entry.key
        try:
            with self._decoding if entry.plain else nullcontext():
                entry.slide = open_slide(path, mpp)
            if cost(entry.slide, 0) > BUDGET:
                raise UnreadableImageError(f"{path}: is stored in pieces that are too large to be shown. {CONVERT}")
            if not own_file(path) or stamp(path) != seen:  # a link since it was resolved leads anywhere
                raise RefusedError(410, f"{path.name!r} changed while it was opened. Reload the page.")
            if not entry.plain:  # a small slide cannot fill its cache
                stored = sum(width * height for width, height in entry.slide.levels)
                with self._changed:
                    entry.cost = min(entry.cost, 2**20 + _STORED_BYTES * stored)
                    self._changed.notify_all()
        except RestainError as error:
            entry.failure = error
        except BaseException:
            entry.failure = ItemError(f"{path}: could not be opened. Reload the page.")
            raise
        finally:
            if entry.failure is not None:
                with self._changed:
                    self._retire(entry)
            entry.ready.set()

    def _need(self, path: Path) -> tuple[int, bool]:
        """Bytes that the slide may keep while it is open, at most, and whether it is a plain image.

        Raises:
            UnreadableImageError: it could only be decoded whole and is too large for that, or belongs to files
                outside of the served folder.
        """
        tiff = is_tiff(path)
        if tiff:
            check_directories(path)
        vendor = openslide_vendor(path)
        check_companions(path, vendor, self._serves)
        if tiff or vendor is not None:
            return min(CACHE_BYTES, self._memory), False
        with readable(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with no_pillow_limit(), Image.open(path, formats=FORMATS) as image:
                width, height = image.size
        if width * height > min(PLAIN_PIXELS, self._memory // _PLAIN_BYTES):
            raise UnreadableImageError(f"{path}: {width} x {height} px are too many for a plain image. {CONVERT}")
        return width * height * _PLAIN_BYTES, True

    def _retire(self, entry: _Entry) -> None:
        """Hand the slide out no more; close it now or when its last user leaves. The lock is held."""
        if entry.retired:
            return
        entry.retired = True
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        self._retired.add(entry)
        if entry.users == 0:
            self._shut(entry)

    def _left(self, entry: _Entry) -> None:
        with self._changed:
            entry.users -= 1
            if (entry.spoilt or entry.key[3] is not None) and not entry.retired:
                self._retire(entry)
            elif entry.users == 0 and entry.retired:
                self._shut(entry)
            self._changed.notify_all()

    def _shut(self, entry: _Entry) -> None:
        self._retired.discard(entry)
        entry.warped.clear()
        if entry.slide is not None:
            entry.slide.close()


def _warped(entry: _Entry, transform: Transform) -> WarpedSlide:
    """The slide of ``entry`` through a registration; kept with it, because looking for the glass takes time."""
    assert entry.slide is not None
    with entry.warping:
        for number, (known, warped) in enumerate(entry.warped):
            if known is transform:
                entry.warped.append(entry.warped.pop(number))
                return warped
        try:
            warped = WarpedSlide(entry.slide, transform, _glass(entry.slide), _MOST_HE, _MOST_STORED)
        except ValueError as error:
            raise RefusedError(
                422, f"The registration does not belong to this H&E: {error}. Register the slides again."
            ) from error
        entry.warped.append((transform, warped))
        del entry.warped[:-_WARPED]
        return warped


def _glass(slide: Slide) -> NDArray[np.uint8]:
    """The colour of the glass; where the whole slide cannot be looked at, from 64 places of it."""
    side = min(1024, max(slide.size))
    if slide.cost(side, side, max(slide.size) / side) <= BUDGET:
        return glass_colour(slide.thumbnail(1024))
    width, height = slide.size
    rows = [
        np.concatenate([slide.read(x * width / 8, y * height / 8, 64, 64) for x in range(8)], axis=1) for y in range(8)
    ]
    return glass_colour(np.concatenate(rows))
