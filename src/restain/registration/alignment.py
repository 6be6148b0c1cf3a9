"""Does a patch of H&E lie on its patch of IHC? The shift that is left, and how sure one can be of it.

Neighbouring sections share hardly a pixel's colour, but they share where nuclei are, where they lie densely, and where
the tissue has gaps. Each of these is a channel in which both patches are correlated at every shift (masked normalised
cross-correlation, Padfield 2012, by Fourier transform). A correlation r over n independent places says as much about a
shift as a likelihood of (1 - r^2)^(-n/2). How many independent places there are is read off the correlations:
by chance they vary by 1 / sqrt(n), so long ridges and regular glands count for less than scattered cells. The channels'
evidence adds up, and what it says about all shifts together is the score: the odds that the patch is displaced by less
than ``ALIGNED_UM`` rather than by more, as a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

from restain.registration.channels import Plane, darkness, smooth
from restain.stains import haematoxylin

ALIGNED_UM = 12.5
"""What counts as aligned: a shift of less than this, about a cell."""

REACH_UM = 80.0
"""Shifts to either side that are looked at."""

CONTEXT_UM = 64.0
"""What a patch should be read with on each side where the slide has it: small patches hold too little to judge."""

_MPP = 2.0
"""Working um/px: a nucleus is 3 to 4 px wide."""

_GAP = 0.15
"""Darkness (OD) is cut off here, so that it says tissue or gap, however strongly the tissue is stained."""

_SMALLEST_PLACE = np.array([60.0, 400.0, 200.0])
"""um^2 that an independent place takes at least, by channel: nuclei, their density, gaps."""

_TRUST = 0.7
"""Share of the evidence that counts, because the channels partly see the same."""

_LEAST_OVERLAP = 0.15
"""Shifts at which less than this share of the patches overlaps are left out."""

Channels = NDArray[np.float32]


@dataclass(frozen=True)
class AlignmentScore:
    """How a patch of H&E lies on its patch of IHC.

    Attributes:
        shift_um: length of the likeliest shift; None where a patch is too flat or too small to tell.
        dx_um: the likeliest shift to the right of what the H&E shows against the IHC; None as above.
        dy_um: the same downwards.
        ncc: correlation without a shift, mean of the channels, -1 to 1.
        peak: correlation at the likeliest shift; low (under about 0.3) where the content does not allow a decision.
        score: probability, 0 to 1, that the shift is below ``ALIGNED_UM``; 0.5 where nothing can be told.
    """

    shift_um: float | None
    dx_um: float | None
    dy_um: float | None
    ncc: float
    peak: float
    score: float


_UNKNOWN = AlignmentScore(None, None, None, 0.0, 0.0, 0.5)


def local_alignment(
    he_rgb: NDArray[np.uint8],
    ihc_rgb: NDArray[np.uint8],
    mpp: float,
    he_white: ArrayLike,
    ihc_white: ArrayLike,
    valid: NDArray[np.bool_] | None = None,
    reach_um: float = REACH_UM,
) -> AlignmentScore:
    """Judge how well a patch of H&E lies on its patch of IHC.

    Read the patches with ``CONTEXT_UM`` around them.

    Args:
        he_rgb: uint8 [H, W, 3].
        ihc_rgb: uint8 [H, W, 3], the same place on the IHC.
        mpp: um/px of both.
        he_white: the glass's colour [3] of the H&E slide (of the slide, for a patch may have none).
        ihc_white: the same of the IHC slide.
        valid: bool [H, W], False where the H&E was filled in; None: it is real everywhere.
        reach_um: shifts to either side that are looked at.

    Returns:
        The score. At 0.5 um/px it takes 13 ms for 512 px and 24 ms with ``CONTEXT_UM`` around them. On synthetic
        neighbouring sections it tells patches of 128 um and more displaced by 15 to 60 um from those displaced by less
        than 10 without error; 0.7 keeps all of the latter and none of the former (``benchmarks/pair_alignment.py``).

    Raises:
        ValueError: the pictures differ in size, or ``mpp`` or ``reach_um`` is not above 0.
    """
    if he_rgb.shape != ihc_rgb.shape or (valid is not None and valid.shape != he_rgb.shape[:2]):
        raise ValueError(f"pictures of one size are needed, got {he_rgb.shape} and {ihc_rgb.shape}")
    if not (mpp > 0 and reach_um > 0):
        raise ValueError(f"um/px and reach must be above 0, got {mpp} and {reach_um}")
    working = max(mpp, _MPP)
    size = (round(he_rgb.shape[1] * mpp / working), round(he_rgb.shape[0] * mpp / working))
    if min(size) < 16:
        return _UNKNOWN
    he_mask = np.ones(size[::-1], np.float32)
    if valid is not None:
        he_mask = (cv2.resize(valid.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.99).astype(np.float32)
    he = _channels(_resized(he_rgb, size), he_white, working)
    ihc = _channels(_resized(ihc_rgb, size), ihc_white, working)
    reach = max(1, min(round(reach_um / working), min(size) - 1))
    ncc, overlap = shifted_ncc(he, ihc, he_mask, np.ones_like(he_mask), reach)
    return _judged(ncc, overlap, he_mask.size, reach, working)


def shifted_ncc(
    first: Channels, second: Channels, first_mask: Plane, second_mask: Plane, reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normalised correlation of ``second`` with ``first`` moved by every shift (Padfield 2012, eq. 21 to 25).

    Args:
        first: float32 [C, H, W].
        second: float32 [C, H, W].
        first_mask: [H, W], 1 where ``first`` counts, else 0.
        second_mask: [H, W].
        reach: largest shift to each side in px.

    Returns:
        Correlations [C, 2 * reach + 1, 2 * reach + 1] over the overlap, where [:, reach + dy, reach + dx] compares
        ``first`` at (x + dx, y + dy) with ``second`` at (x, y), 0 where one does not vary; and the overlaps in px.
    """
    shape = [fft.next_fast_len(length + reach, real=True) for length in first_mask.shape]
    shifts = np.arange(-reach, reach + 1)

    def forward(planes: NDArray[np.float32]) -> NDArray[np.complex128]:
        return np.asarray(fft.rfft2(planes, shape), np.complex128)

    def across(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> NDArray[np.float64]:
        planes = fft.irfft2(one * other.conj(), shape)
        return np.asarray(planes[..., shifts[:, None], shifts], np.float64)

    first, second = first * first_mask, second * second_mask
    a, b, a_squared, b_squared = forward(first), forward(second), forward(first * first), forward(second * second)
    a_mask, b_mask = forward(first_mask), forward(second_mask)
    overlap = np.maximum(np.rint(across(a_mask, b_mask)), 0)
    count = np.maximum(overlap, 1)
    a_sum, b_sum = across(a, b_mask), across(a_mask, b)
    covariance = across(a, b) - a_sum * b_sum / count
    spread = (across(a_squared, b_mask) - a_sum**2 / count) * (across(a_mask, b_squared) - b_sum**2 / count)
    varies = spread > (1e-3 * count) ** 2
    return np.where(varies, covariance / np.sqrt(np.where(varies, spread, 1)), 0).clip(-1, 1), overlap


def _judged(
    ncc: NDArray[np.float64], overlap: NDArray[np.float64], area: int, reach: int, mpp: float
) -> AlignmentScore:
    """Sum the evidence of the channels up."""
    shared = overlap / area
    enough = shared >= _LEAST_OVERLAP
    if not enough[reach, reach] or not ncc[:, enough].any():
        return _UNKNOWN
    chance = np.percentile(np.abs(ncc * np.sqrt(shared))[:, enough], 68, axis=1)
    places = np.minimum(1 / np.maximum(chance, 1e-3) ** 2, area * mpp**2 / _SMALLEST_PLACE)
    rising = np.minimum(np.maximum(ncc, 0), 0.999)
    evidence = -0.5 * _TRUST * np.einsum("c,cyx->yx", places, np.log1p(-(rising**2))) * shared
    evidence[~enough] = -np.inf
    row, column = np.unravel_index(int(np.argmax(evidence)), evidence.shape)
    dx, dy = (_between(line, int(at)) for line, at in ((evidence[row], column), (evidence[:, column], row)))
    dx, dy = (dx - reach) * mpp, (dy - reach) * mpp
    mean = ncc.mean(axis=0)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1] * mpp
    distance = np.hypot(down, right)
    prior = 1 / np.maximum(distance, mpp)  # each length of a shift is as likely as any other
    near = distance < max(ALIGNED_UM, 0.6 * mpp)
    weight = np.where(np.isfinite(evidence), prior, 0)
    likelihood = np.exp(evidence - evidence.max())
    inside, outside = (
        float((likelihood * weight)[part].sum() / max(weight[part].sum(), 1e-9)) for part in (near, ~near)
    )
    score = inside / (inside + outside)
    return AlignmentScore(
        float(np.hypot(dx, dy)), float(dx), float(dy), float(mean[reach, reach]), float(mean[row, column]), score
    )


def _between(line: NDArray[np.float64], at: int) -> float:
    """The top of the parabola through a peak and its neighbours."""
    if not 0 < at < len(line) - 1 or not np.isfinite(line[at - 1 : at + 2]).all():
        return float(at)
    before, peak, after = line[at - 1 : at + 2]
    bend = before - 2 * peak + after
    return float(at) if bend >= 0 else at + float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))


def _channels(rgb: NDArray[np.uint8], white: ArrayLike, mpp: float) -> Channels:
    """Nuclei, their density, and gaps in the tissue: float32 [3, H, W], of like strength everywhere."""
    amount = haematoxylin(rgb, white)
    tissue = np.minimum(darkness(rgb, white), np.float32(_GAP))
    return np.stack(
        [
            _evened(smooth(amount, 1.5, mpp) - smooth(amount, 10.0, mpp), 40.0, mpp),
            _evened(smooth(amount, 6.0, mpp) - smooth(amount, 40.0, mpp), 80.0, mpp),
            _evened(smooth(tissue, 2.0, mpp) - smooth(tissue, 30.0, mpp), 60.0, mpp),
        ]
    )


def _evened(plane: Plane, window: float, mpp: float) -> Plane:
    """The plane relative to its strength around, so that a pen mark, a fold or one dark cluster does not rule."""
    power = smooth(plane * plane, window, mpp)
    strength = np.sqrt(power + 0.1 * float(power.mean())) + np.float32(3e-3)
    return np.asarray(np.clip(plane / strength, -3, 3), np.float32)


def _resized(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
