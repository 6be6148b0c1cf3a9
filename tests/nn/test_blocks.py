from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import nn

from restain.nn.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from restain.nn.filters import BINOMIAL_3, BINOMIAL_5, blur
from restain.nn.generators import ResnetGenerator
from restain.nn.local_enhancer import LocalEnhancer
from restain.nn.norms import Norm
from restain.nn.patch_sampler import PatchSampler, random_places
from restain.nn.spectral import normalise_spectra, reference_spectral


@pytest.mark.parametrize(("taps", "stride"), [(BINOMIAL_3, 2), (BINOMIAL_5, 1)])
def test_blur_is_scipys_separable_correlation(taps: tuple[float, ...], stride: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, 3, 21, 30))
    want = image
    for axis in (2, 3):
        want = correlate1d(want, taps, axis=axis, mode="mirror")
    ours = blur(torch.from_numpy(image), taps, stride).numpy()
    np.testing.assert_allclose(ours, want[..., ::stride, ::stride], atol=1e-12)


def _reach(network: nn.Module, side: int, multiple: int) -> int:
    """How far the gradient of an output pixel reaches, for the worst phase."""
    reach = 0
    for at in range(side // 2, side // 2 + multiple):
        x = torch.rand(1, 3, side, side, dtype=torch.double, requires_grad=True)
        network(x)[0, :, at, at].sum().backward()
        assert x.grad is not None
        touched = (x.grad[0].abs().sum(0) > 0).nonzero()
        reach = max(reach, int((touched - at).abs().max()))
    return reach


def test_margin_of_an_antialiased_generator_holds_its_receptive_field() -> None:
    network = ResnetGenerator(width=4, blocks=1, antialias_down=True, antialias_up=True).eval().double()
    assert network.margin is not None
    assert network.margin - 4 <= _reach(network, 128, 4) <= network.margin


def test_margin_of_a_local_enhancer_holds_its_receptive_field() -> None:
    network = LocalEnhancer(2, 1, 1, 1, 1, Norm.batch).eval().double()
    assert network.margin is not None
    assert network.margin - 8 <= _reach(network, 192, network.multiple) <= network.margin


def test_instance_norm_has_no_margin() -> None:
    assert ResnetGenerator(width=4, blocks=1, norm=Norm.instance).margin is None
    assert LocalEnhancer(2, 1, 1, 1, 1, Norm.instance).margin is None


def test_encode_stops_at_its_last_layer_and_counts_channels() -> None:
    network = ResnetGenerator(width=4, blocks=2, downsamplings=3, norm=Norm.instance)
    layers = (0, 6, 9, 12)
    features = network.encode(torch.rand(1, 3, 32, 32), layers)
    assert [feature.shape[1] for feature in features] == network.channels(layers) == [3, 8, 16, 32]
    assert [feature.shape[2] for feature in features] == [38, 16, 8, 4]


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 3))
    normalise_spectra(network)
    network.eval()
    for layer, dim in ((network[0], 0), (network[1], 1)):
        matrix = layer.weight.movedim(dim, 0).flatten(1)
        assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.02)
    keys = {reference_spectral(key) for key in network.state_dict()}
    assert keys == {f"{i}.{leaf}" for i in (0, 1) for leaf in ("bias", "weight_orig", "weight_u", "weight_v")}


@pytest.mark.parametrize("antialias", [False, True])
def test_smallest_side_is_one_that_a_discriminator_can_judge(antialias: bool) -> None:
    for layers in (1, 3, 5):
        network = PatchDiscriminator(3, 4, layers, Norm.instance, antialias=antialias)
        assert network(torch.rand(1, 3, network.smallest, network.smallest)).shape[2] >= 2
    scales = MultiScaleDiscriminator(3, lambda: PatchDiscriminator(6, 4, 3, Norm.instance))
    assert len(scales(torch.rand(1, 6, scales.smallest, scales.smallest))) == 3


def test_coarser_scales_see_the_average_of_the_image() -> None:
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(2, lambda: PatchDiscriminator(3, 4, 1, Norm.instance)).eval()
    x = torch.rand(1, 3, 32, 32)
    fine, coarse = network(x)
    torch.testing.assert_close(fine, network.scales[0](x))
    half = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(coarse, network.scales[1](half))
    assert [feature[-1].shape for feature in network.features(x)] == [fine.shape, coarse.shape]


def test_patches_are_taken_at_their_places_and_normalised() -> None:
    features = [torch.rand(2, 5, 4, 6)]
    places = [torch.tensor([0, 7, 23])]
    (sample,) = PatchSampler([5], mlp=False)(features, places)
    want = torch.stack([features[0][n, :, p // 6, p % 6] for n in range(2) for p in (0, 7, 23)])
    torch.testing.assert_close(sample, want / want.norm(dim=1, keepdim=True))
    drawn = random_places([torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2, 2)], 10)
    assert [len(set(place.tolist())) for place in drawn] == [10, 4]
