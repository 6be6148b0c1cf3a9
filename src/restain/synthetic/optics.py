"""From stain concentrations to what a scanner writes: Beer-Lambert, white point, blur, noise; and how labs differ."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.synthetic.hashing import subseed
from restain.synthetic.noise import Field
from restain.synthetic.options import SynthOptions
from restain.synthetic.patient import Patient

# Mean stain vectors in optical density (R, G, B): H&E and H-DAB as Ruifrok and Johnston 2001 give them, moved towards
# what current slides show (eosin less pure, IHC counterstain paler and bluer); labs vary around them.
_HAEMATOXYLIN = (0.575, 0.725, 0.375)
_EOSIN = (0.20, 0.83, 0.52)
_BLOOD = (0.17, 0.83, 0.53)
_COUNTERSTAIN = (0.65, 0.60, 0.46)
_DAB = (0.31, 0.52, 0.79)


@dataclass(frozen=True)
class Scanner:
    """How light through the section becomes 8-bit pixels.

    Attributes:
        white: uint8-scale RGB of empty glass.
        floor: uint8-scale value of opaque matter (stray light).
        gamma: exponent of the tone curve.
        blur: standard deviation of the optics in um.
        noise: standard deviation of the noise at white, in grey values.
        fringe: um by which the red and blue images lie beside the green one (chromatic aberration).
        sharpening: strength of the scanner's unsharp mask.
        quality: JPEG quality of the slide.
    """

    white: tuple[float, float, float]
    floor: float
    gamma: float
    blur: float
    noise: float
    fringe: float
    sharpening: float
    quality: int


@dataclass(frozen=True)
class Staining:
    """How strongly and in which colours a slide is stained.

    Attributes:
        vectors: float64 [stains, 3]: optical density per unit concentration in R, G, B. H&E: haematoxylin, eosin,
            blood; IHC: haematoxylin, DAB.
        strength: factor on each stain's concentration.
        background: H&E: haematoxylin in the matrix; IHC: unspecific DAB in stroma.
        blush: IHC: cytoplasmic staining beside the membrane.
    """

    vectors: NDArray[np.float64]
    strength: tuple[float, ...]
    background: float
    blush: float


@dataclass(frozen=True)
class SlideLook:
    """Staining and scanner of one slide."""

    staining: Staining
    scanner: Scanner


def draw_look(options: SynthOptions, patient: Patient, stain: str) -> SlideLook:
    """How one slide of a patient is stained and scanned.

    Args:
        options: the cohort's seed.
        patient: its laboratory, and its own small variation; nothing here depends on the level.
        stain: "he" or "ihc".
    """
    lab = np.random.default_rng(subseed(options.seed, "lab", patient.lab, stain))
    day = np.random.default_rng(subseed(patient.seed, "look", stain))
    return SlideLook(_staining(lab, day, stain), _scanner(lab, day, stain))


def _staining(lab: np.random.Generator, day: np.random.Generator, stain: str) -> Staining:
    bases = (_HAEMATOXYLIN, _EOSIN, _BLOOD) if stain == "he" else (_COUNTERSTAIN, _DAB)
    vectors = []
    for base in bases:
        # DAB is one pigment; haematoxylins and eosins differ by recipe.
        spread = 0.02 if base is _DAB else 0.03 if base is _COUNTERSTAIN else 0.038
        vector = np.asarray(base) + spread * lab.standard_normal(3) + 0.015 * day.standard_normal(3)
        vector = np.maximum(vector, 0.02)
        vectors.append(vector / np.linalg.norm(vector))
    # Overall strength varies far more from lab to lab than the balance of the stains does.
    overall = 0.0
    if stain == "he":
        overall = 0.26 * lab.standard_normal() + 0.08 * day.standard_normal()
        overall += 0.4 if lab.random() < 0.25 else 0.0  # some labs stain far more deeply
    balance = 0.16 * lab.standard_normal(len(bases)) + 0.07 * day.standard_normal(len(bases))
    if stain == "ihc":
        balance[0] += 0.25 * lab.standard_normal()  # counterstains differ most
    strength = (0.7 if stain == "he" else 1.0) * np.exp(overall + balance)
    background = float(np.exp(lab.uniform(np.log(0.45), np.log(2.4)) + 0.2 * day.standard_normal()))
    blush = float(lab.uniform(0.2, 0.55) * np.exp(0.15 * day.standard_normal()))
    return Staining(np.asarray(vectors), tuple(float(value) for value in strength), background, blush)


def _scanner(lab: np.random.Generator, day: np.random.Generator, stain: str) -> Scanner:
    grey = lab.random() < (0.5 if stain == "ihc" else 0.35)
    dim = lab.uniform(174, 192) if stain == "ihc" else lab.uniform(212, 234)
    level = dim if grey else lab.uniform(240, 252)
    # Lamps are warm: red is the brightest channel of empty glass, blue the darkest.
    tint = -np.array([0.0, lab.uniform(0.0, 2.5), lab.uniform(1.5, 7.0)])
    white = np.clip(level + tint + day.normal(0.0, 1.5) + day.normal(0.0, 0.7, size=3), 160, 254)
    return Scanner(
        white=(float(white[0]), float(white[1]), float(white[2])),
        floor=float(lab.uniform(4, 14)),
        gamma=float(np.exp(0.07 * lab.standard_normal())),
        blur=float(
            lab.uniform(*((0.3, 0.72) if stain == "he" else (0.38, 0.85))) * np.exp(0.12 * day.standard_normal())
        ),
        noise=float(lab.uniform(1.0, 3.2)),
        fringe=float(lab.uniform(0.0, 0.16)),
        sharpening=float(lab.uniform(0.2, 1.0)),
        quality=int(lab.integers(76, 93)),
    )


def transmit(concentrations: list[Field], staining: Staining) -> NDArray[np.float32]:
    """Light that passes a stained section (Beer-Lambert): float32 [H, W, 3] in (0, 1].

    Args:
        concentrations: one float32 [H, W] map per stain of ``staining.vectors``, in optical-density units.
        staining: vectors and strengths.
    """
    weighted = staining.vectors * np.asarray(staining.strength)[:, None] * -np.log(10.0)
    stacked = np.stack(concentrations, axis=-1)
    exponent = cv2.transform(stacked, np.ascontiguousarray(weighted.T.astype(np.float32)))
    return np.asarray(cv2.exp(exponent))


def scan(
    light: NDArray[np.float32], scanner: Scanner, mpp: float, defocus: Field | None, seed: int
) -> NDArray[np.uint8]:
    """What the scanner records: uint8 RGB [H, W, 3].

    Args:
        light: transmitted light [H, W, 3] in (0, 1], with a margin the caller cuts off.
        scanner: the optics and the sensor.
        mpp: um per px.
        defocus: 0 sharp to 1 far out of focus [H, W]; None where all is sharp.
        seed: of the noise.
    """
    sharp = cv2.GaussianBlur(light, (0, 0), max(scanner.blur / mpp, 0.3))
    if scanner.sharpening > 0.05:
        soft = cv2.GaussianBlur(sharp, (0, 0), max(0.8 / mpp, 0.5))
        sharp = cv2.addWeighted(sharp, 1 + scanner.sharpening, soft, -scanner.sharpening, 0.0)
    if defocus is not None:
        far = cv2.GaussianBlur(light, (0, 0), 1.9 / mpp)
        sharp += defocus[..., None] * (far - sharp)
    shift = scanner.fringe / mpp
    if shift > 0.05:
        sharp = sharp.copy()
        for channel, sign in ((0, 1.0), (2, -1.0)):
            matrix = np.array([[1, 0, sign * shift], [0, 1, 0.6 * sign * shift]])
            size = (sharp.shape[1], sharp.shape[0])
            sharp[..., channel] = cv2.warpAffine(
                np.ascontiguousarray(sharp[..., channel]), matrix, size, borderMode=cv2.BORDER_REPLICATE
            )
    np.clip(sharp, 0.0, 1.0, out=sharp)
    if abs(scanner.gamma - 1) > 0.005:
        sharp = cv2.pow(sharp, scanner.gamma)
    white = np.asarray(scanner.white, dtype=np.float32)
    grey = scanner.floor + sharp * (white - np.float32(scanner.floor))
    noise = np.random.default_rng(seed).standard_normal(grey.shape, dtype=np.float32)
    grey += noise * np.float32(scanner.noise) * (0.45 + 0.55 * sharp)
    return np.asarray(np.clip(np.rint(grey), 0, 255), dtype=np.uint8)
