"""The largest memory of a process, and whether it was a certain piece of work that needed it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


class Peak:
    """The largest memory of this process; made before a piece of work, asked after it.

    A system keeps one peak for the life of a process and none for its parts. Where the peak has grown since this
    object was made, it belongs to the work; else the work needed at most as much as something before it.
    """

    def __init__(self) -> None:
        self._before = peak_mib()

    def document(self) -> dict[str, float | bool]:
        """``peak_memory_mib`` of the process; ``peak_memory_exact``: whether this work reached it (else: at most)."""
        now = peak_mib()
        return {"peak_memory_mib": round(now, 1), "peak_memory_exact": now > self._before}


def peak_mib() -> float:
    """The largest memory of this process so far, MiB."""
    try:  # what getrusage says is, on Linux, also that of the process which started this one
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1024 if sys.platform != "darwin" else largest / 1024**2
