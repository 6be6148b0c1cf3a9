"""Speed of PSNR and SSIM against scikit-image, and memory of an evaluation with all metrics that need no weights.

    python benchmarks/metrics.py [--side 1024] [--pairs 977] [--real IMAGE --fake IMAGE]

Without images of your own it makes a noisy pair. ``--pairs 0`` leaves the evaluation out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restain.evaluate import evaluate
from restain.metrics import METRICS, ImagePair
from restain.metrics.dab_od_error import dab_od_error
from restain.metrics.psnr import psnr
from restain.metrics.ssim import ssim
from restain.slides import read_image, write_image

REPEATS = 7


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(1)
    real, fake = _images(arguments)
    pair = ImagePair(real, fake)
    print(f"{real.shape[1]}x{real.shape[0]} px, best of {REPEATS}, one core")
    theirs = _time(lambda: _scikit_image(real, fake))
    ours = _time(lambda: (psnr(pair), ssim(pair)))
    print(f"PSNR + SSIM   scikit-image {theirs:7.1f} ms   restain {ours:6.1f} ms   ratio {theirs / ours:5.1f}")
    dab = _time(lambda: dab_od_error(ImagePair(real, fake)))
    print(f"DAB error                                restain {dab:6.1f} ms")
    difference = np.subtract(_scikit_image(real, fake), (psnr(pair), ssim(pair)))
    print(f"difference    PSNR {abs(difference[0]):.1e} dB   SSIM {abs(difference[1]):.1e}")
    if arguments.pairs:
        _evaluation(arguments.pairs, real, fake)


def _scikit_image(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    return (
        peak_signal_noise_ratio(real, fake, data_range=255),
        structural_similarity(real, fake, channel_axis=-1, data_range=255),
    )


def _evaluation(pairs: int, real: np.ndarray, fake: np.ndarray) -> None:
    """Evaluate ``pairs`` pairs; the files are links to one pair, for what counts is how many are held at a time."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind, image in (("real", real), ("fake", fake)):
            write_image(root / f"{kind}.png", image)
            (root / kind).mkdir()
            for number in range(pairs):
                os.link(root / f"{kind}.png", root / kind / f"{number:05d}_test_{number % 4}.png")
        protocol = _weight_free(root / "all.yaml")
        before = _peak()
        start = time.perf_counter()
        summary = evaluate(root / "real", root / "fake", root / "out", protocol, he=root / "real")
        seconds = time.perf_counter() - start
    print(f"{len(summary.metrics)} metrics: {', '.join(summary.metrics)}")
    print(f"{pairs} pairs     {pairs / seconds:.1f} pairs/s   peak {_peak():.2f} GiB (before: {before:.2f} GiB)")


def _weight_free(path: Path) -> Path:
    """A protocol of all metrics that need no weights, on images of 0.46 um/px; the H&E is the real image again."""
    metrics = {entry.name: entry.info.version for entry in METRICS if not entry.info.weights}
    path.write_text(
        f"{{name: all, version: 1, metrics: {json.dumps(metrics)}, mean_over: images, pictures_by: psnr, mpp: 0.46, "
        "interval: {confidence: 0.95, resamples: 2000, seed: 0}}"
    )
    return path


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _time(call: Callable[[], object]) -> float:
    """Milliseconds of the fastest of several calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def _images(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    if arguments.real and arguments.fake:
        return read_image(arguments.real), read_image(arguments.fake)
    random = np.random.default_rng(0)
    coarse = random.integers(60, 255, (arguments.side // 16, arguments.side // 16, 3), dtype=np.uint8)
    real = cv2.resize(coarse, (arguments.side, arguments.side), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(0, 40, real.shape, dtype=np.uint8)
    return real, cv2.subtract(real, noise)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="side of the made images in px")
    parser.add_argument("--pairs", type=int, default=977, help="pairs in the evaluation, 0 for none")
    parser.add_argument("--real", help="a real image of your own")
    parser.add_argument("--fake", help="a generated image of the same size")
    return parser.parse_args()


if __name__ == "__main__":
    main()
