"""``restain her2``: HER2 of slides, on IHC and from H&E."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from restain.core.errors import RestainError

ACTIONS = {
    "score": "score IHC images or slides, real or virtual",
    "virtual": "stain H&E slides virtually, and score that IHC",
    "features": "H&E slides to tiles to features",
    "pretrain": "PAMA's masked autoencoder on features without labels",
    "train": "train a slide model, or resume",
    "crossval": "cross-validate, test and compare slide models",
    "predict": "the status of slides from their H&E",
    "mil": "slide models on a classic multiple-instance set",
}
"""Each is a module ``her2_ACTION`` of this package with ``run(argv) -> exit code``."""


def run(argv: Sequence[str]) -> int:
    """The command.

    Raises:
        RestainError: there is no such action.
    """
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10} {text}" for name, text in ACTIONS.items())
        print(
            f"usage: restain her2 ACTION ...\n\nactions:\n{lines}\n\n`restain her2 ACTION --help` tells all about one."
        )
        return 0 if argv else 2
    if argv[0] not in ACTIONS:
        near = difflib.get_close_matches(argv[0], ACTIONS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(ACTIONS)}."
        raise RestainError(f"there is no action {argv[0]!r}; {hint} See `restain her2 --help`.")
    code: int = importlib.import_module(f"restain.cli.her2_{argv[0]}").run(argv[1:])
    return code
