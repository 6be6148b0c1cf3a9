"""How good a patch is: what is wrong with it, each from 0 (good) to 1 (bad), and why in words.

A picture is measured by itself (``measure``, slow, kept in ``quality.json``); scores come from the measures and what
is usual in the dataset (``judge``, quick), because how sharp and how coloured a good patch is depends on scanner and
stain.
Half a point, ``FLAGGED``, is where a patch counts as bad of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.data.focus import COARSEST_MPP
from restain.data.quality_maps import ASSUMED_MPP, artefact_maps, shrunk
from restain.slides import find_tissue, glass_colour
from restain.stains import optical_density

KINDS = ("blur", "fold", "pen", "bubble", "crack", "blank", "wrong_stain", "exposure")
"""What can be wrong with a patch, in the order of columns and reasons."""

FLAGGED = 0.5
"""The score from which on a patch is bad of a kind."""

_WORST: Mapping[str, tuple[float, float]] = {
    "blur": (0.18, 0.45),
    "fold": (0.03, 0.1),
    "pen": (0.02, 0.3),
    "bubble": (0.02, 0.1),
    "crack": (0.25, 0.5),
    "blank": (0.8, 1.0),
    "wrong_stain": (0.6, 1.0),
    "exposure": (0.5, 1.0),
}
"""By kind, the measure at which a patch is flagged (score 0.5), and from which on nothing is worse (score 1).

Blur: loss of sharpness; fold, pen, bubble: share of the patch; crack: share of the tissue; blank: share that is glass;
wrong stain: way from the usual colour of its own stain to that of the other; exposure: see ``_exposure``. Chosen so
that no good patch of BCI that we have is flagged, and on synthetic slides under 1 in 20 of those without artefact.
"""

_SHARPEST, _SOFTEST = 0.75, 0.5
"""A scanner in focus reaches the latter; beyond the former nothing is out of focus, however sharp others are."""

TOO_DARK = 110.0
"""The brightest parts of a patch in focus of the lamp are lighter than this (BCI's greyest glass: 176)."""

_SMALLEST = 24
"""Side in px from which a picture can be judged: what is looked for is wider than less."""


@dataclass(frozen=True)
class Measures:
    """What is measured of one picture, whatever the others look like.

    Attributes:
        sharp: detail of 0.5 to 1 um relative to that of 1 to 2 um where there is most; None without tissue.
        fold: share of the picture, 0 to 1; None where it is too coarse to tell.
        pen: share of the picture; None where that cannot be seen.
        bubble: share that is a bubble's rim; None where it is too coarse to tell.
        crack: share of the tissue that is narrow gaps; None where it is too pale or too coarse to tell.
        blank: share that is glass; None where that cannot be seen.
        colour: red, green and blue's parts of the tissue's optical density (sum 1); None without tissue.
        density: the tissue's mean optical density.
        exposure: 0 good to 1 bad.
        mpp: um/px that it was measured at; None where unknown.
        unseen: why the picture tells nothing but its exposure; empty where it does.
    """

    sharp: float | None
    fold: float | None
    pen: float | None
    bubble: float | None
    crack: float | None
    blank: float | None
    colour: tuple[float, float, float] | None
    density: float
    exposure: float
    mpp: float | None
    unseen: str = ""


@dataclass(frozen=True)
class Usual:
    """What a picture is compared with.

    Attributes:
        sharp: the sharpness of good pictures of the same slide, or of the dataset; None where too few are known.
        colour: the usual colour of its own stain, as in ``Measures``; None where not known.
        other: that of the other stain.
    """

    sharp: float | None = None
    colour: tuple[float, float, float] | None = None
    other: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Quality:
    """The judgement of one picture.

    Attributes:
        scores: by kind, 0 good to 1 bad; None where it cannot be judged.
        reasons: in words, for each kind with a score of ``FLAGGED`` or more, the worst first.
        unjudged: by kind, why it cannot be judged.
    """

    scores: Mapping[str, float | None]
    reasons: tuple[str, ...]
    unjudged: Mapping[str, str]

    @property
    def total(self) -> float:
        """The worst score: a patch is as bad as what is worst about it."""
        return max((score for score in self.scores.values() if score is not None), default=0.0)


def measure(rgb: NDArray[np.uint8], mpp: float | None) -> Measures:
    """Measure a picture.

    Args:
        rgb: uint8 [H, W, 3], H&E or IHC, of any size.
        mpp: um/px; None: sizes are taken as at ``ASSUMED_MPP``, and sharpness means that of the pixels.
    """
    exposure = _exposure(rgb)
    if unseen := _unseen(rgb):
        return Measures(None, None, None, None, None, None, None, 0.0, exposure, mpp, unseen)
    white = patch_white(rgb)
    at = ASSUMED_MPP if mpp is None else mpp
    small, small_mpp = shrunk(rgb, at)
    maps = artefact_maps(small, white, small_mpp)
    tissue = _fitted(find_tissue(rgb, white), maps.pen.shape)
    blank = float(1 - (tissue | maps.pen).mean())
    fine = small_mpp <= COARSEST_TOLD
    looked = tissue & maps.stained & ~maps.pen
    density = optical_density(small, white)
    colour = density[looked].mean(axis=0, dtype=np.float64) if looked.any() else np.zeros(3)
    parts = colour / colour.sum() if colour.sum() > 0 else colour
    crack = None if maps.gap is None or not fine else float(maps.gap.sum() / max((maps.gap | tissue).sum(), 1))
    return Measures(
        sharp=_sharp(rgb, at) if at <= COARSEST_MPP and (tissue & ~maps.pen).mean() > 0.02 else None,
        fold=float(maps.fold.mean()) if fine else None,
        pen=float(maps.pen.mean()),
        bubble=float(maps.bubble.mean()) if fine else None,
        crack=crack,
        blank=blank,
        colour=(float(parts[0]), float(parts[1]), float(parts[2])) if looked.any() else None,
        density=float(colour.mean()),
        exposure=exposure,
        mpp=mpp,
    )


COARSEST_TOLD = 6.0
"""um/px above which folds, bubbles and cracks are not told from cells that lie close together."""


def judge(measures: Measures, usual: Usual) -> Quality:
    """Scores and reasons of a picture, by what is usual.

    Args:
        measures: of the picture.
        usual: of others like it.
    """
    found: dict[str, float | None] = dict.fromkeys(KINDS)
    unjudged: dict[str, str] = {}
    for kind in ("fold", "pen", "bubble", "crack", "blank", "exposure"):
        found[kind] = getattr(measures, kind)
    found["blur"], unjudged["blur"] = _blur(measures, usual)
    found["wrong_stain"], unjudged["wrong_stain"] = _wrong_stain(measures, usual)
    for kind in ("fold", "bubble", "crack"):
        coarse = measures.mpp is not None and measures.mpp > COARSEST_TOLD
        unjudged[kind] = f"{measures.mpp:g} um/px is too coarse" if coarse else "too little tissue, or too pale"
    if measures.unseen:
        unjudged = dict.fromkeys(KINDS, measures.unseen)
    scores = {kind: None if value is None else round(_score(kind, value), 4) for kind, value in found.items()}
    bad = sorted(
        (kind for kind, score in scores.items() if score is not None and score >= FLAGGED),
        key=lambda kind: -(scores[kind] or 0),
    )
    return Quality(
        scores=scores,
        reasons=tuple(_in_words(kind, found[kind] or 0.0) for kind in bad),
        unjudged={kind: unjudged[kind] for kind in KINDS if scores[kind] is None},
    )


def kind_name(kind: str) -> str:
    """A kind in words."""
    return kind.replace("_", " ")


def patch_white(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The glass's colour by a patch: ``glass_colour``, but never that of pale tissue or of ink.

    Where a patch shows no glass its brightest places are tissue, and tinted: the light is then taken as grey, as bright
    as the brightest channel there.
    """
    white = glass_colour(rgb)
    light = int(white.max())
    if light - int(white.min()) > 20 or light < 150:
        return np.full(3, max(light, 150), np.uint8)
    return white


def _score(kind: str, value: float) -> float:
    flag, worst = _WORST[kind]
    part = value / flag * FLAGGED if value < flag else FLAGGED + (1 - FLAGGED) * (value - flag) / (worst - flag)
    return min(max(part, 0.0), 1.0)


def _blur(measures: Measures, usual: Usual) -> tuple[float | None, str]:
    if measures.sharp is None:
        coarse = measures.mpp is not None and measures.mpp > COARSEST_MPP
        return None, f"{measures.mpp:g} um/px is too coarse" if coarse else "no tissue"
    if measures.mpp is None and usual.sharp is None:
        return None, "um/px unknown and too few other patches to compare with"
    reference = _SHARPEST if usual.sharp is None else min(usual.sharp, _SHARPEST)
    if measures.mpp is not None:
        reference = max(reference, _SOFTEST)  # all of a slide may be out of focus
    return max(0.0, 1 - measures.sharp / reference), ""


def _wrong_stain(measures: Measures, usual: Usual) -> tuple[float | None, str]:
    if measures.colour is None or measures.density < 0.05 or (measures.blank or 0) > 0.8:
        return None, "too little tissue, or too pale"
    if usual.colour is None or usual.other is None:
        return None, "the usual colours of both stains are not known, or are alike"
    own, other, here = (np.asarray(value) for value in (usual.colour, usual.other, measures.colour))
    axis = other - own
    way = float((here - own) @ axis / (axis @ axis))
    colourless = float(np.ptp(here)) < 0.02 and float(np.ptp(own)) > 0.06
    return (1.0 if colourless else max(0.0, way)), ""


def _unseen(rgb: NDArray[np.uint8]) -> str:
    """Why nothing but its exposure can be told of a picture; empty where more can."""
    if min(rgb.shape[:2]) < _SMALLEST:
        return f"too small: less than {_SMALLEST} px"
    return "too dark" if float(np.percentile(rgb.max(axis=2), 99.5)) <= TOO_DARK else ""


def _exposure(rgb: NDArray[np.uint8]) -> float:
    """How badly a picture is exposed, 0 to 1; 0.5 is reached by any of the following alone.

    Too dark: the brightest parts are as dark as ``TOO_DARK``; or half of the pixels got no light; or all is one dark
    grey. Too bright: in a quarter of the pixels a colour is cut off (one channel at the limit, another far from it).
    Where all channels are at the limit the patch shows nothing, and is blank.
    """
    small = rgb[:: max(1, rgb.shape[0] // 512), :: max(1, rgb.shape[1] // 512)]
    brightest, weakest = small.max(axis=2), small.min(axis=2)
    low, high = np.percentile(brightest, (1, 99.5))
    dark = 0.5 * (255 - float(high)) / (255 - TOO_DARK)
    even = 1.0 if high - low < 3 and high < 150 else 0.0
    cut = 2 * float(((brightest >= 254) & (weakest < 225)).mean())
    return min(1.0, max(dark if dark > 0.4 else 0.0, float((brightest <= 8).mean()), even, cut))


def _sharp(rgb: NDArray[np.uint8], mpp: float) -> float:
    """Detail of 0.5 to 1 um relative to that of 1 to 2 um, in the quarter of the picture with most of the latter.

    Root mean squares of differences of Gaussians of grey optical density, as in ``focus.sharpness``. There the finer is
    compared with structure of 2 to 4 um over the whole patch, which depends far more on what the patch shows: 0.5 to
    1.4 on sharp patches of BCI, against 0.6 to 1 here; both fall to 0.3 to 0.6 where they are blurred by 1 um.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    density = -np.log10(np.maximum(grey, 1) / np.float32(255))
    sigma = max(0.5 / mpp, 0.7)
    layers = [cv2.GaussianBlur(density, (0, 0), sigma * factor) for factor in (1, 2, 4)]
    fine, coarse = (cv2.GaussianBlur((layers[i] - layers[i + 1]) ** 2, (0, 0), 12 * sigma) for i in (0, 1))
    most = coarse >= np.percentile(coarse, 75)
    return float(np.sqrt(fine[most].mean() / max(float(coarse[most].mean()), 1e-9)))


def _fitted(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at another resolution."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


def _in_words(kind: str, value: float) -> str:
    words = {
        "blur": f"out of focus ({value:.0%} less sharp than others)",
        "fold": f"fold ({value:.0%} of the patch)",
        "pen": f"pen ({value:.0%} of the patch)",
        "bubble": "air bubble or cover slip's edge",
        "crack": f"cracked tissue ({value:.0%} of it gaps)",
        "blank": f"blank ({value:.0%} glass)",
        "wrong_stain": "the colours of another stain",
        "exposure": "badly exposed",
    }
    return words[kind]
