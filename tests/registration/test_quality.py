"""Figures of alignment against other libraries, and the alignment score against known displacements."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import mutual_info_score, roc_auc_score

from restain.registration.alignment import local_alignment, shifted_ncc
from restain.registration.channels import darkness, nuclei_density
from restain.registration.quality import folding, measure
from restain.slides import find_tissue, glass_colour, read_image
from restain.stains import RGB_FROM_HED, haematoxylin
from restain.synthetic import SlideRenderer, SynthOptions, World

MPP = 1.0
SIDE = 640
WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """H&E and IHC of neighbouring sections that lie exactly on each other."""
    options = SynthOptions(size=SIDE, mpp=MPP, seed=3, no_deformation=True, pen=0, folds=0, bubbles=0, out_of_focus=0)
    world = World(options, 1)
    he, ihc = (SlideRenderer(world, stain).region(0, 0, SIDE, SIDE).rgb for stain in ("he", "ihc"))
    return he, ihc


def _displaced(pair, dx: int, dy: int, side: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Crops in which the H&E shows everything (dx, dy) px to the right of and below where the IHC has it."""
    he, ihc = pair
    at = (SIDE - side) // 2
    return he[at - dy : at - dy + side, at - dx : at - dx + side], ihc[at : at + side, at : at + side]


def _measured(he, ihc, mpp=MPP, **masks):
    full = np.ones(he.shape[:2], bool)
    masks = {"valid": full, "he_tissue": full, "ihc_tissue": full} | masks
    return measure(he, ihc, mpp=mpp, he_white=glass_colour(he), ihc_white=glass_colour(ihc), **masks)


def _scored(he, ihc, mpp=MPP, **options):
    return local_alignment(he, ihc, mpp, glass_colour(he), glass_colour(ihc), **options)


def test_a_picture_agrees_with_itself(pair) -> None:
    he = pair[0]
    tissue = find_tissue(he)
    quality = _measured(he, he, he_tissue=tissue, ihc_tissue=tissue)
    assert quality.haematoxylin_ncc == pytest.approx(1)
    assert quality.nuclei_density_ncc == pytest.approx(1)
    assert quality.tissue_dice == 1
    assert quality.mutual_information == pytest.approx(np.log(16), abs=0.02)


def test_every_figure_falls_with_the_displacement(pair) -> None:
    found = [_measured(*_displaced(pair, d, 0)) for d in (0, 10, 30, 100)]
    for name, least in (("mutual_information", 0.02), ("haematoxylin_ncc", 0.05), ("nuclei_density_ncc", 0.005)):
        values = np.array([getattr(quality, name) for quality in found])
        assert (np.diff(values) < -least).all(), (name, values)


def test_figures_are_those_of_other_libraries(pair) -> None:
    he, ihc = _displaced(pair, 4, 0)
    whites = glass_colour(he), glass_colour(ihc)
    mask = np.zeros(he.shape[:2], bool)
    mask[50:350, 60:380] = True
    quality = _measured(he, ihc, valid=mask)

    dark = [gaussian_filter(darkness(x, w).astype(float), 4.0)[mask] for x, w in zip((he, ihc), whites, strict=True)]
    classes = [np.digitize(d, np.quantile(d, np.arange(1, 16) / 16)) for d in dark]
    assert quality.mutual_information == pytest.approx(mutual_info_score(*classes), abs=0.01)
    amounts = [
        gaussian_filter(haematoxylin(x, w).astype(float), 4.0)[mask] for x, w in zip((he, ihc), whites, strict=True)
    ]
    assert quality.haematoxylin_ncc == pytest.approx(np.corrcoef(*amounts)[0, 1], abs=0.01)


def test_haematoxylin_is_told_from_eosin_and_dab() -> None:
    vectors = RGB_FROM_HED / np.linalg.norm(RGB_FROM_HED, axis=1, keepdims=True)
    amounts = np.array([[0.5, 0.3, 0.0], [0.5, 0.0, 0.4], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    rgb = np.rint(240 * 10 ** -(amounts @ vectors))[None].astype(np.uint8)
    np.testing.assert_allclose(haematoxylin(rgb, 240)[0], amounts[:, 0], atol=0.03)


def test_nuclei_are_dense_where_they_were_drawn() -> None:
    rng = np.random.default_rng(0)
    dots = np.zeros((400, 400), np.float32)
    for count, left in ((400, 0), (60, 200)):
        dots[rng.integers(0, 400, count), rng.integers(left, left + 200, count)] = 1
    amount = gaussian_filter(dots, 2.5) * 20 + rng.normal(0, 0.01, dots.shape)
    density = nuclei_density(amount.astype(np.float32), np.ones(dots.shape, bool), 1.0)
    assert density[:, 50:150].mean() > 2.5 * density[:, 250:350].mean()
    assert density.min() >= 0
    assert density.max() <= 1.001
    assert not nuclei_density(amount.astype(np.float32), np.zeros(dots.shape, bool), 1.0).any()


def test_dice_counts_real_pixels_alone() -> None:
    blank = np.full((60, 60, 3), 240, np.uint8)
    left, wide, valid = (np.zeros((60, 60), bool) for _ in range(3))
    left[:, :20], wide[:, :40], valid[:, :30] = True, True, True
    everything = np.ones((60, 60), bool)
    assert _measured(blank, blank, valid=everything, he_tissue=left, ihc_tissue=wide).tissue_dice == pytest.approx(
        2 / 3
    )
    assert _measured(blank, blank, valid=valid, he_tissue=left, ihc_tissue=wide).tissue_dice == pytest.approx(4 / 5)


def test_nothing_is_claimed_without_overlap_or_content(pair) -> None:
    he, ihc = pair
    left, none = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    left[:, :300] = True
    apart = _measured(he, ihc, he_tissue=left, ihc_tissue=~left)
    assert apart.to_json() == {
        "mutual_information": None,
        "haematoxylin_ncc": None,
        "nuclei_density_ncc": None,
        "tissue_dice": 0.0,
    }
    assert _measured(he, ihc, he_tissue=none, ihc_tissue=none).tissue_dice is None
    blank = np.full_like(he, 240)
    flat = _measured(blank, blank)
    assert flat.haematoxylin_ncc is None
    assert flat.nuclei_density_ncc is None
    assert flat.mutual_information == 0


def test_nuclei_are_not_judged_where_they_cannot_be_seen(pair) -> None:
    assert _measured(*pair, mpp=2.0).nuclei_density_ncc is None


def test_pictures_of_different_size_are_refused(pair) -> None:
    he, ihc = pair
    with pytest.raises(ValueError, match="one size"):
        _measured(he, ihc[:-1])
    with pytest.raises(ValueError, match="one size"):
        _scored(he, ihc[:-1])
    with pytest.raises(ValueError, match="above 0"):
        _scored(he, ihc, mpp=0.0)


def test_folds_are_counted() -> None:
    found = folding(np.array([[1.0, 2.0, 0.5], [-0.5, 0.0, np.nan]]))
    assert found.share == pytest.approx(0.5)
    assert (found.least, found.most) == (-0.5, 2.0)
    assert folding(np.ones((1, 1))).share == 0
    assert folding(np.zeros((0, 3))).share == 0
    assert folding(np.full((2, 2), np.inf)).share == 1


def test_masked_correlation_is_that_of_the_overlap() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 1, 30, 40)).astype(np.float32)
    first_mask, second_mask = (rng.random((2, 30, 40)) > 0.3).astype(np.float32)
    ncc, overlap = shifted_ncc(first, second, first_mask, second_mask, 5)
    for dx, dy in ((0, 0), (3, -2), (-5, 5)):
        a = np.s_[max(dy, 0) : 30 + min(dy, 0), max(dx, 0) : 40 + min(dx, 0)]
        b = np.s_[max(-dy, 0) : 30 + min(-dy, 0), max(-dx, 0) : 40 + min(-dx, 0)]
        both = (first_mask[a] > 0) & (second_mask[b] > 0)
        assert overlap[5 + dy, 5 + dx] == both.sum()
        expected = np.corrcoef(first[0][a][both], second[0][b][both])[0, 1]
        assert ncc[0, 5 + dy, 5 + dx] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (5, -4), (20, 10), (-45, 30)])
def test_the_shift_is_found(pair, dx: int, dy: int) -> None:
    result = _scored(*_displaced(pair, dx, dy))
    assert (result.dx_um, result.dy_um) == pytest.approx((dx, dy), abs=1.5)
    assert result.shift_um == pytest.approx(np.hypot(dx, dy), abs=2)
    assert (result.score > 0.95) == (np.hypot(dx, dy) < 12.5)
    assert (result.score < 0.05) == (np.hypot(dx, dy) > 12.5)


def test_displaced_patches_are_told_from_aligned_ones(pair) -> None:
    rng = np.random.default_rng(2)
    he, ihc = pair
    score, truth = [], []
    for number in range(60):
        length = rng.uniform(0, 10) if number % 2 else rng.uniform(15, 60)
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = round(length * np.cos(angle)), round(length * np.sin(angle))
        x, y = rng.integers(100, SIDE - 260, 2)
        result = _scored(he[y - dy : y - dy + 160, x - dx : x - dx + 160], ihc[y : y + 160, x : x + 160])
        score.append(result.score)
        truth.append(number % 2)
    assert roc_auc_score(truth, score) > 0.95


def test_resolutions_agree(pair) -> None:
    he, ihc = _displaced(pair, 20, 0)
    fine = _scored(np.repeat(np.repeat(he, 2, 0), 2, 1), np.repeat(np.repeat(ihc, 2, 0), 2, 1), mpp=MPP / 2)
    assert fine.dx_um == pytest.approx(_scored(he, ihc).dx_um, abs=0.5)


def test_filled_places_do_not_count(pair) -> None:
    he, ihc = _displaced(pair, 0, 0)
    filled, valid = he.copy(), np.ones(he.shape[:2], bool)
    valid[:, :200] = False
    filled[:, :200] = np.roll(he, 30, axis=0)[:, :200]
    masked, exact = _scored(filled, ihc, valid=valid), _scored(he, ihc)
    assert masked.shift_um == pytest.approx(0, abs=1.5)
    assert masked.score > 0.95
    assert masked.peak == pytest.approx(exact.peak, abs=0.15)
    nothing = _scored(he, ihc, valid=np.zeros(he.shape[:2], bool))
    assert (nothing.shift_um, nothing.score) == (None, 0.5)


def test_where_nothing_can_be_told_the_score_says_so(pair) -> None:
    blank = np.full((300, 300, 3), 240, np.uint8)
    assert _scored(blank, blank).score == 0.5
    assert _scored(blank, blank).shift_um is None
    assert _scored(pair[0][:20, :20], pair[1][:20, :20]).shift_um is None  # 10 working px
    rng = np.random.default_rng(0)
    first, second = rng.integers(150, 250, (2, 300, 300, 3)).astype(np.uint8)
    noise = _scored(first, second)
    assert noise.peak < 0.2
    assert 0.05 < noise.score < 0.9


def test_a_displaced_real_pair_is_found_where_it_was_put(shared) -> None:
    """BCI's um/px is not published; 0.8 is near (see benchmarks/synthetic_realism.py)."""
    folder, name = shared / "data/bci-pairs", "test/00820_test_2+.png"
    he, ihc = read_image(folder / "HE" / name), read_image(folder / "IHC" / name)
    as_given = _scored(he, ihc, mpp=0.8)
    assert as_given.shift_um is not None
    assert as_given.shift_um < 10
    moved = _scored(he[:, :-50], ihc[:, 50:], mpp=0.8)
    assert moved.dx_um - as_given.dx_um == pytest.approx(40, abs=3)
    assert moved.score < 0.5 < as_given.score
