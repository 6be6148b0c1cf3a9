"""Cases of family nystromformer."""

from __future__ import annotations

from typing import Any

from restain.her2.attention import PinvInit
from restain.her2.models.nystromformer import NystromAttention

from ..reading import Answers, Arrays, Options, load, tensor


def attention(o: Options, x: Arrays) -> dict[str, Any]:
    init = PinvInit.head if o["pinv_init"] == "exact" else PinvInit.batch
    network = NystromAttention(o["heads"], o["landmarks"], o["conv_kernel"], 6, init)
    q, k, v, mask = (tensor(x, name) for name in ("q", "k", "v", "mask"))
    return {"out": load(network, x, "attention", {"mode": "eval"})(q, k, v, mask)}


KINDS: Answers = {"nystromformer/attention": attention}
