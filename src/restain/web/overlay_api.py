"""Overlays over HTTP: what can be shown on a slide, and its tiles.

As with the slide's own tiles, the browser keeps them under the stamps of all files that they are made of. They have
threads of their own: what takes long at first (a large file, nuclei) must not hold up the slide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from restain import __version__
from restain.core.errors import RestainError, UnreadableImageError
from restain.core.workers import cpu_threads
from restain.registration import Transform
from restain.slides import Slide
from restain.web import tiles
from restain.web.byte_cache import ByteCache
from restain.web.context import Context
from restain.web.failures import RefusedError
from restain.web.overlays import OVERLAYS, Overlay
from restain.web.overlays.base import RGB, Frame, Read, Registered, Scene, Source, Tile
from restain.web.overlays.canvas import encode
from restain.web.overlays.kept import Kept
from restain.web.paths import NotServedError
from restain.web.sources import Source as Listed
from restain.web.sources import SourceKind, sources_for
from restain.web.stamps import stamp
from restain.web.tile_api import given_up

SHOWS = {
    "membranes": SourceKind.CELLS,
    "nuclei": SourceKind.CELLS,
    "density": SourceKind.CELL_TABLE,
    "attention": SourceKind.ATTENTION,
    "patches": SourceKind.PATCHES,
}
"""Which files each overlay can show."""

_KEPT = 32 * 2**20
"""Bytes of encoded tiles that the server keeps."""
_LISTED_S = 5.0
"""Seconds for which the files of a slide are not looked up anew."""
_FOR_GOOD = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_PREVIEW = "preview:"
_OTHER = {"he": " (of the H&E)", "ihc": " (of the IHC)"}

Number = Annotated[int, InPath(ge=0, le=2**40)]
Name = Annotated[str, Query(max_length=4096)]
Role = Literal["he", "ihc"]


def router(context: Context) -> APIRouter:
    """``/api/overlays`` and ``/api/overlay``."""
    routes = APIRouter()
    server = _Overlays(context)
    threads = anyio.CapacityLimiter(2 + 2 * cpu_threads())

    @routes.get("/api/overlays")
    def overlays(
        response: Response,
        path: Name,
        role: Role | None = None,
        registration: Name | None = None,
        via: Name | None = None,
    ) -> list[dict[str, Any]]:
        response.headers["Cache-Control"] = "no-store"
        return server.offers(_Wanted(path, via, registration, role))

    @routes.get("/api/overlay/{kind}/{z}/{x}/{y}")
    async def overlay(
        request: Request,
        kind: Annotated[str, InPath(max_length=40)],
        z: Number,
        x: Number,
        y: Number,
        path: Name,
        v: Name | None = None,
        via: Name | None = None,
        source: Name | None = None,
        registration: Name | None = None,
        role: Role | None = None,
        s: Name | None = None,
    ) -> Response:
        wanted = _Wanted(path, via, registration, role, source)
        known = request.headers.get("if-none-match", "")
        async with threads:
            if await given_up(request):
                return Response(status_code=499)
            return await run_sync(server.tile, wanted, kind, (z, x, y), v, s, known)

    return routes


@dataclass(frozen=True)
class _Wanted:
    """What a request names."""

    path: str
    via: str | None
    registration: str | None
    role: Role | None
    source: str | None = None


class _Overlays:
    """Makes the answers."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = Kept()
        self._cache = ByteCache(_KEPT)
        self._listed: dict[tuple[Path, str | None, Path | None], tuple[float, list[Listed]]] = {}

    def offers(self, wanted: _Wanted) -> list[dict[str, Any]]:
        """What can be shown on a slide."""
        file = self._context.root.resolve(wanted.path)
        registered = self._registered(wanted.via or wanted.registration)
        listed = self._sources(file, wanted)
        found = []
        with self._scene(wanted, file, registered, None, alone=False) as scene:
            for overlay in OVERLAYS.values():
                fitting = [one for one in listed if one.kind is SHOWS.get(overlay.kind)]
                entries = [self._offer(overlay, scene, one) for one in _chosen(fitting, overlay.needs_source)]
                found += [entry for entry in entries if entry is not None]
        return found

    def tile(
        self, wanted: _Wanted, kind: str, place: tuple[int, int, int], seen: str | None, mark: str | None, known: str
    ) -> Response:
        """A tile of an overlay.

        Args:
            wanted: what the request names.
            kind: of the overlay.
            place: z, x and y of the tile.
            seen: the slide's stamp that the browser knows.
            mark: the stamp of the overlay's own files that the browser knows.
            known: header If-None-Match.
        """
        overlay = OVERLAYS.get(kind)
        if overlay is None:
            raise RefusedError(404, f"There is no overlay {kind!r}; there are {', '.join(OVERLAYS)}.")
        file = self._context.root.resolve(wanted.path)
        registered = self._registered(wanted.via or wanted.registration)
        source = self._source(file, wanted)
        now = stamp(file)
        shown = f"{now}-{registered.stamp}" if wanted.via is not None and registered is not None else now
        if seen not in (None, now, shown):
            raise RefusedError(410, f"{file.name!r} has changed since it was opened. Reload the page.")
        files = _mark(source, registered)
        lasting = seen is not None and (mark == files or (source is None and registered is None))
        key = f"{now}-{files}-{wanted.role or ''}-{'via' if wanted.via else ''}-{'-'.join(map(str, place))}"
        headers = {"ETag": f'"{kind}-{key}"', "Cache-Control": _FOR_GOOD if lasting else _ASK_AGAIN}
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        name = (kind, file, source, key)
        data = self._cache.get(name)
        if data is None:
            data = self._rendered(overlay, wanted, file, registered, source, place)
            self._cache.put(name, data)
        if not data:
            return Response(status_code=204, headers=headers)
        return Response(data, headers=headers, media_type="image/png")

    def _rendered(
        self,
        overlay: Overlay,
        wanted: _Wanted,
        file: Path,
        registered: Registered | None,
        source: Source | None,
        place: tuple[int, int, int],
    ) -> bytes:
        """The tile as PNG; nothing where it is empty."""
        try:
            with self._scene(wanted, file, registered, source, alone=False) as scene:
                picture = overlay.render(scene, _tile(scene, place))
        except UnreadableImageError:  # of this tile, or of one that another request asked for at the same time
            with self._scene(wanted, file, registered, source, alone=True) as scene:
                picture = overlay.render(scene, _tile(scene, place))
        return b"" if picture is None else encode(picture)

    def _offer(self, overlay: Overlay, scene: Scene, one: Listed | None) -> dict[str, Any] | None:
        """What ``/api/overlays`` says of an overlay and the file that it would show; None: nothing."""
        whose = "" if one is None or one.item is not None else _OTHER.get(one.frame, "")
        entry: dict[str, Any] = {
            "kind": overlay.kind,
            "label": overlay.label + whose,
            "source": None if one is None else self._context.root.relative(one.path),
            "source_frame": "own" if one is None else one.frame,
            "coarsest_z": None,
            "legend": [],
            "note": "",
            "stamp": "",
        }
        try:
            source = None if one is None else _source_of(one)
            offer = overlay.offer(replace(scene, source=source))
        except (UnreadableImageError, NotServedError):  # of the slide; the file is gone
            if one is None:
                raise
            return None
        except RestainError as error:  # the file is damaged, and the others can be shown
            return entry | {"note": str(error)}
        if offer is None:
            return None
        words = [word.rstrip(".") + "." for word in ("" if one is None else one.label, offer.note) if word]
        return entry | {
            "coarsest_z": offer.coarsest_z,
            "legend": [{"label": line.label, "color": line.color} for line in offer.legend],
            "note": " ".join(words),
            "stamp": _mark(source, scene.registered),
            **offer.more,
        }

    def _registered(self, name: str | None) -> Registered | None:
        if name is None:
            return None
        if name.startswith(_PREVIEW):
            from restain.web import landmarks  # which serves slides, too

            given = name.removeprefix(_PREVIEW)
            return Registered(landmarks.preview_transform(self._context, given), given)
        path = self._context.root.resolve(name)
        return Registered(self._context.pool.transforms.load(path), stamp(path), path.parent.name)

    def _sources(self, file: Path, wanted: _Wanted) -> list[Listed]:
        """The files that overlays can show on a slide; looked up anew after some seconds."""
        name = wanted.via or wanted.registration
        folder = None if name is None or name.startswith(_PREVIEW) else self._context.root.resolve(name)
        role = "he" if wanted.via is not None else wanted.role
        key, now = (file, role, folder), time.monotonic()
        at, listed = self._listed.get(key, (-_LISTED_S, []))
        if now - at >= _LISTED_S:
            listed = sources_for(self._context, file, role, folder)
            self._listed = {k: v for k, v in self._listed.items() if now - v[0] < _LISTED_S} | {key: (now, listed)}
        return listed

    def _source(self, file: Path, wanted: _Wanted) -> Source | None:
        """The file that a request names; one that the slide is not known to have is taken to be on its own px."""
        if wanted.source is None:
            return None
        path = self._context.root.resolve(wanted.source)
        listed = [one for one in self._sources(file, wanted) if one.path == path]
        return _source_of(listed[0]) if listed else Source(path, Frame.own, stamp(path))

    @contextmanager
    def _scene(
        self, wanted: _Wanted, file: Path, registered: Registered | None, source: Source | None, alone: bool
    ) -> Iterator[Scene]:
        """The slide as it is shown, open as long as the block lasts."""
        pool = self._context.pool
        with pool.open(file, alone=alone) as slide:
            if wanted.via is not None and registered is not None:
                transform = registered.transform
                with pool.warped(file, transform, alone) as warped:

                    def read(x: float, y: float, width: int, height: int, step: float) -> RGB:
                        return warped.read(x, y, width, height, step * transform.ihc_mpp)[0]

                    size = (transform.ihc_size[0], transform.ihc_size[1])
                    coarsest = tiles.coarsest_z(slide, transform)
                    yield Scene(
                        slide, stamp(file), size, transform.ihc_mpp, Frame.ihc, Frame.he, read, coarsest,
                        self._kept, registered, source,
                    )  # fmt: skip
                return
            part = Frame(wanted.role) if wanted.role is not None and registered is not None else Frame.own
            mpp = slide.mpp
            if registered is not None and part is not Frame.own:
                mpp = _checked(slide, registered.transform, part)
            yield Scene(
                slide, stamp(file), slide.size, mpp, part, part, _reader(slide), tiles.coarsest_z(slide),
                self._kept, registered, source,
            )  # fmt: skip


def _reader(slide: Slide) -> Read:
    def read(x: float, y: float, width: int, height: int, step: float) -> RGB:
        return slide.read_reduced(x, y, width, height, step)

    return read


def _checked(slide: Slide, transform: Transform, part: Frame) -> float | None:
    """The slide's um/px, from the registration where the file does not say it.

    Raises:
        RefusedError: the registration is of another slide.
    """
    size, mpp = (transform.he_size, transform.he_mpp) if part is Frame.he else (transform.ihc_size, transform.ihc_mpp)
    if tuple(size) != slide.size:
        raise RefusedError(422, f"{slide.path.name!r} is not the {part.value} slide of this registration: other size.")
    return slide.mpp if slide.mpp is not None else mpp


def _tile(scene: Scene, place: tuple[int, int, int]) -> Tile:
    z, x, y = place
    try:
        box = tiles.box(scene.size, z, x, y)
    except tiles.NoTileError as error:
        raise RefusedError(404, f"{error}.") from error
    return Tile(z, x, y, box.width, box.height)


def _chosen(listed: list[Listed], needed: bool) -> Sequence[Listed | None]:
    """The slide's own files; else what needs no file (None) and those of the other slide."""
    own = [one for one in listed if one.frame == "own"]
    return own or ([] if needed else [None]) + listed


def _source_of(one: Listed) -> Source:
    return Source(one.path, Frame(one.frame), stamp(one.path), one.item)


def _mark(source: Source | None, registered: Registered | None) -> str:
    """Changes when a file does that an overlay is made of, beside the slide, or restain itself."""
    files = [
        __version__,
        "" if source is None else f"{source.path.name} {source.stamp} {source.frame.value} {source.item}",
        "" if registered is None else registered.stamp,
    ]
    return hashlib.blake2b("\n".join(files).encode(), digest_size=9).hexdigest()
