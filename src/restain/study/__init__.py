"""Blinded reader studies: drawn from real and generated images, read in a browser, summed up.

Nothing is imported here: the server of a reading room needs ``store`` alone, which loads neither torch nor scipy.
"""
