"""The variants of SSIM against scikit-image and against their formulas, and that they are not one another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restain.core.errors import ItemError
from restain.metrics import ImagePair
from restain.metrics.ms_ssim import LEAST, WEIGHTS, ms_ssim
from restain.metrics.psnr import peak_signal_to_noise
from restain.metrics.ssim import ssim
from restain.metrics.ssim_gaussian import ssim_gaussian
from restain.metrics.ssim_global import ssim_global
from restain.metrics.ssim_grey import ssim_grey
from restain.metrics.ssim_local_map import ssim_local_map
from restain.metrics.ssim_map import Window, local_ssim
from restain.slides import read_image

Image = NDArray[np.uint8]
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def images(height: int, width: int, seed: int = 0) -> tuple[Image, Image]:
    """A smooth image and a noisy, paler copy."""
    random = np.random.default_rng(seed)
    real = cv2.GaussianBlur(random.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    real = cv2.normalize(real, None, 0, 255, cv2.NORM_MINMAX)
    fake = np.clip(0.8 * real + 30 + random.normal(0, 12, real.shape), 0, 255).astype(np.uint8)
    return real, fake


def scikit_image(real: np.ndarray, fake: np.ndarray, span: float = 255, **options: object) -> tuple[float, np.ndarray]:
    found = structural_similarity(real, fake, data_range=span, full=True, **options)
    return float(found[0]), found[1]


@pytest.mark.parametrize("shape", [(11, 11), (16, 200), (150, 70), (75, 11)])
def test_windows_and_colours_agree_with_scikit_image(shape: tuple[int, int]) -> None:
    real, fake = images(*shape)
    pair = ImagePair(real, fake)
    mean, whole = scikit_image(real, fake, channel_axis=-1)
    assert ssim(pair) == pytest.approx(mean, abs=1e-6)
    assert ssim_local_map(pair) == pytest.approx(whole.mean(), abs=1e-6)
    assert ssim_gaussian(pair) == pytest.approx(scikit_image(real, fake, channel_axis=-1, **GAUSSIAN)[0], abs=1e-9)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (real, fake)]
    assert ssim_grey(pair) == pytest.approx(scikit_image(*grey)[0], abs=1e-6)


@pytest.mark.parametrize("window", list(Window))
@pytest.mark.parametrize("border", [False, True])
def test_images_of_other_types_and_ranges_agree_with_scikit_image(window: Window, border: bool) -> None:
    real, fake = (image / 255 for image in images(90, 60))
    options = GAUSSIAN if window is Window.GAUSSIAN else {}
    mean, whole = scikit_image(real, fake, 1.0, channel_axis=-1, **options)
    found = local_ssim(real, fake, window, 1.0, border=border).ssim
    assert found.shape == (3,)
    assert found.mean() == pytest.approx(whole.mean() if border else mean, abs=1e-9)
    assert peak_signal_to_noise(real, fake, 1.0) == pytest.approx(peak_signal_noise_ratio(real, fake, data_range=1.0))


def test_the_general_and_the_fast_way_agree() -> None:
    real, fake = images(200, 130, 3)
    general = local_ssim(real, fake, Window.UNIFORM).ssim.mean()
    assert ssim(ImagePair(real, fake)) == pytest.approx(general, abs=1e-6)


def reference_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang 2003, Eq. 7, of one channel, with SciPy."""

    def means(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        m_x, m_y = means(x), means(y)
        v_x, v_y, v_xy = means(x * x) - m_x**2, means(y * y) - m_y**2, means(x * y) - m_x * m_y
        factor = (2 * v_xy + C2) / (v_x + v_y + C2)
        if scale == len(WEIGHTS) - 1:
            factor *= (2 * m_x * m_y + C1) / (m_x**2 + m_y**2 + C1)
        product *= max(factor.mean(), 0) ** weight
        x, y = (v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2] for v in (x, y))
        x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))
    return product


@pytest.mark.parametrize("shape", [(176, 176), (191, 230)])
def test_ms_ssim_is_wangs(shape: tuple[int, int]) -> None:
    real, fake = images(*shape)
    expected = [reference_ms_ssim(real[..., c].astype(float), fake[..., c].astype(float)) for c in range(3)]
    assert ms_ssim(ImagePair(real, fake)) == pytest.approx(np.mean(expected), abs=1e-6)
    assert sum(WEIGHTS) == pytest.approx(1, abs=1e-3)


def test_ms_ssim_of_a_negative_is_zero_and_of_itself_one() -> None:
    real, _ = images(180, 180)
    assert ms_ssim(ImagePair(real, 255 - real)) == 0
    assert ms_ssim(ImagePair(real, real.copy())) == 1


def test_ms_ssim_says_the_least_size() -> None:
    assert LEAST == 176
    image = np.zeros((175, 400, 3), np.uint8)
    with pytest.raises(ItemError, match="at least 176x176 px, these have 400x175"):
        ms_ssim(ImagePair(image, image))


@pytest.mark.parametrize("metric", [ssim_gaussian, ssim_grey, ssim_local_map])
def test_smaller_than_the_window_is_refused(metric: object) -> None:
    image = np.zeros((6, 30, 3), np.uint8)
    with pytest.raises(ItemError, match="these have 30x6"):
        metric(ImagePair(image, image))  # type: ignore[operator]


def test_global_ssim_is_equation_3_as_printed() -> None:
    real, fake = images(40, 50)
    terms = []
    for c in range(3):
        m_x, m_y, s_x, s_y = real[..., c].mean(), fake[..., c].mean(), real[..., c].std(), fake[..., c].std()
        terms.append((2 * m_x * m_y + C1) * (2 * s_x * s_y + C2) / ((m_x**2 + m_y**2 + C1) * (s_x**2 + s_y**2 + C2)))
    assert ssim_global(ImagePair(real, fake)) == pytest.approx(np.mean(terms), abs=1e-9)


def test_global_ssim_does_not_see_where_anything_is() -> None:
    """The review's own complaint of it."""
    real, _ = images(60, 60)
    shuffled = np.random.default_rng(0).permutation(real.reshape(-1, 3)).reshape(real.shape)
    pair = ImagePair(real, shuffled)
    assert ssim_global(pair) == pytest.approx(1)
    assert ssim(pair) < 0.2


def test_a_real_pair_of_bci_under_each_variant(shared: Path) -> None:
    folder = shared / "data" / "bci-pairs"
    real = read_image(folder / "IHC" / "test" / "00820_test_2+.png")
    fake = read_image(folder / "generated" / "00820_test_2+.png")
    pair = ImagePair(real, fake)
    assert ssim_gaussian(pair) == pytest.approx(scikit_image(real, fake, channel_axis=-1, **GAUSSIAN)[0], abs=1e-6)
    assert ssim_local_map(pair) == pytest.approx(scikit_image(real, fake, channel_axis=-1)[1].mean(), abs=1e-6)
    values = [metric(pair) for metric in (ssim, ssim_gaussian, ssim_grey, ssim_local_map, ssim_global, ms_ssim)]
    assert len({round(value, 4) for value in values}) == len(values), "six numbers, six names"
