"""restain: breast tissue from an H&E slide to HER2."""

__version__ = "0.1.0"
