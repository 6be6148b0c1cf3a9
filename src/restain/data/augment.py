"""Geometric augmentation of a pair and its maps: the same for all, drawn from a generator that the caller seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image before it enters a network; everything is off by default.

    The steps are applied in the order of the attributes.

    Attributes:
        resize: scale images so that their shorter side has this many px (area averaging when shrinking, bicubic when
            enlarging); None keeps their size. Not random: it changes the um/px of what the network sees, see ``mpp``.
        crop: cut a square of this many px a side at a random place.
        horizontal_flip: mirror left and right in one of two cases.
        vertical_flip: mirror top and bottom in one of two cases.
        rotate: turn by 0, 90, 180 or 270 degrees.
        transpose: mirror at the main diagonal in one of two cases.
    """

    resize: int | None = None
    crop: int | None = None
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: bool = False
    transpose: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RestainError(f"augmentation: {name} is {value}; give a number of px above 0, or null.")

    def without_chance(self) -> Augmentation:
        """What validation uses: the same size of things, nothing random, the whole image."""
        return Augmentation(resize=self.resize)

    def mpp(self, mpp: float | None, size: tuple[int, int]) -> float | None:
        """The um/px that the network sees, for images of ``size`` (width, height) px at ``mpp`` um/px."""
        if mpp is None or self.resize is None:
            return mpp
        return mpp * min(size) / self.resize

    def __call__(self, images: Sequence[Image], rng: np.random.Generator) -> list[Image]:
        """Images uint8 [H, W, C] of one size, all treated alike; the result is contiguous.

        The same numbers are drawn whatever the images' size, so that switching one step off changes no other.

        Raises:
            RestainError: an image is smaller than the crop.
        """
        place = rng.random(2)
        mirror, upend, swap = rng.random(3) < 0.5
        turns = int(rng.integers(4))
        done = []
        for image in images:
            image = _resize(image, self.resize) if self.resize is not None else image
            image = _crop(image, self.crop, place) if self.crop is not None else image
            image = image[:, ::-1] if self.horizontal_flip and mirror else image
            image = image[::-1] if self.vertical_flip and upend else image
            image = np.rot90(image, turns) if self.rotate else image
            image = image.transpose(1, 0, 2) if self.transpose and swap else image
            done.append(np.ascontiguousarray(image))
        return done


def _resize(image: Image, short: int) -> Image:
    height, width = image.shape[:2]
    scale = short / min(height, width)
    if scale == 1:
        return image
    size = (round(width * scale), round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    return resized.reshape(*resized.shape[:2], image.shape[2])  # OpenCV drops a single channel


def _crop(image: Image, side: int, place: NDArray[np.float64]) -> Image:
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise RestainError(
            f"augmentation: crop {side} px does not fit into images of {width}x{height} px. Give a smaller one: "
            f"--batches.augmentation.crop {min(height, width) // 16 * 16 or min(height, width)}, or null."
        )
    top, left = (int(part * (room + 1)) for part, room in zip(place, (height - side, width - side), strict=True))
    return image[top : top + side, left : left + side]
