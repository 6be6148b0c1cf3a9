"""The served folder of these tests, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.workspace import Workspace, make_workspace


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these tests on one worker: the folder takes seconds to make."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("web"))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A served folder with a bit of everything; tests do not change it (copy what you change)."""
    return make_workspace(tmp_path_factory.mktemp("served"))
