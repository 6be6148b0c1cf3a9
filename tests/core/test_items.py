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


def test_a_single_item_gives_its_own_exit_code(tmp_path: Path) -> None:
    def work(name: str) -> dict[str, Any]:
        raise RestainError("no um/px")

    assert process(["a"], work, tmp_path, None, "t").exit_code == 2
    assert process(["a", "b"], work, tmp_path, None, "t").exit_code == 1


def test_what_is_stale_goes_before_the_work(tmp_path: Path) -> None:
    """A result of other settings must not lie among the new ones when its item now fails."""

    def good(name: str) -> dict[str, Any]:
        (tmp_path / name).write_text("old")
        return {}

    def bad(name: str) -> dict[str, Any]:
        raise ItemError("broken")

    process(["a"], good, tmp_path / "state", 1, "t", lambda name: [tmp_path / name])
    process(["a"], bad, tmp_path / "state", 2, "t", lambda name: [tmp_path / name])
    assert not (tmp_path / "a").exists()


def test_settings_that_cannot_be_had_fail_their_item_alone(tmp_path: Path) -> None:
    def settings(name: str) -> object:
        return (tmp_path / name).stat().st_size

    (tmp_path / "b").touch()
    outcome = process(["gone", "b"], lambda name: {}, tmp_path / "state", settings, "t")
    assert list(outcome.failures) == ["gone"]
    assert list(outcome.results) == ["b"]


def test_a_lock_is_held_once_and_freed(tmp_path: Path) -> None:
    with lock(tmp_path / "lock"), pytest.raises(RestainError, match="another restain command"), lock(tmp_path / "lock"):
        pass
    with lock(tmp_path / "lock"):
        pass
