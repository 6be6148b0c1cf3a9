"""What ``restain info`` shows, for every real slide."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from restain.slides import open_slide, slide_info

MPP = {"camelyon-overview.dcm": 28.9685, "cmu-1-small-region.svs": 0.499}
SIZE = {"camelyon-overview.dcm": (1152, 700), "cmu-1-small-region.svs": (2220, 2967)}
READER = {".dcm": "OpenSlide (dicom)", ".svs": "OpenSlide (aperio)", ".jpg": "Pillow"}


def test_every_real_slide_but_the_broken_one(shared: Path) -> None:
    paths = sorted(path for path in (shared / "data/slides").iterdir() if path.name != "broken.svs")
    assert len(paths) == 4
    for path in paths:
        with open_slide(path) as slide:
            info = slide_info(slide)
        assert info.reader == READER[path.suffix]
        assert info.mpp == (pytest.approx(MPP[path.name], abs=1e-4) if path.name in MPP else None)
        assert info.size == SIZE.get(path.name, info.size)
        assert 0.1 < info.tissue_share < 0.6
        if info.mpp is None:
            assert info.tissue_area_um2 is None
        else:
            whole = info.size[0] * info.size[1] * info.mpp**2
            assert info.tissue_area_um2 == pytest.approx(info.tissue_share * whole)
        document = json.loads(json.dumps(info.to_dict(), allow_nan=False))
        assert (document["width"], document["height"]) == info.size
        assert document["levels"][0] == {"width": info.size[0], "height": info.size[1], "downsample": 1.0}
        assert document["mpp"] == info.mpp
