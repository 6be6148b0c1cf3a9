"""Synthetic breast-cancer patients: paired H&E and HER2-IHC slides with known truth."""

from restain.synthetic.cohort import generate_cohort, make_patient
from restain.synthetic.deformation import Deformation
from restain.synthetic.her2 import LEVELS, asco_cap_level
from restain.synthetic.options import GENERATOR_VERSION, SynthOptions
from restain.synthetic.render import Block, SlideRenderer
from restain.synthetic.world import World

__all__ = [
    "GENERATOR_VERSION",
    "LEVELS",
    "Block",
    "Deformation",
    "SlideRenderer",
    "SynthOptions",
    "World",
    "asco_cap_level",
    "generate_cohort",
    "make_patient",
]
