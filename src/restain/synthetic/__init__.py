"""Synthetic breast-cancer patients: paired H&E and HER2-IHC slides with known truth.

A patient is a piece of tissue in three dimensions (``architecture``, ``ducts``, ``cells``) that two sections are cut
from (``stamping``), stained (``compose``), bent (``deformation``) and scanned (``optics``, ``artefacts``). Nothing is
stored: every block of a slide is drawn on demand from hashed random numbers (``hashing``, ``lattice``, ``noise``), so
that it is the same in any order, process and cohort. The generator is versioned and frozen: the same version, seed and
options give the same bytes; whatever moves a pixel or a truth raises ``GENERATOR_VERSION``.
"""

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
