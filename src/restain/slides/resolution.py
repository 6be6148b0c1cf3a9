"""um/px from what a file says, and only where it says it: a resolution is never guessed."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping

import tifffile

SQUARE = 0.02
"""Pixels whose sides differ by less than this share count as square, at their geometric mean."""

_PRINTER_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 200, 240, 300, 360, 400, 600, 720, 1200, 2400, 4800, 9600)
_UM = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3,
    "pm": 1e-6, "in": 25400.0, "inch": 25400.0,
}  # fmt: skip

Resolution = tuple[float, float]
"""um/px along x and y."""


def checked(x: float | None, y: float | None) -> Resolution | None:
    """(x, y) where both are positive, finite and below 1 mm per pixel; None otherwise. A missing one is the other's."""
    x, y = (x if x is not None else y), (y if y is not None else x)
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return None
    return (x, y) if 0 < x < 1000 and 0 < y < 1000 else None


def single(resolution: Resolution) -> float | None:
    """One um/px for both axes (their geometric mean, which keeps areas right); None for pixels that are not square."""
    x, y = resolution
    return math.sqrt(x * y) if abs(x / y - 1) <= SQUARE else None


def from_openslide(properties: Mapping[str, str]) -> Resolution | None:
    """From OpenSlide's ``openslide.mpp-x`` and ``-y``."""

    def value(name: str) -> float | None:
        try:
            return float(properties[name])
        except (KeyError, ValueError):
            return None

    return checked(value("openslide.mpp-x"), value("openslide.mpp-y"))


def from_ome(xml: str) -> Resolution | None:
    """From the first image's ``PhysicalSizeX`` and ``Y`` in an OME-XML (default unit um)."""
    try:
        root = ET.fromstring(xml)
    except ET.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None

    def value(axis: str) -> float | None:
        unit = _UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            return float(pixels.attrib[f"PhysicalSize{axis}"]) * unit if unit is not None else None
        except (KeyError, ValueError):
            return None

    return checked(value("X"), value("Y"))


def from_tiff(page: tifffile.TiffPage, imagej: Mapping[str, object] | None) -> Resolution | None:
    """From the TIFF resolution tags, where they can be a microscope's.

    Printers' and scanners' values (72, 96, 300 ... dots per inch) are what programs write that know nothing, and more
    than 10 um per pixel is no micrograph: both count as unknown. ImageJ puts its unit into the description.
    """
    try:
        x, y = (_ratio(page.tags[name].value) for name in ("XResolution", "YResolution"))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if x <= 0 or y <= 0:
        return None
    if imagej is not None and isinstance(imagej.get("unit"), str):
        unit = _UM.get(str(imagej["unit"]).replace("\\u00B5", "µ"))
        return checked(unit / x, unit / y) if unit is not None else None
    tag = page.tags.get("ResolutionUnit")
    per_um = {2: 25400.0, 3: 1e4}.get(int(tag.value) if tag is not None else 2)
    if per_um is None:
        return None
    resolution = checked(per_um / x, per_um / y)
    if resolution is None or max(resolution) > 10:
        return None
    dpi = 25400 / resolution[0]
    return None if any(abs(dpi / known - 1) < 1e-3 for known in _PRINTER_DPI) else resolution


def _ratio(value: tuple[int, int]) -> float:
    return value[0] / value[1]
