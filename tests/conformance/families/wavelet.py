"""Cases of family wavelet."""

from __future__ import annotations

from typing import Any

from restain.nn.wavelets import dwt, grey

from ..reading import Answers, Arrays, Options, tensor


def transform(o: Options, x: Arrays) -> dict[str, Any]:
    rgb = tensor(x, "image").permute(2, 0, 1)[None] / 255
    return {"bands": dwt(grey(rgb, tuple(o["grey_weights"])), o["wavelet"], o["level"], o["mode"])[0]}


KINDS: Answers = {"wavelet/dwt": transform}
