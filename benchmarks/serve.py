"""The tile server: time to the first tile, tiles under load, and memory over 10,000 tiles.

    python benchmarks/serve.py OUT [--size 20000] [--tiles 10000]

OUT receives synthetic slides (made of repeated tissue, so that it takes seconds): an OME-TIFF as restain writes it, a
copy as Aperio's scanners write it (each level a quarter of the one before, read by OpenSlide), and a registration with
an elastic part. The real command serves them. Tiles are asked for once each, so no cache of encoded tiles helps; most
are of fine levels, as a viewer asks while somebody zooms in and looks around. Files leave the page cache before a first
tile is timed. Note what else the machine does: the load average is printed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from restain.registration import Transform
from restain.slides import PyramidWriter, open_slide
from restain.synthetic import SlideRenderer, SynthOptions, World

BLOCK = 2048
MPP = 0.5
CLIENTS = 8
WEIGHTS = (0.4, 0.25, 0.15, 0.1)
"""Shares of tiles of z 0, 1, 2, 3; coarser ones share the rest."""


@dataclass(frozen=True)
class Shown:
    """A slide as the viewer asks for it: its name, its document, and the query of its tiles."""

    name: str
    document: dict[str, object]
    query: str


def make_slide(path: Path, size: int) -> None:
    options = SynthOptions(size=BLOCK, mpp=MPP, folds=0, pen=0, bubbles=0, out_of_focus=0)
    tissue = SlideRenderer(World(options, 0), "he").region(0, 0, BLOCK, BLOCK).rgb
    with PyramidWriter(path, (size, size), MPP) as writer:
        for y in range(0, size, BLOCK):
            for x in range(0, size, BLOCK):
                turned = np.rot90(tissue, (x + 3 * y) // BLOCK % 4)
                writer.write(x, y, np.ascontiguousarray(turned[: size - y, : size - x]))


def make_aperio(path: Path, source: Path) -> None:
    """The slide with levels of 1, 1/4, 1/16 and 1/64 in pages of their own, which OpenSlide reads."""
    with open_slide(source) as slide, tifffile.TiffWriter(path) as tiff:
        width, height = slide.size
        for level in range(4):
            factor = 4**level
            w, h = width // factor, height // factor
            head = f"Aperio Image Library v11\n{width}x{height} ({w}x{h}) Q=85|AppMag = 20|MPP = {MPP}"
            tiff.write(
                encoded(slide, w, h, factor), shape=(h, w, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb",
                compression="jpeg", subsampling=(1, 1), description=head, metadata=None,
            )  # fmt: skip
            if level == 0:
                tiff.write(slide.thumbnail(512), photometric="rgb", description="Aperio", metadata=None)


def encoded(slide: object, width: int, height: int, factor: int) -> Iterator[bytes]:
    from restain.slides import Slide

    assert isinstance(slide, Slide)
    for y in range(0, height, 256):
        row = slide.read_reduced(0, y * factor, -(-width // 256) * 256, 256, factor)
        for x in range(0, width, 256):
            yield bytes(
                imagecodecs.jpeg8_encode(
                    np.ascontiguousarray(row[:, x : x + 256]), level=85, colorspace="RGB", outcolorspace="YCBCR",
                    subsampling="444",
                )
            )  # fmt: skip


def make_transform(path: Path, size: int) -> None:
    """The slide against itself: turned by 7 degrees about its centre, and bent by up to 20 px."""
    angle, centre = np.deg2rad(7), size / 2
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array(
        [[cos, -sin, centre * (1 - cos + sin)], [sin, cos, centre * (1 - cos - sin)], [0, 0, 1]], np.float64
    )
    nodes = np.arange(0, size + 64, 64)
    bent: NDArray[np.float64] = 20 * np.sin(np.stack(np.meshgrid(nodes, nodes), axis=2) / 1500)
    Transform(
        matrix, bent.astype(np.float32), (0.0, 0.0), 64.0, (size, size), (size, size), MPP, MPP, "he", "ihc"
    ).save(path)


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """A fresh server: (host:port, process)."""
    for path in folder.glob("*.*"):  # out of the page cache
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    process = subprocess.Popen(
        [sys.executable, "-m", "restain.cli.main", "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removeprefix("http://"), process.pid
    finally:
        process.terminate()
        process.wait()


def get(connection: http.client.HTTPConnection, address: str) -> tuple[bytes, float]:
    """An answer and the seconds that it took."""
    start = time.perf_counter()
    connection.request("GET", address)
    answer = connection.getresponse()
    data = answer.read()
    seconds = time.perf_counter() - start
    if answer.status != 200:
        raise RuntimeError(f"{address}: {answer.status} {data[:300]!r}")
    return data, seconds


def opened(connection: http.client.HTTPConnection, name: str, via: str | None) -> Shown:
    names = {"path": name} | ({} if via is None else {"via": via})
    document = json.loads(get(connection, f"/api/slide?{urlencode(names)}")[0])
    return Shown(name, document, urlencode(names | {"v": document["stamp"]}))


def first_tile(host: str, name: str, via: str | None) -> tuple[float, float]:
    """Milliseconds from nothing to the whole slide on one tile: with and without what the page asks before."""
    connection = http.client.HTTPConnection(host)
    start = time.perf_counter()
    shown = opened(connection, name, via)
    last = shown.document["max_z"]
    _, seconds = get(connection, f"/api/tile/{last}/0/0?{shown.query}")
    return 1e3 * (time.perf_counter() - start), 1e3 * seconds


def addresses(shown: Shown, count: int, seed: int) -> list[str]:
    """Tiles of a slide, mostly fine ones, none twice as long as there are others."""
    rng = random.Random(seed)
    width, height = shown.document["size"]  # type: ignore[misc]
    last = int(shown.document["max_z"])  # type: ignore[call-overload]
    weights = [*WEIGHTS, *[(1 - sum(WEIGHTS)) / max(1, last - 3)] * max(0, last - 3)][: last + 1]
    found: dict[str, None] = {}
    while len(found) < count:
        z = rng.choices(range(last + 1), weights)[0]
        columns, rows = (-(-side // (256 << z)) for side in (width, height))
        found[f"/api/tile/{z}/{rng.randrange(columns)}/{rng.randrange(rows)}?{shown.query}"] = None
        if rng.random() < 0.001 * len(found) / count:  # few are left that are new
            break
    return list(found)


def load(host: str, wanted: list[str]) -> list[float]:
    """Milliseconds that each tile took, asked for by ``CLIENTS`` clients at once."""

    def client(mine: list[str]) -> list[float]:
        connection = http.client.HTTPConnection(host)
        return [1e3 * get(connection, address)[1] for address in mine]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [ms for part in pool.map(client, [wanted[i::CLIENTS] for i in range(CLIENTS)]) for ms in part]


def resident(process: int) -> float:
    """MiB of memory that a process holds."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def spread(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20)
    return f"median {statistics.median(values):.1f} ms, p95 {cuts[18]:.1f} ms, most {max(values):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--tiles", type=int, default=10_000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    slide, aperio, transform = (args.out / name for name in ("he.ome.tif", "aperio.svs", "transform.json"))
    if not transform.exists():
        make_slide(slide, args.size)
        make_aperio(aperio, slide)
        make_transform(transform, args.size)
    print(f"{args.size} px, {CLIENTS} clients, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.2f}")
    cases = {
        "OME-TIFF": (slide.name, None),
        "Aperio (levels of 1/4, OpenSlide)": (aperio.name, None),
        "through a registration": (slide.name, transform.name),
    }
    for label, (name, via) in cases.items():
        with server(args.out) as (host, _):
            whole, tile = first_tile(host, name, via)
            shown = opened(http.client.HTTPConnection(host), name, via)
            times = load(host, addresses(shown, 200, 0))
        print(f"{label}: first tile {whole:.0f} ms (of it the tile alone {tile:.0f} ms); 200 tiles: {spread(times)}")
    with server(args.out) as (host, process):
        asked = [opened(http.client.HTTPConnection(host), *case) for case in cases.values()]
        memory = [resident(process)]
        for part in range(max(1, args.tiles // 1000)):
            wanted = [address for shown in asked for address in addresses(shown, 334, 1 + part)][:1000]
            random.Random(part).shuffle(wanted)
            load(host, wanted)
            memory.append(resident(process))
    print("resident memory, MiB, at every 1,000 tiles: " + ", ".join(f"{value:.0f}" for value in memory))


if __name__ == "__main__":
    main()
