"""What a slide is, in a few lines: for ``restain info``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restain.slides.slide import Slide
from restain.slides.tissue import tissue_mask


@dataclass(frozen=True)
class SlideInfo:
    """A slide's facts.

    Attributes:
        path: the file.
        reader: what reads it.
        size: (width, height) of level 0.
        mpp: um/px; None where unknown (or where the pixels are not square, see ``mpp_xy``).
        mpp_xy: um/px along x and y as the file states them; None where it does not.
        offset: where level 0 begins on the scanner's plane, level-0 pixels.
        levels: (width, height) of every level.
        tissue_share: 0 to 1.
        tissue_area_um2: None without a resolution.
        white: the glass's colour (r, g, b), 0 to 255.
    """

    path: str
    reader: str
    size: tuple[int, int]
    mpp: float | None
    mpp_xy: tuple[float, float] | None
    offset: tuple[int, int]
    levels: tuple[tuple[int, int], ...]
    tissue_share: float
    tissue_area_um2: float | None
    white: tuple[int, int, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; unknown is null, tuples are lists."""
        width, height = self.size
        return {
            "path": self.path,
            "reader": self.reader,
            "width": width,
            "height": height,
            "mpp": self.mpp,
            "mpp_xy": None if self.mpp_xy is None else list(self.mpp_xy),
            "offset": list(self.offset),
            "levels": [{"width": w, "height": h, "downsample": width / w} for w, h in self.levels],
            "tissue_share": self.tissue_share,
            "tissue_area_um2": self.tissue_area_um2,
            "white": list(self.white),
        }


def slide_info(slide: Slide) -> SlideInfo:
    """Look at a slide: what reads it, sizes, um/px, tissue.

    Raises:
        UnreadableImageError: its pixels cannot be read.
    """
    tissue = tissue_mask(slide)
    red, green, blue = (int(value) for value in tissue.white)
    return SlideInfo(
        path=str(slide.path),
        reader=slide.reader,
        size=slide.size,
        mpp=slide.mpp,
        mpp_xy=slide.mpp_xy,
        offset=slide.offset,
        levels=tuple(slide.levels),
        tissue_share=tissue.share,
        tissue_area_um2=tissue.area_um2,
        white=(red, green, blue),
    )
