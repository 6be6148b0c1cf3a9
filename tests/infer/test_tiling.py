from __future__ import annotations

import numpy as np
import pytest

from restain.infer import tiling
from restain.infer.tiling import Overlap, Tiling

FIELD = np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
FILL = np.array([1, 2, 3], np.uint8)


def assemble(plan: Tiling, empty: bool = False) -> tuple[np.ndarray, int]:
    """The field put through an identity window, and how many windows that took."""
    padded = np.pad(FIELD, ((400, 1200), (400, 1200), (0, 0)))
    calls = 0

    def window(x: int, y: int, side: int) -> np.ndarray | None:
        nonlocal calls
        calls += 1
        if empty and x < 300:
            return None
        return padded[y + 400 : y + 400 + side, x + 400 : x + 400 + side].astype(np.float32)

    out = np.zeros_like(FIELD)
    for x, y, piece in plan.run((900, 700), window, FILL):
        assert x % plan.core == 0
        assert y % plan.core == 0
        out[y : y + piece.shape[0], x : x + piece.shape[1]] = piece
    return out, calls


@pytest.mark.parametrize("canvas", [2**17, 2**24])
@pytest.mark.parametrize(
    ("core", "halo", "overlap"),
    [(128, 32, "discard"), (128, 64, "blend"), (128, 0, "blend"), (64, 96, "discard"), (1024, 16, "blend")],
)
def test_identity_windows_give_the_field_back(
    canvas: int, core: int, halo: int, overlap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights add up to one everywhere, also across bands and at the rim."""
    monkeypatch.setattr(tiling, "CANVAS", canvas)
    out, calls = assemble(Tiling(core, halo, Overlap(overlap)))
    assert np.array_equal(out, FIELD)
    if overlap == "discard" or canvas == 2**24:
        assert calls == -(-900 // core) * -(-700 // core), "no window is computed twice"


def test_what_no_window_stains_is_filled() -> None:
    out, _ = assemble(Tiling(128, 16, Overlap.discard), empty=True)
    assert (out[:, :256] == FILL).all()
    assert np.array_equal(out[:, 512:], FIELD[:, 512:])


def test_blended_windows_fade_linearly() -> None:
    """Two windows that disagree: the seam is a ramp over the overlap, not a step."""

    def window(x: int, y: int, side: int) -> np.ndarray:
        return np.full((side, side, 3), 0 if x < 0 else 160, np.float32)

    ((_, _, out),) = Tiling(128, 32, Overlap.blend).run((256, 128), window, FILL)
    row = out[64, :, 0].astype(int)
    assert set(np.diff(row)[96:159]) <= {2, 3}
    assert row[95] == 0
    assert row[160] == 160


def test_more_than_two_overlapping_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="more than their core"):
        Tiling(64, 33, Overlap.blend)
