"""The default encoder: what a pathologist would count, in named columns; no weights.

Fields are seen at 0.5 um/px with 32 um around the tiles, so that nuclei on a tile's border are whole; a nucleus belongs
to the tile that its centre lies in. ``stain_space`` says how laboratories' colours are taken out, ``nuclear_shapes``
what is measured on nuclei, ``tile_texture`` the rest. A tile without nuclei has 0 in the columns of nuclei, and
``nuclei_per_mm2`` says so.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np

from restain.her2.encoders.base import Encode, Encoder, Features, Field, register_encoder
from restain.her2.encoders.nuclear_shapes import MEASURES, MPP, Nuclei, find_nuclei
from restain.her2.encoders.stain_space import Plane, Stain, StainSpace, stain_space
from restain.her2.encoders.tile_statistics import NUCLEAR, PLUMP, Tiles, of_nuclei
from restain.her2.encoders.tile_texture import (
    Columns,
    amount_columns,
    architecture_columns,
    band_columns,
    cooccurrence_columns,
    pattern_columns,
)
from restain.slides import Slide, TissueMask

VERSION = "1"
"""Raised whenever a column's value changes."""

_MARGIN = 32.0
_LARGE, _SMALL, _LONG = 60.0, 28.0, 2.0
"""um^2, um^2, ratio of axes: nuclei that count as large, as small and round (lymphocytes), as long (fibroblasts)."""


@register_encoder("morphometry", "nuclei, amounts of stain, texture and architecture in named columns; no weights")
def morphometry(_: str, stain: Stain) -> Encoder:
    """The encoder for slides of that stain."""
    return Morphometry(stain)


class Morphometry(Encoder):
    """See this module's text.

    Args:
        stain: H&E, or IHC, where the second stain is DAB in absolute amounts.
    """

    name = "morphometry"
    mpp = MPP
    margin = _MARGIN
    light = True

    def __init__(self, stain: Stain = Stain.he) -> None:
        self.stain = stain
        self.second = "eosin" if stain is Stain.he else "dab"
        black = Field(np.zeros((64, 64, 3), np.uint8), np.zeros((1, 2), np.int64), 64, MPP)
        self._columns = tuple(self._measure(StainSpace(np.full(3, 255, np.uint8), np.ones((3, 2), np.float32)), black))
        self.names = self._columns
        digest = hashlib.sha256("\n".join(self._columns).encode()).hexdigest()[:8]
        self.version = f"{VERSION}-{digest}"

    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:
        """See ``Encoder``."""
        space = stain_space(slide, tissue, self.stain)

        def encode(field: Field) -> Features:
            columns = self._measure(space, field)
            return np.stack([columns[name] for name in self._columns], axis=1).astype(np.float32)

        return encode

    def _measure(self, space: StainSpace, field: Field) -> Columns:
        """The columns of a field's tiles."""
        amounts = space.amounts(field.rgb)
        haematoxylin, second = (np.ascontiguousarray(amounts[..., i]) for i in (0, 1))
        nuclei = find_nuclei(haematoxylin, second, space.dark, second if self.stain is Stain.ihc else None)
        smooth: Plane = np.asarray(cv2.GaussianBlur(haematoxylin, (0, 0), 1.0), np.float32)
        tiles = Tiles(field.corners, field.side)
        stains = {"haematoxylin": haematoxylin, self.second: second}
        architecture = architecture_columns(tiles, haematoxylin, nuclei.plump_mask, space.crowded)
        return {
            **self._nuclear_columns(tiles, nuclei),
            **{f"amount_{name}": values for name, values in amount_columns(tiles, stains).items()},
            **{f"texture_{name}": values for name, values in band_columns(tiles, stains).items()},
            **{f"texture_{name}": values for name, values in pattern_columns(tiles, smooth).items()},
            **{f"texture_{name}": values for name, values in cooccurrence_columns(tiles, stains).items()},
            **{f"architecture_{name}": values for name, values in architecture.items()},
        }

    def _nuclear_columns(self, tiles: Tiles, nuclei: Nuclei) -> Columns:
        tile, number = tiles.containing(nuclei.centres), len(tiles)
        measures = nuclei.measures
        found: Columns = {}
        for name in MEASURES:
            title = name.replace("counterstain", self.second)
            statistics = of_nuclei(tile, measures[name], nuclei.plump, number)
            found |= {f"nuclei_{title}_{kind}": column for kind, column in zip(NUCLEAR, statistics.T, strict=True)}
        inside = tile >= 0
        count = np.bincount(tile[inside], minlength=number)
        long = measures["elongation"] > _LONG
        kinds = {
            "large": measures["area"] > _LARGE,
            "small_round": (measures["area"] < _SMALL) & ~long,
            "long": long,
        }
        for title, values in nuclei.crowding.items():
            found[f"nuclei_crowding_{title}"] = of_nuclei(tile, values, nuclei.plump, number)[:, PLUMP]
        area = [NUCLEAR.index(name) for name in ("plump", "plump_deviation")]
        size = of_nuclei(tile, measures["area"], nuclei.plump, number)[:, area]
        found["nuclei_area_variation"] = size[:, 1] / np.maximum(size[:, 0], 1)
        found["nuclei_per_mm2"] = count / ((tiles.side * MPP / 1000) ** 2)
        for name, chosen in kinds.items():
            found[f"nuclei_share_{name}"] = np.bincount(tile[inside & chosen], minlength=number) / np.maximum(count, 1)
        return found
