"""Work in processes: order of results, errors, and what becomes of workers whose parent is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from restain.core.pool import in_processes


def test_results_come_in_the_order_of_the_items_from_prepared_processes(tmp_path: Path) -> None:
    names = [("a",), ("b",), ("c",)]
    found = in_processes(os.path.abspath, names, 2, "items", os.chdir, (tmp_path,))
    assert found == [str(tmp_path.resolve() / name) for (name,) in names]
    assert Path.cwd() != tmp_path.resolve()


def test_an_error_of_an_item_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_processes(divmod, [(1, 1), (1, 0)], 2, "items")


SCRIPT = """
import os, sys, time
from pathlib import Path
from restain.core.pool import in_processes

def work(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    in_processes(work, [(sys.argv[1],), (sys.argv[1],)], 2, "items")
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (tmp_path / "workers").mkdir()
    parent = subprocess.Popen([sys.executable, script, tmp_path / "workers"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(started := list((tmp_path / "workers").iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(alive(int(file.name)) for file in started):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
