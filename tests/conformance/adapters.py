"""Numeric cases recorded from the authors' code, answered by ours: one function a kind, a file a family."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
from torch import Tensor

from . import families
from .reading import Answers, Arrays, Options

KINDS: Answers = {}
for family in iter_modules(families.__path__, f"{families.__name__}."):
    KINDS |= import_module(family.name).KINDS


def run(kind: str, options: Options, inputs: Arrays) -> dict[str, np.ndarray]:
    """Our answer to one case; KeyError for a kind that is not known."""
    answer = KINDS[kind](options, inputs)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in answer.items()
    }
