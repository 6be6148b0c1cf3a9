"""How many threads read images at once."""

from __future__ import annotations

import os


def cpu_threads(at_most: int = 8) -> int:
    """Threads for decoding images: the processors that this process may use, at most ``at_most``."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(at_most, usable)
