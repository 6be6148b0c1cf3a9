"""Cases of family her2."""

from __future__ import annotations

from typing import Any

import numpy as np

from restain.evaluate.classification import classification_scores
from restain.evaluate.rank import rank_scores

from ..reading import Answers, Arrays, Options


def scores(_options: Options, x: Arrays) -> dict[str, Any]:
    # Labels may come as floating numbers, or as a column [N, 1].
    found = classification_scores(x["probabilities"], np.asarray(x["labels"]).reshape(-1).astype(np.int64))
    answer = {
        "accuracy": found.accuracy,
        **{f"{kind}_auc": getattr(found.auc, kind) for kind in ("micro", "macro", "weighted")},
        **{f"{kind}_f1": getattr(found.f1, kind) for kind in ("micro", "macro", "weighted")},
    }
    return {
        **{name: np.array([value], np.float64) for name, value in answer.items()},
        # An array cannot hold None: 0, as scikit-learn's recall of a class without images.
        "class_accuracy": np.array([value or 0.0 for value in found.class_accuracy]),
        "confusion": found.confusion,
    }


def challenge_rank(o: Options, x: Arrays) -> dict[str, Any]:
    found = rank_scores(x["psnr"], x["ssim"], o["psnr_weight"], o["ssim_weight"])
    return {
        "psnr_rank": found.psnr_rank,
        "ssim_rank": found.ssim_rank,
        "final_score": found.score,
        "order": found.order,
    }


KINDS: Answers = {"her2/scores": scores, "her2/challenge_rank": challenge_rank}
