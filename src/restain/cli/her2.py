"""``restain her2``: HER2 of slides, on IHC and from H&E."""

from __future__ import annotations

from collections.abc import Sequence

from restain.cli.by_action import run_action

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
    """The command."""
    return run_action("her2", ACTIONS, argv)
