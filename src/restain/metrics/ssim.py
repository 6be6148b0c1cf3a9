"""Structural similarity, as the ``bci`` protocol defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.sizes import check_side

WINDOW = 7
PIXELS = WINDOW**2
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2

# int32 values per strip: the dozen arrays that a strip needs then stay in a core's second-level cache.
STRIP_VALUES = 1 << 16


@pair_metric(
    "ssim",
    MetricInfo(
        title="SSIM",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Mean structural similarity of the 8-bit images: 7x7 uniform window, sample covariance, K1 0.01, K2 0.03, "
            "each colour channel by itself, windows that lie inside the image, mean over windows and channels."
        ),
        decimals=4,
    ),
)
def ssim(pair: ImagePair) -> float:
    """Mean SSIM with a 7x7 uniform window (Wang 2004, Eq. 13; uniform instead of Gaussian weights).

    The same number as scikit-image's ``structural_similarity(..., channel_axis=-1, data_range=255)``, which is what
    the evaluation script released with BCI means: sample covariance (divisor 48), windows that lie wholly inside the
    image (a 3 px border carries no value), mean over channels. Two flat images give what their brightness alone gives;
    the constants C1 and C2 keep every ratio defined.

    Returns:
        -1 to 1; 1 for identical images.

    Raises:
        ItemError: a side is shorter than the window.
    """
    check_side(pair, WINDOW, "SSIM")
    return uniform_ssim(pair.real, pair.fake)


def uniform_ssim(real: NDArray[np.uint8], fake: NDArray[np.uint8]) -> float:
    """Mean SSIM of 8-bit images of any number of channels, [H, W, C], H and W at least ``WINDOW``: see ``ssim``."""
    height, width, channels = real.shape
    real = real.reshape(height, width * channels)
    fake = fake.reshape(height, width * channels)
    windows = height - WINDOW + 1
    rows = max(WINDOW, STRIP_VALUES // (width * channels))
    total = 0.0
    for top in range(0, windows, rows):
        strip = slice(top, min(top + rows, windows) + WINDOW - 1)
        total += _sum_of_local(real[strip].astype(np.int32), fake[strip].astype(np.int32), channels)
    return total / float(windows * (width - WINDOW + 1) * channels)


def _sum_of_local(real: NDArray[np.int32], fake: NDArray[np.int32], channels: int) -> float:
    """Sum of the local SSIM over the windows of a strip.

    Args:
        real: [h, w * channels], interleaved channels, 0 to 255.
        fake: the same; both are overwritten.
        channels: how many channels are interleaved.
    """
    # Sums over a window are integers below 2^31 in every step, so (co)variances have no rounding at all up to the
    # division. Both first moments are summed in one pass: 49 * 255 < 2^16, so each has half of an int32 to itself.
    sums = _window_sums(real + (fake << 16), channels)
    product = _window_sums(real * fake, channels)
    real *= real
    fake *= fake
    real += fake
    squares = _window_sums(real, channels)

    sum_real, sum_fake = sums & 0xFFFF, sums >> 16
    means_product = sum_real * sum_fake
    sum_real *= sum_real
    sum_fake *= sum_fake
    sum_real += sum_fake  # from here on: PIXELS^2 * (mean_real^2 + mean_fake^2)
    product *= PIXELS
    product -= means_product
    squares *= PIXELS
    squares -= sum_real

    per_mean, per_covariance = np.float32(1 / PIXELS**2), np.float32(1 / (PIXELS * (PIXELS - 1)))
    numerator = means_product.astype(np.float32)
    numerator *= 2 * per_mean
    numerator += np.float32(C1)
    denominator = sum_real.astype(np.float32)
    denominator *= per_mean
    denominator += np.float32(C1)
    covariance = product.astype(np.float32)
    covariance *= 2 * per_covariance
    covariance += np.float32(C2)
    numerator *= covariance
    variances = squares.astype(np.float32)
    variances *= per_covariance
    variances += np.float32(C2)
    denominator *= variances
    numerator /= denominator
    return float(numerator.sum(dtype=np.float64))


def _window_sums(values: NDArray[np.int32], channels: int) -> NDArray[np.int32]:
    """Sums over every 7x7 window of [h, w * channels]: [h - 6, (w - 6) * channels].

    7 = 4 + 2 + 1: sums of two, of four, then of seven neighbours, four additions a direction.
    """
    two = values[:-1] + values[1:]
    rows = two[:-5] + two[2:-3]
    rows += two[4:-1]
    rows += values[6:]
    c = channels
    two = rows[:, :-c] + rows[:, c:]
    total = two[:, : -5 * c] + two[:, 2 * c : -3 * c]
    total += two[:, 4 * c : -c]
    total += rows[:, 6 * c :]
    return total
