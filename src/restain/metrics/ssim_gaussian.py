"""SSIM under the Gaussian window of its paper."""

from __future__ import annotations

from restain.metrics.base import Direction, ImagePair, MetricInfo, pair_metric
from restain.metrics.sizes import check_side
from restain.metrics.ssim_map import Window, local_ssim


@pair_metric(
    "ssim_gaussian",
    MetricInfo(
        title="SSIM, Gaussian window",
        unit="",
        direction=Direction.HIGHER,
        range=(-1.0, 1.0),
        version=1,
        definition=(
            "Mean structural similarity of the 8-bit images: 11x11 Gaussian window of sigma 1.5 px, population "
            "covariance, K1 0.01, K2 0.03, each colour channel by itself, windows that lie inside the image."
        ),
        decimals=4,
    ),
)
def ssim_gaussian(pair: ImagePair) -> float:
    """Mean SSIM with the window of Wang 2004, section III-B, on each colour channel, mean over channels.

    The same number as scikit-image's ``structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, channel_axis=-1, data_range=255)``: a 5 px border carries no value.

    Returns:
        -1 to 1; 1 for identical images.

    Raises:
        ItemError: a side is shorter than the window.
    """
    check_side(pair, Window.GAUSSIAN.side, "SSIM with a Gaussian window")
    return float(local_ssim(pair.real, pair.fake, Window.GAUSSIAN).ssim.mean())
