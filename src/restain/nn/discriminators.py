"""Discriminators of the pix2pix lineage; keys of the published state dicts."""

from __future__ import annotations

from torch import Tensor, nn

from restain.nn.norms import Norm


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola 2017, 6.1.2): 4x4 convolutions, one logit per patch; 3 layers see 70 x 70 px.

    Args:
        in_channels: 6 where H&E and IHC come concatenated, 3 for an unconditional one.
        width: channels of the first convolution ("ndf"), doubled up to 8 times.
        layers: stride-2 convolutions.
        norm: of all convolutions but the first and the last.
    """

    def __init__(self, in_channels: int = 6, width: int = 64, layers: int = 3, norm: Norm = Norm.batch) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for i in range(1, layers + 1):
            wider = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            stages += [
                nn.Conv2d(channels, wider, 4, stride, 1, bias=norm.conv_bias),
                norm.layer(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = wider
        self.model = nn.Sequential(*stages, nn.Conv2d(channels, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] to logits [N, 1, h, w]."""
        out: Tensor = self.model(x)
        return out


class PixelDiscriminator(nn.Module):
    """1x1 PixelGAN (Isola 2017, 6.1.2): judges each pixel's colour alone.

    Args:
        in_channels: as for PatchDiscriminator.
        width: channels of the first convolution ("ndf").
        norm: of the second convolution.
    """

    def __init__(self, in_channels: int = 6, width: int = 64, norm: Norm = Norm.batch) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 1, bias=norm.conv_bias),
            norm.layer(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 1, bias=norm.conv_bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] to logits [N, 1, H, W]."""
        out: Tensor = self.net(x)
        return out
