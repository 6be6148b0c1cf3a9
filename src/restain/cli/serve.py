"""``restain serve DIR``: viewer, landmark picker, reading room, runs and reports in the browser."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from restain.cli.parsing import call
from restain.core.errors import ItemError, RestainError
from restain.core.progress import console
from restain.study.store import study_folders, study_summary
from restain.web import ServeOptions, create_app
from restain.web.app import STATIC
from restain.web.security import SHORTEST_TOKEN, is_loopback

TOKEN_VARIABLE = "RESTAIN_TOKEN"
"""Environment variable with the token: unlike an option, other users of the computer cannot read it."""

_ASK_WITHIN = 20.0
"""Seconds in which a connection must have asked for something: else idle ones would use up all that there can be."""
_FINISH = 2
"""Seconds that running requests have to finish when the server ends."""


def serve(
    folder: Path, host: str = "127.0.0.1", port: int = 8000, token: str | None = None, reading_room: bool = False
) -> int:
    """Serve a folder to the browser: slides, landmarks, reading studies, runs, reports.

    Only this computer reaches the server unless another --host is given, and nothing outside the folder is served.

    Args:
        folder: with slides, registrations, runs, reports and studies, in any order.
        host: address to listen on. Any but this computer's own (127.0.0.1, ::1, localhost) needs a token.
        port: TCP port; 0 takes a free one.
        token: what others must know, at least 16 characters; better given in the environment as RESTAIN_TOKEN.
        reading_room: serve the reading room and nothing else; its readers have codes and need no token.
    """
    given = token if token is not None else os.environ.get(TOKEN_VARIABLE) or None
    _check_token(host, given)
    app = create_app(ServeOptions(folder, host, port, given, reading_room))
    if not (STATIC / "index.html").is_file():
        console.print(
            "The pages are not built: install Node.js 20.19 or later and run `make web`. Until then the server "
            "answers, but shows nothing.",
            markup=False,
            soft_wrap=True,
        )
    cv2.setNumThreads(1)  # requests are what runs side by side
    listener = _listen(host, port)
    address = f"http://{_shown(host)}:{listener.getsockname()[1]}"
    settings = uvicorn.Config(
        app,
        http=_Patient,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_FINISH,
        lifespan="on",
        ws="none",
    )
    try:
        told = _studies(folder, address) if reading_room else [_how(with_token=given is not None)]
        _Server(settings, [address, *told]).run([listener])
    except KeyboardInterrupt:  # raised again by uvicorn once all is closed
        console.print("\nClosed.", markup=False)
    return 0


class _Patient(H11Protocol):
    """Closes connections that do not ask for anything, or never end their question; uvicorn waits for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_ASK_WITHIN, self._look, None)

    def _look(self, before: object) -> None:
        """Close the connection if it has waited for a question since the last look, ``before`` being the one then."""
        if self.transport.is_closing():
            return
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is before:
            self.transport.close()
        else:
            self.loop.call_later(_ASK_WITHIN, self._look, self.cycle if waits else self)


class _Server(uvicorn.Server):
    """Says where it is, in ``lines``, once it accepts connections."""

    def __init__(self, config: uvicorn.Config, lines: Sequence[str]) -> None:
        super().__init__(config)
        self._lines = lines

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(*self._lines, sep="\n", flush=True)


def _how(with_token: bool) -> str:
    hint = " Open it once with ?token= and the token at its end." if with_token else ""
    return f"Open this address in a browser.{hint} Ctrl-C ends the server."


def _studies(folder: Path, address: str) -> list[str]:
    """Where readers open each study in ``folder``: of a reading room, the address alone shows nothing."""
    lines = []
    for study in study_folders(folder):
        try:
            name, title = study_summary(study)
        except ItemError as error:
            lines.append(str(error))
        else:
            lines.append(f"Readers of {title!r} open {address}/read/{quote(name, safe='')}")
    none = "There is no study in this folder. Make one with `restain study new`."
    return [*(lines or [none]), "Ctrl-C ends the server."]


def _check_token(host: str, token: str | None) -> None:
    """Refuse an address that others reach without a token, and a token that is easily guessed or cannot be sent."""
    if token is None and is_loopback(host):
        return
    fresh = f"For example: {TOKEN_VARIABLE}={secrets.token_urlsafe(24)} restain serve DIR --host {host}"
    if token is None:
        raise RestainError(f"--host {host}: other computers reach this address, so it needs a token. {fresh}")
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise RestainError(f"a token has at least {SHORTEST_TOKEN} characters, plain ones without spaces. {fresh}")


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        RestainError: the port is taken or not allowed, or the address is none of this computer's.
    """
    if not 0 <= port <= 65535:
        raise RestainError(f"--port {port}: a port is a number from 0 (any free one) to 65535.")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, place = found[0]
        # the protocol is named because asyncio sends answers at once (TCP_NODELAY) only where it is: 40 ms each
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_address(host, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(256)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise RestainError(
                f"--port {port}: another program uses it, perhaps another `restain serve`. Give another one, or "
                "--port 0 for any that is free."
            ) from error
        if error.errno == errno.EACCES:
            raise RestainError(f"--port {port}: only an administrator may use it. Give one above 1023.") from error
        raise _no_address(host, error) from error
    return listener


def _shown(host: str) -> str:
    """The host as browsers take it; of addresses that mean all of this computer's, its name."""
    bare = host.strip("[]")
    if bare in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{bare}]" if ":" in bare else bare


def _no_address(host: str, error: OSError) -> RestainError:
    return RestainError(
        f"--host {host}: not an address of this computer ({error.strerror or error}). Give 127.0.0.1, or an address "
        "that `ip address` lists."
    )


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(serve, "restain serve", argv, positional=("folder",))
