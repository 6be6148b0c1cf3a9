"""The application: routes of all parts, their errors, and the pages that Vite built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from restain import __version__
from restain.web import case, landmarks, library, overlay_api, reading, reports, runs, tile_api
from restain.web.context import Context, ServeOptions
from restain.web.failures import handle_failures
from restain.web.paths import Root
from restain.web.security import protect
from restain.web.slide_pool import SlidePool

STATIC = Path(__file__).parent / "static"
"""What ``make web`` builds from ``frontend/``."""

NOT_BUILT = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>restain</title>
<h1>The pages are not built</h1><p>Install Node.js 20.19 or later, then run <code>make web</code> in restain's folder
and start <code>restain serve</code> again. All other commands work without it.</p></html>"""

ROOM_ONLY = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Reading room</title>
<h1>Reading room</h1><p>Open the link of your study: it ends in <code>/read/</code> and the study's name.</p></html>"""
"""Of a server that serves the reading room and nothing else; it does not list its studies."""


def create_app(options: ServeOptions) -> FastAPI:
    """The server of one folder.

    Args:
        options: what is served, to whom.

    Raises:
        ItemError: the folder is not there.
    """
    root = Root(options.folder)
    context = Context(root, SlidePool(root.serves), options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.pool.close()

    app = FastAPI(
        title="restain", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.context = context
    handle_failures(app, root.folder)
    protect(app, options)
    app.include_router(reading.router(context))
    if not options.reading_room:
        for part in (tile_api, overlay_api, library, case, landmarks, runs, reports):
            app.include_router(part.router(context))
    _serve_pages(app, options)
    return app


def _serve_pages(app: FastAPI, options: ServeOptions) -> None:
    index = STATIC / "index.html"

    def page() -> Response:
        if not index.is_file():
            return HTMLResponse(NOT_BUILT, 503)
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    app.add_api_route("/read/{study}", page, methods=["GET"])
    app.add_api_route("/", (lambda: HTMLResponse(ROOM_ONLY)) if options.reading_room else page, methods=["GET"])
    if (STATIC / "assets").is_dir():
        app.mount("/assets", StaticFiles(directory=STATIC / "assets"))
