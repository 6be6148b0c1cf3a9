"""What goes wrong on real slides: folds, pen, air bubbles, regions out of focus. All lie in the slide's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restain.synthetic.hashing import subseed
from restain.synthetic.noise import Field, LatticeNoise
from restain.synthetic.options import SynthOptions
from restain.synthetic.patient import Patient

_INKS = {"black": (0.9, 0.88, 0.8), "blue": (1.3, 0.75, 0.12), "green": (1.2, 0.18, 0.75), "red": (0.08, 1.1, 0.95)}


@dataclass(frozen=True)
class Fold:
    """Tissue lying double along a bent line through (x, y) um in direction ``angle``, ``width`` um wide."""

    x: float
    y: float
    angle: float
    width: float
    bend: float


@dataclass(frozen=True)
class Pen:
    """A stroke of ink through (x, y) um, bent with ``radius``, ``width`` um wide."""

    x: float
    y: float
    radius: float
    width: float
    ink: str


@dataclass(frozen=True)
class Bubble:
    """Air under the cover slip: a disc around (x, y) um."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Artefacts:
    """The artefacts of one slide; ``defocus_seed`` is None where all of it is in focus."""

    folds: tuple[Fold, ...]
    pens: tuple[Pen, ...]
    bubbles: tuple[Bubble, ...]
    defocus_seed: int | None

    def names(self) -> list[str]:
        """What there is, for the truth file."""
        kinds = {"fold": self.folds, "pen": self.pens, "bubble": self.bubbles}
        return [name for name, found in kinds.items() if found] + (
            ["out_of_focus"] if self.defocus_seed is not None else []
        )


def draw_artefacts(options: SynthOptions, patient: Patient, stain: str) -> Artefacts:
    """The artefacts of one slide of a patient, independent of the level."""
    seed = subseed(patient.seed, "artefacts", stain)
    rng = np.random.default_rng(seed)
    side = options.side
    folds, pens, bubbles = [], [], []
    if rng.random() < options.folds:
        x, y = rng.uniform(0.2, 0.8, size=2) * side
        width = float(min(rng.uniform(10, 40), 0.05 * side))
        folds.append(
            Fold(float(x), float(y), float(rng.uniform(0, np.pi)), width, float(rng.uniform(0.05, 0.2) * side))
        )
    if rng.random() < (options.pen if stain == "he" else 0.3 * options.pen):
        corner = rng.integers(0, 2, size=2) * side
        width = float(min(rng.uniform(150, 450), 0.1 * side))
        radius = float(rng.uniform(0.15, 0.4) * side)
        pens.append(Pen(float(corner[0]), float(corner[1]), radius, width, str(rng.choice(list(_INKS)))))
    if rng.random() < options.bubbles:
        for _ in range(int(rng.integers(1, 4))):
            x, y = rng.uniform(0, 1, size=2) * side
            bubbles.append(Bubble(float(x), float(y), float(min(rng.uniform(40, 300), 0.12 * side))))
    blurred = rng.random() < options.out_of_focus
    return Artefacts(tuple(folds), tuple(pens), tuple(bubbles), subseed(seed, "defocus") if blurred else None)


def thickness_factor(artefacts: Artefacts, x: Field, y: Field) -> Field | None:
    """How many times its thickness the tissue lies at the crossings of ``x`` and ``y`` (um); None: 1 everywhere."""
    if not artefacts.folds:
        return None
    factor = np.ones((len(y), len(x)), dtype=np.float32)
    for fold in artefacts.folds:
        dx, dy = (x - fold.x)[None, :], (y - fold.y)[:, None]
        along = np.cos(fold.angle) * dx + np.sin(fold.angle) * dy
        across = np.cos(fold.angle) * dy - np.sin(fold.angle) * dx
        across = across + fold.bend * np.sin(along / (3.1 * fold.bend)) * 0.35
        width = fold.width * (0.75 + 0.25 * np.sin(along / 63.0) + 0.1 * np.sin(along / 17.0))
        inside = _step((width / 2 - np.abs(across)) / 2.0)
        ends = _step((1.6 * fold.bend + 80.0 - np.abs(along)) / 25.0)
        factor += (1.15 * inside * ends).astype(np.float32)
    return factor


def defocus(artefacts: Artefacts, side: float, x: Field, y: Field) -> Field | None:
    """0 sharp to 1 far out of focus at the crossings of ``x`` and ``y`` (um); None: sharp everywhere."""
    if artefacts.defocus_seed is None:
        return None
    scale = float(np.clip(0.35 * side, 120.0, 1200.0))
    field = LatticeNoise(artefacts.defocus_seed, scale).on_grid(x, y)
    return np.asarray(np.clip((field - 0.7) * 1.2, 0.0, 1.0), dtype=np.float32)


def overlay(light: Field, artefacts: Artefacts, x: Field, y: Field) -> Field:
    """``light`` [len(y), len(x), 3] after ink and bubbles."""
    for pen in artefacts.pens:
        distance = np.abs(np.hypot((x - pen.x)[None, :], (y - pen.y)[:, None]) - pen.radius)
        uneven = 0.8 + 0.2 * LatticeNoise(int(pen.radius * 997), 30.0).on_grid(x, y)
        cover = (_step((pen.width / 2 - distance) / 3.0) * uneven).astype(np.float32)
        if cover.max() > 1e-3:
            light = light * np.exp(-2.303 * cover[..., None] * np.asarray(_INKS[pen.ink], dtype=np.float32))
    for bubble in artefacts.bubbles:
        inside = bubble.radius - np.hypot((x - bubble.x)[None, :], (y - bubble.y)[:, None])
        if inside.max() < -20.0:
            continue
        rim = np.exp(-((inside / 3.5) ** 2)) * 0.55 + 0.2 * np.exp(-(((inside - 9) / 5.0) ** 2))
        veil = 0.06 * _step(inside / 3.0)
        light = light * (1 - rim[..., None].astype(np.float32)) * (1 - veil[..., None]) + veil[..., None]
    return np.asarray(light, dtype=np.float32)


def _step(values: Field) -> Field:
    smooth: Field = 0.5 + 0.5 * np.tanh(values)
    return smooth
