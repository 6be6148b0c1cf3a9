"""Discriminators of the pix2pix lineage; keys of the published state dicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from restain.nn.filters import BlurDownsample
from restain.nn.norms import Norm


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola 2017, 6.1.2): 4x4 convolutions, one logit per patch; 3 layers see 70 x 70 px.

    Args:
        in_channels: 6 where H&E and IHC come concatenated, 3 for an unconditional one.
        width: channels of the first convolution ("ndf"), doubled at each layer.
        layers: stride-2 convolutions.
        norm: of all convolutions but the first and the last; None for none.
        padding: of the convolutions; pix2pixHD has 2.
        widest: most channels; None for 8 times ``width``.
        bias: of the convolutions; None where the norm does not make it superfluous.
        antialias: plain convolutions and a binomial filter in place of stride-2 ones (CUT).
        norm_first: a norm after the first convolution too (BCIStainer).
        reflect: pad all convolutions but the last by reflection (BCIStainer).
        out_channels: logits a patch.
    """

    forward_methods = ("features",)

    def __init__(
        self,
        in_channels: int = 6,
        width: int = 64,
        layers: int = 3,
        norm: Norm | None = Norm.batch,
        padding: int = 1,
        widest: int | None = None,
        bias: bool | None = None,
        antialias: bool = False,
        norm_first: bool = False,
        reflect: bool = False,
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        layer: Callable[[int], nn.Module] = nn.Identity if norm is None else norm.layer
        bias, widest = norm is None or norm.conv_bias if bias is None else bias, widest or 8 * width
        stride = 1 if antialias else 2
        border: Literal["reflect", "zeros"] = "reflect" if reflect else "zeros"
        shrink: list[nn.Module] = [BlurDownsample()] if antialias else []
        stages: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, stride, padding, bias=bias or not norm_first, padding_mode=border),
            *([layer(width)] if norm_first else []),
            nn.LeakyReLU(0.2, inplace=True),
            *shrink,
        ]
        channels = width
        for i in range(1, layers + 1):
            wider, last = min(2 * channels, widest), i == layers
            stages += [
                nn.Conv2d(channels, wider, 4, 1 if last else stride, padding, bias=bias, padding_mode=border),
                layer(wider),
                nn.LeakyReLU(0.2, inplace=True),
                *([] if last else shrink),
            ]
            channels = wider
        self.model = nn.Sequential(*stages, nn.Conv2d(channels, out_channels, 4, 1, padding))
        self.channels = channels
        self.smallest = 4 * 2**layers

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1], sides of at least ``smallest``, to logits [N, out_channels, h, w]."""
        out: Tensor = self.model(x)
        return out

    def features(self, x: Tensor) -> list[Tensor]:
        """What leaves each stage (convolution, norm, activation), ``layers + 1`` of them, and the logits."""
        features = []
        for module in self.model:
            x = module(x)
            if isinstance(module, nn.LeakyReLU):
                features.append(x)
        return [*features, x]


class MultiScaleDiscriminator(nn.Module):
    """PatchGANs on an image, on its half, on its quarter, ... (Wang 2018, section 3.2).

    Args:
        scales: how many.
        build: makes one of them.
        aligned: halve by bilinear interpolation with aligned corners (BCIStainer), else by average pooling.
    """

    forward_methods = ("features",)

    def __init__(self, scales: int, build: Callable[[], PatchDiscriminator], aligned: bool = False) -> None:
        super().__init__()
        self.halve = _halved if aligned else _pooled
        self.scales = nn.ModuleList(build() for _ in range(scales))
        first = self.scales[0]
        assert isinstance(first, PatchDiscriminator)
        self.smallest = first.smallest * 2 ** (scales - 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images [N, C, H, W] in [-1, 1] to the logits [N, 1, h, w] of each scale, full resolution first."""
        return [scale(image) for scale, image in zip(self.scales, self._pyramid(x), strict=True)]

    def features(self, x: Tensor) -> list[list[Tensor]]:
        """``PatchDiscriminator.features`` of each scale, full resolution first."""
        pairs = zip(self.scales, self._pyramid(x), strict=True)
        return [scale.features(image) for scale, image in pairs]  # type: ignore[operator]

    def _pyramid(self, x: Tensor) -> list[Tensor]:
        images = [x]
        for _ in self.scales[1:]:
            images.append(self.halve(images[-1]))
        return images

    def reference_key(self, key: str, staged: bool) -> str:
        """A key of ours as the released codes of pix2pixHD and TDKstain have it: they count scales from the coarsest.

        Args:
            key: ``scales.<scale>.model.<number>.<leaf>``.
            staged: they keep a sequence a stage (pix2pixHD with feature matching), not one a scale.
        """
        _, scale, _, number, leaf = key.split(".")
        theirs, place = len(self.scales) - 1 - int(scale), int(number)
        if not staged:
            return f"layer{theirs}.{place}.{leaf}"
        stage, inside = (0, place) if place < 2 else (1 + (place - 2) // 3, (place - 2) % 3)
        return f"scale{theirs}_layer{stage}.{inside}.{leaf}"


def _pooled(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


def _halved(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    return F.interpolate(x, (height // 2, width // 2), mode="bilinear", align_corners=True)


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
