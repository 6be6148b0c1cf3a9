"""A small pair dataset whose mapping a network can learn: IHC is a colour map of the H&E."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

LEVELS = ("0", "1+", "2+", "3+")


def write_pairs(root: Path, train: int = 6, val: int = 2, side: int = 64, seed: int = 0) -> Path:
    """BCI layout under ``root`` with smooth random H&E of ``side`` px."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            noise = cv2.GaussianBlur(rng.uniform(0, 255, (side, side, 3)), (0, 0), 3)
            he = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
            for stain, image in (("HE", he), ("IHC", 255 - he[..., ::-1])):
                folder = root / stain / split
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{index:05d}_{split}_{LEVELS[index % 4]}.png"), image)
    return root
