"""What must be alike before values are averaged: test-time views, stainer, um/px."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from restain.core.errors import RestainError
from restain.evaluate.folders import NamedFiles, RealImage, printable
from restain.infer.record import RECORD, Origin

SAME_MPP = 0.02
"""Relative difference of um/px up to which images have one resolution."""


def stated_views(
    method: str, files: NamedFiles, origins: Sequence[Origin | None], stated: int | None
) -> tuple[int | None, ...]:
    """The test-time views of a method's images: as recorded, else as stated.

    Raises:
        RestainError: both say it, and differ; or what is stated is no number of views.
    """
    recorded = tuple(dict.fromkeys(None if origin is None else origin.views for origin in origins))
    if stated is None:
        return recorded
    if stated < 1:
        raise RestainError(f"--tta {stated}: give how many test-time views were averaged, 1 or more.")
    if wrong := [views for views in recorded if views not in (None, stated)]:
        record = next(iter(files.files.values())).parent / RECORD
        raise RestainError(
            f"--tta {stated}: {method}'s {record} says {' and '.join(map(str, wrong))}. Leave --tta out: it is for "
            "images of other programs."
        )
    return (stated,)


def mixtures(images: Collection[RealImage], origins: Mapping[str, Sequence[Origin | None]]) -> list[str]:
    """Why the values of some images cannot be averaged, one sentence each; empty where nothing speaks against it.

    Args:
        images: the real images.
        origins: what made the images of each method; None among them where no record says.
    """
    found = []
    for method, made in origins.items():
        stainers = list(dict.fromkeys("not stated" if origin is None else stainer_text(origin) for origin in made))
        views = list(dict.fromkeys("not stated" if origin is None else str(origin.views) for origin in made))
        if len(views) > 1:
            found.append(f"{method}: the number of test-time views differs from image to image ({', '.join(views)}).")
        if len(stainers) > 1:
            found.append(f"{method}: the stainer differs from image to image ({'; '.join(stainers)}).")
    known = sorted({image.mpp for image in images if image.mpp is not None and not image.mpp_assumed})
    if known and known[-1] > known[0] * (1 + SAME_MPP):
        found.append(f"The real images have {known[0]:g} to {known[-1]:g} um/px.")
    return found


def stainer_text(origin: Origin) -> str:
    """What made an image, in words."""
    return printable(f"{origin.method}, weights {origin.weights[:12]}, run {origin.run}")
