"""H&E is told from IHC: on synthetic slides of several laboratories, and on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restain.her2.stain_check import HARDLY, NOT_HE, pink_share
from restain.slides import open_slide, tissue_and_ink, write_image
from restain.synthetic import SlideRenderer, SynthOptions, World


def share(path: Path, mpp: float | None) -> float | None:
    with open_slide(path, mpp) as slide:
        return pink_share(slide, tissue_and_ink(slide)[0])


@pytest.mark.parametrize("patient", range(4))
def test_synthetic_stains(tmp_path: Path, patient: int) -> None:
    world = World(SynthOptions(size=512, seed=5, pen=0, folds=0, bubbles=0), patient)
    for stain in ("he", "ihc"):
        write_image(tmp_path / f"{stain}.png", SlideRenderer(world, stain).block(0, 0).rgb)
    he, ihc = (share(tmp_path / f"{stain}.png", 0.5) for stain in ("he", "ihc"))
    assert he is not None
    assert he > HARDLY
    assert ihc is None or ihc < NOT_HE


def test_glass_tells_nothing(tmp_path: Path) -> None:
    write_image(tmp_path / "glass.png", np.full((300, 300, 3), 240, np.uint8))
    assert share(tmp_path / "glass.png", 0.5) is None


def test_real_stains(shared: Path) -> None:
    data = shared / "data"
    he = [*sorted((data / "bci-pairs" / "HE" / "test").glob("*.png"))[:2], data / "slides" / "cmu-1-small-region.svs"]
    ihc = [*sorted((data / "bci-pairs" / "IHC" / "test").glob("*.png"))[:2], *sorted((data / "her2-ihc").glob("*"))[:5]]
    assert all((share(path, 0.5) or 0) > HARDLY for path in he)
    found = [share(path, 0.5) for path in ihc]
    assert all(one is None or one < NOT_HE for one in found)
    assert sum(one is not None for one in found) >= 4
