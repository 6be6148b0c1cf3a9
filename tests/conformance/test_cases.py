"""Every recorded case of the families that are built."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import SHARED

from . import adapters

CASES = sorted(
    path.parent
    for path in (SHARED / "conformance" / "cases").glob("*/*/case.json")
    if json.loads(path.read_text())["kind"] in adapters.KINDS
)


@pytest.fixture(scope="module")
def runner(shared: Path) -> ModuleType:
    """The script that compares an answer with a case."""
    spec = importlib.util.spec_from_file_location("conformance_run", shared / "conformance" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "case", CASES or [None], ids=lambda case: f"{case.parent.name}/{case.name}" if case else "none"
)
def test_recorded_case(case: Path | None, shared: Path, runner: ModuleType) -> None:
    assert case is not None, "the recorded cases are here, but none is of a kind that adapters.py knows"
    assert runner.check(case, adapters) == ""


def test_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        adapters.run("nobody/knows", {}, {})
