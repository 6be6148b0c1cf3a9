"""The served folder of these tests, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from restain.study.design import Made
from tests.study.studies import make_study
from tests.web.readers import Study, client_of
from tests.web.workspace import Workspace, make_workspace


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A served folder with a bit of everything; tests do not change it (copy what you change)."""
    return make_workspace(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """A study that nobody has read."""
    root = tmp_path_factory.mktemp("drawn")
    return root / "study", make_study(root)


@pytest.fixture
def study(drawn: tuple[Path, Made], tmp_path: Path) -> Study:
    """A copy of it, served."""
    folder = tmp_path / "served" / "studies" / "first"
    shutil.copytree(drawn[0], folder)
    return Study(folder, drawn[1], client_of(tmp_path / "served"))
