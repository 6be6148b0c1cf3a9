"""Geometric augmentation of a pair and its maps: the same for all, drawn from a generator that the caller seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError

Image = NDArray[np.uint8]

_KNOTS = 6
"""Knots of the elastic displacement along each side."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image before it enters a network; everything is off by default.

    The steps are applied in the order of the attributes.

    Attributes:
        resize: scale images so that their shorter side has this many px (area averaging when shrinking, bicubic when
            enlarging); None keeps their size. Not random: it changes the um/px of what the network sees, see ``mpp``.
        crop: cut a square of this many px a side at a random place.
        zoom: the square that is cut is larger or smaller by a factor drawn up to this one (1.25: 1 / 1.25 to 1.25, but
            never larger than the image), and scaled to ``crop``; 1 leaves sizes as they are.
        elastic: standard deviation, px, of random displacements at 6 x 6 knots, between which the image is bent
            smoothly; 0 for none.
        horizontal_flip: mirror left and right in one of two cases.
        vertical_flip: mirror top and bottom in one of two cases.
        rotate: turn by 0, 90, 180 or 270 degrees.
        transpose: mirror at the main diagonal in one of two cases.
    """

    resize: int | None = None
    crop: int | None = None
    zoom: float = 1.0
    elastic: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: bool = False
    transpose: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RestainError(f"augmentation: {name} is {value}; give a number of px above 0, or null.")
        if not (1 <= self.zoom <= 4 and 0 <= self.elastic <= 50):
            raise RestainError("augmentation: zoom is 1 to 4, elastic 0 to 50 px.")
        if self.zoom > 1 and self.crop is None:
            raise RestainError("augmentation: zoom changes the square that crop cuts; give a crop.")

    def without_chance(self) -> Augmentation:
        """What validation uses: the same size of things, nothing random, the whole image."""
        return Augmentation(resize=self.resize)

    def mpp(self, mpp: float | None, size: tuple[int, int]) -> float | None:
        """The um/px that the network sees, for images of ``size`` (width, height) px at ``mpp`` um/px."""
        return None if mpp is None else mpp / self.scale(size)

    def scale(self, size: tuple[int, int]) -> float:
        """How large things are to the network, relative to images of ``size`` (width, height) px."""
        return 1.0 if self.resize is None else self.resize / min(size)

    def __call__(self, images: Sequence[Image], rng: np.random.Generator) -> list[Image]:
        """Images uint8 [H, W, C] of one size, all treated alike; the result is contiguous.

        The same numbers are drawn whatever the images' size, so that switching one step off changes no other.

        Raises:
            RestainError: an image is smaller than the crop.
        """
        place = rng.random(2)
        mirror, upend, swap = rng.random(3) < 0.5
        turns = int(rng.integers(4))
        factor = self.zoom ** rng.uniform(-1, 1)
        bend = rng.standard_normal((2, _KNOTS, _KNOTS))
        done = []
        for image in images:
            image = _resize(image, self.resize) if self.resize is not None else image
            image = _crop(image, self.crop, place, factor) if self.crop is not None else image
            image = _bent(image, bend * self.elastic) if self.elastic else image
            image = image[:, ::-1] if self.horizontal_flip and mirror else image
            image = image[::-1] if self.vertical_flip and upend else image
            image = np.rot90(image, turns) if self.rotate else image
            image = image.transpose(1, 0, 2) if self.transpose and swap else image
            done.append(np.ascontiguousarray(image))
        return done


def _resize(image: Image, short: int) -> Image:
    height, width = image.shape[:2]
    scale = short / min(height, width)
    return image if scale == 1 else _scaled(image, (round(width * scale), round(height * scale)))


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    """The image at another size (width, height): area averaging when shrinking, bicubic when enlarging."""
    interpolation = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC
    scaled = np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)
    return scaled.reshape(*scaled.shape[:2], image.shape[2])  # OpenCV drops a single channel


def _crop(image: Image, side: int, place: NDArray[np.float64], factor: float) -> Image:
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise RestainError(
            f"augmentation: crop {side} px does not fit into images of {width}x{height} px, resize included. Give a "
            "smaller one: "
            f"--batches.augmentation.crop {min(height, width) // 16 * 16 or min(height, width)}, or null."
        )
    cut = min(round(side * factor), height, width)
    top, left = (int(part * (room + 1)) for part, room in zip(place, (height - cut, width - cut), strict=True))
    image = image[top : top + cut, left : left + cut]
    return image if cut == side else _scaled(np.ascontiguousarray(image), (side, side))


def _bent(image: Image, knots: NDArray[np.float64]) -> Image:
    """The image under displacements, px, given as [2, k, k] at knots over the image and smooth in between."""
    height, width = image.shape[:2]
    shift = [cv2.resize(axis.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) for axis in knots]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    border = cv2.BORDER_REFLECT_101
    bent = cv2.remap(image, x + shift[0], y + shift[1], interpolation=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(bent, np.uint8).reshape(image.shape)
