"""Errors as answers: ``{"error": message}`` with a status that says whose fault it is."""

from __future__ import annotations

import errno
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from restain.core.errors import MissingResolutionError, RestainError, UnreadableImageError
from restain.web.paths import NotServedError


class RefusedError(RestainError):
    """A request that is refused with a status of its own.

    Args:
        status: HTTP status, 400 to 599.
        message: what is wrong and what to do, for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def handle_failures(app: FastAPI, folder: Path) -> None:
    """Let ``app`` answer errors as JSON, with paths as seen from ``folder``; what nobody foresaw says nothing."""

    @app.exception_handler(RestainError)
    def foreseen(_: Request, error: RestainError) -> JSONResponse:
        return _answer(_status(error), str(error).replace(f"{folder}/", ""))

    @app.exception_handler(OSError)
    def system(_: Request, error: OSError) -> JSONResponse:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _answer(507 if full else 500, f"{error.strerror or 'the system refused'}. Nothing was changed.")

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _answer(400, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def plain(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    def unforeseen(_: Request, __: Exception) -> JSONResponse:
        return _answer(500, "an error in restain itself; the server's terminal shows it.")


def _status(error: RestainError) -> int:
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, NotServedError):
        return 404
    if isinstance(error, UnreadableImageError):
        return 422
    return 400 if error.exit_code == 2 or isinstance(error, MissingResolutionError) else 422


def _answer(status: int, message: str, headers: object = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers if isinstance(headers, dict) else None)
