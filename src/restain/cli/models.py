"""``restain models``: every registered stainer and slide model."""

from __future__ import annotations

from collections.abc import Sequence

from restain.cli.output import print_json, print_table
from restain.cli.parsing import call
from restain.her2.base import MODELS
from restain.stainers.base import STAINERS


def models(json: bool = False) -> int:
    """List every stainer and slide model: its paper, the licence of its authors' code, what its data must carry.

    Args:
        json: print one JSON document instead of a table.
    """
    rows = [
        {
            "name": entry.name,
            "task": "stain",
            "paper": entry.info.paper,
            "licence": entry.info.code_licence,
            "needs": [*([] if "unpaired" in entry.item.needs else ["pairs"]), *sorted(entry.item.needs)],
        }
        for entry in STAINERS
    ] + [
        {
            "name": model.name,
            "task": "her2",
            "paper": model.info.paper,
            "licence": model.info.code_licence,
            "needs": ["features", *sorted(model.info.needs)],
        }
        for model in MODELS
    ]
    if json:
        print_json(rows)
    else:
        columns = ["name", "task", "paper", "licence", "needs"]
        cells = [[row["name"], row["task"], row["paper"], row["licence"], ", ".join(row["needs"])] for row in rows]
        print_table("Methods (licence: of the authors' code, none of which is in restain)", columns, cells)
    return 0


def run(argv: Sequence[str]) -> int:
    """The command."""
    return call(models, "restain models", argv)
