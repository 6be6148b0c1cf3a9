"""Who may ask, from where, and what the browser may do with the answer.

- Pages of other sites reach a server on this computer, too. The Host header defeats DNS rebinding; Origin and
  Sec-Fetch-Site tell requests that such pages make.
- Who comes from another computer shows the server's token, once in the address, then by a cookie. The reading room asks
  for no token: its readers have codes.
- Slides' names and reports are others' text: the Content-Security-Policy lets no script run but restain's own.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restain.web.context import ServeOptions

SHORTEST_TOKEN = 16
"""Characters."""
LARGEST_BODY = 2**20
"""Bytes."""

_OPEN = ("/read/", "/api/reading/", "/assets/")
"""What needs no token."""
_READS = ("GET", "HEAD", "OPTIONS")
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ASK = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>restain</title>
<h1>This server asks for a token</h1><p>Who started it has it. Give it here, or open the address with
<code>?token=</code> and the token at its end.</p>
<form method="get"><label>Token <input name="token" type="password" autocomplete="off" required autofocus></label>
<button>Open</button></form></html>"""


def protect(app: FastAPI, options: ServeOptions) -> None:
    """Let every request to ``app`` pass through ``Guard``."""
    app.add_middleware(Guard, options=options)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this computer alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: refuses what must not pass, and puts the headers on every answer.

    Args:
        app: what comes behind.
        options: of the server.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._token = options.token or None
        host = options.host.strip("[]").lower()
        self._hosts = {"localhost", "127.0.0.1", "::1", host} if is_loopback(host) else None
        secret = f"restain cookie {self._token}".encode()
        self._pass = hashlib.blake2b(secret, digest_size=24).hexdigest()
        self._cookie = f"restain-{hashlib.blake2b(secret, digest_size=4, person=b'name').hexdigest()}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _dress(scope["path"], MutableHeaders(scope=message))
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refused(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        try:
            await self._app(scope, _limited(receive), guarded)
        except Exception:
            if not started:
                await _error(500, "an error in restain itself; the server's terminal shows it.")(
                    scope, receive, guarded
                )
            raise  # to the server's log

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that must not pass, or that brings the token; None: let it pass."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return _error(400, "This server is reached as localhost, 127.0.0.1 or [::1] only.")
        if not _same_site(scope, headers):
            return _error(403, "Pages of other sites may not use this server.")
        if self._token is not None and not scope["path"].startswith(_OPEN):
            answer = self._without_token(scope, headers)
            if answer is not None:
                return answer
        return _bad_body(scope["method"], headers)

    def _known(self, host: str) -> bool:
        if self._hosts is None:
            return True
        name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, "", "")
        del port
        return name.strip("[]").lower() in self._hosts

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        """What a request is told that does not show the cookie or the token; None where it does."""
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)).get("token")
        if given is not None and scope["method"] == "GET" and self._right(given):
            return self._welcome(scope)
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._right(value.strip()):
            return None
        if any(_equal(cookie, self._pass) for cookie in _cookies(headers.getlist("cookie"), self._cookie)):
            return None
        if "text/html" in headers.get("accept", ""):
            return HTMLResponse(_ASK, 401)
        return _error(401, "This server asks for a token: open its address with ?token= once.")

    def _right(self, given: str) -> bool:
        return self._token is not None and _equal(given, self._token)

    def _welcome(self, scope: Scope) -> Response:
        """The cookie, and on to the same address without the token."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = urlencode([pair for pair in pairs if pair[0] != "token"])
        path = "/" + quote(scope["path"].lstrip("/\\"), safe="/")  # never //elsewhere
        answer = Response(status_code=303, headers={"Location": path + (f"?{rest}" if rest else "")})
        answer.set_cookie(self._cookie, self._pass, httponly=True, samesite="strict")
        return answer


def _same_site(scope: Scope, headers: Headers) -> bool:
    """Whether a request that reads data or changes something comes from a page of this server, or from no page."""
    origins = headers.getlist("origin")
    own = f"{scope['scheme']}://{headers['host']}".lower()
    if origins and (scope["method"] not in _READS or scope["path"].startswith("/api/")):
        return len(origins) == 1 and origins[0].lower() == own
    if scope["method"] in _READS and not scope["path"].startswith("/api/"):
        return True
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def _bad_body(method: str, headers: Headers) -> Response | None:
    """The refusal of a body that is too large or, where something shall change, not JSON."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > LARGEST_BODY:
        return _error(413, f"The request is too large: at most {LARGEST_BODY:,} bytes.")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = length != "0" or "transfer-encoding" in headers
    if method not in _READS and (has_body or method != "DELETE") and kind != "application/json":
        return _error(415, "Requests that change something must be JSON (Content-Type: application/json).")
    return None


def _limited(receive: Receive) -> Callable[[], Awaitable[Message]]:
    """``receive`` that ends a body which turns out larger than it may be."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY:
            raise HTTPException(413, f"The request is too large: at most {LARGEST_BODY:,} bytes.")
        return message

    return limited


def _dress(path: str, headers: MutableHeaders) -> None:
    """Put the headers on an answer; a policy and caching of its own stay."""
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", _POLICY)
    if path.startswith("/api/"):
        headers.setdefault("Cache-Control", "no-store")


def _cookies(lines: Iterable[str], name: str) -> Iterable[str]:
    for line in lines:
        try:
            jar: SimpleCookie = SimpleCookie(line)
        except CookieError:
            continue
        if name in jar:
            yield jar[name].value


def _equal(one: str, other: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how far."""
    return hmac.compare_digest(one.encode(), other.encode())


def _error(status: int, message: str) -> JSONResponse:
    content: dict[str, Any] = {"error": message}
    return JSONResponse(content, status)
