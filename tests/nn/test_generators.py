from __future__ import annotations

import pytest
import torch

from restain.nn.generators import ResnetGenerator, UnetGenerator
from restain.nn.norms import Norm, image_statistics


@pytest.mark.parametrize(("blocks", "downsamplings"), [(2, 2), (1, 3)])
def test_margin_is_the_receptive_field(blocks: int, downsamplings: int) -> None:
    """The gradient of an output pixel reaches as far as ``margin`` says, for the worst phase, and not farther."""
    network = ResnetGenerator(width=4, blocks=blocks, downsamplings=downsamplings).eval().double()
    reach = 0
    for at in range(120, 120 + network.multiple):
        x = torch.rand(1, 3, 256, 256, dtype=torch.double, requires_grad=True)
        network(x)[0, :, at, at].sum().backward()
        assert x.grad is not None
        touched = (x.grad[0].abs().sum(0) > 0).nonzero()
        reach = max(reach, int((touched - at).abs().max()))
    assert reach == network.margin


def test_unet_256_has_the_published_number_of_weights() -> None:
    """54.4 million, as printed by the released code for unet_256 with 64 filters."""
    count = sum(p.numel() for p in UnetGenerator().parameters())
    assert round(count / 1e6, 1) == 54.4


def test_image_statistics_normalise_by_the_image_and_keep_the_running_ones() -> None:
    network = ResnetGenerator(width=4, blocks=1, norm=Norm.batch).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad(), image_statistics(network):
        inside = network(x)
    with torch.no_grad():
        assert not torch.allclose(inside, network(x), atol=1e-3)
        reference = network.train()(x)
    torch.testing.assert_close(inside, reference)
    network.load_state_dict(before)
    with torch.no_grad(), image_statistics(network.eval()):
        network(x)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
