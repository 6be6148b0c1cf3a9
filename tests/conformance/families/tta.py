"""Cases of test-time averaging, recorded from BCIStainer's code; here it is an option of staining for every method."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from restain.infer.views import average_of_views

from ..reading import Answers, Arrays, Options, rgb


def tta(o: Options, x: Arrays) -> dict[str, Any]:
    def generator(v: Tensor) -> Tensor:
        return o["a"] * v + o["b"] * v.roll(o["shift"], o["axis"])

    def bytes_of(v: Tensor) -> Tensor:
        return (generator(v) + 1) / 2 * 255

    he = rgb(x, "image")
    out = average_of_views(bytes_of, he) if o["tta"] else bytes_of(he)
    mean = out[0].permute(1, 2, 0).numpy()
    return {"mean": mean, "image": mean.astype(np.uint8)}  # the released code truncates, ``restain stain`` rounds


KINDS: Answers = {"bcistainer/tta": tta}
