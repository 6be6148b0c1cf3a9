"""Staining a large slide: time against the bare network on the same pixels, and peak memory.

    python benchmarks/whole_slide.py RUN [--size 20000] [--folder /tmp/whole_slide]

The slide is made of repeated synthetic tissue (half of it glass in a checkerboard of 4096 px), so that making it takes
seconds. The ratio says what reading, putting together, compressing and writing cost beside the network.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import openslide
import tifffile

from restain.core.runs import RunFolder
from restain.infer.network import Network, load_stainer
from restain.infer.whole_slide import stain_slide
from restain.slides import PyramidWriter, open_slide
from restain.synthetic import SlideRenderer, SynthOptions, World

BLOCK = 2048


def make_slide(path: Path, size: int) -> None:
    options = SynthOptions(size=BLOCK, folds=0, pen=0, bubbles=0, out_of_focus=0)
    tissue = SlideRenderer(World(options, 0), "he").region(0, 0, BLOCK, BLOCK).rgb
    glass = np.full_like(tissue, 240)
    with PyramidWriter(path, (size, size), options.mpp) as writer:
        for y in range(0, size, BLOCK):
            for x in range(0, size, BLOCK):
                block = tissue if (x // 4096 + y // 4096) % 2 == 0 else glass
                writer.write(x, y, block[: size - y, : size - x])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/whole_slide"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    he, out = args.folder / "he.ome.tif", args.folder / "virtual.ome.tif"
    if not he.exists():
        make_slide(he, args.size)

    network = Network(load_stainer(RunFolder(args.run)))
    tiling = network.tiling(512)
    with open_slide(he) as slide:
        window = slide.read(0, 0, tiling.side, tiling.side)
        network(window)
        start = time.perf_counter()
        for _ in range(5):
            network(window)
        bare = (time.perf_counter() - start) / 5 / tiling.core**2 * 1e6
        start = time.perf_counter()
        result = stain_slide(network, slide, RunFolder(args.run).info["mpp"], out)
        seconds = time.perf_counter() - start
        stained = result.tissue_fraction * slide.size[0] * slide.size[1] / 1e6
        with openslide.OpenSlide(str(out)) as other, tifffile.TiffFile(out) as tiff:
            assert other.dimensions == slide.size
            assert slide.mpp is not None
            drift = abs(float(other.properties["openslide.mpp-x"]) / slide.mpp - 1)
            levels = len(tiff.series[0].levels)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"slide of {args.size} x {args.size} px, {stained:.0f} megapixels stained of {args.size**2 / 1e6:.0f}")
    print(f"whole slide {seconds:.0f} s; bare network {bare:.3f} s a megapixel of core")
    print(f"ratio whole slide / bare network: {seconds / (bare * stained):.2f}")
    print(f"peak memory {peak:.2f} GiB; um/px drift {drift:.1e}; levels in tifffile {levels}")


if __name__ == "__main__":
    main()
