"""Which served slide a path means that was typed elsewhere: folders move, and names repeat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from restain.web.scan import SlideFile, title_of

FEATURES = (".h5", ".hdf5")
"""Files that stand for the slide of their name."""


class SlideIndex:
    """The slides of the served folder, to be found by what other files say of them.

    Args:
        slides: all of them.
    """

    def __init__(self, slides: Iterable[SlideFile]) -> None:
        self._by_name: dict[str, list[SlideFile]] = defaultdict(list)
        self._by_title: dict[str, list[SlideFile]] = defaultdict(list)
        self._by_end: dict[tuple[str, str], list[SlideFile]] = defaultdict(list)  # where each patient has a he.svs
        for slide in slides:
            self._by_name[slide.path.name].append(slide)
            self._by_end[slide.path.parent.name, slide.path.name].append(slide)
            self._by_title[slide.title].append(slide)

    def named(self, typed: str) -> list[SlideFile]:
        """The slides that a typed path may mean: those that agree with most of its end.

        Args:
            typed: as somebody typed it: absolute, relative to whatever folder, or of another computer; or features of
                a slide, which have its name.
        """
        parts = PurePosixPath(typed.replace("\\", "/")).parts
        if not parts:
            return []
        if parts[-1].lower().endswith(FEATURES):
            return _closest(self._by_title.get(title_of(parts[-1]), []), parts[:-1])
        near = self._by_end.get((parts[-2], parts[-1]), []) if len(parts) > 1 else []
        return _closest(near or self._by_name.get(parts[-1], []), parts[:-1])

    def titled(self, title: str) -> list[SlideFile]:
        """The slides of a title, which is a name without suffixes."""
        return self._by_title.get(title, [])

    def stamped(self, name: str, size: int, mtime_ns: int, near: Path) -> SlideFile | None:
        """The slide of a name and a size in bytes; of several one also of the time, and nearest to ``near``."""
        alike = [slide for slide in self._by_name.get(name, []) if slide.bytes == size]
        alike = [slide for slide in alike if slide.mtime_ns == mtime_ns] or alike
        return next(iter(nearest(alike, near)), None)


def nearest(slides: list[SlideFile], near: Path) -> list[SlideFile]:
    """Of several slides those that share most folders with ``near``."""

    def shared(slide: SlideFile) -> int:
        return _common(slide.path.parts, near.parts)

    best = max(map(shared, slides), default=0)
    return [slide for slide in slides if shared(slide) == best]


def _closest(slides: list[SlideFile], folders: tuple[str, ...]) -> list[SlideFile]:
    """Of several slides those whose folders, from the innermost out, agree most with those given."""

    def alike(slide: SlideFile) -> int:
        return _common(folders[::-1], slide.path.parent.parts[::-1])

    best = max(map(alike, slides), default=0)
    return [slide for slide in slides if alike(slide) == best]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts two sequences have in common from their beginning on."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
