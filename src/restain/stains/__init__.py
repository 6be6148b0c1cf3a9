"""What colour says: deconvolution, optical density, DAB, membranes, nuclei and their density."""

from restain.stains.blobs import ClassicalNuclei
from restain.stains.deconvolution import (
    HED_FROM_RGB,
    RGB_FROM_HED,
    dab,
    dab_rgb,
    haematoxylin,
    hed,
    optical_density,
)
from restain.stains.density import DensityScale, count, density_map
from restain.stains.knowledge import Knowledge, KnowledgeOptions, extract, knowledge_picture
from restain.stains.membrane import dab_only, dab_saturation, membrane_mask, membrane_ratio
from restain.stains.nuclei import Detector, NucleusDetector, haematoxylin_mask, make_detector

__all__ = [
    "HED_FROM_RGB",
    "RGB_FROM_HED",
    "ClassicalNuclei",
    "DensityScale",
    "Detector",
    "Knowledge",
    "KnowledgeOptions",
    "NucleusDetector",
    "count",
    "dab",
    "dab_only",
    "dab_rgb",
    "dab_saturation",
    "density_map",
    "extract",
    "haematoxylin",
    "haematoxylin_mask",
    "hed",
    "knowledge_picture",
    "make_detector",
    "membrane_mask",
    "membrane_ratio",
    "optical_density",
]
