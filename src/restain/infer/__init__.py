"""Applying a trained stainer to patches and to whole slides."""
