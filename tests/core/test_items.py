from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from restain.core.errors import ItemError, RestainError
from restain.core.items import lock, process


def test_done_items_are_skipped_and_bad_ones_named(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(name: str) -> dict[str, Any]:
        calls.append(name)
        if name == "bad" and len(calls) < 4:
            raise ItemError("is broken")
        (tmp_path / name).touch()
        return {"n": name}

    def go(settings: object) -> Any:
        return process(["a", "bad", "c"], work, tmp_path / "state", settings, "t", lambda name: [tmp_path / name])

    first = go(1)
    assert first.failures == {"bad": "is broken"}
    assert list(first.results) == ["a", "c"]
    second = go(1)
    assert second.failures == {}
    assert calls == ["a", "bad", "c", "bad"], "only the failed one ran again"
    (tmp_path / "a").unlink()
    go(1)
    assert calls[4:] == ["a"], "an item whose output is gone runs again"
    go(2)
    assert calls[5:] == ["a", "bad", "c"], "other settings run all again"


def test_the_error_of_a_single_item_is_the_callers(tmp_path: Path) -> None:
    def work(name: str) -> dict[str, Any]:
        raise RestainError("no um/px")

    with pytest.raises(RestainError, match="no um/px"):
        process(["a"], work, tmp_path, None, "t")


def test_a_lock_is_held_once_and_freed(tmp_path: Path) -> None:
    with lock(tmp_path / "lock"), pytest.raises(RestainError, match="another restain command"), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass
