from __future__ import annotations

import errno
from pathlib import Path

import pytest

from restain.core.errors import ItemError
from restain.core.files import atomic_path, read_csv, read_json, write_csv, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a" / "result.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["result.txt"]


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ItemError, match=r"result\.txt: could not be written \(No space left"),
        atomic_path(tmp_path / "result.txt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_a_clear_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    with pytest.raises(ItemError, match="could not be written"), atomic_path(tmp_path / "x"):
        full.write_text("x" * 10000)


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_json_and_csv_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"µ": [1, None]})
    assert read_json(tmp_path / "a.json") == {"µ": [1, None]}
    write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "y": None}, {"x": "a,b", "y": 2}])
    assert read_csv(tmp_path / "a.csv", ["x"]) == [{"x": "1", "y": ""}, {"x": "a,b", "y": "2"}]
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(ItemError, match="no column z; it has x, y"):
        read_csv(tmp_path / "a.csv", ["z"])
    (tmp_path / "b.csv").write_text("patient;z\np;1\n")
    with pytest.raises(ItemError, match=r"it has patient;z\. Columns must be separated by commas"):
        read_csv(tmp_path / "b.csv", ["z"])
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ItemError, match=r"bad\.json"):
        read_json(tmp_path / "bad.json")
