"""Tables of virtual IHC with known percentages, for the tests of the routes that read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.special import softmax

from restain.core.files import write_csv, write_json
from restain.her2.virtual_table import ABOUT, COLUMNS, TABLE
from restain.stains.her2_rule import LEVELS, her2_score

TYPICAL = np.array([[93, 5, 1.5, 0.5], [60, 33, 6, 1], [30, 35, 30, 5], [10, 15, 25, 50]])


def percentages(labels: Mapping[str, int], noise: float = 0.6, seed: int = 0) -> dict[str, tuple[float, ...] | None]:
    """Percent of cells in class 0, 1+, 2+, 3+ by patient, around what is typical of the patient's class."""
    rng = np.random.default_rng(seed)
    found: dict[str, tuple[float, ...] | None] = {}
    for name, label in labels.items():
        shares = 100 * softmax(np.log(TYPICAL[label]) + noise * rng.normal(size=4))
        found[name] = tuple(map(float, shares))
    return found


def level(percent: tuple[float, ...] | None) -> str | None:
    return None if percent is None else her2_score(percent).score


def write_virtual(
    folder: Path,
    percent: Mapping[str, tuple[float, ...] | None],
    trained_on: list[str] | None = [],  # noqa: B006 (never changed)
    weights: str = "abc",
) -> Path:
    """``virtual.csv`` and ``virtual.json`` as ``her2 virtual`` leaves them."""
    rows = []
    for name, shares in percent.items():
        row: dict[str, object] = {"patient": name, "slide": name, "score": level(shares), "counted": 500}
        rows.append(row if shares is None else row | dict(zip(LEVELS, (round(s, 2) for s in shares), strict=True)))
    write_csv(folder / TABLE, COLUMNS, rows)
    options = {"tile": 512, "overlap": None, "tissue_only": True, "quality": 90, "tta": False, "suffix": ""}
    stainer = {
        "run": "/runs/one", "method": "pix2pix", "weights": weights, "mpp": 0.5, "run_mpp": None,
        "options": options | {"checkpoint": None, "precision": "full"},
        "trained_on": trained_on, "selected_on": [],
        "doubts": [] if trained_on is not None else ["the run names no dataset (it was imported)."],
    }  # fmt: skip
    write_json(folder / ABOUT, {"stainer": stainer, "scorer": 1, "slides": []})
    return folder
