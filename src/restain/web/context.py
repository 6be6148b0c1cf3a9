"""What all parts of the server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restain.web.paths import Root
from restain.web.slide_pool import SlidePool


@dataclass(frozen=True)
class ServeOptions:
    """What is served, to whom.

    Attributes:
        folder: that is served.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        token: what opens the server to others than this computer; None: nothing is asked for.
        reading_room: serve the reading room and nothing else.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    reading_room: bool = False


@dataclass(frozen=True)
class Context:
    """What all parts of the server share.

    Attributes:
        root: the served folder.
        pool: its open slides.
        options: of the server.
    """

    root: Root
    pool: SlidePool
    options: ServeOptions
