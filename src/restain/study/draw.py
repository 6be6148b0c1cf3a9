"""Which pairs are read, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

TRIES = 1000


def even_shares(available: Mapping[str, int], wanted: int, random: np.random.Generator) -> dict[str, int]:
    """How many of each level: as even as what there is allows.

    Levels that have enough differ by one at most; which of them get one more is left to chance.

    Args:
        available: pairs of each level.
        wanted: pairs in all, at most as many as there are.
        random: decides what cannot be divided.
    """
    shares = dict.fromkeys(available, 0)
    while missing := wanted - sum(shares.values()):
        open_levels = [level for level in available if shares[level] < available[level]]
        if missing < len(open_levels):
            chosen = random.choice(len(open_levels), missing, replace=False)
            open_levels = [open_levels[index] for index in chosen]
        for level in open_levels:
            shares[level] += 1
    return shares


def draw_pairs(levels: Sequence[str | None], wanted: int, random: np.random.Generator) -> list[int]:
    """Indices of the pairs drawn, balanced by level, sorted.

    Args:
        levels: of all pairs; all None where levels are unknown.
        wanted: pairs to draw.
        random: the source of chance.
    """
    members: dict[str, list[int]] = {}
    for index, level in enumerate(levels):
        members.setdefault(level or "", []).append(index)
    shares = even_shares({level: len(own) for level, own in sorted(members.items())}, wanted, random)
    drawn = [index for level, share in shares.items() for index in random.choice(members[level], share, replace=False)]
    return sorted(int(index) for index in drawn)


def reading_order(pairs: int, random: np.random.Generator) -> NDArray[np.int64]:
    """An order of the 2 N images of N pairs in which no pair's two images are neighbours (N = 1: they are).

    Every such order is equally likely: orders are drawn until one fits, which one in three or more does.

    Args:
        pairs: N, at least 1.
        random: the source of chance.

    Returns:
        Indices of images, int64 [2 N]; images 2 p and 2 p + 1 are those of pair p.
    """
    order = random.permutation(2 * pairs)
    for _ in range(TRIES):
        if pairs == 1 or (np.diff(order // 2) != 0).all():
            break
        order = random.permutation(2 * pairs)
    return order


def order_seed(seed: int, reader: int, images: Sequence[str]) -> int:
    """The seed of one reader's order.

    It depends on the images themselves: from a seed alone, which a reader may guess, the order cannot be worked out.

    Args:
        seed: of the study.
        reader: number of the reader.
        images: name and SHA-256 of the pixels of each image, in order.
    """
    text = "\n".join([f"{seed} {reader}", *images])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest(), "big")
