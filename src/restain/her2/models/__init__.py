"""Slide models, one published method a file; found by ``restain.her2.base.MODELS``."""
