"""Cases of family lifangda_challenge."""

from __future__ import annotations

from typing import Any

from restain.stainers import lifangda

from ..reading import (
    Answers,
    Arrays,
    Options,
    tensor,
)


def lifangda_total(o: Options, x: Arrays) -> dict[str, Any]:
    names = {
        "nce": "nce_weight",
        "pnce": "paired_weight",
        "dis_cls": "level_weight",
        "multi_scale": "multi_scale_weight",
    }
    weights = o["weights"]
    config = lifangda.Config(levels=4, **{ours: weights[theirs] for theirs, ours in names.items()})
    terms = [getattr(config, ours) * tensor(x, theirs) for theirs, ours in names.items()]
    return {"total": weights["gan"] * tensor(x, "gan") + sum(terms)}


KINDS: Answers = {
    "lifangda_challenge/total_loss": lifangda_total,
}
