"""Errors that are meant for the user.

Every error says which file it is about, what is wrong with it and what to do next; the command line prints it without
a traceback and turns it into an exit code (0 done, 1 some items failed, 2 wrong use).
"""

from __future__ import annotations


class RestainError(Exception):
    """Something that the user can understand and mend: a message without a traceback, exit code 2."""

    exit_code = 2


class ItemError(RestainError):
    """One item (an image, a slide, a pair) could not be processed; the others go on. Exit code 1."""

    exit_code = 1


class MissingResolutionError(RestainError):
    """A slide or run has no um/px where one is needed; the message says how to give one."""


class UnreadableImageError(ItemError):
    """A slide or image could not be read: truncated, not an image, or of an unsupported kind."""


class NoTissueError(ItemError):
    """No tissue was found on a slide."""
