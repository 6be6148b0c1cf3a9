"""Image-classification backbones under the names of the usual weight files, so that these load as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from restain.core.errors import ItemError
from restain.nn.weights import read_state_dict

VGG19_FILE = "vgg19-dcbb9e9d.pth"
"""The ImageNet weights that torchvision's users have in their cache."""
_VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)


class VggFeatures(nn.Module):
    """The convolutions of a VGG (Simonyan 2015) as far as its last activation that is asked for.

    Args:
        plan: channels of each 3x3 convolution; 0 is a 2x2 max pooling.
        taps: numbers of the modules (convolution, ReLU, pooling, counted from 0) whose output is wanted, ascending.
    """

    def __init__(self, plan: Sequence[int], taps: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for count in plan:
            if count:
                layers += [nn.Conv2d(channels, count, 3, padding=1), nn.ReLU()]
                channels = count
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers[: taps[-1] + 1])
        self.taps = tuple(taps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [N, 3, H, W] to the features [N, c, h, w] at each tap."""
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x)
        return found


def vgg19_features(weights: Path, taps: Sequence[int] = (1, 6, 11, 20, 29)) -> VggFeatures:
    """VGG19 up to relu5_1 with weights from a file, frozen; its taps are relu1_1, relu2_1, ..., relu5_1.

    Raises:
        ItemError: the file cannot be read or is none of a VGG19.
    """
    network = VggFeatures(_VGG19, taps)
    found = read_state_dict(weights)
    try:
        network.load_state_dict({key: found[key] for key in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ItemError(f"{weights}: not the weights of a VGG19 ({VGG19_FILE} of torchvision is one).") from error
    return network.eval().requires_grad_(False)
