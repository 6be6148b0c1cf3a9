from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest

from restain.synthetic import SynthOptions, World

CLEAN = {"folds": 0.0, "pen": 0.0, "bubbles": 0.0, "out_of_focus": 0.0, "necrosis": 0.0, "dirt": 0.0}


@lru_cache(maxsize=4)
def _world(index: int, size: int, **options: object) -> World:
    return World(SynthOptions(size=size, **{**CLEAN, **options}), index)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def world_of() -> Callable[..., World]:
    """Worlds without artefacts, kept between tests: ``world_of(index, size, **options)``."""
    return _world
