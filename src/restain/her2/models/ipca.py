"""IPCA: PAMA's tiles and anchors, with prompts that learn from the patient's IHC in training and stay at inference.

Paper: Wang et al., "Leveraging IHC staining to prompt HER2 status prediction from HE-stained histopathology whole slide
images", 2024.
Authors' code: no licence (Yvpingwang/IPCA). None of it is here.
Differs: the released evaluation drops the prompt term of Eq. 7 at inference; here, as in the paper, the learned prompts
stay. Bags are neither padded nor cut. Eq. 6 reads each block's own learned prompts; those of Eq. 4, which have seen the
IHC, feed Eq. 5 alone (as coded), so the answer for an H&E slide never depends on an IHC slide. Biases are added as in
``pama``. With few anchors kernel masking may leave a single one, whose attention is 1 wherever it lies. Order of tiles
is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from restain.her2.anchors import positions_of
from restain.her2.bag import Bag
from restain.her2.base import SlideOutput, register_model
from restain.her2.models import pama
from restain.her2.models.pama import MLP, PAMA, Block, PositionAttention, attend, project, start_values, token


@dataclass(frozen=True)
class Config(pama.Config):
    """Settings of IPCA; those of PAMA's encoder are PAMA's (Wang 2024, 2.2).

    Attributes:
        prompts: n_k of each block, 256 (Wang 2024, 3.2).
        mask_ratio: r, share of the anchors that is dropped in training (kernel masking), 0.75 (Wang 2024, 3.2).
    """

    prompts: int = 256
    mask_ratio: float = 0.75


class PromptedAttention(PositionAttention):
    """Attention of an IPCA block: W of H&E tiles and anchors; W of IHC tiles and prompts; W of updated prompts.

    Args:
        width: of the tokens.
        heads: that share it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.qkv_i = nn.Linear(width, 3 * width)
        self.qkv_i2 = nn.Linear(width, 3 * width)
        self.proj_i = nn.Linear(width, width)
        self.proj_i2 = nn.Linear(width, width)


class PromptedBlock(Block):
    """PAMA's block, whose tiles also ask the block's prompts (Eq. 6, 7); and the IHC branch (Eq. 4, 5).

    Args:
        width: of the tokens.
        heads: of the attention.
        times: hidden units of the MLPs over width.
        prompts: learned tokens n_k.
    """

    def __init__(self, width: int, heads: int, times: float, prompts: int) -> None:
        super().__init__(width, heads, times)
        self.attn: PromptedAttention
        self.kernel_token_i = token(1, prompts, width)
        self.norm1_i, self.norm2_i = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp_i = MLP(width, times)

    def attention_of(self, width: int, heads: int) -> PositionAttention:
        """The block's attention."""
        return PromptedAttention(width, heads)

    def forget_ihc(self) -> None:
        """Drop what reads an IHC slide; the prompts stay."""
        del self.attn.qkv_i2, self.attn.proj_i, self.attn.proj_i2, self.norm2_i, self.mlp_i

    def prompted(self, q: Tensor) -> Tensor:
        """Eq. 6: H&E tiles <- prompts, through the projection that Eq. 3 uses."""
        prompts = project(self.norm1_i(self.kernel_token_i[0]), self.attn.qkv_i, self.attn.heads)
        out: Tensor = self.attn.proj(attend(q, prompts.k, prompts.v))
        return out

    def read_ihc(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """IHC tiles [m, width] to the same shape after Eq. 4 and 5, and the prompts of Eq. 4 [n_k, width]."""
        heads = self.attn.heads
        own = self.norm1_i(x)
        tiles = project(own, self.attn.qkv_i, heads)
        prompts = project(self.norm1_i(self.kernel_token_i[0]), self.attn.qkv_i, heads)
        updated = self.attn.proj_i(attend(prompts.q, tiles.k, tiles.v))
        seen = project(updated, self.attn.qkv_i2, heads)
        moved = own + self.attn.proj_i2(attend(tiles.q, seen.k, seen.v))
        return moved + self.mlp_i(self.norm2_i(moved)), updated


@register_model("ipca", paper="Wang et al., 2024", code_licence="none", needs=("ihc",))
class IPCA(PAMA):
    """Two branches, each with its class token, embedding, norm and head; the prompts of each block join them."""

    proxy = True

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        self.config: Config
        self.cls_token_i = token(1, 1, config.width)
        self.patch_embed_i = nn.Linear(in_dim, config.width)
        self.norm_i = nn.LayerNorm(config.width)
        self.head_i = nn.Linear(config.width, classes)
        start_values(self)

    def block(self) -> Block:
        """One block with its own prompts."""
        config: Config = self.config
        return PromptedBlock(config.width, config.heads, config.mlp_times, config.prompts)

    def ihc_logits(self, features: Tensor) -> Tensor:
        """The proxy task: IHC tiles [m, d] to logits [C] (training only)."""
        x = torch.cat([self.cls_token_i[0], self.patch_embed_i(features)])
        for block in cast("list[PromptedBlock]", self.blocks):
            x, _ = block.read_ihc(x)
        logits: Tensor = self.head_i(self.norm_i(x[0]))
        return logits

    def classify(self, bag: Bag) -> SlideOutput:
        """Logits of the H&E's class token; in training also the cross entropy of the IHC's, with equal weight (2.5)."""
        positions = positions_of(bag, self.config.tiles_per_anchor, self.config.max_anchors)
        if self.training:
            positions = positions.select(anchors=self.kept(len(positions)).to(bag.features.device))
        slide, _, attention = self.encode(bag.features, positions, share=not self.training)
        extra = None
        if self.proxy and self.training and bag.ihc is not None and bag.label is not None:
            extra = self.cross_entropy(self.ihc_logits(bag.ihc), bag.label)
        return SlideOutput(self.head(slide), attention, extra)

    def kept(self, anchors: int) -> Tensor:
        """Kernel masking (2.5): the anchors that stay, chosen by chance, at least one; int64, ascending."""
        stay = max(1, round(anchors * (1 - self.config.mask_ratio)))
        return torch.randperm(anchors)[:stay].sort().values


@register_model("ipca_without_proxy", paper="Wang et al., 2024 (Table 2, w/o proxy)", code_licence="none")
class WithoutProxy(IPCA):
    """IPCA that never sees an IHC: the prompts are kept and learn from the H&E alone (Wang 2024, 3.4).

    It is built as IPCA is, so that both start from the same weights with the same seed.
    """

    proxy = False

    def __init__(self, config: Config, in_dim: int, classes: int) -> None:
        super().__init__(config, in_dim, classes)
        for block in cast("list[PromptedBlock]", self.blocks):
            block.forget_ihc()
        del self.cls_token_i, self.patch_embed_i, self.norm_i, self.head_i
