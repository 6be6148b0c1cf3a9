"""``/api/report``: reports that restain wrote, shown so that nothing in them can act."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from restain.web.context import Context
from restain.web.library import describe_report
from restain.web.outside import require_small
from restain.web.paths import NotServedError

LARGEST = 2**27
"""Bytes of a report: its pictures are in it."""
POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""No script, no request, no form, no access to the page that shows it."""


def router(context: Context) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/api/report")
    def report(path: str) -> Response:
        file = context.root.resolve(path)
        if describe_report(file) is None:
            raise NotServedError(f"{path[:300]!r}: not a report that restain wrote.")
        require_small(file, LARGEST)
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        # sent piece by piece: clients that read slowly must not hold it in memory, each its own
        return FileResponse(file, media_type="text/html; charset=utf-8", headers=headers)

    return routes
