"""Slides and their tiles over HTTP.

A tile is never read twice where that can be helped: the browser keeps it for good under the slide's stamp, and the
server keeps the tiles given last. Tiles that need much reading have threads of their own, few of them, so that they
neither fill the memory nor hold up the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from restain.core.errors import UnreadableImageError
from restain.core.workers import cpu_threads
from restain.registration import Transform
from restain.slides import Slide
from restain.web import tiles
from restain.web.byte_cache import ByteCache
from restain.web.context import Context
from restain.web.failures import RefusedError
from restain.web.slide_pool import CONVERT
from restain.web.stamps import stamp

_KEPT = 32 * 2**20
"""Bytes of encoded tiles that the server keeps."""
_HEAVY = 2**22
"""Stored pixels above which a tile has to queue with the heavy ones (an ordinary one needs 0.3 to 1 million)."""
_HEAVY_THREADS = 2
_FOR_GOOD = "private, max-age=31536000, immutable"
_ASK_AGAIN = "private, no-cache"
_PREVIEW = "preview:"

Number = Annotated[int, InPath(ge=0, le=2**40)]
Name = Annotated[str, Query(max_length=4096)]


@dataclass(frozen=True)
class _Wanted:
    """A tile that a request asks for; ``key`` names these pixels and no others."""

    path: Path
    via: Transform | None
    z: int
    x: int
    y: int
    key: str


def router(context: Context) -> APIRouter:
    """``/api/slide`` and ``/api/tile``."""
    routes = APIRouter()
    server = _Tiles(context)
    light, heavy = anyio.CapacityLimiter(2 + 2 * cpu_threads()), anyio.CapacityLimiter(_HEAVY_THREADS)

    @routes.get("/api/slide")
    def slide(
        response: Response, path: Name, via: Name | None = None, mpp: Annotated[float | None, Query(gt=0)] = None
    ) -> dict[str, Any]:
        response.headers["Cache-Control"] = "no-store"
        file = context.root.resolve(path)
        if via is None:
            return slide_document(context, file, mpp)
        transform, version = server.registration(via)
        return warped_document(context, file, transform, version)

    @routes.get("/api/tile/{z}/{x}/{y}")
    async def tile(
        request: Request, z: Number, x: Number, y: Number, path: Name, v: Name | None = None, via: Name | None = None
    ) -> Response:
        known = request.headers.get("if-none-match", "")
        made = await run_sync(server.tile, z, x, y, path, v, via, known, limiter=light)
        if isinstance(made, Response):
            return made
        async with heavy:
            if await given_up(request):
                return Response(status_code=499)
            return await run_sync(made, limiter=light)

    return routes


def slide_document(context: Context, path: Path, mpp: float | None = None) -> dict[str, Any]:
    """What ``/api/slide`` says of a slide.

    Args:
        context: of the server.
        path: as ``Root.resolve`` gives it.
        mpp: um/px of level 0, in place of what the file says.

    Raises:
        RestainError: it cannot be read, or only whole (see ``SlidePool.open``).
    """
    with context.pool.open(path, mpp) as slide:
        return _document(context, slide, slide.size, slide.mpp, slide.levels, tiles.coarsest_z(slide)) | {
            "stamp": stamp(path)
        }


def warped_document(context: Context, path: Path, transform: Transform, version: str) -> dict[str, Any]:
    """The same of an H&E on its IHC's grid: size, um/px and stamp are those of its tiles ``via`` the registration."""
    with context.pool.open(path) as slide:
        coarsest = tiles.coarsest_z(slide, transform)
        size = (transform.ihc_size[0], transform.ihc_size[1])
        return _document(context, slide, size, transform.ihc_mpp, [size], coarsest) | {
            "stamp": f"{stamp(path)}-{version}"
        }


def _document(
    context: Context,
    slide: Slide,
    size: tuple[int, int],
    mpp: float | None,
    levels: list[tuple[int, int]],
    coarsest: int,
) -> dict[str, Any]:
    last = tiles.max_z(size)
    problem = None
    if coarsest < last:
        problem = f"The slide has no coarse levels, so it can be seen only near, 1 : {2 ** max(coarsest, 0)}. {CONVERT}"
    return {
        "path": context.root.relative(slide.path),
        "name": slide.path.name,
        "size": list(size),
        "mpp": mpp,
        "reader": slide.reader,
        "levels": [list(level) for level in levels],
        "tile": tiles.TILE,
        "max_z": last,
        "coarsest_z": coarsest,
        "problem": problem,
    }


class _Tiles:
    """Makes the answers of ``/api/tile``."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cache = ByteCache(_KEPT)

    def registration(self, via: str) -> tuple[Transform, str]:
        """The registration that a request names, and its stamp."""
        if via.startswith(_PREVIEW):
            from restain.web import landmarks  # which serves slides, too

            name = via.removeprefix(_PREVIEW)
            return landmarks.preview_transform(self._context, name), name
        path = self._context.root.resolve(via)
        return self._context.pool.transforms.load(path), stamp(path)

    def tile(
        self, z: int, x: int, y: int, path: str, seen: str | None, via: str | None, known: str
    ) -> Response | Callable[[], Response]:
        """The answer; for a tile that needs much reading, what makes it.

        Args:
            z: of the tile.
            x: of the tile.
            y: of the tile.
            path: the slide's name.
            seen: the stamp that the browser knows.
            via: the registration's name.
            known: header If-None-Match.
        """
        file = self._context.root.resolve(path)
        version = now = stamp(file)
        transform = None
        if via is not None:
            transform, registered = self.registration(via)
            version = f"{now}-{registered}"
        if seen not in (None, now, version):
            raise RefusedError(410, f"{file.name!r} has changed since it was opened. Reload the page.")
        lasting = seen is not None and (seen == version or (via or "").startswith(_PREVIEW))
        wanted = _Wanted(file, transform, z, x, y, f"{version}-{z}-{x}-{y}")
        headers = {"ETag": f'"{wanted.key}"', "Cache-Control": _FOR_GOOD if lasting else _ASK_AGAIN}
        if headers["ETag"] in known:
            return Response(status_code=304, headers=headers)
        data = self._cache.get((file, wanted.key))
        if data is not None:
            return Response(data, headers=headers, media_type="image/jpeg")
        with self._context.pool.open(file) as slide:
            need = self._checked(slide, wanted)

        def make() -> Response:
            made = self._made(wanted)
            self._cache.put((file, wanted.key), made)
            return Response(made, headers=headers, media_type="image/jpeg")

        return make if need > _HEAVY else make()

    @staticmethod
    def _checked(slide: Slide, wanted: _Wanted) -> int:
        """Stored pixels that the tile needs, at most.

        Raises:
            RefusedError: there is no such tile, or it needs more than one request may read.
        """
        try:
            tiles.box(slide.size if wanted.via is None else wanted.via.ihc_size, wanted.z, wanted.x, wanted.y)
        except tiles.NoTileError as error:
            raise RefusedError(404, f"{error}.") from error
        need = tiles.cost(slide, wanted.z, wanted.via)
        if need > tiles.BUDGET:
            raise RefusedError(
                422, f"{wanted.path.name!r} has no level that is coarse enough for this view; zoom in. {CONVERT}"
            )
        return need

    def _made(self, wanted: _Wanted) -> bytes:
        try:
            return self._rendered(wanted, alone=False)
        except UnreadableImageError:  # of this tile, or of one that another request asked for at the same time
            return self._rendered(wanted, alone=True)

    def _rendered(self, wanted: _Wanted, alone: bool) -> bytes:
        pool, place = self._context.pool, (wanted.z, wanted.x, wanted.y)
        if wanted.via is not None:
            with pool.warped(wanted.path, wanted.via, alone) as he:
                return tiles.encode(tiles.render_warped(he, wanted.via, *place))
        with pool.open(wanted.path, alone=alone) as slide:
            return tiles.encode(tiles.render(slide, *place))


async def given_up(request: Request) -> bool:
    """Whether the browser has given up (it does when the view moves on). The first message is the request's end."""
    return await request.is_disconnected() or await request.is_disconnected()
