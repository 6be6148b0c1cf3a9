"""U-GAT-IT's networks: attention by class activation in generator and discriminator (Kim 2020, section 2.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from restain.core.errors import RestainError
from restain.nn.generators import ResnetBlock
from restain.nn.layer_instance import LIN, AdaLIN
from restain.nn.norms import Norm
from restain.nn.spectral import reference_spectral


class ClassAttention(nn.Module):
    """An auxiliary classifier whose weights say which features matter (CAM; Kim 2020, 2.1.1, after Zhou 2016).

    Features pooled by mean and by maximum are classified; times the classifiers' weights, the features of both are
    brought back to as many channels.

    Args:
        channels: of the features.
        spectral: spectral norm of both classifiers. As released their logits use the normalised weights, the features
            are multiplied by the raw ones.
    """

    def __init__(self, channels: int, spectral: bool) -> None:
        super().__init__()
        self.gap_fc: nn.Module = nn.Linear(channels, 1, bias=False)
        self.gmp_fc: nn.Module = nn.Linear(channels, 1, bias=False)
        if spectral:
            spectral_norm(self.gap_fc)
            spectral_norm(self.gmp_fc)
        self.conv1x1 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, C, H, W] to attended features of the same shape, and logits [N, 2] (mean, maximum)."""
        logits = torch.cat([self.gap_fc(x.mean((2, 3))), self.gmp_fc(x.amax((2, 3)))], 1)
        raw = [next(layer.parameters()).view(1, -1, 1, 1) for layer in (self.gap_fc, self.gmp_fc)]
        attended: Tensor = self.conv1x1(torch.cat([x * weight for weight in raw], 1))
        return attended, logits


class AdaptiveBlock(nn.Module):
    """Two reflection-padded 3x3 convolutions with AdaLIN beside an identity.

    Args:
        channels: of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False, padding_mode="reflect")
        self.norm1 = AdaLIN(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False, padding_mode="reflect")
        self.norm2 = AdaLIN(channels)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        """Features [N, C, H, W] to the same shape."""
        inner = self.norm1(self.conv1(x), gamma, beta).relu()
        out: Tensor = x + self.norm2(self.conv2(inner), gamma, beta)
        return out


class AttentionGenerator(nn.Module):
    """Encoder, attention, residual blocks whose AdaLIN is driven by what the attention found, decoder.

    Args:
        width: channels after the first convolution ("ngf" or "ch").
        blocks: residual blocks of the encoder, and as many adaptive ones.
        image_size: None drives AdaLIN by the features' means ("light"), so that any size fits; else by all of them,
            which ties the network to images of this many px a side.
    """

    forward_methods = ("judge", "attend")

    def __init__(self, width: int = 64, blocks: int = 4, image_size: int | None = None) -> None:
        super().__init__()
        c = 4 * width
        self.DownBlock = nn.Sequential(
            *(nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=False), *_normal(width)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, 2 * width, 3, 2, bias=False), *_normal(2 * width)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(2 * width, c, 3, 2, bias=False), *_normal(c)),
            *(ResnetBlock(c, Norm.instance, bias=False) for _ in range(blocks)),
        )
        self.cam = ClassAttention(c, spectral=False)
        features = c if image_size is None else c * (image_size // 4) ** 2
        self.FC = nn.Sequential(
            *(nn.Linear(features, c, bias=False), nn.ReLU(inplace=True)),
            *(nn.Linear(c, c, bias=False), nn.ReLU(inplace=True)),
        )
        self.gamma, self.beta = nn.Linear(c, c, bias=False), nn.Linear(c, c, bias=False)
        self.blocks = nn.ModuleList(AdaptiveBlock(c) for _ in range(blocks))
        self.UpBlock2 = nn.Sequential(
            *(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(c, 2 * width, 3, bias=False)),
            *(LIN(2 * width), nn.ReLU(inplace=True)),
            *(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(2 * width, width, 3, bias=False)),
            *(LIN(width), nn.ReLU(inplace=True)),
            *(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7, bias=False), nn.Tanh()),
        )
        self.image_size = image_size
        self.multiple, self.least = (4, 8) if image_size is None else (image_size, image_size)
        self.margin: int | None = None  # the norms bring the whole tile into every pixel

    def forward(self, x: Tensor) -> Tensor:
        """Image [N, 3, H, W] in [-1, 1] to an image of the same size in (-1, 1)."""
        return self.judge(x)[0]

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image, and the logits [N, 2] of the classifier: does ``x`` come from the side that is translated?"""
        features, logits = self.attend(x)
        return self.decode(features), logits

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The attended features [N, 4 width, H / 4, W / 4] (their sum over channels is the heat map), and the logits.

        Raises:
            RestainError: a size that the network is not tied to.
        """
        if self.image_size is not None and x.shape[2:] != (self.image_size, self.image_size):
            raise RestainError(
                f"ugatit: without light the network takes images of {self.image_size} px a side, not "
                f"{x.shape[3]} x {x.shape[2]}. Train at --batches.augmentation.crop {self.image_size}; to stain other "
                "sizes train with light."
            )
        features, logits = self.cam(self.DownBlock(x))
        return features.relu(), logits

    def decode(self, features: Tensor) -> Tensor:
        """The image [N, 3, H, W] from attended features."""
        found = self.FC(features.mean((2, 3)) if self.image_size is None else features.flatten(1))
        gamma, beta = self.gamma(found), self.beta(found)
        for block in self.blocks:
            features = block(features, gamma, beta)
        out: Tensor = self.UpBlock2(features)
        return out

    @staticmethod
    def reference_key(key: str) -> str:
        """A state-dict key of ours as the released code has it."""
        name, _, rest = key.partition(".")
        if name != "blocks":
            return rest if name == "cam" else key
        number, _, rest = rest.partition(".")
        return f"UpBlock1_{int(number) + 1}.{rest}"


class Judgement(NamedTuple):
    """What a discriminator says of images.

    Attributes:
        logits: [N, styles, h, w], at each place; of several scales a list of them.
        cam: [N, 2], of the auxiliary classifier; None where there is none.
        level: [N, levels]; None where it tells no levels.
    """

    logits: Tensor | list[Tensor]
    cam: Tensor | None
    level: Tensor | None


class AttentionDiscriminator(nn.Module):
    """A PatchGAN with reflected borders, spectral norm and class attention (Kim 2020, 2.1.2).

    Args:
        width: channels of the first convolution, doubled at each layer ("ndf" or "ch").
        layers: stride-2 convolutions; the released code counts two more (5 here are its 7, the global one).
        styles: logits at each place; 1 for real or fake.
        levels: classes that a linear layer tells by the means of the attended features; 0 for none.
    """

    def __init__(self, width: int = 64, layers: int = 5, styles: int = 1, levels: int = 0) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = 3
        for number in range(layers + 1):
            wider = width * 2**number
            convolution = nn.Conv2d(channels, wider, 4, 1 if number == layers else 2)
            stages += [nn.ReflectionPad2d(1), spectral_norm(convolution), nn.LeakyReLU(0.2, inplace=True)]
            channels = wider
        self.model = nn.Sequential(*stages)
        self.cam = ClassAttention(channels, spectral=True)
        self.conv = spectral_norm(nn.Conv2d(channels, styles, 4, bias=False))
        self.level = nn.Linear(channels, levels) if levels else None
        self.smallest = 3 * 2**layers  # 2 px must be left for the last reflection

    def forward(self, x: Tensor) -> Judgement:
        """Judge images [N, 3, H, W] in [-1, 1], sides of at least ``smallest``."""
        features, cam = self.attend(x)
        level = None if self.level is None else self.level(features.mean((2, 3)))
        return Judgement(self.conv(F.pad(features, (1, 1, 1, 1), mode="reflect")), cam, level)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The attended features [N, C, h, w] (their sum over channels is the heat map), and the logits [N, 2]."""
        features, cam = self.cam(self.model(x))
        return F.leaky_relu(features, 0.2), cam

    @staticmethod
    def reference_key(key: str) -> str:
        """A state-dict key of ours as the released code has it: spectral norm of the older kind."""
        return reference_spectral(key.removeprefix("cam."))


def _normal(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)
