"""What distinguishes one synthetic patient from the next, all drawn from (cohort seed, patient index)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.synthetic.hashing import subseed
from restain.synthetic.her2 import LEVELS, sample_shares
from restain.synthetic.options import SynthOptions

MORPHOLOGY_LOADING = 0.58
"""Correlation of each morphological trait with the level: four such traits together tell the level fairly, one alone
only vaguely."""


@dataclass(frozen=True)
class Patient:
    """Everything about a patient that is drawn once.

    Sizes in um. Traits marked (level) are correlated with the HER2 level; all others are independent of it.

    Attributes:
        name: "p0000", "p0001", ...
        index: position in the cohort.
        seed: the patient's own seed.
        level: index into LEVELS.
        shares: wanted share of tumour cells in membrane class 0, 1, 2, 3.
        lab: index of the laboratory.
        nuclear_radius: mean radius of tumour nuclei (level).
        pleomorphism: coefficient of variation of the radius from cell to cell (level).
        irregularity: relative amplitude of the nuclear outline's waves (level).
        vesicular: 0 dense even chromatin, 1 open nuclei with rim and nucleoli (level).
        solidity: 0 cords and small glands, 1 large solid nests (level).
        cell_spacing: distance between tumour cell centres.
        nest_scale: lattice spacing of the nest pattern.
        tumour: share of the tissue in the tumour's territory.
        nests: share of the territory that is nests.
        fat: share of the tissue that is adipose.
        inflammation: 0 hardly any lymphocytes, 1 dense infiltrate.
        myxoid: 0 dense collagen, 1 loose pale stroma.
        fibre_angle: main direction of the stroma in radians.
        texture_x: where the patient begins on the shared textures of grain, um.
        texture_y: the same along y.
        necrotic: whether the centres of large nests are necrotic.
        cleft: width of retraction clefts around nests.
        coupling: how closely local morphology follows local expression.
        intensity: factor on the DAB of all membranes, within what their classes allow.
        amphophilia: haematoxylin uptake of tumour cytoplasm around 1.
        cytoplasmic_eosin: eosin uptake of tumour cytoplasm around 1.
        granular: optical density of DAB in the cytoplasm of every tumour cell, whatever its membrane.
        secretion: whether gland lumina hold pale secretion.
        streaming: 0 tumour cells lie in disorder, 1 they are drawn out and stream.
        brittle: how readily collagen splits into sharp slits: above 0 often, below -1.5 hardly.
    """

    name: str
    index: int
    seed: int
    level: int
    shares: tuple[float, float, float, float]
    lab: int
    nuclear_radius: float
    pleomorphism: float
    irregularity: float
    vesicular: float
    solidity: float
    cell_spacing: float
    nest_scale: float
    tumour: float
    nests: float
    fat: float
    inflammation: float
    myxoid: float
    fibre_angle: float
    texture_x: float
    texture_y: float
    necrotic: bool
    cleft: float
    coupling: float
    intensity: float
    amphophilia: float
    cytoplasmic_eosin: float
    granular: float
    secretion: bool
    brittle: float
    streaming: float

    @property
    def tone(self) -> float:
        """Haematoxylin uptake of tumour nuclei: large nuclei fill the section better, which this makes up for."""
        return float((self.nuclear_radius / 4.35) ** -0.31)

    @property
    def her2(self) -> str:
        """The level's name."""
        return LEVELS[self.level]


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _correlated(level: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Four standard normal traits, each correlated with the level by MORPHOLOGY_LOADING and otherwise independent."""
    standard = (level - 1.5) / np.sqrt(1.25)
    rest = np.sqrt(1 - MORPHOLOGY_LOADING**2)
    traits: NDArray[np.float64] = MORPHOLOGY_LOADING * standard + rest * rng.standard_normal(4)
    return traits


def draw_level(seed: int, index: int, levels: Sequence[int] = (1, 1, 1, 1)) -> int:
    """The level of patient ``index``: each run of sum(levels) patients holds them in these numbers, shuffled."""
    run, place = divmod(index, sum(levels))
    order = np.random.default_rng(subseed(seed, "levels", run)).permutation(np.repeat(np.arange(len(LEVELS)), levels))
    return int(order[place])


def draw_patient(options: SynthOptions, index: int) -> Patient:
    """Patient ``index`` of the cohort, the same for any number of patients."""
    seed = subseed(options.seed, "patient", index)
    rng = np.random.default_rng(seed)
    level = draw_level(options.seed, index, options.levels)
    size, variety, chromatin, pattern = _correlated(level, rng)
    radius = float(np.clip(4.35 + 0.38 * size, 3.3, 5.8))
    solidity = _logistic(1.3 * pattern)
    return Patient(
        name=f"p{index:04d}",
        index=index,
        seed=seed,
        level=level,
        shares=sample_shares(level, np.random.default_rng(subseed(seed, "shares"))),
        lab=int(np.random.default_rng(subseed(seed, "lab")).integers(options.labs)),
        nuclear_radius=radius,
        pleomorphism=float(np.clip(0.14 + 0.045 * variety, 0.05, 0.28)),
        irregularity=float(np.clip(0.095 + 0.025 * variety, 0.04, 0.16)),
        vesicular=_logistic(1.5 * chromatin),
        solidity=solidity,
        # Spacing follows the radius, so that nuclei cover the same share of a nest whatever their size: otherwise
        # the amount of haematoxylin would tell the level. Solid nests have less border, where nuclei are rarer, and
        # are a little sparser and fewer for it (exponents measured on rendered slides).
        cell_spacing=radius * 2.16 * float(np.exp(0.1 * (solidity - 0.5)) * rng.lognormal(0.0, 0.04)),
        nest_scale=float(24 + 30 * solidity) * float(rng.lognormal(0.0, 0.12)),
        tumour=float(rng.uniform(0.5, 0.75)),
        nests=float(rng.uniform(0.42, 0.66) * np.exp(-0.17 * (solidity - 0.5))),
        fat=float(rng.beta(1.2, 4.0) * 0.4),
        inflammation=float(rng.beta(1.3, 2.2)),
        myxoid=float(rng.beta(1.5, 2.5)),
        fibre_angle=float(rng.uniform(0, np.pi)),
        texture_x=float(np.random.default_rng(subseed(seed, "texture", "x")).uniform(0, 400)),
        texture_y=float(np.random.default_rng(subseed(seed, "texture", "y")).uniform(0, 400)),
        necrotic=bool(rng.random() < options.necrosis),
        cleft=float(rng.uniform(4.0, 10.0) if rng.random() < 0.25 else rng.gamma(1.6, 1.1)),
        coupling=float(rng.uniform(0.4, 0.7)),
        intensity=float(rng.uniform(0.8, 1.25)),
        amphophilia=float(rng.uniform(0.75, 1.7)),
        cytoplasmic_eosin=float(rng.uniform(0.8, 1.5)),
        granular=float(rng.uniform(0.02, 0.11)) if rng.random() < 0.5 else 0.0,
        secretion=bool(rng.random() < 0.35),
        brittle=float(rng.uniform(-2.0, 0.0)),
        streaming=float(rng.random()),
    )
