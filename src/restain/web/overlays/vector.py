"""Polygons on tiles: drawn one by one where they are large enough, as mean colours where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.web.overlays.base import RGBA, Scene, Source, Tile
from restain.web.overlays.canvas import MARGIN, Canvas, mean_colours
from restain.web.overlays.geojson import Drawing, read_geojson
from restain.web.overlays.shapes import Shapes

LEAST = 3.5
"""px: polygons that are smaller are not drawn one by one."""
_LARGE = 8.0
"""Times the typical size: an annotation among cells, always drawn."""


_MOST_SHAPES, _MOST_CORNERS = 20_000, 1_000_000
"""Drawn on a tile; cells that do not overlap are at most 7,000."""


@dataclass(frozen=True)
class Style:
    """How polygons are drawn; opacities 0 to 1.

    Attributes:
        fill: opacity of the inside, by group; one value holds for all.
        edge: opacity of the edge.
        width: of the edge, px, where polygons are large.
        halo: opacity of a wider line behind the edge, which sets it off from the tissue.
        behind: its colour.
        far: opacity of the mean colour, where polygons are too small to be drawn.
    """

    fill: tuple[float, ...] = (0.0,)
    edge: float = 1.0
    width: int = 2
    halo: float = 0.0
    behind: tuple[int, int, int] = (255, 255, 255)
    far: float = 0.85


def source_of(scene: Scene) -> Source:
    """The file that is shown.

    Raises:
        RestainError: none was named.
    """
    if scene.source is None:
        raise RestainError("source: name the file that this overlay shows.")
    return scene.source


def drawing_of(scene: Scene) -> Drawing:
    """The polygons in the source, parsed once.

    Raises:
        RestainError: the source is damaged, or none was named.
    """
    source = source_of(scene)
    return scene.kept.get(("geojson", source.path, source.stamp), lambda: read_geojson(source.path))


def shown_shapes(scene: Scene, name: str, make: Callable[[], Shapes]) -> Shapes:
    """Shapes of the source on the shown px, mapped once.

    Args:
        scene: what is shown.
        name: of the overlay.
        make: the shapes on the source's own px.

    Raises:
        RestainError: as ``make``; or nothing says how the source's slide lies on the shown one.
    """
    source = source_of(scene)
    change = scene.to_shown(source.frame)

    def made() -> Shapes:
        shapes = make()
        return shapes if change is None else shapes.mapped(change)

    return scene.kept.get(scene.key("shapes", name, source.path, source.stamp, source.frame), made)


def draw(shapes: Shapes, tile: Tile, style: Style) -> RGBA | None:
    """The shapes of a tile; None where it has none."""
    numbers = shapes.within(tile.box(MARGIN))
    if not len(numbers):
        return None
    canvas = Canvas(tile)
    size = shapes.typical / tile.scale
    far = None
    if size < LEAST:
        boxes = shapes.boxes[numbers]
        small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < _LARGE * shapes.typical
        far = _far(shapes, numbers[small], tile, size, style)
        numbers = numbers[~small]
    numbers, stride = _bounded(shapes, numbers)
    groups = shapes.group[numbers]
    for group in np.unique(groups).tolist():  # classes, not shapes: the last ones lie above
        rings = [ring[::stride] if len(ring) > 8 * stride else ring for ring in shapes.rings(numbers[groups == group])]
        colour = tuple(shapes.palette[group].tolist())
        fill = style.fill[min(group, len(style.fill) - 1)]
        if fill > 0:
            canvas.fill(rings, colour, fill)
        width = style.width if size > 3 * LEAST else 1
        if style.halo > 0 and size > 2 * LEAST:
            canvas.outline(rings, style.behind, style.halo, width + 2)
        if style.edge > 0:
            canvas.outline(rings, colour, style.edge, width)
    if far is not None:
        canvas.lay(far)
    return canvas.picture()


def _bounded(shapes: Shapes, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Of too many shapes the largest, and of too many corners every how many: no file may hold up a tile for long."""
    if len(numbers) > _MOST_SHAPES:
        numbers = np.sort(numbers[np.argsort(-shapes.areas[numbers], kind="stable")[:_MOST_SHAPES]])
    corners = int((shapes.starts[numbers + 1] - shapes.starts[numbers]).sum())
    return numbers, max(1, -(-corners // _MOST_CORNERS))


def _far(shapes: Shapes, numbers: NDArray[np.int64], tile: Tile, size: float, style: Style) -> RGBA | None:
    group = shapes.group[numbers]
    colours, values = (shapes.palette, group) if shapes.ordered else (shapes.palette[group], None)
    spread = min(5.0, max(0.7, size / 2))
    return mean_colours(tile, shapes.centres[numbers], shapes.areas[numbers], colours, values, spread, style.far)
