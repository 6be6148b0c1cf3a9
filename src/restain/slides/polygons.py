"""Masks as polygons that QuPath reads (GeoJSON, level-0 pixels)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from restain.slides.tissue import TissueMask


def tissue_polygons(tissue: TissueMask, name: str = "Tissue") -> dict[str, Any]:
    """The outlines of a tissue mask as QuPath annotations.

    Args:
        tissue: the mask.
        name: the annotations' class in QuPath.

    Returns:
        A GeoJSON FeatureCollection: one polygon with its holes per connected part, coordinates in level-0 pixels from
        the slide's top left corner (to a quarter of a mask pixel), clipped to the slide. Write it with
        ``core.files.write_json`` as ``*.geojson`` and drop it on the open slide.
    """
    # contours run through pixel centres; at twice the size these lie a quarter of a mask pixel inside the edge
    doubled = tissue.mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    features = []
    for index, contour in enumerate(contours):
        if hierarchy[0][index][3] != -1 or len(contour) < 3:  # holes come with their outline
            continue
        rings = [_ring(contour, tissue)]
        hole = int(hierarchy[0][index][2])
        while hole != -1:
            if len(contours[hole]) >= 3:
                rings.append(_ring(contours[hole], tissue))
            hole = int(hierarchy[0][hole][0])
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": rings},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _ring(contour: cv2.typing.MatLike, tissue: TissueMask) -> list[list[float]]:
    """A closed ring of [x, y] in level-0 pixels."""
    points = (contour[:, 0].astype(np.float64) + 0.5) / 2 * tissue.downsample
    points = np.minimum(points, np.array(tissue.size, np.float64)).round(2)
    ring: list[list[float]] = points.tolist()
    return [*ring, ring[0]]
