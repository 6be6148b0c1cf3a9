"""Memory and time of slide models on a whole slide of 100,000 tiles, on the CPU.

    python benchmarks/her2_bag.py [--models ipca,pama,...] [--tiles 100000] [--width 512] [--threads 1]

Each model runs in its own process, with its published settings, and predicts one bag of random features on a grid; the
anchors with distances and angles are timed apart. Prints seconds, seconds of the CPU (the same on a machine that does
nothing else, with one thread) and the peak of the process's memory (Python and torch alone take about 0.3 GiB), beside
the limits that the project sets: `ipca` under 3 GiB, the anchors under 5 s of one core.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

SECONDS, GIB = 5.0, 3.0


def bag(tiles: int, width: int) -> Any:
    import torch

    from restain.her2.bag import Bag

    side = int(tiles**0.5) + 1
    numbers = torch.arange(tiles)
    coords = torch.stack([numbers % side, numbers // side], 1).float() * 256
    features = torch.randn(tiles, width, generator=torch.Generator().manual_seed(0))
    return Bag(features, coords, 256.0)


def child(what: str, tiles: int, width: int, threads: int) -> None:
    import torch

    from restain.her2.anchors import positions_of
    from restain.her2.base import build_model

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    slide = bag(tiles, width)
    if what == "anchors":
        ordered, _ = slide.sorted()
        start, used = time.perf_counter(), time.process_time()
        found = f"{len(positions_of(ordered, 18, 128))} anchors"
    else:
        model = build_model(what, width, 4).eval()
        start, used = time.perf_counter(), time.process_time()
        with torch.no_grad():
            found = f"logits {[round(float(value), 3) for value in model(slide).logits]}"
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gib": peak, "found": found}))


def measure(what: str, tiles: int, width: int, threads: int) -> dict[str, float | str]:
    """Seconds and peak GiB of ``what`` (a model or ``anchors``) in a process of its own."""
    words = [sys.executable, __file__, "--child", what, "--tiles", str(tiles), "--width", str(width)]
    words += ["--threads", str(threads)]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    answer: dict[str, float | str] = json.loads(out)
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="ipca", help="names with commas between")
    parser.add_argument("--tiles", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512, help="of the features")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.tiles, options.width, options.threads)
        return 0
    failed = False
    print(f"{options.tiles} tiles, {options.width} features, {options.threads} thread(s)")
    for what in ["anchors", *options.models.split(",")]:
        answer = measure(what, options.tiles, options.width, options.threads)
        seconds, cpu, gib = (float(answer[name]) for name in ("seconds", "cpu", "gib"))
        limit = {"anchors": f"under {SECONDS:g} s", "ipca": f"under {GIB:g} GiB"}.get(what, "no limit")
        missed = (what == "anchors" and cpu > SECONDS) or (what == "ipca" and gib > GIB)
        failed |= missed
        verdict = "MISSED" if missed else "reached" if what in ("anchors", "ipca") else ""
        measured = f"{seconds:8.1f} s ({cpu:.1f} of the CPU)  {gib:5.2f} GiB"
        print(f"{what:<20} {measured}  {limit:<11} {verdict}  ({answer['found']})", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
