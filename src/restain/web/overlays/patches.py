"""Patches that ``restain pairs`` cut: the kept ones, and the dropped ones by why they were."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.web.overlays.base import RGBA, Entry, Frame, Offer, Scene, Tile, hex_colour
from restain.web.overlays.shapes import Shapes, no_shapes
from restain.web.overlays.tables import Patches, read_patches
from restain.web.overlays.vector import Style, draw, source_of

KEPT = (0, 158, 115)
REASONS = {
    "little tissue": (120, 120, 130),
    "pen": (0, 0, 0),
    "filled border": (0, 114, 178),
    "without tumour": (240, 228, 66),
    "out of focus": (86, 180, 233),
    "badly aligned": (204, 60, 160),
    "fold": (230, 159, 0),
    "air bubble": (213, 94, 0),
}
"""By the first words of a reason; Okabe and Ito's colours, which the colour blind tell apart."""
OTHER = (150, 90, 40)
PER_EDGE = 4
"""Corners along an edge: on the other slide it is bent."""

_KEYS = (*REASONS, "other reason")
_PALETTE = np.array([KEPT, *REASONS.values(), OTHER], np.uint8)
_STYLE = Style(fill=(0.0, *[0.28] * len(_KEYS)), edge=0.9, width=1, far=0.45)


class PatchesOverlay:
    """See this module's text."""

    kind = "patches"
    label = "Patches"
    needs_source = True

    def offer(self, scene: Scene) -> Offer | None:
        """See ``Overlay``."""
        patches = _patches(scene)
        if not len(patches.side):
            return None
        groups = _groups(patches)
        entries = [Entry(f"kept ({int((groups == 0).sum())})", hex_colour(KEPT))]
        for number, key in enumerate(_KEYS, start=1):
            many = int((groups == number).sum())
            if many:
                entries.append(Entry(f"{key} ({many})", hex_colour(_PALETTE[number])))
        return Offer(tuple(entries), "Patches of the dataset; those filled with a colour were dropped for that reason.")

    def render(self, scene: Scene, tile: Tile) -> RGBA | None:
        """See ``Overlay``."""
        source = source_of(scene)
        name = scene.key("patches", source.path, source.stamp, source.item, source.frame)
        return draw(scene.kept.get(name, lambda: _shapes(scene)), tile, _STYLE)


def _patches(scene: Scene) -> Patches:
    source = source_of(scene)
    item = source.item or (scene.registered.name if scene.registered else "") or _stem(scene.slide.path.name)
    return scene.kept.get(("pairs", source.path, source.stamp, item), lambda: read_patches(source.path, item))


def _shapes(scene: Scene) -> Shapes:
    """The patches' outlines on the shown px."""
    patches, source = _patches(scene), source_of(scene)
    groups = _groups(patches)
    sides = np.array(patches.side)
    parts = []
    for side in ("", "he", "ihc"):
        chosen = sides == side
        if not chosen.any():
            continue
        frame = _frame(scene, source.frame, side, patches.aligned)
        if frame is None:  # of the other slide, and nothing says how they lie on each other
            continue
        outlines = _outlines(patches.corners[chosen], patches.um[chosen] / _mpp(scene, frame), groups[chosen])
        change = scene.to_shown(frame)
        parts.append(outlines if change is None else outlines.mapped(change))
    return _joined(parts)


def _frame(scene: Scene, given: Frame, side: str, aligned: bool) -> Frame | None:
    """In whose px patches of a side are; None where they cannot be shown."""
    if side == "":
        return Frame.own if aligned and scene.registered is None else given
    wanted = Frame(side)
    if scene.registered is not None and Frame.own not in (scene.part, scene.shown):
        return wanted
    part = scene.part if scene.part is not Frame.own else _told_by_name(scene.slide.path.name)
    return Frame.own if part is wanted else None


def _told_by_name(name: str) -> Frame:
    words = re.split(r"[^a-z]+", name.lower())
    return Frame.he if "he" in words else Frame.ihc if "ihc" in words else Frame.own


def _mpp(scene: Scene, frame: Frame) -> float:
    """um/px of the slide in whose px the patches are."""
    given = scene.part if frame is Frame.own else frame
    if scene.registered is not None and given is not Frame.own:
        transform = scene.registered.transform
        return transform.he_mpp if given is Frame.he else transform.ihc_mpp
    if scene.slide.mpp is None:
        raise RestainError(f"{scene.slide.path.name}: the file does not say its um/px, which the patches' size needs.")
    return scene.slide.mpp


def _outlines(corners: NDArray[np.float64], sides: NDArray[np.float64], groups: NDArray[np.uint8]) -> Shapes:
    """Squares from their upper left corners and sides, all in the same px."""
    step = np.arange(PER_EDGE) / PER_EDGE
    zero, one = np.zeros(PER_EDGE), np.ones(PER_EDGE)
    ring = np.concatenate(
        [np.stack(edge, 1) for edge in ((step, zero), (one, step), (1 - step, one), (zero, 1 - step))]
    )
    vertices = (corners[:, None] + ring * sides[:, None, None]).reshape(-1, 2).astype(np.float32)
    starts = np.arange(len(corners) + 1, dtype=np.int64) * len(ring)
    return Shapes(vertices, starts, groups, _PALETTE).only_sound()


def _joined(parts: list[Shapes]) -> Shapes:
    if not parts:
        return no_shapes(_PALETTE)
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    vertices, group = (np.concatenate([getattr(part, name) for part in parts]) for name in ("vertices", "group"))
    return Shapes(vertices, starts, group, _PALETTE)


def _groups(patches: Patches) -> NDArray[np.uint8]:
    """0 for kept patches, else the number of the reason from 1."""
    numbers = {reason: _number(reason) for reason in set(patches.reason)}
    return np.array([numbers[reason] for reason in patches.reason], np.uint8)


def _number(reason: str) -> int:
    if not reason:
        return 0
    found = (number for number, key in enumerate(REASONS, start=1) if reason.startswith(key))
    return next(found, len(_KEYS))


def _stem(name: str) -> str:
    """A slide's name without suffixes and without its stain, as a row of a cohort may be called."""
    stem = re.sub(r"(\.ome)?\.[A-Za-z0-9]+$", "", name)
    return re.sub(r"[_\- ](he|ihc)$", "", stem, flags=re.IGNORECASE)
