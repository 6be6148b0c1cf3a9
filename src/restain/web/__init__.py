"""The server behind ``restain serve``: slides, landmarks, reading room, runs and reports of one folder."""

from restain.web.app import create_app
from restain.web.context import ServeOptions

__all__ = ["ServeOptions", "create_app"]
