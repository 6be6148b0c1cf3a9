"""What an encoder of tiles is, and the registry of those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restain.core.errors import RestainError
from restain.core.registry import Registry
from restain.her2.encoders.stain_space import Stain
from restain.slides import Slide, TissueMask

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """A piece of a slide with several tiles.

    Attributes:
        rgb: uint8 [H, W, 3].
        corners: (x, y) of the tiles' upper left corners [n, 2] in px of ``rgb``; they lie on a grid of ``side``.
        side: of a tile, px.
        mpp: um/px.
    """

    rgb: NDArray[np.uint8]
    corners: NDArray[np.int64]
    side: int
    mpp: float

    def images(self) -> list[NDArray[np.uint8]]:
        """The tiles, each uint8 [side, side, 3]."""
        return [self.rgb[y : y + self.side, x : x + self.side] for x, y in self.corners]


Encode = Callable[[Field], Features]
"""The tiles of a field to float32 [tiles, d], finite."""


class Encoder(ABC):
    """Turns tiles into features.

    Attributes:
        name: one word; the same weights have the same name and version wherever they lie.
        version: another one wherever the same tile gets other features.
        names: of the columns; None where they have none.
        mpp: um/px that fields must have; None takes them at the tiles' own.
        margin: um of the slide around the tiles that a field must show.
        light: whether it has no weights, so that many processes may hold one each.
    """

    name: str
    version: str
    names: tuple[str, ...] | None = None
    mpp: float | None = None
    margin: float = 0.0
    light: bool = False

    @abstractmethod
    def of_slide(self, slide: Slide, tissue: TissueMask) -> Encode:
        """What encodes the fields of one slide."""


@dataclass(frozen=True)
class EncoderInfo:
    """What is known about a kind of encoder.

    Attributes:
        what: in a line.
        argument: what stands after the colon; None where nothing may.
    """

    what: str
    argument: str | None = None


Maker = Callable[[str, Stain], Encoder]
"""From the argument (empty where there is none) and the slides' stain to an encoder."""

ENCODERS: Registry[Maker, EncoderInfo] = Registry("encoder", "restain.her2.encoders")


def register_encoder(name: str, what: str, argument: str | None = None) -> Callable[[Maker], Maker]:
    """Register a function that makes encoders as ``name``, or as ``name:ARGUMENT``."""
    return ENCODERS.add(name, EncoderInfo(what, argument))


def make_encoder(text: str, stain: Stain = Stain.he) -> Encoder:
    """The encoder that ``text`` names: ``morphometry``, ``clip:FOLDER``, ``run:RUN``.

    Raises:
        RestainError: no such encoder, or an argument missing or too many.
        ItemError: its weights cannot be read.
    """
    name, colon, argument = text.partition(":")
    entry = ENCODERS[name]
    wanted = entry.info.argument
    if wanted is None and colon:
        raise RestainError(f"encoder {text}: {name} takes nothing after its name.")
    if wanted is not None and not argument:
        raise RestainError(f"encoder {text}: name its {wanted}: {name}:{wanted.upper().replace(' ', '_')}.")
    return entry.item(argument, stain)
