"""What goes wrong on real slides: folds, pen, air bubbles, regions out of focus. All lie in the slide's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from restain.synthetic.hashing import hash_uniform, subseed
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
class Dirt:
    """Dark specks all over the slide: one site in each square of side ``site`` um, taken with probability ``share``."""

    seed: int
    site: float
    share: float


@dataclass(frozen=True)
class Artefacts:
    """The artefacts of one slide; ``defocus_seed`` is None where all of it is in focus."""

    folds: tuple[Fold, ...]
    pens: tuple[Pen, ...]
    bubbles: tuple[Bubble, ...]
    dirt: Dirt
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
    # Half the sites are taken on average; some slides are cleaner than others.
    site = 1000.0 * float(np.sqrt(0.5 / options.dirt)) if options.dirt > 0 else 1000.0
    dirt = Dirt(subseed(seed, "dirt"), site, float(rng.uniform(0.0, 1.0)) if options.dirt > 0 else 0.0)
    return Artefacts(tuple(folds), tuple(pens), tuple(bubbles), dirt, subseed(seed, "defocus") if blurred else None)


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
        rim = np.exp(-((inside / 3.5) ** 2)) * 0.45 + 0.15 * np.exp(-(((inside - 9) / 5.0) ** 2))
        veil = 0.06 * _step(inside / 3.0)
        light = light * (1 - rim[..., None].astype(np.float32)) * (1 - veil[..., None]) + veil[..., None]
    return np.asarray(light * _specks(artefacts.dirt, x, y), dtype=np.float32)


def _specks(dirt: Dirt, x: Field, y: Field) -> Field:
    """Light that specks of dirt let through [len(y), len(x), 1]."""
    light = np.ones((len(y), len(x), 1), dtype=np.float32)
    reach = 12.0
    columns = np.arange(int((x[0] - reach) // dirt.site), int((x[-1] + reach) // dirt.site) + 1)
    rows = np.arange(int((y[0] - reach) // dirt.site), int((y[-1] + reach) // dirt.site) + 1)
    u = hash_uniform(dirt.seed, np.arange(6), columns[:, None, None], rows[:, None])
    for column, row in np.argwhere(u[..., 0] < dirt.share):
        _, place_x, place_y, size, angle, density = u[column, row]
        left, top = (columns[column] + place_x) * dirt.site, (rows[row] + place_y) * dirt.site
        across = slice(*np.searchsorted(x, [left - reach, left + reach]))
        down = slice(*np.searchsorted(y, [top - reach, top + reach]))
        dx, dy = (x[across] - left)[None, :], (y[down] - top)[:, None]
        turn = np.arctan2(dy, dx) + 6.28 * angle
        outline = (1.2 + 4.5 * size**2) * (1 + 0.25 * np.cos(2 * turn) + 0.2 * np.cos(3 * turn + 9 * size))
        cover = _step((outline - np.hypot(dx, dy)) / 0.7) * (0.35 + 0.6 * density)
        light[down, across] *= (1 - cover[..., None]).astype(np.float32)
    return light


def _step(values: Field) -> Field:
    smooth: Field = 0.5 + 0.5 * np.tanh(values)
    return smooth
