"""``predictions.csv``: all answers that lie in a folder of ``her2 predict``, those of earlier calls too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restain.core.errors import ItemError
from restain.core.files import read_json, write_csv
from restain.her2.predict import DOCUMENT
from restain.her2.predict_input import TABLE


def write_table(out: Path, classes: Sequence[str], failures: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``out/predictions.csv``: a row for each ``*/prediction.json``, and one for each failure of this call.

    Args:
        out: the folder.
        classes: of this call's model; columns for those of others come after them.
        failures: by name of the folder: ``patient`` or ``slide``, and ``reason``. An earlier answer there is left out.
    """
    rows = [_row(file) for file in sorted(out.glob(f"*/{DOCUMENT}")) if file.parent.name not in failures]
    rows += [dict(one) for one in failures.values()]
    chances = dict.fromkeys([f"p_{name}" for name in classes])
    chances |= dict.fromkeys(key for row in rows for key in row if key.startswith("p_"))
    write_csv(out / TABLE, ["patient", "slide", "predicted", "tiles", *chances, "model", "run", "reason"], rows)


def _row(file: Path) -> dict[str, Any]:
    """What a ``prediction.json`` says; of one that is damaged, that it is."""
    try:
        document = read_json(file)
        slides = [one["slide"] for one in document["slides"]] if "slides" in document else [document["slide"]]
        found = {"patient": document.get("patient"), "slide": "; ".join(slides), "predicted": document["status"]}
        found |= {key: document[key] for key in ("tiles", "model", "run")}
        return found | {f"p_{name}": p for name, p in document["probabilities"].items()}
    except (ItemError, KeyError, TypeError, AttributeError):
        return {"slide": file.parent.name, "reason": f"{file}: is damaged. Predict it again."}
