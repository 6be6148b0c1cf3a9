"""What colour says: deconvolution, optical density, DAB."""

from restain.stains.deconvolution import HED_FROM_RGB, RGB_FROM_HED, dab, dab_rgb, hed, optical_density

__all__ = ["HED_FROM_RGB", "RGB_FROM_HED", "dab", "dab_rgb", "hed", "optical_density"]
