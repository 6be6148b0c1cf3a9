"""Slides and images: read at any um/px, tissue, tiles, and streaming pyramids out."""

from restain.slides.images import read_image, write_image
from restain.slides.info import SlideInfo, slide_info
from restain.slides.polygons import tissue_polygons
from restain.slides.pyramid import PyramidWriter
from restain.slides.slide import Slide, open_slide
from restain.slides.tiles import tile_grid
from restain.slides.tissue import (
    CoarseMask,
    TissueMask,
    coarse_downsample,
    find_tissue,
    glass_colour,
    ink_coloured,
    tissue_and_ink,
    tissue_mask,
)

__all__ = [
    "CoarseMask",
    "PyramidWriter",
    "Slide",
    "SlideInfo",
    "TissueMask",
    "coarse_downsample",
    "find_tissue",
    "glass_colour",
    "ink_coloured",
    "open_slide",
    "read_image",
    "slide_info",
    "tile_grid",
    "tissue_and_ink",
    "tissue_mask",
    "tissue_polygons",
    "write_image",
]
